"""Filters with compiled weights against the differentiable steps at the same seed, and against their definition."""

import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import StudentT
from pgm_rnn.inference import smc
from pgm_rnn.inference.smc.run import checked_for_smc, run
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.noisy_rnn import NoisyRNN
from pgm_rnn.models.stochastic_volatility import StochasticVolatility
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from tests import own_models
from tests.latent_toy import LatentToy

MODELS: dict[str, SequenceModel] = {
    "hmm": HMM.random(3, 4, seed=0).double(),
    "lgssm": LinearGaussianSSM.random(2, 3, seed=0).double(),
    "noisy-rnn": NoisyRNN.random(2, 2, feedback=True, seed=0).double(),
    "noisy-rnn, inputs": NoisyRNN.random(1, 1, input_dim=2, seed=0).double(),
    "memory that reads states": LatentToy().double(),
    "volatility": StochasticVolatility(leverage=-0.5).double(),
    "volatility, Student errors": StochasticVolatility(df=5.0, emission=StudentT(1)).double(),
    "a reader's": own_models.StochasticVolatility().double(),
}
WITH_GAPS = ["hmm", "lgssm", "a reader's"]
LENGTHS = torch.tensor([6, 1, 4])
every_model = pytest.mark.parametrize("name", MODELS)


def data_of(name: str, *, gaps: bool = False) -> tuple[SequenceModel, dict[str, Any]]:
    model = MODELS[name]
    torch.manual_seed(0)
    inputs = None if model.input_dim is None else torch.randn(3, 6, model.input_dim).double()
    x = model.sample(3, 6, seed=1, inputs=inputs).x
    mask = None
    if gaps:
        mask = torch.ones(3, 6, dtype=torch.bool)
        mask[:, [0, 3]] = False
        mask[1] = True
    return model, {"x": x, "lengths": LENGTHS, "inputs": inputs, "mask": mask}


def both(model: SequenceModel, data: dict[str, Any], keep: Any = "all", **options: Any) -> list[smc.Filtered]:
    """The filter without gradients, which is compiled, and the one with them, at one seed."""
    checked, given = checked_for_smc(model, **data), smc.Options(**{"num_particles": 40} | options)
    found = []
    for gradients in (False, True):
        with seeded(3), torch.set_grad_enabled(gradients):
            found.append(run(model, checked, given, {"z": lambda z, h: z.double()}, keep))
    return found


def assert_same(one: smc.Filtered, other: smc.Filtered) -> None:
    names = ("log_marginal_likelihood", "log_normalizers", "particles", "log_weights", "ess", "resampled", "memory")
    pairs = [(getattr(one, name), getattr(other, name)) for name in names] + [(one.means["z"], other.means["z"])]
    if one.history is not None and other.history is not None:
        pairs += list(zip(one.history, other.history, strict=True))
    for found, expected in pairs:
        if expected is None:
            assert found is None
            continue
        assert not found.requires_grad
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("ess_threshold", [0.0, 0.8, 1.0])
@every_model
def test_compiled_steps_are_the_differentiable_ones(name: str, ess_threshold: float) -> None:
    model, data = data_of(name)
    compiled, plain = both(model, data, ess_threshold=ess_threshold)
    assert_same(compiled, plain)
    assert plain.log_marginal_likelihood.requires_grad
    assert bool(compiled.resampled[:, 1:].any()) or ess_threshold < 1


@pytest.mark.parametrize("resampling", ["multinomial", "stratified", "residual"])
@pytest.mark.parametrize("name", ["noisy-rnn", "memory that reads states"])
def test_compiled_steps_are_the_differentiable_ones_in_every_scheme(name: str, resampling: str) -> None:
    assert_same(*both(*data_of(name), resampling=resampling, ess_threshold=0.7))


@pytest.mark.parametrize("name", WITH_GAPS)
def test_compiled_steps_integrate_out_what_is_missing(name: str) -> None:
    model, data = data_of(name, gaps=True)
    compiled, plain = both(model, data, ess_threshold=1.0)
    assert_same(compiled, plain)
    torch.testing.assert_close(compiled.log_normalizers[[0, 2]][:, [0, 3]], torch.zeros(2, 2).double())
    assert not torch.allclose(compiled.log_normalizers, both(*data_of(name))[0].log_normalizers)


