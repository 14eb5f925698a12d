"""Structural time series, or unobserved components: a series as the sum of a level, a season, a cycle and more.

    x_t = level_t + seasonal_t + cycle_t + ar_t + beta'u_t + N(0, v)

Each component is a block of a linear Gaussian state (`pgm_rnn.models.structural_parts`), so that the Kalman filter and
smoother are exact. Free parameters are the components' variances, the damping and frequency of the cycle, the
autoregressive coefficients and beta; the matrices are made of them. The first level, slope, season and cycle are
unknown: their start is exactly diffuse, as are the coefficients beta where they are states. Sources: Harvey (1989),
ch. 2; Durbin & Koopman (2012), ch. 3 and 5.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.distributions.diffuse_normal import DiffuseNormal
from pgm_rnn.distributions.normal import Normal
from pgm_rnn.distributions.singular_normal import SingularNormal
from pgm_rnn.emissions import Emission, Gaussian
from pgm_rnn.emissions.natural import IDENTITY, Natural, whole
from pgm_rnn.kernels.gaussian_chain import GaussianChain
from pgm_rnn.models.info import GradientFit, ModelInfo, Size
from pgm_rnn.models.structural_parts import (
    VARIANCE,
    Autoregression,
    Cycle,
    DummySeasonal,
    Level,
    Part,
    TrigonometricSeasonal,
    scale_of,
)
from pgm_rnn.models.structural_start import first_values
from pgm_rnn.sequence_model import First, GivesChain, SequenceModel
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import GaussianStates

Change = Literal["stochastic", "fixed", "none"]
CycleKind = Literal["damped", "stochastic", "fixed", "none"]
Coefficients = Literal["parameters", "states"]


class StructuralSSM(GivesChain, SequenceModel):
    """A structural time series of one variable, made of the components that are chosen.

    Args:
        level: "stochastic" for a level that moves by noise of its own, "fixed" for one that does not, or "none".
        trend: the same for the slope of the level. A fixed level with a stochastic trend is a smooth trend.
        seasonal: period s of a seasonal component, in steps; None for none.
        cycle: "damped", "stochastic" (undamped, with noise), "fixed" (a sine wave), or "none".
        ar: order of a stationary autoregression; None for none.
        regression: number of inputs; None for none.
        seasonal_form: "dummy" for s values whose sum is noise, or "trigonometric".
        seasonal_change: "stochastic" or "fixed".
        harmonics: number of harmonics of a trigonometric season; None for all, s / 2 rounded down.
        cycle_periods: bounds of the period of the cycle, in steps; None for any period from 2 steps on.
        coefficients: "parameters" for coefficients beta that a fit estimates, "states" for coefficients with a flat
            prior, which the filter estimates.
        irregular: whether observations have noise besides. Without it, `emission` must be Gaussian(1).
        start_scale: None for a diffuse start; otherwise the standard deviation of the first values, whose mean is
            zero. A model needs it to be drawn from.
        emission: Gaussian(), the default, for numbers, or Gaussian(1) for vectors with one entry.
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Raises:
        ValueError: no component is chosen, a trend without a level, or an option out of range.

    Example:
        >>> model = StructuralSSM(trend="stochastic", seasonal=4).double()
        >>> x = torch.arange(12.0).double()[None]
        >>> sorted(name for name in model.natural_parameters if "." not in name)
        ['irregular_variance', 'level_variance', 'seasonal_variance', 'slope_variance']
        >>> model.log_marginal_likelihood(x).shape
        torch.Size([1])
    """

    initial_memory = None

    def __init__(
        self,
        level: Change = "stochastic",
        trend: Change = "none",
        seasonal: int | None = None,
        cycle: CycleKind = "none",
        ar: int | None = None,
        regression: int | None = None,
        *,
        seasonal_form: Literal["dummy", "trigonometric"] = "dummy",
        seasonal_change: Literal["stochastic", "fixed"] = "stochastic",
        harmonics: int | None = None,
        cycle_periods: Sequence[float] | None = None,
        coefficients: Coefficients = "parameters",
        irregular: bool = True,
        start_scale: float | None = None,
        emission: Emission | None = None,
        first: First = "model",
    ) -> None:
        _check_choices(level, trend, cycle, seasonal_form, seasonal_change, coefficients)
        chosen = {"ar": ar, "regression": regression}
        check_counts(**{name: number for name, number in chosen.items() if number is not None})
        super().__init__(_one_number(emission, irregular), first)
        season = _season(seasonal, seasonal_form, harmonics, seasonal_change == "stochastic")
        parts: list[Part | None] = [
            _level(level, trend),
            season,
            None if cycle == "none" else _cycle(cycle, cycle_periods),
            None if ar is None else Autoregression(ar),
        ]
        self.parts = nn.ModuleList([part for part in parts if part is not None])
        if not len(self.parts):
            raise ValueError(
                "expected at least one of level, seasonal, cycle and ar, got none of them; level='fixed' is a constant"
            )
        self._options: dict[str, Any] = {
            "level": level,
            "trend": trend,
            "seasonal": seasonal,
            "cycle": cycle,
            "ar": ar,
            "regression": regression,
            "seasonal_form": seasonal_form,
            "seasonal_change": seasonal_change,
            "harmonics": harmonics,
            "cycle_periods": None if cycle_periods is None else list(cycle_periods),
            "coefficients": coefficients,
            "irregular": irregular,
            "start_scale": start_scale,
        }
        self.input_dim = regression
        self.in_states = regression is not None and coefficients == "states"
        estimated = regression is not None and not self.in_states
        self.coefficients = nn.Parameter(torch.zeros(regression or 0)) if estimated else None
        self.raw_irregular = nn.Parameter(torch.zeros(())) if irregular else None
        self.states = GaussianStates(len(self.labels), linear=True)
        self.diffuse: Tensor | None
        self.register_buffer("diffuse", self._directions(start_scale))

    @property
    def components(self) -> list[Part]:
        """The components, in the order of their entries of the state."""
        return [part for part in self.parts if isinstance(part, Part)]

    def _directions(self, start_scale: float | None) -> Tensor | None:
        """The unit vectors of the entries that start diffuse, (D, q)."""
        if start_scale is not None:
            if not start_scale > 0:
                raise ValueError(f"expected start_scale as a positive number, or None, got {start_scale}")
            return None
        unknown = self._unknown()
        return torch.eye(len(unknown))[:, unknown].contiguous() if bool(unknown.any()) else None

    def _unknown(self) -> Tensor:
        """Whether an entry of the state has no stationary law, (D,)."""
        own = [flag for part in self.components for flag in [part.diffuse] * part.size]
        return torch.tensor(own + [True] * (len(self.labels) - len(own)))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the entries of the state."""
        more = range(self.input_dim or 0) if self.in_states else ()
        return tuple(label for part in self.components for label in part.labels) + tuple(f"input {k + 1}" for k in more)

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name and the options of the constructor."""
        return "structural", dict(self._options)

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """Variances and the other parameters in their own units; those of components have the components' names."""
        found = {} if self.raw_irregular is None else {"irregular_variance": whole("raw_irregular", VARIANCE)}
        found |= {} if self.coefficients is None else {"coefficients": whole("coefficients", IDENTITY)}
        own = ((f"parts.{i}", part) for i, part in enumerate(self.components))
        return found | {name: view.within(at) for at, part in own for name, view in part.natural_parameters.items()}

    @torch.no_grad()
    def set_parameters(self, **values: Tensor | float) -> None:
        """Replace parameters in place, by their names in `natural_parameters`, such as level_variance=0.1.

        Raises:
            ValueError: a name that the model does not have, a value of another shape, or one out of range.
        """
        present, new = dict(self.named_parameters()), []
        for name, value in values.items():
            check_choice("the parameter", name, self.natural_parameters)
            natural = self.natural_parameters[name]
            raw = present[natural.raw]
            given = torch.as_tensor(value, dtype=raw.dtype, device=raw.device)
            inside = given.shape == raw.shape and bool(torch.as_tensor(natural.support.check(given)).all())
            written = natural.write(raw, given) if inside else None
            if written is None or not bool(written.isfinite().all()):
                shape = "one number" if raw.dim() == 0 else f"{raw.numel()} numbers"
                raise ValueError(f"expected {name} as {shape}, {natural.values}, got {given.tolist()}")
            new.append((raw, written))
        for raw, written in new:  # only now, so that an error above changes nothing
            raw.copy_(written)

    @torch.no_grad()
    def start_from(self, data: Sequences) -> None:
        """Set the parameters near data: a regression on the inputs, and shares of what it leaves for the variances.

        Raises:
            ValueError: sequences too short for the components, or inputs that depend on each other.
        """
        self.set_parameters(**first_values(data, self._options, self.natural_parameters))

    @property
    def emission_is_regular(self) -> bool:
        """Whether observations have noise of their own."""
        return self.raw_irregular is not None

    def matrix(self) -> Tensor:
        """A, (D, D)."""
        fixed = torch.eye(len(self.labels) - sum(part.size for part in self.components))
        return torch.block_diag(*(part.matrix() for part in self.components), fixed.to(self._like))

    def noise_root(self) -> Tensor:
        """G, a root of the covariance of the states' noise, (D, r)."""
        return self._stacked([part.noise() for part in self.components])

    def start_root(self) -> Tensor:
        """A root of the proper part of the covariance of z_1, (D, r)."""
        scale = self._options["start_scale"]
        roots = [part.start() for part in self.components]
        if scale is not None:
            roots = [
                scale * torch.eye(part.size).to(root) if part.diffuse else root
                for part, root in zip(self.components, roots, strict=True)
            ]
            more = len(self.labels) - sum(part.size for part in self.components)
            roots += [scale * torch.eye(more).to(self._like)]
        return self._stacked(roots)

    def row(self, h: Tensor | None = None) -> Tensor:
        """c, how an observation reads the state, (D,); (..., D) for inputs (..., K) whose coefficients are states."""
        own = torch.cat([part.row for part in self.components])
        if not self.in_states:
            return own
        assert h is not None  # what calls a model with inputs has checked them
        return torch.cat([own.expand(*h.shape[:-1], -1), h], dim=-1)

    def _stacked(self, roots: list[Tensor]) -> Tensor:
        """Blocks (n, r) on the diagonal of a matrix (D, sum of r)."""
        whole_root = torch.block_diag(*roots)
        return torch.cat([whole_root, whole_root.new_zeros(len(self.labels) - len(whole_root), whole_root.shape[1])])

    @property
    def _like(self) -> Tensor:
        """A tensor of the model's dtype and device."""
        like: Tensor = self.components[0].row
        return like

    def initial(self, h: Any) -> TorchDistribution:
        """p(z_1), batch shape ()."""
        mean, root = self._like.new_zeros(len(self.labels)), self.start_root()
        return SingularNormal(mean, root) if self.diffuse is None else DiffuseNormal(mean, root, self.diffuse)

    def transition(self, z: Tensor, h: Any) -> TorchDistribution:
        """p(z_t | z_{t-1}); its batch shape is that of z."""
        return SingularNormal(z @ self.matrix().mT, self.noise_root())

    def emission(self, z: Tensor, h: Any) -> TorchDistribution:
        """p(x_t | z_t, u_t); its batch shape is that of z and u."""
        mean = (z * self.row(h)).sum(-1)
        mean = mean if self.coefficients is None else mean + h @ self.coefficients
        if self.raw_irregular is None:
            return SingularNormal(mean[..., None], mean.new_zeros(1, 0))
        scale = scale_of(self.raw_irregular)
        if not self.family.event_shape:
            return Normal(mean, scale)
        return Normal(mean[..., None], scale, event_dim=1)

    def chain(self, inputs: Tensor | None = None) -> GaussianChain:
        """The parameters in the form of the kernels; `centred` removes beta'u_t."""
        start, noise = self.start_root(), self.noise_root()
        variance = self._like.new_zeros(()) if self.raw_irregular is None else scale_of(self.raw_irregular).square()
        return GaussianChain(
            self._like.new_zeros(len(self.labels)),
            start @ start.mT,
            self.matrix(),
            noise @ noise.mT,
            self.row(inputs)[..., None, :],
            variance.reshape(1, 1),
        )

    def centred(self, x: Tensor, inputs: Tensor | None = None) -> Tensor:
        """x_t - beta'u_t, (batch, T, 1)."""
        if self.coefficients is None or inputs is None:
            return x
        return x - (inputs @ self.coefficients)[..., None]

    def component_rows(self, inputs: Tensor | None = None) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Each component as a function r'z_t + o of the state: rows r (..., D) and numbers o, (...), by name.

        All but "slope" add up to E(x_t | z_t).

        Args:
            inputs: (batch, T, K) for a model with inputs.
        """
        unit, start = torch.eye(len(self.labels)).to(self._like), 0
        zero, found = self._like.new_zeros(()), dict[str, tuple[Tensor, Tensor]]()
        for part in self.components:
            rows = unit[start : start + part.size]
            found[part.name] = part.row @ rows, zero
            if "slope" in part.labels:
                found["slope"] = rows[1], zero
            start += part.size
        if self.in_states and inputs is not None:
            found["regression"] = inputs @ unit[start:], zero
        elif self.coefficients is not None and inputs is not None:
            found["regression"] = torch.zeros_like(unit[0]), inputs @ self.coefficients
        return found


def _check_choices(level: str, trend: str, cycle: str, form: str, change: str, coefficients: str) -> None:
    check_choice("level", level, get_args(Change))
    check_choice("trend", trend, get_args(Change))
    check_choice("cycle", cycle, get_args(CycleKind))
    check_choice("seasonal_form", form, ("dummy", "trigonometric"))
    check_choice("seasonal_change", change, ("stochastic", "fixed"))
    check_choice("coefficients", coefficients, get_args(Coefficients))


def _one_number(emission: Emission | None, irregular: bool) -> Gaussian:
    family = Gaussian() if emission is None else emission
    if not isinstance(family, Gaussian) or family.event_shape.numel() != 1:
        raise ValueError(f"expected emission=Gaussian() or Gaussian(1), for one variable, got {family}")
    if not irregular and not family.event_shape:
        raise ValueError(
            "expected emission=Gaussian(1) with irregular=False, because a number without noise has no density, got "
            "Gaussian()"
        )
    return family


def _level(level: Change, trend: Change) -> Level | None:
    if level == "none":
        if trend != "none":
            raise ValueError(
                f"expected a level with trend={trend!r}, got level='none'; a smooth trend has level='fixed'"
            )
        return None
    return Level(level == "stochastic", None if trend == "none" else trend == "stochastic")


def _season(period: int | None, form: str, harmonics: int | None, noise: bool) -> Part | None:
    if period is None:
        if harmonics is not None:
            raise ValueError(f"expected seasonal, a period in steps, with harmonics={harmonics}, got None")
        return None
    check_counts(seasonal=period)
    if period < 2:
        raise ValueError(f"expected seasonal, a period in steps, of at least 2, got {period}")
    if form == "dummy":
        if harmonics is not None:
            raise ValueError(f"expected seasonal_form='trigonometric' with harmonics={harmonics}, got 'dummy'")
        return DummySeasonal(period, noise)
    number = period // 2 if harmonics is None else harmonics
    check_counts(harmonics=number)
    if number > period // 2:
        raise ValueError(f"expected at most seasonal / 2 = {period // 2} harmonics, got {number}")
    return TrigonometricSeasonal(period, number, noise)


def _cycle(kind: CycleKind, periods: Sequence[float] | None) -> Cycle:
    shortest, longest = (2.0, math.inf) if periods is None else map(float, periods)
    if not 2 <= shortest < longest:
        raise ValueError(f"expected cycle_periods as two numbers of steps, 2 or more, the second larger, got {periods}")
    return Cycle(shortest, longest, damped=kind == "damped", noise=kind != "fixed")


_CHANGES = ("stochastic", "fixed", "none")
INFO = ModelInfo(
    "structural",
    StructuralSSM,
    "-",
    "Gaussian, linear",
    "Choe et al. sec. 2.2; Vidal, LDS",
    {"trend": "stochastic", "start_scale": 1.0},
    (Gaussian,),
    only_numbers=True,
    title="`LinearGaussianSSM`, with inputs, or `structural`: level, trend, season, cycle, AR",
    fit=GradientFit(
        "A structural time series: level, trend, season, cycle and autoregression, by L-BFGS and gradient steps.",
        {
            "level": Size("Level of the series.", "stochastic", kind=str, choices=_CHANGES),
            "trend": Size("Slope of the level.", "none", kind=str, choices=_CHANGES),
            "seasonal": Size("Period of a season, in steps.", shown="no season"),
            "seasonal_form": Size("Form of the season.", "dummy", kind=str, choices=("dummy", "trigonometric")),
            "seasonal_change": Size("Whether the season changes.", "stochastic", kind=str, choices=_CHANGES[:2]),
            "harmonics": Size("Harmonics of a trigonometric season.", shown="all"),
            "cycle": Size("Cycle of a frequency that is fitted.", "none", kind=str, choices=get_args(CycleKind)),
            "ar": Size("Order of an autoregression.", shown="no autoregression"),
        },
        {"num_epochs": 30, "batch_size": 16, "learning_rate": 1e-3, "schedule": "cosine"},
        valid_fraction=0.0,
    ),
    inputs="regression",
    small={"start_scale": 1},
)
