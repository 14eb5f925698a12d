"""The deep Markov model: a state-space model whose transition is gated and whose emission is a network.

    z_1 ~ trans(z_0),   z_t ~ trans(z_{t-1}) = N((1 - g) (A z + b) + g n(z), softplus(V a(n(z)) + c)^2),   g = gate(z)
    x_t ~ emitter(z_t)
    q(z_t | z_{t-1}, x_{t:T}) = N(W c_t + d, softplus(...)^2),   c_t = (tanh(U z_{t-1} + e) + r_t) / 2

r_t is the state of a recurrent network that reads the observations from the last to x_t. Krishnan, Shalit & Sontag
(2017), eq. (2), sec. "Gated Transition Function" and the guide ST-R. Differences: z_0 is a trained parameter of the
model and another of the guide.
"""

from typing import Any

import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_counts
from pgm_rnn.distributions.normal import Normal, log_prob_of_drawn
from pgm_rnn.emissions import Emission
from pgm_rnn.kernels import positive
from pgm_rnn.kernels.combiner_draws import Weights, combiner_draws
from pgm_rnn.kernels.guides import CombinerGuide, CombinerLaws, along_combiner
from pgm_rnn.kernels.lineages import Lineage
from pgm_rnn.models.info import HIDDEN_DIM, LATENT_DIM, STEPS_ON_A_BOUND, GradientFit, ModelInfo, Size
from pgm_rnn.models.networks import GRU, Layers, NormalHead, is_as_written, is_hooked, rectified_maps
from pgm_rnn.models.vrnn import chosen_bits
from pgm_rnn.sequence_model import DensityAtOnce, DrawsGuide, First, SequenceModel
from pgm_rnn.sequence_model.drawn import Drawn
from pgm_rnn.sequences import length_mask
from pgm_rnn.states import GaussianStates


