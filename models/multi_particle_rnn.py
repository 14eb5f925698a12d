"""A recurrent network with L hidden states that start at different points and share everything else.

    h_t^l = f(h_{t-1}^l, x_{t-1}),   h_1^l a parameter                                         l = 1..L
    average="sequence"   p(x_{1:T}) = 1/L sum_l prod_t g(x_t | h_t^l)                          eq. (18)-(26)
    average="step"       p(x_{1:T}) = prod_t 1/L sum_l g(x_t | h_t^l)                          eq. (17), (27)

Sohl-Dickstein & Kingma (2015), sec. 3.1 and appendix A. Both are networks: x_t ~ sum_l w_t^l g(h_t^l), where w is
always 1/L in the second law; in the first it is the posterior of the particles given the past, a part of the memory,

    w_1^l = 1/L,   w_{t+1}^l = w_t^l g(x_t | h_t^l) / sum_k w_t^k g(x_t | h_t^k) = p(l | x_{1:t}).

Differences from the paper: its eq. (27) and (17) call the second law's log likelihood K a lower bound of the first's,
L >= K, by the steps of its sec. 2.2. Those steps do not prove it: the logarithm of a mean of products is not the sum
over t of logarithms of means. Neither law bounds the other at every x; on average over draws from the second, K is the
larger. Jensen's inequality does give a lower bound on both, 1/L sum_l sum_t log g(x_t | h_t^l). All three are equal if
the particles start at one point.
"""

import math
from typing import Any, Literal

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.emissions import Categorical, Emission, Tied, chosen_family
from pgm_rnn.models.cells import CELL, CELLS
from pgm_rnn.models.info import HIDDEN_DIM, GradientFit, ModelInfo, Size
from pgm_rnn.models.rnn import symbol_embedding
from pgm_rnn.sequence_model import First, SequenceModel, UnrollsMemory
from pgm_rnn.sequence_model.observations import chosen_first
from pgm_rnn.sequences import length_mask

Average = Literal["sequence", "step"]


