"""Filters that are one compiled function, against a loop over steps with the model's own laws, on the same noise."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.emissions import StudentT
from pgm_rnn.inference import smc
from pgm_rnn.models import NoisyRNN, StochasticVolatility
from pgm_rnn.sequences import Sequences
from tests.filters import LENGTHS, B, T, assert_agrees, by_steps, drawn

NUM = 21
"""Particles: no whole number of vectors."""
FUNCTIONS = ("identity", "tanh", "sigmoid", "relu")
NETWORKS: dict[str, dict[str, Any]] = {
    **{
        f"{g}, {f}": {"latent_dim": 2, "obs_dim": 3, "activation": g, "output": f} for g in FUNCTIONS for f in FUNCTIONS
    },
    **{f"scalar {f}": {"latent_dim": 1, "obs_dim": 1, "activation": f, "output": f} for f in FUNCTIONS},
    "inputs": {"latent_dim": 2, "obs_dim": 1, "input_dim": 2},
    "feedback": {"latent_dim": 1, "obs_dim": 1, "feedback": True},
    "singular noise": {"latent_dim": 2, "obs_dim": 2, "ranks": (1, 1, 2)},
}
VOLATILITIES: dict[str, dict[str, Any]] = {
    "normal": {},
    "leverage": {"leverage": -0.6},
    "Student": {"df": 4.0},
    "vectors": {"df": 4.0, "emission": StudentT(1)},
}


def made(name: str) -> tuple[Any, Sequences]:
    """A model in double precision and data of it."""
    if name in NETWORKS:
        model: Any = NoisyRNN.random(**NETWORKS[name], seed=1)
    else:
        model = StochasticVolatility(0.3, 0.9, 0.7, **VOLATILITIES[name])
    model = model.double()
    inputs = None if model.input_dim is None else torch.randn(B, T, model.input_dim)
    x = model.sample(B, T, seed=2, inputs=inputs).x
    return model, Sequences(x, LENGTHS, inputs=inputs)


def with_gaps(data: Sequences) -> Sequences:
    return Sequences(data.x, data.lengths, inputs=data.inputs, mask=torch.rand(data.x.shape) < 0.6)


def loop(model: Any, data: Sequences, noise: Tensor, uniforms: Tensor) -> dict[str, list[NDArray[np.float64]]]:
    """The filter with the model's own laws, a state's noise times the root of its covariance."""

    def memory(b: int, t: int) -> Tensor | None:
        if data.inputs is not None:
            return data.inputs[b, t]
        if model.initial_memory is None:
            return None
        return data.x[b, t - 1].reshape(-1) if t else model.initial_memory

    def move(b: int, t: int, z: NDArray[np.float64], e: NDArray[np.float64]) -> NDArray[np.float64]:
        law = model.transition(torch.from_numpy(z), memory(b, t)) if t else model.initial(memory(b, t))
        values, vectors = torch.linalg.eigh(_cov(law))
        root = np.linalg.cholesky(_cov(law).numpy()) if float(values.min()) > 1e-9 else None
        if root is None:  # of rank one, the diagonal of its triangular root positive
            column = (vectors[..., -1] * values[..., -1:].sqrt()).numpy()
            column = column * np.sign(column[..., :1])
            root = np.stack([column, np.zeros_like(column)], -1)
        return law.mean.numpy() + (root @ e[..., None])[..., 0]

    def weigh(b: int, t: int, z: NDArray[np.float64]) -> NDArray[np.float64]:
        law, x = model.emission(torch.from_numpy(z), memory(b, t)), data.x[b, t]
        if data.observed is None:
            return law.log_prob(x).numpy()
        there = data.observed[b, t].reshape(-1)
        if not bool(there.any()):
            return np.zeros(len(z))
        if isinstance(model, StochasticVolatility):
            return law.log_prob(x).numpy()
        cov = _cov(law)[..., there, :][..., there]
        return torch.distributions.MultivariateNormal(law.mean[..., there], cov).log_prob(x[there]).numpy()

    return by_steps(move, weigh, noise, uniforms, NUM / 2)


def _cov(law: Any) -> Tensor:
    found: Tensor = law.covariance_matrix if hasattr(law, "covariance_matrix") else law.variance.diag_embed()
    return found


@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("name", [*NETWORKS, *VOLATILITIES])
@torch.no_grad()
def test_it_is_the_loop_over_steps_with_the_models_laws(name: str, gaps: bool) -> None:
    model, data = made(name)
    if gaps:
        if model.initial_memory is not None:
            pytest.skip("its memory reads observations, so that none may be missing")
        data = with_gaps(data)
    uniforms, noise = drawn(NUM, model.states.dim, 3)
    run = model.whole_run(data, NUM, NUM / 2)
    if gaps and getattr(model, "output", None) == "sigmoid":
        assert run is None  # zero is not mapped to zero
        return
    assert run is not None
    assert_agrees(run, loop(model, data, noise, uniforms))
    with pytest.raises(AssertionError):
        assert_agrees(run, loop(model, data, noise.flip(2), uniforms))


@pytest.mark.parametrize("name", ["tanh, identity", "scalar tanh", "normal", "Student"])
def test_a_filter_runs_it_with_and_without_double_precision(name: str) -> None:
    """Estimates of one seed and of the general steps agree within their noise, which is small."""
    model, data = made(name)
    options: dict[str, Any] = {"num_particles": 50_000, "proposal": "bootstrap", "lengths": data.lengths, "seed": 0}
    one = smc.filter(model, data.x, **options).log_marginal_likelihood
    steps = smc.filter(model, data.x, **options, keep="all").log_marginal_likelihood
    single = smc.filter(model.float(), data.x.float(), **options).log_marginal_likelihood
    torch.testing.assert_close(one, steps, rtol=0, atol=0.1)
    torch.testing.assert_close(one, single.double(), rtol=0, atol=0.1)
    assert not torch.equal(one, steps)  # other draws: they are two ways


class Louder(NoisyRNN):
    """Another mean than the class above it."""

    def emission_mean(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        return 3 * super().emission_mean(z, h)


def test_a_model_that_was_changed_takes_its_own_laws() -> None:
    parts = torch.zeros(1), *(torch.full((1, 1), value) for value in (1.0, 0.9, 0.5, 1.0, 0.5))
    plain, louder, changed = NoisyRNN(*parts), Louder(*parts), NoisyRNN(*parts)
    changed.emission_mean = louder.emission_mean  # type: ignore[method-assign]
    data = Sequences(plain.sample(B, T, seed=0).x, LENGTHS)
    assert plain.whole_run(data, NUM, 3.0) is not None
    assert louder.whole_run(data, NUM, 3.0) is None
    assert changed.whole_run(data, NUM, 3.0) is None
    values = [
        smc.filter(model, data.x, lengths=LENGTHS, num_particles=20_000, proposal="bootstrap", seed=0)
        for model in (louder, changed, plain)
    ]
    one, same, other = (value.log_marginal_likelihood for value in values)
    torch.testing.assert_close(one, same)
    assert float((one - other).abs().max()) > 0.3


def test_leverage_with_students_errors_takes_the_general_steps() -> None:
    model = StochasticVolatility(0.3, 0.9, 0.7, leverage=-0.4, df=5.0)
    data = Sequences(model.sample(B, T, seed=0).x, LENGTHS)
    assert model.whole_run(data, NUM, 3.0) is None
    found = smc.filter(model, data.x, lengths=LENGTHS, num_particles=100, proposal="bootstrap", seed=0)
    assert bool(found.log_marginal_likelihood.isfinite().all())


def test_volatilities_beyond_single_precision_have_weight_zero_and_are_said() -> None:
    """exp(-z / 2) overflows for most particles; the others have the estimate. None left is an error."""
    wide = StochasticVolatility(0.0, 0.5, 100.0)
    x = torch.ones(1, 30)
    options: dict[str, Any] = {"num_particles": 4000, "proposal": "bootstrap", "seed": 0}
    runs = [smc.filter(wide.to(dtype), x.to(dtype), **options) for dtype in (torch.float32, torch.float64)]
    estimates = [float(run.log_marginal_likelihood) for run in runs]
    assert math.isfinite(estimates[0])
    assert estimates[0] == pytest.approx(estimates[1], abs=3.0)
    quiet = StochasticVolatility(-500.0, 0.5, 1.0).float()
    with pytest.raises(smc.DegenerateWeightsError, match="positive weight"):
        smc.filter(quiet, x.float(), **options)
