"""Exact inference in models with finitely many states: the forward-backward algorithm and its kin.

    filter     p(z_t | x_{1:t}),  p(z_t | x_{1:t-1}),  log p(x_{1:T})
    smooth     p(z_t | x_{1:T}),  p(z_t, z_{t+1} | x_{1:T})
    most_likely_states    argmax_z p(z_{1:T} | x_{1:T})      (Viterbi)
    smooth_and_decode     both, with the laws evaluated once
    sample_states         z_{1:T} ~ p(z_{1:T} | x_{1:T})
    predict    p(x_{t+1} | x_{1:t})

Every function takes whole padded batches and a model with any emission whose `states` are `FiniteStates`, or which
gives `initial_probs`, `transition_probs` and `emission_log_probs(x)`. `SemiMarkovStates` and `ProductStates` have the
same functions by the recursions for segments (`pgm_rnn.kernels.hsmm`) and for several chains
(`pgm_rnn.kernels.factorial`). Probabilities in the padding are zero. Sources: Rabiner (1989), sec. III; Choe, Shin &
Spencer (2017), sec. 3.2, for the forward part; Yu (2010) for segments; Ghahramani & Jordan (1997), appendix B, for
several chains.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.checks import by_keyword, check_counts
from pgm_rnn.emissions.mixing import mixture
from pgm_rnn.inference.diagnosis import check_numbers
from pgm_rnn.inference.suitable import unsuitable
from pgm_rnn.kernels import factorial, hmm, hmm_scan, hsmm
from pgm_rnn.randomness import seeded
from pgm_rnn.results import shown
from pgm_rnn.sequence_model import SequenceModel, memory_of
from pgm_rnn.sequence_model.conditionals import example_of
from pgm_rnn.sequence_model.law_checks import check_tables
from pgm_rnn.sequence_model.observations import as_batch, check_inputs, checked
from pgm_rnn.sequence_model.products import Product, has_product, product_of
from pgm_rnn.sequence_model.segments import Segments, has_segments, segments_of
from pgm_rnn.sequence_model.tables import Tables, has_tables, in_groups, tables_of
from pgm_rnn.sequences import Data, Sequences, length_mask
from pgm_rnn.states import NO_STATE

__all__ = [
    "Filtered",
    "FiniteStateModel",
    "ImpossibleSequenceError",
    "MostLikelyStates",
    "Smoothed",
    "SmoothedProduct",
    "SmoothedSegments",
    "filter",
    "most_likely_states",
    "predict",
    "sample_states",
    "smooth",
    "smooth_and_decode",
]


class FiniteStateModel(Protocol):
    """A model that gives its tables itself; any `SequenceModel` with `FiniteStates` will do."""

    @property
    def initial_probs(self) -> Tensor:
        """p(z_1), (K,)."""

    @property
    def transition_probs(self) -> Tensor:
        """p(z_{t+1} = j | z_t = i), (K, K) or with more axes in front as in `pgm_rnn.kernels.hmm`."""

    def emission_log_probs(self, x: Tensor) -> Tensor:
        """log p(x_t | z_t = k), (B, T, K)."""

    def emission(self, z: Tensor, h: Tensor | None) -> TorchDistribution:
        """p(x_t | z_t, h_t), batch shape that of z."""

    def check(self, x: Tensor, lengths: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Valid observations and explicit lengths."""


FiniteModel = FiniteStateModel | SequenceModel
"""Models that the functions take; for other models the error names a suitable engine."""


class ImpossibleSequenceError(ValueError):
    """Posteriors were asked for, but the observations have probability zero."""


def check_possible(log_normalizers: Tensor, consequence: str) -> None:
    """Raise an error that names sequence, step and consequence if a term (B, T) is minus infinity.

    Raises:
        ImpossibleSequenceError: a sequence has probability zero.
    """
    impossible = log_normalizers == -torch.inf
    if bool(impossible.any()):
        sequence, step = impossible.nonzero()[0].tolist()
        raise ImpossibleSequenceError(
            f"expected observations of positive probability, got probability zero for sequence {sequence} from step "
            f"{step + 1} on; {consequence}"
        )


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


def _of_product(product: Product, lengths: Tensor) -> SmoothedProduct:
    """The result of the forward recursion for several chains."""
    forward = factorial.forward(*product, lengths)
    return SmoothedProduct(product.transition, product.initial, lengths, forward, product)  # type: ignore[arg-type]


def _of_segments(segments: Segments, lengths: Tensor) -> SmoothedSegments:
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


