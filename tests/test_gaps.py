"""Missing observations: every engine integrates them out, or refuses in one sentence.

The table has a row for each engine, model and family of the registries, and masks by step and by entry:

    exact      log p of what was observed, equal to the sum over all paths or to the big joint normal law
    bound      a bound or an estimate; it reads nothing of what stands in a gap, to the bit
    refused    a memory that reads x, or a law that cannot integrate out single entries
"""

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

from pgm_rnn.emissions import Emission, Gaussian
from pgm_rnn.inference import em, forward_backward, kalman, mixture_kalman, pmmh, smc, svi
from pgm_rnn.inference.registry import one_prior
from pgm_rnn.models import HMM, LinearGaussianSSM
from pgm_rnn.registries import OWN
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from tests.cases import Cases
from tests.instances import draw, every_law, make_hmm, make_model
from tests.missing import (
    LENGTHS,
    MASKS,
    Mask,
    chain_log_prob,
    gaussian_log_prob,
    observed,
    reshaped,
    with_gaps,
    within_grids,
)

REGISTRIES = OWN

Value = Callable[[SequenceModel, Sequences], Tensor]


def by_em(model: SequenceModel, data: Sequences) -> Tensor:
    twin = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", em.EmWarning)  # a state without data, where there are few
        return em.fit(twin, data, num_iterations=1, start="model", progress=False).log_likelihoods[:1]


def by_program(model: SequenceModel, data: Sequences) -> Tensor:
    """The density that NUTS sees."""
    trace: Any = poutine.trace(model.model).get_trace(data)
    trace.compute_log_prob()
    return trace.nodes["x"]["log_prob"].detach()


def by_pmmh(model: SequenceModel, data: Sequences) -> Tensor:
    options: dict[str, Any] = {"num_samples": 2, "num_warmup": 1, "num_particles": 20, "progress": False}
    return pmmh.run(one_prior(model), data.x, data.lengths, mask=data.observed, **options).log_likelihoods


VALUES: dict[str, Value] = {
    "em": by_em,
    "forward_backward": lambda model, data: forward_backward.filter(model, data).log_marginal_likelihood,
    "kalman": lambda model, data: kalman.filter(model, data).log_marginal_likelihood,
    "mcmc": by_program,
    "mixture_kalman": lambda model, data: (
        mixture_kalman.filter(model, data, num_particles=20, seed=0).log_marginal_likelihood
    ),
    "pmmh": by_pmmh,
    "smc": lambda model, data: smc.filter(model, data, num_particles=20, seed=0).log_marginal_likelihood,
    "svi": lambda model, data: svi.evaluate(model, data, num_particles=3).log_likelihoods,
}
"""What each engine says of log p of the observed entries, per sequence or in total."""
ESTIMATES = {"mixture_kalman", "pmmh", "smc"}
"""Engines that estimate even where the model is exact."""


ESTIMATED = Cases(REGISTRIES).estimated


def definition(model: SequenceModel, data: Sequences) -> Tensor | None:
    """log p of what was observed, (batch,), for a model whose states can be summed out by brute force."""
    if model.initial_memory is not None and model.memory_reads_observations:
        return None
    if OWN.engines["forward_backward"].takes(model):
        return chain_log_prob(model, data)
    return gaussian_log_prob(model, data) if OWN.engines["kalman"].takes(model) else None


@every_law
@pytest.mark.parametrize("mask", MASKS)
def test_the_table_of_gaps(name: str, family: Emission, mask: Mask) -> None:
    """Every engine that takes the model; for scalars both masks say the same."""
    model = within_grids(make_model(name, family))
    kind, wanted = expected_kind(model, family, mask), definition(model, with_gaps(family, mask))
    for engine, entry in REGISTRIES.engines.items():
        if not entry.takes(model) or (engine == "em" and family not in ESTIMATED.values()):
            continue  # the contract and the tests of EM have these errors
        if kind == "taken":
            check_value(engine, model, family, mask, wanted)
        else:
            with pytest.raises(ValueError, match=kind):
                entry.example(model, with_gaps(family, mask))


def check_value(engine: str, model: SequenceModel, family: Emission, mask: Mask, wanted: Tensor | None) -> None:
    """An engine's value is right where it is exact, and in any case does not depend on what stands in a gap."""
    data, other = (with_gaps(family, mask, garbage=garbage) for garbage in (0, 1))
    if engine not in VALUES:
        REGISTRIES.engines[engine].example(model, data)
        return
    value = VALUES[engine]
    found = value(model, data)
    assert found.isfinite().all()
    assert torch.equal(found, value(model, other))
    with pytest.raises(AssertionError):  # the gaps count: with their garbage as observations the value is another one
        torch.testing.assert_close(value(model, Sequences(data.x, data.lengths)), found)
    if wanted is not None and engine not in ESTIMATES:
        torch.testing.assert_close(
            found.sum() if len(found) == 1 else found, wanted.sum() if len(found) == 1 else wanted
        )


