"""Gibbs sampling of several chains (`ProductStates`): one whole chain is drawn given the others and the observations.

    z_{1:T}^m ~ p(z_{1:T}^m | z_{1:T}^{-m}, x_{1:T}),   m = 1..M, again and again

Given the others a chain is that of a hidden Markov model with the emission p(x_t | z_t^1, ..., z_t^M) as a function of
z_t^m, so its path is drawn exactly by filtering forward and sampling backward. A sweep over the chains costs
O(T sum_m K_m^2) and as many densities as T sum_m K_m: also where K_1 ... K_M values are too many to sum over.

Sources: Ghahramani & Jordan (1997), sec. 3.2, who draw one state at a time; Scott (2002) for whole paths.
"""

from typing import Any

import torch
from torch import Tensor

from pgm_rnn.checks import by_keyword, check_counts
from pgm_rnn.distributions.observed import observed_log_prob
from pgm_rnn.inference.diagnosis import check_numbers
from pgm_rnn.inference.suitable import unsuitable
from pgm_rnn.kernels import hmm
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel, memory_of
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequence_model.products import chain_tables, has_chains
from pgm_rnn.sequences import Data, Sequences, length_mask
from pgm_rnn.states import NO_STATE, ProductStates

__all__ = ["sample_states"]


@by_keyword
@torch.no_grad()
def sample_states(
    model: SequenceModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    num_samples: int = 1000,
    num_burn_in: int = 100,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    seed: int | None = None,
) -> Tensor:
    """Draws of z_{1:T} given x_{1:T}, one after the other, (num_samples, B, T), -1 in the padding.

    Successive draws depend on each other, the more so the more the chains explain the same observations. They start
    from draws of the states a priori.

    Args:
        model: with `ProductStates`, of any number of values.
        x: a batch, observations (B, T, *event), or one sequence (T, *event), as any `Data`.
        lengths: (B,) steps of each sequence, None for T.
        num_samples: sweeps whose states are returned.
        num_burn_in: sweeps before these.
        inputs: (B, T, input_dim) for a model with inputs.
        mask: True where x was observed, (B, T) or the shape of x; None for wherever it is not NaN.
        seed: makes the draws reproducible; None uses torch's global generator.

    Raises:
        TypeError: a model without several chains, or whose memory reads them.
        ValueError: a model with first="condition", counts out of range, observations that do not fit the model, or a
            sequence for which the states drawn at the start have probability zero whatever one chain does.

    Example:
        >>> from pgm_rnn.models import FactorialHMM
        >>> model = FactorialHMM.random(num_chains=8, num_states=4, num_symbols=3, seed=0)
        >>> batch = model.sample(num_sequences=2, num_steps=5, seed=0)
        >>> sample_states(model, batch, num_samples=3, num_burn_in=2, seed=0).shape
        torch.Size([3, 2, 5])
    """
    check_counts(num_samples=num_samples)
    if num_burn_in < 0:
        raise ValueError(f"expected num_burn_in of at least 0, got {num_burn_in}")
    if not has_chains(model):
        raise unsuitable("gibbs", "several chains (ProductStates)", model)
    if model.first == "condition":
        raise ValueError("expected a model with first='model' for gibbs, got first='condition'; use model.log_prob")
    check_numbers(model)
    data = checked(model, x, lengths, inputs=inputs, mask=mask)
    with seeded(seed, stream=21):
        sweeps = _Sweeps(model, data)
        drawn = [sweeps.next() for _ in range(num_burn_in + num_samples)][num_burn_in:]
    return torch.stack(drawn).where(length_mask(data.lengths, data.x.shape[1]), NO_STATE)


class _Sweeps:
    """The present paths of all chains, and a sweep over them."""

    def __init__(self, model: Any, data: Sequences) -> None:
        self._model, self._data, self._states = model, data, model.states
        assert isinstance(self._states, ProductStates)  # `has_chains` has checked it
        self._h = memory_of(model).unroll(data.x, None, data.inputs)
        self._tables = chain_tables(model, data)
        nothing = [data.x.new_zeros(*data.x.shape[:2], size, dtype=self._dtype) for size in self._states.sizes]
        self._parts = [self._drawn(m, log_emission) for m, log_emission in enumerate(nothing)]

    @property
    def _dtype(self) -> torch.dtype:
        return self._tables[0][0].dtype

    def next(self) -> Tensor:
        """Draw every chain once given the others; the numbers of all states, (B, T)."""
        for m in range(len(self._parts)):
            self._parts[m] = self._drawn(m, self._given_others(m))
        return self._states.joined(self._parts)

    def _given_others(self, m: int) -> Tensor:
        """log p(x_t | z_t) for each state of chain m and the present ones of the others, (B, T, K_m)."""
        parts = [part[..., None] for part in self._parts]
        parts[m] = torch.arange(self._states.sizes[m], device=self._data.x.device)[None, None]
        law = self._model.emission(self._states.joined(parts), None if self._h is None else self._h[:, :, None])
        observed = None if self._data.observed is None else self._data.observed.unsqueeze(2)
        found = observed_log_prob(law, self._data.x.unsqueeze(2), observed)
        return found.expand(*self._data.x.shape[:2], -1).to(self._dtype)

    def _drawn(self, m: int, log_emission: Tensor) -> Tensor:
        """A path of chain m given the log densities of its states, (B, T).

        Raises:
            ValueError: all of its paths have density zero.
        """
        initial, transition = self._tables[m]
        forward = hmm.forward(initial, transition, log_emission.contiguous(), self._data.lengths)
        impossible = (forward.log_normalizers == -torch.inf).any(1).nonzero()
        if len(impossible):
            raise ValueError(
                "expected states at the start that allow the observations once one chain is drawn anew, got some that "
                f"do not for sequence {int(impossible[0])}; use forward_backward.sample_states"
            )
        uniforms = torch.rand(1, *log_emission.shape[:2], dtype=self._dtype).to(log_emission.device)
        return hmm.sample_states(transition, self._data.lengths, forward, uniforms)[0]
