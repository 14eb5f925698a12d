"""Anyone's model with linear Gaussian states: exact under every engine, though only four laws are written."""

from collections.abc import Callable, Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from pgm_rnn.distributions.correlated_normal import CorrelatedNormal, Factor
from pgm_rnn.distributions.singular_normal import SingularNormal
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import em, kalman, smc, svi
from pgm_rnn.models import LinearGaussianSSM
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.chains import chain_of
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.states import GaussianStates
from tests.definitions import JointNormal, joint_normal

DIM, OBS_DIM, MEMORY = 2, 2, 3
LENGTHS = torch.tensor([4, 1, 3])


class Driven(SequenceModel):
    """h_t = tanh(V h_{t-1} + U x_{t-1}), z_t ~ N(A(h) z_{t-1} + W h, diag(e^{2 S h})), x_t ~ N(C z_t + D h, R)."""

    def __init__(self) -> None:
        super().__init__(Gaussian(OBS_DIM))
        self.states = GaussianStates(DIM, linear=True)
        self.register_buffer("initial_memory", 0.1 * torch.ones(MEMORY))
        shapes = {
            "V": (MEMORY, MEMORY), "U": (MEMORY, OBS_DIM), "m": (DIM,), "A": (DIM, DIM), "W": (DIM, MEMORY),
            "S": (DIM, MEMORY), "C": (OBS_DIM, DIM), "D": (OBS_DIM, MEMORY), "L": (OBS_DIM, OBS_DIM),
        }  # fmt: skip
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(shape) / 2))

    def recurrence(self, h: Any, z: Any, x: Tensor) -> Tensor:
        return torch.tanh(h @ self.V.mT + x @ self.U.mT)

    def initial(self, h: Any) -> Any:
        return dist.Normal(self.m + h @ self.W.mT, 0.7).to_event(1)

    def gate(self, h: Any) -> Tensor:
        return torch.sigmoid(h.sum(-1, keepdim=True))

    def transition(self, z: Any, h: Any) -> Any:
        return dist.Normal(self.gate(h) * (z @ self.A.mT) + h @ self.W.mT, (h @ self.S.mT).exp()).to_event(1)

    def emission(self, z: Any, h: Any) -> Any:
        R = self.L @ self.L.mT + torch.eye(OBS_DIM, dtype=h.dtype)
        return dist.MultivariateNormal(z @ self.C.mT + h @ self.D.mT, R)

    def parts(self, x: Tensor, u: None) -> tuple[Any, list[Any], list[Any], Tensor]:
        """The big joint law's parts for one sequence (T, M), written from the parameters, and what is added to x."""
        h = [torch.as_tensor(self.initial_memory)]
        for x_t in x[:-1]:
            h.append(self.recurrence(h[-1], None, x_t))
        initial = (self.m + self.W @ h[0], 0.49 * torch.eye(DIM))
        moves = [(self.gate(g) * self.A, self.W @ g, (2 * self.S @ g).exp().diag()) for g in h[1:]]
        sees = [(self.C, self.L @ self.L.mT + torch.eye(OBS_DIM))] * len(x)
        return initial, moves, sees, torch.cat([self.D @ g for g in h])


class Regression(SequenceModel):
    """Coefficients that walk, x_t ~ N(u_t' z_t, s^2): scalar observations, regressors as inputs."""

    input_dim = DIM
    initial_memory = None

    def __init__(self) -> None:
        super().__init__(Gaussian())
        self.states = GaussianStates(DIM, linear=True)
        self.log_walk, self.log_noise = nn.Parameter(torch.randn(DIM)), nn.Parameter(torch.randn(()))

    def initial(self, h: Any) -> Any:
        return dist.Normal(torch.zeros(DIM, dtype=h.dtype), 2.0).to_event(1)

    def transition(self, z: Any, h: Any) -> Any:
        return dist.Normal(z, self.log_walk.exp()).to_event(1)

    def emission(self, z: Any, h: Any) -> Any:
        return dist.Normal((z * h).sum(-1), self.log_noise.exp())

    def parts(self, x: Tensor, u: Tensor) -> tuple[Any, list[Any], list[Any], Tensor]:
        walk = (torch.eye(DIM), torch.zeros(DIM), (2 * self.log_walk).exp().diag())
        sees = [(u_t[None], (2 * self.log_noise).exp()[None, None]) for u_t in u]
        return (torch.zeros(DIM), 4 * torch.eye(DIM)), [walk] * (len(x) - 1), sees, torch.zeros(len(x))


