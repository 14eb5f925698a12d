"""The smallest examples of the errata, done again from the definitions: every number that they print."""

import math

import numpy as np
import pytest

from pgm_rnn.claims import CLAIMS


def shown(name: str, *numbers: float, digits: int) -> None:
    """Each number, rounded to so many significant digits, is in the example."""
    for number in numbers:
        text = f"{number:.{digits}g}".replace("e-0", "e-")
        assert text in CLAIMS[name].example, (text, CLAIMS[name].example)


def test_particle_weights() -> None:
    joint = np.array([0.5, 0.5]) * np.array([0.9, 0.1]) ** 2  # states never change
    shown("particle-weights", joint[0] / joint.sum(), digits=3)
    once = np.array([0.5, 0.5]) * np.array([0.9, 0.1])
    shown("particle-weights", once[0] / once.sum(), digits=1)


def test_forward_start() -> None:
    first, exchange, emission = np.array([1.0, 0.0]), np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0.9, 0.2])
    shown("forward-start", emission @ first, emission @ exchange @ first, digits=1)


def test_particle_filter_unbiased() -> None:
    coins = [0, 1]
    assert np.mean([a * b for a in coins for b in coins]) == pytest.approx(1 / 4)  # fresh uniforms
    assert np.mean([a * a for a in coins]) == pytest.approx(1 / 2)  # shared ones
    assert "mean 1/4" in CLAIMS["particle-filter-unbiased"].example
    assert "the mean is 1/2" in CLAIMS["particle-filter-unbiased"].example


def test_noise_can_help() -> None:
    def log_prob(h: float) -> float:
        return math.log(0.1 if h == 0 else 0.9)

    shown("noise-can-help", log_prob(0), (log_prob(-1) + log_prob(1)) / 2, digits=3)


def test_multi_particle_bound() -> None:
    probs = np.array([[0.9, 0.1], [0.1, 0.9]])  # particle, step
    mixture, bound = math.log(probs.prod(1).mean()), np.log(probs.mean(0)).sum()
    assert bound > mixture
    shown("multi-particle-bound", mixture, bound, digits=3)


def test_vrnn_past() -> None:
    joint = np.array([[0.3, 0.2], [0.1, 0.4]])  # of z_1 and x_1
    printed = joint / joint * joint.sum(1, keepdims=True)  # P(x_1 | z_1, x_1) P(z_1)
    assert printed.sum() == pytest.approx(2)
    assert "sum to 2" in CLAIMS["vrnn-past"].example


def test_vrnn_marginal() -> None:
    density = 1 / math.sqrt(2 * math.pi)
    shown("vrnn-marginal", density, 0.5 * density, digits=3)


def test_vrnn_objective_sum() -> None:
    terms = [math.log(0.5), math.log(0.5)]
    shown("vrnn-objective-sum", sum(terms), digits=3)
    shown("vrnn-objective-sum", sum(terms) / 2, digits=2)


def test_extended_kalman_jacobians() -> None:
    A, z = np.array([[0, 1], [0, 0]]), np.array([0, 1])
    assert (tuple(A @ z), tuple(A.T @ z)) == ((1, 0), (0, 0))
    assert "A z = (1, 0) and A' z = (0, 0)" in CLAIMS["extended-kalman-jacobians"].example


def test_extended_kalman_offset() -> None:
    shown("extended-kalman-offset", math.tanh(1), digits=3)
    assert f"{1 - math.tanh(1) ** 2:.3f} m" in CLAIMS["extended-kalman-offset"].example


def test_gradient_direction() -> None:
    gradient = np.linalg.matrix_power(np.diag([2, 0.5]).T, 10) @ np.array([0, 1])
    assert gradient[0] == 0
    shown("gradient-direction", gradient[1], digits=2)


def test_lstm_epsilon() -> None:
    size = 1e-6
    slope = ((size + math.tanh(2 * math.tanh(size))) - (-size + math.tanh(2 * math.tanh(-size)))) / (2 * size)
    assert slope == pytest.approx(3)
    assert "= 3." in CLAIMS["lstm-epsilon"].example


def test_every_erratum_is_done_again_here() -> None:
    errata = {name.replace("-", "_") for name, claim in CLAIMS.items() if claim.erratum}
    assert errata == {name[5:] for name in globals() if name.startswith("test_")} - {"every_erratum_is_done_again_here"}
