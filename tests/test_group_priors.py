"""Parameters by group: the joint density against its definition, draws, errors, and what a reader does with them."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from torch import Tensor

from pgm_rnn.emissions import Gaussian
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.by_group import ByGroup, Groups
from pgm_rnn.sequence_model.draws import Draws
from pgm_rnn.sequence_model.priors import WithPriors
from tests.cases import every
from tests.instances import LENGTHS, make_model, ragged, some_family

LABELS = ["b", "a", "b"]
LAST = torch.tensor([1, 0, 1])
"""The number of each sequence's group, by hand."""


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def some_program(name: str, **options: Any) -> tuple[SequenceModel, WithPriors, str, Tensor]:
    """A model, its last finite parameter by group around a normal population, and observations."""
    family = some_family(name)
    model = make_model(name, family, **options)
    parameter, value = [(n, p.detach()) for n, p in model.named_parameters() if p.isfinite().all()][-1]
    law = ByGroup(dist.Normal, loc=dist.Normal(value, 0.5), scale=dist.HalfNormal(torch.ones_like(value)))
    return model, WithPriors(model, {parameter: law}, groups=LABELS), parameter, ragged(family)


def log_probs(program: Any, values: dict[str, Tensor], x: Tensor, **options: Any) -> Any:
    trace: Any = poutine.trace(poutine.condition(program, values)).get_trace(x, **options)
    trace.compute_log_prob()
    return trace


@every("exact model")
def test_the_joint_density_is_that_of_each_group_alone_times_the_population(name: str) -> None:
    model, program, parameter, x = some_program(name)
    values = program.draw()
    trace = log_probs(program, values, x, lengths=LENGTHS)
    loc, scale, own = (values[n].double() for n in (f"{parameter}_loc", f"{parameter}_scale", parameter))
    by_hand = torch.stack([_alone(model, parameter, own[LAST[n]], x[n : n + 1], LENGTHS[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(trace.nodes["x"]["log_prob"], by_hand[:, 0])
    kept = dict(model.named_parameters())[parameter].detach()
    population = -0.5 * ((own - loc) / scale) ** 2 - scale.log() - 0.918938533204672742
    hyper = -0.5 * ((loc - kept) / 0.5) ** 2 + 0.693147180559945309 - 0.918938533204672742
    hyper = hyper - 0.5 * scale**2 - 0.225791352644727432  # log sqrt(2 / pi)
    torch.testing.assert_close(trace.log_prob_sum(), by_hand.sum() + population.sum() + hyper.sum())
    swapped = torch.stack(
        [_alone(model, parameter, own[1 - LAST[n]], x[n : n + 1], LENGTHS[n : n + 1]) for n in range(3)]
    )
    assert float((swapped - by_hand).abs().max()) > 1e-6  # the wrong group has another density


@torch.no_grad()
def _alone(model: SequenceModel, parameter: str, value: Tensor, x: Tensor, lengths: Tensor) -> Tensor:
    """log p(x) of the model with this value of the parameter, by no code of groups."""
    raw = dict(model.named_parameters())[parameter]
    kept = raw.detach().clone()
    raw.copy_(value)
    found = model.log_prob(x, lengths=lengths)
    raw.copy_(kept)
    return found
