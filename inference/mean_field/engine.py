"""The functions `smooth` and `fit`, with their results.

    log q_m(z_{1:T}^m) = log p(z_{1:T}^m) + sum_t log h_t^m(z_t^m) - log Z_m
    bound = sum_t E_q[log p(x_t | z_t)] - sum_m (sum_t E_q[log h_t^m(z_t^m)] - log Z_m)

A sweep sets log h^m to what `evidence` says, one chain after the other. Each such step maximises the bound over q_m, so
that the bound never falls: Ghahramani & Jordan (1997), appendix C. The marginals of q_m are those of a hidden Markov
model with K_m states.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.checks import by_keyword, check_counts
from pgm_rnn.inference.diagnosis import check_numbers
from pgm_rnn.inference.mean_field.evidence import Evidence, evidence_of
from pgm_rnn.inference.suitable import check_trainable, unsuitable
from pgm_rnn.kernels import hmm
from pgm_rnn.results import shown
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.mixins import FitsChains
from pgm_rnn.sequence_model.observations import as_batch, checked
from pgm_rnn.sequence_model.products import chain_tables, has_chains
from pgm_rnn.sequences import Data, Sequences, length_mask


class MeanField(NamedTuple):
    """Result of `smooth`.

    Attributes:
        bound: a lower bound on log p(x_{1:T}) of each sequence, (B,), nats.
        smoothed_probs: q(z_t^m = k) of each chain, (B, T, K_m), 0 in the padding.
        chain_moves: expected moves of each chain under q, (K_m, K_m), summed over sequences and steps.
        num_sweeps: sweeps over the chains that were done.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "bound", "num_sweeps")

    bound: Tensor
    smoothed_probs: tuple[Tensor, ...]
    chain_moves: tuple[Tensor, ...]
    num_sweeps: int


