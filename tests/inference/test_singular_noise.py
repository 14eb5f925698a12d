"""Models whose noise does not reach every direction: the textbook's structural models, against the big joint law."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import pgm_rnn
from pgm_rnn.distributions.singular_normal import SingularNormal
from pgm_rnn.inference import em, kalman, smc, svi
from pgm_rnn.models import LinearGaussianSSM, NoisyRNN
from pgm_rnn.sequence_model.chains import CovarianceError
from tests.definitions import JointNormal, joint_normal

NUM_STEPS = 5
LENGTHS = torch.tensor([5, 1, 3])
ONE = torch.eye(1, dtype=torch.float64)


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def rank_one(size: int, seed: int) -> Tensor:
    root = torch.randn(size, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return root @ root.mT


def deterministic_level() -> LinearGaussianSSM:
    """A constant seen with noise."""
    return LinearGaussianSSM(torch.zeros(1), 2 * ONE, ONE, 0 * ONE, ONE, 0.5 * ONE)


def smooth_trend() -> LinearGaussianSSM:
    """A level without noise of its own, whose slope walks."""
    A, P = matrix([1, 1], [0, 1]), matrix([2, 0.3], [0.3, 1])
    return LinearGaussianSSM(torch.zeros(2), P, A, matrix([0, 0], [0, 0.3]), matrix([1, 0]), 0.5 * ONE)


def autoregression() -> LinearGaussianSSM:
    """AR(2) in companion form, seen without noise; what came before x_1 is unknown."""
    A, Q = matrix([0.5, -0.3], [1, 0]), matrix([0.8, 0], [0, 0])
    return LinearGaussianSSM(torch.zeros(2), torch.eye(2), A, Q, matrix([1, 0]), 0 * ONE)


def seasonal() -> LinearGaussianSSM:
    """A level and four seasons as dummies; the first level is known."""
    A = matrix([1, 0, 0, 0], [0, -1, -1, -1], [0, 1, 0, 0], [0, 0, 1, 0])
    P, Q = torch.diag(torch.tensor([0.0, 1, 2, 3])), torch.diag(torch.tensor([0.4, 0.2, 0, 0]))
    return LinearGaussianSSM(torch.ones(4), P, A, Q, matrix([1, 1, 0, 0]), 0.5 * ONE)


def oblique() -> LinearGaussianSSM:
    """Noise of rank one along oblique directions, of the states, of the first state and of the observations."""
    generator = torch.Generator().manual_seed(3)
    A, C = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64) / 2
    P = rank_one(3, 1) + rank_one(3, 2)
    return LinearGaussianSSM(torch.ones(3), P, A, rank_one(3, 4), C[:2], rank_one(2, 5))


MODELS: dict[str, Callable[[], LinearGaussianSSM]] = {
    make.__name__: make for make in (deterministic_level, smooth_trend, autoregression, seasonal, oblique)
}
every_model = pytest.mark.parametrize("name", MODELS)


def joint(model: LinearGaussianSSM, length: int) -> JointNormal:
    move = (model.transition_matrix, torch.zeros(model.latent_dim), model.transition_cov)
    initial, see = (model.initial_mean, model.initial_cov), (model.emission_matrix, model.emission_cov)
    return joint_normal(initial, [move] * (length - 1), [see] * length)


def drawn(model: LinearGaussianSSM, missing: bool = False) -> tuple[Tensor, Tensor]:
    """Observations and which of them are seen."""
    x = model.sample(3, NUM_STEPS, seed=1).x
    return x, torch.rand(x.shape) > 0.3 if missing else torch.ones_like(x) > 0


@every_model
def test_the_ranks_of_the_covariances_are_kept(name: str) -> None:
    model = MODELS[name]()
    expected = {
        "deterministic_level": [1, 0, 1], "smooth_trend": [2, 1, 1], "autoregression": [2, 1, 0],
        "seasonal": [3, 2, 1], "oblique": [2, 1, 1],
    }  # fmt: skip
    assert model.ranks == expected[name]
    covs = (model.initial_cov, model.transition_cov, model.emission_cov)
    found = [int(torch.linalg.matrix_rank(cov)) for cov in covs]
    assert found == expected[name]
    if name == "oblique":
        torch.testing.assert_close(model.transition_cov.detach(), rank_one(3, 4))
        torch.testing.assert_close(model.initial_cov.detach(), rank_one(3, 1) + rank_one(3, 2))


@every_model
@pytest.mark.parametrize("missing", [False, True])
def test_value_and_gradient_are_those_of_the_big_joint_normal_law(name: str, missing: bool) -> None:
    model = MODELS[name]()
    x, seen = drawn(model, missing)
    rows = zip(x, seen, LENGTHS.tolist(), strict=True)
    zero = torch.zeros(())
    expected = torch.stack(
        [joint(model, n).log_prob(r[:n].flatten(), s[:n].flatten()) if s[:n].any() else zero for r, s, n in rows]
    )
    found = model.log_marginal_likelihood(x, LENGTHS, mask=seen)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(kalman.filter(model, x, LENGTHS, mask=seen).log_marginal_likelihood, expected.detach())
    names, parameters = zip(*model.named_parameters(), strict=True)
    got = torch.autograd.grad(found.sum(), parameters)
    wanted = torch.autograd.grad(expected.sum(), parameters)
    for which, a, b in zip(names, got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8, msg=which)


@every_model
@pytest.mark.parametrize("missing", [False, True])
def test_every_moment_is_that_of_the_big_joint_normal_law(name: str, missing: bool) -> None:
    model = MODELS[name]()
    x, seen = drawn(model, missing)
    result, dim = kalman.smooth(model, x, LENGTHS, mask=seen), model.latent_dim
    for b, length in enumerate(LENGTHS.tolist()):
        law = JointNormal(*(part.detach() for part in joint(model, length)))
        values, known = x[b, :length].flatten(), seen[b, :length].flatten()
        mean, cov = law.states_given(values, known)
        blocks = cov.reshape(length, dim, length, dim)
        torch.testing.assert_close(result.smoothed_means[b, :length], mean.reshape(length, dim))
        for t in range(length):
            torch.testing.assert_close(result.smoothed_covs[b, t], blocks[t, :, t], atol=1e-10, rtol=1e-7)
            if t + 1 < length:
                torch.testing.assert_close(result.pairwise_covs[b, t], blocks[t, :, t + 1], atol=1e-10, rtol=1e-7)
            until = known & (torch.arange(len(known)) < model.obs_dim * (t + 1))
            mean, cov = law.states_given(values, until)
            torch.testing.assert_close(result.filtered_means[b, t], mean.reshape(length, dim)[t])


@every_model
def test_paths_have_the_smoothed_moments_and_obey_the_exact_equations(name: str) -> None:
    limit, num_samples = 5.0, 10_000  # standard errors, draws
    model = MODELS[name]()
    x, _ = drawn(model)
    result = kalman.smooth(model, x)
    paths = kalman.sample_states(model, x, num_samples=num_samples, seed=0)
    variances = result.smoothed_covs.diagonal(dim1=-2, dim2=-1)
    uncertain = variances > 1e-10
    errors = (variances / num_samples).sqrt()
    deviation = paths.mean(0) - result.smoothed_means
    assert float(deviation[~uncertain].abs().sum()) < 1e-5
    assert float((deviation / errors)[uncertain].abs().max()) < limit if uncertain.any() else name == "autoregression"
    A, C = model.transition_matrix.detach(), model.emission_matrix.detach()
    for cov, residual in (
        (model.transition_cov, paths[:, :, 1:] - paths[:, :, :-1] @ A.mT),
        (model.emission_cov, x - paths @ C.mT),
    ):
        values, vectors = torch.linalg.eigh(cov.detach())
        exact = residual @ vectors[:, values < 1e-12]  # directions without noise
        assert float(exact.abs().sum()) < 1e-6 * max(1, exact.numel())
    drawn_states = model.sample(4, NUM_STEPS, seed=3)
    assert drawn_states.z is not None
    values, vectors = torch.linalg.eigh(model.transition_cov.detach())
    residual = (drawn_states.z[:, 1:] - drawn_states.z[:, :-1] @ A.mT) @ vectors[:, values < 1e-12]
    assert float(residual.abs().max() if residual.numel() else 0.0) < 1e-12


@every_model
def test_forecasts_follow_the_joint_law_and_the_draws_follow_them(name: str) -> None:
    limit, num_samples = 5.0, 10_000  # standard errors, draws
    model = MODELS[name]()
    x, _ = drawn(model)
    law = kalman.forecast(model, x, 2)
    for b in range(3):
        whole = JointNormal(*(part.detach() for part in joint(model, NUM_STEPS + 2)))
        values = torch.cat([x[b].flatten(), torch.zeros(2 * model.obs_dim)])
        mean, _ = whole.states_given(values, torch.arange(len(values)) < NUM_STEPS * model.obs_dim)
        torch.testing.assert_close(law.state_means[b], mean.reshape(-1, model.latent_dim)[-2:])
    draws = model.forecast(x, 2, num_samples=num_samples, seed=0).x
    errors = (law.covs.diagonal(dim1=-2, dim2=-1) / num_samples).sqrt()
    assert float(((draws.mean(0) - law.means) / errors).abs().max()) < limit


@every_model
def test_the_joint_density_is_finite_at_possible_states_and_zero_off_their_plane(name: str) -> None:
    model = MODELS[name]()
    x, _ = drawn(model)
    z = kalman.sample_states(model, x, seed=0)[0]
    joint_density = model.log_prob(x, z)
    assert joint_density.isfinite().all()
    if name == "autoregression":
        return  # nothing is left unknown of z_2, ..., z_T
    off = z + torch.tensor([float(t) for t in range(NUM_STEPS)])[:, None] ** 2
    assert (model.log_prob(x, off) == -torch.inf).all()


@every_model
def test_gradient_steps_keep_the_ranges(name: str) -> None:
    model = MODELS[name]()
    truth = copy.deepcopy(model)
    with torch.no_grad():
        model.transition_covariance.raw.add_(0.7)
        model.initial_covariance.raw.add_(0.7)
    x = truth.sample(20, 8, seed=1).x
    before, ranks = model.log_prob(x).sum().detach(), model.ranks
    svi.fit(model, x, objective="mle", num_epochs=10, learning_rate=0.01, progress=False)
    assert float(model.log_prob(x).sum().detach()) > float(before)
    assert model.ranks == ranks
    for one, other in zip(model.ranges.values(), truth.ranges.values(), strict=True):
        assert torch.equal(one, other)


@every_model
@pytest.mark.parametrize("missing", [False, True])
def test_em_never_lowers_the_likelihood_and_keeps_what_is_exact(name: str, missing: bool) -> None:
    truth, model = MODELS[name](), MODELS[name]()
    x = truth.sample(30, 8, seed=1).x
    if missing:
        x = x.where(torch.rand(x.shape) > 0.2, torch.nan)
    with torch.no_grad():
        model.transition_covariance.raw.add_(0.4)
        model.initial_covariance.raw.add_(0.4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", em.EmWarning)  # noise held at its floor is not the subject here
        result = em.fit(model, x, num_iterations=15, tolerance=0.0, progress=False)
    assert result.stopped_by != "decrease"
    assert float(result.log_likelihoods.diff().min()) > -1e-7
    assert float(result.log_likelihoods.diff()[0]) > 0.1
    assert model.ranks == truth.ranks
    values, vectors = torch.linalg.eigh(truth.transition_cov.detach())
    exact = vectors[:, values < 1e-12]
    torch.testing.assert_close(exact.mT @ model.transition_matrix.detach(), exact.mT @ truth.transition_matrix.detach())
    clean, seen = x.nan_to_num(), ~x.isnan()
    torch.testing.assert_close(
        result.log_likelihoods[-1], model.log_marginal_likelihood(clean, mask=seen).sum().detach()
    )


def test_em_of_an_autoregression_seen_without_noise_is_least_squares() -> None:
    model = autoregression()
    model = LinearGaussianSSM(
        torch.zeros(2), matrix([1, 0], [0, 0]), model.transition_matrix, model.transition_cov,
        model.emission_matrix, model.emission_cov,
    )  # fmt: skip  # x_0 = 0 is known, so that every regressor is
    x = model.sample(6, 30, seed=1).x
    before = torch.cat([torch.zeros(6, 1), x[..., 0]], dim=1)  # x_0, ..., x_T
    regressors = torch.stack([before[:, 1:-1], before[:, :-2]], dim=-1).reshape(-1, 2)
    targets = before[:, 2:].reshape(-1)
    expected = torch.linalg.lstsq(regressors, targets[:, None]).solution[:, 0]
    em.fit(model, x, num_iterations=1, progress=False)
    torch.testing.assert_close(model.transition_matrix.detach(), torch.stack([expected, torch.tensor([1.0, 0])]))
    residual = targets - regressors @ expected
    assert float(model.transition_cov[0, 0].detach()) == pytest.approx(float(residual.square().mean()))


def test_particles_weigh_a_model_without_noise_on_its_level() -> None:
    model, limit = smooth_trend(), 5.0  # standard errors
    x = model.sample(2, 6, seed=1).x
    exact = model.log_prob(x).detach()
    runs = [smc.filter(model, x, num_particles=2000, seed=seed).log_marginal_likelihood for seed in range(20)]
    ratios = (torch.stack(runs) - exact).exp()
    errors = ratios.std(0) / 20**0.5
    assert float(((ratios.mean(0) - 1) / errors).abs().max()) < limit
    assert float(((ratios.mean(0) - 1.5) / errors).abs().min()) > limit


@every_model
def test_a_model_comes_back_from_its_file_with_its_ranges(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    x, _ = drawn(model)
    pgm_rnn.save_model(model, tmp_path / "model")
    again = pgm_rnn.load_model(tmp_path / "model")
    assert isinstance(again, LinearGaussianSSM)
    assert again.ranks == model.ranks
    assert torch.equal(again.log_prob(x), model.log_prob(x))
    single = copy.deepcopy(model).float()
    torch.testing.assert_close(single.log_prob(x.float()).double(), model.log_prob(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["extended", "unscented", "iterated"])
def test_approximate_filters_take_singular_noise(method: str) -> None:
    linear = oblique()
    parts = {name: part for name, part in linear.moments().items() if name != "feedthrough_matrix"}
    network = NoisyRNN(**parts, activation="identity")  # type: ignore[arg-type]
    x, _ = drawn(linear)
    expected, found = kalman.smooth(linear, x, LENGTHS), kalman.smooth(network, x, LENGTHS, method=method)
    for which in ("log_marginal_likelihood", "smoothed_means", "smoothed_covs", "pairwise_covs"):
        torch.testing.assert_close(getattr(found, which), getattr(expected, which), atol=1e-9, rtol=1e-7)


# What is determined, and what is no covariance.


def test_an_observation_that_is_known_before_it_is_seen_is_an_error_at_its_step() -> None:
    constant = LinearGaussianSSM(torch.zeros(1), ONE, ONE, 0 * ONE, ONE, 0 * ONE)
    x = torch.ones(2, 3, 1)
    runs: list[Callable[[Tensor], object]] = [constant.log_prob, lambda x: kalman.filter(constant, x)]
    for run in [*runs, lambda x: kalman.log_marginal_likelihood(constant, x)]:
        with pytest.raises(
            CovarianceError, match="sequence 0 at step 2, where the covariance of the prediction is sing"
        ):
            run(x)
    torch.testing.assert_close(constant.log_prob(x[:, :1]), dist.Normal(0.0, 1.0).log_prob(x[:, 0, 0]))
    late = torch.tensor([[True, False, False], [False, True, True]])
    with pytest.raises(CovarianceError, match="sequence 1 at step 3"):
        constant.log_marginal_likelihood(x, mask=late)


def test_a_variance_that_is_only_rounding_counts_as_none() -> None:
    """Rounding leaves variances of 1e-33 or so; a density from them would be off by dozens of nats."""
    A = torch.linalg.qr(torch.randn(2, 2)).Q
    rotating = LinearGaussianSSM(torch.zeros(2), torch.eye(2), A, torch.zeros(2, 2), matrix([1, 0.5]), 0 * ONE)
    x = rotating.sample(1, 4, seed=0).x
    with pytest.raises(CovarianceError, match="sequence 0 at step 3"):  # two observations determine two states
        rotating.log_prob(x)
    assert rotating.log_prob(x[:, :2]).isfinite().all()


@pytest.mark.parametrize(
    ("cov", "message"),
    [
        (
            matrix([1, 2], [2, 1]),
            "expected transition_cov to be positive semidefinite, got a smallest eigenvalue of -1",
        ),
        (matrix([1, 0], [0, -1]), "expected transition_cov to be positive semidefinite"),
        (matrix([0, 1], [1, 0]), "expected transition_cov to be positive semidefinite"),
        (matrix([1, 0.5], [0, 1]), "expected transition_cov to be a symmetric matrix"),
    ],
)
def test_what_is_no_covariance_is_refused(cov: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearGaussianSSM(torch.zeros(2), torch.eye(2), torch.eye(2), cov, matrix([1, 0]), ONE)


def test_a_covariance_is_replaced_within_its_range_only() -> None:
    model = smooth_trend()
    model.set_moments({"transition_cov": matrix([0, 0], [0, 7.0])})
    torch.testing.assert_close(model.transition_cov.detach(), matrix([0, 0], [0, 7.0]))
    with pytest.raises(
        ValueError,
        match="expected transition_cov with the same range as the model's singular covariance, of dimension 1",
    ):
        model.set_moments({"transition_cov": torch.eye(2)})
    torch.testing.assert_close(model.transition_cov.detach(), matrix([0, 0], [0, 7.0]))


# The law itself.


def test_the_density_of_a_singular_law_is_that_on_its_plane() -> None:
    root = torch.randn(3, 2)
    law = SingularNormal(torch.randn(4, 3), root)
    coordinates = torch.randn(4, 2)
    basis = torch.linalg.qr(root).Q
    inner = dist.MultivariateNormal(torch.zeros(2), (basis.mT @ root) @ (basis.mT @ root).mT)
    expected = inner.log_prob(coordinates)
    torch.testing.assert_close(law.log_prob(law.loc + coordinates @ basis.mT), expected)
    assert (law.log_prob(law.loc + torch.linalg.cross(root[:, 0], root[:, 1])) == -torch.inf).all()
    regular = torch.randn(3, 3)
    torch.testing.assert_close(
        SingularNormal(torch.zeros(3), regular).log_prob(torch.ones(3)),
        dist.MultivariateNormal(torch.zeros(3), regular @ regular.mT).log_prob(torch.ones(3)),
    )
    sure = SingularNormal(torch.ones(2), torch.zeros(2, 0))
    assert sure.log_prob(torch.tensor([[1.0, 1], [1, 2]])).tolist() == [0.0, -torch.inf]
    assert torch.equal(sure.sample((5,)), torch.ones(5, 2))


def test_a_root_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"and root \(\*batch, D, r\), got \(3,\) and \(2, 1\)"):
        SingularNormal(torch.zeros(3), torch.zeros(2, 1))
