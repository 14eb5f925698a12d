"""A particle filter as a recurrent network: particles are the hidden state, the seed's uniforms are constants.

    h_t = (z_t^{1:N}, log W_{t-1}^{1:N}, t)         particles before x_t; with a memory of the model's own, that too
    h_{t+1} = propagate(resample(weigh(h_t, x_t)))  by inverse distribution functions, at the uniforms of step t + 1
    x_t ~ sum_n W_{t-1}^n p(x_t | z_t^n)

Choe, Shin & Spencer (2017), sec. 3.3 and fig. 4, which has the structure of fig. 3: sets of particles are Delta hidden
states.

Differences from the paper: their hidden unit is the particles after resampling by x_t; ours is the particles after the
propagation that follows, so that x_t is an emission from h_t. We keep weights, so that resampling may wait
(`ess_threshold`). The log likelihood equals the estimate of `pgm_rnn.inference.smc.filter` with the same uniforms.
"""

from typing import NamedTuple

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.checks import check_counts
from pgm_rnn.distributions.particle_mixture import ParticleMixture
from pgm_rnn.emissions import Emission
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.info import NUM_STATES, GradientFit, ModelInfo, Size
from pgm_rnn.particles import Options, Proposed, move, start, weigh
from pgm_rnn.particles.noise import SeededNoise, Uniforms
from pgm_rnn.sequence_model import First, SequenceModel, memory_of


class _Unpacked(NamedTuple):
    """A hidden vector's parts: z (N, ..., *latent), the model's memory (N, ..., dim), log W (N, ...), t (...)."""

    z: Tensor
    h: Tensor | None
    log_weights: Tensor
    step: Tensor