class MeanFieldFit(NamedTuple):
    """Result of `fit`.

    Attributes:
        model: the model that was given, with its new parameters.
        bounds: the bound on the log likelihood of all sequences before each iteration and after the last, nats.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "model", "bounds")

    model: SequenceModel
    bounds: Tensor


@by_keyword
@torch.no_grad()
def smooth(
    model: SequenceModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    num_sweeps: int = 100,
    tolerance: float = 1e-6,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
) -> MeanField:
    """The best product of Markov chains in place of p(z_{1:T} | x_{1:T}), and its bound on the likelihood.

    The bound is exact for one chain. It may be a local maximum: sweeps start from the chains a priori.

    Args:
        model: with `ProductStates`. Of any number of values where it is a `GivesAdditiveNormal`, as a `FactorialHMM`
            of additive normal laws is; otherwise of as many as can be summed over at each step.
        x: a batch, observations (B, T, *event), or one sequence (T, *event), as any `Data`.
        lengths: (B,) steps of each sequence, None for T.
        num_sweeps: the largest number of sweeps.
        tolerance: stop when a sweep gains less than this in every sequence, nats per step.
        inputs: (B, T, input_dim) for a model with inputs.
        mask: True where x was observed, (B, T) or the shape of x; None for wherever it is not NaN.

    Raises:
        TypeError: a model without several chains, or with too many values and other laws.
        ValueError: a model with first="condition", options out of range, or observations that do not fit the model.

    Example:
        >>> from pgm_rnn.emissions import Gaussian
        >>> from pgm_rnn.models import FactorialHMM
        >>> model = FactorialHMM.random(num_chains=30, num_states=2, emission=Gaussian(3), seed=0)  # 10^9 values
        >>> smooth(model, model.sample(num_sequences=2, num_steps=5, seed=0)).bound.shape
        torch.Size([2])
    """
    check_counts(num_sweeps=num_sweeps)
    if not tolerance >= 0:
        raise ValueError(f"expected tolerance of at least 0, got {tolerance}")
    data = _checked(model, x, lengths, inputs, mask)
    chains, previous, done = _Chains(model, data), None, 0
    for _ in range(num_sweeps):
        chains.sweep()
        done += 1
        bound = chains.bound()
        if previous is not None and bool((bound - previous <= tolerance * data.lengths).all()):
            break
        previous = bound
    return MeanField(bound, tuple(chains.beliefs), tuple(chains.moves), done)


@torch.no_grad()
def fit(
    model: SequenceModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    num_iterations: int = 50,
    num_sweeps: int = 10,
    tolerance: float = 1e-6,
    mask: Tensor | None = None,
) -> MeanFieldFit:
    """Raise the bound by turns over the product of chains and over the parameters, in place.

    Every iteration goes on from the product before it, so that the bound never falls by more than rounding. It may rise
    while the likelihood falls.

    Args:
        model: as for `smooth`, and with a closed M-step (`FitsChains`), as a `FactorialHMM` with additive normal laws
            has.
        x: as for `smooth`.
        lengths: (B,) steps of each sequence, None for T.
        num_iterations: the largest number of iterations.
        num_sweeps: sweeps over the chains in each.
        tolerance: stop when an iteration gains less than this, nats per step.
        mask: as for `smooth`.

    Raises:
        TypeError: a model without several chains, or without that M-step.
        ValueError: as `smooth`, or a normal vector that is partly missing.
    """
    check_trainable("mean_field.fit", model, by_gradient=False)
    check_counts(num_iterations=num_iterations, num_sweeps=num_sweeps)
    if not isinstance(model, FitsChains):
        raise unsuitable("mean_field.fit", "several chains and a closed M-step (FitsChains)", model)
    data, bounds, beliefs = _checked(model, x, lengths, None, mask), [], None
    for _ in range(num_iterations + 1):
        chains = _Chains(model, data, beliefs)
        for _ in range(num_sweeps):
            chains.sweep()
        bounds.append(chains.bound().double().sum())
        gained = len(bounds) < 2 or float(bounds[-1] - bounds[-2]) > tolerance * data.num_steps
        if len(bounds) > num_iterations or not gained:
            break
        model.maximise_chains(data, chains.beliefs, chains.moves)
        beliefs = chains.beliefs
    return MeanFieldFit(model, torch.stack(bounds))


def _checked(
    model: SequenceModel, x: Data, lengths: Tensor | None, inputs: Tensor | None, mask: Tensor | None
) -> Sequences:
    """Checked data of a model with several chains.

    Raises:
        TypeError, ValueError: as `smooth`.
    """
    if not has_chains(model):
        raise unsuitable("mean_field", "several chains (ProductStates)", model)
    if model.first == "condition":
        raise ValueError(
            "expected a model with first='model' for mean_field, got first='condition', whose likelihood is a ratio "
            "that a bound on p(x) does not bound"
        )
    check_numbers(model)
    return checked(model, as_batch(model, x, lengths, inputs=inputs, mask=mask))


class _Chains:
    """The factors q_m of some sequences.

    Attributes:
        beliefs: q(z_t^m = k), (B, T, K_m) for each chain.
        moves: expected moves under q, (K_m, K_m) for each chain.
    """

    def __init__(self, model: SequenceModel, data: Sequences, beliefs: Sequence[Tensor] | None = None) -> None:
        self._evidence: Evidence = evidence_of(model, data)
        self._tables, self._lengths = chain_tables(model, data), data.lengths
        self._inside = length_mask(data.lengths, data.x.shape[1])
        num, steps = len(self._tables), data.x.shape[:2]
        self._logs = [table.new_zeros(*steps, table.shape[-1]) for _, table in self._tables]
        self._log_totals = [self._logs[0].new_zeros(steps[0])] * num
        self.beliefs, self.moves = list(self._logs), [table for _, table in self._tables]
        for m in range(num):
            self._update(m, self._logs[m])
        if beliefs is not None:
            self.beliefs = list(beliefs)

    def sweep(self) -> None:
        """Set each factor, one after the other, to the best one given the others."""
        for m in range(len(self.beliefs)):
            self._update(m, self._evidence.given_others(m, self.beliefs))

    def bound(self) -> Tensor:
        """The bound of each sequence after a sweep, (B,), nats."""
        total = self._evidence.expected(self.beliefs).sum(1)
        for belief, logs, log_total in zip(self.beliefs, self._logs, self._log_totals, strict=True):
            total = total - (belief * logs).sum((1, 2)) + log_total
        return total

    def _update(self, m: int, logs: Tensor) -> None:
        """Set factor m to that with log h^m = logs (B, T, K_m)."""
        initial, transition = self._tables[m]
        logs = logs.where(self._inside[..., None], 0.0).to(transition.dtype).contiguous()
        forward = hmm.forward(initial, transition, logs, self._lengths, in_whole=True)
        ones = torch.ones_like(logs[:, 0, 0])
        _, moves, self.beliefs[m] = hmm.expected_pairs(transition, self._lengths, forward, ones)
        self.moves[m] = moves.reshape(-1, *moves.shape[-2:]).sum(0)
        self._logs[m], self._log_totals[m] = logs, forward.log_normalizers.sum(1)
