"""Results of the forward-backward algorithm; what needs the backward pass is computed when it is asked for."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.inference.forward_backward.problem import check_possible
from pgm_rnn.kernels import factorial, hmm, hsmm
from pgm_rnn.randomness import seeded
from pgm_rnn.results import shown
from pgm_rnn.sequence_model.products import Product
from pgm_rnn.sequence_model.segments import Segments
from pgm_rnn.sequences import length_mask


@dataclass(frozen=True)
class Filtered:
    """Result of `filter`; its posteriors raise `ImpossibleSequenceError` if some sequence has probability zero."""

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "log_marginal_likelihood", "num_steps", "num_states")

    _transition: Tensor
    _initial: Tensor
    _lengths: Tensor
    _forward: hmm.Forward

    @property
    def lengths(self) -> Tensor:
        """Steps of each sequence, (B,)."""
        return self._lengths

    @property
    def num_steps(self) -> int:
        """T, the longest sequence's number of steps."""
        return self._forward.log_normalizers.shape[1]

    @property
    def num_states(self) -> int:
        """K, the number of states."""
        return self._initial.shape[-1]

    @property
    def log_marginal_likelihood(self) -> Tensor:
        """log p(x_{1:T}) in nats, (B,); -inf for an impossible sequence."""
        return self._forward.log_normalizers.sum(-1)

    @property
    def log_normalizers(self) -> Tensor:
        """log p(x_t | x_{1:t-1}) in nats, (B, T), 0 in the padding."""
        return self._forward.log_normalizers

    @property
    def filtered_probs(self) -> Tensor:
        """p(z_t | x_{1:t}), (B, T, K): Rabiner (1989), eq. (19)-(20), normalised.

        Raises:
            ImpossibleSequenceError: a sequence has probability zero.
        """
        self._check_possible()
        return self._forward.filtered

    @cached_property
    def predicted_probs(self) -> Tensor:
        """p(z_t | x_{1:t-1}), (B, T, K).

        Raises:
            ImpossibleSequenceError: a sequence has probability zero.
        """
        first = self._initial.expand(len(self._lengths), -1)[:, None]
        later = hmm.propagate(self.filtered_probs[:, :-1], self._transition)
        mask = length_mask(self._lengths, self._forward.scale.shape[1])
        return torch.cat([first, later], dim=1).where(mask[..., None], 0.0)

    def _check_possible(self) -> None:
        check_possible(self._forward.log_normalizers, "no posterior exists given it")


@dataclass(frozen=True)
class Smoothed(Filtered):
    """Result of `smooth`: the result of `filter`, and posteriors given the whole sequence."""

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "log_marginal_likelihood", "num_steps", "num_states")

    @cached_property
    def _backward(self) -> hmm.Backward:
        self._check_possible()
        result = hmm.backward(self._transition, self._lengths, self._forward)
        totals = result.smoothed.sum(-1, keepdim=True)  # one, up to rounding that adds up over many steps
        result.smoothed.div_(totals.where(totals > 0, 1.0))
        return result

    @property
    def smoothed_probs(self) -> Tensor:
        """p(z_t | x_{1:T}), (B, T, K): gamma of Rabiner (1989), eq. (27).

        Raises:
            ImpossibleSequenceError: a sequence has probability zero.
        """
        return self._backward.smoothed

    @cached_property
    def pairwise_probs(self) -> Tensor:
        """p(z_t = i, z_{t+1} = j | x_{1:T}), (B, T - 1, K, K): xi of Rabiner (1989), eq. (37).

        Raises:
            ImpossibleSequenceError: a sequence has probability zero.
        """
        return hmm.pairwise_probs(self._transition, self._forward, self._backward.future)

    def sample_states(self, num_samples: int, *, seed: int | None = None) -> Tensor:
        """Paths from p(z_{1:T} | x_{1:T}), (num_samples, B, T), 0 in the padding, as the function `sample_states`.

        Raises:
            ImpossibleSequenceError: a sequence has probability zero.
        """
        self._check_possible()
        with seeded(seed, stream=5):
            uniforms = torch.rand(num_samples, *self.log_normalizers.shape, dtype=self._initial.dtype)
        return hmm.sample_states(self._transition, self._lengths, self._forward, uniforms.to(self._initial.device))