MODELS: dict[str, Callable[[], Any]] = {"driven": Driven, "regression": Regression}
every_model = pytest.mark.parametrize("name", MODELS)


def made(name: str, num_steps: int = 4) -> tuple[Any, Tensor, Tensor | None]:
    """A model, observations and inputs."""
    model = MODELS[name]()
    u = torch.randn(3, num_steps, DIM) if model.input_dim else None
    return model, torch.randn(3, num_steps, *model.family.event_shape), u


def joint(model: Any, x: Tensor, u: Tensor | None, b: int, length: int) -> tuple[JointNormal, Tensor]:
    """The joint law of one sequence, and its observations minus what is added to them, (T M,)."""
    initial, moves, sees, added = model.parts(x[b, :length], None if u is None else u[b, :length])
    return joint_normal(initial, moves, sees), x[b, :length].flatten() - added


def expected_log_prob(model: Any, x: Tensor, u: Tensor | None, seen: Tensor) -> Tensor:
    values = []
    for b, length in enumerate(LENGTHS.clamp(max=x.shape[1]).tolist()):
        law, centred = joint(model, x, u, b, length)
        values.append(law.log_prob(centred, seen[b, :length].flatten()))
    return torch.stack(values)


@every_model
@pytest.mark.parametrize("num_steps", [1, 4])
def test_value_and_gradient_are_those_of_the_big_joint_normal_law(name: str, num_steps: int) -> None:
    model, x, u = made(name, num_steps)
    lengths = LENGTHS.clamp(max=num_steps)
    assert model.exact
    expected = expected_log_prob(model, x, u, torch.ones_like(x) > 0)
    found = model.log_prob(x, lengths=lengths, inputs=u)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model.log_marginal_likelihood(x, lengths, inputs=u), expected)
    weights, parameters = torch.tensor([1.0, -2.0, 3.0]), list(model.parameters())
    wanted = torch.autograd.grad((expected * weights).sum(), parameters, allow_unused=True)
    got = torch.autograd.grad((found * weights).sum(), parameters, allow_unused=True)
    for parameter, *pair in zip(parameters, got, wanted, strict=True):
        a, b = (torch.zeros_like(parameter) if gradient is None else gradient for gradient in pair)
        torch.testing.assert_close(a, b)


