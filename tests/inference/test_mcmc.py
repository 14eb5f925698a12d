import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions import DiscreteHMM, GaussianHMM
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import mcmc
from pgm_rnn.models.hmm import HMM
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.states import GaussianStates

LIMIT = 5.0  # standard errors


def grid_posterior_mean(log_joint: Tensor, grid: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of a law given on a regular grid."""
    weights = (log_joint - log_joint.max()).exp()
    weights = weights / weights.sum()
    mean = float((weights * grid).sum())
    return mean, float((weights * (grid - mean).square()).sum()) ** 0.5


def chain(stay: Tensor) -> HMM:
    rows = torch.stack([torch.stack([stay, 1 - stay]), torch.tensor([0.3, 0.7])])
    return HMM(torch.tensor([0.5, 0.5]), rows, torch.tensor([[0.8, 0.2], [0.3, 0.7]]))


@pytest.mark.slow
def test_the_draws_have_the_posterior_of_the_transitions_and_not_their_prior() -> None:
    x = chain(torch.tensor(0.9)).sample(3, 12, seed=0).x
    grid = torch.linspace(0.005, 0.995, 100)
    stay, leave = torch.cartesian_prod(grid, grid).T  # p(1 | 1) and p(1 | 2), uniform a priori
    rows = torch.stack([torch.stack([stay, 1 - stay], -1), torch.stack([leave, 1 - leave], -1)], -2)
    emission = dist.Categorical(torch.tensor([[0.8, 0.2], [0.3, 0.7]]))
    laws = DiscreteHMM(torch.zeros(2), rows.log()[:, None], emission, duration=12)
    log_joint = laws.log_prob(x[:, None].expand(3, len(rows), 12)).sum(0)
    program = WithPriors(chain(torch.tensor(0.5)), {"transition_probs": dist.Dirichlet(torch.ones(2, 2))})
    result = mcmc.run(program, x, num_samples=250, num_warmup=100, progress=False)
    draws, worth = result.samples["transition_probs"], result.effective_sample_sizes["transition_probs"]
    assert draws.shape == (1, 250, 2, 2)
    for row, values in enumerate((stay, leave)):
        mean, spread = grid_posterior_mean(log_joint, values)
        error = spread / float(worth[row, 0]) ** 0.5
        assert abs(float(draws[..., row, 0].mean()) - mean) < LIMIT * error
        assert float(draws[..., row, 0].std()) == pytest.approx(spread, rel=0.35)
    mean, spread = grid_posterior_mean(log_joint, stay)
    assert abs(mean - 0.5) > LIMIT * spread / float(worth[0, 0]) ** 0.5
    assert result.divergences.shape == (1,)


@pytest.mark.slow
def test_chains_run_from_starts_of_their_own() -> None:
    x = chain(torch.tensor(0.9)).sample(2, 8, seed=0).x
    program = WithPriors(chain(torch.tensor(0.5)), {"initial_probs": dist.Dirichlet(torch.ones(2))})
    result = mcmc.run(program, x, num_samples=40, num_warmup=20, num_chains=2, progress=False)
    draws = result.samples["initial_probs"]
    assert draws.shape == (2, 40, 2)
    assert not torch.equal(draws[0], draws[1])
    assert float((result.r_hat["initial_probs"] - 1).abs().max()) < 0.3


@pytest.mark.slow
def test_a_program_of_the_users_own_runs_too() -> None:
    one = torch.eye(1)
    noise = dist.MultivariateNormal(torch.zeros(1), one)
    x = GaussianHMM(noise, 0.8 * one, noise, one, noise, duration=20).rsample((2,))

    def law(a: Tensor) -> GaussianHMM:
        return GaussianHMM(noise, a.reshape(1, 1), noise, one, noise, duration=20)

    def program(x: Tensor) -> None:
        a = pyro.sample("a", dist.Uniform(-1.0, 1.0))
        with pyro.plate("sequences", len(x)):
            pyro.sample("x", law(a), obs=x)

    grid = torch.linspace(-0.999, 0.999, 1000)
    mean, spread = grid_posterior_mean(torch.stack([law(a).log_prob(x).sum() for a in grid]), grid)
    result = mcmc.run(program, x, num_samples=200, num_warmup=100, progress=False)
    error = spread / float(result.effective_sample_sizes["a"]) ** 0.5
    assert abs(float(result.means["a"]) - mean) < LIMIT * error
    assert abs(float(result.means["a"])) > LIMIT * error


def test_the_statistics_of_nuts_are_those_of_its_trajectories() -> None:
    """Energy minus potential at a trajectory's start is kinetic: a chi-squared law of D degrees of freedom, halved."""

    def program(x: Tensor) -> None:
        a = pyro.sample("a", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(a.sum(), 10.0), obs=x)

    found = mcmc.run(program, torch.tensor(1.0), num_samples=200, num_warmup=50, seed=3, progress=False)
    stats, draws = found.statistics, found.samples["a"]
    assert set(stats) == set(mcmc.STATISTICS)
    assert all(values.shape == (1, 200) for values in stats.values())
    log_joint = dist.Normal(0.0, 1.0).log_prob(draws).sum(-1) + dist.Normal(draws.sum(-1), 10.0).log_prob(
        torch.tensor(1.0)
    )
    torch.testing.assert_close(stats["lp"], log_joint)
    kinetic = stats["energy"][0, 1:] + stats["lp"][0, :-1]
    assert float(kinetic.min()) > 0
    error = (1.5 / 199) ** 0.5
    assert abs(float(kinetic.mean()) - 1.5) < LIMIT * error
    assert abs(float((stats["energy"] + stats["lp"])[0, 1:].mean()) - 3.0) > LIMIT * error  # twice the dimension
    assert bool(((stats["acceptance_rate"] > 0) & (stats["acceptance_rate"] <= 1)).all())
    assert int(stats["n_steps"].min()) >= 1
    assert found.seed == 3


def test_a_trajectory_that_diverges_is_marked() -> None:
    def cliff(x: Tensor) -> None:
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(0.0, torch.where(a > 0, 1.0, 1e-4)), obs=x)  # log p falls by 5 * 10^7

    found = mcmc.run(cliff, torch.tensor(1.0), num_samples=60, num_warmup=30, progress=False)
    diverging = found.statistics["diverging"]
    assert torch.equal(found.divergences, diverging.sum(-1))
    assert 0 < int(found.divergences) < 60


