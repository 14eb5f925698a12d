"""The autoregressive hidden Markov model: a linear regression on the past for every state of a chain.

    h_t = (x_{t-1}, ..., x_{t-p}),   zero where nothing is before
    z_1 ~ Categorical(initial_probs),   z_t ~ Categorical(transition_probs[z_{t-1}])
    x_t = b_z + A_{z,1} x_{t-1} + ... + A_{z,p} x_{t-p} + N(0, S_z)

The memory reads x alone, so that every exact engine applies (`pgm_rnn.states`). first="condition" means the first p
observations: log p(x_{p+1:T} | x_{1:p}), as in Hamilton (1989), where z_1, ..., z_p move as without observations.

Sources: Juang & Rabiner (1985), hidden Markov models with autoregressive outputs; Hamilton (1989), eq. (4.1)-(4.9), for
the recursion. Hamilton's own model has regimes of the mean instead of the intercept: `SwitchingMeanAR`.
"""

import copy
from collections.abc import Collection, Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_counts, check_probs
from pgm_rnn.distributions.normal import ScaledNormal
from pgm_rnn.emissions import Emission, EmissionTable, FullGaussian, Gaussian
from pgm_rnn.emissions.natural import SOFTMAX, Natural, whole
from pgm_rnn.models.info import NUM_STATES, GradientFit, ModelInfo, Size
from pgm_rnn.models.lagged import Lagged, Regressed, regressed
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import ClosedMStep, First, SequenceModel
from pgm_rnn.sequence_model.expected import Expected
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import FiniteStates


