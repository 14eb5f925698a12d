"""The function `fit` with its options, its starts and its result."""

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.inference.em import remarks, units
from pgm_rnn.inference.em.baum_welch import BaumWelch, TrainableFiniteModel, has_parts
from pgm_rnn.inference.em.climb import Climbed, Steps, StoppedBy, climb
from pgm_rnn.inference.em.gaussian_em import MIN_SCALE, GaussianEm, TrainableLinearModel, is_trainable
from pgm_rnn.inference.em.gradient_em import GradientEm
from pgm_rnn.inference.em.semi_markov_em import SemiMarkovEm, is_semi_markov
from pgm_rnn.inference.suitable import check_trainable, em_unsuitable
from pgm_rnn.kernels.compilation import working_seconds
from pgm_rnn.results import shown
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.observations import as_batch
from pgm_rnn.sequence_model.tables import has_tables
from pgm_rnn.sequences import Data

StartFrom = Literal["auto", "model", "data"]
Trainable = TrainableFiniteModel | TrainableLinearModel | SequenceModel
"""Models that `fit` takes; for other models the error names a suitable engine."""


class Restarts(NamedTuple):
    """Comparison of the starts at the end of a fit.

    Attributes:
        log_likelihoods: log likelihood of the training data under each start's last parameters, (R,), nats.
        valid_log_likelihoods: the same for the validation data, (R,), nats; None without validation data.
        chosen: the start whose parameters the model has; start 0 began at the model's own, or was estimated from the
            data.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "log_likelihoods", "chosen")

    log_likelihoods: Tensor
    valid_log_likelihoods: Tensor | None
    chosen: int


class EmFit(NamedTuple):
    """Result of `fit`.

    Attributes:
        model: the model that was given, with its new parameters.
        log_likelihoods: sum over sequences of log p(x_{1:T}) of the chosen start, nats, before each iteration and after
            the last.
        restarts: the comparison of the starts.
        stopped_by: why the chosen start ended: "tolerance" (it converged, even if other starts had not), "decrease" if
            its objective fell and the parameters before that iteration were restored, "num_iterations" or "interrupt".
        seconds: wall-clock time without the compilation of kernels.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "model", "num_iterations", "log_likelihood", "stopped_by", "seconds")

    model: Trainable
    log_likelihoods: Tensor
    restarts: Restarts
    stopped_by: StoppedBy
    seconds: float

    @property
    def num_iterations(self) -> int:
        """Iterations that were done."""
        return len(self.log_likelihoods) - 1

    @property
    def log_likelihood(self) -> Tensor:
        """log p of the training data under the new parameters, nats."""
        return self.log_likelihoods[-1]


