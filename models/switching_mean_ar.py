"""Hamilton's switching autoregression: a mean that depends on a regime, and autoregressive deviations from it.

    s_t ~ Categorical(transition_probs[s_{t-1}]),   s_{1-p} from the chain's stationary law
    x_t - m(s_t) = a_1 (x_{t-1} - m(s_{t-1})) + ... + a_p (x_{t-p} - m(s_{t-p})) + N(0, scale(s_t)^2)

The law of x_t reads the last p + 1 regimes, so the state is all of them: z_t = (s_t, ..., s_{t-p}), one of K^{p+1}
values, numbered with s_t as the leading digit. Columns of x share the regimes and have their own numbers.

Source: Hamilton (1989), eq. (4.1)-(4.3). His model of GNP has K = 2 and p = 4, and is given the first p observations,
which is first="condition".
"""

from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_counts, check_probs
from pgm_rnn.distributions.normal import ScaledNormal
from pgm_rnn.emissions import Emission, Gaussian
from pgm_rnn.emissions.natural import LOGARITHM, SOFTMAX, Natural, whole
from pgm_rnn.models.info import FIRST, GradientFit, ModelInfo, Size
from pgm_rnn.models.lagged import Lagged
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import First, SequenceModel
from pgm_rnn.states import FiniteStates

_MOST_STATES = 4096