class ParticleFilterRNN(SequenceModel):
    """A recurrent network that is the bootstrap filter of a model, its parameters the model's.

    The hidden vector holds N particles and their log weights, then the number of the step: N (D + 1) + 1 entries for
    states of D entries. All sequences use the same uniforms, so the network is a deterministic function of its input.
    In expectation over seeds, log p(x_{1:T}) is a lower bound on the model's, and its exponential is unbiased. The
    gradient flows through the values and weights of particles, not through the choice of ancestors.

    Args:
        model: any model without inputs whose latent states can be drawn by inversion.
        num_particles: N.
        seed: random seed of the uniforms.
        resampling: a scheme of `pgm_rnn.inference.resampling`; the paper uses the multinomial one.
        ess_threshold: resample where the effective sample size is at most this fraction of N, 1 for every step.
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Raises:
        TypeError: a model without latent states, or whose states cannot be drawn by inversion.
        ValueError: a model with inputs or that conditions on x_1, an unknown scheme, no particle.

    Example:
        >>> rnn = ParticleFilterRNN(HMM.random(num_states=2, num_symbols=3, seed=0), num_particles=10)
        >>> rnn.log_prob(torch.tensor([[0, 2, 1]])).shape, rnn.initial_memory.shape
        (torch.Size([1]), torch.Size([21]))
    """

    def __init__(
        self,
        model: SequenceModel,
        num_particles: int = 100,
        seed: int = 0,
        *,
        resampling: str = "multinomial",
        ess_threshold: float = 1.0,
        first: First = "model",
    ) -> None:
        if not isinstance(model, SequenceModel) or model.states is None:
            raise TypeError(f"expected a model with latent states, got {type(model).__name__}, which has none")
        if model.input_dim is not None or model.first == "condition":
            raise ValueError(
                "expected a model with input_dim=None and first='model', whose filter is a function of x, got "
                f"input_dim={model.input_dim} and first={model.first!r}"
            )
        if resampling == "soft":
            raise ValueError(
                "expected a scheme that copies particles, such as 'multinomial', as resampling, got 'soft'"
            )
        check_counts(num_particles=num_particles)
        super().__init__(model.family, first)
        self.of, self.num_particles, self.seed = model, num_particles, seed
        with torch.no_grad():
            example = model.initial(memory_of(model).start(1)).expand([1]).sample()  # (1, *latent)
        self.latent_shape, self.latent_dtype = example.shape[1:], example.dtype
        self.noise = SeededNoise(seed, num_particles, self.latent_shape.numel(), resampling)
        self.options = Options(
            num_particles, "bootstrap", resampling=resampling, ess_threshold=ess_threshold, degenerate="-inf"
        )
        _ = self.initial_memory  # raises if a law cannot be inverted

    @staticmethod
    def random(
        num_states: int,
        num_symbols: int | None = None,
        *,
        emission: Emission | None = None,
        num_particles: int = 100,
        uniforms_seed: int = 0,
        resampling: str = "multinomial",
        ess_threshold: float = 1.0,
        seed: int | None = None,
        first: First = "model",
    ) -> "ParticleFilterRNN":
        """The filter of a random HMM; arguments as for `HMM.random`, `uniforms_seed` for the filter."""
        hmm = HMM.random(num_states, num_symbols, emission=emission, seed=seed)
        return ParticleFilterRNN(
            hmm, num_particles, uniforms_seed, resampling=resampling, ess_threshold=ess_threshold, first=first
        )

    @property
    def recipe(self) -> tuple[str, dict[str, object]]:
        """Name and options that make a model of this shape, for the filter of an HMM.

        Raises:
            TypeError: the filter of another model.
        """
        if not isinstance(self.of, HMM):
            raise TypeError(
                f"expected the particle filter of an HMM, got the filter of {type(self.of).__name__}; save that model "
                "and make its filter again"
            )
        return "particle-filter-rnn", {
            "num_states": self.of.num_states,
            "num_particles": self.num_particles,
            "uniforms_seed": self.seed,
            "resampling": self.options.resampling,
            "ess_threshold": self.options.ess_threshold,
        }

    @property
    def initial_memory(self) -> Tensor:  # type: ignore[override]
        """h_1: particles from p(z_1) at the uniforms of the first step, (dim,)."""
        proposed = start(self.of, 1, self._options_at(torch.ones(1)))
        return self._pack(proposed, proposed.log_weights.new_ones(1))[0]

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        """One step of the filter, from the particles before x_{t-1} to the particles before x_t."""
        batch = h.shape[:-1]
        parts = self._unpack(h.reshape(-1, h.shape[-1]))
        x = x.expand(*batch, *self.family.event_shape).reshape(-1, *self.family.event_shape)
        options = self._options_at(parts.step + 1)
        never = torch.zeros(len(x), dtype=torch.bool, device=h.device)
        weighed = weigh(self.of, Proposed(parts.z, parts.h, parts.log_weights, never, None), x, options)
        moved = move(self.of, weighed.particles, options)
        return self._pack(moved, parts.step + 1).reshape(*batch, -1)

    def emission(self, z: None, h: Tensor) -> TorchDistribution:
        """The mixture of the particles' laws, weighted by their weights; its batch shape is that of h."""
        parts = self._unpack(h)
        return ParticleMixture(parts.log_weights, self.of.emission(parts.z, parts.h).expand(parts.log_weights.shape))

    def particles(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """States z_t^n (N, ..., *latent) and log W_{t-1}^n (N, ...), nats, of hidden vectors (..., dim)."""
        parts = self._unpack(h)
        return parts.z, parts.log_weights

    def _options_at(self, steps: Tensor) -> Options:
        """The filter's options with each sequence's uniforms, at its own step, (B,)."""
        return Options(**vars(self.options) | {"noise": lambda _: self._uniforms(steps)})

    def _uniforms(self, steps: Tensor) -> Uniforms:
        """The uniforms of each sequence's step, (B,); they are gathered only if sequences are at different steps."""
        distinct, index = steps.detach().long().unique(return_inverse=True)
        drawn = [self.noise(step) for step in distinct.tolist()]
        if len(drawn) == 1:
            return drawn[0]
        return Uniforms(*(torch.cat(parts, dim=1)[:, index.to(parts[0].device)] for parts in zip(*drawn, strict=True)))

    def _pack(self, proposed: Proposed, step: Tensor) -> Tensor:
        """(z, memory, log weights, step) as one vector per sequence, (B, dim)."""
        z = proposed.z.movedim(0, 1).reshape(proposed.z.shape[1], -1).to(proposed.log_weights)  # (B, N D)
        parts = [z, proposed.log_weights.mT, step[:, None].to(z)]
        if proposed.h is not None:
            parts.insert(1, proposed.h.movedim(0, 1).flatten(1))  # (B, N dim)
        return torch.cat([part.expand(len(z), -1) for part in parts], dim=-1)

    def _unpack(self, h: Tensor) -> _Unpacked:
        """The parts of hidden vectors (..., dim), particles in front."""
        num, width = self.num_particles, self.latent_shape.numel()
        memory = h.shape[-1] - num * (width + 1) - 1
        z, own, log_weights, step = h.split([num * width, memory, num, 1], dim=-1)
        z = z.reshape(*h.shape[:-1], num, *self.latent_shape).movedim(h.dim() - 1, 0).contiguous()
        z = z if self.latent_dtype.is_floating_point else z.round().to(self.latent_dtype)
        own = own.reshape(*h.shape[:-1], num, -1).movedim(-2, 0).contiguous() if memory else None
        return _Unpacked(z, own, log_weights.movedim(-1, 0).contiguous(), step[..., 0])


INFO = ModelInfo(
    "particle-filter-rnn",
    ParticleFilterRNN.random,
    "the particles",
    "-",
    "Choe et al. sec. 3.3, fig. 4",
    {"num_states": 2, "num_symbols": 2, "num_particles": 10},
    title="`ParticleFilterRNN(model, num_particles, seed)`, of any model with states",
    fit=GradientFit(
        "The seeded particle filter of an HMM as a recurrent network; its laws of observations learn.",
        {"num_states": NUM_STATES, "num_particles": Size("Number of particles in the memory.")},
    ),
    small={"num_states": 2, "num_particles": 5},
    stepped_parameters=("of.initial_logits", "of.transition_logits"),  # they decide which state a uniform selects
)
