"""Guides of deep models of bits, whose filters run compiled: a call per step, or one function for all steps.

The laws are linear maps between rectified layers. z_t follows an encoder along its cell (`encoder_draws`) or a combiner
(`combiner_draws`), both normal with softplus scales, and x_t are independent bits.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor
from typing_extensions import override

from pgm_rnn.kernels import combiner_draws, doors, encoder_draws, gated
from pgm_rnn.kernels.guided_runs import GuidedRun, Particles, run
from pgm_rnn.kernels.guided_steps import GuidedSteps


class Map(NamedTuple):
    """W v + b.

    Attributes:
        weight: W.
        bias: b.
    """

    weight: Tensor
    bias: Tensor


class EncoderLaws(NamedTuple):
    """The model's laws: z_t from `prior` of relu(`inside` of h_t), x_t from `bits` of relu(`outside` of p_t and h_t).

    p_t = relu(P z_t + q) is what the encoder's weights extract of a state.
    """

    inside: Map
    prior: Map
    outside: Map
    bits: Map

    @staticmethod
    def shapes(units: int, dim: int, features: int, outputs: int) -> list[tuple[int, int]]:
        """Shapes of the matrices for H units, D entries of a state, F features of it and M bits."""
        return [(units, units), (2 * dim, units), (units, features + units), (outputs, units)]


class CombinerLaws(NamedTuple):
    """The model's laws: gated moves of z, and bits from two rectified layers.

    z_t ~ N((1 - g) linear + g n, softplus(deviation of relu(n))^2), g = sigmoid(gate of relu(gate_inside)), n =
    proposed of relu(proposed_inside), all of z_{t-1}; x_t from `bits` of relu(second of relu(outside of z_t)).
    """

    gate_inside: Map
    gate: Map
    proposed_inside: Map
    proposed: Map
    linear: Map
    deviation: Map
    outside: Map
    second: Map
    bits: Map

    @staticmethod
    def shapes(units: int, dim: int, outputs: int) -> list[tuple[int, int]]:
        """Shapes of the matrices for H units of each layer, D entries of a state and M bits."""
        moves = [(units, dim), (dim, units), (units, dim), (dim, units), (dim, dim), (dim, dim)]
        return [*moves, (units, dim), (units, units), (outputs, units)]


class Guide(ABC):
    """A guide of B sequences of T steps, with a model's laws.

    Attributes:
        features: what the guide reads of the observations, (B, T, F).
        x: bits, (B, T, M), of the dtype of the features.
        dim: number D of entries of a state.
    """

    features: Tensor
    x: Tensor
    dim: int

    @abstractmethod
    def steps(self, num_particles: int) -> GuidedSteps:
        """The steps of a filter with N particles, without gradients."""

    def run(self, particles: Particles) -> GuidedRun:
        """All steps of a filter; the states drawn are differentiable in features and weights.

        Raises:
            TypeError: noise, uniforms or lengths of another dtype.
            ValueError: shapes or devices that do not fit each other.
        """
        particles.check(self.features, self.dim)
        return self._run(particles)

    @abstractmethod
    def _run(self, particles: Particles) -> GuidedRun:
        """The same for particles that fit."""


class EncoderGuide(Guide):
    """An encoder along its cell, from `along_encoder`."""

    def __init__(
        self, features: Tensor, x: Tensor, start: Tensor, weights: encoder_draws.Weights, laws: EncoderLaws
    ) -> None:
        self.features, self.x, self._start, self._weights = features, x, start, weights
        self._maps = [*weights, *_parts(laws)]
        self.dim = len(weights.head_bias) // 2

    @override
    def steps(self, num_particles: int) -> GuidedSteps:
        given = self.features, self.x, self._start, self._maps, num_particles, self.dim
        return GuidedSteps("encoder_step", *given, memory=True)

    @override
    def _run(self, particles: Particles) -> GuidedRun:
        read, start = particles.repeated(self.features), self._start.expand(len(particles.noise), -1)
        space = encoder_draws.room(read, particles.noise, start, self._weights)
        given = self.features, self.x, self._start, *self._maps
        found = run("along_encoder", particles, given, space)
        z, h, scale, _ = encoder_draws.filled(space, found.lineage, read, particles.noise, start, self._weights)
        return GuidedRun(z, h, scale, *found)


class CombinerGuide(Guide):
    """A combiner, from `along_combiner`."""

    def __init__(
        self,
        features: Tensor,
        x: Tensor,
        starts: tuple[Tensor, Tensor],
        weights: combiner_draws.Weights,
        laws: CombinerLaws,
    ) -> None:
        self.features, self.x, self._starts, self._weights = features, x, starts, weights
        self._maps = [*weights, *_parts(laws)]
        self.dim = len(starts[0])

    @override
    def steps(self, num_particles: int) -> GuidedSteps:
        start, of_model = self._starts
        given = self.features, self.x, start, [*self._maps, of_model], num_particles, self.dim
        return GuidedSteps("combiner_step", *given, memory=False)

    @override
    def _run(self, particles: Particles) -> GuidedRun:
        read, start = particles.repeated(self.features), self._starts[0].expand(len(particles.noise), -1)
        space = combiner_draws.room(read, particles.noise, start, self._weights)
        found = run("along_combiner", particles, (self.features, self.x, *self._starts, *self._maps), space)
        z, scale = combiner_draws.filled(space, found.lineage, read, particles.noise, start, self._weights)
        return GuidedRun(z, None, scale, *found)


def along_encoder(
    features: Tensor, x: Tensor, start: Tensor, weights: encoder_draws.Weights, laws: EncoderLaws
) -> EncoderGuide | None:
    """An encoder and its cell from h_1; None for tensors that do not run compiled (`gated.suits`).

    Args:
        features: a_t beside b_t as in `encoder_draws`, (B, T, G H).
        x: bits, (B, T, M).
        start: h_1, (H,), or with the cells of an LSTM (2 H,).
        weights: the maps of encoder, cell and features of a state.
        laws: the model's.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other.
    """
    batch, num_steps, _ = doors.main_tensor("features", features, "B, T, G H")
    size, outputs = doors.main_tensor("head", weights.head, "2 D, H")[1], doors.main_tensor("x", x, "B, T, M")[-1]
    dim = doors.main_tensor("head_bias", weights.head_bias, "2 D")[0] // 2
    width = doors.main_tensor("extract_bias", weights.extract_bias, "F")[0]
    doors.tensor("x", x, features, batch, num_steps, outputs)
    doors.tensor("start", start, features, encoder_draws.memory_size(features, size))
    encoder_draws.check_weights(weights, features, size, dim, width)
    _check_laws(laws, EncoderLaws.shapes(size, dim, width, outputs), features)
    units = max(len(weights.extract_bias), *(len(law.bias) for law in laws))
    fits = gated.suits(features, x, start, *weights, *_parts(laws), units=units)
    return EncoderGuide(features, x, start, weights, laws) if fits else None


def along_combiner(
    features: Tensor, x: Tensor, starts: tuple[Tensor, Tensor], weights: combiner_draws.Weights, laws: CombinerLaws
) -> CombinerGuide | None:
    """A combiner; None for tensors that do not run compiled (`gated.suits`).

    Args:
        features: f_t as in `combiner_draws`, (B, T, G).
        x: bits, (B, T, M).
        starts: the guide's z_0 and the model's, (D,) each.
        weights: the maps of the combiner.
        laws: the model's.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other.
    """
    batch, num_steps, width = doors.main_tensor("features", features, "B, T, G")
    outputs, dim = doors.main_tensor("x", x, "B, T, M")[-1], doors.main_tensor("z_0", starts[0], "D")[0]
    size = doors.main_tensor("bias", laws.outside.bias, "H")[0]
    doors.tensor("x", x, features, batch, num_steps, outputs)
    for start in starts:
        doors.tensor("z_0", start, features, dim)
    combiner_draws.check_weights(weights, features, width, dim)
    _check_laws(laws, CombinerLaws.shapes(size, dim, outputs), features)
    units = max(len(weights.combiner_bias), *(len(law.bias) for law in laws))
    fits = gated.suits(features, x, *starts, *weights, *_parts(laws), units=units)
    return CombinerGuide(features, x, starts, weights, laws) if fits else None


def _parts(laws: Sequence[Map]) -> list[Tensor]:
    """Matrix and vector of each map, one after the other."""
    return [part for law in laws for part in law]


def _check_laws(laws: Any, shapes: list[tuple[int, int]], like: Tensor) -> None:
    for (name, law), shape in zip(laws._asdict().items(), shapes, strict=True):
        doors.tensor(f"weight of {name}", law.weight, like, *shape)
        doors.tensor(f"bias of {name}", law.bias, like, shape[0])
