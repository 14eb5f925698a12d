"""Missing observations: every engine integrates them out, or refuses in one sentence.

The table has a row for each engine, model and family of the registries, and masks by step and by entry:

    exact      log p of what was observed, equal to the sum over all paths or to the big joint normal law
    bound      a bound or an estimate; it reads nothing of what stands in a gap, to the bit
    refused    a memory that reads x, or a law that cannot integrate out single entries
"""

import copy
import math
from collections.abc import Callable
from typing import Any, Literal

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, Poisson
from pgm_rnn.inference import em, forward_backward, kalman, mcmc, pmmh, smc, svi
from pgm_rnn.inference.registry import one_prior
from pgm_rnn.models import HMM, LinearGaussianSSM
from pgm_rnn.registries import OWN
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from tests import instances
from tests.cases import Cases
from tests.instances import draw, every_law, make_hmm, make_model
from tests.missing import chain_log_prob, gaussian_log_prob

REGISTRIES = OWN
LENGTHS = torch.tensor([5, 3, 4])
Mask = Literal["step", "entry"]
MASKS: tuple[Mask, ...] = ("step", "entry")


def observed(family: Emission, mask: Mask) -> Tensor:
    """Step 2 of every sequence is missing, and the last two of the first; by entry, single entries are missing too."""
    there = torch.arange(5) < LENGTHS[:, None]
    there[:, 1] = there[0, 3:] = False
    if mask == "step":
        return there
    by_entry = there.reshape(3, 5, *(1 for _ in family.event_shape)).expand(3, 5, *family.event_shape).clone()
    if family.event_shape:
        by_entry[0, 0, 0] = by_entry[1, 2, -1] = by_entry[2, 2, 0] = False
    return by_entry


def with_gaps(family: Emission, mask: Mask, *, garbage: int = 0) -> Sequences:
    """Three sequences; what stands in their gaps is `garbage` of the family."""
    there = observed(family, mask)
    x, other = draw(family, 3, 5), draw(family, 3, 5, seed=1 + garbage)
    whole = there.reshape(*there.shape, *(1 for _ in range(x.dim() - there.dim())))
    return Sequences(x.where(whole, other), LENGTHS, mask=there)


Value = Callable[[SequenceModel, Sequences], Tensor]


def by_em(model: SequenceModel, data: Sequences) -> Tensor:
    twin = copy.deepcopy(model)
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
    "pmmh": by_pmmh,
    "smc": lambda model, data: smc.filter(model, data, num_particles=20, seed=0).log_marginal_likelihood,
    "svi": lambda model, data: svi.evaluate(model, data, num_particles=3).log_likelihoods,
}
"""What each engine says of log p of the observed entries, per sequence or in total."""
ESTIMATES = {"pmmh", "smc"}
"""Engines that estimate even where the model is exact."""


ESTIMATED = Cases(REGISTRIES).estimated


def definition(model: SequenceModel, data: Sequences) -> Tensor | None:
    """log p of what was observed, (batch,), for a model whose states can be summed out by brute force."""
    if model.initial_memory is not None:
        return None
    if OWN.engines["forward_backward"].takes(model):
        return chain_log_prob(model, data)
    return gaussian_log_prob(model, data) if OWN.engines["kalman"].takes(model) else None


@every_law
@pytest.mark.parametrize("mask", MASKS)
def test_the_table_of_gaps(name: str, family: Emission, mask: Mask) -> None:
    """Every engine that takes the model; for scalars both masks say the same."""
    model = make_model(name, family)
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
    if model.initial_memory is not None:
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


# Estimates and bounds against exact values.


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("family", [Categorical(3), Gaussian(2), Poisson(2), Bernoulli(2)], ids=str)
def test_the_filters_estimate_is_unbiased_with_gaps(family: Emission, mask: Mask) -> None:
    """E Z / p = 1 over 200 filters side by side, within 4 standard errors; and not 1 if the gaps' zeros count."""
    model, data = make_hmm(family), with_gaps(family, mask if family.event_shape else "step")
    exact, many = chain_log_prob(model, data), data.repeated(200)

    def z_score(data: Sequences) -> float:
        found = smc.filter(model, data, num_particles=100, seed=0).log_marginal_likelihood
        ratio = (found.reshape(200, 3) - exact).exp()
        return float(((ratio.mean(0) - 1) / (ratio.std(0) / 200**0.5)).abs().max())

    assert z_score(many) < 4
    assert z_score(Sequences(many.x.where(reshaped(many.mask, many.x), 0), many.lengths)) > 10