class DeepMarkovModel(DrawsGuide, DensityAtOnce, SequenceModel):
    """A nonlinear state-space model with a guide that reads the future.

    Args:
        obs_dim: number of bits of an observation, short for emission=Bernoulli(obs_dim).
        latent_dim: number of entries of z.
        hidden_dim: width of the layers in emitter and transition.
        guide_dim: width of the guide's recurrent network, `hidden_dim` if None.
        emission: the family of the observations; give this or `obs_dim`.
        first: "model" for p(x_{1:T}); "condition" would need p(z_1 | x_1).

    Attributes:
        gated: the transition, which maps z_{t-1} to the law of z_t.
        emitter: maps z_t to the law of x_t.
        backward_network: the guide's recurrent network, a GRU.
        combiner: maps z_{t-1} and r_t to the guide's law of z_t.

    Raises:
        ValueError: sizes below 1, or not exactly one of obs_dim and emission.

    Example:
        >>> dmm = DeepMarkovModel(obs_dim=88, latent_dim=4, hidden_dim=8)
        >>> dmm.sample(num_sequences=5, num_steps=3, seed=0).x.shape
        torch.Size([5, 3, 88])
    """

    initial_memory = None

    def __init__(
        self,
        obs_dim: int | None = None,
        latent_dim: int = 32,
        hidden_dim: int = 32,
        guide_dim: int | None = None,
        *,
        emission: Emission | None = None,
        first: First = "model",
    ) -> None:
        super().__init__(chosen_bits(obs_dim, emission), first)
        guide_dim = hidden_dim if guide_dim is None else guide_dim
        check_counts(latent_dim=latent_dim, hidden_dim=hidden_dim, guide_dim=guide_dim)
        self.states = GaussianStates(latent_dim)
        self.latent_dim, self.hidden_dim, self.guide_dim = latent_dim, hidden_dim, guide_dim
        self.z_0 = nn.Parameter(torch.zeros(latent_dim))
        self.gated = GatedTransition(latent_dim, hidden_dim)
        self.emitter = nn.Sequential(Layers([latent_dim, hidden_dim, hidden_dim], "relu"), self.family.head(hidden_dim))
        self.backward_network = GRU(self.family.input_dim, guide_dim)
        self.combiner = Combiner(latent_dim, guide_dim)

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name and sizes that make a model of this shape."""
        sizes = {"latent_dim": self.latent_dim, "hidden_dim": self.hidden_dim, "guide_dim": self.guide_dim}
        return "dmm", sizes

    def initial(self, h: None) -> Normal:
        """p(z_1): the transition from z_0."""
        return self.gated(self.z_0)

    def transition(self, z: Tensor, h: None) -> Normal:
        """p(z_t | z_{t-1}); its batch shape is that of z."""
        return self.gated(z)

    def emission(self, z: Tensor, h: None) -> TorchDistribution:
        """p(x_t | z_t); its batch shape is that of z."""
        return self.emitter(z)

    def encode(self, x: Tensor, lengths: Tensor) -> Tensor:
        """r_t / 2 of the guide's network after x_L, ..., x_t, (batch, T, guide_dim); padding is not read."""
        return _read_backwards(self.backward_network, self.family.as_input(x).to(self.z_0.dtype), lengths) / 2

    def proposal(self, z: Tensor | None, h: None, features: Tensor) -> Normal:
        """q(z_t | z_{t-1}, x_{t:T}), from r_t / 2 (..., guide_dim)."""
        loc, scale = self.combiner(z, features)
        return Normal(loc, scale, event_dim=1)

    def draw_guide(self, x: Tensor, features: Tensor | None) -> Drawn | None:
        """Draws from the guide by a compiled function; see `pgm_rnn.kernels.combiner_draws`."""
        if not self.redraws or features is None:
            return None
        noise = torch.randn(*x.shape[:2], self.latent_dim, dtype=features.dtype, device=x.device)
        return self.redraw_guide(features, noise)

    @property
    def redraws(self) -> bool:
        """Whether the guide's networks are as they were made."""
        shapes = [(self.guide_dim, self.latent_dim), (2 * self.latent_dim, self.guide_dim)]
        own = type(self.combiner) is Combiner and not is_hooked(self.combiner)
        return own and rectified_maps([self.combiner.from_z, self.combiner.head], shapes) is not None

    def redraw_guide(self, features: Tensor, noise: Tensor, lineage: Lineage | None = None) -> Drawn:
        """The same from given noise, also for particles of which some continue others."""
        start = self.combiner.z_0.expand(len(noise), -1)
        z, scale = combiner_draws(features, noise, start, self.combiner.weights(), lineage)
        return Drawn(z, None, log_prob_of_drawn(noise, scale))

    def compiled_guide(self, x: Tensor, features: Tensor) -> CombinerGuide | None:
        """The guide, of bits and with all networks as they were made (`pgm_rnn.kernels.guides`)."""
        own = is_as_written(self, DeepMarkovModel) and self.redraws
        if not own or type(self.gated) is not GatedTransition or is_hooked(self.gated):
            return None
        shapes = CombinerLaws.shapes(self.hidden_dim, self.latent_dim, self.family.input_dim)
        maps = rectified_maps([*self.gated.layers(), self.emitter], shapes)
        if not maps:
            return None
        bits, starts = self.family.as_input(x).to(features.dtype), (self.combiner.z_0, self.z_0)
        return along_combiner(features, bits, starts, self.combiner.weights(), CombinerLaws(*maps))

    def state_log_probs(self, z: Tensor, h: None) -> Tensor:
        """log p(z_t | z_{t-1}) of every step, (batch, T), with z_0 in front of the states."""
        before = torch.cat([self.z_0.expand(len(z), 1, -1), z[:, :-1]], dim=1)
        return self.gated(before).log_prob(z)


