"""Every public function of `pgm_rnn.kernels` with arguments that do not fit: an error, never a read beyond an array.

The functions are found in the package, so that a new one fails here until it has an entry in `CALLS`. Arguments that do
not fit are tried in a forked process, for what is looked for may end it; another one then takes its place.
"""

import importlib
import inspect
import json
import os
import pkgutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn import kernels
from pgm_rnn.kernels import (
    combiner_draws,
    diagonal,
    diffuse_likelihood,
    diffuse_start,
    doors,
    encoder_draws,
    factorial,
    gated,
    gates,
    gaussian_backward,
    gaussian_chain,
    guided_runs,
    guides,
    hmm,
    hmm_scan,
    hsmm,
    kalman,
    kalman_scan,
    nade,
    normal_density,
    particle_runs,
    resampling,
    vector_densities,
    weights,
)

B, T, K, M, N = 6, 5, 3, 2, 7
"""Sequences, steps, states, outputs and particles: all different, so that nothing fits by accident."""
INNER = {
    *("doors", "threads", "compilation", "inverse_cdf", "normal_update", "positive", "small_matrices", "triangles"),
    "precision",
    *(
        "second_order",
        "transforms",
        "hmm_differentiable",
        "kalman_differentiable",
        "diffuse_differentiable",
    ),
    *("factorial_differentiable", "hsmm_differentiable"),
    *("hmm_forward", "hmm_lanes", "hmm_losses", "hmm_numba", "hmm_results", "hmm_tables", "hmm_totals", "hmm_wide"),
}
"""Modules of the doors, of torch operations alone, or called behind doors, as `*_compiled` and `*_batched`."""
CHOOSERS = {
    *("hmm.prefers_batched", "kalman.prefers_batched", "kalman.recursion", "kalman.distinct"),
    *("resampling.uniforms_shape", "gaussian_chain.detached", "weights.least_exponent", "gated.suits"),
    *("gated.run_lanes", "gated.run_rows", "gated.flat"),
    *("gated.with_zeros", "lineages.as_arguments", "lineages.from_arguments"),
    *("vector_densities.suits", "encoder_draws.check_weights", "combiner_draws.check_weights"),
    *("encoder_draws.memory_size", "encoder_draws.room", "combiner_draws.room"),
}
"""They say how to run, or only rename, and neither read nor write memory."""
PLAIN_TORCH = {
    *("singular.is_regular", "singular.units", "singular.generalised_inverse", "singular.determined"),
    "bits.log_density",
    *("factorial.digits", "factorial.packed", "encoder_draws.of_map", "not_numbers.has_nan", "lineages.check"),
    *("hsmm.survival", "scan.associative_scan", "scan.with_identities", "diagonal.by_scan"),
    *("hmm_scan.log_product", "hmm_scan.best_product", "hmm_scan.composed", "hmm_scan.pays"),
    *("kalman_scan.filtering_product", "kalman_scan.smoothing_product", "kalman_scan.affine_product"),
    *("gaussian_backward.root_of", "diffuse_start.scales", "diffuse_start.with_noise", "diffuse_start.last_estimate"),
    *(
        "deferred.with_gradients",
        "diffuse_start.smooth",
        "diffuse_start.smoothed_responses",
        "diffuse_start.sample_paths",
    ),
    *("diffuse_start.undetermined", "kalman.too_many", "pareto.pareto_k", "pareto.generalised_pareto_shape"),
    *("encoder_draws.filled", "combiner_draws.filled"),
}
"""They compute in torch, which checks every index, on results of the kernels, and enter the kernels by the doors."""
Call = tuple[Callable[..., Any], tuple[Any, ...]]


def lengths() -> Tensor:
    return torch.tensor([5, 1, 3, 5, 2, 4])


def probs(*shape: int) -> Tensor:
    return torch.rand(shape).softmax(-1)


