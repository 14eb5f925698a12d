"""Standard errors against finite differences of a textbook filter, closed forms, autograd and repeated data."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import em, information
from pgm_rnn.inference.information import observed_information, standard_errors
from pgm_rnn.models import HMM, RNN, LinearGaussianSSM, NoisyRNN
from pgm_rnn.models.markov_chain import MarkovChain
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.parameters import call_with, current_parameters
from pgm_rnn.sequences import Sequences, as_sequences
from tools.published.data import NILE
from tools.published.series import NILE_VARIANCES

Array = NDArray[np.float64]


def textbook_nats(variances: Array, x: Array) -> float:
    """-log p(x_{2:T} | x_1) of the local level model with a diffuse start: Durbin & Koopman (2012), sec. 2.9."""
    noise, step = variances
    level, uncertainty, nats = x[0], noise + step, 0.0
    for value in x[1:]:
        total = uncertainty + noise
        nats += 0.5 * (np.log(2 * np.pi * total) + (value - level) ** 2 / total)
        gain = uncertainty / total
        level, uncertainty = level + gain * (value - level), uncertainty * (1 - gain) + step
    return float(nats)


def textbook_errors(variances: Array, x: Array) -> Array:
    """Standard errors of both variances by central second differences of `textbook_nats`."""
    steps = np.diag(1e-3 * variances)

    def nats(*moves: Array) -> float:
        return textbook_nats(variances + sum(moves), x)

    information = [
        [(nats(a, b) - nats(a, -b) - nats(-a, b) + nats(-a, -b)) / (4 * a.sum() * b.sum()) for b in steps]
        for a in steps
    ]
    return np.sqrt(np.diag(np.linalg.inv(np.array(information))))


def local_level(noise: float, step: float) -> LinearGaussianSSM:
    one = torch.eye(1)
    model = LinearGaussianSSM(torch.zeros(1), 0 * one, one, step * one, one, noise * one, diffuse=[True])
    for name in ("initial_mean", "transition_matrix", "emission_matrix"):
        getattr(model, name).requires_grad_(False)
    return model


def errors_of(model: SequenceModel, data: Sequences, **quantities: Callable[[], Tensor]) -> dict[str, Tensor]:
    return standard_errors(*observed_information(model, data), quantities)


def variances_of(model: LinearGaussianSSM) -> Tensor:
    return torch.cat([model.emission_cov.reshape(1), model.transition_cov.reshape(1)])


def test_the_nile_has_the_variances_and_standard_errors_of_a_textbook_filter() -> None:
    x = np.array(NILE, dtype=float)
    start, exact = np.log(np.array([10_000.0, 1000.0])), {"xatol": 1e-9, "fatol": 1e-10}
    found = minimize(lambda logs: textbook_nats(np.exp(logs), x), start, method="Nelder-Mead", options=exact)  # type: ignore[call-overload]
    best = np.exp(found.x)
    assert best == pytest.approx(list(NILE_VARIANCES.values()), rel=1e-4)
    model = local_level(*best)
    errors = errors_of(model, as_sequences(torch.tensor(x)[None, :, None]), variances=lambda: variances_of(model))
    assert errors["variances"].numpy() == pytest.approx(textbook_errors(best, x), rel=1e-4)
    # statsmodels 0.15, UnobservedComponents("llevel", use_exact_diffuse=True), cov_type="approx"
    assert errors["variances"].tolist() == pytest.approx([3145.55, 1280.38], rel=1e-4)
    twice = as_sequences(torch.tensor(x)[None, :, None].repeat(2, 1, 1))
    halved = errors_of(model, twice, variances=lambda: variances_of(model))["variances"]
    assert halved.numpy() == pytest.approx(textbook_errors(best, x) / 2**0.5, rel=1e-4)
    assert halved.numpy() != pytest.approx(textbook_errors(best, x), rel=0.1)  # other data have other errors


def test_matrices_that_only_their_product_determines_have_no_standard_errors() -> None:
    """x has the law of C z: C and the variances of z may be scaled against each other, the noise of x may not."""
    one = torch.eye(1)
    x = LinearGaussianSSM(torch.zeros(1), 2 * one, 0.8 * one, one, one, 0.5 * one).sample(20, 30, seed=0).x
    model = LinearGaussianSSM(torch.zeros(1), 2 * one, 0.8 * one, one, one, 0.5 * one)
    em.fit(model, x, frozen=("initial_mean", "emission_matrix"), num_iterations=500, tolerance=0.0, progress=False)
    model.initial_mean.requires_grad_(False)
    quantities: dict[str, Callable[[], Tensor]] = {
        "matrix": lambda: model.emission_matrix,
        "step": lambda: model.transition_cov,
        "product": lambda: model.emission_matrix.square() * model.transition_cov,
        "noise": lambda: model.emission_cov,
    }
    free = errors_of(model, as_sequences(x), **quantities)
    model.emission_matrix.requires_grad_(False)
    given = errors_of(model, as_sequences(x), **quantities)
    assert [name for name, error in free.items() if bool(error.isnan())] == ["matrix", "step"]
    assert float(free["product"]) == pytest.approx(float(given["step"]), rel=0.01)
    assert float(free["noise"]) == pytest.approx(float(given["noise"]), rel=0.01)
    assert float(given["matrix"]) == 0


def test_counted_probabilities_have_the_standard_errors_of_a_multinomial_law() -> None:
    """sqrt(p (1 - p) / n) for each entry of a row with n transitions."""
    x = MarkovChain.random(3, seed=0).double().sample(20, 50, seed=1).x
    chain = MarkovChain.from_counts(x, num_symbols=3).double()
    from_each = torch.tensor([int((x[:, :-1] == i).sum()) for i in range(3)])
    errors = errors_of(chain, as_sequences(x), p=lambda: chain.transition_probs)["p"]
    p = chain.transition_probs.detach()
    assert torch.allclose(errors, (p * (1 - p) / from_each[:, None]).sqrt(), rtol=1e-5)
    assert not torch.allclose(errors, (p / from_each[:, None]).sqrt(), rtol=0.05)  # the errors of counts


@pytest.mark.parametrize("unit", [1.0, 1e6])
def test_the_information_of_an_hmm_is_the_hessian_of_autograd_in_any_unit(unit: float) -> None:
    model = HMM.random(2, emission=Gaussian(), seed=0).double()
    x = unit * model.sample(8, 30, seed=1).x
    em.fit(model, x, num_iterations=100, progress=False, seed=0)
    present = current_parameters(model)
    sizes = [value.numel() for value in present.values()]

    def nats(theta: Tensor) -> Tensor:
        parts = theta.split(sizes)
        values = {name: part.view_as(value) for (name, value), part in zip(present.items(), parts, strict=True)}
        return -call_with(model, values, model.log_marginal_likelihood, x).sum()

    theta = torch.cat([value.detach().flatten() for value in present.values()])
    hessian = torch.autograd.functional.hessian(nats, theta, vectorize=True)
    free, found = observed_information(model, as_sequences(x))
    scaled = found.vectors @ found.values.diag() @ found.vectors.mT
    expected = found.unit[:, None] * hessian * found.unit
    assert float((scaled - expected).abs().max()) < 1e-4
    assert int((found.unit > 0).sum()) == len(theta) - 2 * found.start_is_known
    assert torch.equal(free.start, theta)


def test_a_saddle_has_no_standard_errors() -> None:
    """Two states with one law: log p(x) rises where they part."""
    table = Gaussian().table(torch.zeros(2), torch.ones(2))
    model = HMM(torch.full((2,), 0.5), torch.tensor([[0.9, 0.1], [0.1, 0.9]]), table)
    x = torch.cat([torch.randn(4, 30) - 3, torch.randn(4, 30) + 3], dim=1)
    free, found = observed_information(model, as_sequences(x))
    assert not found.at_maximum
    errors = standard_errors(free, found, {"loc": lambda: model.emission_table.params[:, 0]})
    assert errors["loc"].isnan().all()


@pytest.mark.parametrize("first", [0.0, 2.7])
def test_the_law_of_the_first_state_counts_as_known_where_its_curvature_is_that_of_no_maximum(first: float) -> None:
    """-d^2 log p / d logit^2 = p (1 - p) - w (1 - w), w = p(z_1 | x), negative where x_1 speaks against p(z_1)."""
    table = Gaussian().table(torch.tensor([0.0, 3.0]), torch.ones(2))
    model = HMM(torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.1, 0.9]]), table)
    x = model.sample(1, 300, seed=1).x
    x[0, :2] = torch.tensor([first, 1.5])
    em.fit(model, x, num_iterations=300, progress=False, tolerance=1e-12)
    model.set_probs(initial_probs=torch.tensor([0.97, 0.03]))
    free, found = observed_information(model, as_sequences(x))
    errors = standard_errors(free, found, {"p": lambda: model.transition_probs, "start": lambda: model.initial_probs})
    assert bool((errors["p"] > 0).all())
    assert found.start_is_known == (first > 1)
    assert bool(errors["start"].isnan().all()) == (first > 1)


def test_a_model_without_exact_likelihood_or_with_many_parameters_is_an_error() -> None:
    noisy = NoisyRNN.random(2, 2, seed=0).double()
    with pytest.raises(ValueError, match="expected a model with an exact likelihood for standard errors, got NoisyRNN"):
        observed_information(noisy, as_sequences(torch.zeros(1, 3, 2)))
    large = RNN("gru", num_symbols=3, hidden_dim=16).double()
    with pytest.raises(ValueError, match="expected 1 to 500 parameters for standard errors, got "):
        observed_information(large, as_sequences(torch.zeros(1, 3, dtype=torch.int64)))


@pytest.mark.parametrize("name", ["hmm", "kalman", "diffuse"])
def test_exact_second_derivatives_are_the_limit_of_differences(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    models: dict[str, tuple[SequenceModel, Tensor]] = {
        "hmm": (hmm := HMM.random(2, emission=Gaussian(), seed=0).double(), hmm.sample(8, 30, seed=1).x),
        "kalman": (linear := LinearGaussianSSM.random(1, 2, seed=0).double(), linear.sample(4, 20, seed=1).x),
        "diffuse": (local_level(15099.0, 1469.0), torch.tensor(NILE).double()[None, :, None]),
    }
    model, x = models[name]
    data, differences = as_sequences(x.double()), information._by_differences
    monkeypatch.setattr(information, "_by_differences", lambda *given: pytest.fail("not by differences"))
    exact = observed_information(model, data)[1]
    monkeypatch.setattr(information, "_by_differences", differences)
    monkeypatch.setattr(information, "_exact", lambda *given: None)
    near = observed_information(model, data)[1]
    torch.testing.assert_close(exact.values, near.values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(exact.score.abs(), near.score.abs(), rtol=1e-4, atol=1e-4)


class _Cut(torch.autograd.Function):
    """x^2 with the right first derivative, of which autograd does not know that it depends on x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.slope = 2 * x.detach()
        return x.square()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.slope


