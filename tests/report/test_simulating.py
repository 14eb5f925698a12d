from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import pgm_rnn
from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.inference import em
from pgm_rnn.inference.kalman.innovations import one_step_residuals, rebuilt
from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.legend import Column, Legend
from pgm_rnn.models.hmm import HMM
from pgm_rnn.sequences import Sequences, pad
from tests.instances import make_hmm, make_model, make_rnn

LIMIT = 5.0  # standard errors
LENGTHS = torch.tensor([4, 1, 3])


def legend() -> Legend:
    times = tuple(np.datetime64("2024-05-01") + np.arange(length) for length in LENGTHS.tolist())
    return Legend((Column("sky", "symbol", words=("sun", "rain")),), (), "town", ("Ulm", "Bonn", "Köln"), "day", times)


def sky() -> Sequences:
    return pad([torch.tensor([0, 1, 1, 0]), torch.tensor([1]), torch.tensor([0, 0, 1])])._replace(legend=legend())


def standard_errors(draws: Tensor, expected: Tensor) -> float:
    """The largest distance of means over draws (num, ...) from the expected ones, in standard errors."""
    error = draws.std(0) / len(draws) ** 0.5
    return float(((draws.mean(0) - expected).abs() / error).max())


def test_draws_have_the_lengths_ids_times_and_words_of_the_data() -> None:
    data = sky()
    drawn = pgm_rnn.simulate(make_hmm(Categorical(2)), data, num_draws=2, seed=1)
    assert drawn.x.shape == (6, 4)
    assert torch.equal(drawn.lengths, LENGTHS.repeat(2))
    assert drawn.legend == data.repeated(2).legend
    assert drawn.z is not None
    assert not bool(drawn.x[1, 1:].any() or drawn.z[1, 1:].any())  # zeros in the padding
    assert drawn.observed is None


def test_symbols_have_the_laws_of_the_chain_and_not_of_another() -> None:
    hmm, num = make_hmm(Categorical(2)), 2000
    drawn = pgm_rnn.simulate(hmm, torch.zeros(1, 3, dtype=torch.int64), num_draws=num, seed=0).x
    belief = hmm.initial_probs.detach()
    for t in range(3):
        expected = belief @ hmm.emission_probs.detach()
        assert standard_errors((drawn[:, t, None] == torch.arange(2)).double(), expected) < LIMIT
        belief = belief @ hmm.transition_probs.detach()
    assert standard_errors((drawn[:, 2, None] == torch.arange(2)).double(), expected.flip(0)) > LIMIT


def test_linear_gaussian_draws_have_the_moments_of_the_recursion_given_the_inputs() -> None:
    model: Any = make_model("lgssm", Gaussian(2), input_dim=1)
    u, num = torch.randn(1, 3, 1), 3000
    data = Sequences(torch.zeros(1, 3, 2), torch.tensor([3]), inputs=u)
    drawn = pgm_rnn.simulate(model, data, num_draws=num, seed=0)
    assert drawn.inputs is not None
    assert torch.equal(drawn.inputs, u.repeat(num, 1, 1))
    states = model.initial(u[:, 0])
    mean, cov = states.mean.detach().reshape(2), states.covariance_matrix.detach().reshape(2, 2)
    A, C = model.transition_matrix.detach(), model.emission_matrix.detach()
    for t in range(3):
        if t:
            step = model.transition(mean[None], u[:, t])
            mean, cov = step.mean.detach().reshape(2), A @ cov @ A.mT + step.covariance_matrix.detach().reshape(2, 2)
        seen = model.emission(mean[None], u[:, t])
        variances = (C @ cov @ C.mT + seen.covariance_matrix.detach().reshape(2, 2)).diagonal()
        expected = seen.mean.detach().reshape(2)
        assert standard_errors(drawn.x[:, t], expected) < LIMIT
        assert standard_errors((drawn.x[:, t] - expected).square(), variances) < LIMIT
        assert standard_errors((drawn.x[:, t] - expected).square(), 2 * variances) > LIMIT


