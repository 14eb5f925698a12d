import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from pgm_rnn.distributions import DiscreteHMM
from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.inference import pmmh
from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.rnn import RNN
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.priors import WithPriors

LIMIT = 5.0  # standard errors


def chain(stay: float, leave: float = 0.3) -> HMM:
    rows = torch.tensor([[stay, 1 - stay], [leave, 1 - leave]])
    return HMM(torch.tensor([0.5, 0.5]), rows, torch.tensor([[0.8, 0.2], [0.3, 0.7]]))


@pytest.mark.slow
@pytest.mark.parametrize("num_particles", [3, pytest.param(30, marks=pytest.mark.nightly)])
def test_the_draws_have_the_exact_posterior_whatever_the_number_of_particles(num_particles: int) -> None:
    x = chain(0.9).sample(6, 4, seed=0).x  # many short sequences, for a filter takes its time by steps
    grid = torch.linspace(0.005, 0.995, 100)
    stay, leave = torch.cartesian_prod(grid, grid).T
    rows = torch.stack([torch.stack([stay, 1 - stay], -1), torch.stack([leave, 1 - leave], -1)], -2)
    emission = dist.Categorical(torch.tensor([[0.8, 0.2], [0.3, 0.7]]))
    laws = DiscreteHMM(torch.zeros(2), rows.log()[:, None], emission, duration=4)
    log_joint = laws.log_prob(x[:, None].expand(6, len(rows), 4)).sum(0)
    weights = (log_joint - log_joint.max()).exp()
    weights = weights / weights.sum()
    program = WithPriors(chain(0.5), {"transition_probs": dist.Dirichlet(torch.ones(2, 2))})
    result = pmmh.run(program, x, num_samples=1500, num_warmup=500, num_particles=num_particles, progress=False)
    draws, worth = result.posterior.samples["transition_probs"], result.posterior.effective_sample_sizes
    assert draws.shape == (1, 1500, 2, 2)
    for row, values in enumerate((stay, leave)):
        mean = float((weights * values).sum())
        spread = float((weights * (values - mean).square()).sum()) ** 0.5
        error = spread / float(worth["transition_probs"][row, 0]) ** 0.5
        assert abs(float(draws[..., row, 0].mean()) - mean) < LIMIT * error
        assert float(draws[..., row, 0].std()) == pytest.approx(spread, rel=0.35)
    mean = float((weights * stay).sum())
    assert abs(mean - 0.5) > 0.05  # the prior's mean is another
    assert 0.02 < result.acceptance < 0.7
    assert result.log_likelihoods.shape == (1500,)


@pytest.mark.slow
def test_estimates_that_were_drawn_anew_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # a chain that estimates its present likelihood anew at every move is not exact: with few particles it is too wide
    x, truth = chain(0.95, 0.05).sample(20, 5, seed=0).x, {}
    program = WithPriors(chain(0.5), {"transition_probs": dist.Dirichlet(torch.ones(2, 2))})
    move = pmmh._Chain.move

    def forgetful(self: pmmh._Chain, adapt: bool) -> None:
        self.now = self.target.at(self.now.vector)
        move(self, adapt)

    for name, function in (("kept", move), ("anew", forgetful)):
        monkeypatch.setattr(pmmh._Chain, "move", function)
        result = pmmh.run(program, x, num_samples=300, num_warmup=200, num_particles=3, progress=False)
        truth[name] = result.acceptance
    assert truth["anew"] > truth["kept"] + 0.05  # it accepts moves that an exact chain refuses


def test_the_same_seed_gives_the_same_chain() -> None:
    x = chain(0.9).sample(1, 8, seed=0).x
    program = WithPriors(chain(0.5), {"initial_probs": dist.Dirichlet(torch.ones(2))})
    options: dict[str, Any] = {"num_samples": 20, "num_warmup": 10, "num_particles": 5, "progress": False}
    runs = [pmmh.run(program, x, seed=seed, **options) for seed in (0, 0, 1)]
    draws = [run.posterior.samples["initial_probs"] for run in runs]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert isinstance(runs[0].posterior, Posterior)


def test_covariances_and_several_parameters_are_moved_together() -> None:
    model = LinearGaussianSSM.random(1, 1, seed=0).double()
    priors = {
        "transition_cov": dist.LogNormal(torch.zeros(1, 1), 1.0),
        "transition_matrix": dist.Normal(torch.zeros(1, 1), 1.0),
    }
    x = model.sample(1, 10, seed=1).x
    result = pmmh.run(WithPriors(model, priors), x, num_samples=30, num_warmup=120, num_particles=20, progress=False)
    assert bool((result.posterior.samples["transition_cov"] > 0).all())
    assert result.posterior.samples["transition_matrix"].shape == (1, 30, 1, 1)