class SwitchingMeanAR(Lagged, SequenceModel):
    """An autoregression of order p around a mean that switches between K regimes.

    Args:
        transition_probs: p(s_t = j | s_{t-1} = i), (K, K).
        means: m, (K, *event).
        coefficients: a, (p, *event).
        scales: standard deviation of the noise in each regime, (K, *event), or one for all, (1, *event).
        emission: Gaussian() for x (batch, T), the default, or Gaussian(n) for x (batch, T, n).
        first: "model" for p(x_{1:T}) with deviations of zero before x_1; "condition" for p(x_{p+1:T} | x_{1:p}), as
            Hamilton has it.

    Raises:
        TypeError: an emission of another family.
        ValueError: shapes that do not fit, scales that are not positive, rows that do not sum to one, or more than 4096
            states.

    Example:
        >>> moves = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
        >>> model = SwitchingMeanAR(moves, torch.tensor([1.0, -1.0]), torch.tensor([0.3]), torch.tensor([0.5]))
        >>> model.num_states, model.log_prob(torch.zeros(1, 5)).shape
        (4, torch.Size([1]))
    """

    def __init__(
        self,
        transition_probs: Tensor,
        means: Tensor,
        coefficients: Tensor,
        scales: Tensor,
        *,
        emission: Emission | None = None,
        first: First = "model",
    ) -> None:
        moves, means, coefficients, scales = (
            torch.as_tensor(part) for part in (transition_probs, means, coefficients, scales)
        )
        super().__init__(_real(Gaussian() if emission is None else emission), first)
        check_probs("transition_probs", moves, (None, None))
        num_regimes = len(moves)
        check_probs("transition_probs", moves, (num_regimes, num_regimes))
        event = tuple(self.family.event_shape)
        _check_numbers("means", means, event, num_regimes)
        _check_numbers("coefficients", coefficients, event)
        _check_numbers("scales", scales, event, num_regimes, 1)
        if not bool((scales > 0).all()):
            raise ValueError(f"expected positive scales, got {scales.tolist()}")
        num_states = num_regimes ** (len(coefficients) + 1)
        if num_states > _MOST_STATES:
            raise ValueError(
                f"expected at most {_MOST_STATES} states, got {num_regimes} regimes over {len(coefficients) + 1} "
                f"steps, {num_states}; use a lower order, or AutoregressiveHMM, whose states do not grow with it"
            )
        self.states = FiniteStates(num_states)
        dtype = moves.dtype
        self.transition_logits = nn.Parameter(moves.log().contiguous())
        self.means, self.coefficients = (nn.Parameter(part.to(dtype).clone()) for part in (means, coefficients))
        self.log_scales = nn.Parameter(scales.to(dtype).log())
        self._remember(len(coefficients), dtype, counts=True)

    @staticmethod
    def random(
        num_regimes: int = 2,
        order: int = 1,
        *,
        emission: Emission | None = None,
        seed: int | None = None,
        first: First = "model",
    ) -> "SwitchingMeanAR":
        """Standard normal means, small coefficients, and regimes that stay with probability 0.5 or more.

        Args:
            num_regimes: K.
            order: p.
            emission: Gaussian() or Gaussian(n).
            seed: makes the draw reproducible; None uses torch's global generator.
            first: as for `SwitchingMeanAR`.
        """
        check_counts(num_regimes=num_regimes, order=order)
        with seeded(seed):
            rows = dist.Dirichlet(torch.ones(num_regimes)).sample((num_regimes,))
            moves = 0.5 * torch.eye(num_regimes) + 0.5 * rows
            event = (Gaussian() if emission is None else emission).event_shape
            means = torch.randn(num_regimes, *event).sort(0).values
            coefficients, scales = 0.3 * torch.randn(order, *event) / order, torch.ones(1, *event)
        return SwitchingMeanAR(moves, means, coefficients, scales, emission=emission, first=first)

    @property
    def num_regimes(self) -> int:
        """K, the number of regimes."""
        return len(self.means)

    @property
    def num_states(self) -> int:
        """K^{p+1}, the number of values of z_t."""
        assert isinstance(self.states, FiniteStates)
        return self.states.num_states

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name, number of regimes and order, which make a model of this shape with one scale for all regimes."""
        return "switching-mean-ar", {"num_regimes": self.num_regimes, "order": self.order}

    @property
    def regime_probs(self) -> Tensor:
        """p(s_t = j | s_{t-1} = i), (K, K), rows sum to one."""
        return self.transition_logits.softmax(-1)

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """Probabilities and scales by the names of the constructor."""
        return {
            "transition_probs": whole("transition_logits", SOFTMAX),
            "scales": whole("log_scales", LOGARITHM),
        }

    def regimes(self, states: Tensor) -> Tensor:
        """The present regime of states, or the probabilities of present regimes.

        Args:
            states: int64 values of z_t, (...), or probabilities of all values, (..., K^{p+1}), as `forward_backward`
                gives them.

        Returns:
            s_t, (...), int64; or p(s_t = k), (..., K).
        """
        if states.is_floating_point():
            return states.unflatten(-1, (self.num_regimes, -1)).sum(-1)
        return states // self.num_regimes**self.order

    def stationary_probs(self) -> Tensor:
        """The stationary law of a regime, (K,): w with w = w P and sum w = 1."""
        num, P = self.num_regimes, self.regime_probs
        system = torch.cat([P.mT - torch.eye(num, dtype=P.dtype, device=P.device), P.new_ones(1, num)])
        target = torch.cat([P.new_zeros(num), P.new_ones(1)])
        return torch.linalg.solve(system.mT @ system, system.mT @ target).clamp(min=0)

    def initial(self, h: Any) -> TorchDistribution:
        """Law of (s_1, ..., s_{1-p})."""
        probs = self.stationary_probs()
        for _ in range(self.order):  # (s_t, ..., s_{1-p}) from (s_{t-1}, ..., s_{1-p}), the newest digit leading
            moves = self.regime_probs.mT  # p(s_t | s_{t-1}), (K new, K old)
            probs = (moves[..., None] * probs.unflatten(0, (self.num_regimes, -1))).flatten()
        return dist.Categorical(probs=probs, validate_args=False)

    def transition(self, z: Tensor, h: Any) -> TorchDistribution:
        """Law of (s_t, ..., s_{t-p}) given (s_{t-1}, ..., s_{t-1-p}): the oldest regime is forgotten."""
        num, size = self.num_regimes, self.num_regimes**self.order
        states = torch.arange(self.num_states, device=z.device)
        following = torch.arange(num, device=z.device) * size + (states // num)[:, None]  # (K^{p+1}, K)
        probs = self.regime_probs[states // size]
        table = probs.new_zeros(self.num_states, self.num_states).scatter(1, following, probs)
        return dist.Categorical(probs=table[z], validate_args=False)

    def emission(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """p(x_t | s_t, ..., s_{t-p}, x_{t-1}, ..., x_{t-p}), which says nothing at steps that are given."""
        vectors = bool(self.family.event_shape)
        lags = self.lags_of(h).unflatten(-1, (self.order, self._size))  # (..., p, n)
        lags = lags if vectors else lags[..., 0]
        seen = h[..., -1:] if vectors else h[..., -1]  # min(t - 1, p)
        loc = self.means[self._digit(z, 0)]
        for i in range(1, self.order + 1):
            lag = lags[..., i - 1, :] if vectors else lags[..., i - 1]
            deviation = (lag - self.means[self._digit(z, i)]).where(seen >= i, 0.0)
            loc = loc + self.coefficients[i - 1] * deviation
        scale = self.log_scales.exp()
        scale = scale[self._digit(z, 0)] if len(scale) > 1 else scale[0]
        law = ScaledNormal(loc, scale, validate_args=False)
        return self.modelled(law.to_event(len(self.family.event_shape)), h)

    def _digit(self, z: Tensor, i: int) -> Tensor:
        """s_{t-i}."""
        return z // self.num_regimes ** (self.order - i) % self.num_regimes


def _real(family: Emission) -> Gaussian:
    if not isinstance(family, Gaussian):
        raise TypeError(f"expected real observations, Gaussian() or Gaussian(n), got {family}")
    return family


def _check_numbers(name: str, values: Tensor, event: tuple[int, ...], *rows: int) -> None:
    """Raise unless the values are finite numbers of shape (rows, *event), any positive number of rows if none is given.

    Raises:
        ValueError: they are not.
    """
    if values.dim() != 1 + len(event) or values.shape[1:] != event or len(values) not in (rows or (len(values) or -1,)):
        expected = ", ".join(map(str, [" or ".join(map(str, rows)) or "order", *event]))
        raise ValueError(f"expected {name} of shape ({expected}), got {tuple(values.shape)}")
    if not values.is_floating_point() or not bool(values.isfinite().all()):
        raise ValueError(f"expected {name} as finite floating-point numbers, got {values.tolist()}")


INFO = ModelInfo(
    "switching-mean-ar",
    SwitchingMeanAR.random,
    "the last p observations",
    "discrete, the last p + 1 regimes",
    "Choe et al. sec. 2.2 with a memory",
    {"num_regimes": 2, "order": 1},
    families=(Gaussian,),
    title="`SwitchingMeanAR`",
    fit=GradientFit(
        "Hamilton's switching autoregression: the mean switches, deviations from it are autoregressive.",
        {
            "num_regimes": Size("Number of regimes.", 2),
            "order": Size("Number p of past observations in the autoregression.", 1),
            "first": FIRST,
        },
    ),
    small={"num_regimes": 2, "order": 1},
)
