"""A linear recurrence is a scan: all its states are prefixes of one associative product.

z_t = A_t z_{t-1} + b_t          (A, b) * (A', b') = (A' A, A' b + b'),   z_t = A_{1:t} z_0 + b_{1:t}
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, rounding
from pgm_rnn.claims.vidal_2024 import PAPER
from pgm_rnn.kernels.diagonal import by_scan
from pgm_rnn.kernels.scan import Elements, associative_scan
from pgm_rnn.randomness import seeded

BATCH, DIM = 2, 3
Case = tuple[str, int]
"""Kind of coefficients, and steps."""


def composed(earlier: Elements, later: Elements) -> Elements:
    """z -> A' (A z + b) + b', for matrices."""
    (A, b), (A_later, b_later) = earlier, later
    return A_later @ A, (A_later @ b[..., None])[..., 0] + b_later


def random_maps(case: Case, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A_t, (T, B, D, D) or their diagonals (T, B, D), b_t and z_0; the largest |eigenvalue| is below one."""
    kind, num_steps = case
    dtype = torch.complex128 if kind == "complex" else torch.float64
    shape = (num_steps, BATCH, DIM, DIM) if kind == "matrix" else (num_steps, BATCH, DIM)
    with seeded(seed):
        A = torch.randn(shape, dtype=dtype)
        b, start = torch.randn(num_steps, BATCH, DIM, dtype=dtype), torch.randn(BATCH, DIM, dtype=dtype)
    A = 0.95 * torch.linalg.qr(A).Q if kind == "matrix" else 0.95 * A / (0.1 + A.abs())
    return A, b, start


def recursion(A: Tensor, b: Tensor, start: Tensor, squashed: bool) -> Tensor:
    """z_1, ..., z_T, (T, B, D), one after the other; with a tanh around each step, if asked."""
    z, states = start, []
    for A_t, b_t in zip(A, b, strict=True):
        z = (A_t @ z[..., None])[..., 0] + b_t if A.dim() == 4 else A_t * z + b_t
        z = torch.tanh(z) if squashed else z
        states.append(z)
    return torch.stack(states)


def scanned(A: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """The same by prefixes of products."""
    if A.dim() == 3:
        return by_scan(A, b, start)
    products, offsets = associative_scan(composed, (A, b))
    return (products @ start[..., None])[..., 0] + offsets


class ScanIsRecursion(Claim):
    """Because everything is linear, states can be computed in any order of composition."""

    id = "scan-is-recursion"
    source = f"{PAPER}, RNNs vs LDSs"
    statement = "the states of a linear recurrence are prefixes of an associative product, all found in 2 log2 T rounds"
    quotation = "Everything is linear"
    meaning = (
        "A step of a linear recurrence is an affine map of the state. Affine maps compose to affine maps, so the steps "
        "can be multiplied in pairs, the pairs in fours, and so on: T states take 2 log2 T rounds in place of T. A "
        "network with an activation has no such short form, and must be run step by step."
    )
    hypotheses = "each step is z_t = A_t z_{t-1} + b_t with A_t and b_t that do not read z"
    routes = "an associative scan of the pairs (A_t, b_t), diagonal, complex or full, against one step after the other"
    control = "a tanh around each step, whose pairs (A_t, b_t) no longer compose"
    proof = (
        "Let (A, b) stand for z -> A z + b. Then (A, b) * (A', b') = (A' A, A' b + b') is the map of both steps, and "
        "* is associative because composing maps is. z_t is the prefix (A_1, b_1) * ... * (A_t, b_t) at z_0. For "
        "T = 2 n the n products of neighbours have prefixes z_2, z_4, ..., found in the same way, and z_{2i+1} is one "
        "more step from z_{2i}: D(T) = D(T / 2) + 2 rounds, which is 2 log2 T."
    )

    @override
    def cases(self) -> Sequence[Case]:
        return [("diagonal", 1), ("matrix", 7), ("complex", 100), ("diagonal", 1000), ("matrix", 100), ("complex", 33)]

    @property
    @override
    def tolerance(self) -> float:
        """States are sums of at most 1 / (1 - 0.95) = 20 terms of order one."""
        return 20 * rounding(1000, width=DIM)

    @override
    def residual(self, case: Case, seed: int) -> float:
        return self._distance(case, seed, squashed=False)

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        return self._distance(case, seed, squashed=True)

    @torch.no_grad()
    def _distance(self, case: Case, seed: int, squashed: bool) -> float:
        A, b, start = random_maps(case, seed)
        return float((scanned(A, b, start) - recursion(A, b, start, squashed)).abs().max())

    @override
    def notes(self, seed: int) -> Sequence[str]:
        """The number of rounds for some T, counted."""
        found = []
        for num_steps in (16, 256, 4096):
            rounds = 0

            def add(earlier: Elements, later: Elements) -> Elements:
                nonlocal rounds
                rounds += 1
                return (earlier[0] + later[0],)

            associative_scan(add, (torch.ones(num_steps),))
            found.append(f"T = {num_steps}: {rounds} rounds")
        return found
