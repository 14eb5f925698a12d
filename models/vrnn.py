"""The variational recurrent network: at every step, a variational autoencoder whose prior depends on the memory.

    h_t = hidden(phi_x(x_{t-1}), phi_z(z_{t-1}), h_{t-1})
    z_t ~ prior(h_t)                    q(z_t | x_t, h_t) = encoder(phi_x(x_t), h_t)
    x_t ~ decoder(phi_z(z_t), h_t)

These are the four networks of Vineet (2019), sec. 3, with the feature extractors of Chung et al. (2015), eq. (5)-(9).
Differences: their h_{t-1} is our h_t, the summary of the past; h_1 is a trained parameter, not zero.
"""

from typing import Any

import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.distributions.normal import Normal, log_prob_of_drawn
from pgm_rnn.emissions import Bernoulli, Emission
from pgm_rnn.kernels.encoder_draws import Weights, encoder_draws
from pgm_rnn.kernels.guides import EncoderGuide, EncoderLaws, along_encoder
from pgm_rnn.kernels.lineages import Lineage
from pgm_rnn.models.cells import CELL, CELLS, StackedCell
from pgm_rnn.models.info import HIDDEN_DIM, LATENT_DIM, STEPS_ON_A_BOUND, GradientFit, ModelInfo
from pgm_rnn.models.networks import ACTIVATIONS, Layers, NormalHead, is_as_written, is_hooked, rectified_maps
from pgm_rnn.sequence_model import DrawsGuide, First, ReadsAhead, SequenceModel
from pgm_rnn.sequence_model.drawn import Drawn
from pgm_rnn.states import GaussianStates