def reshaped(mask: Tensor, x: Tensor) -> Tensor:
    return mask.reshape(*mask.shape, *(1 for _ in range(x.dim() - mask.dim())))


def linear_pair() -> tuple[SequenceModel, LinearGaussianSSM]:
    """A network whose functions are the identity, and the linear system that it is."""
    noisy = make_model("noisy-rnn", Gaussian(2))
    noisy.activation = noisy.output = "identity"  # type: ignore[assignment]
    parts = ("initial_mean", "initial_cov", "transition_matrix", "transition_cov", "emission_matrix", "emission_cov")
    return noisy, LinearGaussianSSM(*(getattr(noisy, part).detach() for part in parts))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("bound", ["elbo", "iwae", "fivo"])
def test_bounds_with_gaps_stay_below_the_exact_value_and_tend_to_it(bound: str, mask: Mask) -> None:
    """Bounds on a linear system, whose exact value is the Kalman filter's; with zeros in gaps they tend elsewhere."""
    model, linear = linear_pair()
    data = with_gaps(Gaussian(2), mask)
    exact = float(kalman.filter(linear, data).log_marginal_likelihood.sum())
    few, many = (value(model, data, bound, num) for num in (2, 20_000))
    assert few < exact
    assert few < many + 1e-9 or bound == "elbo"
    ignored = value(model, Sequences(data.x.where(reshaped(data.mask, data.x), 0), LENGTHS), bound, 20_000)
    if bound == "elbo":
        assert many < exact - 0.1  # the bound of the prior as guide is not tight
    else:
        assert many == pytest.approx(exact, abs=0.15)
        assert abs(ignored - exact) > 1.5


def value(model: SequenceModel, data: Sequences, bound: str, num_particles: int) -> float:
    return float(svi.evaluate(model, data, bound=bound, num_particles=num_particles).log_likelihoods.sum())


class GuidedWalk(SequenceModel):
    """z_t ~ N(0.9 z_{t-1}, 1), x_t ~ N(c z_t, 0.5^2 I); the guide N(0.4 x_t + 0.3 z_{t-1}, 1.2^2) reads x_t's first."""

    def __init__(self) -> None:
        super().__init__(Gaussian(2))
        self.register_buffer("c", torch.tensor([1.0, -0.5]))

    def initial(self, h: Any) -> Any:
        return dist.Normal(self.c.new_zeros(()), 1.0)

    def transition(self, z: Tensor, h: Any) -> Any:
        return dist.Normal(0.9 * z, 1.0)

    def emission(self, z: Any, h: Any) -> Any:
        return dist.Normal(self.c * z[..., None], 0.5).to_event(1)

    def encode(self, x: Tensor, lengths: Tensor) -> Tensor:
        return 0.4 * x[..., :1]

    def proposal(self, z: Any, h: Any, features: Any) -> Any:
        return dist.Normal(features[..., 0] + (0.0 if z is None else 0.3 * z), 1.2)

    @property
    def linear(self) -> LinearGaussianSSM:
        """The same as a linear system."""
        one = torch.eye(1)
        return LinearGaussianSSM(torch.zeros(1), one, 0.9 * one, one, self.c[:, None], 0.25 * torch.eye(2))


@pytest.mark.parametrize("mask", MASKS)
def test_a_guide_that_reads_x_reads_zeros_in_the_gaps_and_its_bounds_stay_bounds(mask: Mask) -> None:
    """K draws of the guide bound the exact value and tend to it; where the zeros count as observed they do not."""
    model, data = GuidedWalk(), with_gaps(Gaussian(2), mask)
    exact = float(kalman.filter(model.linear, data).log_marginal_likelihood.sum())
    assert value(model, data, "elbo", 1000) < exact
    assert value(model, data, "iwae", 50_000) == pytest.approx(exact, abs=0.1)
    assert value(model, data, "fivo", 20_000) == pytest.approx(exact, abs=0.1)
    zeros = Sequences(data.x.where(reshaped(data.mask, data.x), 0), LENGTHS)
    assert abs(value(model, zeros, "iwae", 50_000) - exact) > 1
    assert model.encode(zeros.x, LENGTHS)[:, 1].abs().max() == 0
    other = with_gaps(Gaussian(2), mask, garbage=1)
    assert value(model, other, "elbo", 10) == value(model, data, "elbo", 10)