@every_model
def test_single_precision_differs_by_rounding(name: str) -> None:
    model, x, u = made(name)
    expected = model.log_prob(x, lengths=LENGTHS, inputs=u).detach()
    found = model.float().log_prob(x.float(), lengths=LENGTHS, inputs=None if u is None else u.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@every_model
def test_the_conditional_likelihood_leaves_the_first_step_out(name: str) -> None:
    model, x, u = made(name)
    whole = model.log_prob(x, inputs=u)
    first = model.log_prob(x[:, :1], inputs=None if u is None else u[:, :1])
    torch.testing.assert_close(model.log_prob(x, inputs=u, first="condition"), whole - first)


@every_model
def test_every_moment_is_that_of_the_big_joint_normal_law(name: str) -> None:
    model, x, u = made(name)
    result, width = kalman.smooth(model, x, LENGTHS, inputs=u), 1 if x.dim() == 2 else OBS_DIM
    for b, length in enumerate(LENGTHS.tolist()):
        law, centred = joint(model, x, u, b, length)
        law = JointNormal(*(part.detach() for part in law))
        mean, cov = law.states_given(centred.detach(), torch.ones_like(centred) > 0)
        torch.testing.assert_close(result.smoothed_means[b, :length], mean.reshape(length, DIM))
        blocks = cov.reshape(length, DIM, length, DIM)
        for t in range(length):
            torch.testing.assert_close(result.smoothed_covs[b, t], blocks[t, :, t])
            if t + 1 < length:
                torch.testing.assert_close(result.pairwise_covs[b, t], blocks[t, :, t + 1])
        seen = torch.arange(len(centred)) < (length - 1) * width
        mean, cov = law.states_given(centred.detach(), seen)
        torch.testing.assert_close(result.predicted_means[b, length - 1], mean[-DIM:])
        torch.testing.assert_close(result.predicted_covs[b, length - 1], cov[-DIM:, -DIM:])


def test_missing_observations_are_summed_out() -> None:
    model, x, u = made("regression")
    seen = torch.tensor([[True, False, True, True], [False, True, True, True], [False, True, True, True]])
    expected = expected_log_prob(model, x, u, seen[:, :, None])
    torch.testing.assert_close(model.log_marginal_likelihood(x, LENGTHS, inputs=u, mask=seen), expected)
    result = kalman.filter(model, x.where(seen, torch.nan), LENGTHS, inputs=u)
    torch.testing.assert_close(result.log_marginal_likelihood, expected.detach())
    driven, y, _ = made("driven")
    with pytest.raises(ValueError, match="the memory of Driven reads every observation"):
        driven.log_marginal_likelihood(y, mask=torch.rand(3, 4) > 0.5)
    with pytest.raises(
        ValueError, match="expected no missing observations, because Driven reads each at the next step"
    ):
        kalman.filter(driven, y, mask=torch.rand(3, 4) > 0.5)


def test_paths_and_forecasts_are_drawn_given_all_observations() -> None:
    limit, num_samples = 5.0, 20_000  # standard errors, draws
    model, x, u = made("regression")
    ahead = torch.randn(3, 2, DIM)
    result = kalman.smooth(model, x, inputs=u)
    paths = kalman.sample_states(model, x, num_samples=num_samples, inputs=u, seed=0)
    errors = (result.smoothed_covs.diagonal(dim1=-2, dim2=-1) / num_samples).sqrt()
    assert float(((paths.mean(0) - result.smoothed_means) / errors).abs().max()) < limit
    assert float(((paths.mean(0) - result.filtered_means) / errors).abs().max()) > limit
    law = kalman.forecast(model, x, 2, inputs=u, future_inputs=ahead)
    draws = model.forecast(x, 2, num_samples=num_samples, inputs=u, future_inputs=ahead, seed=0).x
    errors = (law.covs[..., 0, 0] / num_samples).sqrt()
    assert float(((draws.mean(0) - law.means[..., 0]) / errors).abs().max()) < limit
    other = kalman.forecast(model, x + 3, 2, inputs=u, future_inputs=ahead)
    assert float(((draws.mean(0) - other.means[..., 0]) / errors).abs().max()) > limit
    filtered = kalman.filter(model, x, inputs=u)
    mean = filtered.filtered_means[:, -1]
    torch.testing.assert_close(law.means[:, 0, 0], (mean * ahead[:, 0]).sum(-1))  # a walk: E z_{T+1} = E z_T


def laws_of(factor: Tensor) -> Iterator[tuple[str, Callable[[Tensor], Any]]]:
    """Laws with the covariance L L'; the diagonal ones have that of L's diagonal."""
    scale = factor.diagonal()
    yield "MultivariateNormal", lambda m: dist.MultivariateNormal(m, scale_tril=factor)
    yield "covariance", lambda m: dist.MultivariateNormal(m, factor @ factor.mT)
    yield "CorrelatedNormal", lambda m: CorrelatedNormal(m, Factor.of(factor))
    yield "SingularNormal", lambda m: SingularNormal(m, factor)
    yield "diagonal: Normal", lambda m: dist.Normal(m, scale).to_event(1)
    yield "diagonal: twice independent", lambda m: dist.Independent(dist.Normal(m, scale).to_event(0), 1)
    yield "diagonal: low rank", lambda m: dist.LowRankMultivariateNormal(m, torch.zeros(DIM, 1), scale.square())


class Copy(SequenceModel):
    """The laws of a `LinearGaussianSSM`, by other classes of laws."""

    initial_memory = None

    def __init__(self, system: LinearGaussianSSM, laws: Callable[[Tensor], Callable[[Tensor], Any]]) -> None:
        super().__init__(system.family)
        self.states, self.system, self.laws = GaussianStates(DIM, linear=True), system, laws

    def initial(self, h: Any) -> Any:
        return self.laws(self.system.initial_covariance.root)(self.system.initial_mean)

    def transition(self, z: Any, h: Any) -> Any:
        return self.laws(self.system.transition_covariance.root)(self.system.transition_mean(z))

    def emission(self, z: Any, h: Any) -> Any:
        return self.laws(self.system.emission_covariance.root)(self.system.emission_mean(z))


@pytest.mark.parametrize("kind", [kind for kind, _ in laws_of(torch.eye(DIM))])
def test_the_laws_of_a_linear_system_give_its_chain_whatever_their_class(kind: str) -> None:
    system, x = LinearGaussianSSM.random(DIM, OBS_DIM, seed=0), torch.randn(3, 4, OBS_DIM)
    if kind.startswith("diagonal"):
        with torch.no_grad():
            for part in (system.initial_covariance, system.transition_covariance, system.emission_covariance):
                part.raw.copy_(part.raw.diagonal().diag())
    model = Copy(system, lambda factor: dict(laws_of(factor))[kind])
    chained = chain_of(model, checked(model, x))
    for found, expected in zip(chained.chain[:6], system.chain()[:6], strict=True):
        assert expected is not None
        torch.testing.assert_close(torch.as_tensor(found).reshape(expected.shape), expected)  # stored once
    torch.testing.assert_close(model.log_prob(x, lengths=LENGTHS), system.log_prob(x, lengths=LENGTHS))
    assert len(kalman.filter(model, x).moments.filtered_covs) == 1
    states = system.sample(3, 4, seed=0).z
    if "SingularNormal" not in kind:
        torch.testing.assert_close(model.log_prob(x, states), system.log_prob(x, states))


def test_a_large_offset_costs_no_digits_of_the_matrix() -> None:
    class Far(Copy):
        def emission(self, z: Any, h: Any) -> Any:
            return dist.MultivariateNormal(self.system.emission_mean(z) + 1e9, self.system.emission_cov)

    system = LinearGaussianSSM.random(DIM, OBS_DIM, seed=0)
    model = Far(system, lambda factor: dict(laws_of(factor))["MultivariateNormal"])
    chain = chain_of(model, checked(model, torch.zeros(1, 2, OBS_DIM))).chain
    torch.testing.assert_close(chain.emission_matrix[0, 0], system.emission_matrix, rtol=1e-14, atol=1e-14)


def test_gradient_steps_and_particles_take_the_model_too() -> None:
    model, _, u = made("regression", 6)
    assert u is not None
    x = model.sample(3, 6, inputs=u, seed=1).x
    exact, limit = model.log_marginal_likelihood(x, inputs=u).detach(), 5.0  # standard errors
    runs = [smc.filter(model, x, num_particles=5000, inputs=u, seed=seed).log_marginal_likelihood for seed in range(60)]
    ratios = (torch.stack(runs) - exact).exp()
    errors = ratios.std(0) / 60**0.5
    assert float(((ratios.mean(0) - 1) / errors).abs().max()) < limit
    assert float(((ratios.mean(0) - 1.5) / errors).abs().min()) > limit  # a likelihood that is half too large
    driven = Driven()
    y = driven.sample(8, 6, seed=2).x
    other = Driven()
    before = float(other.log_prob(y).sum().detach())
    svi.fit(other, y, objective="mle", num_epochs=40, learning_rate=0.05, progress=False)
    after = float(other.log_prob(y).sum().detach())
    assert after > before + 5
    assert float(svi.evaluate(other, y).nats_per_step) == pytest.approx(-after / 48)


def test_em_says_that_it_has_no_step_for_the_model() -> None:
    with pytest.raises(TypeError, match=r"expected a LinearGaussianSSM .* for em, got Driven, .*; use svi\.fit"):
        em.fit(Driven(), torch.zeros(2, 3, OBS_DIM), progress=False)


class Bent(Regression):
    """A regression whose laws are bent where an input is large: `bend` names the law and the way."""

    def __init__(self, bend: str) -> None:
        super().__init__()
        self.bend = bend

    def bent(self, z: Tensor, h: Tensor) -> Tensor:
        return (h[..., :1] > 5) * z.square()

    def transition(self, z: Any, h: Any) -> Any:
        mean = z + (self.bent(z, h) if self.bend == "transition mean" else 0)
        scale = 1 + (self.bent(z, h) if self.bend == "transition covariance" else 0)
        return dist.Normal(mean, scale).to_event(1)

    def emission(self, z: Any, h: Any) -> Any:
        if self.bend == "kind":
            return dist.Laplace((z * h).sum(-1), 1.0)
        if self.bend == "batch":
            return dist.Normal((z * h).sum(-1).flatten(), 1.0)
        if self.bend == "infinite":
            return dist.Normal((z * h).sum(-1) / (h[..., 0] < 5), 1.0, validate_args=False)
        return dist.Normal((z * h).sum(-1) + (self.bent(z, h).sum(-1) if self.bend == "emission mean" else 0), 1.0)


BENDS = {
    "transition mean": (ValueError, r"a mean of Bent\.transition that is affine in z, .* at step 3 of sequence 1"),
    "transition covariance": (ValueError, r"a covariance of Bent\.transition that does not depend on z.* at step 3 of"),
    "emission mean": (ValueError, r"a mean of Bent\.emission that is affine in z, .* at step 3 of sequence 1; use"),
    "kind": (TypeError, r"normal laws of vectors from Bent\.emission, .* got Laplace with event shape \(\)"),
    "batch": (ValueError, r"a law from emission of Bent at step 1 whose batch shape broadcasts to .*, got a Normal of"),
    "infinite": (ValueError, r"finite means and covariances from Bent\.emission, got NaN .* at step 3 of sequence 1"),
}  # fmt: skip


@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize("engine", ["log_prob", "filter"])
def test_laws_that_are_not_linear_are_refused_at_their_step(bend: str, engine: str) -> None:
    u, (error, message) = torch.ones(2, 4, DIM), BENDS[bend]
    u[1, 2] = 6.0  # everything is linear in the other steps
    model: Any = Bent(bend)
    run = model.log_prob if engine == "log_prob" else lambda *args, **options: kalman.filter(model, *args, **options)
    with pytest.raises(error, match=message):
        run(torch.zeros(2, 4), inputs=u)
    if "mean" in bend or "covariance" in bend:
        Bent("").log_prob(torch.zeros(2, 4), inputs=u)
        Bent(bend).log_prob(torch.zeros(2, 4), inputs=torch.ones(2, 4, DIM))


def test_a_memory_that_reads_the_state_leaves_nothing_exact() -> None:
    class Reading(Driven):
        memory_reads_state = True

        def recurrence(self, h: Any, z: Any, x: Tensor) -> Tensor:
            return torch.tanh(h @ self.V.mT + z @ self.U.mT)

    model, x = Reading(), torch.randn(3, 4, OBS_DIM)
    assert not model.exact
    with pytest.raises(ValueError, match=r"no exact likelihood; estimate it by smc\.filter"):
        model.log_prob(x)
    with pytest.raises(TypeError, match=r"expected a model with Gaussian states for kalman.*use smc or svi"):
        kalman.filter(model, x)
    assert smc.filter(model, x, num_particles=50, seed=0).log_marginal_likelihood.isfinite().all()


class Walk(SequenceModel):
    """z_t ~ N(z_{t-1}, e^{2 raw}); x_t ~ N(a z_t, s^2), or equal to it."""

    def __init__(self, scale: float) -> None:
        super().__init__(Gaussian(1))
        self.states, self.scale = GaussianStates(1, linear=True), scale
        self.raw, self.a = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(1))

    def initial(self, h: Any) -> Any:
        return dist.Normal(torch.zeros_like(self.a), 1.0).to_event(1)

    def transition(self, z: Any, h: Any) -> Any:
        return dist.Normal(z, self.raw.exp()).to_event(1)

    def emission(self, z: Any, h: Any) -> Any:
        return dist.Normal(self.a * z, self.scale).to_event(1) if self.scale else dist.Delta(self.a * z, event_dim=1)


