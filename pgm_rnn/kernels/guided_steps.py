"""The steps of a particle filter along the guide of a deep model of bits, compiled: a call per step for all particles.

    z_t = loc + e_t s,       log w_t = log p(x_t | z_t, h_t) + log p(z_t | ...) - log q(z_t | ...)

e_t is standard normal, and the laws are a guide's (`guides`). Between the steps the caller resamples. There are no
gradients: in torch most of the time of such a step goes into starting operations, of which it has some fifty.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels import positive
from pgm_rnn.kernels.gated import flat
from pgm_rnn.kernels.hmm_lanes import LANES
from pgm_rnn.kernels.lineages import Lineage
from pgm_rnn.kernels.threads import Repeated, run_compiled

SMALL = 2**21
"""Products of a step with fewer numbers than these are faster in one thread."""


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


def _flat(part: Tensor) -> Any:
    return flat(part).numpy()


def _for_size(function: str, work: int) -> Any:
    from pgm_rnn.kernels import guided_steps_compiled

    found = getattr(guided_steps_compiled, function)
    return Repeated(found) if work < SMALL else partial(run_compiled, found)
