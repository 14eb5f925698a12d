"""The steps of a particle filter along the guide of a deep model of bits, compiled: a call per step for all particles.

    z_t = loc + e_t s,       log w_t = log p(x_t | z_t, h_t) + log p(z_t | ...) - log q(z_t | ...)

e_t is standard normal, z_t follows an encoder along its cell (`encoder_draws`) or a combiner (`combiner_draws`), and
x_t are independent bits. Between the steps the caller resamples. There are no gradients: in torch most of the time of
such a step goes into starting operations, of which it has some fifty.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels import combiner_draws, doors, encoder_draws, gated, positive
from pgm_rnn.kernels.hmm_lanes import LANES
from pgm_rnn.kernels.lineages import Lineage
from pgm_rnn.kernels.threads import Repeated, run_compiled

SMALL = 2**21
"""Products of a step with fewer numbers than these are faster in one thread."""


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


class Moved(NamedTuple):
    """Particles after a step.

    Attributes:
        z: states, (N, B, D).
        h: the memory that they were drawn with, (N, B, S); None without one.
        log_ratios: log w_t, (N, B), nats.
    """

    z: Tensor
    h: Tensor | None
    log_ratios: Tensor


class GuidedSteps:
    """All particles along a guide; `advance` is called for t = 0, 1, ..., T - 1, once each.

    Args:
        function: name of the compiled function.
        features: what the guide reads of the observations, (B, T, F).
        x: bits, (B, T, M), of the dtype of the features.
        start: what the function carries from step to step, before the first one, (S,).
        maps: matrices and vectors, in the function's order.
        num_particles: N.
        dim: number D of entries of a state.
        memory: whether the function fills h.

    Attributes:
        keeps: whether the noise and the places of all steps are kept, to be set before the first one; a filter's memory
            does not grow with T without it.
        noise: e_t of every step so far, (N, B, D) each.
        places: those that `advance` was given, (N, B) each.
    """

    keeps = False

    def __init__(
        self,
        function: str,
        features: Tensor,
        x: Tensor,
        start: Tensor,
        maps: Iterable[Tensor],
        num_particles: int,
        dim: int,
        *,
        memory: bool,
    ) -> None:
        self.noise: list[Tensor] = []
        self.places: list[Tensor | None] = []
        self._shape, self._like, self._memory = (num_particles, len(x), dim), start.detach(), memory
        rows, maps = num_particles * len(x), [_flat(part) for part in maps]
        self._rows, self._given, self._maps = rows, (_flat(features), _flat(x)), maps
        self._num_done = 0
        self._carried = _flat(self._like[:, None].repeat(-(-rows // LANES), 1, LANES))
        self._none = torch.empty(0, dtype=torch.int64).numpy()
        self._function = _for_size(function, rows * sum(len(part) for part in maps))

    def advance(self, places: Tensor | None) -> Moved:
        """The next step, with noise from torch's generator.

        Args:
            places: where each particle's ancestor stands, n' B + b for ancestor n' of sequence b, (N, B); None where
                each is its own.
        """
        num, batch, _ = self._shape
        e = torch.randn(self._shape, dtype=self._like.dtype)
        z, log_ratios = torch.empty_like(e), e.new_empty(num, batch)
        h = e.new_empty(num, batch, len(self._like)) if self._memory else None
        filled = [part.view(-1).numpy() for part in (z, h, log_ratios) if part is not None]
        numbers = self._rows, num, self._num_done, positive.least_scale(e.dtype)
        before = self._none if places is None else _flat(places)
        self._function(*self._given, e.view(-1).numpy(), before, *self._maps, self._carried, *filled, *numbers)
        self._num_done += 1
        if self.keeps:
            self.noise.append(e)
            self.places.append(None if places is None else places.clone())  # the next step overwrites them
        return Moved(z, h, log_ratios)

    @property
    def lineage(self) -> Lineage:
        """The ancestors of all particles in all steps so far, if they were kept."""
        num, batch, _ = self._shape
        own = torch.arange(num * batch).view(num, batch)
        places = torch.stack([own if part is None else part for part in self.places])  # (T, N, B), n' B + b
        return Lineage((places % batch * num + places // batch).permute(2, 1, 0).flatten(0, 1), num)


def along_encoder(
    features: Tensor, x: Tensor, start: Tensor, weights: encoder_draws.Weights, laws: EncoderLaws, num_particles: int
) -> GuidedSteps | None:
    """Steps along an encoder and its cell from h_1; None for tensors that do not run compiled (`gated.suits`).

    Args:
        features: a_t beside b_t as in `encoder_draws`, (B, T, G H).
        x: bits, (B, T, M).
        start: h_1, (H,), or with the cells of an LSTM (2 H,).
        weights: the maps of encoder, cell and features of a state.
        laws: the model's.
        num_particles: N.

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
    maps = [*weights, *(part for law in laws for part in law)]
    units = max(len(weights.extract_bias), *(len(law.bias) for law in laws))
    if not gated.suits(features, x, start, *maps, units=units):
        return None
    return GuidedSteps("encoder_step", features, x, start, maps, num_particles, dim, memory=True)


def along_combiner(
    features: Tensor,
    x: Tensor,
    starts: tuple[Tensor, Tensor],
    weights: combiner_draws.Weights,
    laws: CombinerLaws,
    num_particles: int,
) -> GuidedSteps | None:
    """Steps along a combiner; None for tensors that do not run compiled (`gated.suits`).

    Args:
        features: f_t as in `combiner_draws`, (B, T, G).
        x: bits, (B, T, M).
        starts: the guide's z_0 and the model's, (D,) each.
        weights: the maps of the combiner.
        laws: the model's.
        num_particles: N.

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
    own, of_model = starts
    maps = [*weights, *(part for law in laws for part in law), of_model]
    units = max(len(weights.combiner_bias), *(len(law.bias) for law in laws))
    if not gated.suits(features, x, own, *maps, units=units):
        return None
    return GuidedSteps("combiner_step", features, x, own, maps, num_particles, len(own), memory=False)


def _check_laws(laws: Any, shapes: list[tuple[int, int]], like: Tensor) -> None:
    for (name, law), shape in zip(laws._asdict().items(), shapes, strict=True):
        doors.tensor(f"weight of {name}", law.weight, like, *shape)
        doors.tensor(f"bias of {name}", law.bias, like, shape[0])


def _flat(part: Tensor) -> Any:
    return part.detach().contiguous().view(-1).numpy()


def _for_size(function: str, work: int) -> Any:
    from pgm_rnn.kernels import guided_steps_compiled

    found = getattr(guided_steps_compiled, function)
    return Repeated(found) if work < SMALL else partial(run_compiled, found)
