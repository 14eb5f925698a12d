"""The Kalman engine against the big joint normal law, and its nonlinear methods against quadrature."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.inference import kalman
from pgm_rnn.kernels import gaussian_backward
from pgm_rnn.kernels.precision import rounded
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.noisy_rnn import NoisyRNN
from pgm_rnn.sequences import length_mask
from tests.definitions import JointNormal, joint_normal
from tests.instances import randomised

DIM, OBS_DIM, INPUT_DIM = 3, 2, 2
LENGTHS = torch.tensor([4, 1, 3])


def make_lgssm(inputs: bool = False, seed: int = 0) -> LinearGaussianSSM:
    model = LinearGaussianSSM.random(DIM, OBS_DIM, input_dim=INPUT_DIM if inputs else None, seed=seed)
    return randomised(model, seed)


def joint(model: LinearGaussianSSM, u: Tensor | None, length: int) -> tuple[JointNormal, Tensor]:
    """The joint law of one sequence with inputs u (T, U), and what inputs add to its observations, (T M,)."""
    zero = [torch.zeros(DIM), torch.zeros(OBS_DIM)]
    added = [(zero[0], zero[1])] * length
    if u is not None and model.input_matrix is not None and model.feedthrough_matrix is not None:
        added = [(model.input_matrix @ u_t, model.feedthrough_matrix @ u_t) for u_t in u[:length]]
    A, C = model.transition_matrix.detach(), model.emission_matrix.detach()
    moves = [(A, state, model.transition_cov) for state, _ in added[1:]]
    sees = [(C, model.emission_cov)] * length
    law = joint_normal((model.initial_mean, model.initial_cov), moves, sees)
    return JointNormal(*(part.detach() for part in law)), torch.cat([seen for _, seen in added]).detach()


@pytest.mark.parametrize("with_inputs", [False, True])
@pytest.mark.parametrize("with_missing", [False, True])
@pytest.mark.parametrize("method", [None, "extended", "unscented", "iterated"])
def test_every_moment_is_that_of_the_big_joint_normal_law(
    with_inputs: bool, with_missing: bool, method: str | None
) -> None:
    model = make_lgssm(with_inputs)
    x, u = torch.randn(3, 4, OBS_DIM), torch.randn(3, 4, INPUT_DIM) if with_inputs else None
    observed = torch.rand(x.shape) > 0.3 if with_missing else torch.ones_like(x) > 0
    result = kalman.smooth(model, x.where(observed, torch.nan), LENGTHS, inputs=u, method=method)
    for b, length in enumerate(LENGTHS.tolist()):
        law, added = joint(model, None if u is None else u[b], length)
        values, seen = x[b, :length].flatten() - added, observed[b, :length].flatten()
        expected = law.log_prob(values, seen) if seen.any() else torch.tensor(0.0)
        torch.testing.assert_close(result.log_marginal_likelihood[b], expected)
        mean, cov = law.states_given(values, seen)
        blocks = cov.reshape(length, DIM, length, DIM)
        torch.testing.assert_close(result.smoothed_means[b, :length], mean.reshape(length, DIM))
        for t in range(length):
            torch.testing.assert_close(result.smoothed_covs[b, t], blocks[t, :, t])
            if t + 1 < length:
                torch.testing.assert_close(result.pairwise_covs[b, t], blocks[t, :, t + 1])
            until = seen & (torch.arange(len(seen)) < OBS_DIM * (t + 1))
            mean_t, cov_t = law.states_given(values, until)
            torch.testing.assert_close(result.filtered_means[b, t], mean_t.reshape(length, DIM)[t])
            torch.testing.assert_close(result.filtered_covs[b, t], cov_t.reshape(length, DIM, length, DIM)[t, :, t])
            before = seen & (torch.arange(len(seen)) < OBS_DIM * t)
            mean_t, cov_t = law.states_given(values, before)
            torch.testing.assert_close(result.predicted_means[b, t], mean_t.reshape(length, DIM)[t])
            torch.testing.assert_close(result.predicted_covs[b, t], cov_t.reshape(length, DIM, length, DIM)[t, :, t])
        for padded in (result.smoothed_means, result.smoothed_covs, result.filtered_means, result.filtered_covs):
            assert not padded[b, length:].any()


@pytest.mark.parametrize("method", [None, "extended", "unscented", "iterated"])
def test_a_forecast_is_the_joint_law_of_what_follows(method: str | None) -> None:
    model, x = make_lgssm(inputs=True), torch.randn(3, 4, OBS_DIM)
    u, ahead = torch.randn(3, 4, INPUT_DIM), torch.randn(3, 2, INPUT_DIM)
    result = kalman.forecast(model, x, 2, LENGTHS, inputs=u, future_inputs=ahead, method=method)
    for b, length in enumerate(LENGTHS.tolist()):
        total = length + 2
        law, added = joint(model, torch.cat([u[b, :length], ahead[b]]), total)
        values = torch.cat([x[b, :length].flatten(), torch.zeros(2 * OBS_DIM)]) - added
        mean, cov = law.states_given(values, torch.arange(total * OBS_DIM) < length * OBS_DIM)
        for n in range(2):
            t = length + n
            state, state_cov = mean.reshape(total, DIM)[t], cov.reshape(total, DIM, total, DIM)[t, :, t]
            C, R = model.emission_matrix.detach(), model.emission_cov.detach()
            torch.testing.assert_close(result.state_means[b, n], state)
            torch.testing.assert_close(result.state_covs[b, n], state_cov)
            torch.testing.assert_close(result.means[b, n], C @ state + added.reshape(total, OBS_DIM)[t])
            torch.testing.assert_close(result.covs[b, n], C @ state_cov @ C.T + R)


def test_a_models_own_forecasts_are_draws_from_that_law() -> None:
    limit, num_samples = 5.0, 20_000  # standard errors, draws
    model, x = make_lgssm(), torch.randn(3, 4, OBS_DIM)
    law = kalman.forecast(model, x, 2, LENGTHS)
    draws = model.forecast(x, 2, lengths=LENGTHS, num_samples=num_samples, seed=0).x
    errors = (law.covs.diagonal(dim1=-2, dim2=-1) / num_samples).sqrt()
    assert float(((draws.mean(0) - law.means) / errors).abs().max()) < limit
    unconditional = kalman.forecast(model, 5 + x, 2, LENGTHS)
    assert float(((draws.mean(0) - unconditional.means) / errors).abs().max()) > limit


@pytest.mark.parametrize("method", [None, "extended", "unscented", "iterated"])
def test_the_likelihood_in_float64_does_not_depend_on_the_default_dtype(method: str | None) -> None:
    model, x = make_lgssm(), torch.randn(3, 4, OBS_DIM)
    x[0, 1, 0] = torch.nan
    expected = kalman.filter(model, x, LENGTHS, method=method).log_marginal_likelihood
    torch.set_default_dtype(torch.float32)
    found = kalman.filter(model, x, LENGTHS, method=method).log_marginal_likelihood
    slopes = kalman.log_marginal_likelihood(model, x, LENGTHS, method=method)
    assert torch.equal(found, expected)
    torch.testing.assert_close(slopes, expected, rtol=1e-13, atol=1e-13)


def test_a_mask_and_nan_say_the_same() -> None:
    model, x = make_lgssm(), torch.randn(3, 4, OBS_DIM)
    mask = torch.rand(x.shape) > 0.3
    by_nan = kalman.filter(model, x.where(mask, torch.nan), LENGTHS).log_marginal_likelihood
    by_mask = kalman.filter(model, x, LENGTHS, mask=mask).log_marginal_likelihood
    torch.testing.assert_close(by_nan, by_mask)
    torch.testing.assert_close(model.log_marginal_likelihood(x, LENGTHS, mask=mask).detach(), by_mask)
    steps = mask.any(-1)
    whole = kalman.filter(model, x, LENGTHS, mask=steps).log_marginal_likelihood
    both = kalman.filter(model, x, LENGTHS, mask=steps[..., None].expand(x.shape)).log_marginal_likelihood
    assert torch.equal(whole, both)


def test_paths_are_reproducible_and_have_the_smoothed_moments() -> None:
    limit, num_samples = 5.0, 10_000  # standard errors, draws
    model, x = make_lgssm(), torch.randn(3, 4, OBS_DIM)
    draws = kalman.sample_states(model, x, LENGTHS, num_samples=num_samples, seed=0)
    assert torch.equal(draws, kalman.sample_states(model, x, LENGTHS, num_samples=num_samples, seed=0))
    assert not torch.equal(draws, kalman.sample_states(model, x, LENGTHS, num_samples=num_samples, seed=1))
    result, inside = kalman.smooth(model, x, LENGTHS), length_mask(LENGTHS, 4)
    errors = (result.smoothed_covs.diagonal(dim1=-2, dim2=-1) / num_samples).sqrt()
    assert float(((draws.mean(0) - result.smoothed_means) / errors)[inside].abs().max()) < limit
    assert float(((draws.mean(0) - result.filtered_means) / errors)[inside].abs().max()) > limit


# Networks: what the nonlinear methods approximate, by quadrature in one dimension.


def small_network(noise: float) -> NoisyRNN:
    one = torch.eye(1)
    return NoisyRNN(
        torch.tensor([0.3]), noise * one, 1.2 * one, noise * one, 0.8 * one, 0.5 * one, 0.4 * one, output="sigmoid"
    )


GRID = torch.linspace(-10, 10, 1501, dtype=torch.float64)


def exact_filter(model: NoisyRNN, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x_{1:T}) and E(z_T | x_{1:T}) of one sequence (T, 1) on a grid of states."""
    step = float(GRID[1] - GRID[0])
    density = model.initial(None).log_prob(GRID[:, None]).exp()
    total = torch.zeros(())
    for t in range(len(x)):
        if t > 0:
            moves = model.transition(GRID[:, None], u[t].expand(len(GRID), -1))
            density = density @ moves.log_prob(GRID[:, None, None]).exp().T * step
        density = density * model.emission(GRID[:, None], None).log_prob(x[t]).exp()
        total = total + (density.sum() * step).log()
        density = density / (density.sum() * step)
    return total, (GRID * density).sum() * step