def test_second_derivatives_that_a_model_cuts_off_are_found_out() -> None:
    model = HMM.random(2, emission=Gaussian(), seed=0).double()
    data, free = as_sequences(model.sample(8, 30, seed=1).x), information.Free(model)
    size = free.start.abs().clamp(min=1.0)

    def whole() -> Tensor:
        return model.log_marginal_likelihood(data).sum() + model.emission(torch.arange(2), None).mean.square().sum()

    def cut() -> Tensor:  # the derivative of the square counts as a constant in the second one
        squares: Tensor = _Cut.apply(model.emission(torch.arange(2), None).mean)
        return model.log_marginal_likelihood(data).sum() + squares.sum()

    assert information._exact(free, whole, size) is not None
    assert information._exact(free, cut, size) is None


def test_parameters_that_a_fit_kept_are_known_and_the_others_have_standard_errors() -> None:
    truth = HMM.random(2, emission=Gaussian(), seed=0).double()
    x = truth.sample(20, 40, seed=1).x
    model = HMM(
        torch.tensor([0.5, 0.5]),
        torch.tensor([[0.2, 0.8], [0.7, 0.3]]),
        Gaussian().table(torch.tensor([-1.0, 1.0]), torch.ones(2)),
    ).double()
    em.fit(model, x, frozen=("initial", "transition"), num_iterations=300, tolerance=1e-10, progress=False)
    free, found = observed_information(model, as_sequences(x), frozen=("initial", "transition"))
    assert found.at_maximum
    assert found.possible_gain < 1e-3
    means = {"loc": lambda: model.emission(torch.arange(2), None).mean}
    errors = standard_errors(free, found, means)["loc"]
    for name in ("initial_logits", "transition_logits"):
        getattr(model, name).requires_grad_(False)
    torch.testing.assert_close(errors, errors_of(model, as_sequences(x), **means)["loc"])
    assert bool((errors > 0).all())
    with pytest.raises(ValueError, match=r"expected frozen parts among the parameters initial_logits, .*, got 'move'"):
        observed_information(model, as_sequences(x), frozen=("move",))