@torch.no_grad()
def fit(
    model: Trainable,
    x: Data,
    lengths: Tensor | None = None,
    *,
    valid: Data | None = None,
    num_iterations: int = 100,
    tolerance: float = 1e-6,
    num_restarts: int = 1,
    seed: int = 0,
    frozen: Collection[str] = (),
    pseudo_count: float = 0.0,
    pseudo_observations: float = 0.0,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    progress: bool = True,
    start: StartFrom = "auto",
    min_scale: float | None = None,
) -> EmFit:
    """Raise the likelihood of a model's parameters by EM, in place.

    The objective never decreases by more than rounding. It is the log likelihood, plus pseudo_count times the sum of
    the log probabilities, plus pseudo_observations times the sum over states of the mean of log p(x | z = k) over the
    data. The model changes when the fit ends or is interrupted; a fit that fails leaves it as it was.

    Args:
        model: an `HMM`, an `HSMM`, a `LinearGaussianSSM`, or any model whose `states` are `FiniteStates` and whose
            memory does not read them. Where the M-step has no closed form it raises the expected log density by
            gradient steps.
        x: a padded batch, observations (batch, T, *event), or one sequence (T, *event), as any `Data`.
        lengths: (batch,) if x is a tensor with padding.
        valid: sequences that choose among the starts; without them, the training data do.
        num_iterations: the largest number of iterations.
        tolerance: stop when an iteration gains less than this in every start, nats per step.
        num_restarts: number of starts, which run side by side; memory grows in proportion. `start` sets the first;
            the others are random parameters near the data (`random_starts`). Finite states only.
        seed: random seed for the random starts and for the start from the data.
        frozen: parts of the model that stay as they are, bit for bit: "initial", "transition" or "emission", for an
            `HSMM` "durations", too; for a `LinearGaussianSSM` the names of its constructor, such as "emission_matrix".
        pseudo_count: added to every expected count of a first state, a transition, a symbol or a value of a bit, except
            to first states and transitions of probability zero, which stay zero. Finite states only.
        pseudo_observations: number of observations added to every state, distributed like all of the data except
            values further than 100 spreads (`min_scale`) from their column's median. They pull the laws of rare states
            towards the common one. Finite states only.
        inputs: (batch, T, input_dim) for a model with inputs.
        mask: True where x was observed, (batch, T) or the shape of x; None for wherever it is not NaN. What is missing
            is integrated out, exactly.
        progress: whether to show a progress bar on a terminal.
        start: where the first start begins. "model": at the model's own parameters. "data": at parameters estimated
            from the data by k-means++ (for symbols the best of several random ones), which keep the zeros of the
            model's chain and the frozen parts (`data_starts`); finite states only. "auto": "data" for a model made by
            `HMM.random` whose parameters have not been set, loaded or fitted since, otherwise "model".
        min_scale: the smallest standard deviation of an observation given its state, as a fraction of its column's
            spread, which is the median distance from the median; for full covariances in every direction. The default
            is 1e-6 for finite states and 1e-5 for a `LinearGaussianSSM`. The resolution of float32 raises it to 1.5e-5
            and 1.4e-3. A warning says where it binds.

    Raises:
        TypeError, ValueError: a model or observations that do not fit, or options out of range.
        ImpossibleSequenceError: observations that the model gives probability zero.

    Warns:
        EmWarning: an iteration that lowered the likelihood, by its number; states without a share of the data;
            states and columns where `min_scale` binds.
    """
    check_trainable("em.fit", model, by_gradient=False)
    check_counts(num_iterations=num_iterations, num_restarts=num_restarts)
    _check_not_negative(tolerance=tolerance, pseudo_count=pseudo_count, pseudo_observations=pseudo_observations)
    check_choice("start", start, ("auto", "model", "data"))
    if min_scale is not None and not 0 < min_scale <= 1:
        raise ValueError(f"expected min_scale between 0 and 1, a fraction of a column's spread, got {min_scale}")
    began, data = working_seconds(), as_batch(model, x, lengths, inputs=inputs, mask=mask)
    if inputs is not None:
        data, inputs = data._replace(inputs=None), data.inputs
    held_out = None if valid is None else as_batch(model, valid)
    steps: Steps
    if is_trainable(model):
        _check_one_start(num_restarts, pseudo_count, pseudo_observations)
        if start == "data":
            raise ValueError(
                "expected start='model' for a linear-Gaussian model, got 'data'; fit "
                "pgm_rnn.models.linear_start.linear_start(x, latent_dim=...), which estimates a start from the data"
            )
        least = MIN_SCALE if min_scale is None else min_scale
        steps = GaussianEm(model, data, held_out, inputs=inputs, frozen=frozen, min_scale=least)
    elif is_semi_markov(model):
        _check_segment_options(model, min_scale, pseudo_count, pseudo_observations)
        chosen: dict[str, Any] = {"frozen": frozen, "num_restarts": num_restarts, "seed": seed}
        drawn = start == "auto" and getattr(model, "as_drawn", False)
        steps = SemiMarkovEm(model, data, held_out, from_data=start == "data" or drawn, **chosen)
    elif has_tables(model) and isinstance(model, nn.Module) and not _has_closed_form(model):
        _check_gradient_options(model, start, min_scale, pseudo_count, pseudo_observations)
        options: dict[str, Any] = {"frozen": frozen, "num_restarts": num_restarts, "seed": seed}
        steps = GradientEm(model, data, held_out, inputs=inputs, **options)
    elif has_tables(model) and has_parts(model):
        if inputs is not None:
            raise ValueError("expected no inputs, because the model takes none, got some; leave them out")
        steps = BaumWelch(
            model,
            data,
            held_out,
            frozen=frozen,
            pseudo_count=pseudo_count,
            pseudo_observations=pseudo_observations,
            num_restarts=num_restarts,
            seed=seed,
            from_data=start == "data" or (start == "auto" and getattr(model, "as_drawn", False)),
            min_scale=units.MIN_SCALE if min_scale is None else min_scale,
        )
    else:
        raise em_unsuitable(model)
    climbed = climb(steps, num_iterations, tolerance, data.num_steps, progress)
    restarts = _compared(climbed.log_likelihoods[-1], steps.validate())
    _warn(
        climbed, restarts.chosen, steps.remarks(restarts.chosen), _in_double(model)
    )  # made before the warnings, because a warning may be turned into an error
    with _left_alone_on_failure(model):
        steps.adopt(restarts.chosen)
    history = climbed.log_likelihoods[:, restarts.chosen]
    return EmFit(model, history, restarts, climbed.stopped_by_of(restarts.chosen), working_seconds() - began)