class VRNN(ReadsAhead, DrawsGuide, SequenceModel):
    """A recurrent network with a Gaussian latent state at every step, and the guide that encodes the observation.

    Args:
        obs_dim: number of bits of an observation, short for emission=Bernoulli(obs_dim).
        latent_dim: number of entries of z.
        hidden_dim: width of the memory that the networks read, and of every layer.
        emission: the family of the observations; give this or `obs_dim`.
        feature_dim: width of phi_x and phi_z, `hidden_dim` if None.
        cell: the cell of `hidden`, one of `pgm_rnn.models.cells.CELLS`. The linear ones run step by step, too, because
            the memory reads z.
        activation: activation of every layer, "relu", "tanh" or "identity".
        first: "model" for p(x_{1:T}); "condition" would need p(z_1 | x_1).

    Attributes:
        prior: maps h_t to the law of z_t.
        encoder: maps the features of x_t and h_t to the guide's law of z_t.
        decoder: maps the features of z_t and h_t to the law of x_t.
        hidden: the recurrent cell.
        phi_x: features of an observation.
        phi_z: features of a state.

    Raises:
        ValueError: an unknown cell or activation, sizes below 1, or not exactly one of obs_dim and emission.

    Example:
        >>> vrnn = VRNN(obs_dim=88, latent_dim=4, hidden_dim=8)
        >>> vrnn.sample(num_sequences=5, num_steps=3, seed=0).z.shape
        torch.Size([5, 3, 4])
    """

    memory_reads_state = True
    transition_reads_state = False
    initial_memory: nn.Parameter

    def __init__(
        self,
        obs_dim: int | None = None,
        latent_dim: int = 32,
        hidden_dim: int = 32,
        *,
        emission: Emission | None = None,
        feature_dim: int | None = None,
        cell: str = "gru",
        activation: str = "relu",
        first: First = "model",
    ) -> None:
        super().__init__(chosen_bits(obs_dim, emission), first)
        width = hidden_dim if feature_dim is None else feature_dim
        check_counts(latent_dim=latent_dim, hidden_dim=hidden_dim, feature_dim=width)
        check_choice("cell", cell, CELLS)
        check_choice("activation", activation, ACTIVATIONS)
        self.states = GaussianStates(latent_dim)
        self.latent_dim, self.hidden_dim, self.feature_dim = latent_dim, hidden_dim, width
        self.cell_name, self.activation = cell, activation
        self.phi_x = Layers([self.family.input_dim, width], activation)
        self.phi_z = Layers([latent_dim, width], activation)
        self.prior = nn.Sequential(Layers([hidden_dim, hidden_dim], activation), NormalHead(hidden_dim, latent_dim))
        self.encoder = Encoder(width, hidden_dim, latent_dim, activation)
        self.decoder = nn.Sequential(Layers([width + hidden_dim, hidden_dim], activation), self.family.head(hidden_dim))
        self.hidden = Hidden(cell, width, hidden_dim)
        self.initial_memory = nn.Parameter(torch.zeros(self.hidden.cell.state_dim))

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name, sizes, cell and activation, which make a model of this shape."""
        sizes = {"latent_dim": self.latent_dim, "hidden_dim": self.hidden_dim, "feature_dim": self.feature_dim}
        return "vrnn", sizes | {"cell": self.cell_name, "activation": self.activation}

    def read(self, x: Tensor) -> Tensor:
        """Precomputes the part of `hidden` that depends only on x, (..., projected_dim)."""
        return self.hidden.cell.project(self._features(x))

    def advance(self, h: Tensor, z: Tensor, read: Tensor) -> Tensor:
        """hidden(phi_x, phi_z(z), h), (..., state_dim)."""
        return self.hidden(read, self.phi_z(z), h)

    def initial(self, h: Tensor) -> Normal:
        """p(z_1): the prior at h_1."""
        return self.transition(None, h)

    def transition(self, z: Tensor | None, h: Tensor) -> Normal:
        """p(z_t | h_t), which does not read z_{t-1}; its batch shape is that of h."""
        return self.prior(self._top(h))

    def emission(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """p(x_t | z_t, h_t); its batch shape is that of z."""
        top = self._top(h)
        return self.decoder(torch.cat([self.phi_z(z), top.expand(*z.shape[:-1], -1)], dim=-1))

    def encode(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Precomputes the parts of encoder and hidden that depend only on x, (batch, T, hidden_dim + projected_dim)."""
        phi_x = self._features(x)
        return torch.cat([self.encoder.from_x(phi_x), self.hidden.cell.project(phi_x)], dim=-1)

    def proposal(self, z: Tensor | None, h: Tensor, features: Tensor) -> Normal:
        """q(z_t | x_t, h_t), which does not read z_{t-1} either."""
        return self.encoder(features[..., : self.hidden_dim], self.encoder.from_h(self._top(h)))

    def draw_guide(self, x: Tensor, features: Tensor | None) -> Drawn | None:
        """Draws from the encoder, with their memory; compiled along a GRU or an LSTM with rectified layers."""
        if not self.redraws or features is None:
            return None
        noise = torch.randn(*x.shape[:2], self.latent_dim, dtype=features.dtype, device=x.device)
        return self.redraw_guide(features, noise)

    @property
    def redraws(self) -> bool:
        """True with gated cells and Elman's, whose layers are torch's, and networks of the guide as they were made."""
        own = type(self.encoder) is Encoder and type(self.encoder.head) is NormalHead and type(self.hidden) is Hidden
        without_vector = self.encoder.from_h, self.hidden.from_z
        plain = all(type(layer) is nn.Linear for layer in (*without_vector, self.encoder.head.linear))
        layers = self.encoder, self.encoder.head, self.encoder.head.linear, self.hidden, self.hidden.cell
        hooked = any(map(is_hooked, (*layers, *without_vector)))
        return own and plain and isinstance(self.hidden.cell, StackedCell) and not hooked

    def redraw_guide(self, features: Tensor, noise: Tensor, lineage: Lineage | None = None) -> Drawn:
        """The same from given noise, also for particles of which some continue others."""
        if self._compiles:
            start = self.initial_memory.expand(len(noise), -1)
            z, h, scale, _ = encoder_draws(features, noise, start, self._weights(), lineage)
        else:
            z, h, scale = self._draws(features, noise, lineage)
        return Drawn(z, h, log_prob_of_drawn(noise, scale))

    def compiled_guide(self, x: Tensor, features: Tensor) -> EncoderGuide | None:
        """The encoder, of bits and with all networks as they were made (`pgm_rnn.kernels.guides`)."""
        shapes = EncoderLaws.shapes(self.hidden_dim, self.latent_dim, self.feature_dim, self.family.input_dim)
        maps = rectified_maps([self.prior, self.decoder], shapes)
        if not (is_as_written(self, VRNN) and self._compiles and maps):
            return None
        bits, weights, laws = self.family.as_input(x).to(features.dtype), self._weights(), EncoderLaws(*maps)
        return along_encoder(features, bits, self.initial_memory, weights, laws)

    @property
    def _compiles(self) -> bool:
        """Whether the guide runs along a GRU or an LSTM, with rectified layers as they were made."""
        cell, rectified = self.hidden.cell, self.activation == "relu" and self.encoder.activation is F.relu
        gated = type(cell) is StackedCell and isinstance(cell.network, nn.GRU | nn.LSTM)
        if not (self.redraws and gated and rectified):
            return False
        shapes = [(self.feature_dim, self.latent_dim), (2 * self.latent_dim, self.hidden_dim)]
        return rectified_maps([self.phi_z, self.encoder.head], shapes) is not None

    def _weights(self) -> Weights:
        """What a compiled guide is made of."""
        head, phi_z = self.encoder.head.linear, self.phi_z.linear[0]
        assert isinstance(phi_z, nn.Linear)
        of_z = phi_z.weight, phi_z.bias, self.hidden.from_z.weight
        return Weights(*self._maps_of_memory(), head.weight, head.bias, *of_z)

    def _maps_of_memory(self) -> tuple[Tensor, Tensor]:
        """Matrix and vector of what encoder and cell make of h_t, one above the other."""
        cell = self.hidden.cell
        assert isinstance(cell, StackedCell)  # or `redraws` would be False
        weight, bias = cell.recurrent_map(0)
        return torch.cat([self.encoder.from_h.weight, weight]), F.pad(bias, (self.hidden_dim, 0))

    def _draws(self, features: Tensor, noise: Tensor, lineage: Lineage | None) -> tuple[Tensor, Tensor, Tensor]:
        """z, h and the guide's scale of every step, along any single layer with gates."""
        cell, (weight, bias) = self.hidden.cell, self._maps_of_memory()
        assert isinstance(cell, StackedCell)  # or `redraws` would be False
        sizes = [self.hidden_dim, cell.projected_dim]
        to_encoder, to_hidden = (part.unbind(1) for part in features.split(sizes, dim=-1))
        h = self.initial_memory.expand(len(noise), -1)
        from_h = noise.new_empty(0)  # the first step has none
        steps: list[tuple[Tensor, Tensor, Tensor]] = []  # z, h, scale
        for t, noise_t in enumerate(noise.unbind(1)):
            if t > 0:
                h = cell.gated(to_hidden[t - 1] + self.hidden.from_z(self.phi_z(steps[-1][0])), from_h, h)
                h = h if lineage is None else lineage.taken(h, t)
            from_h_encoder, from_h = F.linear(self._top(h), weight, bias).split_with_sizes(sizes, -1)
            loc, scale = self.encoder.loc_and_scale(to_encoder[t], from_h_encoder)
            steps.append((torch.addcmul(loc, noise_t, scale), h, scale))
        z, h, scale = (torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))
        return z, h, scale

    def _features(self, x: Tensor) -> Tensor:
        return self.phi_x(self.family.as_input(x).to(self.initial_memory.dtype))

    def _top(self, h: Tensor) -> Tensor:
        """The part of a cell's state that the networks read."""
        return h if h.shape[-1] == self.hidden_dim else h[..., : self.hidden_dim]