def finite(per_step: bool = False) -> tuple[Tensor, ...]:
    table = probs(T - 1, K, K) if per_step else probs(K, K)
    return probs(K), table, torch.randn(B, T, K), lengths()


def chain(per_step: bool = False) -> kalman.GaussianChain:
    A, b = 0.5 * torch.randn(K, K), torch.randn(K)
    if per_step:
        A, b = A.expand(T - 1, K, K).contiguous(), b.expand(T - 1, K).contiguous()
    return kalman.GaussianChain(torch.randn(K), torch.eye(K), A, torch.eye(K), torch.randn(M, K), torch.eye(M), b)


def full() -> kalman.GaussianChain:
    return chain().with_all_axes()


def x() -> Tensor:
    return torch.randn(B, T, M)


def observed() -> Tensor:
    return torch.rand(B, T, M) < 0.8


def filtered() -> kalman.Filtered:
    return kalman.filter(full(), x(), lengths())


def forward() -> hmm.Forward:
    return hmm.forward(*finite())


def moments() -> gaussian_backward.Moments:
    return gaussian_backward.filtered(chain(), x(), lengths())


def spells() -> tuple[Tensor, ...]:
    moves = probs(K, K) * (1 - torch.eye(K))
    return probs(K), moves / moves.sum(-1, keepdim=True), probs(K, 4), torch.randn(B, T, K), lengths()


def encoder_steps() -> Call:
    """Steps along an encoder with 4 units, a state of 2 entries with 9 features, and 5 bits; the maps one by one."""
    of_weights = (16, 4), (16,), (4, 4), (4,), (9, 2), (9,), (12, 9)
    of_laws = [part for shape in guides.EncoderLaws.shapes(4, 2, 9, 5) for part in (shape, shape[:1])]

    def run(features: Tensor, bits: Tensor, start: Tensor, *maps: Tensor) -> Tensor:
        weights, laws = encoder_draws.Weights(*maps[:7]), [guides.Map(*maps[i : i + 2]) for i in range(7, 15, 2)]
        guide = guides.along_encoder(features, bits, start, weights, guides.EncoderLaws(*laws))
        assert guide is not None
        steps = guide.steps(N)
        return torch.stack([steps.advance(None).log_ratios for _ in range(T)])

    maps = [torch.randn(shape) for shape in (*of_weights, *of_laws)]
    return run, (torch.randn(B, T, 16), torch.rand(B, T, 5).round(), torch.randn(4), *maps)


def encoder_run() -> Call:
    """A filter along the same encoder, from its noise."""
    features, bits, start, *maps = encoder_steps()[1]
    weights, laws = encoder_draws.Weights(*maps[:7]), [guides.Map(*maps[i : i + 2]) for i in range(7, 15, 2)]
    guide = guides.along_encoder(features, bits, start, weights, guides.EncoderLaws(*laws))
    assert guide is not None

    def run(noise: Tensor, uniforms: Tensor, steps: Tensor) -> Tensor:
        return guide.run(guided_runs.Particles(noise, uniforms, steps, 0.5 * N)).z

    return run, (torch.randn(B * N, T, 2), torch.rand(B, T, dtype=torch.float64), lengths())


def combiner_steps() -> Call:
    """Steps along a combiner of 7 numbers with layers of 4 units, a state of 2 entries, and 5 bits."""
    of_weights = (7, 2), (7,), (4, 7), (4,)
    of_laws = [part for shape in guides.CombinerLaws.shapes(4, 2, 5) for part in (shape, shape[:1])]

    def run(features: Tensor, bits: Tensor, own: Tensor, models: Tensor, *maps: Tensor) -> Tensor:
        weights, laws = combiner_draws.Weights(*maps[:4]), [guides.Map(*maps[i : i + 2]) for i in range(4, 22, 2)]
        guide = guides.along_combiner(features, bits, (own, models), weights, guides.CombinerLaws(*laws))
        assert guide is not None
        steps = guide.steps(N)
        return torch.stack([steps.advance(None).log_ratios for _ in range(T)])

    maps = [torch.randn(shape) for shape in (*of_weights, *of_laws)]
    starts = torch.randn(2), torch.randn(2)
    return run, (torch.randn(B, T, 7), torch.rand(B, T, 5).round(), *starts, *maps)


