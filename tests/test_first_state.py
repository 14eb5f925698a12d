"""Anyone's model given x_1: p(z_1 | x_1) follows from the laws, so that densities, programs and filters have it."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from pgm_rnn.distributions.singular_normal import SingularNormal
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import smc
from pgm_rnn.models import HMM, LinearGaussianSSM
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.states import GaussianStates
from tests.instances import make_hmm
from tests.switching import Driven, SwitchingAR

LENGTHS = torch.tensor([4, 1, 3])


class Regression(SequenceModel):
    """Coefficients that walk; the last observation is the memory, and the regressors stand beside it."""

    input_dim = 2

    def __init__(self, first: Any = "model", noise: float = 0.5) -> None:
        super().__init__(Gaussian(1), first)
        self.states, self.noise = GaussianStates(2, linear=True), noise
        self.register_buffer("initial_memory", torch.tensor([0.3]))

    def recurrence(self, h: Any, z: Any, x: Tensor) -> Tensor:
        return x

    def initial(self, h: Any) -> Any:
        return dist.Normal(h[..., 1:].tanh(), 2.0).to_event(1)

    def transition(self, z: Any, h: Any) -> Any:
        return dist.Normal(z, 0.3).to_event(1)

    def emission(self, z: Any, h: Any) -> Any:
        mean = h[..., :1] + (z * h[..., 1:]).sum(-1, keepdim=True)
        return dist.Normal(mean, self.noise).to_event(1) if self.noise else dist.Delta(mean, event_dim=1)


MODELS = {"switching": SwitchingAR, "driven": Driven, "regression": Regression}


def problem(kind: str) -> tuple[Any, Tensor, dict[str, Any]]:
    model: Any = MODELS[kind](first="condition") if kind != "driven" else Driven(first="condition")
    inputs: dict[str, Any] = {} if model.input_dim is None else {"inputs": torch.randn(3, 4, model.input_dim)}
    return model, torch.randn(3, 4, 1), inputs


def joint(model: Any, x: Tensor, z: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """log p(x, z) - log p(x_1), by the densities of the full joint and of x_1 alone."""
    given = {name: value[:, :1] for name, value in inputs.items()}
    one = model.log_marginal_likelihood(x[:, :1], first="model", **given)
    return model.log_prob(x, z, LENGTHS, first="model", **inputs) - one


@pytest.mark.parametrize("kind", MODELS)
def test_the_joint_density_given_x_1_is_that_of_both_less_that_of_x_1(kind: str) -> None:
    model, x, inputs = problem(kind)
    z = torch.randint(3, (3, 4)) if kind != "regression" else torch.randn(3, 4, 2)
    expected = joint(model, x, z, inputs)
    torch.testing.assert_close(model.log_prob(x, z, LENGTHS, **inputs), expected)
    assert not torch.allclose(expected, model.log_prob(x, z, LENGTHS, first="model", **inputs))


@pytest.mark.parametrize("rendering", ["fused", "unrolled"])
@pytest.mark.parametrize("kind", ["switching", "driven"])
def test_the_program_given_x_1_sums_to_the_exact_likelihood(kind: str, rendering: str) -> None:
    model, x, inputs = problem(kind)

    def guide(*_: Any, **__: Any) -> None:
        """Nothing: the states are enumerated."""

    def program() -> None:
        model.model(x, LENGTHS, rendering=rendering, **inputs)

    with pyro.validation_enabled(False):
        loss = TraceEnum_ELBO(max_plate_nesting=1).loss(program, guide)
    assert loss == pytest.approx(-float(model.log_marginal_likelihood(x, LENGTHS, **inputs).detach().sum()))


def test_the_unrolled_program_of_gaussian_states_has_the_joint_density() -> None:
    model, x, inputs = problem("regression")
    z = torch.randn(3, 4, 2)
    values = {f"z_{t + 1}": z[:, t] for t in range(4)}
    trace = poutine.trace(poutine.condition(model.model, values)).get_trace(x, rendering="unrolled", **inputs)
    found = model.log_prob(x, z, **inputs)
    torch.testing.assert_close(trace.log_prob_sum(), found.sum())


@pytest.mark.parametrize("kind", MODELS)
def test_a_particle_filter_given_x_1_estimates_the_exact_likelihood(kind: str) -> None:
    model, x, inputs = problem(kind)
    repeats, limit = 100, 4.5  # limit in standard errors
    again: dict[str, Any] = {name: value.repeat(repeats, 1, 1) for name, value in inputs.items()}
    found = smc.filter(model, x.repeat(repeats, 1, 1), LENGTHS.repeat(repeats), num_particles=50, seed=0, **again)
    exact = model.log_marginal_likelihood(x, LENGTHS, **inputs).detach()
    ratios = (found.log_marginal_likelihood.view(repeats, 3) - exact).exp().double()
    error = ratios.std(0) / repeats**0.5 + 1e-9
    assert bool(((ratios.mean(0) - 1).abs() < limit * error).all())
    wrong = (
        found.log_marginal_likelihood.view(repeats, 3)
        - model.log_marginal_likelihood(x, LENGTHS, first="model", **inputs)
    ).exp()
    assert bool(((wrong.mean(0) - 1).abs() > limit * wrong.std(0) / repeats**0.5).any())


def test_the_zoos_models_have_the_same_law_of_the_first_state() -> None:
    hmm, x = make_hmm(Gaussian(2)), torch.randn(5, 2)
    assert isinstance(hmm, HMM)
    expected = (hmm.initial_logits.log_softmax(-1) + hmm.emission_log_probs(x)).softmax(-1)
    torch.testing.assert_close(hmm.initial_given(None, x).probs, expected)
    chain = LinearGaussianSSM.random(latent_dim=2, obs_dim=3, input_dim=2, seed=0)
    u, y = torch.randn(4, 2), torch.randn(4, 3)
    law: Any = chain.initial_given(u, y)
    C, P, m = chain.emission_matrix, chain.initial_cov, chain.initial_mean
    precision = P.inverse() + C.mT @ chain.emission_cov.inverse() @ C
    torch.testing.assert_close(law.covariance_matrix[0], precision.inverse())
    shift = y - u @ chain.feedthrough_matrix.mT if chain.feedthrough_matrix is not None else y
    mean = (P.inverse() @ m + shift @ chain.emission_cov.inverse() @ C) @ precision.inverse()
    torch.testing.assert_close(law.mean, mean)


def test_a_first_observation_without_noise_leaves_a_singular_law() -> None:
    law = Regression(noise=0.0).initial_given(torch.tensor([[0.3, 1.0, 0.0]]), torch.tensor([[0.8]]))
    assert isinstance(law, SingularNormal)
    torch.testing.assert_close(law.sample()[0, 0], torch.tensor(0.5))
    torch.testing.assert_close(law.root @ law.root.mT, torch.tensor([[[0.0, 0.0], [0.0, 4.0]]]))


def test_an_impossible_first_observation_is_named() -> None:
    with pytest.raises(ValueError, match="first observations of positive probability"):
        SwitchingAR().initial_given(torch.zeros(1, 1), torch.full((1, 1), 1e200))
