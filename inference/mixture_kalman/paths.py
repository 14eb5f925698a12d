"""Draws of whole paths of regimes given all observations, from the particles of a Rao-Blackwellised filter.

From the last step to the first, s_t^n is drawn for a path s_{t+1:T} with the weight

    W_t^n p(s_{t+1} | s_t^n) p(x_{t+1:T} | s_{1:t}^n, s_{t+1:T}, x_{1:t})

The last factor is an integral over y_{t+1}, of a normal law N(m, P) that the particle predicts and of

    p(x_{t+1:T} | y_{t+1}, s_{t+1:T})  proportional to  exp(-y' W y / 2 + w' y),

whose W and w a recursion from the last step to the first gives for every path:

    integral = |F|^{-1/2} exp(-m' W m / 2 + w' m + r' L F^{-1} L' r / 2),   F = I + L' W L,   P = L L',   r = w - W m

Source: Lindsten, Bunch, Särkkä, Schön & Godsill (2016).
"""

import torch
from torch import Tensor

from pgm_rnn.inference.mixture_kalman.regime_model import RegimeModel
from pgm_rnn.inference.smc.results import History
from pgm_rnn.kernels.small_matrices import cholesky, product, solve
from pgm_rnn.sequence_model import memory_of
from pgm_rnn.sequence_model.chains import as_vectors
from pgm_rnn.sequence_model.once import computed_once
from pgm_rnn.sequences import Sequences

_LARGEST = 2**24
"""Largest number of entries of the covariances that all paths and particles take at a step."""


@torch.no_grad()
def backward_paths(model: RegimeModel, history: History, data: Sequences, num_paths: int) -> Tensor:
    """Paths of regimes by backward simulation, (num_paths, B, T).

    Args:
        model: the regimes and observations of a switching model.
        history: the particles of all steps of a filter on it.
        data: checked data, NaN where an observation is missing.
        num_paths: number of paths for each sequence.
    """
    size = max(1, _LARGEST // (history.z[0].numel() * model.dim**2))
    with computed_once(model):
        backward = _Backward(model, history, data)
        return torch.cat([backward.paths(min(size, num_paths - start)) for start in range(0, num_paths, size)])


def _carried(model: RegimeModel, history: History, data: Sequences) -> list[Tensor]:
    """The memory of step t + 1 that each particle of step t leads to, (N, B, dim), t = 1..T - 1."""
    memory, found = memory_of(model), list[Tensor]()
    h = memory.start(len(data.x), None if data.inputs is None else data.inputs[:, 0])
    h = h.expand(history.z.shape[1], *h.shape)
    for t, read in enumerate(memory.reads(data.x, data.inputs)):
        if t > 0:
            h = found[-1].gather(0, history.ancestors[t][..., None].expand(h.shape))
        found.append(memory.step(h, history.z[t], memory.repeated(read, len(h))))
    return found


class _Backward:
    """The recursion from the last step to the first, for all paths and sequences.

    Args:
        model: as for `backward_paths`.
        history: likewise.
        data: likewise.
    """

    def __init__(self, model: RegimeModel, history: History, data: Sequences) -> None:
        self.model, self.history, self.lengths, self.x = model, history, data.lengths, as_vectors(data.x)
        self.carried = _carried(model, history, data)
        self.h = memory_of(model.switching).unroll(data.x, None, data.inputs)

    def paths(self, num_paths: int) -> Tensor:
        """Paths, (num_paths, B, T)."""
        z, log_weights, _ = self.history
        regimes = [_drawn(z[-1], log_weights[-1].expand(num_paths, *log_weights[-1].shape))]
        w = self.x.new_zeros(num_paths, len(self.lengths), self.model.dim)
        W = torch.diag_embed(w)
        for t in range(len(z) - 2, -1, -1):
            after, inside = regimes[-1], t < self.lengths - 1
            W, w = self._seen(W, w, after, t + 1)
            ahead = log_weights[t] + self._continuation(W, w, after, t)  # (num_paths, N, B)
            regimes.append(_drawn(z[t], ahead.where(inside, log_weights[t])))
            W, w = self._moved(W, w, regimes[-1], after, t + 1)
            W, w = W.where(inside[:, None, None], 0.0), w.where(inside[:, None], 0.0)
        return torch.stack(regimes[::-1], dim=2)

    def _seen(self, W: Tensor, w: Tensor, regimes: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """W and w of p(x_{t:T} | y_t) from those of p(x_{t+1:T} | y_t): plus C' R^{-1} C and C' R^{-1} (x_t - d)."""
        C, d, R = self.model.sees_in(regimes, self._own(t, regimes))
        there = ~self.x[:, t].isnan()
        R = R.where(there[..., None] & there[..., None, :], torch.diag_embed((~there).to(R.dtype)))
        C, x = C.where(there[..., None], 0.0), (self.x[:, t] - d).where(there, 0.0)
        weighted = torch.linalg.solve(R, C)
        return W + C.mT @ weighted, w + _times(weighted.mT, x)

    def _moved(self, W: Tensor, w: Tensor, before: Tensor, after: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """W and w of p(x_{t:T} | y_{t-1}) from those of p(x_{t:T} | y_t)."""
        _, A, b, Q = self.model.moves_between(before, after, self._own(t, before))
        gain = W @ torch.linalg.solve(_unit(Q) + Q @ W, Q)
        W, w = W - gain @ W, w - _times(gain, w)
        W = 0.5 * (W + W.mT)
        return A.mT @ W @ A, _times(A.mT, w - _times(W, b))

    def _continuation(self, W: Tensor, w: Tensor, after: Tensor, t: int) -> Tensor:
        """log p(s_{t+1} | s_t^n) and the logarithm of the integral over y_{t+1}, (num_paths, N, B)."""
        log_probs, means, covs = self.model.ahead(self.carried[t])  # (N, B, K, ...)
        particle, sequence = torch.meshgrid(*(torch.arange(n, device=W.device) for n in means.shape[:2]), indexing="ij")
        parts = (log_probs, means, cholesky(covs))
        log_p, m, L = (part[particle, sequence, after[:, None]] for part in parts)
        W, w = W[:, None], w[:, None]
        rest = w - product(W, m[..., None])[..., 0]
        inner = cholesky(_unit(L) + product(L.mT, product(W, L)))
        white = solve(inner, product(L.mT, rest[..., None]))[..., 0]
        exponent = 0.5 * ((m * (w + rest)).sum(-1) + white.square().sum(-1))  # w' m + r' m = 2 w' m - m' W m
        return log_p + exponent - inner.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def _own(self, t: int, like: Tensor) -> Tensor | None:
        """What the switching model sees of h_t, for regimes (num_paths, B)."""
        return None if self.h is None else self.h[:, t].expand(*like.shape, -1)


def _drawn(z: Tensor, log_weights: Tensor) -> Tensor:
    """States z (N, B) drawn by weights (num_paths, N, B): (num_paths, B)."""
    # the Gumbel-max trick: argmax_n (log w_n + Gumbel noise) has the distribution w_n / sum_m w_m
    noise = -torch.log(-torch.log(torch.rand_like(log_weights).clamp(min=torch.finfo(log_weights.dtype).tiny)))
    index = (log_weights + noise).argmax(1)
    return z.gather(0, index)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


def _unit(like: Tensor) -> Tensor:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)
