"""The autoregressive HMM: its law by a sum over paths, Hamilton's recursion and other packages; its M-step."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import FullGaussian, Gaussian, Poisson
from pgm_rnn.inference import em, forward_backward, smc, svi
from pgm_rnn.models import AutoregressiveHMM
from pgm_rnn.sequence_model.expected import expect
from pgm_rnn.sequence_model.tables import tables_of
from pgm_rnn.sequences import Sequences

K, P, D = 2, 2, 2


def example(first: Any = "model", size: int = D, order: int = P) -> AutoregressiveHMM:
    torch.manual_seed(1)
    cov = torch.stack([torch.eye(size) * (0.5 + k) + 0.2 for k in range(K)])
    noise = FullGaussian(size).table(loc=torch.randn(K, size), cov=cov)
    coefficients = 0.4 * torch.randn(K, order, size, size)
    return AutoregressiveHMM(
        torch.tensor([0.3, 0.7]), torch.tensor([[0.9, 0.1], [0.3, 0.7]]), noise, coefficients, first=first
    )


def log_normal(x: Tensor, loc: Tensor, cov: Tensor) -> float:
    deviation = x - loc
    solved = torch.linalg.solve(cov, deviation)
    return float(-0.5 * (deviation @ solved + torch.logdet(cov) + len(x) * math.log(2 * math.pi)))


def by_paths(model: AutoregressiveHMM, x: Tensor, given: int) -> float:
    """log of the sum over all paths of p(z) prod_{t > given} p(x_t | z_t, past), for one sequence (T, D)."""
    start, moves = model.initial_probs, model.transition_probs
    terms = []
    for path in itertools.product(range(K), repeat=len(x)):
        total = float(start[path[0]].log()) + sum(float(moves[i, j].log()) for i, j in itertools.pairwise(path))
        for t in range(given, len(x)):
            law = model.emission_laws(torch.tensor(path[t]))
            loc = law.mean
            for i in range(1, model.order + 1):
                if t - i >= 0:
                    loc = loc + model.coefficients[path[t], i - 1] @ x[t - i]
            total += log_normal(x[t], loc, law.covariance_matrix)
        terms.append(total)
    return float(torch.tensor(terms).logsumexp(0))


@pytest.mark.parametrize("first", ["model", "condition"])
@torch.no_grad()
def test_the_likelihood_is_the_sum_over_all_paths(first: Any) -> None:
    model, x = example(first), torch.randn(1, 6, D)
    expected = by_paths(model, x[0], model.num_given)
    assert float(model.log_prob(x)) == pytest.approx(expected, abs=1e-10)
    other = by_paths(model, x[0], P - model.num_given)
    assert float(model.log_prob(x)) != pytest.approx(other, abs=1e-3)
    found = smc.filter(model, x, num_particles=20_000, seed=0).log_marginal_likelihood
    assert float(found) == pytest.approx(expected, abs=0.1)


@torch.no_grad()
def test_given_observations_say_nothing_of_the_states() -> None:
    """Hamilton's recursion: p(z_{p+1}) is p(z_1) moved p times, whatever the first p observations are."""
    model, x = example("condition"), torch.randn(1, 8, D)
    prior = model.initial_probs @ torch.linalg.matrix_power(model.transition_probs, P)
    found = forward_backward.filter(model, x)
    torch.testing.assert_close(found.filtered_probs[0, P - 1], model.initial_probs @ model.transition_probs)
    torch.testing.assert_close(found.predicted_probs[0, P], prior)
    assert svi.evaluate(model, x).num_steps == 8 - P
    assert svi.evaluate(example("model"), x).num_steps == 8


@torch.no_grad()
def test_the_memory_of_all_steps_is_that_of_a_loop() -> None:
    for first in ("model", "condition"):
        model, x = example(first), torch.randn(3, 7, D)
        h = model.initial_memory.expand(3, -1)
        loop = [h]
        for t in range(6):
            loop.append(model.recurrence(loop[-1], None, x[:, t]))
        torch.testing.assert_close(model.unroll_memory(x), torch.stack(loop, dim=1))


# The M-step.


@torch.no_grad()
def test_the_m_step_is_a_weighted_regression_of_each_state() -> None:
    model, x = example("condition"), torch.randn(5, 30, D).cumsum(1)
    data = Sequences(x, torch.tensor([30, 20, 30, 9, 30]))
    _, expected = expect(tables_of(model, data), data.lengths)
    assert set(model.maximise(data, expected)) == {name for name, _ in model.named_parameters()}
    for k in range(K):
        rows, targets, weights = [], [], []
        for b, length in enumerate(data.lengths.tolist()):
            for t in range(P, length):
                rows.append(np.concatenate([[1.0], x[b, t - 1].numpy(), x[b, t - 2].numpy()]))
                targets.append(x[b, t].numpy())
                weights.append(float(expected.states[b, t, k]))
        V, Y, w = np.array(rows), np.array(targets), np.array(weights)
        solution = np.linalg.solve(V.T @ (w[:, None] * V), V.T @ (w[:, None] * Y))
        rest = Y - V @ solution
        law = model.emission_laws(torch.tensor(k))
        np.testing.assert_allclose(law.mean, solution[0], rtol=1e-8)
        np.testing.assert_allclose(model.coefficients[k, 0], solution[1:3].T, rtol=1e-8)
        np.testing.assert_allclose(model.coefficients[k, 1], solution[3:].T, rtol=1e-8)
        np.testing.assert_allclose(law.covariance_matrix, rest.T @ (w[:, None] * rest) / w.sum(), rtol=1e-7)