def _read_backwards(network: nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    """A network's hidden vectors after x_L, ..., x_t, (batch, T, dim); any numbers in the padding."""
    mask = length_mask(lengths, x.shape[1]).flatten()
    rows, whole = x.flatten(0, 1), bool(mask.all())
    if isinstance(network, GRU):
        inside = mask.nonzero()[:, 0]
        after = network.packed(rows if whole else rows[inside], lengths.long(), backwards=True)
        if after is not None:
            after = after if whole else after.new_zeros(len(rows), after.shape[1]).index_copy(0, inside, after)
            return after.unflatten(0, x.shape[:2])
    after, _ = network(_mirrored(x, lengths).transpose(0, 1))
    return _mirrored(after.transpose(0, 1), lengths)


def _mirrored(values: Tensor, lengths: Tensor) -> Tensor:
    """Values (batch, T, dim) with each sequence reversed in time; the padding stays in place."""
    if bool((lengths == values.shape[1]).all()):
        return values.flip(1)
    steps = torch.arange(values.shape[1], device=values.device)
    index = (lengths[:, None] - 1 - steps).where(steps < lengths[:, None], steps)  # (batch, T)
    return values.gather(1, index[..., None].expand(values.shape))


class GatedTransition(nn.Module):
    """Maps z to a normal law whose mean is gated, entry by entry, between a linear map of z and a network's proposal.

    Source: Krishnan, Shalit & Sontag (2017), sec. "Gated Transition Function".
    """

    def __init__(self, latent_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate_hidden, self.gate = nn.Linear(latent_dim, hidden_dim), nn.Linear(hidden_dim, latent_dim)
        self.proposed_hidden, self.proposed = nn.Linear(latent_dim, hidden_dim), nn.Linear(hidden_dim, latent_dim)
        self.linear, self.raw_scale = nn.Linear(latent_dim, latent_dim), nn.Linear(latent_dim, latent_dim)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(latent_dim))
            self.linear.bias.zero_()

    def forward(self, z: Tensor) -> Normal:
        """The law of the state that follows z (..., latent_dim)."""
        gate = torch.sigmoid(self.gate(F.relu(self.gate_hidden(z))))
        proposed = self.proposed(F.relu(self.proposed_hidden(z)))
        loc = torch.lerp(self.linear(z), proposed, gate)
        return Normal(loc, positive.scale_of_network(self.raw_scale(F.relu(proposed))), event_dim=1)

    def layers(self) -> list[nn.Linear]:
        """Its maps, in the order of `CombinerLaws`."""
        inside = self.gate_hidden, self.gate, self.proposed_hidden, self.proposed
        return [*inside, self.linear, self.raw_scale]


class Combiner(nn.Module):
    """The guide's law of z_t, from z_{t-1} and the backward network's summary of x_{t:T}."""

    def __init__(self, latent_dim: int, guide_dim: int) -> None:
        super().__init__()
        self.z_0 = nn.Parameter(torch.zeros(latent_dim))
        self.from_z, self.head = nn.Linear(latent_dim, guide_dim), NormalHead(guide_dim, latent_dim)

    def forward(self, z: Tensor | None, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, given r_t / 2 and z_{t-1} (..., latent_dim), which is None at t = 1."""
        from_z = torch.tanh(self.from_z(self.z_0 if z is None else z))
        return self.head.loc_and_scale(torch.add(features, from_z, alpha=0.5))

    def weights(self) -> Weights:
        """What a compiled guide is made of."""
        return Weights(self.from_z.weight, self.from_z.bias, self.head.linear.weight, self.head.linear.bias)


INFO = ModelInfo(
    "dmm",
    DeepMarkovModel,
    "-",
    "Gaussian, gated transition",
    "Krishnan et al. (2017)",
    {"obs_dim": 2, "latent_dim": 1, "hidden_dim": 4},
    shares_weights=True,
    title="`DeepMarkovModel`, its guide reads the future",
    fit=GradientFit(
        "A deep Markov model, by gradient steps on a bound; its guide reads the future.",
        {
            "latent_dim": LATENT_DIM,
            "hidden_dim": HIDDEN_DIM,
            "guide_dim": Size("Width of the guide's network.", shown="--hidden-dim"),
        },
        STEPS_ON_A_BOUND,
    ),
    small={"latent_dim": 2, "hidden_dim": 3},
)