def one_state() -> HMM:
    return HMM(torch.ones(1), torch.ones(1, 1), torch.tensor([[0.5, 0.5]]))


def counts(data: Sequences, num_draws: int) -> Tensor:
    """Number of ones in four steps of each draw, as indicators of 0..4, (num_draws, 5)."""
    return (data.x.reshape(num_draws, 4).sum(-1)[:, None] == torch.arange(5)).double()


def test_the_prior_predictive_counts_of_a_uniform_probability_are_uniform() -> None:
    """p ~ U(0, 1) and four draws with it: every count from 0 to 4 has probability 1/5 (Bayes, 1763)."""
    program = pgm_rnn.WithPriors(one_state(), {"emission_probs": dist.Dirichlet(torch.ones(1, 2))})
    like, num = torch.zeros(1, 4, dtype=torch.int64), 1500
    assert standard_errors(counts(pgm_rnn.simulate(program, like, num_draws=num), num), torch.full((5,), 0.2)) < LIMIT
    fixed = counts(pgm_rnn.simulate(one_state(), like, num_draws=num), num)
    assert standard_errors(fixed, torch.full((5,), 0.2)) > LIMIT


def test_the_posterior_predictive_mean_is_that_of_the_beta_law() -> None:
    """After 6 ones in 8 steps p ~ Beta(7, 3), so that one step in seven tenths of the draws is a one."""
    program = pgm_rnn.WithPriors(one_state(), {"emission_probs": dist.Dirichlet(torch.ones(1, 2))})
    draws = dist.Dirichlet(torch.tensor([[3.0, 7.0]])).sample(torch.Size([2, 800]))
    posterior = Posterior({"emission_probs": draws}, torch.zeros(2, dtype=torch.int64), 0.0)
    like = torch.zeros(1, 4, dtype=torch.int64)
    ones = pgm_rnn.simulate(program, like, posterior=posterior, num_draws=1600).x.double().mean(1, keepdim=True)
    assert standard_errors(ones, torch.tensor([0.7])) < LIMIT
    assert standard_errors(ones, torch.tensor([0.5])) > LIMIT


@pytest.mark.parametrize(("name", "input_dim"), [("hmm", None), ("rnn-gru", None), ("lgssm", 1), ("vrnn", None)])
def test_draws_side_by_side_have_the_law_of_the_model_with_these_parameters(name: str, input_dim: int | None) -> None:
    sizes: dict[str, Any] = {} if input_dim is None else {"input_dim": input_dim}
    model, num = make_model(name, Gaussian(2), **sizes), 600
    parameter, value = next(iter(model.named_parameters()))
    u = None if input_dim is None else torch.randn(1, 3, input_dim)
    like = Sequences(torch.zeros(1, 3, 2), torch.tensor([3]), inputs=u)
    program = pgm_rnn.WithPriors(model, {parameter: dist.Normal(value.detach(), 1.0)})
    last = {}
    for shift in (0.0, 3.0):
        draws = (value.detach() + shift).expand(1, 2, *value.shape)
        posterior = Posterior({parameter: draws}, torch.zeros(1, dtype=torch.int64), 0.0)
        last[shift] = pgm_rnn.simulate(program, like, posterior=posterior, num_draws=num).x.flatten(1)
    own = pgm_rnn.simulate(model, like, num_draws=num, seed=1).x.flatten(1)
    error = (2 / num) ** 0.5 * own.std(0)
    assert float(((last[0.0].mean(0) - own.mean(0)).abs() / error).max()) < LIMIT
    if name != "hmm":  # whose logits may all be moved
        assert float(((last[3.0].mean(0) - own.mean(0)).abs() / error).max()) > LIMIT