@pytest.mark.parametrize("scale", [1.0, 0.0])
@pytest.mark.parametrize(("raw", "a"), [(1000.0, 1.0), (400.0, 1.0), (0.0, 1e200), (0.0, torch.inf), (torch.nan, 1.0)])
def test_parameters_that_overflow_have_no_density_where_laws_are_not_validated(
    scale: float, raw: float, a: float, without_validation: None
) -> None:
    model = Walk(scale)
    x = torch.randn(2, 4, 1)
    before = model.log_prob(x)
    with torch.no_grad():
        model.raw.fill_(raw)
        model.a.fill_(a)
    assert not bool(before.isnan().any())
    value = model.log_prob(x)
    assert not bool(value.isfinite().any())


def test_a_first_run_that_overflows_does_not_count_as_a_check(without_validation: None) -> None:
    class Bent(Walk):
        def transition(self, z: Any, h: Any) -> Any:
            return dist.Normal(z.sin(), self.raw.exp()).to_event(1)

    model, x = Bent(1.0), torch.randn(2, 4, 1)
    with torch.no_grad():
        model.raw.fill_(1000.0)
    assert bool(model.log_prob(x).isnan().all())
    with torch.no_grad():
        model.raw.fill_(0.0)
    with pytest.raises(ValueError, match="affine in z"):
        model.log_prob(x)


@pytest.fixture
def without_validation() -> Iterator[None]:
    """As inside Pyro's MCMC, laws take parameters that are not finite."""
    with pyro.validation_enabled(False):
        yield