@pytest.mark.parametrize("method", ["extended", "unscented", "iterated"])
def test_nonlinear_methods_approach_the_exact_filter_as_the_state_becomes_certain(method: str) -> None:
    errors = []
    for noise in (0.04, 0.004):
        model, u = small_network(noise), torch.tensor([[0.0], [0.5], [-1.0], [0.2]])
        x = torch.tensor([[0.9], [0.2], [-0.4], [1.0]])
        value, mean = (number.detach() for number in exact_filter(model, x, u))
        result = kalman.filter(model, x[None], inputs=u[None], method=method)
        errors.append(
            max(
                abs(float(result.log_marginal_likelihood[0] - value)),
                abs(float(result.filtered_means[0, -1, 0] - mean)),
            )
        )
    assert errors[0] < 0.15
    assert errors[1] < errors[0] / 5  # the error of a linear function is of the order of the state's variance
    assert errors[0] > 1e-4  # and is not zero: this is no exact filter


def test_the_unscented_method_is_closer_where_the_state_is_uncertain() -> None:
    model, u = small_network(1.5), torch.zeros(4, 1)
    x = torch.tensor([[0.9], [0.2], [-0.4], [1.0]])
    value = exact_filter(model, x, u)[0].detach()
    found = {
        m: kalman.filter(model, x[None], inputs=u[None], method=m).log_marginal_likelihood[0]
        for m in ("extended", "unscented")
    }
    assert abs(float(found["unscented"] - value)) < abs(float(found["extended"] - value))


