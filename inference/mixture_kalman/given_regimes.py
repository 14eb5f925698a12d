"""What is exact once the regimes are known: the vectors follow a linear-Gaussian chain with parameters of each step."""

from typing import Any

import torch
from torch import Tensor

from pgm_rnn.kernels.gaussian_chain import GaussianChain, per_entry
from pgm_rnn.sequence_model import memory_of
from pgm_rnn.sequence_model.chains import Chained, as_vectors
from pgm_rnn.sequence_model.regimes import moves_of, sees_of, start_of
from pgm_rnn.sequences import Sequences, length_mask


def chain_given(model: Any, regimes: Tensor, data: Sequences) -> Chained:
    """The chain of y_{1:T} and x_{1:T} given s_{1:T} (R, T), for R sequences, NaN where an observation is missing."""
    x = as_vectors(data.x)
    h = memory_of(model).unroll(data.x, None, data.inputs)
    before = regimes[:, :-1] if x.shape[1] > 1 else regimes  # a law is asked of some step, though one step has no move
    after = regimes[:, 1:] if x.shape[1] > 1 else regimes
    later = h if h is None or x.shape[1] == 1 else h[:, 1:]
    start = start_of(model, None if h is None else h[:, 0])
    moves, sees = moves_of(model, before, later), sees_of(model, regimes, h, x.shape[-1])
    row = torch.arange(len(x), device=x.device)
    mean, cov = (
        part.expand(len(x), *part.shape[-own:])[row, regimes[:, 0]] for part, own in ((start.mean, 2), (start.cov, 3))
    )
    matrix, offset, noise = (_picked(part, after) for part in (moves.matrix, moves.offset, moves.cov))
    chain = GaussianChain(mean, cov, matrix, noise, sees.matrix, sees.cov, offset)
    there = ~x.isnan() & length_mask(data.lengths, x.shape[1])[..., None]
    whole = bool((there == length_mask(data.lengths, x.shape[1])[..., None]).all())
    centred = (x - sees.offset).where(there, 0.0)
    return Chained(chain, centred, data.lengths, None if whole else per_entry(there, centred))


def _picked(part: Tensor, regimes: Tensor) -> Tensor:
    """The entries of the next regimes (R, S) of parameters (R, S, K, ...)."""
    index = regimes[(..., None, *(None,) * (part.dim() - 3))].expand(*regimes.shape, 1, *part.shape[3:])
    return part.gather(2, index).squeeze(2)
