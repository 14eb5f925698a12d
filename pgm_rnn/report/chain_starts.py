"""Where gradient fits of chains begin: near the data, as EM, L-BFGS or clusters of regressions leave them.

A chain whose states all begin alike climbs to the likelihood of independent observations and stays there. EM from
k-means starts tells the states apart in a few iterations; what EM cannot fit, the gradient then does.
"""

import copy
from functools import singledispatch
from typing import Any

import torch

from pgm_rnn.emissions import FullGaussian, Gaussian
from pgm_rnn.inference import em
from pgm_rnn.inference.em.ascent import ascend
from pgm_rnn.models import (
    HMM,
    HSMM,
    AutoregressiveHMM,
    FactorialHMM,
    InputHMM,
    RecurrentHMM,
    StructuralSSM,
    SwitchingLinearSSM,
)
from pgm_rnn.models.lagged import regressed
from pgm_rnn.models.switching_start import switching_start
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences, over_events

ITERATIONS, RESTARTS = 30, 4
"""Iterations of EM, and its starts."""
NUM_TRIED = 5
"""Iterations of each start of a factorial HMM before the best one goes on alone."""
ROUNDS, LEAST = 12, 1e-7
"""Rounds of L-BFGS, each of a few iterations, and the gain in nats per step below which they end."""
BY_EM = "from EM on the data"


@singledispatch
def move_near(model: SequenceModel, data: Sequences, seed: int) -> str:
    """Set a new model's parameters near its training data; how, in words, or "" if the model has no such start.

    Args:
        model: the model, in the dtype of the data; it is changed.
        data: the training data.
        seed: random seed of the starts.
    """
    return ""


@move_near.register
def _(model: StructuralSSM, data: Sequences, seed: int) -> str:
    model.start_from(data)
    parameters, steps = list(model.parameters()), data.num_steps

    def value() -> torch.Tensor:
        return model.log_marginal_likelihood(data).sum()

    for _ in range(ROUNDS):
        if ascend(parameters, value, steps) < LEAST * steps:
            break
    return "from L-BFGS on the data"


@move_near.register
def _(model: HSMM, data: Sequences, seed: int) -> str:
    em.fit(model, data, num_iterations=ITERATIONS, num_restarts=RESTARTS, start="data", seed=seed, progress=False)
    return BY_EM


@move_near.register
def _(model: AutoregressiveHMM, data: Sequences, seed: int) -> str:
    shape: dict[str, Any] = {"full": isinstance(model.family, FullGaussian), "first": model.first}
    near = AutoregressiveHMM.from_data(data, model.num_states, model.order, seed=seed, **shape)
    model.load_state_dict(near.state_dict())
    em.fit(model, data, num_iterations=ITERATIONS, progress=False)
    return BY_EM


@move_near.register
def _(model: SwitchingLinearSSM, data: Sequences, seed: int) -> str:
    x = data.x if data.observed is None else data.x.where(over_events(data.observed, data.x), torch.nan)
    sizes = {"num_regimes": model.num_regimes, "latent_dim": model.latent_dim}
    near = switching_start(x, data.lengths, seed=seed, **sizes)
    model.load_state_dict(near.state_dict(), strict=False)  # weights of regimes that read y stay
    return "from clusters of regressions"


@move_near.register
def _(model: FactorialHMM, data: Sequences, seed: int) -> str:
    starts = [copy.deepcopy(model) for _ in range(RESTARTS)]
    drawn = [start.start_near(data, seed + number) for number, start in enumerate(starts)]
    starts = starts if all(drawn) else starts[:1]
    fits = [em.fit(start, data, num_iterations=NUM_TRIED, progress=False) for start in starts]
    best = max(fits, key=lambda fit: float(fit.log_likelihood))
    model.load_state_dict(starts[fits.index(best)].state_dict())
    em.fit(model, data, num_iterations=ITERATIONS - NUM_TRIED, progress=False)
    return BY_EM


@move_near.register
@torch.no_grad()
def _(model: InputHMM, data: Sequences, seed: int) -> str:
    common, rest = _regression(model, data)
    chain = HMM.random(model.num_states, emission=model.family, seed=seed).to(model.initial_logits.dtype)
    options: dict[str, Any] = {"num_restarts": RESTARTS, "seed": seed, "pseudo_count": 0.1, "progress": False}
    em.fit(chain, rest, start="data", num_iterations=ITERATIONS, **options)
    model.initial_logits.copy_(chain.initial_probs.log())
    model.transition_logits.copy_(chain.transition_probs.log())
    model.emission_laws.set_params(chain.emission_table.params)
    for weight in (model.initial_weight, model.transition_weight, model.emission_weight):
        weight.zero_()
    if common is not None:
        model.emission_weight.copy_(common.expand_as(model.emission_weight))
    em.fit(model, data, num_iterations=ITERATIONS, progress=False)
    return BY_EM


def _regression(model: InputHMM, data: Sequences) -> tuple[torch.Tensor | None, Sequences]:
    """What all of the data owe to inputs that move normal observations, (entries, U), and what they leave.

    None, and the observations themselves, for other families and where some are missing.
    """
    assert data.inputs is not None  # the caller has checked
    alone = data._replace(inputs=None)
    of_states = model.drives == "transition" or not isinstance(model.family, Gaussian | FullGaussian)
    if of_states or data.observed is not None:
        return None, alone
    inputs, x = data.inputs[data.mask].double(), data.x[data.mask].double()
    found = regressed(inputs, x.reshape(len(x), -1), torch.ones_like(x.reshape(len(x), -1)[:, 0]))
    assert found is not None  # there are steps, each of weight one
    driven = data.inputs.double() @ found.coefficients.mT  # (B, T, entries)
    return found.coefficients, alone._replace(x=data.x - driven.reshape(data.x.shape).to(data.x.dtype))


@move_near.register
@torch.no_grad()
def _(model: RecurrentHMM, data: Sequences, seed: int) -> str:
    chain = HMM.random(model.num_states, emission=model.family, seed=seed).to(model.initial_logits.dtype)
    options: dict[str, Any] = {"num_iterations": ITERATIONS, "num_restarts": RESTARTS, "seed": seed, "progress": False}
    em.fit(chain, data, start="data", pseudo_count=0.1, pseudo_observations=2.0, **options)
    model.initial_logits.copy_(chain.initial_probs.log())
    model.transition_logits.copy_(chain.transition_probs.log())
    model.emission_laws.set_params(chain.emission_table.params)
    for name, weight in model.named_parameters():
        if name in ("transition_weight", "emission_weight"):
            weight.mul_(0.1)  # the network's part is small at first
    return BY_EM
