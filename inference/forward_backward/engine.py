"""The functions: filter, smooth, decode and draw states of models with finitely many of them."""

import torch
from torch import Tensor

from pgm_rnn.checks import by_keyword, check_counts
from pgm_rnn.inference.forward_backward.problem import FiniteModel, check_possible, checked_finite
from pgm_rnn.inference.forward_backward.results import Filtered, MostLikelyStates, Smoothed, of_product, of_segments
from pgm_rnn.kernels import factorial, hmm, hmm_scan, hsmm
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.conditionals import example_of
from pgm_rnn.sequence_model.products import has_product, product_of
from pgm_rnn.sequence_model.segments import has_segments, segments_of
from pgm_rnn.sequence_model.tables import Tables, in_groups, tables_of
from pgm_rnn.sequences import Data, Sequences, length_mask
from pgm_rnn.states import NO_STATE


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
        return of_segments(segments_of(model, data), data.lengths)
    if has_product(model):
        return of_product(product_of(model, data), data.lengths)
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
        return of_segments(segments, data.lengths), _marked(*best, data.lengths)
    if has_product(model):
        product = product_of(model, data)
        best = factorial.most_likely_states(*product, data.lengths)
        return of_product(product, data.lengths), _marked(*best, data.lengths)
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
        return of_segments(segments_of(model, data), data.lengths).sample_states(num_samples, seed=seed)
    if has_product(model):
        return of_product(product_of(model, data), data.lengths).sample_states(num_samples, seed=seed)
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