@dataclass(frozen=True)
class SmoothedSegments(Smoothed):
    """Result of `filter` and `smooth` for semi-Markov states; what is given all of x is computed when it is read."""

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "log_marginal_likelihood", "num_steps", "num_states")

    _segments: Segments

    @property
    def predicted_probs(self) -> Tensor:
        """p(z_t | x_{1:t-1}), (B, T, K).

        Raises:
            ImpossibleSequenceError: a sequence has probability zero.
        """
        self._check_possible()
        return self._forward.predicted  # type: ignore[attr-defined]

    @cached_property
    def expected(self) -> hsmm.Posterior:
        """Expected numbers of first states, moves between segments, and durations of segments given x_{1:T}.

        Raises:
            ImpossibleSequenceError: a sequence has probability zero.
        """
        self._check_possible()
        return hsmm.posterior(*self._segments, self._lengths)

    @property
    def smoothed_probs(self) -> Tensor:
        """p(z_t | x_{1:T}), (B, T, K): Guédon (2003).

        Raises:
            ImpossibleSequenceError: a sequence has probability zero.
        """
        return self.expected.states

    @property
    def pairwise_probs(self) -> Tensor:
        """Not computed for semi-Markov states.

        Raises:
            NotImplementedError: always; the message names what there is.
        """
        raise NotImplementedError(
            "expected finite states for the probabilities of pairs of states, got semi-Markov states; use "
            "expected.moves and expected.durations, which count segments"
        )

    def sample_states(self, num_samples: int, *, seed: int | None = None) -> Tensor:
        """Paths from p(z_{1:T} | x_{1:T}), (num_samples, B, T), 0 in the padding, as the function `sample_states`.

        Raises:
            ImpossibleSequenceError: a sequence has probability zero.
        """
        self._check_possible()
        with seeded(seed, stream=5):
            uniforms = torch.rand(num_samples, *self.log_normalizers.shape, 2, dtype=torch.float64)
        return hsmm.sample_states(*self._segments, self._lengths, uniforms.to(self._initial.device))


@dataclass(frozen=True)
class SmoothedProduct(Smoothed):
    """Result of `filter` and `smooth` for several chains; what is given all of x is computed when it is read.

    A state is the number of a value of all chains, as `pgm_rnn.states.ProductStates` counts them.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "log_marginal_likelihood", "num_steps", "num_states")

    _product: Product

    @property
    def num_states(self) -> int:
        """N, the number of values of all chains together."""
        return self._product.log_emission.shape[-1]

    @property
    def predicted_probs(self) -> Tensor:
        """p(z_t | x_{1:t-1}), (B, T, N).

        Raises:
            ImpossibleSequenceError: a sequence has probability zero.
        """
        self._check_possible()
        return self._forward.predicted  # type: ignore[attr-defined]

    @cached_property
    def expected(self) -> factorial.Posterior:
        """Expected first states and moves of each chain given x_{1:T}; `chain_tables` takes them apart.

        Raises:
            ImpossibleSequenceError: a sequence has probability zero.
        """
        self._check_possible()
        return factorial.posterior(*self._product, self._lengths)

    @property
    def smoothed_probs(self) -> Tensor:
        """p(z_t | x_{1:T}), (B, T, N): Ghahramani & Jordan (1997), appendix B.

        Raises:
            ImpossibleSequenceError: a sequence has probability zero.
        """
        return self.expected.states

    @property
    def chain_moves(self) -> tuple[Tensor, ...]:
        """Expected moves of each chain given x_{1:T}, (B, 1 or T - 1, K_m, K_m).

        They are summed over the steps where the model has one table for all of them.

        Raises:
            ImpossibleSequenceError: a sequence has probability zero.
        """
        return tuple(factorial.unpacked(self._product.sizes, self.expected.moves, square=True))

    @property
    def pairwise_probs(self) -> Tensor:
        """Not computed for several chains.

        Raises:
            NotImplementedError: always; the message names what there is.
        """
        raise NotImplementedError(
            "expected states of one chain for the probabilities of pairs of states, got several chains; use "
            "chain_moves, which has the expected moves of each"
        )

    def of_chains(self, probs: Tensor) -> tuple[Tensor, ...]:
        """The probabilities of the states of each chain, (B, T, K_m), from those of all values, (B, T, N)."""
        joint = probs.unflatten(-1, self._product.sizes)
        axes = range(2, joint.dim())
        return tuple(joint.sum([d for d in axes if d != axis]) if len(axes) > 1 else joint for axis in axes)

    def sample_states(self, num_samples: int, *, seed: int | None = None) -> Tensor:
        """Paths from p(z_{1:T} | x_{1:T}), (num_samples, B, T), 0 in the padding, as the function `sample_states`.

        Raises:
            ImpossibleSequenceError: a sequence has probability zero.
        """
        self._check_possible()
        with seeded(seed, stream=5):
            uniforms = torch.rand(num_samples, *self.log_normalizers.shape, dtype=torch.float64)
        return factorial.sample_states(*self._product, self._lengths, uniforms.to(self._lengths.device))


def of_product(product: Product, lengths: Tensor) -> SmoothedProduct:
    """The result of the forward recursion for several chains."""
    forward = factorial.forward(*product, lengths)
    return SmoothedProduct(product.transition, product.initial, lengths, forward, product)  # type: ignore[arg-type]


def of_segments(segments: Segments, lengths: Tensor) -> SmoothedSegments:
    """The result of the forward recursion for segments."""
    forward = hsmm.forward(*segments, lengths)
    return SmoothedSegments(segments.transition, segments.initial, lengths, forward, segments)  # type: ignore[arg-type]


class MostLikelyStates(NamedTuple):
    """Result of `most_likely_states`.

    Attributes:
        states: the most probable path, (B, T), int64, -1 in the padding, where there is no state.
        log_prob: log p(x_{1:T}, z_{1:T}) of that path, (B,), nats; -inf for an impossible sequence.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "log_prob", "states")

    states: Tensor
    log_prob: Tensor
