"""Components of a structural time series: blocks of a linear Gaussian state, each with few parameters.

    s_t = A s_{t-1} + G e_t,   e_t ~ N(0, I),   the observation reads c's_t

level           l_t = l_{t-1} + b_{t-1} + N(0, v_l),   b_t = b_{t-1} + N(0, v_b)
seasonal        g_t = -(g_{t-1} + ... + g_{t-s+1}) + N(0, v), or a sum of turning vectors, one for each harmonic
cycle           (c_t, c*_t) = rho R(lambda) (c_{t-1}, c*_{t-1}) + N(0, v I),   R(lambda) a rotation
autoregression  a_t = phi_1 a_{t-1} + ... + phi_p a_{t-p} + N(0, v)

Sources: Harvey (1989), sec. 2.3; Durbin & Koopman (2012), sec. 3.2. The autoregression is stationary by its partial
autocorrelations: Monahan (1984).
"""

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from pyro.distributions import constraints
from torch import Tensor, nn

from pgm_rnn.emissions.natural import LOGIT, Map, Natural, whole


def scale_of(raw: Tensor) -> Tensor:
    """A standard deviation from its logarithm, at least 1.1e-19 in float32 and 1.5e-154 in float64."""
    return raw.exp().clamp(min=torch.finfo(raw.dtype).tiny ** 0.5)


VARIANCE = Map(
    lambda value: 0.5 * value.log(),
    lambda raw: scale_of(raw).square(),
    constraints.positive,
    "positive numbers",
)
"""A variance, whose raw parameter is the logarithm of the standard deviation."""


class Part(nn.Module):
    """A component.

    Attributes:
        name: its name in decompositions and in the names of its parameters.
        labels: names of its entries of the state.
        diffuse: whether nothing is known about its first value; otherwise it starts from its stationary law.
        row: c, how the observation reads it, (n,).
    """

    name: str
    labels: tuple[str, ...]
    diffuse: bool = True
    row: Tensor

    @property
    def size(self) -> int:
        """Number n of its entries of the state."""
        return len(self.labels)

    @abstractmethod
    def matrix(self) -> Tensor:
        """A, (n, n)."""

    @abstractmethod
    def noise(self) -> Tensor:
        """G, (n, r); r is zero without noise."""

    def start(self) -> Tensor:
        """A root of the stationary covariance, (n, n), of a component that is not diffuse."""
        return self.noise().new_zeros(self.size, 0)

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """Its parameters in their own units, by name."""
        return {}

    def _reads_first(self) -> None:
        self.register_buffer("row", torch.eye(self.size)[0])

    def _column(self, raw: Tensor | None, entry: int = 0) -> Tensor:
        """Noise with the standard deviation exp(raw) in one entry, (n, 1), or no column for None, (n, 0)."""
        unit = torch.eye(self.size, dtype=self.row.dtype, device=self.row.device)[:, entry : entry + 1]
        return unit[:, :0] if raw is None else unit * scale_of(raw)


class Level(Part):
    """A level, with a slope if there is a trend: local level, local linear trend, smooth and deterministic trends.

    Args:
        level: whether the level has noise of its own.
        slope: whether the slope has noise; None without a slope.
    """

    name = "level"

    def __init__(self, level: bool, slope: bool | None) -> None:
        super().__init__()
        self.labels = ("level",) if slope is None else ("level", "slope")
        self.raw_level = nn.Parameter(torch.zeros(())) if level else None
        self.raw_slope = nn.Parameter(torch.zeros(())) if slope else None
        self._reads_first()

    def matrix(self) -> Tensor:
        """A, (n, n)."""
        return torch.ones(self.size, self.size, dtype=self.row.dtype, device=self.row.device).triu()

    def noise(self) -> Tensor:
        """G, (n, r)."""
        return torch.cat([self._column(self.raw_level), self._column(self.raw_slope, self.size - 1)], dim=1)

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """level_variance and slope_variance."""
        raw = {"level_variance": "raw_level", "slope_variance": "raw_slope"}
        return {name: whole(at, VARIANCE) for name, at in raw.items() if getattr(self, at) is not None}


