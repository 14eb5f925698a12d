"""Checked arguments of the Kalman engine: a model with Gaussian states, its observations and a method.

The moments of a linear model are exact. For others, one of `linearisation.METHODS` replaces the laws.
"""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.distributions.normal_moments import NormalMoments
from pgm_rnn.inference.kalman import linearised_filter
from pgm_rnn.inference.kalman.kinds import GaussianStateModel, has_gaussian_states, is_linear
from pgm_rnn.inference.kalman.linearisation import METHODS, StateLaw
from pgm_rnn.inference.suitable import unsuitable
from pgm_rnn.kernels import gaussian_backward, kalman
from pgm_rnn.kernels.not_numbers import has_nan
from pgm_rnn.kernels.precision import double, in_double, rounded
from pgm_rnn.sequence_model import SequenceModel, memory_of
from pgm_rnn.sequence_model.affine import moments_of
from pgm_rnn.sequence_model.chains import Chained, Posterior, as_vectors, chain_of, check_finite, filtered
from pgm_rnn.sequence_model.observations import as_batch, checked
from pgm_rnn.sequences import Data, Sequences, as_sequences, length_mask


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

    def chained(self) -> Chained:
        """The chain of a linear model."""
        return chain_of(self.model, self.data)

    def filtered(self, parallel: bool | None = None) -> Posterior:
        """The result of the filter, by a scan over time if `parallel`.

        Raises:
            ValueError: a scan of a model that is linearised at every step, or from a diffuse start.
        """
        if self.method == "exact":
            return filtered(self.chained(), parallel)
        if parallel:
            raise ValueError(
                f"expected method='exact' for parallel=True, got {self.method!r}, which linearises at each filtered "
                "mean; leave it out"
            )
        moments = self._linearised()
        return Posterior(rounded(moments, self.data.x.dtype), unrounded=moments)

    def _linearised(self) -> gaussian_backward.Moments:
        """The moments in double precision, from laws that the model computes in its own."""
        given, lengths, _, inputs = self.data[:4]
        x = as_vectors(given)
        inside = length_mask(lengths, x.shape[1])
        observed = inside[..., None].expand(x.shape)
        if self.data.observed is not None:
            observed = observed & kalman.per_entry(self.data.mask, x)
        h = memory_of(cast(SequenceModel, self.model)).unroll(given, None, inputs)
        start, dtype = in_double(self.start(None if h is None else h[:, 0])), x.dtype
        transition, emission = _of_doubles(self.transition(), dtype), _of_doubles(self.emission(), dtype)
        method = METHODS[self.method]
        moments = linearised_filter.run(start, transition, emission, double(x), observed, h, method, dtype)
        check_finite(moments.log_normalizers.where(inside, 0.0))
        return moments._replace(
            log_normalizers=moments.log_normalizers.where(inside, 0.0),
            predicted_means=moments.predicted_means.where(inside[..., None], 0.0),
            filtered_means=moments.filtered_means.where(inside[..., None], 0.0),
        )

    def start(self, h: Tensor | None) -> NormalMoments:
        """The moments of z_1 given h_1."""
        return moments_of(self.model.initial(h), f"{type(self.model).__name__}.initial", self._dim, self.data.x)

    def transition(self) -> StateLaw:
        """The moments of z_t given z_{t-1} and h_t."""
        return _state_law(self.model, "transition", self._dim)

    def emission(self) -> StateLaw:
        """The moments of x_t given z_t and h_t."""
        return _state_law(self.model, "emission", as_vectors(self.data.x).shape[-1])

    @property
    def _dim(self) -> int:
        return int(cast(Any, self.model).states.dim)


def _state_law(model: GaussianStateModel, which: str, width: int) -> StateLaw:
    """The moments of the model's law with this name, expanded to the states that it is given."""
    name = f"{type(model).__name__}.{which}"

    def law(z: Tensor, h: Tensor | None) -> NormalMoments:
        mean, cov = moments_of(getattr(model, which)(z, h), name, width, z)
        cov = cov.reshape((1,) * (z.dim() + 1 - cov.dim()) + cov.shape)
        return NormalMoments(mean.expand(*z.shape[:-1], width), cov)

    return law


def _of_doubles(law: StateLaw, dtype: torch.dtype) -> StateLaw:
    """A law at states in double precision, whose moments a model computes in its own dtype."""

    def found(z: Tensor, h: Tensor | None) -> NormalMoments:
        return in_double(law(z.to(dtype), h))

    return found


def checked_gaussian(
    model: GaussianStateModel,
    x: Data,
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
    given = as_batch(model, x, lengths, inputs=inputs, mask=mask)
    given = given if mask is not None else as_sequences(given, mask=_observed(given))
    if given.observed is not None and reads_observations(model):
        raise ValueError(
            f"expected no missing observations, because {type(model).__name__} reads each at the next step, got some; "
            "fill them in"
        )
    return checked(cast(SequenceModel, model), given)


def prepared(
    model: GaussianStateModel,
    x: Data,
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
            f"expected method='extended', 'unscented' or 'iterated' for {type(model).__name__}, which is not linear, "
            "got None"
        )
    method = method or "exact"
    check_choice("method", method, (*(("exact",) if linear else ()), *METHODS))
    return Problem(model, data, method)


def _observed(data: Sequences) -> Tensor | None:
    """True where an entry was observed, the shape of x: the mask if there is one, otherwise where x is not NaN."""
    if data.observed is not None:
        return kalman.per_entry(data.mask, as_vectors(data.x)).reshape(data.x.shape)
    if not has_nan(data.x):
        return None
    return ~data.x.isnan()


def reads_observations(model: GaussianStateModel) -> bool:
    """Whether an observation drives the next state."""
    return getattr(model, "initial_memory", None) is not None