class AutoregressiveHMM(Lagged, ClosedMStep, SequenceModel):
    """A hidden Markov model whose observations follow a linear autoregression of order p in each state.

    Args:
        initial_probs: p(z_1 = k), (K,).
        transition_probs: p(z_t = j | z_{t-1} = i), (K, K).
        emission: the law of x_t for a past of zeros in each state, that is intercept b_k and noise:
            Gaussian(n).table(loc=b, scale=...), or FullGaussian(n).table(loc=b, cov=...).
        coefficients: A_{k,1}, ..., A_{k,p}, (K, p, n, n), or (K, p) for scalar observations.
        first: "model" for p(x_{1:T}), the past of x_1 being zeros; "condition" for p(x_{p+1:T} | x_{1:p}).

    Raises:
        TypeError: an emission of another family.
        ValueError: shapes that do not fit, or rows of probabilities that do not sum to one.

    Example:
        >>> noise = Gaussian(1).table(loc=torch.zeros(2, 1), scale=torch.ones(2, 1))
        >>> moves = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
        >>> model = AutoregressiveHMM(torch.ones(2) / 2, moves, noise, torch.tensor([[0.9], [-0.9]]))
        >>> model.sample(num_sequences=3, num_steps=20, seed=0).x.shape
        torch.Size([3, 20, 1])
    """

    def __init__(
        self,
        initial_probs: Tensor,
        transition_probs: Tensor,
        emission: EmissionTable,
        coefficients: Tensor,
        *,
        first: First = "model",
    ) -> None:
        initial_probs, transition_probs = torch.as_tensor(initial_probs), torch.as_tensor(transition_probs)
        check_probs("initial_probs", initial_probs, (None,))
        num_states = len(initial_probs)
        check_probs("transition_probs", transition_probs, (num_states, num_states))
        table = _normal_table(emission, num_states)
        super().__init__(table.family, first)
        self.states = FiniteStates(num_states)
        dtype = initial_probs.dtype
        self.initial_logits = nn.Parameter(initial_probs.log())
        self.transition_logits = nn.Parameter(transition_probs.to(dtype).log().contiguous())
        self.emission_laws = copy.deepcopy(table).to(dtype)
        self.coefficients = nn.Parameter(self._checked(torch.as_tensor(coefficients)).to(dtype).clone())
        self._remember(self.coefficients.shape[1], dtype)

    @staticmethod
    def random(
        num_states: int,
        order: int = 1,
        *,
        emission: Emission | None = None,
        seed: int | None = None,
        first: First = "model",
    ) -> "AutoregressiveHMM":
        """States that stay with probability 0.9 or more, with stable regressions near the last observation.

        Args:
            num_states: K.
            order: p.
            emission: Gaussian(n), FullGaussian(n) or Gaussian(), the default.
            seed: makes the draw reproducible; None uses torch's global generator.
            first: as for `AutoregressiveHMM`.

        Raises:
            ValueError: a number of states or an order below 1.
        """
        check_counts(num_states=num_states, order=order)
        family = _normal(Gaussian() if emission is None else emission)
        size = family.event_shape.numel()
        with seeded(seed):
            rows = dist.Dirichlet(torch.ones(num_states)).sample((num_states + 1,))
            moves = 0.9 * torch.eye(num_states) + 0.1 * rows[1:]
            coefficients = 0.2 * torch.randn(num_states, order, size, size) / (order * size) ** 0.5
            coefficients[:, 0] += torch.rand(num_states, 1, 1) * 0.6 * torch.eye(size)
            table = family.random_table(num_states)
        return AutoregressiveHMM(rows[0], moves, table, coefficients, first=first)

    @staticmethod
    def from_data(
        data: Sequences, num_states: int, order: int = 1, *, seed: int = 0, full: bool = False, first: First = "model"
    ) -> "AutoregressiveHMM":
        """A start for EM: one regression of all data, whose residuals' quantiles give each state its intercept.

        Args:
            data: sequences of real vectors or numbers.
            num_states: K.
            order: p.
            seed: random seed of the directions along which residuals are ordered.
            full: whether states have full covariances, for vectors.
            first: as for `AutoregressiveHMM`.

        Raises:
            ValueError: a number of states or an order below 1, or no sequence of more than p steps.
        """
        check_counts(num_states=num_states, order=order)
        size = data.x.shape[2:].numel()
        shape = data.x.shape[2] if data.x.dim() == 3 else None
        family: Gaussian | FullGaussian = FullGaussian(size) if full else Gaussian(shape)
        model = AutoregressiveHMM.random(num_states, order, emission=family, seed=seed, first=first).to(data.x.dtype)
        lags, now = model.pairs(data)
        one = regressed(lags, now, torch.ones_like(now[:, 0]))
        if one is None:
            raise ValueError(f"expected a sequence of more than {order} steps, the order of the model, got none")
        residuals = now - lags @ one.coefficients.mT - one.intercept
        with seeded(seed):
            direction = residuals.double() @ torch.randn(size, dtype=torch.float64)
        ranks = direction.argsort().argsort() * num_states // len(direction)
        with torch.no_grad():
            for k in range(num_states):
                model._set_state(k, one._replace(intercept=one.intercept + residuals[ranks == k].mean(0)))
            model.initial_logits.zero_()
            model.transition_logits.copy_((0.9 * torch.eye(num_states) + 0.1 / num_states).log())
        return model

    @property
    def num_states(self) -> int:
        """K, the number of states."""
        return self.initial_logits.shape[0]

    @property
    def initial_probs(self) -> Tensor:
        """p(z_1 = k), (K,)."""
        return self.initial_logits.softmax(-1)

    @property
    def transition_probs(self) -> Tensor:
        """p(z_t = j | z_{t-1} = i), (K, K), rows sum to one."""
        return self.transition_logits.softmax(-1)

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name, number of states and order, which make a model of this shape."""
        return "autoregressive-hmm", {"num_states": self.num_states, "order": self.order}

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """Probabilities by the names of the constructor; intercepts and noise are the table's own, `loc` and so on."""
        raw = {"initial_probs": "initial_logits", "transition_probs": "transition_logits"}
        return {name: whole(logits, SOFTMAX) for name, logits in raw.items()}

    def initial(self, h: Any) -> TorchDistribution:
        """p(z_1), batch shape ()."""
        return dist.Categorical(logits=self.initial_logits, validate_args=False)

    def transition(self, z: Tensor, h: Any) -> TorchDistribution:
        """p(z_t | z_{t-1}); its batch shape is that of z."""
        return dist.Categorical(logits=self.transition_logits[z], validate_args=False)

    def emission(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """p(x_t | z_t, x_{t-1}, ..., x_{t-p}), which says nothing of a state at steps that are given."""
        lags = self.lags_of(h)
        law = moved(self.emission_laws(z), predicted(self.coefficients[z], lags))
        return self.modelled(law, h)

    @torch.no_grad()
    def maximise(self, data: Sequences, expected: Expected) -> Collection[str]:
        """The M-step: shares of first states and moves, and a weighted regression for every state."""
        lags, now = self.pairs(data)
        weights = self.of_modelled_steps(expected.states, data)
        self.initial_logits.copy_(expected.first.sum(0).log())
        moves = expected.moves.reshape(-1, self.num_states, self.num_states).sum(0)
        left = moves.sum(-1, keepdim=True) > 0  # a state without moves keeps its row
        self.transition_logits.copy_((moves / moves.sum(-1, keepdim=True)).log().where(left, self.transition_logits))
        for k in range(self.num_states):
            found = regressed(lags, now, weights[:, k])
            if found is not None:
                self._set_state(k, found)
        return [name for name, _ in self.named_parameters()]

    def _set_state(self, k: int, found: Regressed) -> None:
        """Give state k the coefficients, intercept and covariance of a regression."""
        coefficients = found.coefficients.unflatten(1, (self.order, -1)).movedim(1, 0)
        self.emission_laws.params[k] = found.law(self.family).to(self.emission_laws.params)
        self.coefficients[k] = coefficients.to(self.coefficients)

    def _checked(self, coefficients: Tensor) -> Tensor:
        size, num_states = self.family.event_shape.numel(), self.states.num_states  # type: ignore[union-attr]
        given = tuple(coefficients.shape)
        if coefficients.dim() == 2 and size == 1:
            coefficients = coefficients[..., None, None]
        shape = coefficients.shape
        if len(shape) != 4 or (shape[0], *shape[2:]) != (num_states, size, size):
            raise ValueError(f"expected coefficients of shape ({num_states}, order, {size}, {size}), got {given}")
        check_counts(order=coefficients.shape[1])
        if not bool(coefficients.isfinite().all()):
            raise ValueError("expected coefficients as finite numbers, got NaN or infinity")
        return coefficients


def predicted(coefficients: Tensor, lags: Tensor) -> Tensor:
    """sum_i A_i x_{t-i} for coefficients (..., p, n, n) and lags (..., p n) that broadcast: (..., n)."""
    matrix = coefficients.movedim(-3, -2).flatten(-2)  # (..., n, p n)
    if matrix.shape[-2] == 1:
        return (matrix[..., 0, :] * lags).sum(-1, keepdim=True)
    return (matrix @ lags[..., None])[..., 0]


def moved(law: Any, by: Tensor) -> TorchDistribution:
    """A normal law of a table with its mean moved by (..., n)."""
    if isinstance(law, dist.MultivariateNormal):
        return dist.MultivariateNormal(law.loc + by, scale_tril=law._unbroadcasted_scale_tril, validate_args=False)
    if law.event_shape:
        return ScaledNormal(law.base_dist.loc + by, law.base_dist.scale, validate_args=False).to_event(1)
    return ScaledNormal(law.loc + by[..., 0], law.scale, validate_args=False)


def _normal(family: Emission) -> Gaussian | FullGaussian:
    if not isinstance(family, Gaussian | FullGaussian):
        raise TypeError(f"expected real observations, Gaussian(n) or FullGaussian(n), got {family}; use HMM")
    return family


def _normal_table(emission: object, num_states: int) -> EmissionTable:
    if not isinstance(emission, EmissionTable):
        raise TypeError(
            f"expected one law per state as emission, such as Gaussian(1).table(loc=..., scale=...), got {emission!r}"
        )
    _normal(emission.family)
    if emission.num_states != num_states:
        raise ValueError(f"expected an emission for {num_states} states, got one for {emission.num_states}")
    return emission


INFO = ModelInfo(
    "autoregressive-hmm",
    AutoregressiveHMM.random,
    "the last p observations",
    "discrete, enumerated",
    "Choe et al. sec. 2.2 with a memory",
    {"num_states": 2, "order": 1},
    families=(Gaussian, FullGaussian),
    title="`AutoregressiveHMM`",
    fit=GradientFit(
        "An autoregressive HMM: a linear regression on the last observations in every state.",
        {"num_states": NUM_STATES, "order": Size("Number p of past observations in the regressions.", 1)},
    ),
    small={"num_states": 2, "order": 2},
)
