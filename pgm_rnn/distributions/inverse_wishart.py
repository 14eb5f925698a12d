"""The inverse Wishart law of covariance matrices, with a support that samplers and automatic guides can move in.

    p(S) = |Psi|^{nu / 2} |S|^{-(nu + D + 1) / 2} exp(-tr(Psi S^{-1}) / 2) / (2^{nu D / 2} Gamma_D(nu / 2))

Torch knows no one-to-one map from vectors onto positive definite matrices. Here it is S = L L', where the vector holds
log of L's diagonal first and then what is below it, row by row:

    log |dS / dvector| = D log 2 + sum_i (D + 2 - i) log L_ii,   i = 1..D

Gelman et al. (2013), app. A, for the density; Muirhead (1982), Theorem 2.1.9, for the Jacobian of S = L L'.
"""

import math
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.transforms import Transform

from pgm_rnn.checks import check_covariance
from pgm_rnn.kernels import triangles


class _Covariances(type(constraints.positive_definite)):  # type: ignore[misc]
    """Positive definite matrices, for which a one-to-one map from vectors is registered."""

    def __repr__(self) -> str:
        return "positive definite matrices"


covariances = _Covariances()
"""The support of laws of covariance matrices."""


class CovarianceTransform(Transform):
    """Vectors of D (D + 1) / 2 real numbers as positive definite matrices, one to one.

    Example:
        >>> transform = CovarianceTransform()
        >>> transform(torch.zeros(3))
        tensor([[1., 0.],
                [0., 1.]])
    """

    domain = constraints.real_vector
    codomain = covariances
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        size = _size(x.shape[-1])
        factor = triangles.from_parts(x[..., :size].exp(), x[..., size:])
        return factor @ factor.mT

    def _inverse(self, y: Tensor) -> Tensor:
        diagonal, below = triangles.parts_of(torch.linalg.cholesky(y))
        return torch.cat([diagonal.log(), below], dim=-1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """The logarithm of the volume by which the map stretches at x, batch shape."""
        size = y.shape[-1]
        weights = torch.arange(size + 1, 1, -1, dtype=x.dtype, device=x.device)
        return size * math.log(2) + (weights * x[..., :size]).sum(-1)

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        """Shape of the matrices."""
        size = _size(shape[-1])
        return torch.Size([*shape[:-1], size, size])

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        """Shape of the vectors."""
        return torch.Size([*shape[:-2], shape[-1] * (shape[-1] + 1) // 2])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CovarianceTransform)

    __hash__ = Transform.__hash__


def _size(entries: int) -> int:
    """D, from the number of entries of a triangle."""
    return (math.isqrt(8 * entries + 1) - 1) // 2


@biject_to.register(_Covariances)  # type: ignore[untyped-decorator]
@transform_to.register(_Covariances)  # type: ignore[untyped-decorator]
def _transform(constraint: Any) -> CovarianceTransform:
    return CovarianceTransform()


class InverseWishart(TorchDistribution):
    """The inverse Wishart law, the conjugate prior of a covariance matrix: S^{-1} ~ Wishart(nu, Psi^{-1}).

    Its mean is Psi / (nu - D - 1), where nu > D + 1.

    Args:
        df: nu, above D - 1; a number, or (*batch,).
        scale_matrix: Psi, positive definite, (*batch, D, D).
        validate_args: passed on to torch; the arguments are checked in any case.

    Raises:
        ValueError: a nu of at most D - 1, or a Psi that is not symmetric and positive definite.

    Example:
        >>> law = InverseWishart(5.0, torch.eye(2))
        >>> law.event_shape, law.mean.diagonal()
        (torch.Size([2, 2]), tensor([0.5000, 0.5000]))
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    support = covariances
    has_rsample = True

    def __init__(self, df: float | Tensor, scale_matrix: Tensor, validate_args: bool | None = None) -> None:
        scale_matrix = torch.as_tensor(scale_matrix)
        if scale_matrix.dim() < 2:
            raise ValueError(f"expected scale_matrix of shape (*batch, D, D), got {tuple(scale_matrix.shape)}")
        df, size = torch.as_tensor(df, dtype=scale_matrix.dtype, device=scale_matrix.device), scale_matrix.shape[-1]
        if not bool((df > size - 1).all()):
            raise ValueError(f"expected df above D - 1 = {size - 1}, got {float(df.min()):g}")
        for matrix in scale_matrix.reshape(-1, *scale_matrix.shape[-2:]):
            check_covariance("scale_matrix", matrix, size)
        batch = torch.broadcast_shapes(df.shape, scale_matrix.shape[:-2])
        self.df, self.scale_matrix = df.expand(batch), scale_matrix.expand(*batch, -1, -1)
        super().__init__(batch, scale_matrix.shape[-2:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "InverseWishart":
        """The same law for a larger batch."""
        law = InverseWishart.__new__(InverseWishart)
        law.df = self.df.expand(torch.Size(batch_shape))
        law.scale_matrix = self.scale_matrix.expand(*batch_shape, -1, -1)
        TorchDistribution.__init__(law, torch.Size(batch_shape), self.event_shape, validate_args=False)
        law._validate_args = self._validate_args
        return law

    @property
    def mean(self) -> Tensor:
        """Psi / (nu - D - 1), (*batch, D, D), infinite where nu is at most D + 1."""
        over = self.df - self.event_shape[0] - 1
        return (self.scale_matrix / over[..., None, None]).where(over[..., None, None] > 0, torch.inf)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of (*batch, D, D) with respect to the entries of the lower triangle: nats, batch shape."""
        if self._validate_args:
            self._validate_sample(value)
        size, nu = self.event_shape[0], self.df
        own, factor = torch.linalg.cholesky(self.scale_matrix), torch.linalg.cholesky(value)
        trace = torch.linalg.solve_triangular(factor, own, upper=False).square().sum((-2, -1))
        constant = 0.5 * nu * size * math.log(2) + torch.special.multigammaln(0.5 * nu, size)
        return 0.5 * nu * _log_det(own) - 0.5 * (nu + size + 1) * _log_det(factor) - 0.5 * trace - constant

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws that follow the parameters, (*sample_shape, *batch, D, D), by Bartlett's decomposition.

        With Psi = U U' and a lower triangular A, A_ii^2 ~ chi^2(nu + 1 - i) and A_ij ~ N(0, 1) below the diagonal,
        (U A^{-T}) (U A^{-T})' is a draw: A A' is Wishart, and its inverse is A^{-T} A^{-1}.
        """
        shape, size = torch.Size(sample_shape) + self.batch_shape, self.event_shape[0]
        steps = torch.arange(size, dtype=self.df.dtype, device=self.df.device)
        squares = torch.distributions.Chi2(self.df[..., None] - steps).rsample(torch.Size(sample_shape))
        normal = torch.randn(*shape, size, size, dtype=self.df.dtype, device=self.df.device)
        bartlett = normal.tril(-1) + squares.sqrt().diag_embed()
        own = torch.linalg.cholesky(self.scale_matrix).expand(*shape, size, size)
        root = torch.linalg.solve_triangular(bartlett, own.mT, upper=False)  # A^{-1} U'
        drawn = root.mT @ root
        return 0.5 * (drawn + drawn.mT)


def _log_det(factor: Tensor) -> Tensor:
    """log det of L L'."""
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
