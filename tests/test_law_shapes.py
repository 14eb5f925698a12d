"""A law's batch shape need only broadcast: laws that do not read z, or h, or anything, still give each its own draw."""

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from pgm_rnn import WithPriors
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import smc, svi
from pgm_rnn.particles.noise import SeededNoise
from pgm_rnn.sequence_model import SequenceModel

SHAPES = ((), (1,))
"""Batch shapes of laws that read neither states nor memory: those of a number and of a parameter with one entry."""
LENGTHS = torch.tensor([3, 1, 2, 3])


class Unconnected(SequenceModel):
    """z_t ~ N(m, 1), x_t ~ N(z_t, 1/4): the states of different steps have nothing to do with each other."""

    def __init__(self, shape: Sequence[int] = (), *, guided: bool = False) -> None:
        super().__init__(Gaussian())
        self.m = nn.Parameter(torch.full(tuple(shape), 0.3))
        self.has_proposal = guided

    def initial(self, h: None) -> TorchDistribution:
        return dist.Normal(self.m, 1.0)

    def transition(self, z: Tensor, h: None) -> TorchDistribution:
        return dist.Normal(self.m, 1.0)

    def emission(self, z: Tensor, h: None) -> TorchDistribution:
        return dist.Normal(z, 0.5)

    def log_likelihood(self, x: Tensor, lengths: Tensor) -> Tensor:
        """log p(x) by x_t ~ N(m, 1 + 1/4), (batch,)."""
        terms = dist.Normal(self.m.detach(), 1.25**0.5).log_prob(x)
        return torch.stack([row[:length].sum() for row, length in zip(terms, lengths.tolist(), strict=True)])


class Deaf(Unconnected):
    """z_t ~ N(z_{t-1}, 1), and x_t ~ N(m, 1/4) whatever z_t is."""

    def transition(self, z: Tensor, h: None) -> TorchDistribution:
        return dist.Normal(z, 1.0)

    def emission(self, z: Tensor, h: None) -> TorchDistribution:
        return dist.Normal(self.m, 0.5)

    def log_likelihood(self, x: Tensor, lengths: Tensor) -> Tensor:
        terms = dist.Normal(self.m.detach(), 0.5).log_prob(x)
        return torch.stack([row[:length].sum() for row, length in zip(terms, lengths.tolist(), strict=True)])


class Independent(SequenceModel):
    """x_t ~ N(m, 1/4): neither states nor a memory."""

    def __init__(self, shape: Sequence[int] = ()) -> None:
        super().__init__(Gaussian())
        self.m = nn.Parameter(torch.full(tuple(shape), 0.3))

    def emission(self, z: None, h: None) -> TorchDistribution:
        return dist.Normal(self.m, 0.5)


def observations() -> Tensor:
    """Four sequences of three numbers."""
    return torch.randn(4, 3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("law", [Unconnected, Deaf, Independent])
def test_every_sequence_and_step_has_its_own_draw(law: type[SequenceModel], shape: tuple[int, ...]) -> None:
    batch = law(shape).sample(4, 3, seed=0)  # type: ignore[arg-type]
    for drawn in (batch.x, *(() if batch.z is None else (batch.z,))):
        assert drawn.shape == (4, 3)
        assert len(drawn.unique()) == drawn.numel()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("law", [Unconnected, Deaf])
@pytest.mark.parametrize("guided", [False, True])
def test_every_particle_has_its_own_state(law: type[Unconnected], shape: tuple[int, ...], guided: bool) -> None:
    model, x, limit = law(shape, guided=guided), observations(), 5.0  # standard errors
    runs = torch.stack([smc.filter(model, x, LENGTHS, num_particles=500, seed=i)[0] for i in range(20)])
    ratios = (runs - model.log_likelihood(x, LENGTHS)).exp()  # mean 1 by unbiasedness
    errors = ratios.std(0) / len(runs) ** 0.5 + 1e-9
    assert bool(((ratios.mean(0) - 1).abs() < limit * errors).all())
    assert bool((ratios.std(0) < 0.3).all())  # particles that share one state would differ far more from run to run
    kept = smc.filter(model, x, num_particles=50, seed=0, keep="all", noise=SeededNoise(0, 50, 1, "systematic"))
    assert kept.particles.shape == (50, 4)
    assert len(kept.particles[:, 0].unique()) > 10


@pytest.mark.parametrize("method", ["backward", "ancestors", "fixed-lag"])
def test_paths_and_forecasts_have_the_shapes_of_any_other_model(method: str) -> None:
    for model in (Unconnected(), Deaf((1,))):
        paths = smc.smooth(model, observations(), num_particles=30, num_paths=7, method=method, seed=0).paths  # type: ignore[arg-type]
        assert paths.shape == (7, 4, 3)
        ahead = smc.forecast(model, observations(), 2, num_particles=30, num_samples=7, seed=0)
        assert ahead.z is not None
        assert ahead.x.shape == ahead.z.shape == (7, 4, 2)
        assert len(ahead.x.unique()) == ahead.x.numel()


@pytest.mark.parametrize("shape", SHAPES)
def test_forecasts_without_states_or_memory_are_independent(shape: tuple[int, ...]) -> None:
    ahead = Independent(shape).forecast(observations(), 2, num_samples=7, seed=0).x
    assert ahead.shape == (7, 4, 2)
    assert len(ahead.unique()) == ahead.numel()


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_renderings_have_the_same_density(shape: tuple[int, ...], lengths: Tensor | None) -> None:
    x = observations()
    for model in (Unconnected(shape), Deaf(shape), Independent(shape)):
        z = None if model.states is None else torch.randn(4, 3)
        by_site = {} if z is None else {"z": z, **{f"z_{t + 1}": z[:, t] for t in range(3)}}
        expected = model.log_prob(x, z, lengths).sum()
        for rendering in ("fused", "unrolled"):
            program = pyro.poutine.trace(pyro.poutine.condition(model.model, data=by_site))
            found = program.get_trace(x, lengths, rendering=rendering).log_prob_sum()
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_their_bounds_and_fits_run(shape: tuple[int, ...]) -> None:
    x = observations()
    for model in (Unconnected(shape), Deaf(shape), Independent(shape)):
        for objective in ("mle",) if model.states is None else ("elbo", "iwae", "fivo"):
            fit = svi.fit(model, x, objective=objective, num_epochs=1, progress=False)
            assert fit.nats_per_step < 20


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_drawn_side_by_side_each_have_their_density(shape: tuple[int, ...]) -> None:
    x, prior = observations(), dist.Normal(torch.zeros(shape), 1.0).to_event(len(shape))
    program, value = WithPriors(Independent(shape), {"m": prior}), torch.full(shape, 0.2)

    def guide(x: Tensor) -> None:
        pyro.sample("m", dist.Delta(value, event_dim=len(shape)))

    several = Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1)
    expected = prior.log_prob(value) + dist.Normal(0.2, 0.5).log_prob(x).sum()
    assert several.loss(program, guide, x) == pytest.approx(-float(expected))