def test_compiled_steps_weigh_by_a_proposal() -> None:
    model, data = data_of("lgssm")

    def wide(z: Tensor | None, h: Tensor | None, features: Tensor | None) -> Any:
        return dist.Normal(torch.zeros(2).double(), 2.0).to_event(1)

    assert_same(*both(model, data, proposal=wide))
    assert_same(*both(*data_of("volatility")))  # its own guide
    assert_same(*both(*data_of("volatility"), proposal="bootstrap"))


def test_steps_that_are_given_the_first_observation_begin_with_equal_weights() -> None:
    model = own_models.StochasticVolatility().double()
    model.first = "condition"
    model.initial_given = lambda h, x: dist.Normal(x / 2, 1.0)  # type: ignore[method-assign]
    data = {"x": torch.randn(3, 6).double(), "lengths": LENGTHS, "inputs": None, "mask": None}
    compiled, plain = both(model, data)
    assert_same(compiled, plain)
    torch.testing.assert_close(compiled.log_normalizers[:, 0], torch.zeros(3).double())


@torch.no_grad()
def test_the_estimate_is_that_of_a_loop_in_log_space() -> None:
    """A reader's model, one sequence, by its own laws, particle after particle."""
    model = own_models.StochasticVolatility().double()
    x, num = model.sample(1, 5, seed=1).x, 20
    found = smc.filter(model, x, num_particles=num, ess_threshold=1.0, keep="all", seed=0)
    assert found.history is not None
    total, z, ancestors = 0.0, found.history.z[:, :, 0], found.history.ancestors[:, :, 0]
    log_w = [-math.log(num)] * num
    for t in range(5):
        densities = [float(model.emission(z[t, n], None).log_prob(x[0, t])) for n in range(num)]
        joint = torch.tensor([a + b for a, b in zip(log_w, densities, strict=True)]).double()
        total += float(joint.logsumexp(0))
        kept = joint.log_softmax(0)
        torch.testing.assert_close(found.history.log_weights[t, :, 0], kept)
        if t < 4:
            copies = ancestors[t + 1].bincount(minlength=num)
            assert bool(((copies - num * kept.exp()).abs() < 1).all())  # systematic resampling
            assert not bool(((copies - num * kept.exp().roll(1)).abs() < 1).all())
        log_w = [-math.log(num)] * num
    assert total == pytest.approx(float(found.log_marginal_likelihood), abs=1e-9)


@pytest.mark.parametrize("keep", ["last", "all"])
def test_a_step_that_no_particle_explains_is_one_error_or_minus_infinity(keep: Any) -> None:
    class Bounded(own_models.StochasticVolatility):
        """|x_t| stays below 3."""

        def emission(self, z: Tensor, h: Any) -> Any:
            return dist.Uniform(-3 * torch.ones_like(z), 3 * torch.ones_like(z), validate_args=False)

    x = torch.zeros(2, 4)
    x[1, 2] = 5.0
    with pytest.raises(
        smc.DegenerateWeightsError,
        match="expected a particle of positive weight, got none in sequence 1 at step 3; use more particles",
    ):
        smc.filter(Bounded(), x, num_particles=10, keep=keep)
    lost = smc.filter(Bounded(), x, num_particles=10, keep=keep, degenerate="-inf", seed=0)
    assert lost.log_normalizers[1, 2] == -math.inf
    assert lost.log_marginal_likelihood.tolist() == [pytest.approx(-4 * math.log(6), rel=1e-5), -math.inf]
    assert lost.ess[1, 2] == 10


def test_results_of_a_seed_do_not_depend_on_the_number_of_threads() -> None:
    model, found = NoisyRNN.random(2, 2, seed=0), []
    x = model.sample(9, 5, seed=1).x
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(smc.filter(model, x, num_particles=600, seed=0))
    torch.set_num_threads(1)
    assert torch.equal(found[0].particles, found[1].particles)
    assert torch.equal(found[0].log_normalizers, found[1].log_normalizers)
    other = smc.filter(model, x, num_particles=600, seed=1)
    assert not torch.equal(other.log_normalizers, found[0].log_normalizers)


def test_laws_of_later_steps_keep_torchs_checks() -> None:
    class Counts(own_models.StochasticVolatility):
        def emission(self, z: Tensor, h: Any) -> Any:
            return dist.Exponential(z.exp())

    x = torch.ones(1, 4)
    x[0, 2] = -1.0
    with pytest.raises(ValueError, match=r"Expected value argument .* support"):
        smc.filter(Counts(), x, num_particles=10)
