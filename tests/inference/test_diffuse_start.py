"""Exact diffuse starts against generalised least squares in the big joint law, the limit itself, and statsmodels."""

import copy
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mpmath  # type: ignore[import-untyped]
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import pgm_rnn
from pgm_rnn.distributions.diffuse_normal import DiffuseNormal
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import em, kalman, smc, svi
from pgm_rnn.models import LinearGaussianSSM
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.chains import CovarianceError
from pgm_rnn.sequence_model.parameters import call_with
from pgm_rnn.states import GaussianStates
from tests.definitions import JointNormal, joint_normal

NUM_STEPS = 7
LENGTHS = torch.tensor([7, 1, 3, 7])
ONE = torch.eye(1, dtype=torch.float64)


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def diagonal(*entries: float) -> Tensor:
    return torch.tensor(entries, dtype=torch.float64).diag()


def structural(A: Tensor, Q: Tensor, C: Tensor, R: float, diffuse: Any, P: Tensor | None = None) -> LinearGaussianSSM:
    mean, P = torch.linspace(0.5, 1.0, len(A), dtype=torch.float64), torch.zeros_like(A) if P is None else P
    return LinearGaussianSSM(mean, P, A, Q, C, R * torch.eye(len(C)), diffuse=diffuse)


TREND, SEASONS = matrix([1, 1], [0, 1]), matrix([1, 0, 0, 0], [0, -1, -1, -1], [0, 1, 0, 0], [0, 0, 1, 0])
LEVEL = matrix([1, 0])


def local_level() -> LinearGaussianSSM:
    return structural(ONE, 0.7 * ONE, ONE, 1.3, [True])


def local_linear_trend() -> LinearGaussianSSM:
    return structural(TREND, diagonal(0.7, 0.2), LEVEL, 1.3, [True, True])


def smooth_trend() -> LinearGaussianSSM:
    return structural(TREND, diagonal(0, 0.2), LEVEL, 1.3, [True, True])


def trend_of_known_slope() -> LinearGaussianSSM:
    return structural(TREND, diagonal(0.7, 0.2), LEVEL, 1.3, [True, False], matrix([2, 0.5], [0.5, 1]))


def autoregression() -> LinearGaussianSSM:
    """AR(2) in companion form, seen without noise."""
    return structural(matrix([0.5, -0.3], [1, 0]), diagonal(0.8, 0), LEVEL, 0.0, [True, True])


def noisy_autoregression() -> LinearGaussianSSM:
    return structural(matrix([0.5, -0.3], [1, 0]), diagonal(0.8, 0), LEVEL, 0.4, [True, True])


def seasonal() -> LinearGaussianSSM:
    return structural(SEASONS, diagonal(0.7, 0.1, 0, 0), matrix([1, 1, 0, 0]), 1.3, [True] * 4)


def common_trend() -> LinearGaussianSSM:
    """Two series with one level between them, along an oblique direction: F_inf has rank one of two."""
    C, direction = matrix([1, 0.5], [2, -1]), matrix([1], [2])
    return structural(matrix([0.9, 0.1], [0, 0.8]), diagonal(0.7, 0.2), C, 0.6, direction, torch.eye(2))


class Regression(SequenceModel):
    """x_t = u_t' z_t + noise; coefficients walk from a diffuse start: anyone's model, with scalar observations."""

    input_dim = 2
    initial_memory = None
    diffuse = torch.eye(2, dtype=torch.float64)

    def __init__(self) -> None:
        super().__init__(Gaussian())
        self.states = GaussianStates(2, linear=True)
        self.log_walk, self.log_noise = nn.Parameter(torch.tensor([-1.0, -0.5])), nn.Parameter(torch.tensor(0.2))

    def initial(self, h: Any) -> Any:
        return DiffuseNormal(torch.zeros(2), torch.zeros(2, 0), self.diffuse)

    def transition(self, z: Any, h: Any) -> Any:
        return dist.Normal(z, self.log_walk.exp()).to_event(1)

    def emission(self, z: Any, h: Any) -> Any:
        return dist.Normal((z * h).sum(-1), self.log_noise.exp())