def two_chains(name: str) -> Call:
    """A function for two chains of two and of three states, and its other arguments."""
    tables = probs(1, 5), probs(1, 1, 13), torch.randn(B, T, 6), lengths()
    draws = (torch.rand(N, B, T, dtype=torch.float64),) if name == "sample_states" else ()
    return partial(getattr(factorial, name), (2, 3)), (*tables, *draws)


def encoder_weights() -> encoder_draws.Weights:
    shapes = (4 * K, K), (4 * K,), (2 * M, K), (2 * M,), (N, M), (N,), (3 * K, N)
    return encoder_draws.Weights(*(torch.randn(shape) for shape in shapes))


def combiner_weights() -> combiner_draws.Weights:
    return combiner_draws.Weights(*(torch.randn(shape) for shape in ((K, M), (K,), (2 * M, K), (2 * M,))))


CALLS: dict[str, Callable[[], Call]] = {
    "particle_runs.finite": lambda: (partial(particle_runs.finite, num_particles=N, threshold=3.0), finite()),
    "particle_runs.gaussian": lambda: (
        lambda *given: particle_runs.gaussian(given[0], given[1], given[2], N, 3.0, given[3]),
        (full(), x(), lengths(), observed()),
    ),
    "particle_runs.volatility": lambda: (
        lambda x, steps, there: particle_runs.volatility(
            particle_runs.Volatility(0.1, 0.9, 0.3, 0.7, -0.4), x, steps, N, 3.0, there
        ),
        (x()[..., 0], lengths(), observed()[..., 0]),
    ),
    "hsmm.log_marginal_likelihood": lambda: (hsmm.log_marginal_likelihood, spells()),
    "hsmm.forward": lambda: (hsmm.forward, spells()),
    "hsmm.posterior": lambda: (hsmm.posterior, spells()),
    "hsmm.most_likely_states": lambda: (hsmm.most_likely_states, spells()),
    "hsmm.sample_states": lambda: (hsmm.sample_states, (*spells(), torch.rand(N, B, T, 2, dtype=torch.float64))),
    "gates.gru": lambda: (gates.gru, (torch.randn(B, 3 * K), torch.randn(B, 3 * K), torch.randn(B, K))),
    "gated.gru": lambda: (
        gated.gru,
        (torch.randn(T, B, 3 * K), torch.randn(B, K), torch.randn(3 * K, K), torch.randn(3 * K)),
    ),
    "gated.packed_gru": lambda: (
        gated.packed_gru,
        (torch.randn(20, 3 * K), torch.randn(B, K), torch.randn(3 * K, K), torch.randn(3 * K), lengths()),
    ),
    "encoder_draws.encoder_draws": lambda: (
        encoder_draws.encoder_draws,
        (torch.randn(B, T, 4 * K), torch.randn(B, T, M), torch.randn(B, K), encoder_weights()),
    ),
    "combiner_draws.combiner_draws": lambda: (
        combiner_draws.combiner_draws,
        (torch.randn(B, T, K), torch.randn(B, T, M), torch.randn(B, M), combiner_weights()),
    ),
    "gates.lstm": lambda: (gates.lstm, (torch.randn(B, 4 * K), torch.randn(B, K))),
    "gaussian_backward.filtered": lambda: (gaussian_backward.filtered, (chain(), x(), lengths(), observed())),
    "gaussian_backward.backward": lambda: (gaussian_backward.backward, (moments(),)),
    "gaussian_backward.smooth": lambda: (gaussian_backward.smooth, (moments(), lengths())),
    "gaussian_backward.sample_paths": lambda: (
        gaussian_backward.sample_paths,
        (moments(), lengths(), torch.randn(9, B, T, K)),
    ),
    "gaussian_backward.smoothed_means": lambda: (
        gaussian_backward.smoothed_means,
        (gaussian_backward.backward(moments()), torch.randn(B, T, K), torch.randn(B, T, K), lengths()),
    ),
    "diagonal.diagonal_recurrence": lambda: (
        diagonal.diagonal_recurrence,
        (torch.randn(T, B, K), torch.randn(T, B, K), torch.randn(B, K), lengths()),
    ),
    "diagonal.diagonal_recurrence, one coefficient": lambda: (
        diagonal.diagonal_recurrence,
        (torch.randn(1, 1, K), torch.randn(T, B, K), torch.randn(B, K)),
    ),
    "diffuse_start.filtered": lambda: (
        diffuse_start.filtered,
        (chain(), torch.eye(K)[:, :2].contiguous(), x(), lengths(), observed()),
    ),
    "diffuse_likelihood.log_marginal_likelihood": lambda: (
        diffuse_likelihood.log_marginal_likelihood,
        (chain(), torch.eye(K)[:, :2].contiguous(), x(), lengths(), observed()),
    ),
    "gaussian_chain.per_entry": lambda: (gaussian_chain.per_entry, (observed()[..., 0], x())),
    "gaussian_chain.without_missing": lambda: (gaussian_chain.without_missing, (full(), x(), observed())),
    "hmm_scan.log_marginal_likelihood": lambda: (hmm_scan.log_marginal_likelihood, finite()),
    "hmm_scan.filter": lambda: (hmm_scan.filter, finite()),
    "hmm_scan.smooth": lambda: (hmm_scan.smooth, finite()),
    "hmm_scan.forward": lambda: (hmm_scan.forward, finite()),
    "hmm_scan.most_likely_states": lambda: (hmm_scan.most_likely_states, finite()),
    "hmm_scan.backward": lambda: (hmm_scan.backward, (probs(K, K), lengths(), hmm_scan.forward(*finite()))),
    "kalman_scan.sample_paths": lambda: (kalman_scan.sample_paths, (moments(), lengths(), torch.randn(N, B, T, K))),
    "kalman_scan.filtered": lambda: (kalman_scan.filtered, (chain(), x(), lengths(), observed())),
    "kalman_scan.smooth": lambda: (kalman_scan.smooth, (moments(), lengths())),
    "hmm.log_marginal_likelihood": lambda: (hmm.log_marginal_likelihood, finite()),
    "hmm.log_marginal_likelihood, per step": lambda: (hmm.log_marginal_likelihood, finite(per_step=True)),
    "hmm.forward": lambda: (hmm.forward, finite()),
    "hmm.backward": lambda: (hmm.backward, (probs(K, K), lengths(), forward())),
    "hmm.without_missing": lambda: (hmm.without_missing, (torch.randn(B, T, K), observed()[..., 0])),
    "hmm.expected_counts": lambda: (hmm.expected_counts, (probs(K, K), lengths(), forward(), torch.ones(B))),
    "hmm.expected_pairs": lambda: (hmm.expected_pairs, (probs(K, K), lengths(), forward(), torch.ones(B))),
    "hmm.pairwise_probs": lambda: (hmm.pairwise_probs, (probs(K, K), forward(), torch.rand(B, T, K))),
    "hmm.log_propagated": lambda: (hmm.log_propagated, (probs(K, K), forward())),
    "hmm.propagate": lambda: (hmm.propagate, (probs(B, T - 1, K), probs(K, K))),
    "hmm_paths.most_likely_states": lambda: (hmm.most_likely_states, finite()),
    "hmm_paths.most_likely_states, per step": lambda: (hmm.most_likely_states, finite(per_step=True)),
    "hmm_paths.sample_states": lambda: (hmm.sample_states, (probs(K, K), lengths(), forward(), torch.rand(9, B, T))),
    "hmm.expected_transitions": lambda: (
        hmm.expected_transitions,
        (torch.rand(B, T, K), torch.rand(B, T, K), probs(K, K)),
    ),
    "kalman.log_marginal_likelihood": lambda: (kalman.log_marginal_likelihood, (chain(), x(), lengths(), observed())),
    "kalman.filter": lambda: (kalman.filter, (chain(), x(), lengths())),
    "kalman.filter, per step": lambda: (kalman.filter, (chain(per_step=True), x(), lengths())),
    "kalman.filter, missing": lambda: (kalman.filter, (chain(), x(), lengths(), observed())),
    "kalman.scores": lambda: (kalman.scores, (full(), lengths(), filtered())),
    "kalman.information": lambda: (kalman.information, (full(), lengths(), filtered())),
    "kalman.gradients": lambda: (kalman.gradients, (full(), lengths(), filtered(), torch.ones(B))),
    "nade.logits": lambda: (
        nade.logits,
        (torch.randn(B, T), torch.randn(B, K), torch.ones(B, T), torch.randn(T, K), torch.randn(T, K)),
    ),
    "nade.draw": lambda: (nade.draw, (torch.randn(B, T), torch.randn(B, K), torch.randn(T, K), torch.randn(T, K))),
    "normal_density.log_density": lambda: (
        normal_density.log_density,
        (x(), torch.randn(K, B, T, M), torch.rand(K, 1, 1, M) + 0.5, observed()),
    ),
    "weights.normalize": lambda: (weights.normalize, (torch.randn(N, B),)),
} | {
    f"resampling.draw_ancestors, {scheme}": partial(
        lambda scheme: (
            lambda w, u, chosen: resampling.draw_ancestors(w, scheme, u, chosen),
            (torch.rand(N, B), torch.rand(resampling.uniforms_shape(scheme, N, B)), torch.rand(B) < 0.5),
        ),
        scheme,
    )
    for scheme in resampling.SCHEMES
}