class MultiParticleRNN(UnrollsMemory, SequenceModel):
    """A recurrent network with several hidden states at once, each from a trained start of its own.

    Its memory holds the particles' hidden vectors first, then the logarithms of their weights, then the rest of their
    cells' states.

    Args:
        num_particles: L, at least 1.
        cell: as for `RNN`.
        num_symbols: short for emission=Categorical(num_symbols).
        hidden_dim: width of a particle's hidden vector.
        num_layers: stacked layers, or layers of the transition for "deep-transition".
        emission: the family of the observations; give this or `num_symbols`.
        embedding_dim: width of a symbol's embedding, `hidden_dim` if None; other observations enter as they are.
        average: "sequence" averages the particles' likelihoods of whole sequences, "step" averages at each step.
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Raises:
        ValueError: an unknown cell or average, sizes below 1, or not exactly one of num_symbols and emission.

    Example:
        >>> rnn = MultiParticleRNN(num_particles=3, num_symbols=5, hidden_dim=4)
        >>> x = rnn.sample(num_sequences=2, num_steps=6, seed=0).x
        >>> rnn.log_prob(x).shape, rnn.particle_log_probs(x).shape
        (torch.Size([2]), torch.Size([2, 6, 3]))
    """

    def __init__(
        self,
        num_particles: int = 4,
        cell: str = "elman",
        num_symbols: int | None = None,
        hidden_dim: int = 32,
        num_layers: int = 1,
        *,
        emission: Emission | None = None,
        embedding_dim: int | None = None,
        average: Average = "sequence",
        first: First = "model",
    ) -> None:
        super().__init__(chosen_family(num_symbols, emission), first)
        check_choice("cell", cell, CELLS)
        check_choice("average", average, ("sequence", "step"))
        check_counts(
            num_particles=num_particles,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            embedding_dim=hidden_dim if embedding_dim is None else embedding_dim,
        )
        if isinstance(self.family, Tied):
            raise TypeError(
                f"expected a family without ties, because each particle has a law of its own, got {self.family}; use "
                f"{self.family.family}"
            )
        self.num_particles, self.cell_name, self.num_layers, self.average = num_particles, cell, num_layers, average
        self.embedding = symbol_embedding(self.family, hidden_dim, embedding_dim)
        input_dim = self.family.input_dim if self.embedding is None else self.embedding.embedding_dim
        self.cell = CELLS[cell](input_dim, hidden_dim, num_layers)
        self.readout = nn.Linear(hidden_dim, self.family.num_params)
        self.initial_states = nn.Parameter(torch.randn(num_particles, self.cell.state_dim))

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name, cell, sizes and average, which make a model of this shape."""
        return "multi-particle-rnn", {
            "num_particles": self.num_particles,
            "cell": self.cell_name,
            "hidden_dim": self.cell.hidden_dim,
            "num_layers": self.num_layers,
            "embedding_dim": None if self.embedding is None else self.embedding.embedding_dim,
            "average": self.average,
        }

    @property
    def initial_memory(self) -> Tensor:  # type: ignore[override]
        """The starts h_1^l and equal weights, (L (state_dim + 1),)."""
        return self._packed(self.initial_states, self._equal_weights)

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        """Every particle's step, and its weight after x_{t-1}: (..., L (state_dim + 1))."""
        states, log_weights = self._unpacked(h)
        if self.average == "sequence":
            log_weights = (log_weights + self._log_emission(states, x)).log_softmax(-1)
        return self._packed(self.cell.step(self._input(x).unsqueeze(-2), states), log_weights)

    def emission(self, z: None, h: Tensor) -> TorchDistribution:
        """sum_l w_t^l g(h_t^l); h is (..., L (state_dim + 1)) or already (..., L (hidden_dim + 1))."""
        states, log_weights = self._unpacked(h)
        params = self.readout(states[..., : self.cell.hidden_dim])
        if isinstance(self.family, Categorical):
            return self.family.distribution((log_weights[..., None] + params.log_softmax(-1)).logsumexp(-2))
        weights = dist.Categorical(logits=log_weights, validate_args=False)
        return dist.MixtureSameFamily(weights, self.family.distribution(params), validate_args=False)

    def unroll_memory(self, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        """The part of h_1, ..., h_T that emissions read, (batch, T, L (hidden_dim + 1)), by one fused run."""
        hidden = self._unrolled(x)
        if self.average == "step":
            return self._packed(hidden, self._equal_weights)
        log_emission = self._log_emission(hidden, x)[:, :-1]
        relative = log_emission - log_emission.amax(-1, keepdim=True).detach()  # keeps the running sums small
        before = torch.cat([relative.new_zeros(len(x), 1, self.num_particles), relative.cumsum(1)], dim=1)
        return self._packed(hidden, before.log_softmax(-1))

    def particle_log_probs(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """log g(x_t | h_t^l) in nats, (batch, T, L), 0 in the padding.

        Args:
            x: observations (batch, T, *event).
            lengths: (batch,) steps of each sequence, None for T.

        Raises:
            ValueError, TypeError: observations that do not fit the model.
        """
        x, lengths = self.check(x, lengths)
        return self._log_emission(self._unrolled(x), x).where(length_mask(lengths, x.shape[1])[..., None], 0.0)

    def average_log_prob(self, x: Tensor, lengths: Tensor | None = None, *, first: First | None = None) -> Tensor:
        """sum_t log 1/L sum_l g(x_t | h_t^l) in nats, (batch,): eq. (17), whatever the model's own average.

        Args:
            x: observations (batch, T, *event).
            lengths: (batch,) steps of each sequence, None for T.
            first: overrides the model's own `first`.

        Raises:
            ValueError, TypeError: observations that do not fit the model.
        """
        steps = self.particle_log_probs(x, lengths).logsumexp(-1) - math.log(self.num_particles)  # 0 in the padding
        return steps[:, int(chosen_first(self, first) == "condition") :].sum(-1)

    @property
    def _equal_weights(self) -> Tensor:
        return self.initial_states.new_full((self.num_particles,), -math.log(self.num_particles))

    def _unrolled(self, x: Tensor) -> Tensor:
        """Hidden vectors of every particle and step, (batch, T, L, hidden_dim); the cell runs particles as a batch."""
        previous = self._input(x[:, :-1].transpose(0, 1))[:, :, None]  # (T - 1, batch, 1, input_dim)
        previous = previous.expand(-1, -1, self.num_particles, -1).flatten(1, 2)
        hidden = self.cell.unroll(previous, self.initial_states.repeat(len(x), 1))  # (T, batch * L, hidden_dim)
        return hidden.unflatten(1, (len(x), self.num_particles)).transpose(0, 1)

    def _log_emission(self, states: Tensor, x: Tensor) -> Tensor:
        """log g(x | h^l), (..., L), for states (..., L, state_dim or hidden_dim); always finite."""
        law = self.family.distribution(self.readout(states[..., : self.cell.hidden_dim]))
        return law.log_prob(x.unsqueeze(x.dim() - len(self.family.event_shape))).clamp(min=-1e30)

    def _packed(self, states: Tensor, log_weights: Tensor) -> Tensor:
        """The memory of states (..., L, state_dim or hidden_dim) and log weights (L,) or (..., L)."""
        hidden, rest = states[..., : self.cell.hidden_dim], states[..., self.cell.hidden_dim :]
        log_weights = log_weights.expand(states.shape[:-1])
        return torch.cat([hidden.flatten(-2), log_weights, rest.flatten(-2)], dim=-1)

    def _unpacked(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """States (..., L, state_dim or hidden_dim, as in the memory) and log weights (..., L)."""
        hidden_width = self.num_particles * self.cell.hidden_dim
        hidden, log_weights, rest = h.tensor_split([hidden_width, hidden_width + self.num_particles], dim=-1)
        by_particle = (self.num_particles, -1)
        parts = [part.unflatten(-1, by_particle) for part in (hidden, rest) if part.shape[-1]]
        return torch.cat(parts, dim=-1), log_weights

    def _input(self, x: Tensor) -> Tensor:
        return self.family.as_input(x) if self.embedding is None else self.embedding(x)


INFO = ModelInfo(
    "multi-particle-rnn",
    MultiParticleRNN,
    "L hidden states and their weights",
    "-",
    "Sohl-Dickstein & Kingma sec. 3.1, app. A",
    {"num_symbols": 2, "num_particles": 2},
    title="`MultiParticleRNN`: L starts of one cell, averaged over sequences or at each step",
    fit=GradientFit(
        "One recurrent cell from several trained starts, by gradient steps on the exact mixture.",
        {"num_particles": Size("Number of starts."), "cell": CELL, "hidden_dim": HIDDEN_DIM},
    ),
    refuses=(Tied,),
    small={"hidden_dim": 3},
)
