"""Observation laws in which the states of several chains add up: the emission of Ghahramani & Jordan (1997).

    p(x | z^1, ..., z^M) = family(sum_m effects[m][z^m], common)

For normal and Student's t laws the effects are added to the location, and the chains share the scale or covariance:
Ghahramani & Jordan (1997), eq. (4a)-(4b). In other families every unconstrained parameter is a sum of effects: logits
of symbols and bits, the softplus-inverse of rates, and so on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.emissions import Emission, FullGaussian, Gaussian, SphericalGaussian, StudentT
from pgm_rnn.emissions.natural import IDENTITY, Natural, whole
from pgm_rnn.sequence_model.mixins import SMALLEST_SCALE
from pgm_rnn.states import ProductStates


class AdditiveEmission(nn.Module):
    """One law for each combination of states, whose parameters are sums of effects of the states.

    Args:
        family: the family of the observations.
        effects: for each chain the effects of its states, (K_m, num_effects): the first of the family's unconstrained
            parameters, which for normal and Student's t laws are the locations, for other families all of them.
        common: the other unconstrained parameters, (num_params - num_effects,); None where there are none.

    Raises:
        TypeError: a family whose members share weights.
        ValueError: other shapes, no chain, or numbers that are not finite.

    Example:
        >>> low_or_high, drift = torch.tensor([[0.0], [5.0]]), torch.tensor([[-1.0], [0.0], [1.0]])
        >>> AdditiveEmission.normal([low_or_high, drift], scale=torch.ones(1))(torch.tensor([0, 5])).mean.tolist()
        [[-1.0], [6.0]]
    """

    effects: nn.ParameterList

    def __init__(self, family: Emission, effects: Sequence[Tensor], common: Tensor | None = None) -> None:
        super().__init__()
        if family.needs_head:
            raise TypeError(f"expected a family whose laws share no weights for effects of states, got {family}")
        width = num_effects(family)
        effects = [torch.as_tensor(part) for part in effects]
        if not effects:
            raise ValueError("expected the effects of at least one chain, got none")
        for m, part in enumerate(effects):
            if part.dim() != 2 or len(part) == 0 or part.shape[1] != width:
                raise ValueError(
                    f"expected effects of shape (num_states, {width}) for chain {m} and {family}, got "
                    f"{tuple(part.shape)}"
                )
        if family.num_own < family.num_params:
            raise TypeError(
                f"expected a family without ties for sums of effects, whose chains share a scale anyway, got {family}; "
                "use a family such as Gaussian"
            )
        shape = () if common is None else common.shape
        if shape != ((family.num_params - width,) if width < family.num_params else ()):
            raise ValueError(
                f"expected {family.num_params - width} common parameters for {family}, got "
                f"{'none' if common is None else f'shape {tuple(shape)}'}"
            )
        if not all(bool(part.isfinite().all()) for part in (*effects, *([] if common is None else [common]))):
            raise ValueError("expected effects and common parameters as finite numbers, got NaN or infinity")
        self.family, self.states = family, ProductStates(*(len(part) for part in effects))
        self.effects = nn.ParameterList([nn.Parameter(part.clone()) for part in effects])
        self.common = None if common is None else nn.Parameter(common.clone())

    @staticmethod
    def normal(loc: Sequence[Tensor], *, scale: Tensor | None = None, cov: Tensor | None = None) -> "AdditiveEmission":
        """x ~ N(sum_m loc[m][z^m], C): Ghahramani & Jordan (1997), eq. (4a)-(4b), where loc[m] is their W^m transposed.

        Args:
            loc: contributions to the mean, (K_m, D) for each chain.
            scale: standard deviations (D,), for a diagonal C; or
            cov: C, (D, D).

        Raises:
            ValueError: not exactly one of scale and cov, or shapes that do not fit.
        """
        if (scale is None) == (cov is None):
            raise ValueError("expected either scale or cov, got both or none")
        zeros = torch.zeros_like(torch.as_tensor(loc[0])[:1])
        if cov is not None:
            family: Gaussian | FullGaussian = FullGaussian(zeros.shape[1])
            rows = FullGaussian(zeros.shape[1]).table(zeros, cov[None]).params
        else:
            assert scale is not None  # one of the two is given
            family = Gaussian(zeros.shape[1])
            rows = Gaussian(zeros.shape[1]).table(zeros, scale[None]).params
        return AdditiveEmission(family, loc, rows[0, zeros.shape[1] :].detach())

    @staticmethod
    def random(family: Emission, sizes: Sequence[int]) -> "AdditiveEmission":
        """Standard normal effects and common parameters, drawn by torch's global generator."""
        width = num_effects(family)
        effects = [torch.randn(size, width) for size in sizes]
        common = torch.randn(family.num_params - width) if width < family.num_params else None
        return AdditiveEmission(family, effects, common)

    @property
    def num_free(self) -> Mapping[str, int]:
        """Free effects: an offset that one chain gives and another takes is counted once, with the first chain."""
        width = num_effects(self.family)
        return {f"effects.{m}": part.numel() - width for m, part in enumerate(self.effects) if m > 0}

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """The effects of chain m, from 0, as `effects_m`, and what all combinations share, such as `scale` or `cov`."""
        width, chains = num_effects(self.family), range(len(self.effects))
        effects = {f"effects_{m}": whole(f"effects.{m}", IDENTITY) for m in chains}
        if self.common is None:
            return effects
        shared = {name: natural for name, natural in self.family.natural_parameters.items() if name != "loc"}
        return effects | {name: _of_common(natural, width) for name, natural in shared.items()}

    def forward(self, z: Tensor) -> TorchDistribution:
        """p(x | z) of numbers that stand for the states of all chains; its batch shape is that of z."""
        return self.family.distribution(self.params_at(z))

    def params_at(self, z: Tensor) -> Tensor:
        """Unconstrained parameters of the law of each z, (..., num_params)."""
        parts = [effects[own] for effects, own in zip(self.effects, self.states.split(z), strict=True)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        if self.common is None:
            return total
        return torch.cat([total, self.common.expand(*total.shape[:-1], -1)], dim=-1)

    def fits(self, observed: Tensor | None) -> bool:
        """Whether `fit` has a closed form: normal laws, and for full covariances no observation that is partly missing.

        Args:
            observed: True where an entry was observed, (n, *event) or (n,), None for everywhere.
        """
        if isinstance(self.family, FullGaussian):
            return observed is None or observed.dim() == 1 or bool((observed.all(1) == observed.any(1)).all())
        return isinstance(self.family, Gaussian)

    @torch.no_grad()
    def fit(self, x: Tensor, weights: Tensor, observed: Tensor | None = None) -> None:
        """Set the parameters to the most likely ones: weighted least squares, of the smallest norm where several fit.

        Standard deviations are at least 1e-6 of the column's. Source: Ghahramani & Jordan (1997), appendix A.

        Args:
            x: observations, (n, *event), any number where one is missing.
            weights: weight of each observation in each combination of states, (n, N).
            observed: as for `fits`.
        """
        x, weights = x.reshape(len(x), -1).double(), weights.double()
        there = torch.ones_like(x) if observed is None else _per_entry(observed, x)
        digits = self.states.split(torch.arange(self.states.num_states, device=x.device))
        design = [nn.functional.one_hot(own, size) for own, size in zip(digits, self.states.sizes, strict=True)]
        rows = torch.cat(design, -1).double()  # (N, sum of K_m)
        counts = there.sum(0)
        centre = (x * there).sum(0) / counts.clamp(min=1)
        moved = (x - centre) * there
        spread = (moved.square().sum(0) / counts.clamp(min=1)).sqrt()
        solution, means = _solved(rows, moved, weights, there)
        cov = _residual_cov(moved, weights, there, means, full=isinstance(self.family, FullGaussian))
        self._set(solution, centre, cov, spread)

    @property
    def cov(self) -> Tensor | None:
        """C of normal laws, (D, D); None for other families."""
        if self.common is None or not isinstance(self.family, Gaussian | FullGaussian):
            return None
        if isinstance(self.family, FullGaussian):
            return self.natural_parameters["cov"].read(self.common)
        return torch.diag(self.natural_parameters["scale"].read(self.common).reshape(-1).square())

    @torch.no_grad()
    def fit_chains(self, x: Tensor, beliefs: Sequence[Tensor]) -> None:
        """`fit` for chains that are independent given the data, as mean field has them: all values are not summed over.

        W = (sum E[s] x')' pinv(sum E[s s']), with s the indicators of all chains' states: Ghahramani & Jordan (1997),
        appendix A.

        Args:
            x: observations without gaps, (n, *event).
            beliefs: q(z^m = k) of each chain, (n, K_m).

        Raises:
            TypeError: a family that is not normal.
        """
        if self.cov is None:
            raise TypeError(
                f"expected normal laws for a closed M-step of chains, got {self.family}; use svi.fit or em.fit"
            )
        x, rows = x.reshape(len(x), -1).double(), torch.cat([part.double() for part in beliefs], 1)
        centre = x.mean(0)
        moved, spread = x - centre, x.std(0, correction=0)
        apart = torch.block_diag(*(torch.diag(q.sum(0)) - q.mT @ q for q in (part.double() for part in beliefs)))
        solution = torch.linalg.pinv(rows.mT @ rows + apart, hermitian=True) @ (rows.mT @ moved)  # (sum of K_m, D)
        rest = moved - rows @ solution
        cov = (rest.mT @ rest + solution.mT @ apart @ solution) / len(x)
        self._set(solution, centre, cov, spread)

    @torch.no_grad()
    def set_scale(self, scale: Tensor) -> None:
        """Give normal laws these standard deviations, (D,), and no correlations."""
        assert self.common is not None  # normal laws have one
        self.common.copy_(_common_of(self.family, torch.diag(scale.double().square())))

    def _set(self, solution: Tensor, centre: Tensor, cov: Tensor, spread: Tensor) -> None:
        """Take effects (sum of K_m, D) around a centre, and a covariance with variances of at least (1e-6 spread)^2."""
        least = (SMALLEST_SCALE * spread.where(spread > 0, 1.0)).square()
        cov = cov + torch.diag((least - cov.diagonal()).clamp(min=0))
        solution = solution + centre / len(self.effects)  # each chain has a part of the offset
        for effects, part in zip(self.effects, solution.split(list(self.states.sizes)), strict=True):
            effects.copy_(part)
        assert self.common is not None  # normal laws have one
        self.common.copy_(_common_of(self.family, cov))


def num_effects(family: Emission) -> int:
    """How many of a family's unconstrained parameters, the first ones, are sums of effects."""
    if isinstance(family, Gaussian | FullGaussian | SphericalGaussian | StudentT):
        return family.event_shape.numel()
    return family.num_params


def _of_common(natural: Natural, width: int) -> Natural:
    """A natural parameter of a family's row, read from and written to the columns after the first `width`."""

    def rows(common: Tensor) -> Tensor:
        return torch.cat([common.new_zeros(*common.shape[:-1], width), common], -1)[
            ..., None, :
        ]  # a table of one state

    def read(common: Tensor) -> Tensor:
        return natural.read(rows(common)).squeeze(common.dim() - 1)

    def write(common: Tensor, value: Tensor) -> Tensor:
        return natural.write(rows(common), value.unsqueeze(common.dim() - 1))[..., 0, width:]

    return replace(natural, raw="common", read=read, write=write)


def _per_entry(observed: Tensor, x: Tensor) -> Tensor:
    """1 where an entry (n, D) was observed, 0 elsewhere."""
    return observed.reshape(len(x), -1).expand(x.shape).to(x.dtype)


def _solved(rows: Tensor, x: Tensor, weights: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients (V, D) of the regression on rows (N, V), and its means (N, D); each entry has its own weights."""
    found = []
    for column, own in zip(x.mT, there.mT, strict=True):
        totals = own @ weights  # (N,)
        roots = totals.sqrt()
        target = (column @ weights) / roots.where(roots > 0, 1.0)
        found.append(torch.linalg.lstsq(roots[:, None] * rows, target[:, None], driver="gelsd").solution)
    solution = torch.cat(found, 1)
    return solution, rows @ solution


def _residual_cov(x: Tensor, weights: Tensor, there: Tensor, means: Tensor, *, full: bool) -> Tensor:
    """The weighted covariance of x (n, D) around the means (N, D), or its diagonal alone, as a matrix (D, D)."""
    size = x.shape[1]
    total = x.new_zeros(size, size) if full else x.new_zeros(size)
    for own, mean in zip(weights.mT, means, strict=True):
        apart = (x - mean) * there
        total += (own[:, None] * apart).mT @ apart if full else own @ apart.square()
    counts = (there.mT @ weights).sum(1).clamp(min=torch.finfo(x.dtype).tiny)
    return total / counts if full else torch.diag(total / counts)


def _common_of(family: Emission, cov: Tensor) -> Tensor:
    """The common parameters of normal laws with this covariance."""
    zeros = cov.new_zeros(1, len(cov))
    if isinstance(family, FullGaussian):
        return family.table(zeros, cov[None]).params[0, len(cov) :]
    return Gaussian(len(cov)).table(zeros, cov.diagonal().sqrt()[None]).params[0, len(cov) :]