@torch.no_grad()
def filter(
    model: FiniteModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    parallel: bool | None = None,
) -> Filtered:
    """Filtered distributions p(z_t | x_{1:t}) and the log marginal likelihood.

    Args:
        model: with finitely many states.
        x: a batch, observations (B, T, *event), or one sequence (T, *event), as any `Data`.
        lengths: (B,) steps of each sequence, None for T.
        inputs: (B, T, input_dim) for a model with inputs.
        mask: False where x was not observed, (B, T) or the shape of x; what stands there is not read. None for wherever
            x is NaN. Missing entries are integrated out.
        parallel: whether to scan over time in O(log T) rounds (`pgm_rnn.kernels.hmm_scan`), which on a CPU is slower;
            None for where that is expected to be faster, on CUDA with few states.

    Raises:
        TypeError: a model without finitely many states.
        ValueError: observations that do not fit the model, or a scan for states that have none.
    """
    data = checked_finite(model, x, lengths, inputs=inputs, mask=mask)
    _check_scan(model, parallel)
    if has_segments(model):
        return _of_segments(segments_of(model, data), data.lengths)
    if has_product(model):
        return _of_product(product_of(model, data), data.lengths)
    initial, transition, log_emission = tables_of(model, data)
    recursion = hmm_scan if _scans(log_emission, parallel) else hmm
    forward = recursion.forward(initial, transition, log_emission, data.lengths)
    return Filtered(transition, initial, data.lengths, forward)


@torch.no_grad()
def smooth(
    model: FiniteModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    parallel: bool | None = None,
) -> Smoothed:
    """Smoothed distributions p(z_t | x_{1:T}), and p(z_t, z_{t+1} | x_{1:T}) on request.

    Arguments and errors are those of `filter`.
    """
    result = filter(model, x, lengths, inputs=inputs, mask=mask, parallel=parallel)
    if isinstance(result, Smoothed):
        return result
    return Smoothed(result._transition, result._initial, result._lengths, result._forward)


@torch.no_grad()
def most_likely_states(
    model: FiniteModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    parallel: bool | None = None,
) -> MostLikelyStates:
    """The path z_{1:T} of highest posterior probability by the Viterbi algorithm: Rabiner (1989), eq. (32)-(35).

    Arguments and errors are those of `filter`.
    """
    data = checked_finite(model, x, lengths, inputs=inputs, mask=mask)
    _check_scan(model, parallel)
    if has_segments(model):
        return _marked(*hsmm.most_likely_states(*segments_of(model, data), data.lengths), data.lengths)
    if has_product(model):
        return _marked(*factorial.most_likely_states(*product_of(model, data), data.lengths), data.lengths)

    def of_group(tables: Tables, rows: slice) -> tuple[Tensor, Tensor]:
        initial, transition, log_emission = tables
        recursion = hmm_scan if _scans(log_emission, parallel) else hmm
        return recursion.most_likely_states(initial.log(), transition.log(), log_emission, data.lengths[rows])

    states, log_prob = map(torch.cat, zip(*in_groups(model, data, of_group), strict=True))
    return _marked(states, log_prob, data.lengths)


@torch.no_grad()
def smooth_and_decode(
    model: FiniteModel,
    x: Sequences | Tensor,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Smoothed, MostLikelyStates]:
    """The results of `smooth` and of `most_likely_states`, for which the model's laws are evaluated once.

    Arguments and errors are those of `filter`.
    """
    data = checked_finite(model, x, lengths, inputs=inputs, mask=mask)
    if has_segments(model):
        segments = segments_of(model, data)
        best = hsmm.most_likely_states(*segments, data.lengths)
        return _of_segments(segments, data.lengths), _marked(*best, data.lengths)
    if has_product(model):
        product = product_of(model, data)
        best = factorial.most_likely_states(*product, data.lengths)
        return _of_product(product, data.lengths), _marked(*best, data.lengths)
    initial, transition, log_emission = tables_of(model, data)
    forward = hmm.forward(initial, transition, log_emission, data.lengths)
    decoded = hmm.most_likely_states(initial.log(), transition.log(), log_emission, data.lengths)
    return Smoothed(transition, initial, data.lengths, forward), _marked(*decoded, data.lengths)


def _check_scan(model: object, parallel: bool | None) -> None:
    """Raise if a scan is asked of states that have none.

    Raises:
        ValueError: semi-Markov states, or several chains.
    """
    if parallel and (has_segments(model) or has_product(model)):
        kind = "semi-Markov states" if has_segments(model) else "several chains"
        raise ValueError(
            f"expected one chain of finitely many states for parallel=True, got {kind} of {type(model).__name__}; "
            "leave it out"
        )


