"""Estimates and bounds with missing observations: SMC, ELBO, IWAE and FIVO against exact values."""

import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, Poisson
from pgm_rnn.inference import forward_backward, kalman, smc, svi
from pgm_rnn.models import LinearGaussianSSM
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from tests.instances import draw, make_hmm, make_model
from tests.missing import LENGTHS, MASKS, Mask, chain_log_prob, reshaped, with_gaps


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


def linear_pair() -> tuple[SequenceModel, LinearGaussianSSM]:
    """A network whose functions are the identity, and the linear system that it is."""
    noisy = make_model("noisy-rnn", Gaussian(2))
    noisy.activation = noisy.output = "identity"
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


@pytest.mark.parametrize("bound", ["elbo", "iwae", "fivo"])
def test_bounds_without_the_first_term_read_nothing_of_a_gap(bound: str) -> None:
    model, found = make_model("dmm", Gaussian(2)), []
    for garbage in (0, 1):
        data = with_gaps(Gaussian(2), "entry", garbage=garbage)
        found.append(svi.evaluate(model, data, bound=bound, num_particles=5, normalisation="skip-first").nats_per_step)
    assert found[0] == found[1]
    assert math.isfinite(found[0])


def test_particles_smooth_as_the_exact_smoother_does_with_gaps() -> None:
    """Means of states by backward simulation within 5 standard errors; those that ignore the mask are outside."""
    model, data = make_hmm(Gaussian(2)), with_gaps(Gaussian(2), "entry")
    exact = forward_backward.smooth(model, data).smoothed_probs[..., 1]
    inside = torch.arange(5) < LENGTHS[:, None]

    def largest(data: Sequences) -> float:
        paths = smc.smooth(model, data, num_particles=600, num_paths=600, seed=0).paths.double()
        error = (exact * (1 - exact) / 600).sqrt() + 1e-3
        return float((((paths.mean(0) - exact) / error).abs()[inside]).max())

    assert largest(data) < 5
    assert largest(Sequences(data.x.where(data.mask, 0), LENGTHS)) > 8


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
    with pytest.raises(ValueError, match=r"expected an observed x_1 with first='condition', which .* in sequence 1"):
        smc.init(make_hmm(family, first="condition"), x[:, 0], options, mask=there)


def test_a_step_of_a_memory_that_reads_x_refuses() -> None:
    model, x = make_model("vrnn", Gaussian(2)), draw(Gaussian(2), 3, 2)
    first = smc.init(model, x[:, 0], smc.Options(5, "bootstrap"))
    with pytest.raises(ValueError, match=r"the memory of VRNN reads every observation, got missing ones"):
        smc.step(model, first.particles, x[:, 1], smc.Options(5, "bootstrap"), mask=torch.zeros(3) > 0)
