"""Stochastic volatility: returns whose log variance is a hidden autoregression.

    z_1 ~ N(m, s^2 / (1 - f^2)),   z_t = m + f (z_{t-1} - m) + s n_t        log variance
    x_t = exp(z_t / 2) e_t                                                  return, t = 1..T
    e_t ~ N(0, 1), or Student's t law with v degrees of freedom;   n_t ~ N(0, 1)
    leverage: corr(w_t, n_{t+1}) = r,   w_t the normal score of e_t, which is e_t itself for normal errors

Given z_{t-1} and x_{t-1}, e_{t-1} is known, so n_t ~ N(r w_{t-1}, 1 - r^2). With leverage the memory holds x_{t-1}, and
the law of z_t reads z_{t-1} and this memory. The memory itself never reads z.

Sources: Taylor (1986); Harvey & Shephard (1996) and Omori, Chib, Shephard & Nakajima (2007) for leverage. Differences:
Student errors and leverage are joined by a normal copula, so that both marginal laws are exact and the state stays one
number; Omori et al. correlate n with the normal factor of a scale mixture instead.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.nn.functional import softplus

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.distributions.normal import Normal
from pgm_rnn.distributions.normal_score import normal_score
from pgm_rnn.distributions.student_t import StudentT as StudentLaw
from pgm_rnn.emissions import Emission, Gaussian
from pgm_rnn.emissions.natural import IDENTITY, LOGARITHM, SOFTPLUS, TANH, Natural, whole
from pgm_rnn.emissions.student_t import StudentT
from pgm_rnn.kernels import particle_runs, positive
from pgm_rnn.kernels.particle_runs import Run
from pgm_rnn.models.info import STEPS_ON_A_BOUND, GradientFit, ModelInfo, Size
from pgm_rnn.models.networks import is_as_written
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import First, SequenceModel
from pgm_rnn.sequence_model.mixins import RunsWhole
from pgm_rnn.sequences import Sequences, length_mask
from pgm_rnn.states import GaussianStates


class StochasticVolatility(RunsWhole, SequenceModel):
    """A stochastic volatility model of one series of returns, with a guide that reads the whole series.

    Args:
        mean: m, the mean of the log variance.
        persistence: f, its autoregressive coefficient, between -1 and 1.
        scale: s, the standard deviation of its noise, positive.
        leverage: r, between -1 and 1; None for none.
        df: v, degrees of freedom of Student errors, positive; None for normal errors.
        guide_dim: width of the guide's recurrent network.
        emission: Gaussian(), the default, or StudentT() with `df`; of size 1 for vectors with one entry.
        first: "model" for p(x_{1:T}); "condition" would need p(z_1 | x_1).

    Raises:
        ValueError: a value out of range, or a family that does not fit `df`.

    Example:
        >>> model = StochasticVolatility(mean=-1.0, persistence=0.97, scale=0.2, leverage=-0.3)
        >>> returns = model.sample(num_sequences=2, num_steps=5, seed=0).x
        >>> returns.shape
        torch.Size([2, 5])
    """

    initial_memory: Tensor | None

    def __init__(
        self,
        mean: float = -1.0,
        persistence: float = 0.95,
        scale: float = 0.2,
        leverage: float | None = None,
        df: float | None = None,
        *,
        guide_dim: int = 16,
        emission: Emission | None = None,
        first: First = "model",
    ) -> None:
        super().__init__(_family(emission, df), first)
        check_counts(guide_dim=guide_dim)
        _check_values(mean, persistence, scale, leverage, df)
        self.states = GaussianStates(1)
        self.guide_dim = guide_dim
        self.raw_mean = nn.Parameter(torch.tensor(float(mean)))
        self.raw_persistence = nn.Parameter(torch.tensor(math.atanh(persistence)))
        self.raw_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.raw_leverage = None if leverage is None else nn.Parameter(torch.tensor(math.atanh(leverage)))
        heavy = isinstance(self.family, StudentT)
        raw_df = positive.inverse_softplus(torch.tensor(10.0 if df is None else float(df)))
        self.raw_df = nn.Parameter(raw_df) if heavy else None
        self.register_buffer("initial_memory", None if leverage is None else torch.zeros(1))
        self.reader = nn.GRU(2, guide_dim)
        self.combiner = nn.Linear(guide_dim + 1, 2)
        nn.init.zeros_(self.combiner.weight)  # at first the guide is the model's own law
        nn.init.zeros_(self.combiner.bias)

    @staticmethod
    def random(
        leverage: Literal["none", "estimated"] = "none",
        guide_dim: int = 16,
        *,
        emission: Emission | None = None,
        seed: int | None = None,
        first: First = "model",
    ) -> "StochasticVolatility":
        """A model with values that are common for daily returns in per cent.

        Args:
            leverage: "estimated" for a model with leverage, which starts at -0.1.
            guide_dim: width of the guide's recurrent network.
            emission: the family of the returns; StudentT() starts at 10 degrees of freedom.
            seed: makes the guide's first weights reproducible; None uses torch's global generator.
            first: as for `StochasticVolatility`.

        Raises:
            ValueError: another family, or an unknown value of leverage.
        """
        check_choice("leverage", leverage, ("none", "estimated"))
        start = -0.1 if leverage == "estimated" else None
        df = 10.0 if isinstance(emission, StudentT) else None
        with seeded(seed):
            return StochasticVolatility(leverage=start, df=df, guide_dim=guide_dim, emission=emission, first=first)

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name, leverage and size of the guide, which make a model of this shape."""
        leverage = "none" if self.raw_leverage is None else "estimated"
        return "stochastic-volatility", {"leverage": leverage, "guide_dim": self.guide_dim}

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """mean, persistence, scale and, where the model has them, leverage and df."""
        found = {
            "mean": whole("raw_mean", IDENTITY),
            "persistence": whole("raw_persistence", TANH),
            "scale": whole("raw_scale", LOGARITHM),
        }
        found |= {} if self.raw_leverage is None else {"leverage": whole("raw_leverage", TANH)}
        return found | ({} if self.raw_df is None else {"df": whole("raw_df", SOFTPLUS)})

    @property
    def persistence(self) -> Tensor:
        """f, ()."""
        return self.raw_persistence.tanh()

    @property
    def scale(self) -> Tensor:
        """s, ()."""
        return self.raw_scale.exp()

    @property
    def leverage(self) -> Tensor | None:
        """r, (), or None."""
        return None if self.raw_leverage is None else self.raw_leverage.tanh()

    @property
    def df(self) -> Tensor | None:
        """v, (), or None for normal errors."""
        return None if self.raw_df is None else positive.scale(self.raw_df)

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        """h_t = x_{t-1}, (..., 1), with leverage."""
        if self.initial_memory is None:
            return super().recurrence(h, z, x)
        return x if self.family.event_shape else x[..., None]

    def initial(self, h: Any) -> Normal:
        """p(z_1), the stationary law, batch shape ()."""
        return Normal(self.raw_mean[None], self._start_scale, event_dim=1)

    @property
    def _start_scale(self) -> Tensor:
        """s / sqrt(1 - f^2), ()."""
        return self.scale * self.raw_persistence.cosh()  # 1 - tanh^2 = 1 / cosh^2 keeps its digits near one

    def transition(self, z: Tensor, h: Any) -> Normal:
        """p(z_t | z_{t-1}, x_{t-1}); its batch shape is that of z and of the memory."""
        mean = self.raw_mean + self.persistence * (z - self.raw_mean)
        if self.raw_leverage is None:
            return Normal(mean, self.scale, event_dim=1)
        mean = mean + self.scale * self.raw_leverage.tanh() * self._score(z, h)
        return Normal(mean, self.scale / self.raw_leverage.cosh(), event_dim=1)

    def _score(self, z: Tensor, h: Tensor) -> Tensor:
        """w_{t-1}, the normal score of the error of x_{t-1}, (..., 1)."""
        error = h * (-0.5 * z).exp()
        return error if self.df is None else normal_score(error, self.df)

    def emission(self, z: Tensor, h: Any) -> TorchDistribution:
        """p(x_t | z_t); its batch shape is that of z."""
        scale = (0.5 * z).exp()
        scale = scale if self.family.event_shape else scale[..., 0]
        if self.df is None:
            return Normal(torch.zeros_like(scale), scale, event_dim=len(self.family.event_shape))
        law: Any = StudentLaw(self.df, torch.zeros_like(scale), scale, validate_args=False)
        found: TorchDistribution = law.to_event(len(self.family.event_shape))
        return found

    def whole_run(self, data: Sequences, num_particles: int, threshold: float) -> Run | None:
        """A bootstrap filter as one compiled function; None for a subclass, and for leverage with Student errors."""
        if not is_as_written(self, StochasticVolatility) or not (self.leverage is None or self.df is None):
            return None
        natural = self.raw_mean, self.persistence, self.scale, self._start_scale
        mean, persistence, scale, start_scale = map(float, natural)
        leverage, df = (None if part is None else float(part) for part in (self.leverage, self.df))
        parameters = particle_runs.Volatility(mean, persistence, scale, start_scale, leverage or 0.0, df)
        x = data.x.reshape(data.x.shape[:2])
        observed = None if data.observed is None else data.mask.reshape(x.shape)
        return particle_runs.volatility(parameters, x, data.lengths, num_particles, threshold, observed)

    def encode(self, x: Tensor, lengths: Tensor) -> Tensor:
        """What a recurrent network reads from the last return to x_t, (batch, T, guide_dim)."""
        x = x.reshape(*x.shape[:2])
        size = x.square().add(torch.finfo(x.dtype).eps).log() - self.raw_mean.detach()
        inside = length_mask(lengths, x.shape[1])
        rows = torch.stack([size.clamp(min=-10.0) / 4, (x * (-0.5 * self.raw_mean.detach()).exp()).tanh()], dim=-1)
        rows = rows.where(inside[..., None], 0.0)
        read, _ = self.reader(rows.flip(1).transpose(0, 1))  # the padding comes first
        return read.transpose(0, 1).flip(1)

    def proposal(self, z: Any, h: Any, features: Any) -> Normal:
        """q(z_t | z_{t-1}, h_t, features_t): the model's law, moved and scaled by what the guide has read."""
        own = self.initial(h) if z is None else self.transition(z, h)
        loc, scale = own.loc, own.scale
        shape = torch.broadcast_shapes(features.shape[:-1], loc.shape[:-1])
        loc = loc.expand(*shape, 1)
        before = (loc - self.raw_mean) / self._start_scale
        moved, narrowed = self.combiner(torch.cat([features.expand(*shape, -1), before], dim=-1)).chunk(2, dim=-1)
        narrow = softplus(narrowed) / math.log(2.0)
        return Normal(loc + scale * moved, scale * narrow, event_dim=1)