def test_the_same_seed_gives_the_same_draws() -> None:
    x = chain(torch.tensor(0.9)).sample(2, 8, seed=0).x
    program = WithPriors(chain(torch.tensor(0.5)), {"initial_probs": dist.Dirichlet(torch.ones(2))})
    draws = [
        mcmc.run(program, x, num_samples=5, num_warmup=5, seed=seed, progress=False).samples["initial_probs"]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_draw_makes_a_model() -> None:
    model, x = chain(torch.tensor(0.5)), chain(torch.tensor(0.9)).sample(2, 8, seed=0).x
    program = WithPriors(model, {"initial_probs": dist.Dirichlet(torch.ones(2))})
    result = mcmc.run(program, x, num_samples=5, num_warmup=5, progress=False)
    twin = program.model_at(result.draw(3))
    assert isinstance(twin, HMM)
    torch.testing.assert_close(twin.initial_probs.detach(), result.samples["initial_probs"][0, 3])


def test_bad_options_are_errors() -> None:
    x = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"expected a Pyro program, such as .*, got str"):
        mcmc.run("hmm", x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected num_samples to be an integer of at least 1, got 0"):
        mcmc.run(print, x, num_samples=0)
    with pytest.raises(ValueError, match="expected target_acceptance between 0 and 1, got 1"):
        mcmc.run(print, x, target_acceptance=1)


@pytest.mark.parametrize(("noise", "num_steps"), [(1.0, 2), (0.0, 30)])
def test_proposals_that_overflow_or_have_no_density_are_rejected(noise: float, num_steps: int) -> None:
    """Two steps determine the scale so little that trajectories leave the range of floats; without noise, x can have
    no density at all."""

    class Walk(SequenceModel):
        def __init__(self) -> None:
            super().__init__(Gaussian(1))
            self.states, self.log_scale = GaussianStates(1, linear=True), torch.nn.Parameter(torch.zeros(1))

        def initial(self, h: object) -> TorchDistribution:
            return dist.Normal(torch.zeros_like(self.log_scale), 1.0).to_event(1)

        def transition(self, z: Tensor, h: object) -> TorchDistribution:
            return dist.Normal(z, self.log_scale.exp()).to_event(1)

        def emission(self, z: Tensor, h: object) -> TorchDistribution:
            return dist.Normal(z, noise).to_event(1) if noise else dist.Delta(z, event_dim=1)

    model = Walk()
    x = model.sample(2, num_steps, seed=1).x
    prior = dist.Normal(torch.zeros(1), 1000.0).to_event(1)
    found = mcmc.run(WithPriors(model, {"log_scale": prior}), x, num_samples=20, num_warmup=40, progress=False)
    draws = found.samples["log_scale"]
    assert bool(draws.isfinite().all())
    assert float(draws.max()) < 350  # where the variance, e^{2 log_scale}, overflows
    if num_steps == 30:
        assert abs(float(draws.mean())) < 0.4  # 58 increments: the posterior's standard deviation is 0.1
