"""The Markov chain: each observation depends on the previous one only.

    h_t = x_{t-1}, or -1 where nothing is before
    x_1 ~ Categorical(initial_probs),   x_t ~ Categorical(transition_probs[x_{t-1}])

For bits, every entry is an independent chain: p(x_{t,j} = 1 | x_{t-1,j} = i) = transition_probs[i, j].
Vidal (2024), the taxonomy of sequence models; Anderson & Goodman (1957) for estimation by counts.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_probs
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, chosen_family
from pgm_rnn.emissions.natural import LOGIT, SOFTMAX, Natural, by_entry, whole
from pgm_rnn.models.info import ModelInfo
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import First, SequenceModel, UnrollsMemory
from pgm_rnn.sequence_model.observations import check_observations
from pgm_rnn.sequences import Data, as_sequences, length_mask


class MarkovChain(UnrollsMemory, SequenceModel):
    """A first-order chain over symbols, or one for each of several bits.

    The probabilities are copied into unconstrained logits, the parameters that gradients train; a zero stays zero.

    Args:
        initial_probs: p(x_1 = k), (K,); for bits p(x_{1,j} = 1), (*event).
        transition_probs: p(x_t = j | x_{t-1} = i), (K, K); for bits p(x_{t,j} = 1 | x_{t-1,j} = i), (2, *event).
        emission: Bernoulli() or Bernoulli(n) for bits; None for K symbols.
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Raises:
        TypeError: an emission of another family.
        ValueError: shapes that do not fit, numbers that are no probabilities, or probabilities 0 or 1 for a bit.

    Example:
        >>> chain = MarkovChain(torch.tensor([1.0, 0.0]), torch.tensor([[0.9, 0.1], [0.5, 0.5]]))
        >>> round(float(chain.log_prob(torch.tensor([[0, 0, 1]])).exp().detach()), 6)
        0.09
    """

    initial_memory: Tensor

    def __init__(
        self,
        initial_probs: Tensor,
        transition_probs: Tensor,
        *,
        emission: Emission | None = None,
        first: First = "model",
    ) -> None:
        initial_probs, transition_probs = torch.as_tensor(initial_probs), torch.as_tensor(transition_probs)
        if emission is None:
            check_probs("initial_probs", initial_probs, (None,))
            emission = Categorical(len(initial_probs))
        super().__init__(_discrete(emission), first)
        self.family: Categorical | Bernoulli
        table = self._checked(initial_probs, transition_probs)
        self.initial_logits = nn.Parameter(table[0].clone())
        self.transition_logits = nn.Parameter(table[1:].clone())
        self.register_buffer("initial_memory", table.new_full((self.family.event_shape.numel(),), -1.0))

    @staticmethod
    def random(
        num_symbols: int | None = None,
        *,
        emission: Emission | None = None,
        seed: int | None = None,
        first: First = "model",
    ) -> "MarkovChain":
        """A chain whose rows of probabilities are uniform on the simplex, and those of bits uniform.

        Args:
            num_symbols: short for emission=Categorical(num_symbols).
            emission: Categorical(K), Bernoulli() or Bernoulli(n).
            seed: makes the draw reproducible; None uses torch's global generator.
            first: as for `MarkovChain`.
        """
        family = _discrete(chosen_family(num_symbols, emission))
        with seeded(seed):
            if isinstance(family, Categorical):
                probs = torch.empty(family.num_symbols + 1, family.num_symbols).exponential_()
                probs = probs / probs.sum(-1, keepdim=True)
            else:
                probs = torch.rand(3, *family.event_shape).clamp(1e-3, 1 - 1e-3)
        return MarkovChain(probs[0], probs[1:], emission=family, first=first)

    @staticmethod
    def from_counts(
        x: Data,
        lengths: Tensor | None = None,
        *,
        num_symbols: int | None = None,
        emission: Emission | None = None,
        pseudo_count: float = 0.0,
        first: First = "model",
    ) -> "MarkovChain":
        """The most likely chain: p(x_1 = k) = n_k / N and p(x_t = j | x_{t-1} = i) = n_ij / sum_j n_ij.

        A row without counts becomes uniform; a bit's probability stays one rounding error away from 0 and 1.

        Args:
            x: a padded batch, observations (batch, T, *event), or one sequence (T, *event), as any `Data`.
            lengths: (batch,) if x is a tensor with padding.
            num_symbols: short for emission=Categorical(num_symbols).
            emission: Categorical(K), Bernoulli() or Bernoulli(n).
            pseudo_count: added to every count.
            first: as for `MarkovChain`.

        Raises:
            TypeError, ValueError: observations that do not fit, or a negative pseudo-count.
        """
        if not pseudo_count >= 0:
            raise ValueError(f"expected pseudo_count of at least 0, got {pseudo_count}")
        family = _discrete(chosen_family(num_symbols, emission))
        data = as_sequences(x, lengths, event_shape=family.event_shape)
        like = torch.empty(0, device=data.x.device)
        like = like.to(data.x.dtype) if data.x.is_floating_point() else like
        values, lengths = check_observations(family, data.x, data.lengths, like)
        now = values.reshape(*values.shape[:2], -1).long()  # (batch, T, entries)
        mask = length_mask(lengths, now.shape[1])
        counts = _counts(_before(now)[mask], now[mask], _num_values(family)).to(like.dtype) + pseudo_count
        totals = counts.sum(1, keepdim=True)
        probs = (counts / totals).where(totals > 0, 1 / counts.shape[1])
        if isinstance(family, Categorical):
            probs = probs[..., 0]
        else:
            limits = torch.finfo(probs.dtype)
            probs = probs[:, 1].clamp(limits.tiny, 1 - limits.eps).reshape(-1, *family.event_shape)
        return MarkovChain(probs[0], probs[1:], emission=family, first=first)

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """The model's name; the family determines its shape."""
        return "markov-chain", {}

    @property
    def initial_probs(self) -> Tensor:
        """p(x_1 = k), (K,); for bits p(x_{1,j} = 1), (*event)."""
        return self._probs(self.initial_logits)

    @property
    def transition_probs(self) -> Tensor:
        """p(x_t = j | x_{t-1} = i), (K, K); for bits p(x_{t,j} = 1 | x_{t-1,j} = i), (2, *event)."""
        return self._probs(self.transition_logits)

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """Probabilities by the names of the constructor."""
        raw = {"initial_probs": "initial_logits", "transition_probs": "transition_logits"}
        if isinstance(self.family, Categorical):
            return {name: whole(logits, SOFTMAX) for name, logits in raw.items()}
        return {name: by_entry(logits, 0, self.family.event_shape, LOGIT) for name, logits in raw.items()}

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        """h_t = x_{t-1}: (..., entries)."""
        return x.reshape(*x.shape[: x.dim() - len(self.family.event_shape)], -1).to(h.dtype)

    def unroll_memory(self, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        """-1, x_1, ..., x_{T-1}: (batch, T, entries)."""
        return _before(x.reshape(*x.shape[:2], -1)).to(self.initial_memory.dtype)

    def emission(self, z: None, h: Tensor) -> TorchDistribution:
        """p(x_t | x_{t-1} = h); its batch shape is that of h."""
        before = h.long() + 1
        table = torch.cat([self.initial_logits[None], self.transition_logits])
        if isinstance(self.family, Categorical):
            return self.family.distribution(table[before[..., 0]])
        return self.family.distribution(table[before, torch.arange(before.shape[-1], device=h.device)])

    def _checked(self, initial_probs: Tensor, transition_probs: Tensor) -> Tensor:
        """Logits of the law at the start and after each value, (1 + values, num_params)."""
        event, rows = tuple(self.family.event_shape), _num_values(self.family)
        if isinstance(self.family, Categorical):
            check_probs("initial_probs", initial_probs, (rows,))
            check_probs("transition_probs", transition_probs, (rows, rows))
        elif (initial_probs.shape, transition_probs.shape) != (event, (2, *event)):
            raise ValueError(
                f"expected initial_probs of shape {event} and transition_probs of shape {(2, *event)}, "
                f"got {tuple(initial_probs.shape)} and {tuple(transition_probs.shape)}"
            )
        return self.family.table(torch.cat([initial_probs[None], transition_probs.to(initial_probs)])).params.detach()

    def _probs(self, logits: Tensor) -> Tensor:
        if isinstance(self.family, Categorical):
            return logits.softmax(-1)
        return logits.sigmoid().reshape((*logits.shape[:-1], *self.family.event_shape))


def _discrete(family: Emission) -> Categorical | Bernoulli:
    if not isinstance(family, Categorical | Bernoulli):
        raise TypeError(f"expected symbols or bits, Categorical(K) or Bernoulli(n), got {family}; use RNN or HMM")
    return family


def _num_values(family: Categorical | Bernoulli) -> int:
    return family.num_symbols if isinstance(family, Categorical) else 2


def _before(x: Tensor) -> Tensor:
    """x_{t-1} for each t, and -1 for t = 1: (batch, T, entries)."""
    return F.pad(x[:, :-1], (0, 0, 1, 0), value=-1)


def _counts(before: Tensor, now: Tensor, num_values: int) -> Tensor:
    """Counts of each value after each previous one, (1 + values, values, entries), from rows (N, entries)."""
    entries = now.shape[-1]
    index = ((before + 1) * num_values + now) * entries + torch.arange(entries, device=now.device)
    counts = index.flatten().bincount(minlength=(num_values + 1) * num_values * entries)
    return counts.reshape(num_values + 1, num_values, entries)


INFO = ModelInfo(
    "markov-chain",
    MarkovChain.random,
    "the observation before",
    "-",
    "Vidal, taxonomy",
    {"num_symbols": 2},
    (Categorical, Bernoulli),
    title="`MarkovChain`, estimated by counts",
)