MODELS: dict[str, Callable[[], Any]] = {
    make.__name__: make
    for make in (
        local_level, local_linear_trend, smooth_trend, trend_of_known_slope, autoregression, noisy_autoregression,
        seasonal, common_trend, Regression,
    )
}  # fmt: skip
every_model = pytest.mark.parametrize("name", MODELS)
every_linear_system = pytest.mark.parametrize("name", [name for name in MODELS if name != "Regression"])


class Definition(NamedTuple):
    """Generalised least squares for delta in the big joint law: z = Z delta + noise, x = X delta + noise.

    Attributes:
        value: lim log p_kappa(x) + d/2 log kappa.
        mean: E(z | x), (T D,), if all of delta is determined.
        cov: Cov(z | x), (T D, T D).
    """

    value: Tensor
    mean: Tensor
    cov: Tensor


def defined(law: JointNormal, responses: Tensor, x: Tensor, seen: Tensor) -> Definition:
    """The limits, from the joint law with N(0, I) added to delta, which a flat prior does not notice.

    Args:
        law: the joint law of one sequence with delta = 0 and P.
        responses: Z, (T D, q).
        x: observations, (T M,).
        seen: which of them are observed.
    """
    law = law._replace(cov=law.cov + responses @ responses.mT)
    mean, V = law.observations(seen)
    X, residual = (law.matrix @ responses)[seen], x[seen] - mean
    H, s = X.mT @ torch.linalg.solve(V, X), X.mT @ torch.linalg.solve(V, residual)
    values = torch.linalg.eigvalsh(H)
    values = values[values > 1e-9 * values.max()] if len(residual) else values[:0]
    delta = torch.linalg.pinv(H, hermitian=True, rtol=1e-9) @ s
    distance = residual @ torch.linalg.solve(V, residual) - s @ delta
    value = -0.5 * (distance + torch.logdet(2 * math.pi * V) + values.log().sum()) if len(residual) else torch.zeros(())
    z_mean, z_cov = law.states_given(x, seen)
    gain = torch.linalg.solve(V, law.matrix[seen] @ law.cov).mT
    rest = responses - gain @ X
    return Definition(value, z_mean + rest @ delta, z_cov + rest @ torch.linalg.pinv(H, rtol=1e-9) @ rest.mT)


def parts_of(model: Any, u: Tensor | None, length: int) -> tuple[JointNormal, Tensor]:
    """The joint law with delta = 0, and Z."""
    if isinstance(model, Regression):
        assert u is not None
        move = (torch.eye(2), torch.zeros(2), (2 * model.log_walk).exp().diag())
        start = (torch.zeros(2), torch.zeros(2, 2))
        sees = [(u_t[None], (2 * model.log_noise).exp()[None, None]) for u_t in u[:length]]
    else:
        move = (model.transition_matrix, torch.zeros(model.latent_dim), model.transition_cov)
        start, sees = (model.initial_mean, model.initial_cov), [(model.emission_matrix, model.emission_cov)] * length
    responses = [model.diffuse]
    for _ in range(length - 1):
        responses.append(move[0] @ responses[-1])
    return joint_normal(start, [move] * (length - 1), sees), torch.cat(responses)


def data_for(model: Any, missing: bool) -> tuple[Tensor, Tensor | None, Tensor]:
    """Observations far from zero, inputs, and which observations are seen."""
    batch = len(LENGTHS)
    x = 5 + torch.randn(batch, NUM_STEPS, *model.family.event_shape).cumsum(1)
    u = torch.randn(batch, NUM_STEPS, 2) if model.input_dim else None
    seen = torch.rand(x.shape) > 0.35 if missing else torch.ones_like(x) > 0
    if missing:
        seen[0, :2] = False  # the start is determined late
    return x, u, seen


