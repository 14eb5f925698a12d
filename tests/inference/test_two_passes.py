"""FIVO in two passes, against the filter's own steps with their gradient, and its sum against a loop in log space."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import smc
from pgm_rnn.inference.smc import engine, two_passes
from pgm_rnn.inference.smc.run import run
from pgm_rnn.inference.smc.thresholds import least_size
from pgm_rnn.kernels.guided_runs import Particles
from pgm_rnn.kernels.lineages import Lineage
from pgm_rnn.models import VRNN, DeepMarkovModel
from pgm_rnn.particles import DegenerateWeightsError, Options
from pgm_rnn.particles.noise import Uniforms
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences

NUM_KEYS, LENGTHS = 6, torch.tensor([9, 5, 9, 1])

MODELS: dict[str, Callable[[], SequenceModel]] = {
    "vrnn": lambda: VRNN(NUM_KEYS, 3, 5),
    "vrnn of an lstm": lambda: VRNN(NUM_KEYS, 2, 4, cell="lstm"),
    "dmm": lambda: DeepMarkovModel(NUM_KEYS, 3, 5, guide_dim=4),
}
"""Models whose filter is one compiled function."""
OTHERS: dict[str, Callable[[], SequenceModel]] = {
    "vrnn of Elman's cell": lambda: VRNN(NUM_KEYS, 2, 4, cell="elman"),
    "vrnn with tanh": lambda: VRNN(NUM_KEYS, 2, 4, activation="tanh"),
    "dmm of real numbers": lambda: DeepMarkovModel(latent_dim=3, hidden_dim=5, emission=Gaussian(NUM_KEYS)),
}


def made(name: str) -> tuple[SequenceModel, Tensor]:
    torch.manual_seed(0)
    return (MODELS | OTHERS)[name]().double(), (torch.rand(4, 9, NUM_KEYS) < 0.4).double()


def estimates(model: SequenceModel, x: Tensor, **options: Any) -> list[Tensor]:
    """The estimates and the gradients of their sum."""
    found = smc.log_marginal_likelihood(model, x, LENGTHS, seed=3, **options)
    return [found, *torch.autograd.grad(found.sum(), list(model.parameters()), materialize_grads=True)]


def by_steps(monkeypatch: pytest.MonkeyPatch, model: SequenceModel, x: Tensor, **options: Any) -> list[Tensor]:
    with monkeypatch.context() as patched:
        patched.setattr(engine, "in_two_passes", lambda *_: None)
        return estimates(model, x, **options)


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("resample", ["adaptive", "never", "always"])
@pytest.mark.parametrize("num_particles", [1, 4, 9])
@pytest.mark.parametrize("name", OTHERS)
def test_values_and_gradients_are_those_of_the_steps(
    name: str, num_particles: int, resample: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = made(name)
    options = {"num_particles": num_particles, "resample": resample}
    found, expected = estimates(model, x, **options), by_steps(monkeypatch, model, x, **options)
    largest = max(float(part.detach().abs().max()) for part in expected)
    assert difference(found, expected) < 1e-12 * max(1.0, largest)


def particles_for(x: Tensor, num: int, threshold: float) -> Particles:
    """Noise that a float64 distribution function tells apart, zero beyond the ends."""
    noise = torch.randn(len(x) * num, x.shape[1], 3, dtype=x.dtype).clamp(-3, 3)
    inside = (torch.arange(x.shape[1]) < LENGTHS[:, None]).repeat_interleave(num, 0)
    return Particles(noise * inside[..., None], torch.rand(x.shape[:2], dtype=torch.float64), LENGTHS, threshold)


def from_noise(model: SequenceModel, x: Tensor, particles: Particles, options: Options) -> list[Tensor]:
    """The estimates of the general steps with their gradients, from uniforms that give this noise."""
    num, dim = options.num_particles, particles.noise.shape[2]
    states = torch.special.ndtr(particles.noise).view(len(x), num, x.shape[1], dim)

    def noise(number: int) -> Uniforms:
        return Uniforms(states[:, :, number - 1].transpose(0, 1), particles.uniforms[None, :, number - 1])

    found = run(model, Sequences(x, LENGTHS), replace(options, noise=noise)).log_marginal_likelihood
    return [found, *torch.autograd.grad(found.sum(), list(model.parameters()), materialize_grads=True)]


@pytest.mark.parametrize(("resample", "threshold"), [("adaptive", 0.5), ("never", 0.0), ("always", 1.0)])
@pytest.mark.parametrize("num_particles", [1, 3, 4, 9])
@pytest.mark.parametrize("name", MODELS)
def test_one_run_is_the_steps_with_the_same_noise(
    name: str, num_particles: int, resample: str, threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = made(name)
    options = Options(num_particles, ess_threshold=threshold)
    particles = particles_for(x, num_particles, least_size(options))
    particles = particles._replace(noise=particles.noise[..., : model.latent_dim])
    monkeypatch.setattr(two_passes, "noise_for", lambda *_: particles)
    found = estimates(model, x, num_particles=num_particles, resample=resample)
    expected = from_noise(model, x, particles, options)
    largest = max(float(part.detach().abs().max()) for part in expected)
    assert difference(found, expected) < 1e-11 * max(1.0, largest)
    if num_particles > 1:
        other = particles._replace(noise=-particles.noise)
        assert difference(found, from_noise(model, x, other, options)) > 1e-3
    if num_particles > 1 and resample == "always":
        other = particles._replace(uniforms=1 - particles.uniforms)
        assert difference(found, from_noise(model, x, other, options)) > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_a_run_does_not_depend_on_the_number_of_threads(name: str) -> None:
    model, x = made(name)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(estimates(model, x, num_particles=4))
    torch.set_num_threads(1)
    assert difference(*found) == 0


@pytest.mark.parametrize("name", MODELS)
def test_single_precision_loses_roundings_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made(name)
    particles = particles_for(x, 4, math.inf)
    monkeypatch.setattr(two_passes, "noise_for", lambda _data, _options, guide: as_guide(particles, guide))

    def as_guide(particles: Particles, guide: Any) -> Particles:
        return particles._replace(noise=particles.noise[..., : guide.dim].to(guide.features.dtype))

    expected = estimates(model, x, num_particles=4, resample="always")
    found = estimates(model.float(), x.float(), num_particles=4, resample="always")
    largest = max(float(part.detach().abs().max()) for part in expected)
    assert 0 < difference([part.double() for part in found], expected) < 1e-4 * max(1.0, largest)


@pytest.mark.parametrize("name", MODELS)
def test_a_sequence_without_weights_is_named_as_by_the_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made(name)
    x[2, 4, 1] = torch.nan
    monkeypatch.setattr(engine, "checked_for_smc", lambda *_: Sequences(x, LENGTHS))
    for calculate in (estimates, partial(by_steps, monkeypatch)):
        with pytest.raises(DegenerateWeightsError, match=r"NaN weights.* sequence 2.* step [15]"):
            calculate(model, x, num_particles=4)


@pytest.mark.parametrize("scheme", ["stratified", "multinomial", "residual"])
def test_so_with_every_scheme_of_ancestors(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made("dmm")
    options: dict[str, Any] = {"num_particles": 5, "resample": "always", "resampling": scheme}
    assert difference(estimates(model, x, **options), by_steps(monkeypatch, model, x, **options)) < 1e-10


@pytest.mark.parametrize("name", ["vrnn", "dmm"])
def test_particles_that_keep_their_places_are_told_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made(name)
    options: dict[str, Any] = {"num_particles": 4, "resample": "always", "resampling": "stratified"}
    expected = by_steps(monkeypatch, model, x, **options)

    first_pass = two_passes._first_pass

    def own(*arguments: Any) -> Any:
        drawn = first_pass(*arguments)
        rows, kin = torch.arange(len(drawn.lineage.ancestors)), drawn.lineage.kin
        return drawn._replace(lineage=Lineage(rows[:, None].repeat(1, drawn.lineage.ancestors.shape[1]), kin))

    monkeypatch.setattr(two_passes, "_first_pass", own)
    assert difference(estimates(model, x, **options), expected) > 1e-3


@pytest.mark.parametrize(
    "options",
    [{"proposal": "bootstrap"}, {"resampling": "soft"}, {"gradient": "score", "resample": "always"}],
    ids=str,
)
def test_what_needs_the_steps_takes_them(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made("vrnn")
    options["num_particles"] = 4
    found, expected = estimates(model, x, **options), by_steps(monkeypatch, model, x, **options)
    assert difference(found, expected) == 0


def test_a_guide_of_ones_own_takes_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wider(VRNN):
        def proposal(self, z: Tensor | None, h: Tensor, features: Tensor) -> Any:
            law = super().proposal(z, h, features)
            law.scale = 2 * law.scale
            return law

        def draw_guide(self, x: Tensor, features: Tensor | None) -> None:
            return None

    torch.manual_seed(0)
    model, x = Wider(NUM_KEYS, 3, 5).double(), made("vrnn")[1]
    found, expected = estimates(model, x, num_particles=4), by_steps(monkeypatch, model, x, num_particles=4)
    assert difference(found, expected) == 0


def test_cells_that_cannot_draw_again_take_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, x = VRNN(NUM_KEYS, 3, 5, cell="min-gru").double(), made("vrnn")[1]
    assert difference(estimates(model, x, num_particles=4), by_steps(monkeypatch, model, x, num_particles=4)) == 0


def test_an_impossible_particle_gives_the_numbers_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made("dmm")
    expected = by_steps(monkeypatch, model, x, num_particles=4)
    monkeypatch.setattr(two_passes, "_log_ratios", lambda *_: torch.full((4, 4, 9), -math.inf))
    assert difference(estimates(model, x, num_particles=4), expected) == 0


def test_the_total_is_that_of_a_loop_over_steps() -> None:
    """log Z_t = log sum_n W_{t-1}^n w_t^n, weights that start anew where a sequence was resampled."""
    torch.manual_seed(0)
    log_ratios, resampled = 30 * torch.randn(6, 5, 12), torch.rand(6, 12) < 0.3
    expected = torch.zeros(6)
    for b in range(6):
        log_weights = torch.full((5,), -math.log(5))
        for t in range(12):
            if resampled[b, t]:
                log_weights = torch.full((5,), -math.log(5))
            joint = log_weights + log_ratios[b, :, t]
            expected[b] += joint.logsumexp(0)
            log_weights = joint - joint.logsumexp(0)
    torch.testing.assert_close(two_passes.log_total(log_ratios, resampled), expected, rtol=1e-5, atol=1e-3)
    assert not torch.allclose(two_passes.log_total(log_ratios, ~resampled), expected, rtol=1e-3)