# Programs.


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ["dmm", "noisy-rnn"])
def test_both_renderings_have_the_density_of_what_was_observed(name: str, mask: Mask) -> None:
    model, data = make_model(name, Gaussian(2)), with_gaps(Gaussian(2), mask)
    z = model.sample(3, 5, seed=2).z
    assert z is not None
    fused: Any = poutine.trace(poutine.condition(model.model, data={"z": z})).get_trace(data)
    each = {f"z_{t + 1}": z[:, t] for t in range(5)}
    unrolled: Any = poutine.trace(poutine.condition(model.model, data=each)).get_trace(data, rendering="unrolled")
    wanted = model.log_prob(data, z).sum()
    for trace in (fused, unrolled):
        trace.compute_log_prob()
    torch.testing.assert_close(fused.log_prob_sum(), wanted)
    torch.testing.assert_close(unrolled.log_prob_sum(), wanted)
    assert unrolled.nodes["x_2"]["is_observed"]
    assert torch.equal(unrolled.nodes["x_2"]["log_prob"], torch.zeros(3))


@pytest.mark.parametrize("rendering", ["fused", "unrolled"])
def test_the_elbo_of_the_programs_with_enumeration_is_exact_with_gaps(rendering: str) -> None:
    model, data = make_hmm(Gaussian(2)), with_gaps(Gaussian(2), "entry")
    loss = instances.program_loss(model, data.x, data.lengths, mask=data.mask, rendering=rendering)
    torch.testing.assert_close(-loss.detach(), chain_log_prob(model, data).sum())


@pytest.mark.parametrize("name", ["hmm", "dmm"])
def test_draws_of_parameters_side_by_side_have_the_density_of_one_draw(name: str) -> None:
    model, data = make_model(name, Gaussian(2)), with_gaps(Gaussian(2), "entry")
    program, z = one_prior(model), model.sample(3, 5, seed=2).z
    [(parameter, law)] = program.priors.items()
    draws = law.sample((2,))
    states: dict[str, Any] = {} if model.exact else {"z": z}

    def density(value: Tensor) -> Tensor:
        given = poutine.condition(program, data={parameter: value, **states})
        trace: Any = poutine.trace(given).get_trace(data.x, data.lengths, mask=data.mask)
        trace.compute_log_prob()
        return trace.nodes["x"]["log_prob"].detach()

    together = density(draws[:, None])
    torch.testing.assert_close(together, torch.stack([density(value) for value in draws]))


def test_nuts_takes_a_mask_or_nan_alike() -> None:
    """The density that it sees is in the table of gaps."""
    model, data = make_hmm(Gaussian(2)), with_gaps(Gaussian(2), "entry")
    program = one_prior(model)
    found = mcmc.run(program, data.x, data.lengths, mask=data.mask, num_samples=5, num_warmup=5, progress=False)
    same = mcmc.run(
        program, data.x.where(data.mask, torch.nan), data.lengths, num_samples=5, num_warmup=5, progress=False
    )
    [(name, draws)] = found.samples.items()
    assert torch.equal(draws, same.samples[name])
    whole = mcmc.run(program, data.x, data.lengths, num_samples=5, num_warmup=5, progress=False)
    assert not torch.equal(draws, whole.samples[name])


# Where the data come in.


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
    with pytest.raises(ValueError, match=r"expected finite real numbers, got nan in sequence 2 at step 3"):
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
            ValueError, match=r"expected x_1 with first='condition'.* missing one in sequence 0; use first="
        ):
            verb()
    head = Sequences(data.x[:, :1], torch.ones(3, dtype=torch.long), mask=data.mask[:, :1])
    wanted = chain_log_prob(model, data) - chain_log_prob(model, head)
    torch.testing.assert_close(model.log_prob(data).detach(), wanted)  # exactly summed out, it need not be