def test_residuals_keep_the_skewness_of_the_noise_which_the_model_does_not_have() -> None:
    model: Any = make_model("lgssm", Gaussian(1), latent_dim=1)
    noise = torch.distributions.Exponential(1.0).sample(torch.Size([40, 25, 1])) - 1.0
    data = rebuilt(model, torch.zeros(40, 25, 1), noise)
    skewness = {}
    for method in ("model", "residuals"):
        drawn = pgm_rnn.simulate(model, data, num_draws=2, method=method, seed=0)
        values = one_step_residuals(model, drawn).values
        skewness[method] = float((values**3).mean() / (values**2).mean() ** 1.5)
    exact = float(((noise - noise.mean()) ** 3).mean() / noise.var() ** 1.5)  # of the data's noise, about 2
    error = 15 / 2000**0.5  # sd of e^3 is near 15 for an exponential e
    assert abs(skewness["residuals"] - exact) < LIMIT * error
    assert abs(skewness["model"]) < LIMIT * (15 / 2000) ** 0.5 < exact


def test_gaps_are_kept_on_request() -> None:
    model, x = make_hmm(Gaussian(2)), torch.randn(2, 4, 2)
    x[0, 1, 0] = torch.nan
    whole, gapped = (pgm_rnn.simulate(model, x, keep_missing=keep, num_draws=2) for keep in (False, True))
    assert whole.observed is None
    assert not bool(whole.x.isnan().any())
    assert torch.equal(gapped.x.isnan(), x.isnan().repeat(2, 1, 1))
    assert torch.equal(gapped.x.nan_to_num(), whole.x.where(~gapped.x.isnan(), 0.0))
    assert model.log_prob(gapped._replace(z=None)).isfinite().all()


def test_a_model_that_conditions_on_the_first_step_starts_from_the_datas() -> None:
    data = sky()
    drawn = pgm_rnn.simulate(make_rnn("gru", Categorical(2), first="condition"), data, num_draws=3, seed=0)
    assert torch.equal(drawn.x[:, 0], data.x[:, 0].repeat(3))
    assert torch.equal(drawn.lengths, LENGTHS.repeat(3))


def test_the_seed_makes_draws_reproducible_and_a_fit_stands_for_its_model() -> None:
    model, data = make_hmm(Categorical(2)), sky()
    fit = em.fit(model, data, num_iterations=1, progress=False)
    first, again, other = (pgm_rnn.simulate(fit, data, seed=seed, num_draws=5).x for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, pgm_rnn.simulate(model, data, num_draws=5).x)
    assert not torch.equal(first, other)


def test_bad_arguments_are_errors() -> None:
    data, hmm = sky(), make_hmm(Categorical(2))
    posterior = Posterior({"initial_probs": torch.full((1, 3, 2), 0.5)}, torch.zeros(1, dtype=torch.int64), 0.0)
    with pytest.raises(TypeError, match="expected a SequenceModel, a WithPriors or a fit of one, got str"):
        pgm_rnn.simulate("hmm", data)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected the program that the posterior belongs to, WithPriors.*, got HMM"):
        pgm_rnn.simulate(hmm, data, posterior=posterior)
    program = pgm_rnn.WithPriors(hmm, {"transition_probs": dist.Dirichlet(torch.ones(2, 2))})
    with pytest.raises(ValueError, match="expected draws of transition_probs, got draws of initial_probs"):
        pgm_rnn.simulate(program, data, posterior=posterior)
    with pytest.raises(TypeError, match="a model with linear Gaussian states for the residual bootstrap, HMM has"):
        pgm_rnn.simulate(hmm, data, method="residuals")
    with pytest.raises(ValueError, match="expected method to be one of model, residuals, got 'bootstrap'"):
        pgm_rnn.simulate(hmm, data, method="bootstrap")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected data of shape \(batch, T, 2\) for Gaussian.*, got \(1, 3, 1\)"):
        pgm_rnn.simulate(make_hmm(Gaussian(2)), torch.zeros(1, 3, 1))
    with pytest.raises(ValueError, match="expected num_draws to be an integer of at least 1, got 0"):
        pgm_rnn.simulate(hmm, data, num_draws=0)
