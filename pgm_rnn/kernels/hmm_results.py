"""What the recursions of a Markov chain leave (`pgm_rnn.kernels.hmm`)."""

from typing import NamedTuple

from torch import Tensor

from pgm_rnn.kernels import hmm_wide


class Forward(NamedTuple):
    """What the forward recursion leaves.

    Attributes:
        log_normalizers: log c_t = log p(x_t | x_{1:t-1}), (B, T), nats, 0 in the padding, -inf for an impossible step.
        filtered: p(z_t | x_{1:t}), (B, T, K), 0 in the padding and after an impossible step.
        emission: p(x_t | z_t) up to a factor a step, (B, T, K).
        scale: c_t up to the same factor, (B, T).
        wide: the beliefs with exponents of their own, where the sequences need them (`hmm_wide`).
        parts: where they differ in that, those that were done together.
    """

    log_normalizers: Tensor
    filtered: Tensor
    emission: Tensor
    scale: Tensor
    wide: hmm_wide.Wide | None = None
    parts: "tuple[Part, ...]" = ()


class Part(NamedTuple):
    """Sequences that were done together.

    Attributes:
        rows: which, (N,).
        lengths: theirs, (N,).
        result: theirs, in a dtype that loses no state.
    """

    rows: Tensor
    lengths: Tensor
    result: Forward


class Backward(NamedTuple):
    """What the backward recursion leaves, 0 in the padding.

    Attributes:
        smoothed: p(z_t | x_{1:T}), (B, T, K).
        future: p(x_t | z_t) b_t(z_t) / c_t, (B, T, K).
    """

    smoothed: Tensor
    future: Tensor