@pytest.mark.parametrize("first", ["model", "condition"])
@pytest.mark.parametrize("family", [Gaussian(), Gaussian(2), FullGaussian(2)], ids=str)
def test_em_climbs_to_a_stationary_point(family: Any, first: Any) -> None:
    size = family.event_shape.numel()
    truth = AutoregressiveHMM.random(2, 2, emission=family, seed=3)
    data = truth.sample(num_sequences=6, num_steps=60, seed=4)
    model = AutoregressiveHMM.from_data(data, 2, 2, seed=1, full=isinstance(family, FullGaussian), first=first)
    fit = em.fit(model, data, num_iterations=2000, tolerance=1e-10, progress=False)
    assert float(fit.log_likelihoods.diff().min()) > -1e-7
    assert model.coefficients.shape == (2, 2, size, size)
    gradients = torch.autograd.grad(
        model.log_marginal_likelihood(data).sum(), [model.coefficients, model.emission_laws.params]
    )
    assert max(float(gradient.abs().max()) for gradient in gradients) < 0.05
    with torch.no_grad():  # a control: away from the fit the gradient is large
        model.coefficients.add_(0.1)
    (away,) = torch.autograd.grad(model.log_marginal_likelihood(data).sum(), [model.coefficients])
    assert float(away.abs().max()) > 1


def test_a_large_offset_costs_no_digits() -> None:
    truth = example(size=1, order=1)
    data = truth.sample(num_sequences=4, num_steps=100, seed=0)
    far = Sequences(data.x + 1e6, data.lengths)
    fits = []
    for batch in (data, far):
        model = AutoregressiveHMM.from_data(batch, 2, 1, seed=0, first="condition")
        fits.append(float(em.fit(model, batch, num_iterations=50, progress=False).log_likelihood))
    assert fits[0] == pytest.approx(fits[1], abs=1e-3)


# Other packages.


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("order", "variances"), [(1, (0.7, 1.4)), (2, (0.7, 0.7))])
def test_statsmodels_finds_the_same_likelihood(order: int, variances: tuple[float, float]) -> None:
    """Equal variances for order 2: there statsmodels 0.15 takes the variance of the regime before."""
    markov = pytest.importorskip("statsmodels.tsa.regime_switching.markov_autoregression")
    y = 0.3 * np.random.default_rng(0).normal(size=60).cumsum()
    options = {"trend": "n", "switching_ar": True, "switching_variance": True}
    peer = markov.MarkovAutoregression(y, k_regimes=2, order=order, **options)
    moves, coefficients = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[0.5, 0.2], [-0.3, 0.1]])[:, :order]
    values = {f"sigma2[{k}]": variances[k] for k in range(2)} | {f"p[{k}->0]": float(moves[k, 0]) for k in range(2)}
    values |= {f"ar.L{i + 1}[{k}]": float(coefficients[k, i]) for i in range(order) for k in range(2)}
    expected = peer.loglike(np.array([values[name] for name in peer.param_names]))
    noise = Gaussian(1).table(loc=torch.zeros(2, 1), scale=torch.tensor(variances)[:, None].sqrt())
    stationary = torch.tensor([2.0, 1.0]) / 3
    model = AutoregressiveHMM(stationary, moves, noise, coefficients, first="condition")
    assert float(model.log_prob(torch.tensor(y)[None, :, None]).detach()) == pytest.approx(expected, rel=1e-8)


# Errors.


def test_what_does_not_fit_is_one_sentence() -> None:
    noise = Gaussian(1).table(loc=torch.zeros(2, 1), scale=torch.ones(2, 1))
    start, moves = torch.ones(2) / 2, torch.ones(2, 2) / 2
    with pytest.raises(ValueError, match=r"expected coefficients of shape \(2, order, 1, 1\), got \(3, 1\)"):
        AutoregressiveHMM(start, moves, noise, torch.zeros(3, 1))
    with pytest.raises(TypeError, match="expected real observations"):
        AutoregressiveHMM(start, moves, Poisson().table(torch.ones(2)), torch.zeros(2, 1))
    with pytest.raises(TypeError, match="expected one law per state as emission"):
        AutoregressiveHMM(start, moves, torch.ones(2, 2), torch.zeros(2, 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="order"):
        AutoregressiveHMM.random(2, 0)
    model = example("condition")
    with pytest.raises(
        ValueError, match="expected a sequence of more than the 2 steps that the model is given, got at most 2"
    ):
        model.log_prob(torch.randn(1, 2, D))
    with pytest.raises(ValueError, match="expected a sequence of more than 3 steps"):
        AutoregressiveHMM.from_data(Sequences(torch.randn(2, 3, 1), torch.tensor([3, 3])), 2, 3, first="condition")


@pytest.mark.filterwarnings("ignore")
def test_dynamax_finds_the_same_likelihood() -> None:
    dynamax = pytest.importorskip("dynamax.hidden_markov_model")
    jax = pytest.importorskip("jax")
    model, x = example(), torch.randn(1, 40, D)
    peer = dynamax.LinearAutoregressiveHMM(K, emission_dim=D, num_lags=P)
    params, _ = peer.initialize(jax.random.PRNGKey(0))
    laws = model.emission_laws(torch.arange(K))

    def array(tensor: Tensor) -> Any:
        return jax.numpy.asarray(tensor.detach().numpy())

    params = params._replace(
        initial=params.initial._replace(probs=array(model.initial_probs)),
        transitions=params.transitions._replace(transition_matrix=array(model.transition_probs)),
        emissions=params.emissions._replace(
            weights=array(model.coefficients.movedim(1, 2).flatten(2)),
            biases=array(laws.mean),
            covs=array(laws.covariance_matrix),
        ),
    )
    lags = model.unroll_memory(x)[0]
    expected = float(peer.marginal_log_prob(params, array(x[0]), inputs=array(lags)))
    assert float(model.log_prob(x).detach()) == pytest.approx(expected, rel=1e-4)  # it computes in single precision