@contextmanager
def _left_alone_on_failure(model: object) -> Iterator[None]:
    """Restore a model's parameters, bit for bit, if the block raises."""
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    except BaseException:
        for parameter, value in zip(parameters, before, strict=True):
            parameter.copy_(value)
        raise


def _in_double(model: object) -> bool:
    """Whether all parameters of a model are in float64."""
    return isinstance(model, nn.Module) and all(value.dtype == torch.float64 for value in model.parameters())


def _warn(climbed: Climbed, chosen: int, notes: list[str], in_double: bool) -> None:
    """One warning for each start that fell, and for each note on the chosen one."""
    alone = climbed.log_likelihoods.shape[1] == 1
    for start, (iteration, nats) in climbed.falls.items():
        which = "EM" if alone else f"Start {start}{' (chosen)' * (start == chosen)}"
        warnings.warn(remarks.of_fall(which, iteration, nats, in_double=in_double), remarks.EmWarning, stacklevel=4)
    for note in notes:
        warnings.warn(note, remarks.EmWarning, stacklevel=4)


def _check_not_negative(**options: float) -> None:
    for name, value in options.items():
        if not value >= 0:
            raise ValueError(f"expected {name} to be at least 0, got {value}")


def _check_one_start(num_restarts: int, pseudo_count: float, pseudo_observations: float) -> None:
    if num_restarts > 1 or pseudo_count > 0 or pseudo_observations > 0:
        raise ValueError(
            f"expected num_restarts=1 and no pseudo-counts for a linear-Gaussian model, got {num_restarts}, "
            f"{pseudo_count} and {pseudo_observations}; they are for finitely many states"
        )


def _has_closed_form(model: object) -> bool:
    """Whether the M-step of `BaumWelch` is that of the model: given x_1, log p(x_1) enters it, and it is not."""
    return has_parts(model) and getattr(model, "first", "model") == "model"


def _check_gradient_options(
    model: object, start: StartFrom, min_scale: float | None, pseudo_count: float, pseudo_observations: float
) -> None:
    name = type(model).__name__
    if start == "data":
        raise ValueError(
            f"expected start='model' for a {name}, whose M-step takes gradient steps, got 'data'; give its parameters "
            "values near the data, or use num_restarts"
        )
    given = {"min_scale": min_scale, "pseudo_count": pseudo_count, "pseudo_observations": pseudo_observations}
    for option, value in given.items():
        if value:
            raise ValueError(
                f"expected no {option} for a {name}, whose M-step takes gradient steps, got {value}; bound its "
                "parameters where its laws are made, or give them priors and use mcmc.run"
            )


def _check_segment_options(
    model: object, min_scale: float | None, pseudo_count: float, pseudo_observations: float
) -> None:
    given = {"min_scale": min_scale, "pseudo_count": pseudo_count, "pseudo_observations": pseudo_observations}
    for option, value in given.items():
        if value:
            raise ValueError(
                f"expected no {option} for semi-Markov states, got {value} for a {type(model).__name__}; leave it out, "
                "or give its parameters priors and use mcmc.run"
            )


def _compared(train: Tensor, valid: Tensor | None) -> Restarts:
    """The starts compared: the best one on the validation data if there are some, ties decided on training data."""
    score = (train if valid is None else valid.cpu()).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    best = score == score.max()
    chosen = int(train.where(best, -torch.inf).argmax())
    return Restarts(train, None if valid is None else score, chosen)