class DummySeasonal(Part):
    """A seasonal pattern whose s values sum to noise: Durbin & Koopman (2012), eq. (3.3).

    Args:
        period: s, in steps.
        noise: whether the pattern changes.
    """

    name = "seasonal"

    def __init__(self, period: int, noise: bool) -> None:
        super().__init__()
        self.labels = ("seasonal", *(f"seasonal, {n} before" for n in range(1, period - 1)))
        self.raw = nn.Parameter(torch.zeros(())) if noise else None
        self._reads_first()

    def matrix(self) -> Tensor:
        """A, (s - 1, s - 1): the new value is minus the sum of the others, which move on by one place."""
        like = self.row
        moved = torch.eye(self.size, dtype=like.dtype, device=like.device)[:-1]
        return torch.cat([-torch.ones_like(like)[None], moved])

    def noise(self) -> Tensor:
        """G, (s - 1, r)."""
        return self._column(self.raw)

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """seasonal_variance."""
        return {} if self.raw is None else {"seasonal_variance": whole("raw", VARIANCE)}


class TrigonometricSeasonal(Part):
    """A seasonal pattern as a sum of harmonics, all with the same noise: Durbin & Koopman (2012), eq. (3.6)-(3.7).

    Args:
        period: s, in steps.
        harmonics: number of harmonics, at most s / 2. The last of an even period has one entry, the others two.
        noise: whether the pattern changes.
    """

    name = "seasonal"

    def __init__(self, period: int, harmonics: int, noise: bool) -> None:
        super().__init__()
        self.period, self.harmonics = period, harmonics
        pairs = [(f"harmonic {j}", f"harmonic {j}, conjugate") for j in range(1, harmonics + 1)]
        labels = [label for pair in pairs for label in pair]
        self.labels = tuple(labels[:-1] if 2 * harmonics == period else labels)
        self.raw = nn.Parameter(torch.zeros(())) if noise else None
        self.register_buffer("row", torch.tensor([1.0, 0.0]).repeat(harmonics)[: self.size])

    def matrix(self) -> Tensor:
        """A, (n, n): a rotation by 2 pi j / s for each harmonic j."""
        angles = 2 * math.pi / self.period * torch.arange(1, self.harmonics + 1, dtype=torch.float64)
        turns = torch.block_diag(*map(rotation, angles))[: self.size, : self.size]  # half a turn needs one entry
        return turns.to(self.row)

    def noise(self) -> Tensor:
        """G, (n, r): the same variance in every entry."""
        unit = torch.eye(self.size, dtype=self.row.dtype, device=self.row.device)
        return unit[:, :0] if self.raw is None else unit * scale_of(self.raw)

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """seasonal_variance."""
        return {} if self.raw is None else {"seasonal_variance": whole("raw", VARIANCE)}