def definitions(model: Any, x: Tensor, u: Tensor | None, seen: Tensor) -> list[Definition]:
    found = []
    for b, length in enumerate(LENGTHS.tolist()):
        law, responses = parts_of(model, None if u is None else u[b], length)
        found.append(defined(law, responses, x[b, :length].flatten(), seen[b, :length].flatten()))
    return found


@every_model
@pytest.mark.parametrize("missing", [False, True])
def test_value_and_gradient_are_those_of_generalised_least_squares(name: str, missing: bool) -> None:
    model = MODELS[name]()
    x, u, seen = data_for(model, missing)
    expected = torch.stack([one.value for one in definitions(model, x, u, seen)])
    found = model.log_marginal_likelihood(x, LENGTHS, inputs=u, mask=seen)
    torch.testing.assert_close(found, expected)
    result = kalman.filter(model, x, LENGTHS, inputs=u, mask=seen)
    torch.testing.assert_close(result.log_marginal_likelihood, expected.detach())
    assert not torch.allclose(found, expected + 0.5 * math.log(2 * math.pi), atol=0.1)  # a wrong constant
    names, parameters = zip(*model.named_parameters(), strict=True)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0])
    got = torch.autograd.grad((found * weights).sum(), parameters, allow_unused=True)
    wanted = torch.autograd.grad((expected * weights).sum(), parameters, allow_unused=True)
    for which, parameter, *pair in zip(names, parameters, got, wanted, strict=True):
        a, b = (torch.zeros_like(parameter) if part is None else part for part in pair)
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7, msg=which)


@every_model
def test_each_term_is_the_difference_of_two_limits(name: str) -> None:
    model = MODELS[name]()
    x, u, _ = data_for(model, missing=False)
    terms = kalman.filter(model, x, inputs=u).log_normalizers
    for t in range(NUM_STEPS):
        whole = kalman.filter(model, x[:, : t + 1], inputs=None if u is None else u[:, : t + 1])
        torch.testing.assert_close(terms[:, : t + 1].sum(-1), whole.log_marginal_likelihood)
    first = model.log_prob(x[:, :1], inputs=None if u is None else u[:, :1])
    torch.testing.assert_close(model.log_prob(x, inputs=u, first="condition"), model.log_prob(x, inputs=u) - first)


@pytest.mark.parametrize("name", ["local_level", "autoregression", "common_trend"])
def test_the_value_is_the_limit_itself(name: str) -> None:
    """With 80 digits and kappa = 10^30, the law with a proper start of that variance is the limit to 25 digits."""
    model, length = MODELS[name](), 4
    x = 5 + torch.randn(1, length, model.obs_dim).cumsum(1)
    law, responses = parts_of(model, None, length)
    with mpmath.workdps(80):
        kappa = mpmath.mpf(10) ** 30
        plain = [mpmath.matrix(part.detach().tolist()) for part in (law.matrix, law.cov, responses, law.noise)]
        matrix_, cov, Z, noise = plain
        V = matrix_ * (cov + kappa * Z * Z.T) * matrix_.T + noise
        r = mpmath.matrix(x.flatten().tolist()) - matrix_ * mpmath.matrix(law.mean.tolist())
        distance = (r.T * mpmath.lu_solve(V, r))[0]
        value = -(distance + mpmath.log(mpmath.det(V)) + len(r) * mpmath.log(2 * mpmath.pi)) / 2
        value += mpmath.mpf(responses.shape[1]) / 2 * mpmath.log(kappa)
        without = float(value - mpmath.log(kappa) / 2)
    assert float(model.log_prob(x).detach()) == pytest.approx(float(value), rel=1e-10)
    assert float(model.log_prob(x).detach()) != pytest.approx(without, rel=1e-3)


