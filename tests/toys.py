"""One new entry of each kind, as somebody would add it.

A model for each kind of latent state, a law of labels, a family, a data set, an engine and a claim.

`ENLARGED` are the package's registries with these in them. Nothing else in the repository names them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.claims import Claim
from pgm_rnn.data import Dataset, Labels
from pgm_rnn.data.catalogue import DatasetInfo
from pgm_rnn.emissions import Categorical, Emission, Gaussian, chosen_family
from pgm_rnn.emissions.entries import Entries
from pgm_rnn.emissions.info import FamilyInfo, normal_draws, size_of
from pgm_rnn.inference.registry import Engine
from pgm_rnn.kernels import positive
from pgm_rnn.models.info import STEPS, GradientFit, LabelInfo, ModelInfo, Size
from pgm_rnn.randomness import seeded
from pgm_rnn.registries import OWN
from pgm_rnn.sequence_model import First, SequenceModel
from pgm_rnn.sequence_model.label_model import LabelModel, Task, last_of
from pgm_rnn.sequences import Sequences, length_mask
from pgm_rnn.states import FiniteStates, GaussianStates

# A model.


class Echo(SequenceModel):
    """x_t ~ g(h_t), h_t = tanh(W x_{t-1} + b): a network that remembers one observation."""

    def __init__(
        self,
        num_symbols: int | None = None,
        *,
        emission: Emission | None = None,
        num_echoes: int = 4,
        first: First = "model",
    ) -> None:
        super().__init__(chosen_family(num_symbols, emission), first)
        self.num_echoes = num_echoes
        self.initial_memory = nn.Parameter(torch.zeros(num_echoes))
        self.hear, self.say = nn.Linear(self.family.input_dim, num_echoes), self.family.head(num_echoes)

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        return "echo", {"num_echoes": self.num_echoes}

    def recurrence(self, h: Tensor, z: Tensor | None, x: Tensor) -> Tensor:
        return torch.tanh(self.hear(self.family.as_input(x).to(h.dtype)))

    def emission(self, z: Tensor | None, h: Tensor | None) -> TorchDistribution:
        law: TorchDistribution = self.say(h)
        return law


ECHO = ModelInfo(
    "echo",
    Echo,
    "the observation before, squeezed",
    "-",
    "nobody",
    {"num_symbols": 2},
    shares_weights=True,
    title="`Echo`",
    fit=GradientFit(
        "A network that remembers one observation.",
        {"num_echoes": Size("Width of the memory.", default=3)},
        {**STEPS, "num_epochs": 7},
    ),
    small={"num_echoes": 2},
)

# Models with each kind of latent state.


class Regimes(SequenceModel):
    """Finitely many states whose moves and laws read a memory, h_t = tanh(W x_{t-1} + b)."""

    def __init__(self, *, emission: Emission, num_states: int = 2, first: First = "model") -> None:
        super().__init__(emission, first)
        self.states = FiniteStates(num_states)
        self.register_buffer("initial_memory", torch.zeros(2))
        self.hear, self.drive = nn.Linear(emission.input_dim, 2), nn.Linear(2, num_states)
        self.moves = nn.Parameter(torch.randn(num_states, num_states))
        self.table, self.shift = (
            nn.Parameter(torch.randn(num_states, emission.num_params)),
            nn.Linear(2, emission.num_params),
        )

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        assert isinstance(self.states, FiniteStates)
        return "toy-regimes", {"num_states": self.states.num_states}

    def recurrence(self, h: Tensor, z: Tensor | None, x: Tensor) -> Tensor:
        return torch.tanh(self.hear(self.family.as_input(x).to(h.dtype)))

    def initial(self, h: Tensor | None) -> TorchDistribution:
        law: TorchDistribution = dist.Categorical(logits=self.drive(h))
        return law

    def initial_given(self, h: Tensor | None, x: Tensor) -> TorchDistribution:
        states = torch.arange(len(self.moves))
        assert h is not None
        log_probs = self.emission(states, h[..., None, :]).log_prob(x.unsqueeze(x.dim() - len(self.family.event_shape)))
        law: TorchDistribution = dist.Categorical(logits=self.drive(h).log_softmax(-1) + log_probs)
        return law

    def transition(self, z: Tensor, h: Tensor | None) -> TorchDistribution:
        law: TorchDistribution = dist.Categorical(logits=self.moves[z] + self.drive(h))
        return law

    def emission(self, z: Tensor | None, h: Tensor | None) -> TorchDistribution:
        return self.family.distribution(self.family.within_range(self.table[z] + self.shift(h)))


class Glide(SequenceModel):
    """Normal vectors with linear means: z_t ~ N(A z_{t-1}, 1), x_t ~ N(C z_t, s^2)."""

    linear = True

    def __init__(self, *, emission: Emission, latent_dim: int = 2, first: First = "model") -> None:
        super().__init__(emission, first)
        self.states = GaussianStates(latent_dim, linear=self.linear)
        self.A = nn.Parameter(torch.eye(latent_dim) / 2)
        self.C, self.raw = nn.Parameter(torch.randn(emission.input_dim, latent_dim)), nn.Parameter(torch.zeros(()))

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        return "toy-glide", {"latent_dim": len(self.A)}

    def initial(self, h: Tensor | None) -> TorchDistribution:
        return dist.Normal(torch.zeros_like(self.A[0]), 1.0).to_event(1)

    def transition(self, z: Tensor, h: Tensor | None) -> TorchDistribution:
        return dist.Normal(z @ self.A.mT, 1.0).to_event(1)

    def emission(self, z: Tensor | None, h: Tensor | None) -> TorchDistribution:
        assert z is not None
        return dist.Normal(z @ self.C.mT, self.raw.exp()).to_event(1)


class Swerve(Glide):
    """The same with z_t ~ N(tanh(A z_{t-1}), 1)."""

    linear = False

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        return "toy-swerve", {"latent_dim": len(self.A)}

    def transition(self, z: Tensor, h: Tensor | None) -> TorchDistribution:
        return dist.Normal((z @ self.A.mT).tanh(), 1.0).to_event(1)


class Murmur(SequenceModel):
    """A state of no known structure, a scalar with a memory that reads it: h_t = tanh(W x_{t-1} + z_{t-1} + b)."""

    memory_reads_state = True

    def __init__(self, *, emission: Emission, width: int = 2, first: First = "model") -> None:
        super().__init__(emission, first)
        self.initial_memory = nn.Parameter(torch.zeros(width))
        self.hear, self.say = nn.Linear(emission.input_dim, width), nn.Linear(width, emission.num_params)
        self.lean = nn.Linear(width, 1)

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        return "toy-murmur", {"width": self.hear.out_features}

    def recurrence(self, h: Tensor, z: Tensor | None, x: Tensor) -> Tensor:
        assert z is not None
        return torch.tanh(self.hear(self.family.as_input(x).to(h.dtype)) + z[..., None])

    def initial(self, h: Tensor | None) -> TorchDistribution:
        return dist.Normal(self.lean(h)[..., 0], 1.0)

    def transition(self, z: Tensor, h: Tensor | None) -> TorchDistribution:
        return dist.Normal(z / 2 + self.lean(h)[..., 0], 1.0)

    def emission(self, z: Tensor | None, h: Tensor | None) -> TorchDistribution:
        assert z is not None
        return self.family.distribution(self.family.within_range(self.say(h) + z[..., None]))


def toy(name: str, make: type[SequenceModel], small: dict[str, int], **more: Any) -> ModelInfo:
    """The entry of a model that only the contract knows."""
    return ModelInfo(name, make, "-", "-", "nobody", {"emission": Gaussian(1)}, small=small, **more)


VECTORS: dict[str, Any] = {"families": (Gaussian,), "only_vectors": True}
LATENT = (
    toy("toy-regimes", Regimes, {"num_states": 2}),
    toy("toy-glide", Glide, {"latent_dim": 2}, **VECTORS),
    toy("toy-swerve", Swerve, {"latent_dim": 2}, **VECTORS),
    toy("toy-murmur", Murmur, {"width": 2}),
)

# A law of labels.


class Glance(LabelModel):
    """y_t ~ labels(W x_t + c): a law that reads one step only."""

    causal = True

    def __init__(self, *, inputs: Emission, labels: Emission, task: Task = "tagging", num_glances: int = 2) -> None:
        super().__init__(inputs, labels, task)
        self.num_glances = num_glances
        self.look, self.readout = nn.Linear(inputs.input_dim, num_glances), labels.head(num_glances)

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        return "glance", {"task": self.task, "num_glances": self.num_glances}

    def hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        h = torch.tanh(self.look(self.inputs.as_input(x).to(self.look.weight.dtype)))
        return h.where(length_mask(lengths, x.shape[1])[..., None], 0.0)

    def ends(self, h: Tensor, lengths: Tensor) -> Tensor:
        return last_of(h, lengths)


GLANCE = LabelInfo("glance", Glance, "A law that reads one step.", {"num_glances": Size("Width.", default=3)})

# A family of observations.


@dataclass(frozen=True)
class Laplace(Entries):
    """Real observations with independent Laplace entries: params are (loc, inverse softplus of the scale)."""

    params_per_entry: ClassVar[int] = 2

    @property
    def support(self) -> str:
        return "finite real numbers"

    @property
    def continuous(self) -> bool:
        return True

    def distribution(self, params: Tensor) -> TorchDistribution:
        loc, raw = self._per_entry(params)
        return dist.Laplace(loc, positive.scale(raw), validate_args=False).to_event(len(self.event_shape))

    def invalid(self, x: Tensor) -> Tensor:
        return ~x.isfinite()


LAPLACE = FamilyInfo(
    "laplace",
    Laplace,
    normal_draws,
    examples={"sharp-real": Laplace(), "sharp-reals": Laplace(2)},
    estimated={},
    numbers="real numbers with heavier tails",
    of_numbers=lambda x: Laplace(size_of(x)),
)

# A data set.


def spikes(seed: int) -> Dataset:
    """Laplace numbers, 5 steps in pairs."""
    with seeded(seed):
        x = dist.Laplace(torch.zeros(()), torch.ones(())).sample((30, 5, 2))
    train, valid, test = (Sequences(x[i : i + 10], torch.full((10,), 5)) for i in (0, 10, 20))
    labels = Labels(Categorical(2), *(part.x[:, -1, 0].gt(0).long() for part in (train, valid, test)))
    text = "Thirty sequences of 5 pairs of numbers"
    return Dataset("spikes", text, Laplace(2), train, valid, test, labels=labels)


SPIKES = DatasetInfo("spikes", spikes, Laplace, labels="sequences")

# An engine.


def loudness(model: SequenceModel, data: Sequences) -> Tensor:
    """Mean log p(x) over a batch."""
    if model.initial_memory is None:
        raise TypeError(
            f"expected a model with a memory for loudness, {type(model).__name__} has none; use svi.evaluate"
        )
    return model.log_prob(data.x, lengths=data.lengths).mean()


LOUDNESS = Engine("loudness", lambda model: model.initial_memory is not None, loudness)

# A claim.


class EchoesFade(Claim):
    """The law of x_2 given x_1 is that of x_3 given x_2: h has no other past."""

    id = "echoes-fade"
    source = "Nobody (2020), Remark 1"
    statement = "p(x_3 | x_1, x_2) does not depend on x_1"
    hypotheses = "the memory is a function of the observation before"
    routes = "two sequences that differ in x_1"
    control = "two sequences that differ in x_2"

    def cases(self) -> Sequence[int]:
        return range(3)

    @property
    def tolerance(self) -> float:
        return 1e-12

    def residual(self, case: int, seed: int) -> float:
        return self._change(0, seed)

    def control_residual(self, case: int, seed: int) -> float:
        return self._change(1, seed)

    def _change(self, step: int, seed: int) -> float:
        torch.manual_seed(seed)
        model, x = Echo(3).double(), torch.tensor([[0, 1, 2], [0, 1, 2]])
        x[1, step] = 2
        terms = model.log_prob(x) - model.log_prob(x[:, :2])  # log p(x_3 | x_1, x_2), (2,)
        return abs(float((terms[0] - terms[1]).detach()))


ENLARGED = replace(
    OWN,
    models={**OWN.models, "echo": ECHO, **{info.name: info for info in LATENT}},
    label_models={**OWN.label_models, "glance": GLANCE},
    families={**OWN.families, "laplace": LAPLACE},
    datasets={**OWN.datasets, "spikes": SPIKES},
    engines={**OWN.engines, "loudness": LOUDNESS},
    claims={**OWN.claims, "echoes-fade": EchoesFade()},
)