CALLS |= {
    "guided_runs.run": encoder_run,
    "guides.along_encoder": encoder_steps,
    "guides.along_combiner": combiner_steps,
    "vector_densities.normal": lambda: (vector_densities.normal, (x(), x(), x().exp())),
    "vector_densities.drawn": lambda: (vector_densities.drawn, (x(), x().exp())),
    "vector_densities.bits": lambda: (vector_densities.bits, (x().sigmoid().round(), x())),
}
for _name in ("log_marginal_likelihood", "forward", "posterior", "most_likely_states", "sample_states"):
    CALLS[f"factorial.{_name}"] = partial(two_chains, _name)


def public_functions() -> set[str]:
    found = set()
    for module in pkgutil.iter_modules(kernels.__path__):
        if module.name in INNER or module.name.endswith(("_compiled", "_batched")):
            continue
        for name, value in vars(importlib.import_module(f"pgm_rnn.kernels.{module.name}")).items():
            own = getattr(value, "__module__", None) == f"pgm_rnn.kernels.{module.name}"
            if inspect.isfunction(value) and own and not name.startswith("_"):
                found.add(f"{module.name}.{name}")
    return found


def test_every_public_function_of_the_kernels_is_tried() -> None:
    assert {name.split(",")[0] for name in CALLS} == public_functions() - CHOOSERS - PLAIN_TORCH