@every_model
@pytest.mark.parametrize("missing", [False, True])
def test_moments_are_those_of_generalised_least_squares(name: str, missing: bool) -> None:
    model = MODELS[name]()
    x, u, seen = data_for(model, missing)
    result, dim = kalman.smooth(model, x, LENGTHS, inputs=u, mask=seen), model.states.dim
    for b, length in enumerate(LENGTHS.tolist()):
        with torch.no_grad():
            law, responses = parts_of(model, None if u is None else u[b], length)
        values, known = x[b, :length].flatten(), seen[b, :length].flatten()
        width = len(values) // length
        for t in range(length):
            until = known & (torch.arange(len(known)) < width * (t + 1))
            X = (law.matrix @ responses)[until]
            if int(torch.linalg.matrix_rank(X)) < responses.shape[1]:
                assert result.filtered_covs[b, t].isinf().any()
                continue
            one = defined(law, responses, values, until)
            place = slice(t * dim, (t + 1) * dim)
            torch.testing.assert_close(result.filtered_means[b, t], one.mean[place], rtol=1e-7, atol=1e-7)
            torch.testing.assert_close(result.filtered_covs[b, t], one.cov[place, place], rtol=1e-6, atol=1e-7)
            if t + 1 < length:
                after = slice((t + 1) * dim, (t + 2) * dim)
                torch.testing.assert_close(result.predicted_means[b, t + 1], one.mean[after], rtol=1e-7, atol=1e-7)
                torch.testing.assert_close(result.predicted_covs[b, t + 1], one.cov[after, after], rtol=1e-6, atol=1e-7)
            if t + 1 == length:
                blocks = one.cov.reshape(length, dim, length, dim)
                found = result.smoothed_means[b, :length]
                torch.testing.assert_close(found, one.mean.reshape(length, dim), rtol=1e-7, atol=1e-7)
                for s in range(length):
                    torch.testing.assert_close(result.smoothed_covs[b, s], blocks[s, :, s], rtol=1e-6, atol=1e-7)
                    if s + 1 < length:
                        pair = blocks[s, :, s + 1]
                        torch.testing.assert_close(result.pairwise_covs[b, s], pair, rtol=1e-6, atol=1e-7)
        assert not result.smoothed_means[b, length:].any()


def test_variances_are_infinite_until_the_observations_bound_them() -> None:
    model, x = local_linear_trend(), torch.tensor([[[1.0], [3.0], [4.0]]])
    result = kalman.smooth(model, x)
    infinite = torch.tensor([[True, True], [True, True]])
    assert torch.equal(result.predicted_covs[0, 0].isinf(), infinite & torch.eye(2).bool())
    assert torch.equal(result.filtered_covs[0, 0].isinf(), torch.tensor([[False, False], [False, True]]))
    assert torch.equal(result.predicted_covs[0, 1].isinf(), infinite)  # the slope moves the level
    assert result.filtered_covs[0, 1:].isfinite().all()
    assert result.smoothed_covs.isfinite().all()
    torch.testing.assert_close(result.filtered_means[0, 1, 0], torch.tensor(3.0))  # two points determine a line
    one = kalman.smooth(model, x[:, :1])
    assert torch.equal(one.smoothed_covs[0, 0].isinf(), torch.tensor([[False, False], [False, True]]))
    for run in (
        lambda: kalman.sample_states(model, x[:, :1]),
        lambda: kalman.forecast(model, x[:, :1], 2),
        lambda: model.forecast(x[:, :1], 2),
        lambda: em.fit(local_linear_trend(), x[:, :1], progress=False),
    ):
        with pytest.raises(
            ValueError, match="determine every diffuse direction of the first state, got sequence 0, which does not"
        ):
            run()