class Hidden(nn.Module):
    """A cell with input W phi_x + V phi_z + b, whose first product is computed for all steps at once."""

    def __init__(self, cell: str, feature_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.cell = CELLS[cell](feature_dim, hidden_dim, 1)
        self.from_z = nn.Linear(feature_dim, self.cell.projected_dim, bias=False)

    def forward(self, from_x: Tensor, phi_z: Tensor, h: Tensor) -> Tensor:
        """The state after W phi_x + b (..., projected_dim) and phi_z (..., feature_dim) in state h."""
        return self.cell.advance(from_x + self.from_z(phi_z), h)


class Encoder(nn.Module):
    """Maps a(W phi_x + U h + b) to a normal law; `from_x` and `from_h` are the two products, `head` makes the law."""

    def __init__(self, feature_dim: int, hidden_dim: int, latent_dim: int, activation: str) -> None:
        super().__init__()
        self.from_x = nn.Linear(feature_dim, hidden_dim)
        self.from_h = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.head = NormalHead(hidden_dim, latent_dim)
        self.activation = ACTIVATIONS[activation]

    def forward(self, from_x: Tensor, from_h: Tensor) -> Normal:
        """The law of z given W phi_x + b and U h, each (..., hidden_dim)."""
        return Normal(*self.loc_and_scale(from_x, from_h), event_dim=1)

    def loc_and_scale(self, from_x: Tensor, from_h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of that law, (..., latent_dim) each."""
        return self.head.loc_and_scale(self.activation(from_x + from_h))


def chosen_bits(obs_dim: int | None, emission: Emission | None) -> Emission:
    """The given family, or Bernoulli(obs_dim); exactly one of the two is given.

    Raises:
        ValueError: both or none of them.
        TypeError: an emission that is no family.
    """
    if (obs_dim is None) == (emission is None):
        raise ValueError(
            "expected exactly one of obs_dim and emission, such as obs_dim=88, got "
            f"{'neither' if emission is None else 'both'}"
        )
    if obs_dim is not None:
        return Bernoulli(obs_dim)
    if not isinstance(emission, Emission):
        raise TypeError(f"expected a family such as Bernoulli(88) as emission, got {type(emission).__name__}")
    return emission


INFO = ModelInfo(
    "vrnn",
    VRNN,
    "the hidden state",
    "Gaussian, prior from h",
    "the VRNN note, sec. 3; Chung et al. (2015)",
    {"obs_dim": 2, "latent_dim": 1, "hidden_dim": 4},
    shares_weights=True,
    title="`VRNN`: prior, encoder, decoder, hidden",
    fit=GradientFit(
        "A variational recurrent network, by gradient steps on a bound.",
        {"latent_dim": LATENT_DIM, "hidden_dim": HIDDEN_DIM, "cell": CELL},
        STEPS_ON_A_BOUND,
    ),
    small={"latent_dim": 2, "hidden_dim": 3},
)