@pytest.mark.parametrize("method", ["extended", "unscented", "iterated"])
def test_a_network_with_identity_functions_is_linear(method: str) -> None:
    model = make_lgssm(inputs=True)
    network = NoisyRNN(
        model.initial_mean,
        model.initial_cov,
        model.transition_matrix,
        model.transition_cov,
        model.emission_matrix,
        model.emission_cov,
        model.input_matrix,
        activation="identity",
    )
    model.feedthrough_matrix = None
    x, u = torch.randn(3, 4, OBS_DIM), torch.randn(3, 4, INPUT_DIM)
    expected, result = (
        kalman.smooth(model, x, LENGTHS, inputs=u),
        kalman.smooth(network, x, LENGTHS, inputs=u, method=method),
    )
    for name in (
        "log_marginal_likelihood",
        "filtered_means",
        "filtered_covs",
        "smoothed_means",
        "smoothed_covs",
        "pairwise_covs",
    ):
        torch.testing.assert_close(getattr(result, name), getattr(expected, name))


@pytest.mark.parametrize("method", ["extended", "unscented"])
@pytest.mark.parametrize("dim", [1, 2, 3, 6])
def test_covariances_of_a_network_stay_positive(method: str, dim: int) -> None:
    model = NoisyRNN.random(dim, 2, feedback=True, output="sigmoid", seed=0)
    x = 5 * model.sample(4, 50, seed=0).x
    result = kalman.smooth(model, x, method=method)
    for covs in (result.predicted_covs, result.filtered_covs, result.smoothed_covs):
        torch.testing.assert_close(covs, covs.mT)
        assert float(torch.linalg.eigvalsh(covs).min()) > 0