@every_linear_system
def test_paths_and_forecasts_are_drawn_given_all_observations(name: str) -> None:
    limit, num_samples = 5.0, 10_000  # standard errors, draws
    model = MODELS[name]()
    x, _, _ = data_for(model, missing=False)
    result = kalman.smooth(model, x)
    paths = kalman.sample_states(model, x, num_samples=num_samples, seed=0)
    variances = result.smoothed_covs.diagonal(dim1=-2, dim2=-1)
    uncertain = variances > 1e-9
    around = paths - result.smoothed_means
    deviation = around.mean(0)
    scores = (deviation / (variances / num_samples).sqrt())[uncertain]
    assert float(scores.abs().max() if len(scores) else 0.0) < limit
    assert float(deviation[~uncertain].abs().sum()) < 1e-5
    lag = around[:, :, 0, :, None] * around[:, :, 1, None, :]
    scale = (variances[:, 0, :, None] * variances[:, 1, None, :]).sqrt() * (2 / num_samples) ** 0.5 + 1e-9
    assert float(((lag.mean(0) - result.pairwise_covs[:, 0]) / scale).abs().max()) < limit
    law = kalman.forecast(model, x, 2)
    draws = model.forecast(x, 2, num_samples=num_samples, seed=0).x
    errors = (law.covs.diagonal(dim1=-2, dim2=-1) / num_samples).sqrt()
    assert float(((draws.mean(0) - law.means) / errors).abs().max()) < limit
    shifted = kalman.forecast(model, x + 1, 2)
    assert float(((draws.mean(0) - shifted.means) / errors).abs().max()) > limit


REGULAR = ["local_level", "local_linear_trend", "trend_of_known_slope", "common_trend", "Regression"]


@pytest.mark.parametrize("name", REGULAR)
def test_the_joint_density_is_the_marginal_one_times_that_of_the_states(name: str) -> None:
    model = MODELS[name]()
    x, u, seen = data_for(model, missing=False)
    z = torch.randn(len(x), NUM_STEPS, model.states.dim)
    for b in range(len(x)):
        law, responses = parts_of(model, None if u is None else u[b], NUM_STEPS)
        one = defined(law, responses, x[b].flatten(), seen[b].flatten())
        posterior = dist.MultivariateNormal(one.mean, 0.5 * (one.cov + one.cov.mT))
        joint = model.log_prob(x[b : b + 1], z[b : b + 1], inputs=None if u is None else u[b : b + 1])[0]
        torch.testing.assert_close(joint, one.value + posterior.log_prob(z[b].flatten()), rtol=1e-7, atol=1e-7)


def test_a_diffuse_start_has_no_law_to_draw_from() -> None:
    model, x = local_level(), torch.randn(2, 3, 1)
    message = (
        "expected a proper law of the first state to draw from, got a diffuse one; give initial_cov in place of diffuse"
    )
    for run in (
        lambda: model.sample(2, 3),
        lambda: smc.filter(model, x, num_particles=10),
        lambda: model.model(x, rendering="unrolled"),
    ):
        with pytest.raises(ValueError, match=message):
            run()
    with pytest.raises(
        ValueError, match=r"expected a proper law of the first state for p\(z_1 \| x_1\), got a diffuse one"
    ):
        model.initial_given(None, x[:, 0])


@every_linear_system
def test_em_raises_the_limit_and_leaves_the_diffuse_mean(name: str) -> None:
    model = MODELS[name]()
    x = 5 + torch.randn(6, 20, model.obs_dim).cumsum(1)
    before = model.initial_mean.detach().clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", em.EmWarning)  # noise held at its floor is not the subject here
        # With a free A the limit has no bound: it grows without end as a diffuse direction ceases to be observed.
        frozen = ("transition_matrix", "emission_matrix")
        result = em.fit(model, x, num_iterations=15, tolerance=0.0, frozen=frozen, progress=False)
    assert result.stopped_by != "decrease"
    assert float(result.log_likelihoods.diff().min()) > -1e-7
    assert float(result.log_likelihoods.diff()[0]) > 0.1
    torch.testing.assert_close(result.log_likelihoods[-1], model.log_prob(x).sum().detach())
    along = torch.linalg.pinv(model.diffuse)
    torch.testing.assert_close(along @ model.initial_mean.detach(), along @ before)