def _scans(log_emission: Tensor, parallel: bool | None) -> bool:
    return hmm_scan.pays(log_emission) if parallel is None else parallel


def _marked(states: Tensor, log_prob: Tensor, lengths: Tensor) -> MostLikelyStates:
    """The paths (B, T) without a state in the padding."""
    return MostLikelyStates(states.where(length_mask(lengths, states.shape[1]), NO_STATE), log_prob)


@by_keyword
@torch.no_grad()
def sample_states(
    model: FiniteModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    num_samples: int = 1,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    seed: int | None = None,
) -> Tensor:
    """Paths from p(z_{1:T} | x_{1:T}), filtered forward and drawn backward: (num_samples, B, T), 0 in the padding.

    Args:
        model: with finitely many states.
        x: a batch, observations (B, T, *event), or one sequence (T, *event), as any `Data`.
        lengths: (B,) steps of each sequence, None for T.
        num_samples: paths for each sequence.
        inputs: (B, T, input_dim) for a model with inputs.
        mask: as in `filter`.
        seed: makes the draws reproducible; None uses torch's global generator.

    Raises:
        TypeError, ValueError: as `filter`, and `ImpossibleSequenceError`.
    """
    check_counts(num_samples=num_samples)
    data = checked_finite(model, x, lengths, inputs=inputs, mask=mask)
    if has_segments(model):
        return _of_segments(segments_of(model, data), data.lengths).sample_states(num_samples, seed=seed)
    if has_product(model):
        return _of_product(product_of(model, data), data.lengths).sample_states(num_samples, seed=seed)
    dtype = example_of(model).dtype if isinstance(model, SequenceModel) else model.initial_probs.dtype
    with seeded(seed, stream=5):
        uniforms = torch.rand(num_samples, *data.x.shape[:2], dtype=dtype)
    uniforms = uniforms.to(data.x.device)

    def of_group(tables: Tables, rows: slice) -> tuple[Tensor, Tensor]:
        forward = hmm.forward(*tables, data.lengths[rows])
        states = hmm.sample_states(tables.transition, data.lengths[rows], forward, uniforms[:, rows])
        return forward.log_normalizers, states

    terms, states = zip(*in_groups(model, data, of_group), strict=True)
    check_possible(torch.cat(terms), "no posterior exists given it")
    return torch.cat(states, dim=1)


@torch.no_grad()
def predict(
    model: FiniteModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    future_inputs: Tensor | None = None,
) -> TorchDistribution:
    """The law p(x_{t+1} | x_{1:t}) of the next observation after each step: batch shape (B, T).

    It mixes the model's `emission(z, h)` over the states z, where h is the memory after x_t: Categorical for symbols, a
    mixture for other emissions. Its values in the padding have no meaning.

    Args:
        model: with finitely many states.
        x: a batch, observations (B, T, *event), or one sequence (T, *event), as any `Data`.
        lengths: (B,) steps of each sequence, None for T.
        inputs: (B, T, input_dim) for a model with inputs.
        mask: as in `filter`.
        future_inputs: inputs of the step after the last one of each sequence, (B, 1, input_dim), for such a model.

    Raises:
        TypeError: a model without finitely many states.
        ValueError: observations that do not fit the model, or tables of transitions that a model gives itself and that
            vary over time, so that the next one is not known.
        ImpossibleSequenceError: a sequence has probability zero.
    """
    data = checked_finite(model, x, lengths, inputs=inputs, mask=mask)
    if has_segments(model):
        segments = segments_of(model, data)
        check_possible(hsmm.forward(*segments, data.lengths).log_normalizers, "no posterior exists given it")
        ahead = _one_step_ahead(segments, data.lengths)
        states = torch.arange(model.states.num_states, device=data.x.device)
        return mixture(model.emission(states, None), ahead)
    longer = _one_step_longer(model, data, future_inputs)
    if has_product(model):
        ahead = _product_ahead(product_of(model, longer), data.lengths)
        return mixture(_laws_ahead(model, longer, ahead.shape[-1]), ahead)
    initial, transition, log_emission = tables_of(model, longer)
    if transition.dim() > 2 and hasattr(model, "emission_log_probs"):
        raise ValueError(
            "expected one transition table for all steps, got one per step; the table of the next step is not known"
        )
    before = transition if transition.dim() == 2 or transition.shape[1] == 1 else transition[:, :-1]
    forward = hmm.forward(initial, before, log_emission[:, :-1], data.lengths)
    check_possible(forward.log_normalizers, "no posterior exists given it")
    ahead = hmm.log_propagated(transition, forward)  # (B, T, K)
    padding = ~length_mask(data.lengths, ahead.shape[1])
    ahead = ahead.masked_fill(padding[..., None], -math.log(ahead.shape[-1]))
    return mixture(_laws_ahead(model, longer, ahead.shape[-1]), ahead)