class Toss(SequenceModel):
    """x_t ~ Bernoulli(chance), beside a state that says nothing; what goes wrong beyond [0, 1] is up to `law`."""

    has_latent, initial_memory = True, None

    def __init__(self, law: Callable[[Tensor], Any], chance: float = 0.5) -> None:
        super().__init__(Categorical(2))
        self.chance, self.law = nn.Parameter(torch.tensor(chance)), law

    def initial(self, h: Tensor | None) -> Any:
        return dist.Normal(torch.zeros(()), 1.0)

    def transition(self, z: Tensor, h: Tensor | None) -> Any:
        return dist.Normal(torch.zeros_like(z), 1.0)

    def emission(self, z: Tensor | None, h: Tensor | None) -> Any:
        return self.law(self.chance).expand(() if z is None else z.shape)


def probs(chance: Tensor) -> Tensor:
    return torch.stack([1 - chance, chance])


def overflowing(chance: Tensor) -> Any:
    return dist.Categorical(probs(chance).clamp(min=0.0)) if 0 <= float(chance) <= 1 else math.exp(1e6)


def without_root(chance: Tensor) -> Any:
    torch.linalg.cholesky(probs(chance).diag())
    return dist.Categorical(probs(chance))


LAWS: dict[str, Callable[[Tensor], Any]] = {
    "a constraint": lambda chance: dist.Categorical(probs(chance)),
    "NaN": lambda chance: dist.Categorical(logits=probs(chance).log(), validate_args=False),
    "no root": without_root,
    "overflow": overflowing,
}


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_a_parameter_that_no_law_can_have_is_rejected(law: Callable[[Tensor], Any]) -> None:
    # the posterior of a chance with a wide normal prior is its likelihood times the prior on [0, 1], zero elsewhere
    x = torch.tensor([[0, 0, 0, 1]])
    grid = torch.linspace(0, 1, 2001)
    weights = grid * (1 - grid) ** 3 * (-((grid - 0.5) ** 2) / 2).exp()
    mean = float((weights * grid).sum() / weights.sum())
    spread = float((weights * (grid - mean) ** 2).sum() / weights.sum()) ** 0.5
    program = WithPriors(Toss(law), {"chance": dist.Normal(torch.tensor(0.5), 1.0)})
    result = pmmh.run(program, x, num_samples=500, num_warmup=200, num_particles=1, progress=False)
    draws = result.posterior.samples["chance"]
    error = spread / float(result.posterior.effective_sample_sizes["chance"]) ** 0.5
    assert 0 <= float(draws.min()) < float(draws.max()) <= 1
    assert abs(float(draws.mean()) - mean) < LIMIT * error
    assert abs(0.5 - mean) > LIMIT * error  # the prior's mean, or a posterior over [0, 1] without data, is another


