"""Checked arguments of the Kalman engine: a model with Gaussian states, its observations and a method.

The moments of a linear model are exact. For others, one of `linearisation.METHODS` replaces the functions.
"""

from typing import NamedTuple, cast

from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.inference.kalman import linearised_filter
from pgm_rnn.inference.kalman.kinds import GaussianStateModel, has_gaussian_states, is_linear
from pgm_rnn.inference.kalman.linearisation import METHODS
from pgm_rnn.inference.suitable import unsuitable
from pgm_rnn.kernels import gaussian_backward, kalman
from pgm_rnn.sequence_model import SequenceModel, memory_of
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequences import Sequences, as_sequences, length_mask


class CovarianceError(ValueError):
    """The covariance of a prediction is not positive definite."""


class Problem(NamedTuple):
    """Checked arguments.

    Attributes:
        model: the model.
        data: its observations, zero where an entry is missing.
        method: "exact", or one of `linearisation.METHODS`.
    """

    model: GaussianStateModel
    data: Sequences
    method: str

    @property
    def observed(self) -> Tensor | None:
        """True where an entry was observed, the shape of x; None where every one was."""
        return None if self.data.observed is None else kalman.per_entry(self.data.mask, self.data.x)

    def moments(self) -> gaussian_backward.Moments:
        """The filter's moments."""
        return self._exact() if self.method == "exact" else self._linearised()

    def _exact(self) -> gaussian_backward.Moments:
        assert is_linear(self.model)
        x, lengths, _, inputs, _ = self.data
        moments = gaussian_backward.filtered(
            self.model.chain(inputs), self.model.centred(x, inputs), lengths, self.observed
        )
        check_finite(moments.log_normalizers)
        return moments

    def _linearised(self) -> gaussian_backward.Moments:
        x, lengths, _, inputs, _ = self.data
        inside = length_mask(lengths, x.shape[1])
        observed = inside[..., None].expand(x.shape)
        if self.observed is not None:
            observed = observed & self.observed
        h = memory_of(cast(SequenceModel, self.model)).unroll(x, None, inputs)
        moments = linearised_filter.run(self.model, x, observed, h, METHODS[self.method])
        return moments._replace(
            log_normalizers=moments.log_normalizers.where(inside, 0.0),
            predicted_means=moments.predicted_means.where(inside[..., None], 0.0),
            filtered_means=moments.filtered_means.where(inside[..., None], 0.0),
        )


def checked_gaussian(
    model: GaussianStateModel,
    x: Sequences | Tensor,
    lengths: Tensor | None,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
) -> Sequences:
    """Valid data, whose mask is False where an entry is missing, because of a given mask or NaN.

    Raises:
        TypeError: a model without Gaussian states.
        ValueError: observations that do not fit the model, or missing ones that the model reads at the next step.
    """
    if not has_gaussian_states(model):
        raise unsuitable("kalman", "Gaussian states", model)
    given = as_sequences(x, lengths, inputs=inputs, mask=mask)
    given = given if mask is not None else as_sequences(given, mask=_observed(given))
    if given.observed is not None and reads_observations(model):
        raise ValueError(
            f"expected every observation, for {type(model).__name__} reads it at the next step, got missing ones; "
            "fill them in"
        )
    return checked(cast(SequenceModel, model), given)


def prepared(
    model: GaussianStateModel,
    x: Sequences | Tensor,
    lengths: Tensor | None,
    inputs: Tensor | None,
    mask: Tensor | None,
    method: str | None,
) -> Problem:
    """Checked arguments of `kalman.filter`.

    Raises:
        TypeError, ValueError: as `kalman.filter`.
    """
    data = checked_gaussian(model, x, lengths, inputs, mask)
    linear = is_linear(model)
    if method is None and not linear:
        raise ValueError(
            f"expected method='extended' or 'unscented' for {type(model).__name__}, which is not linear, got None"
        )
    method = method or "exact"
    check_choice("method", method, (*(("exact",) if linear else ()), *METHODS))
    return Problem(model, data, method)


def _observed(data: Sequences) -> Tensor | None:
    """True where an entry was observed, the shape of x: the mask if there is one, otherwise where x is not NaN."""
    if data.observed is not None:
        return kalman.per_entry(data.mask, data.x)
    if not data.x.is_floating_point() or not bool(data.x.isnan().any()):
        return None
    return ~data.x.isnan()


def reads_observations(model: GaussianStateModel) -> bool:
    """Whether an observation drives the next state."""
    return getattr(model, "initial_memory", None) is not None


def check_finite(log_normalizers: Tensor) -> None:
    """Raise an error that names sequence and step if a prediction's covariance is not positive definite.

    Raises:
        CovarianceError: log p(x_t | x_{1:t-1}) is NaN at some step.
    """
    failed = log_normalizers.isnan()
    if bool(failed.any()):
        sequence, step = failed.nonzero()[0].tolist()
        raise CovarianceError(
            f"expected predictions with positive definite covariances, got another one for sequence {sequence} at step "
            f"{step + 1}; use float64 or larger variances"
        )