def _one_step_ahead(segments: Segments, lengths: Tensor) -> Tensor:
    """log p(z_{t+1} | x_{1:t}) of semi-Markov states, (B, T, K), that of equal states in the padding."""
    seen = length_mask(lengths, segments.log_emission.shape[1])
    log_emission = segments.log_emission.where(seen[..., None], 0.0)
    longer = torch.cat([log_emission, torch.zeros_like(log_emission[:, :1])], 1)
    ahead = hsmm.forward(*segments._replace(log_emission=longer), lengths + 1).predicted[:, 1:].log()
    return ahead.masked_fill(~seen[..., None], -math.log(ahead.shape[-1]))


def _product_ahead(product: Product, lengths: Tensor) -> Tensor:
    """log p(z_{t+1} | x_{1:t}) of several chains, (B, T, N), that of equal states in the padding.

    Args:
        product: tables and densities of the data with one more step, at which nothing is observed here.
        lengths: (B,), without that step.

    Raises:
        ImpossibleSequenceError: a sequence has probability zero.
    """
    seen = length_mask(lengths, product.log_emission.shape[1])
    longer = product._replace(log_emission=product.log_emission.where(seen[..., None], 0.0))
    forward = factorial.forward(*longer, lengths + 1)
    check_possible(forward.log_normalizers[:, :-1], "no posterior exists given it")
    ahead = forward.log_predicted[:, 1:]
    return ahead.masked_fill(~seen[:, :-1, None], -math.log(ahead.shape[-1]))


def _one_step_longer(model: Any, data: Sequences, future_inputs: Tensor | None) -> Sequences:
    """The data with one more step, of which only the inputs are read.

    Raises:
        ValueError: a model with inputs, and none for that step.
    """
    input_dim = getattr(model, "input_dim", None)
    if input_dim is not None and future_inputs is None:
        raise ValueError(
            f"expected future_inputs of shape ({len(data.x)}, 1, {input_dim}), the inputs of the step after the last "
            "one of each sequence, got None"
        )
    ahead, inputs = (
        check_inputs(future_inputs, input_dim, data.x[:, :1], example_of(model), name="future_inputs"),
        data.inputs,
    )
    if ahead is not None and inputs is not None:
        inputs = torch.cat([inputs, torch.zeros_like(ahead)], dim=1)
        inputs[torch.arange(len(inputs), device=inputs.device), data.lengths] = ahead[:, 0]
    seen = None if data.observed is None else torch.cat([data.observed, data.observed[:, -1:]], dim=1)
    return Sequences(torch.cat([data.x, data.x[:, -1:]], dim=1), data.lengths + 1, inputs=inputs, mask=seen)


def _laws_ahead(model: Any, longer: Sequences, num_states: int) -> TorchDistribution:
    """p(x_{t+1} | z_{t+1} = k, x_{1:t}) of every state k: batch shape (K,), or (B, T, K) with a memory or inputs."""
    states = torch.arange(num_states, device=longer.x.device)
    if getattr(model, "initial_memory", None) is None and getattr(model, "input_dim", None) is None:
        return model.emission(states, None)
    h = memory_of(model).unroll(longer.x, None, longer.inputs)
    return model.emission(states.expand(1, 1, -1), h[:, 1:, None])  # h_2, ..., h_{T+1}


def has_finite_states(model: object) -> bool:
    """Whether the states are finitely many, and summed out exactly."""
    return has_tables(model) or has_segments(model) or has_product(model)


def checked_finite(
    model: object,
    x: Data,
    lengths: Tensor | None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
) -> Sequences:
    """Checked data for a model with finitely many states.

    Raises:
        TypeError: a model without finitely many states.
        ValueError: observations that do not fit, or a parameter of the model that is NaN or makes no probabilities.
    """
    if not has_finite_states(model):
        raise unsuitable("forward_backward", "finitely many states", model)
    check_numbers(model)
    if isinstance(model, SequenceModel):
        return checked(model, x, lengths, inputs=inputs, mask=mask)
    check_tables(model)
    given = as_batch(model, x, lengths, inputs=inputs, mask=mask)
    values, lengths = model.check(given.x, given.lengths, given.observed)  # type: ignore[attr-defined]
    return Sequences(values, lengths, mask=given.mask)