def test_feedback_drives_the_state_by_the_observation_before() -> None:
    fed = NoisyRNN.random(DIM, OBS_DIM, feedback=True, seed=0)
    parts = (
        fed.initial_mean,
        fed.initial_cov,
        fed.transition_matrix,
        fed.transition_cov,
        fed.emission_matrix,
        fed.emission_cov,
        fed.input_matrix,
    )
    driven, x = NoisyRNN(*parts), torch.randn(3, 4, OBS_DIM)
    before = torch.cat([torch.zeros(3, 1, OBS_DIM), x[:, :-1]], 1)
    one = kalman.filter(fed, x, LENGTHS, method="extended").log_marginal_likelihood
    other = kalman.filter(driven, x, LENGTHS, inputs=before, method="extended").log_marginal_likelihood
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("method", ["extended", "unscented", "iterated"])
def test_the_gradient_of_the_approximate_likelihood_is_its_slope(method: str) -> None:
    model, x, size = NoisyRNN.random(2, 2, feedback=True, seed=0), torch.randn(3, 4, 2), 1e-5
    value = kalman.log_marginal_likelihood(model, x, LENGTHS, method=method).sum()
    parameters = list(model.parameters())
    found = torch.autograd.grad(value, parameters)
    directions = [torch.randn_like(p) for p in parameters]
    values = []
    for by in (size, -2 * size):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(by * d)
        values.append(float(kalman.log_marginal_likelihood(model, x, LENGTHS, method=method).detach().sum()))
    slope = (values[0] - values[1]) / (2 * size)
    assert slope == pytest.approx(sum(float((g * d).sum()) for g, d in zip(found, directions, strict=True)), rel=1e-6)


def test_the_exact_likelihood_has_gradients_too() -> None:
    model, x = make_lgssm(), torch.randn(3, 4, OBS_DIM)
    found = kalman.log_marginal_likelihood(model, x, LENGTHS).sum()
    torch.testing.assert_close(found, model.log_prob(x, lengths=LENGTHS).sum())
    assert found.requires_grad
    assert not kalman.filter(model, x).log_marginal_likelihood.requires_grad


# Bad input.