@pytest.mark.parametrize("error", [TypeError, ValueError, RuntimeError, IndexError, NotImplementedError])
def test_an_error_of_the_program_at_a_move_is_raised(error: type[Exception]) -> None:
    calls = iter(range(10**6))

    def law(chance: Tensor) -> Any:
        if next(calls) > 40:
            raise error("a mistake in the program")
        return dist.Categorical(probs(chance.sigmoid()))

    program = WithPriors(Toss(law), {"chance": dist.Normal(torch.tensor(0.0), 1.0)})
    with pytest.raises(error, match="a mistake in the program"):
        pmmh.run(program, torch.tensor([[0, 0, 1]]), num_samples=50, num_warmup=10, num_particles=1, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "last"),
    [
        ("a constraint", r"Expected parameter probs .* to satisfy the constraint Simplex\(\)"),
        ("NaN", "expected finite log weights, got NaN weights in sequence 0 at step 1"),
        ("no root", "linalg.cholesky: .*"),
        ("overflow", "math range error"),
    ],
)
def test_priors_without_a_possible_start_are_one_sentence(law: str, last: str) -> None:
    x, options = torch.tensor([[0, 0, 1]]), {"num_particles": 1, "num_warmup": 1, "num_samples": 1, "progress": False}
    program = WithPriors(Toss(LAWS[law]), {"chance": dist.Normal(torch.tensor(50.0), 0.1)})
    message = (
        rf"^expected a draw from the priors .* none among 1000 draws of chance \(the last one: {last}\); use narrower"
    )
    with pytest.raises(ValueError, match=message) as caught:
        pmmh.run(program, x, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert "degenerate=" not in str(caught.value)  # this engine has no such argument


@pytest.mark.slow
def test_a_prior_that_says_of_every_draw_that_it_is_impossible_is_one_sentence() -> None:
    class Half(dist.Normal):
        def log_prob(self, value: Tensor) -> Tensor:
            return super().log_prob(value) - torch.inf

    x, options = torch.tensor([[0, 0, 1]]), {"num_particles": 1, "num_warmup": 1, "num_samples": 1, "progress": False}
    program = WithPriors(Toss(LAWS["a constraint"]), {"chance": Half(torch.tensor(0.5), 0.01)})
    with pytest.raises(ValueError, match=r"the last one: log prior -inf and log likelihood -[\d.]+\); use narrower"):
        pmmh.run(program, x, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_a_start_is_the_first_possible_draw_of_the_seed(law: Callable[[Tensor], Any]) -> None:
    # one draw in 25 of N(0, 10^2) lies in [0, 1]
    x, options = torch.tensor([[0, 0, 1]]), {"num_particles": 1, "num_warmup": 1, "num_samples": 1, "progress": False}
    program = WithPriors(Toss(law), {"chance": dist.Normal(torch.tensor(0.0), 10.0)})
    draws = [
        float(pmmh.run(program, x, seed=seed, **options).posterior.samples["chance"])  # type: ignore[arg-type]
        for seed in (0, 0, 1, 2, 3)
    ]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 4
    assert all(0 <= draw <= 1 for draw in draws)


def test_a_possible_first_draw_is_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Tensor] = []
    at = pmmh._Target.at

    def noted(self: pmmh._Target, vector: Tensor) -> Any:
        tried.append(vector)
        return at(self, vector)

    monkeypatch.setattr(pmmh._Target, "at", noted)
    program = WithPriors(Toss(LAWS["a constraint"]), {"chance": dist.Uniform(torch.tensor(0.4), 0.6)})
    options: dict[str, Any] = {"num_particles": 1, "num_warmup": 1, "num_samples": 1, "progress": False}
    pmmh.run(program, torch.tensor([[0, 0, 1]]), **options)
    assert len(tried) == 3  # the start and two moves


@pytest.mark.parametrize("error", [TypeError, ValueError, RuntimeError, IndexError, NotImplementedError])
def test_an_error_of_the_program_at_the_start_is_raised(error: type[Exception]) -> None:
    def law(chance: Tensor) -> Any:
        raise error("a mistake in the program")

    program = WithPriors(Toss(law), {"chance": dist.Normal(torch.tensor(0.0), 1.0)})
    with pytest.raises(error, match=r"^a mistake in the program$"):
        pmmh.run(program, torch.tensor([[0, 0, 1]]), num_samples=1, num_warmup=1, num_particles=1, progress=False)


class StochasticVolatility(SequenceModel):
    """z_t ~ N(0.95 z_{t-1}, s^2),   x_t ~ N(0, exp(z_t))."""

    has_latent, initial_memory = True, None

    def __init__(self) -> None:
        super().__init__(Gaussian(1))
        self.s = nn.Parameter(torch.tensor(0.3))

    def initial(self, h: Tensor | None) -> Any:
        return dist.Normal(torch.zeros_like(self.s), self.s / 0.0975**0.5)

    def transition(self, z: Tensor, h: Tensor | None) -> Any:
        return dist.Normal(0.95 * z, self.s)

    def emission(self, z: Tensor | None, h: Tensor | None) -> Any:
        assert z is not None
        return dist.Normal(torch.zeros_like(z)[..., None], (z / 2).exp()[..., None]).to_event(1)


WIDE: dict[str, Callable[[Tensor], Any]] = {
    "exponential": lambda one: dist.Exponential(one),
    "wide exponential": lambda one: dist.Exponential(0.01 * one),
    "half Cauchy": lambda one: dist.HalfCauchy(one),
    "half of it negative": lambda one: dist.Normal(0.3 * one, 10.0),
}


def wide() -> list[Any]:
    """Each prior in each precision; by day each prior in one of them."""
    by_day = {(name, number % 2) for number, name in enumerate(WIDE)}
    return [
        pytest.param(prior, dtype, id=f"{name}-{dtype}", marks=[pytest.mark.nightly] * ((name, number) not in by_day))
        for name, prior in WIDE.items()
        for number, dtype in enumerate((torch.float32, torch.float64))
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("prior", "dtype"), wide())
def test_stochastic_volatility_with_a_wide_prior_has_a_posterior_from_any_seed(
    prior: Callable[[Tensor], Any], dtype: torch.dtype
) -> None:
    model = StochasticVolatility().to(dtype)
    x = model.sample(1, 20, seed=1).x
    program = WithPriors(model, {"s": prior(torch.ones((), dtype=dtype))})
    for seed in range(6):
        result = pmmh.run(program, x, num_samples=10, num_warmup=10, num_particles=10, seed=seed, progress=False)
        assert bool(result.log_likelihoods.isfinite().all())
        assert bool((result.posterior.samples["s"] > 0).all())


def test_bad_arguments_are_errors() -> None:
    x = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"expected a model with priors, WithPriors\(model, \{...\}\), got HMM"):
        pmmh.run(chain(0.5), x)  # type: ignore[arg-type]
    rnn = RNN("gru", num_symbols=3, hidden_dim=2)
    program = WithPriors(rnn, {"readout.bias": dist.Normal(torch.zeros(3), 1.0)})
    with pytest.raises(TypeError, match="expected a model with latent states for smc, RNN has none"):
        pmmh.run(program, x, progress=False)
    with pytest.raises(ValueError, match="expected num_samples to be an integer of at least 1, got 0"):
        pmmh.run(WithPriors(chain(0.5), {"initial_probs": dist.Dirichlet(torch.ones(2))}), x, num_samples=0)
