"""A hidden Markov model whose moves and observations are driven by inputs: IO-HMM, GLM-HMM, mixture of regressions.

    z_1 ~ softmax(a + A u_1),   z_t ~ softmax(b[z_{t-1}] + B[z_{t-1}] u_t)
    x_t ~ family(c[z_t] + C[z_t] u_t)        unconstrained parameters of the family

Symbols have logits (Bengio & Frasconi, 1995), bits a logistic regression for every state (the GLM-HMM), normal
observations a linear regression whose noise does not depend on the input, counts the rate softplus(c + C u).
"""

import copy
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_choice, check_counts, check_probs
from pgm_rnn.emissions import Categorical, Emission, EmissionTable, FullGaussian, Gaussian, chosen_family
from pgm_rnn.emissions.natural import SOFTMAX, Natural, whole
from pgm_rnn.models.info import NUM_STATES, GradientFit, ModelInfo, Size
from pgm_rnn.models.lagged import regressed
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import ClosedMStep, First, SequenceModel
from pgm_rnn.sequence_model.expected import Expected
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import FiniteStates

Drives = Literal["both", "transition", "emission"]


class InputHMM(ClosedMStep, SequenceModel):
    """A hidden Markov model over K states with inputs u_t of `input_dim` entries.

    At zero inputs it is `HMM(initial_probs, transition_probs, emission)`; all weights of inputs begin at zero.

    Args:
        initial_probs: p(z_1 = k) at u_1 = 0, (K,).
        transition_probs: p(z_t = j | z_{t-1} = i) at u_t = 0, (K, K).
        emission: the law of x_t in each state at u_t = 0, such as Bernoulli(1).table(...).
        input_dim: number of entries of u_t.
        drives: what the inputs move: "transition" (the first state included), "emission" or "both".
        first: "model" for p(x_{1:T} | u), "condition" for p(x_{2:T} | x_1, u).

    Attributes:
        initial_weight: A, (K, input_dim).
        transition_weight: B, (K, K, input_dim).
        emission_weight: C, (K, number of parameters that inputs move, input_dim): all for most families, the means
            for `Gaussian` and `FullGaussian`.
        Weights that `drives` leaves out are zero and no parameters.

    Raises:
        TypeError: an emission that is no law for each state.
        ValueError: shapes that do not fit, rows that do not sum to one, or an input_dim below 1.

    Example:
        >>> moves = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
        >>> table = Gaussian().table(loc=torch.zeros(2), scale=torch.ones(2))
        >>> model = InputHMM(torch.ones(2) / 2, moves, table, input_dim=3)
        >>> model.log_prob(torch.zeros(1, 4), inputs=torch.ones(1, 4, 3)).shape
        torch.Size([1])
    """

    initial_memory = None

    def __init__(
        self,
        initial_probs: Tensor,
        transition_probs: Tensor,
        emission: EmissionTable,
        input_dim: int,
        *,
        drives: Drives = "both",
        first: First = "model",
    ) -> None:
        initial_probs, transition_probs = torch.as_tensor(initial_probs), torch.as_tensor(transition_probs)
        check_counts(input_dim=input_dim)
        check_choice("drives", drives, get_args(Drives))
        check_probs("initial_probs", initial_probs, (None,))
        num_states = len(initial_probs)
        check_probs("transition_probs", transition_probs, (num_states, num_states))
        if not isinstance(emission, EmissionTable):
            raise TypeError(f"expected one law per state as emission, family.table(...), got {emission!r}")
        if emission.num_states != num_states:
            raise ValueError(f"expected an emission for {num_states} states, got one for {emission.num_states}")
        super().__init__(emission.family, first)
        self.states, self.input_dim, self.drives = FiniteStates(num_states), input_dim, drives
        dtype = initial_probs.dtype
        self.initial_logits = nn.Parameter(initial_probs.log())
        self.transition_logits = nn.Parameter(transition_probs.to(dtype).log().contiguous())
        self.emission_laws = copy.deepcopy(emission).to(dtype)
        moved = emission.family.event_shape.numel() if self._is_normal else emission.family.num_params
        shapes = {"initial": (num_states,), "transition": (num_states, num_states), "emission": (num_states, moved)}
        for part, shape in shapes.items():
            weight = torch.zeros(*shape, input_dim, dtype=dtype)
            if drives == "both" or (drives == "emission") == (part == "emission"):
                self.register_parameter(f"{part}_weight", nn.Parameter(weight))
            else:
                self.register_buffer(f"{part}_weight", weight)

    @staticmethod
    def random(
        num_states: int,
        input_dim: int = 1,
        num_symbols: int | None = None,
        *,
        emission: Emission | None = None,
        drives: Drives = "both",
        seed: int | None = None,
        first: First = "model",
    ) -> "InputHMM":
        """Dirichlet(1) rows, standard normal parameters of the laws, and normal weights of size 0.5.

        Args:
            num_states: K.
            input_dim: number of entries of u_t.
            num_symbols: short for emission=Categorical(num_symbols).
            emission: another family.
            drives: as for `InputHMM`.
            seed: makes the draw reproducible; None uses torch's global generator.
            first: as for `InputHMM`.
        """
        check_counts(num_states=num_states)
        family = chosen_family(num_symbols, emission)
        with seeded(seed):
            rows = dist.Dirichlet(torch.ones(num_states)).sample((num_states + 1,))
            model = InputHMM(rows[0], rows[1:], family.random_table(num_states), input_dim, drives=drives, first=first)
            with torch.no_grad():
                for weight in (model.initial_weight, model.transition_weight, model.emission_weight):
                    if isinstance(weight, nn.Parameter):
                        weight.normal_(0.0, 0.5)
        return model

    initial_weight: Tensor
    transition_weight: Tensor
    emission_weight: Tensor

    @property
    def num_states(self) -> int:
        """K, the number of states."""
        return len(self.initial_logits)

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name and sizes, which make a model of this shape."""
        sizes = {"num_states": self.num_states, "input_dim": self.input_dim, "drives": self.drives}
        return "input-hmm", sizes

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """The probabilities of states where they do not depend on the input; the table has its own."""
        if self.drives != "emission":
            return {}
        return {
            "initial_probs": whole("initial_logits", SOFTMAX),
            "transition_probs": whole("transition_logits", SOFTMAX),
        }

    @property
    def num_free(self) -> Mapping[str, int]:
        """Free entries of logits and of their weights: one number of each row is redundant."""
        found: dict[str, int] = {}
        width = self.emission_weight.shape[-1]
        for name in ("initial", "transition") if self.drives != "emission" else ():
            num = int((getattr(self, f"{name}_logits").isfinite().sum(-1) - 1).sum())
            found |= {f"{name}_logits": num, f"{name}_weight": num * width}
        if isinstance(self.family, Categorical) and self.drives != "transition":
            found["emission_weight"] = self.num_states * (self.family.num_symbols - 1) * width
        return found

    def initial(self, h: Tensor) -> TorchDistribution:
        """p(z_1 | u_1), for inputs h (..., input_dim)."""
        return dist.Categorical(logits=self.initial_logits + h @ self.initial_weight.mT, validate_args=False)

    def transition(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """p(z_t | z_{t-1}, u_t)."""
        driven = (self.transition_weight[z] @ h[..., None])[..., 0]
        return dist.Categorical(logits=self.transition_logits[z] + driven, validate_args=False)

    def emission(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """p(x_t | z_t, u_t)."""
        driven = (self.emission_weight[z] @ h[..., None])[..., 0]
        params = self.emission_laws.params[z]
        rest = params[..., driven.shape[-1] :]
        moved = params[..., : driven.shape[-1]] + driven
        return self.family.distribution(torch.cat([moved, rest.expand(*moved.shape[:-1], -1)], dim=-1))

    @torch.no_grad()
    def maximise(self, data: Sequences, expected: Expected) -> Collection[str]:
        """The M-step of normal emissions, a weighted regression on the input for every state."""
        if not self._is_normal or data.inputs is None or data.observed is not None:
            return []
        inputs, now = data.inputs[data.mask].double(), data.x[data.mask].double()
        now, weights = now.reshape(len(now), -1), expected.states[data.mask].double()
        driven = isinstance(self.emission_weight, nn.Parameter)
        for k in range(self.num_states):
            found = regressed(inputs if driven else inputs[:, :0], now, weights[:, k])
            if found is None:
                continue
            self.emission_laws.params[k] = found.law(self.family).to(self.emission_laws.params)
            if driven:
                self.emission_weight[k] = found.coefficients.to(self.emission_weight)
        return ["emission_laws.params", *["emission_weight"] * driven]

    @property
    def _is_normal(self) -> bool:
        return isinstance(self.family, Gaussian | FullGaussian)


INFO = ModelInfo(
    "input-hmm",
    InputHMM.random,
    "-",
    "discrete, enumerated",
    "Choe et al. sec. 2.2, given inputs",
    {"num_states": 2, "input_dim": 1, "num_symbols": 2},
    title="`InputHMM`: moves and observations driven by inputs u_t",
    fit=GradientFit(
        "A hidden Markov model whose moves and observations inputs drive, by gradient steps on the exact likelihood.",
        {
            "num_states": NUM_STATES,
            "drives": Size("What the inputs drive.", "both", kind=str, choices=get_args(Drives)),
        },
    ),
    inputs="input_dim",
    small={"num_states": 2, "input_dim": 1},
)