def test_em_ends_where_the_gradient_vanishes() -> None:
    model = local_level()
    x = 5 + torch.randn(4, 30, 1).cumsum(1) + torch.randn(4, 30, 1)
    frozen = ("transition_matrix", "emission_matrix")
    start = model.log_prob(x).sum()
    raws = [model.transition_covariance.raw, model.emission_covariance.raw]
    at_first = torch.autograd.grad(start, raws)
    em.fit(model, x, num_iterations=2000, tolerance=1e-13, frozen=frozen, progress=False)
    at_last = torch.autograd.grad(model.log_prob(x).sum(), raws)
    for one, other in zip(at_first, at_last, strict=True):
        assert float(other.abs()) < 1e-3 * float(one.abs())


def test_gradient_steps_and_files_keep_the_diffuse_start(tmp_path: Path) -> None:
    model = trend_of_known_slope()
    x = 5 + torch.randn(6, 20, 1).cumsum(1)
    before = float(model.log_prob(x).sum().detach())
    svi.fit(model, x, objective="mle", num_epochs=10, learning_rate=0.02, progress=False)
    assert float(model.log_prob(x).sum().detach()) > before
    pgm_rnn.save_model(model, tmp_path / "model")
    again = pgm_rnn.load_model(tmp_path / "model")
    assert isinstance(again, LinearGaussianSSM)
    assert again.diffuse is not None
    assert torch.equal(again.diffuse, matrix([1], [0]))
    assert torch.equal(again.log_prob(x), model.log_prob(x))
    single = copy.deepcopy(model).float()
    torch.testing.assert_close(single.log_prob(x.float()).double(), model.log_prob(x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_units_of_the_data_cost_no_digits(factor: float) -> None:
    model = local_linear_trend()
    x = 5 + torch.randn(3, 50, 1).cumsum(1)
    scaled = structural(TREND, factor**2 * diagonal(0.7, 0.2), LEVEL, factor**2 * 1.3, [True, True])
    with torch.no_grad():
        scaled.initial_mean.copy_(factor * model.initial_mean)
    difference = (50 - 2) * math.log(factor)  # log p(factor x) = log p(x) - (n - d) log factor
    torch.testing.assert_close(scaled.log_prob(factor * x), model.log_prob(x) - difference, rtol=1e-11, atol=1e-9)


def test_what_a_diffuse_start_determines_is_an_error_when_it_is_seen_again() -> None:
    constant = structural(ONE, 0 * ONE, ONE, 0.0, [True])
    torch.testing.assert_close(constant.log_prob(torch.ones(1, 1, 1)), torch.tensor([-0.5 * math.log(2 * math.pi)]))
    with pytest.raises(CovarianceError, match="sequence 0 at step 2, where the covariance of the prediction is sing"):
        constant.log_prob(torch.ones(1, 2, 1))


@pytest.mark.parametrize(
    ("diffuse", "message"),
    [
        ([True], r"expected diffuse as 2 truth values, some of them True, got \[True\]"),
        ([False, False], r"expected diffuse as 2 truth values, some of them True, got \[False, False\]"),
        (matrix([1, 2], [1, 2]), "expected linearly independent diffuse directions"),
        (matrix([1, 2]), r"expected diffuse directions of shape \(2, q\), q in 1\.\.2, got \(1, 2\)"),
    ],
)
def test_directions_that_do_not_fit_are_refused(diffuse: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        structural(TREND, diagonal(0.7, 0.2), LEVEL, 1.3, diffuse)


# Statsmodels, where it is installed.

UNOBSERVED: dict[str, tuple[dict[str, Any], list[float]]] = {
    "local_level": ({"level": "local level"}, [1.3, 0.7]),
    "local_linear_trend": ({"level": "local linear trend"}, [1.3, 0.7, 0.2]),
    "smooth_trend": ({"level": "smooth trend"}, [1.3, 0.2]),
    "seasonal": ({"level": "local level", "seasonal": 4}, [1.3, 0.7, 0.1]),
}


def compare_with(reference: Any, params: list[float], model: Any, x: Tensor, u: Tensor | None = None) -> None:
    """Terms, smoothed moments and filtered moments of one sequence, from a state-space model of statsmodels."""
    reference.ssm.tolerance = 0  # it takes covariances as steady when they are nearly so
    expected = reference.smooth(params)
    seen = ~x.isnan()
    result = kalman.smooth(model, x, inputs=u)
    assert float(result.log_marginal_likelihood) == pytest.approx(expected.llf, rel=1e-10)
    torch.testing.assert_close(result.log_normalizers[0], torch.tensor(expected.llf_obs), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(result.smoothed_means[0], torch.tensor(expected.smoothed_state.T), rtol=1e-7, atol=1e-8)
    covs = torch.tensor(expected.smoothed_state_cov.transpose(2, 0, 1).copy())
    torch.testing.assert_close(result.smoothed_covs[0], covs, rtol=1e-7, atol=1e-8)
    known = result.filtered_covs[0].isfinite().all(-1).all(-1)
    assert seen.any()
    means = torch.tensor(expected.filtered_state.T.copy())
    torch.testing.assert_close(result.filtered_means[0][known], means[known], rtol=1e-7, atol=1e-8)


def series(missing: bool, num_steps: int = 30) -> Tensor:
    x = 5 + torch.randn(num_steps).cumsum(0)
    if missing:
        x[[0, 1, 5, 6, 20]] = torch.nan
    return x


@pytest.mark.parametrize("name", UNOBSERVED)
@pytest.mark.parametrize("missing", [False, True])
def test_structural_models_are_those_of_statsmodels(name: str, missing: bool) -> None:
    api = pytest.importorskip("statsmodels.api")
    options, params = UNOBSERVED[name]
    x, model = series(missing), MODELS[name]()
    with torch.no_grad():
        model.initial_mean.zero_()
    reference = api.tsa.UnobservedComponents(x.numpy(), use_exact_diffuse=True, **options)
    compare_with(reference, params, model, x[None, :, None])


@pytest.mark.parametrize("name", ["autoregression", "noisy_autoregression"])
@pytest.mark.parametrize("missing", [False, True])
def test_autoregressions_are_those_of_statsmodels(name: str, missing: bool) -> None:
    mlemodel = pytest.importorskip("statsmodels.tsa.statespace.mlemodel")
    x, model = series(missing), MODELS[name]()
    with torch.no_grad():
        model.initial_mean.zero_()
    reference = mlemodel.MLEModel(x.numpy(), k_states=2, k_posdef=1)
    reference.ssm.initialize_diffuse()
    reference["design"], reference["transition"] = LEVEL.numpy(), matrix([0.5, -0.3], [1, 0]).numpy()
    reference["selection"], reference["state_cov"] = matrix([1], [0]).numpy(), matrix([0.8]).numpy()
    reference["obs_cov"] = matrix([0.4 if name == "noisy_autoregression" else 0.0]).numpy()
    compare_with(reference, [], model, x[None, :, None])


@pytest.mark.parametrize("missing", [False, True])
def test_a_regression_with_diffuse_coefficients_is_that_of_statsmodels(missing: bool) -> None:
    mlemodel = pytest.importorskip("statsmodels.tsa.statespace.mlemodel")
    x, u, model = series(missing), torch.randn(30, 2), Regression()
    reference = mlemodel.MLEModel(x.numpy(), k_states=2, k_posdef=2)
    reference.ssm.initialize_diffuse()
    reference["design"] = u.T[None].numpy()
    reference["transition"], reference["selection"] = torch.eye(2).numpy(), torch.eye(2).numpy()
    reference["state_cov"] = (2 * model.log_walk.detach()).exp().diag().numpy()
    reference["obs_cov"] = (2 * model.log_noise.detach()).exp()[None, None].numpy()
    compare_with(reference, [], model, x[None], u[None])


# Second derivatives.


def value_in(model: Any, x: Tensor, u: Tensor | None, seen: Tensor) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
    """log p(x) summed over sequences as a function of the parameters and x, and where to take it."""

    def value(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        found = call_with(model, parameters, kalman.log_marginal_likelihood, model, x, LENGTHS, inputs=u, mask=seen)
        return found.sum()

    at = {name: part.detach() for name, part in model.named_parameters()}
    return lambda x, **parameters: value(x, parameters), {"x": x} | at


def turned(name: str, part: Tensor, missing: bool) -> Tensor:
    """A direction; none for A with missing entries, for an inexact seasonal pattern shows more of the start."""
    return torch.zeros_like(part) if name == "transition_matrix" and missing else torch.randn_like(part)


@every_model
@pytest.mark.parametrize("missing", [False, True])
def test_second_derivatives_are_finite_differences(name: str, missing: bool) -> None:
    model, step = MODELS[name](), 1e-5
    value, at = value_in(model, *data_for(model, missing))
    along = {name: turned(name, part, missing) for name, part in at.items()}

    def gradient(size: float, again: bool = False) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        leaves = {name: (part + size * along[name]).requires_grad_() for name, part in at.items()}
        return torch.autograd.grad(value(**leaves), list(leaves.values()), create_graph=again), list(leaves.values())

    again, leaves = gradient(0.0, again=True)
    torch.testing.assert_close(again, gradient(0.0)[0])
    slope = sum((part * along[name]).sum() for name, part in zip(at, again, strict=True))
    found = torch.autograd.grad(torch.as_tensor(slope), leaves)
    differences = [(up - down) / (2 * step) for up, down in zip(gradient(step)[0], gradient(-step)[0], strict=True)]
    for part, difference in zip(found, differences, strict=True):
        torch.testing.assert_close(part, difference, rtol=1e-4, atol=1e-5)
    assert sum(float(part.square().sum()) for part in found) > 0.1


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, in forward mode
def test_every_way_of_torch_gives_the_same_hessian() -> None:
    model = common_trend()
    value, at = value_in(model, *data_for(model, True))
    A = at.pop("transition_matrix")

    def of(matrix: Tensor) -> Tensor:
        return value(transition_matrix=matrix, **at)

    expected = torch.autograd.functional.hessian(of, A)
    for found in (torch.func.hessian(of)(A), torch.func.jacrev(torch.func.jacrev(of))(A)):
        torch.testing.assert_close(found, expected)
    rows = torch.stack([A, A + 0.1])
    torch.testing.assert_close(torch.func.vmap(of)(rows), torch.stack([of(row) for row in rows]))


def free_level(scale: float = 1.0) -> LinearGaussianSSM:
    """A local level with a diffuse start, for the level divided by `scale`."""
    one = torch.eye(1, dtype=torch.float64)
    level = LinearGaussianSSM(torch.zeros(1), 0 * one, one, one / scale**2, scale * one, one, diffuse=[True])
    return level.double()


def test_a_fit_whose_likelihood_has_no_bound_names_the_matrix() -> None:
    x = torch.randn(3, 20, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(1)
    units = [float(free_level(scale).log_marginal_likelihood(x).sum().detach()) for scale in (1.0, 0.1, 1e-3)]
    assert units[1] - units[0] == pytest.approx(3 * math.log(10))  # log s for each sequence, without an end
    assert units[2] - units[0] == pytest.approx(3 * math.log(1000))
    kept = ("initial_mean", "transition_matrix", "emission_matrix")
    with pytest.warns(em.EmWarning, match=r"no bound while emission_matrix can shrink.* Keep .* by frozen=.'emission"):
        em.fit(free_level(), x, frozen=kept[:2], num_iterations=3, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", em.EmWarning)
        em.fit(free_level(), x, frozen=kept, num_iterations=3, progress=False)  # the control


def test_a_slope_that_only_the_transition_shows_has_no_unit_either() -> None:
    two = torch.eye(2, dtype=torch.float64)
    moves, level = torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    trend = LinearGaussianSSM(torch.zeros(2), 0 * two, moves, 0.1 * two, level, torch.eye(1), diffuse=[True, True])
    x = torch.randn(3, 20, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(1)
    with pytest.warns(em.EmWarning, match="no bound while transition_matrix can shrink"):
        em.fit(trend.double(), x, frozen=("emission_matrix",), num_iterations=2, progress=False)
