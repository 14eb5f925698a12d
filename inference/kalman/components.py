"""The components of a series given all observations: the level, the season and what else a structural model has.

    E(r_t'z_t + o_t | x_{1:T}),   Var(r_t'z_t + o_t | x_{1:T}) = r_t' Cov(z_t | x_{1:T}) r_t

A model names them in a method `component_rows(inputs)`, which gives rows r_t and numbers o_t, as
`pgm_rnn.models.StructuralSSM` does.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from typing_extensions import TypeIs

from pgm_rnn.inference.kalman.engine import Smoothed
from pgm_rnn.inference.kalman.kinds import LinearGaussianModel, is_linear
from pgm_rnn.inference.kalman.problem import prepared
from pgm_rnn.results import shown
from pgm_rnn.sequences import Data, Sequences, length_mask


class HasComponents(Protocol):
    """A model whose observations are sums of components that it names."""

    def component_rows(self, inputs: Tensor | None = None) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Rows r (..., D) and numbers o, (...), of each component r'z_t + o, by name."""


def has_components(model: object) -> TypeIs[HasComponents]:
    """Whether a model names its components."""
    return callable(getattr(model, "component_rows", None))


class Components(NamedTuple):
    """Result of `decompose`.

    Attributes:
        means: E(component_t | x_{1:T}), (B, T), by name, 0 in the padding. All but "slope" add up to the mean of x_t
            without its noise.
        sds: their standard deviations, (B, T); infinite where a diffuse start leaves one without a bound.
    """

    def __repr__(self) -> str:
        """The names."""
        return shown(self, "means")

    means: Mapping[str, Tensor]
    sds: Mapping[str, Tensor]


@torch.no_grad()
def decompose(
    model: LinearGaussianModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
) -> Components:
    """Smoothed means and standard deviations of a model's components, by name: Durbin & Koopman (2012), sec. 4.4.

    Args:
        model: a structural model, such as `LinearGaussianSSM.structural(seasonal=12)`.
        x: a batch, observations (B, T) or (B, T, 1), or one sequence, as any `Data`, NaN where one is missing.
        lengths: (B,) steps of each sequence, None for T.
        inputs: (B, T, K) for a model with inputs.
        mask: True where x was observed, instead of NaN.

    Raises:
        TypeError: a model without named components.
        ValueError: observations that do not fit the model.
        CovarianceError: a prediction whose covariance is not positive definite.
    """
    if not has_components(model) or not is_linear(model):
        raise TypeError(
            f"expected a model with named components, such as LinearGaussianSSM.structural(...), got "
            f"{type(model).__name__}; use kalman.smooth, which takes any linear Gaussian model"
        )
    problem = prepared(model, x, lengths, inputs, mask, None)
    result = problem.filtered()
    smoothed = Smoothed(result.moments, problem.data.lengths, *result[1:])
    return components_of(model, smoothed, problem.data)


def components_of(model: HasComponents, smoothed: Smoothed, data: Sequences) -> Components:
    """The components from the smoothed states of checked data."""
    states, covs = smoothed.smoothed_means, smoothed.smoothed_covs
    inside, means, sds = length_mask(data.lengths, states.shape[1]), dict[str, Tensor](), dict[str, Tensor]()
    for name, (row, added) in model.component_rows(data.inputs).items():
        means[name] = ((states * row).sum(-1) + added).where(inside, 0.0)
        used = (row != 0)[..., :, None] & (row != 0)[..., None, :]
        seen = covs.where(used, 0.0)  # a variance without a bound elsewhere does not count
        variance = (row[..., None, :] @ seen @ row[..., None])[..., 0, 0]
        sds[name] = variance.clamp(min=0.0).sqrt().where(inside, 0.0)
    return Components(means, sds)