def test_a_model_without_gaussian_states_is_an_error_that_names_other_engines() -> None:
    with pytest.raises(TypeError, match="Gaussian states for kalman, HMM has finite states; use forward_backward"):
        kalman.filter(HMM.random(2, 3), torch.zeros(1, 2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {},
            ValueError,
            "expected method='extended', 'unscented' or 'iterated' for NoisyRNN, which is not linear, got None",
        ),
        ({"method": "exact"}, ValueError, "expected method to be one of extended, unscented, iterated, got 'exact'"),
        ({"method": "unscentd"}, ValueError, "did you mean 'unscented'"),
        ({"method": "extended", "inputs": torch.zeros(1, 3, 1)}, ValueError, "expected no inputs"),
    ],
)
def test_a_network_needs_a_method(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kalman.filter(NoisyRNN.random(2, 2, seed=0), torch.zeros(1, 3, 2), **options)


def test_observations_that_do_not_fit_are_errors() -> None:
    model, x = make_lgssm(), torch.randn(3, 4, OBS_DIM)
    bad = x.clone()
    bad[1, 2, 0] = torch.inf
    with pytest.raises(ValueError, match="expected finite real numbers, got inf in sequence 1 at step 3"):
        kalman.filter(model, bad)
    bad[1, 2, 0] = torch.nan
    with pytest.raises(ValueError, match="expected numbers where the mask is True, got nan in sequence 1 at step 3"):
        kalman.filter(model, bad, mask=torch.ones(3, 4) > 0)
    with pytest.raises(ValueError, match=r"expected mask of shape \(3, 4\) or \(3, 4, 2\), got \(3, 3\)"):
        kalman.filter(model, x, mask=torch.ones(3, 3) > 0)
    with pytest.raises(TypeError, match="expected mask as a tensor of truth values"):
        kalman.filter(model, x, mask=torch.ones(3, 4))
    with pytest.raises(ValueError, match=r"expected inputs of shape \(3, 4, 2\), .*, got None; give inputs=\.\.\."):
        kalman.filter(make_lgssm(inputs=True), x)
    with pytest.raises(TypeError, match=r"expected inputs as real numbers, got torch\.complex128"):
        kalman.filter(make_lgssm(inputs=True), x, inputs=torch.zeros(3, 4, 2, dtype=torch.complex128))
    with pytest.raises(ValueError, match=r"expected x of shape \(batch, T, 2\), got \(3, 4\)"):
        kalman.filter(model, x[..., 0])


def test_a_model_that_reads_its_observations_needs_all_of_them() -> None:
    network, x = NoisyRNN.random(2, 2, feedback=True, seed=0), torch.randn(1, 3, 2)
    x[0, 1, 0] = torch.nan
    with pytest.raises(
        ValueError, match="expected no missing observations, because NoisyRNN reads each at the next step"
    ):
        kalman.filter(network, x, method="extended")
    with pytest.raises(ValueError, match="expected a model that does not read its own observations, got NoisyRNN; use"):
        kalman.forecast(network, torch.zeros(1, 3, 2), 2, method="extended")


def test_a_prediction_without_a_covariance_is_a_named_error() -> None:
    model, x = make_lgssm(), torch.zeros(2, 3, OBS_DIM)
    with torch.no_grad():
        model.emission_covariance.raw.fill_diagonal_(-60.0)
        model.emission_matrix.zero_()
    single = copy.deepcopy(model).float()  # whose smallest variance is larger
    R = single.emission_cov.detach().double()
    expected = torch.distributions.MultivariateNormal(x[0, 0], R).log_prob(x)
    torch.testing.assert_close(kalman.filter(single, x.float()).log_normalizers.double(), expected, rtol=1e-6, atol=0)
    with pytest.raises(kalman.CovarianceError, match="got one that is not for sequence 0 at step 1; use larger"):
        kalman.filter(model, x)


@pytest.mark.parametrize("noise", [1e-2, 1e-10])
def test_single_precision_smooths_and_draws_after_a_vague_start_as_double_precision_does(noise: float) -> None:
    single = LinearGaussianSSM(
        torch.zeros(2, dtype=torch.float32),
        1e6 * torch.eye(2, dtype=torch.float32),
        torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float32),
        noise * torch.eye(2, dtype=torch.float32),
        torch.tensor([[1.0, 0.0]], dtype=torch.float32),
        torch.tensor([[0.01]], dtype=torch.float32),
    )
    exact = copy.deepcopy(single).double()
    x = exact.sample(2, 500, seed=1).x.float()
    x = x - x[:, :1]  # near the mean of the start
    found, expected = kalman.smooth(single, x), kalman.smooth(exact, x.double())
    for name in ("log_marginal_likelihood", "smoothed_means", "smoothed_covs", "pairwise_covs"):
        mine, its = getattr(found, name), getattr(expected, name)
        assert mine.dtype == torch.float32
        axes = (-2, -1) if its.dim() == 4 else tuple(range(its.dim()))  # each covariance by itself
        assert bool(((mine.double() - its).square().sum(axes) <= 1e-12 * its.square().sum(axes)).all())
    draws = kalman.sample_states(single, x, num_samples=50, seed=0)
    assert draws.dtype == torch.float32
    means, sds = found.smoothed_means, found.smoothed_covs.diagonal(dim1=-2, dim2=-1).sqrt()
    ratios = ((draws - means).std(0) / sds)[:, 0]  # later means are so large that rounding exceeds the deviations
    assert bool(((ratios > 0.5) & (ratios < 1.6)).all())  # five standard errors of a deviation from fifty draws
    moments = rounded(found.moments, torch.float32)  # the control: back from what was rounded
    gains = gaussian_backward.backward(moments).gain.double() - gaussian_backward.backward(expected.moments).gain
    assert float(gains.abs().max()) > 1e-2


@pytest.mark.parametrize("method", ["extended", "unscented", "iterated"])
def test_a_linearised_filter_keeps_the_digits_of_single_precision(method: str) -> None:
    one = torch.ones(1, 1, dtype=torch.float32)
    start, A, C = (
        torch.zeros(2, dtype=torch.float32),
        torch.tensor([[1.0, 1.0], [0.0, 1.0]]),
        torch.tensor([[1.0, 0.0]]),
    )
    unit = torch.eye(2, dtype=torch.float32)
    single = LinearGaussianSSM(start, 1e6 * unit, A.float(), 1e-6 * unit, C.float(), 0.01 * one)
    exact = copy.deepcopy(single).double()
    x = torch.randn(2, 500, 1).float()
    found = kalman.filter(single, x, method=method)
    expected = kalman.filter(exact, x.double())  # the same law, by the exact recursions in double precision
    torch.testing.assert_close(
        found.log_marginal_likelihood.double(), expected.log_marginal_likelihood, rtol=1e-5, atol=0
    )
    assert found.filtered_means.dtype == found.filtered_covs.dtype == torch.float32
    errors = (found.filtered_covs.double() - expected.filtered_covs).square().sum((-2, -1)).sqrt()
    least = 1e-4 if method == "unscented" else 1e-6  # its points are rounded before the law sees them
    assert bool((errors <= least * expected.filtered_covs.square().sum((-2, -1)).sqrt()).all())