def _family(emission: Emission | None, df: float | None) -> Emission:
    family = (Gaussian() if df is None else StudentT()) if emission is None else emission
    if not isinstance(family, Gaussian | StudentT) or family.event_shape.numel() != 1:
        raise ValueError(f"expected emission=Gaussian() or StudentT(), for one variable, got {family}")
    if df is not None and not isinstance(family, StudentT):
        raise ValueError(f"expected emission=StudentT() with df={df}, got {family}; leave df out for normal errors")
    return family


def _check_values(mean: float, persistence: float, scale: float, leverage: float | None, df: float | None) -> None:
    """Raise unless the values are in their ranges.

    Raises:
        ValueError: one is not; the message says which.
    """
    if not math.isfinite(mean):
        raise ValueError(f"expected mean as a finite number, got {mean}")
    if not 0 < scale < math.inf:
        raise ValueError(f"expected scale as a positive number, got {scale}")
    for name, value in (("persistence", persistence), ("leverage", leverage)):
        if value is not None and not -1 < value < 1:
            raise ValueError(f"expected {name} between -1 and 1, got {value}")
    if df is not None and not 0 < df < math.inf:
        raise ValueError(f"expected df as a positive number, or None for normal errors, got {df}")


INFO = ModelInfo(
    "stochastic-volatility",
    StochasticVolatility.random,
    "the last return, with leverage",
    "Gaussian, one number",
    "Vidal, EKF for RNNs, with another emission",
    {},
    (Gaussian, StudentT),
    only_numbers=True,
    title="`StochasticVolatility`, with leverage and Student errors",
    fit=GradientFit(
        "A stochastic volatility model of returns, by gradient steps on a bound.",
        {
            "leverage": Size(
                "Whether returns and later volatility are correlated.",
                "none",
                kind=str,
                choices=("none", "estimated"),
            ),
            "guide_dim": Size("Width of the guide's recurrent network."),
        },
        {**STEPS_ON_A_BOUND, "num_epochs": 500, "learning_rate": 1e-2, "num_particles": 8, "objective": "iwae"},
        valid_fraction=0.0,
    ),
    small={"guide_dim": 3},
)