def test_compiled_modules_are_entered_through_the_kernels_alone() -> None:
    root = os.path.dirname(os.path.dirname(kernels.__file__))
    inside = os.path.join(root, "kernels")
    for folder, _, files in os.walk(root, followlinks=True):
        for file in files:
            if file.endswith(".py") and folder != inside:
                with open(os.path.join(folder, file), encoding="utf-8") as source:
                    text = source.read()
                assert not any(f"{inner}_compiled" in text for inner in ("hmm", "kalman")), file
                assert "inverse_cdf" not in text, file
                assert "import numba" not in text, file


# Arguments that do not fit, made from those that do.


def changes(value: Tensor) -> dict[str, Tensor]:
    """Tensors like this one that its companions do not fit."""
    made = {"without its axes": value.new_ones(()), "with another axis": value[None].expand(2, *value.shape)}
    for axis, size in enumerate(value.shape):
        name, repeated = f"axis {axis} ", torch.cat([value] * 2, axis)
        made[f"{name}twice as long"] = repeated
        made[f"{name}longer by one"] = repeated.narrow(axis, 0, size + 1)
        made[f"{name}empty"] = value.narrow(axis, 0, 0)
        if size > 2:
            made[f"{name}shorter by one"] = value.narrow(axis, 0, size - 1)
    dtypes = (torch.int32, torch.float64) if not value.is_floating_point() else (torch.float32, torch.float16)
    made |= {f"as {dtype}": value.to(dtype) for dtype in (*dtypes, torch.complex128)}
    if value.dtype == torch.int64 and value.dim() == 1 and len(value) == B:
        for number in (0, -3, -(10**6), T + 1, 10**6, 2**62):
            made[f"with {number}"] = torch.cat([value[:-1], torch.tensor([number])])
    return made