def expected_kind(model: SequenceModel, family: Emission, mask: Mask) -> str:
    """The error that is expected, or "taken"."""
    if model.initial_memory is not None and model.memory_reads_observations:
        return r"the memory of \w+ reads every observation, got missing ones; fill them in, or use a model"
    if family.needs_head and mask == "entry":
        return "cannot integrate out single entries"
    return "taken"


@pytest.mark.parametrize("engine", REGISTRIES.engines)
@pytest.mark.parametrize("name", ["hmm", "lgssm", "dmm", "noisy-rnn"])
def test_every_engine_runs_to_its_end_with_gaps(engine: str, name: str) -> None:
    model, entry = make_model(name, Gaussian(2)), REGISTRIES.engines[engine]
    if entry.takes(model):
        entry.example(model, with_gaps(Gaussian(2), "entry"))
        assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["hmm", "lgssm"])
@pytest.mark.parametrize("mask", MASKS)
def test_nan_without_a_mask_is_missing(name: str, mask: Mask) -> None:
    model, data = make_model(name, Gaussian(2)), with_gaps(Gaussian(2), mask)
    x = data.x.where(reshaped(data.mask, data.x), torch.nan)
    wanted = definition(model, data)
    assert wanted is not None
    torch.testing.assert_close(model.log_prob(x, lengths=LENGTHS).detach(), wanted)
    torch.testing.assert_close(svi.evaluate(model, x, LENGTHS).log_likelihoods, wanted)


def test_nan_is_an_error_where_the_mask_says_it_was_observed_and_for_a_memory() -> None:
    x, mask = draw(Gaussian(2), 3, 5), observed(Gaussian(2), "step")
    x[2, 2, 1] = torch.nan
    for given in (mask, torch.ones_like(mask)):
        with pytest.raises(
            ValueError, match=r"expected numbers where the mask is True, got nan in sequence 2 at step 3"
        ):
            make_hmm(Gaussian(2)).log_prob(x, lengths=LENGTHS, mask=given)
    with pytest.raises(ValueError, match=r"expected numbers where the mask is True, got nan in sequence 2 at step 3"):
        Sequences(x, LENGTHS, mask=torch.ones_like(mask))
    with pytest.raises(
        ValueError, match=r"expected finite real numbers, got nan in sequence 2 at step 3.*; the memory of RNN "
    ):
        make_model("rnn-gru", Gaussian(2)).log_prob(x, lengths=LENGTHS)


def test_a_first_observation_that_the_states_are_conditioned_on_must_be_there() -> None:
    model, data = make_hmm(Gaussian(2), first="condition"), with_gaps(Gaussian(2), "entry")
    z = torch.zeros(3, 5, dtype=torch.long)
    for verb in (
        lambda: model.log_prob(data, z),
        lambda: smc.filter(model, data, num_particles=5),
        lambda: model.model(data, rendering="unrolled"),
    ):
        with pytest.raises(
            ValueError, match=r"expected an observed x_1 with first='condition'.* missing one in sequence 0; use first="
        ):
            verb()
    head = Sequences(data.x[:, :1], torch.ones(3, dtype=torch.long), mask=data.mask[:, :1])
    wanted = chain_log_prob(model, data) - chain_log_prob(model, head)
    torch.testing.assert_close(model.log_prob(data).detach(), wanted)  # exactly summed out, it need not be


class OwnChain(SequenceModel):
    """The laws of an HMM, without its tables; with an input u_t that is added to the mean."""

    def __init__(self, hmm: HMM, *, inputs: bool) -> None:
        super().__init__(hmm.family)
        self.hmm, self.states = hmm, hmm.states
        self.input_dim = 2 if inputs else None

    def initial(self, h: Any) -> Any:
        return self.hmm.initial(None)

    def transition(self, z: Any, h: Any) -> Any:
        return self.hmm.transition(z, None)

    def emission(self, z: Any, h: Any) -> Any:
        law = self.hmm.emission_table(z).base_dist
        return dist.Normal(law.loc if h is None else law.loc + h, law.scale).to_event(1)