class Cycle(Part):
    """A cycle of a frequency that is estimated: Harvey (1989), eq. (2.3.38).

    Args:
        shortest: the shortest period, in steps, at least 2.
        longest: the longest period, in steps; may be infinite.
        damped: whether the amplitude shrinks by a factor rho at each step.
        noise: whether the cycle changes.
    """

    name = "cycle"
    labels = ("cycle", "cycle, conjugate")

    def __init__(self, shortest: float, longest: float, *, damped: bool, noise: bool) -> None:
        super().__init__()
        self.low, self.high = 2 * math.pi / longest, 2 * math.pi / shortest
        self.raw_frequency = nn.Parameter(torch.zeros(()))
        self.raw_damping = nn.Parameter(torch.tensor(2.0)) if damped else None
        self.raw = nn.Parameter(torch.zeros(())) if noise else None
        self._reads_first()

    def matrix(self) -> Tensor:
        """A, (2, 2)."""
        turn = rotation(self._read_frequency(self.raw_frequency))
        return turn if self.raw_damping is None else self.raw_damping.sigmoid() * turn

    def noise(self) -> Tensor:
        """G, (2, r)."""
        unit = torch.eye(2, dtype=self.row.dtype, device=self.row.device)
        return unit[:, :0] if self.raw is None else unit * scale_of(self.raw)

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """cycle_frequency in radians per step, cycle_damping and cycle_variance."""
        support = constraints.interval(self.low, self.high)
        words = f"numbers between {self.low:.4g} and {self.high:.4g}"
        found = {
            "cycle_frequency": whole("raw_frequency", Map(self._of_frequency, self._read_frequency, support, words))
        }
        found |= {} if self.raw_damping is None else {"cycle_damping": whole("raw_damping", LOGIT)}
        return found | ({} if self.raw is None else {"cycle_variance": whole("raw", VARIANCE)})

    def _read_frequency(self, raw: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * raw.sigmoid()

    def _of_frequency(self, value: Tensor) -> Tensor:
        return ((value - self.low) / (self.high - self.low)).logit()


class Autoregression(Part):
    """A stationary autoregression, from its stationary law on.

    Args:
        order: p.
    """

    name = "ar"
    diffuse = False

    def __init__(self, order: int) -> None:
        super().__init__()
        self.labels = ("ar", *(f"ar, {n} before" for n in range(1, order)))
        self.raw_partial = nn.Parameter(torch.zeros(order))
        self.raw = nn.Parameter(torch.zeros(()))
        self._reads_first()

    def matrix(self) -> Tensor:
        """A, (p, p): the coefficients in its first row, the others move on by one place."""
        moved = torch.eye(self.size, dtype=self.row.dtype, device=self.row.device)[:-1]
        return torch.cat([coefficients_of(self.raw_partial.tanh())[None], moved])

    def noise(self) -> Tensor:
        """G, (p, 1)."""
        return self._column(self.raw)

    def start(self) -> Tensor:
        """The Cholesky factor of the stationary covariance, (p, p)."""
        correlations = autocorrelations(self.raw_partial.tanh())[: self.size]  # of lags 0..p - 1
        lags = torch.arange(self.size, device=self.row.device)
        factor = torch.linalg.cholesky(correlations[(lags[:, None] - lags).abs()])
        spread = (1 - self.raw_partial.tanh().square()).log().sum().mul(-0.5).exp()
        return scale_of(self.raw) * spread * factor

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """ar_coefficients, (p,), and ar_variance, of the noise."""
        stationary = Map(
            lambda value: partials_of(value).atanh(),
            lambda raw: coefficients_of(raw.tanh()),
            constraints.real_vector,
            "coefficients of a stationary autoregression",
        )
        return {"ar_coefficients": whole("raw_partial", stationary), "ar_variance": whole("raw", VARIANCE)}


def rotation(angle: Tensor) -> Tensor:
    """The matrix (cos, sin; -sin, cos) of an angle in radians, (2, 2)."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, sin]), torch.stack([-sin, cos])])


def coefficients_of(partials: Tensor) -> Tensor:
    """phi_1..phi_p of an autoregression from its partial autocorrelations, (p,): the Durbin-Levinson recursion."""
    phi = partials[:0]
    for r in partials:
        phi = torch.cat([phi - r * phi.flip(0), r[None]])
    return phi


def partials_of(coefficients: Tensor) -> Tensor:
    """The partial autocorrelations of an autoregression from phi_1..phi_p, (p,).

    Raises:
        ValueError: coefficients of an autoregression that is not stationary.
    """
    phi, found = coefficients, list[Tensor]()
    while len(phi):
        r = phi[-1]
        if not bool(r.detach().abs() < 1):
            raise ValueError(
                f"expected coefficients of a stationary autoregression, got {coefficients.tolist()}; all roots of "
                "1 - phi_1 u - ... - phi_p u^p must lie outside the unit circle"
            )
        found.append(r)
        phi = (phi[:-1] + r * phi[:-1].flip(0)) / (1 - r.square())
    return torch.stack(found[::-1])


def autocorrelations(partials: Tensor) -> Tensor:
    """Autocorrelations of lags 0..p of an autoregression from its partial autocorrelations, (p + 1,)."""
    correlations, phi, left = torch.ones_like(partials[:1]), partials[:0], torch.ones_like(partials[0])
    for r in partials:  # `left` is the variance that the lags before leave, as a share
        following = r * left + (phi * correlations[1:].flip(0)).sum()
        correlations = torch.cat([correlations, following[None]])
        phi, left = torch.cat([phi - r * phi.flip(0), r[None]]), left * (1 - r.square())
    return correlations