def test_observed_steps_count_in_nats_per_step() -> None:
    model, data = make_hmm(Gaussian(2)), with_gaps(Gaussian(2), "entry")
    found = svi.evaluate(model, data)
    assert found.num_steps == int(data.mask.any(-1).sum()) == 7
    assert found.nats_per_step == pytest.approx(-float(found.log_likelihoods.sum()) / 7)
    skipped = svi.evaluate(model, data, normalisation="skip-first")
    assert skipped.num_steps == 4
    nothing = Sequences(data.x, LENGTHS, mask=torch.zeros(3, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"expected at least one observation to score, got none that is not missing"):
        svi.evaluate(model, nothing)


@pytest.mark.parametrize("objective", ["mle", "elbo", "iwae", "fivo"])
def test_a_fit_with_gaps_learns_from_what_was_observed_alone(objective: str, tmp_path: Any) -> None:
    name = "hmm" if objective == "mle" else "dmm"
    fits = []
    for garbage in (0, 1):
        model, data = make_model(name, Gaussian(2)), with_gaps(Gaussian(2), "entry", garbage=garbage)
        options: dict[str, Any] = {"num_epochs": 2, "batch_size": 2, "progress": False, "objective": objective}
        fits.append(svi.fit(model, data, valid=data, checkpoint=tmp_path / str(garbage), **options))
    assert [entry[:3] for entry in fits[0].history] == [entry[:3] for entry in fits[1].history]
    for one, other in zip(fits[0].model.parameters(), fits[1].model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_fit_goes_on_from_its_checkpoint_only_with_the_same_gaps(tmp_path: Any) -> None:
    data, options = with_gaps(Gaussian(2), "entry"), {"num_epochs": 1, "progress": False, "checkpoint": tmp_path}
    svi.fit(make_hmm(Gaussian(2)), data, **options)
    svi.fit(make_hmm(Gaussian(2)), data, **options, resume=True)
    with pytest.raises(svi.CheckpointError, match="training data"):
        svi.fit(make_hmm(Gaussian(2)), Sequences(data.x, data.lengths), **options, resume=True)


# Joint densities, states and forecasts.


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


def test_particles_smooth_as_the_exact_smoother_does_with_gaps() -> None:
    """Means of states by backward simulation within 5 standard errors; those that ignore the mask are outside."""
    model, data = make_hmm(Gaussian(2)), with_gaps(Gaussian(2), "entry")
    exact = forward_backward.smooth(model, data).smoothed_probs[..., 1]
    inside = torch.arange(5) < LENGTHS[:, None]

    def largest(data: Sequences) -> float:
        paths = smc.smooth(model, data, num_particles=1000, num_paths=1000, seed=0).paths.double()
        error = (exact * (1 - exact) / 1000).sqrt() + 1e-3
        return float((((paths.mean(0) - exact) / error).abs()[inside]).max())

    assert largest(data) < 5
    assert largest(Sequences(data.x.where(data.mask, 0), LENGTHS)) > 8


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


def test_a_lookahead_does_not_look_at_what_is_missing() -> None:
    seen: list[Tensor] = []

    def lookahead(z: Tensor, h: Tensor | None, x: Tensor) -> Tensor:
        seen.append(x)
        return -0.1 * (x - z[..., None]).square().sum(-1).double()

    model, data = make_hmm(Gaussian(2)), with_gaps(Gaussian(2), "step")
    found = [
        smc.filter(
            model, with_gaps(Gaussian(2), "step", garbage=garbage), num_particles=50, lookahead=lookahead, seed=0
        )
        for garbage in (0, 1)
    ]
    assert torch.equal(found[0].log_weights, found[1].log_weights)
    assert torch.equal(seen[0], torch.zeros(3, 2))  # step 2 is missing everywhere
    many = smc.filter(model, data, num_particles=20_000, lookahead=lookahead, seed=0).log_marginal_likelihood
    torch.testing.assert_close(many, chain_log_prob(model, data), atol=0.05, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("family", [Gaussian(2), Categorical(3)], ids=str)
def test_a_single_step_of_a_filter_takes_a_mask(family: Emission) -> None:
    model, x = make_hmm(family), draw(family, 3, 2)
    options, there = smc.Options(50, ess_threshold=0), torch.tensor([True, False, False])
    first = smc.init(model, x[:, 0], options, mask=there)
    assert torch.equal(first.log_normalizer[1:].abs() < 1e-12, torch.tensor([True, True]))
    assert abs(float(first.log_normalizer[0])) > 0.1
    after = smc.step(model, first.particles, x[:, 1], options, mask=~there)
    torch.testing.assert_close(after.particles.log_weights[:, 0], first.particles.log_weights[:, 0])
    assert not torch.allclose(after.particles.log_weights[:, 1], first.particles.log_weights[:, 1])
    with pytest.raises(ValueError, match=r"expected x_1 with first='condition', got a missing one"):
        smc.init(make_hmm(family, first="condition"), x[:, 0], options, mask=there)


def test_a_step_of_a_memory_that_reads_x_refuses() -> None:
    model, x = make_model("vrnn", Gaussian(2)), draw(Gaussian(2), 3, 2)
    first = smc.init(model, x[:, 0], smc.Options(5, "bootstrap"))
    with pytest.raises(ValueError, match=r"the memory of VRNN reads every observation, got missing ones"):
        smc.step(model, first.particles, x[:, 1], smc.Options(5, "bootstrap"), mask=torch.zeros(3) > 0)