@pytest.mark.parametrize("mask", MASKS)
def test_a_chain_of_ones_own_sums_its_gaps_out_with_inputs_too(mask: Mask) -> None:
    """With inputs u added to the means, log p(x | u) = log p(x - u | 0)."""
    hmm, data = make_hmm(Gaussian(2)), with_gaps(Gaussian(2), mask)
    wanted = chain_log_prob(hmm, data)
    torch.testing.assert_close(OwnChain(hmm, inputs=False).log_prob(data).detach(), wanted)
    u = torch.randn(3, 5, 2)
    moved = Sequences(data.x + u, data.lengths, inputs=u, mask=data.mask)
    model = OwnChain(hmm, inputs=True)
    torch.testing.assert_close(model.log_prob(moved).detach(), wanted)
    torch.testing.assert_close(forward_backward.filter(model, moved).log_marginal_likelihood, wanted)
    many = smc.filter(model, moved, num_particles=20_000, seed=0).log_marginal_likelihood
    torch.testing.assert_close(many, wanted, atol=0.1, rtol=0)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ["hmm", "lgssm"])
def test_a_joint_density_leaves_out_what_is_missing_and_no_state(name: str, mask: Mask) -> None:
    """sum_t log p(z_t | z_{t-1}) + sum over the observed entries of log p(x_t | z_t), step by step."""
    model, data = make_model(name, Gaussian(2)), with_gaps(Gaussian(2), mask)
    states = model.sample(3, 5, seed=0).z
    assert states is not None
    expected = []
    for x, z, length, there in zip(data.x, states, LENGTHS.tolist(), data.mask, strict=True):
        total = model.initial(None).log_prob(z[0])
        for t in range(length):
            law: Any = model.emission(z[t], None)
            seen = there[t].expand(2)
            total = total + (model.transition(z[t - 1], None).log_prob(z[t]) if t else 0.0)
            marginal = torch.distributions.MultivariateNormal(law.mean[seen], covariance(law)[seen][:, seen])
            total = total + (marginal.log_prob(x[t, seen]) if bool(seen.any()) else 0.0)
        expected.append(total)
    torch.testing.assert_close(model.log_prob(data, states), torch.stack(expected))


def covariance(law: Any) -> Tensor:
    return law.covariance_matrix if hasattr(law, "covariance_matrix") else law.variance.diag()


def test_smoothed_states_and_the_best_path_are_those_of_the_observed_entries() -> None:
    """Posteriors and Viterbi by enumeration of all paths, each with the density of what was observed."""
    model, data = make_hmm(Gaussian(2)), with_gaps(Gaussian(2), "entry")
    paths = torch.cartesian_prod(*[torch.arange(2)] * 5)
    for i, length in enumerate(LENGTHS.tolist()):
        one = data.select(torch.tensor([i]))
        of_paths = paths[:, :length].unique(dim=0)
        joint = model.log_prob(one.repeated(len(of_paths)), of_paths).detach()
        weights = joint.softmax(0)
        wanted = torch.stack([(weights[:, None] * (of_paths == k)).sum(0) for k in range(2)], -1)
        torch.testing.assert_close(forward_backward.smooth(model, data).smoothed_probs[i, :length], wanted.detach())
        best = forward_backward.most_likely_states(model, data)
        torch.testing.assert_close(best.log_prob[i], joint.max())
        assert torch.equal(best.states[i, :length], of_paths[joint.argmax()])


def test_a_forecast_goes_on_from_what_was_observed() -> None:
    """A chain that stays where it is and starts anywhere: what follows is known from the last observation alone."""
    hmm = HMM(torch.full((3,), 1 / 3), torch.eye(3), torch.eye(3))
    x, mask = torch.tensor([[2, 0, 0]]), torch.tensor([[True, False, False]])
    assert hmm.forecast(Sequences(x, torch.tensor([3]), mask=mask), 4, seed=0).x.tolist() == [[2, 2, 2, 2]]
    assert hmm.forecast(x, 4, mask=mask, seed=0).x.tolist() == [[2, 2, 2, 2]]
    assert smc.forecast(hmm, x, 4, mask=mask, num_particles=50, seed=0).x.tolist() == [[2, 2, 2, 2]]
    one = torch.eye(1, dtype=torch.float64)
    level = LinearGaussianSSM(torch.zeros(1).double(), 100 * one, one, 1e-12 * one, one, 1e-12 * one)
    data = Sequences(torch.tensor([[[7.0], [0.0]]]).double(), torch.tensor([2]), mask=torch.tensor([[True, False]]))
    assert float(level.forecast(data, 1, seed=0).x) == pytest.approx(7, abs=1e-4)
    whole = Sequences(data.x, data.lengths)
    assert not math.isclose(float(level.forecast(whole, 1, seed=0).x), 7, abs_tol=1.0)  # the zero counts