def misfits(arguments: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The arguments with one tensor changed, in every way and place."""
    for i, argument in enumerate(arguments):
        before, after = arguments[:i], arguments[i + 1 :]
        if isinstance(argument, Tensor):
            for label, other in changes(argument).items():
                yield f"argument {i} {label}", (*before, other, *after)
        elif isinstance(argument, tuple):
            for name in argument._fields:  # type: ignore[attr-defined]
                if not isinstance(getattr(argument, name), Tensor):
                    continue
                for label, other in changes(getattr(argument, name)).items():
                    parts = argument._replace(**{name: other})  # type: ignore[attr-defined]
                    yield f"argument {i}.{name} {label}", (*before, parts, *after)


SEVERAL_CHAINS = "argument 0 with another axis"
"""Two chains side by side share six sequences."""
MORE_STEPS = ("argument 2 axis 1 longer by one", "argument 2 axis 1 twice as long")
"""Lengths and a table that all steps share fit longer padding."""
ANY_DURATION = tuple(f"argument 2 axis 1 {how}" for how in ("twice", "longer", "shorter"))
MORE_PADDING = "argument 3 axis 1 twice", "argument 3 axis 1 longer"
FITS: dict[str, tuple[str, ...]] = {
    **{
        f"hsmm.{name}": (*ANY_DURATION, *MORE_PADDING)
        for name in ("log_marginal_likelihood", "forward", "posterior", "most_likely_states")
    },
    **{
        f"factorial.{name}": ("argument 2 axis 1 twice", "argument 2 axis 1 longer")
        for name in ("log_marginal_likelihood", "forward", "posterior", "most_likely_states")
    },
    "factorial.sample_states": ("argument 4 axis 0",),  # any number of draws
    "hsmm.sample_states": (*ANY_DURATION, "argument 5 axis 0"),  # any number of draws
    "gated.gru": tuple(f"argument 0 axis 0 {how}" for how in ("twice", "longer", "shorter")),  # any number of steps
    "gates.gru": tuple(f"argument {i} with another axis" for i in range(3)),  # the rest broadcasts
    "gates.lstm": tuple(f"argument {i} with another axis" for i in range(2)),
    "gaussian_backward.sample_paths": ("argument 2 axis 0",),  # any number of draws
    "gaussian_backward.smoothed_means": ("argument 0.cov",),
    "diagonal.diagonal_recurrence, one coefficient": tuple(
        f"argument 1 axis 0 {how}"
        for how in ("twice", "longer", "shorter")  # any number of steps
    ),
    "diffuse_start.filtered": ("argument 1 axis 1 longer",),  # up to as many directions as states
    "diffuse_likelihood.log_marginal_likelihood": ("argument 1 axis 1 longer",),
    "gaussian_chain.per_entry": ("argument 1 axis 2 twice", "argument 1 axis 2 longer", "argument 1 as torch.float32"),
    "hmm.log_marginal_likelihood": (SEVERAL_CHAINS, *MORE_STEPS),
    **{
        f"hmm_scan.{name}": (SEVERAL_CHAINS, *MORE_STEPS)
        for name in ("log_marginal_likelihood", "filter", "smooth", "forward", "most_likely_states")
    },
    "guided_runs.run": ("argument 0 axis 0 twice",),  # any number of particles
    "particle_runs.volatility": ("argument 0 as torch.float32",),  # nothing else has a dtype
    "kalman_scan.sample_paths": ("argument 2 axis 0",),  # any number of draws
    "hmm.log_marginal_likelihood, per step": (SEVERAL_CHAINS, "argument 1 with another axis"),
    **dict.fromkeys(("hmm.forward", "particle_runs.finite"), (SEVERAL_CHAINS, *MORE_STEPS)),
    "hmm.without_missing": (
        *(f"argument 0 axis 2 {how}" for how in ("twice", "longer", "shorter")),
        "argument 0 as torch.float32",
    ),
    "hmm.pairwise_probs": tuple(f"argument 1.{unused}" for unused in ("log_normalizers", "emission", "scale")),
    "hmm.log_propagated": (
        *(f"argument 1.{unused}" for unused in ("log_normalizers", "emission", "scale")),
        # any number of beliefs
        *(f"argument 1.filtered axis {axis} {how}" for axis in (0, 1) for how in ("twice", "longer", "shorter")),
    ),
    "hmm.propagate": ("argument 0 axis 0", "argument 0 axis 1"),  # one table for any number of beliefs
    "hmm_paths.most_likely_states": (SEVERAL_CHAINS, *MORE_STEPS),
    "hmm_paths.most_likely_states, per step": (SEVERAL_CHAINS, "argument 1 with another axis"),
    "hmm_paths.sample_states": ("argument 3 axis 0", "argument 3 as torch.float32", "argument 3 as torch.float16"),
    "kalman.filter": ("argument 1 axis 1 twice", "argument 1 axis 1 longer"),
    "weights.normalize": (
        *("argument 0 with another axis", "argument 0 axis 1", "argument 0 as torch.float32"),
        *("argument 0 as torch.float16", *(f"argument 0 axis 0 {how}" for how in ("twice", "longer", "shorter"))),
    ),
} | {
    f"resampling.draw_ancestors, {scheme}": (
        *("argument 0 as torch.float32", "argument 1 as torch.float32", "argument 1 as torch.float16"),
        *(f"argument 0 axis 0 {how}" for how in ("twice", "longer", "shorter") if scheme == "systematic"),
    )
    for scheme in resampling.SCHEMES
}
"""Changes after which the arguments of a function still fit, by the beginning of their labels."""


class Child:
    """A forked process that tries the misfits of one function after the other, as long as it lives."""

    def __init__(self) -> None:
        asked, asking = os.pipe()
        said, saying = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(asking)
            os.close(said)
            _answer(asked, saying)
            os._exit(0)
        os.close(asked)
        os.close(saying)
        self._asking, self._said = os.fdopen(asking, "w"), os.fdopen(said)
        self.lives = True

    def __call__(self, name: str, only: str = "") -> list[str]:
        """What became of each misfit: "refused", "accepted" or another error; how the process ended if it did."""
        print(json.dumps([name, only]), file=self._asking, flush=True)
        lines: list[str] = []
        for line in self._said:
            if line == DONE:
                return lines
            lines.append(line.rstrip("\n"))
        return [*lines, f"ended by {self.end()}"]

    def end(self) -> int:
        """Let it end, and its exit status."""
        self.lives = False
        self._asking.close()
        code = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        self._said.close()
        return code


DONE = "done\n"


def _answer(asked: int, saying: int) -> None:
    with os.fdopen(asked) as names, os.fdopen(saying, "w") as out:
        for line in names:
            name, only = json.loads(line)
            signal.alarm(600)
            torch.manual_seed(0)
            function, arguments = CALLS[name]()
            for label, misfit in misfits(arguments):
                if label.startswith(only):
                    out.write(f"{label}: ")
                    out.flush()  # the last line names the culprit if the process ends
                    out.write(f"{outcome(function, misfit)}\n")
            out.write(DONE)
            out.flush()


@pytest.fixture(scope="module")
def child() -> Iterator[Callable[[str], list[str]]]:
    """Tries the misfits of a function in a process that lives."""
    children: list[Child] = []

    def ask(name: str) -> list[str]:
        if not children or not children[-1].lives:
            children.append(Child())
        return children[-1](name)

    yield ask
    if children and children[-1].lives:
        assert children[-1].end() == 0


def outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    try:
        function(*arguments)
    except (ValueError, TypeError):
        return "refused"
    except BaseException as error:
        return f"{type(error).__name__} {str(error)[:80]!r}"
    return "accepted"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", CALLS)
def test_arguments_that_do_not_fit_are_refused(name: str, child: Callable[[str], list[str]]) -> None:
    lines, fits = child(name), FITS.get(name, ())
    assert len(lines) > 5
    assert [line for line in lines if not line.endswith(": refused") and not line.startswith(fits)] == []
    for fit in fits:
        assert {line.split(": ", 1)[1] for line in lines if line.startswith(fit)} == {"accepted"}, fit


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kernel_without_a_door_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "lengths", lambda *arguments: None)
    tried = Child()
    lines = tried("hmm.log_marginal_likelihood", only="argument 3 with -3")
    if tried.lives:
        tried.end()
    assert lines[0] == "argument 3 with -3: accepted" or "ended by" in lines[-1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_is_ended_names_what_ended_it_and_another_goes_on(
    monkeypatch: pytest.MonkeyPatch, child: Callable[[str], list[str]]
) -> None:
    def ends(*arguments: Any) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.outcome", ends)
        tried = Child()
    assert tried("nade.draw") == ["argument 0 without its axes: ", f"ended by {-signal.SIGKILL}"]
    assert not tried.lives
    assert len(child("nade.draw")) > 5


@pytest.mark.parametrize("shape", [(0, K, K), (B, 0, K, K), (1, 0, K, K)])
def test_sequences_of_one_step_need_no_table(shape: tuple[int, ...]) -> None:
    initial, log_emission, ones = probs(K).requires_grad_(), torch.randn(B, 1, K), torch.ones(B, dtype=torch.int64)
    table = torch.zeros(shape, requires_grad=True)
    value = hmm.log_marginal_likelihood(initial, table, log_emission, ones)
    expected = (initial.detach().log() + log_emission[:, 0]).logsumexp(-1)
    torch.testing.assert_close(value.detach(), expected)
    assert torch.autograd.grad(value.sum(), table)[0].shape == shape
    states = hmm.most_likely_states(initial.detach().log(), table.detach(), log_emission, ones)[0]
    assert torch.equal(states[:, 0], (initial.detach().log() + log_emission[:, 0]).argmax(-1))


# Strides.


def strided(value: Any) -> Any:
    """The same numbers at other places of memory: every second entry, or the axes in another order."""
    if isinstance(value, Tensor):
        if value.dim() > 1:
            return value.mT.contiguous().mT
        return torch.stack([value, value.flip(0)], -1)[..., 0]
    return type(value)(*map(strided, value)) if isinstance(value, tuple) else value


def flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value or () for tensor in flat(part)] if isinstance(value, tuple) else []


@pytest.mark.parametrize("name", CALLS)
def test_strides_do_not_count(name: str) -> None:
    function, arguments = CALLS[name]()
    torch.manual_seed(1)
    expected = flat(function(*arguments))
    torch.manual_seed(1)
    others = tuple(map(strided, arguments))
    assert not all(tensor.is_contiguous() for tensor in flat(others))
    found = flat(function(*others))
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)
