"""A switching model with its vectors summed out: the regimes are the states, and the memory is a Kalman filter.

    h_t = (s_{t-1}, m, P)      m, P: moments of p(y_{t-1} | s_{1:t-1}, x_{1:t-1})
    s_t ~ p(s_t | s_{t-1})     x_t | s_{1:t}, x_{1:t-1} ~ N(C m' + d, C P' C' + R),   m', P': one move further

The recurrence is one step of the filter in the regime s_{t-1}: a deterministic memory that reads the states. So every
engine that takes such a model takes this one. The particle filter on it is the Rao-Blackwellised filter of the
switching model, because a particle is a path of regimes with its own Kalman filter. The guide is the best one that
looks one step ahead, q(s_t) proportional to p(s_t | s_{t-1}) p(x_t | s_{1:t}, x_{1:t-1}).

Sources: Chen & Liu (2000), who call it the mixture Kalman filter; Doucet, Godsill & Andrieu (2000), sec. 4.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.inference.mixture_kalman.predictive import Predictive
from pgm_rnn.kernels.normal_update import log_density, predicted, updated
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.chains import as_vectors
from pgm_rnn.sequence_model.conditionals import example_of
from pgm_rnn.sequence_model.once import ComputedOnce
from pgm_rnn.sequence_model.regimes import Moves, Sees, Start, moves_of, sees_of, start_of
from pgm_rnn.states import FiniteStates


class Tables(NamedTuple):
    """The laws of a model without memory and inputs, for every regime.

    Attributes:
        start: of s_1 and y_1.
        moves: after each regime, (K, K, ...).
        sees: of x_t in each regime, (K, ...).
    """

    start: Start
    moves: Moves
    sees: Sees


class RegimeModel(SequenceModel, ComputedOnce[Tables | None]):
    """The law of regimes and observations of a switching model, whose parameters are this model's, too.

    Args:
        model: with `SwitchingStates`, whose regimes do not read the vectors.
        fixed_guide: whether gradients leave out that the guide depends on the parameters, as
            `log_marginal_likelihood` needs.

    Example:
        >>> from pgm_rnn.inference import smc
        >>> from pgm_rnn.models import SwitchingLinearSSM
        >>> model = SwitchingLinearSSM.random(num_regimes=2, latent_dim=1, obs_dim=1, seed=0)
        >>> regimes = RegimeModel(model)
        >>> smc.filter(regimes, torch.zeros(1, 5, 1), num_particles=10, seed=0).particles.shape
        torch.Size([10, 1])
    """

    memory_reads_state = True
    transition_reads_state = False
    laws_are_known = True

    def __init__(self, model: Any, *, fixed_guide: bool = False) -> None:
        super().__init__(model.family, model.first)
        self.switching, self.fixed_guide = model, fixed_guide
        self.num_regimes, self.dim = model.states.num_regimes, model.states.dim
        self.width = model.family.event_shape.numel()
        self.states = FiniteStates(self.num_regimes)
        self.input_dim = model.input_dim

    @property
    def initial_memory(self) -> Tensor:  # type: ignore[override]
        """h_1: -1 for no regime before, zeros for moments, and the model's own memory."""
        like, own = example_of(self.switching), self.switching.initial_memory
        empty = torch.cat([like.new_full((1,), -1.0), like.new_zeros(self.dim + self.dim**2)])
        return empty if own is None else torch.cat([empty, own])

    def compute(self) -> Tables | None:
        """The laws in every regime, where they are the same at every step; None for a model with memory or inputs."""
        if self.switching.initial_memory is not None or self.input_dim is not None:
            return None
        model, every = self.switching, torch.arange(self.num_regimes, device=example_of(self.switching).device)
        return Tables(start_of(model, None), moves_of(model, every, None), sees_of(model, every, None, self.width))

    def recurrence(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        """cat(s, m, P, the model's own memory), (..., memory_dim)."""
        mean, cov = self.filtered(h, z, x)
        parts = [z[..., None].to(mean.dtype).expand(*mean.shape[:-1], 1), mean, cov.flatten(-2)]
        if self.switching.initial_memory is not None:
            parts.append(self.switching.recurrence(self._own(h), None, x).expand(*mean.shape[:-1], -1))
        return torch.cat(parts, dim=-1)

    def initial(self, h: Tensor) -> TorchDistribution:
        """p(s_t | h_t), which has the regime before in it."""
        return dist.Categorical(logits=self.ahead(h).log_probs, validate_args=False)

    def transition(self, z: Any, h: Tensor) -> TorchDistribution:
        """p(s_t | h_t)."""
        return self.initial(h)

    def emission(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """p(x_t | s_{1:t}, x_{1:t-1}), a normal law."""
        ahead, sees = self.ahead(h, z), self._sees(h, z)
        mean, cov = predicted(ahead.mean, ahead.cov, *sees)
        return Predictive(mean, cov, self.family.event_shape)

    def proposal(self, z: Any, h: Tensor, features: Tensor) -> TorchDistribution:
        """q(s_t) proportional to p(s_t | s_{t-1}) p(x_t | s_{1:t}, x_{1:t-1}), for features x_t (..., M)."""
        ahead, sees = self.ahead(h), self._sees(h)
        density = log_density(*predicted(ahead.mean, ahead.cov, *sees), features[..., None, :])
        lost = ~density.isfinite().any(-1, keepdim=True)  # the weights will say so
        logits = ahead.log_probs + density.nan_to_num(nan=-torch.inf, neginf=-torch.inf).where(~lost, 0.0)
        return dist.Categorical(logits=logits.detach() if self.fixed_guide else logits, validate_args=False)

    def encode(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The observations as vectors, (batch, T, M)."""
        return as_vectors(x)

    def filtered(self, h: Tensor, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Moments of p(y_t | s_{1:t}, x_{1:t}), (..., D) and (..., D, D), from h_t, s_t and x_t (..., *event)."""
        ahead, sees = self.ahead(h, z), self._sees(h, z)
        vectors = x if self.family.event_shape else x[..., None]
        return updated(ahead.mean, ahead.cov, *sees, vectors)[1:]

    def ahead(self, h: Tensor, z: Tensor | None = None) -> Start:
        """log p(s_t | s_{t-1}), and moments of y_t given s_{1:t} and x_{1:t-1}: for the regimes z, or None for all."""
        mean, cov = h[..., 1 : 1 + self.dim], h[..., 1 + self.dim : 1 + self.dim + self.dim**2]
        cov = cov.unflatten(-1, (self.dim, self.dim))
        if z is None:
            mean, cov = mean[..., None, :], cov[..., None, :, :]
        begins = h[..., 0] < 0
        if bool(begins.all()):
            return self._start(h, z)
        moves = self.moves_between(h[..., 0].clamp(min=0).long(), z, self._own(h))
        later = Start(moves.log_probs, *predicted(mean, cov, moves.matrix, moves.offset, moves.cov))
        if not bool(begins.any()):
            return later
        chosen = begins[..., None] if z is None else begins
        parts = zip(self._start(h, z), later, (0, 1, 2), strict=True)
        return Start(*(first.where(chosen[(..., *(None,) * own)], after) for first, after, own in parts))

    def _own(self, h: Tensor) -> Tensor | None:
        """What the switching model sees of h: its own memory and the inputs."""
        own = h[..., 1 + self.dim + self.dim**2 :]
        return own if own.shape[-1] else None

    def moves_between(self, before: Tensor, after: Tensor | None, own: Tensor | None) -> Moves:
        """The laws of the move from regimes `before` (*batch) to `after`, or to all, for what the model sees of h."""
        kept = self.value
        if kept is not None:
            return Moves(*(part[before] if after is None else part[before, after] for part in kept.moves))
        moves = moves_of(self.switching, before, own)
        return moves if after is None else Moves(*_picked(moves, after, (0, 2, 1, 2)))

    def sees_in(self, regime: Tensor, own: Tensor | None) -> Sees:
        """The law of an observation in regimes (*batch), for what the model sees of h, (*batch, dim)."""
        kept = self.value
        if kept is not None:
            return Sees(*(part[regime] for part in kept.sees))
        assert own is not None  # a model with memory or inputs
        shape = torch.broadcast_shapes(regime.shape, own.shape[:-1])
        return sees_of(self.switching, regime.expand(shape), own.expand(*shape, -1), self.width)

    def _sees(self, h: Tensor, z: Tensor | None = None) -> Sees:
        own = self._own(h)
        if z is not None:
            return self.sees_in(z, own)
        every = torch.arange(self.num_regimes, device=h.device)
        return self.sees_in(every, None if own is None else own[..., None, :])

    def _start(self, h: Tensor, z: Tensor | None) -> Start:
        kept = self.value
        start = start_of(self.switching, self._own(h)) if kept is None else kept.start
        if z is not None:
            return Start(*_picked(start, z, (0, 1, 2)))
        own = zip(start, (1, 2, 3), strict=True)
        return Start(*(part.expand(*h.shape[:-1], *part.shape[-axes:]) for part, axes in own))


def _picked(parts: Iterable[Tensor], z: Tensor, own: tuple[int, ...]) -> list[Tensor]:
    """The entries of regimes z (*batch) of parameters (*batch, K, *own axes), whose batch axes broadcast."""
    found = []
    for part, axes in zip(parts, own, strict=True):
        lead = part.shape[: part.dim() - axes - 1]
        shape = torch.broadcast_shapes(z.shape, lead)
        full = part.expand(*shape, *part.shape[len(lead) :])
        index = z.expand(shape)[(..., *(None,) * (axes + 1))].expand(*shape, 1, *full.shape[full.dim() - axes :])
        found.append(full.gather(len(shape), index).squeeze(len(shape)))
    return found
