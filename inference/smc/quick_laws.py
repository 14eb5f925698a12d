"""The laws of a filter's later steps: normal ones are drawn and weighed by compiled functions, others by themselves.

Torch checks the parameters of a law whenever one is made, which takes as long as the rest of a step. Normal laws are
made without these checks, because the compiled functions make them; where one fails, the law is made again with
torch's, which say what is wrong. Any other law is made as it always is.
"""

from typing import Literal, NamedTuple

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions.correlated_normal import CorrelatedNormal
from pgm_rnn.distributions.normal import entries_of
from pgm_rnn.distributions.observed import observed_log_prob
from pgm_rnn.kernels.particle_normals import ParticleNormals
from pgm_rnn.particles.steps import drawn
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.conditionals import spread
from pgm_rnn.sequence_model.validation import without_validation

Method = Literal["transition", "emission"]


class _Normal(NamedTuple):
    """A normal law: means, standard deviations and event shape; or means and the covariance's factor."""

    loc: Tensor
    scale: Tensor
    event: torch.Size
    log_peak: Tensor | None = None


class QuickLaws:
    """The laws of a model at (N, B) particles, without gradients, on the CPU.

    Args:
        model: the model.
        shape: (N, B).
        dtype: of the states and of log densities.
    """

    def __init__(self, model: SequenceModel, shape: torch.Size, dtype: torch.dtype) -> None:
        self.model, self.shape, self.dtype = model, shape, dtype
        self._normals = ParticleNormals(shape[0], shape[1], dtype)
        self._by_themselves: set[Method] = set()

    def drawn(self, z: Tensor, h: Tensor | None, t: int) -> Tensor:
        """z_t from its transition, (N, B, *latent).

        Raises:
            ValueError: a law with parameters that torch refuses; it names method and step.
        """
        law = self._normal("transition", z, h)
        if law is not None and law.log_peak is not None:
            return self._normals.draw_correlated(law.loc, law.scale)
        found = None if law is None else self._normals.draw(*law[:3])
        return drawn(spread(self._checked("transition", z, h, t), self.shape), None) if found is None else found

    def log_density(self, z: Tensor, h: Tensor | None, x: Tensor, there: Tensor | None, t: int) -> Tensor:
        """log p(x_t | z_t, h_t) of x (B, *event), where it was observed, of a shape that broadcasts to (N, B).

        Raises:
            ValueError: a law with parameters that torch refuses; it names method and step.
        """
        law = self._normal("emission", z, h) if there is None and x.dtype == self.dtype else None
        if law is not None and law.log_peak is not None:
            return self._normals.log_density_correlated(law.loc, law.scale, law.log_peak, x)
        found = None if law is None else self._normals.log_density(*law[:2], x, law.event)
        return observed_log_prob(self._checked("emission", z, h, t), x, there) if found is None else found

    def _normal(self, method: Method, z: Tensor, h: Tensor | None) -> _Normal | None:
        """A law's parameters, unchecked; None if it is not normal or not of the filter's dtype."""
        if method in self._by_themselves:
            return None
        with without_validation():
            law = getattr(self.model, method)(z, h)
        found = _normal_of(law)
        if found is None or found.loc.dtype != self.dtype or found.scale.dtype != self.dtype:
            self._by_themselves.add(method)
            return None
        return found

    def _checked(self, method: Method, z: Tensor, h: Tensor | None, t: int) -> TorchDistribution:
        """The law with torch's checks."""
        try:
            law: TorchDistribution = getattr(self.model, method)(z, h)
        except ValueError as error:
            where = f"the law from {method} of {type(self.model).__name__} at step {t + 1}"
            raise ValueError(f"{error}; look at {where}") from error
        return law


def _normal_of(law: TorchDistribution) -> _Normal | None:
    if type(law) is CorrelatedNormal:
        return _Normal(law.loc, law.factor.scale_tril, law.event_shape, law.factor.log_peak)
    entries = entries_of(law)
    return None if entries is None else _Normal(entries.loc, entries.scale, law.event_shape)
