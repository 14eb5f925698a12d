"""What the Kalman engine is asked: a model with Gaussian states, checked observations, and a method to run.

A model is linear, and its moments exact, or `linearisation.METHODS` say what stands in for its functions.
"""

from typing import NamedTuple

from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.inference.kalman import linearised_filter
from pgm_rnn.inference.kalman.kinds import GaussianStateModel, has_gaussian_states, is_linear
from pgm_rnn.inference.kalman.linearisation import METHODS
from pgm_rnn.kernels import gaussian_backward, kalman
from pgm_rnn.sequence_model.observations import check_inputs, check_mask
from pgm_rnn.sequences import as_sequences, length_mask


class CovarianceError(ValueError):
    """The covariance of a prediction is not positive definite."""


class Problem(NamedTuple):
    """Checked arguments."""

    model: GaussianStateModel
    x: Tensor
    lengths: Tensor
    inputs: Tensor | None
    observed: Tensor | None
    method: str

    def moments(self) -> gaussian_backward.Moments:
        """The filter's moments."""
        return self._exact() if self.method == "exact" else self._linearised()

    def _exact(self) -> gaussian_backward.Moments:
        assert is_linear(self.model)
        chain, x = self.model.chain(self.inputs), self.model.centred(self.x, self.inputs)
        moments = gaussian_backward.filtered(chain, x, self.lengths, self.observed)
        check_finite(moments.log_normalizers)
        return moments

    def _linearised(self) -> gaussian_backward.Moments:
        inside = length_mask(self.lengths, self.x.shape[1])
        observed = inside[..., None].expand(self.x.shape)
        if self.observed is not None:
            observed = observed & self.observed
        driver = self.model.unroll_memory(self.x, None, self.inputs)
        moments = linearised_filter.run(self.model, self.x, observed, driver, METHODS[self.method])
        return moments._replace(
            log_normalizers=moments.log_normalizers.where(inside, 0.0),
            predicted_means=moments.predicted_means.where(inside[..., None], 0.0),
            filtered_means=moments.filtered_means.where(inside[..., None], 0.0),
        )


def checked(
    model: GaussianStateModel, x: Tensor, lengths: Tensor | None, inputs: Tensor | None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Valid observations, lengths, inputs, and where an entry was observed (None: everywhere); errors as `filter`."""
    if not has_gaussian_states(model):
        raise TypeError(
            f"kalman needs a model with Gaussian states, {type(model).__name__} has none; "
            "forward_backward takes finitely many states, svi.evaluate a model without latent states"
        )
    given, given_lengths, _ = as_sequences(x, lengths)
    observed = _observed(given, given_lengths, mask)
    x, lengths = model.check(given, given_lengths, observed)
    if observed is not None and reads_observations(model):
        raise ValueError(
            f"expected every observation, for {type(model).__name__} reads it at the next step, got missing ones; "
            "fill them in"
        )
    return x, lengths, check_inputs(inputs, model.input_dim, x), observed


def prepared(
    model: GaussianStateModel,
    x: Tensor,
    lengths: Tensor | None,
    inputs: Tensor | None,
    mask: Tensor | None,
    method: str | None,
) -> Problem:
    """Checked arguments of `kalman.filter`; errors as there."""
    x, lengths, inputs, observed = checked(model, x, lengths, inputs, mask)
    linear = is_linear(model)
    if method is None and not linear:
        raise ValueError(
            f"expected method='extended' or 'unscented' for {type(model).__name__}, which is not linear, got None"
        )
    method = method or "exact"
    check_choice("method", method, (*(("exact",) if linear else ()), *METHODS))
    return Problem(model, x, lengths, inputs, observed, method)


def _observed(x: Tensor, lengths: Tensor, mask: Tensor | None) -> Tensor | None:
    """True where an entry was observed, the shape of x; None where every one was."""
    if mask is not None:
        return kalman.per_entry(check_mask(mask, x), x)
    if not x.is_floating_point():
        return None
    missing = x.isnan() & length_mask(lengths, x.shape[1])[(...,) + (None,) * (x.dim() - 2)]
    return ~missing if bool(missing.any()) else None


def reads_observations(model: GaussianStateModel) -> bool:
    """Whether an observation drives the next state."""
    return getattr(model, "initial_memory", None) is not None


def check_finite(log_normalizers: Tensor) -> None:
    """Raise a `CovarianceError` that says where, if a prediction had no positive definite covariance."""
    failed = log_normalizers.isnan()
    if bool(failed.any()):
        sequence, step = failed.nonzero()[0].tolist()
        raise CovarianceError(
            f"expected predictions with positive definite covariances, that of sequence {sequence} at step {step + 1} "
            "is not; use float64, or larger variances"
        )
