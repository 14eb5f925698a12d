"""Results of the recursions of a Markov chain (`pgm_rnn.kernels.hmm`)."""

from typing import NamedTuple

from torch import Tensor

from pgm_rnn.kernels import hmm_wide


class Forward(NamedTuple):
    """Result of the forward recursion.

    Attributes:
        log_normalizers: log c_t = log p(x_t | x_{1:t-1}), (B, T), nats, 0 in the padding, -inf for an impossible step.
        filtered: p(z_t | x_{1:t}), (B, T, K), 0 in the padding and after an impossible step.
        emission: p(x_t | z_t) up to one factor per step, (B, T, K).
        scale: c_t up to the same factor, (B, T).
        wide: the beliefs with their own exponents (`hmm_wide`), if all sequences need them; else None.
        parts: groups of sequences that were computed in different ways; empty if all were computed alike.
        scanned: whether it is a scan over time (`hmm_scan`), which then goes backward by a scan, too.
    """

    log_normalizers: Tensor
    filtered: Tensor
    emission: Tensor
    scale: Tensor
    wide: hmm_wide.Wide | None = None
    parts: "tuple[Part, ...]" = ()
    scanned: bool = False


class Part(NamedTuple):
    """Sequences that were computed together.

    Attributes:
        rows: their places in the batch, (N,).
        lengths: their lengths, (N,).
        result: their result, in a dtype that loses no state.
    """

    rows: Tensor
    lengths: Tensor
    result: Forward


class Backward(NamedTuple):
    """Result of the backward recursion, 0 in the padding.

    Attributes:
        smoothed: p(z_t | x_{1:T}), (B, T, K).
        future: p(x_t | z_t) b_t(z_t) / c_t, (B, T, K).
    """

    smoothed: Tensor
    future: Tensor
