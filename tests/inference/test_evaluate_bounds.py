"""What `svi.evaluate` reports of bounds, against models whose log p(x) is known."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference.svi import Evaluation, bounds, evaluate, evaluation
from pgm_rnn.models import HMM, LinearGaussianSSM, NoisyRNN
from pgm_rnn.sequence_model import SequenceModel, memory_of
from pgm_rnn.sequences import Sequences, as_sequences
from tests.inference.test_bounds import Positive, by_quadrature, scalar_network
from tests.instances import every_exact_law, make_hmm, make_model, make_rnn, ragged
from tests.latent_toy import LatentToy

LIMIT = 4.5  # standard errors
LENGTHS = torch.tensor([6, 1, 4, 3])
RANDOM = ["elbo", "iwae", "fivo", "importance"]
every_random_bound = pytest.mark.parametrize("bound", RANDOM)


def sequences(model: SequenceModel) -> Tensor:
    return model.sample(4, 6, seed=0).x


def log_p(model: NoisyRNN, x: Tensor) -> Tensor:
    """log p(x_{1:L}) of the ragged batch, by quadrature."""
    pairs = zip(x, LENGTHS.tolist(), strict=True)
    return torch.stack([by_quadrature(model, row[None, :length])[0] for row, length in pairs]).detach()


def score(found: Evaluation, exact: float) -> float:
    """How many Monte Carlo errors the estimate is above the exact number of nats."""
    return (found.nats_per_step - exact) / found.monte_carlo_error


# The bounds.


def test_bounds_are_above_the_exact_nats_per_step_and_come_closer_with_particles() -> None:
    model = scalar_network()
    x = sequences(model)
    exact = -float(log_p(model, x).sum()) / int(LENGTHS.sum())
    many, lengths = x.repeat(1_000, 1, 1), LENGTHS.repeat(1_000)
    found = [
        evaluate(model, many, lengths, bound=bound, num_particles=K)
        for bound, K in (("elbo", 4), ("iwae", 4), ("iwae", 16), ("fivo", 4))
    ]
    for looser, tighter in pairwise(found[:3]):
        error = math.hypot(looser.monte_carlo_error, tighter.monte_carlo_error)
        assert tighter.nats_per_step + LIMIT * error < looser.nats_per_step
    assert min(score(found[2], exact), score(found[3], exact)) > LIMIT
    close = [evaluate(model, x, LENGTHS, bound=bound, num_particles=20_000) for bound in ("importance", "fivo")]
    assert all(abs(score(result, exact)) < LIMIT for result in close)
    assert abs(score(close[0], exact + 0.05)) > LIMIT


@pytest.mark.parametrize(
    ("bound", "num_particles", "label"),
    [("elbo", 5, "ELBO"), ("iwae", 64, "IWAE_64"), ("fivo", 128, "FIVO_128"), ("importance", 500, "importance_500")],
)
def test_the_label_says_what_the_number_is(bound: str, num_particles: int, label: str) -> None:
    model = scalar_network()
    assert evaluate(model, sequences(model), LENGTHS, bound=bound, num_particles=num_particles).bound == label


def test_the_default_is_exact_where_it_can_be_and_the_elbo_otherwise() -> None:
    assert evaluate(make_hmm(Gaussian(2)), ragged(Gaussian(2))).bound == "exact"
    assert evaluate(LatentToy(), torch.zeros(2, 3)).bound == "ELBO"


@pytest.mark.parametrize("bound", ["elbo", "iwae", "importance"])
@every_exact_law
def test_where_the_states_are_summed_out_every_bound_is_exact(name: str, family: Any, bound: str) -> None:
    model, x = make_model(name, family), ragged(family)
    exact, found = evaluate(model, x), evaluate(model, x, bound=bound)
    assert torch.equal(found.log_likelihoods, exact.log_likelihoods)
    assert found.monte_carlo_error == exact.monte_carlo_error == 0


@pytest.mark.parametrize("name", ["hmm", "lgssm"])
def test_fivo_of_an_exact_model_is_the_particle_filters(name: str) -> None:
    model = make_model(name, Gaussian(2))
    assert isinstance(model, HMM | LinearGaussianSSM)
    x = model.sample(100, 6, seed=0).x
    exact = evaluate(model, x).nats_per_step
    coarse, fine = (evaluate(model, x, bound="fivo", num_particles=n) for n in (2, 500))
    assert score(coarse, exact) > LIMIT
    assert abs(score(fine, exact)) < LIMIT


# Normalisations.


@pytest.mark.parametrize("bound", ["exact", "iwae"])
def test_a_mean_over_sequences_counts_each_sequence_once(bound: str) -> None:
    model, x = make_rnn("gru", Gaussian(2)), ragged(Gaussian(2), LENGTHS)
    found = evaluate(model, x, LENGTHS, bound=bound, normalisation="sequence")
    per_step = -found.log_likelihoods / LENGTHS
    assert found.nats_per_step == pytest.approx(float(per_step.mean()))
    assert found.standard_error == pytest.approx(float(per_step.std()) / 2)
    assert (found.num_steps, found.normalisation) == (int(LENGTHS.sum()), "sequence")
    assert found.nats_per_step != pytest.approx(evaluate(model, x, LENGTHS).nats_per_step, rel=1e-3)


@every_exact_law
def test_without_the_first_frame_exact_is_the_conditional_likelihood(name: str, family: Any) -> None:
    model, x = make_model(name, family), ragged(family, LENGTHS)
    found = evaluate(model, x, LENGTHS, normalisation="skip-first")
    expected = torch.stack(
        [
            (model.log_prob(row[None, :n]) - model.log_prob(row[None, :1]))[0]
            for row, n in zip(x, LENGTHS.tolist(), strict=True)
        ]
    )
    torch.testing.assert_close(found.log_likelihoods, expected.detach())
    assert found.num_steps == int(LENGTHS.sum()) - 4
    assert found.nats_per_step == pytest.approx(-float(expected.detach().sum()) / found.num_steps)


@every_random_bound
def test_without_the_first_frame_a_bound_leaves_out_what_the_first_step_adds(bound: str) -> None:
    """With many particles all but the ELBO tend to log p(x) - log p(x_1); the ELBO keeps to its own terms."""
    model = scalar_network()
    x = sequences(model)
    found = evaluate(model, x, LENGTHS, bound=bound, num_particles=20_000, normalisation="skip-first", seed=3)
    if bound == "elbo":
        log_w, first = bounds.log_weights_after_first(model, x, LENGTHS, num_particles=20_000, seed=5)
        later = (log_w - first).detach().mean(0)
        torch.testing.assert_close(found.log_likelihoods, later, rtol=0.05, atol=0.05)
    else:
        exact = -float((log_p(model, x) - by_quadrature(model, x[:, :1])).sum().detach()) / found.num_steps
        assert abs(score(found, exact)) < LIMIT
        assert abs(score(found, exact + 0.1)) > LIMIT
    assert found.num_steps == int(LENGTHS.sum()) - 4
    assert abs(float(found.log_likelihoods[1])) < 1e-12  # a sequence of one step


def test_the_elbo_without_the_first_frame_is_the_sum_of_its_later_terms() -> None:
    """One draw, its terms written out for t = 2..T."""
    model, x = scalar_network(), sequences(scalar_network())
    log_w, first = bounds.log_weights_after_first(model, x, num_particles=1, seed=0)
    trace, _ = bounds._traces(model, as_sequences(x))
    assert trace.nodes["z"]["value"].shape == (4, 6, 1)
    z = bounds._weighed(model, as_sequences(x), 1, 0)[1]
    assert z is not None
    h = memory_of(model).unroll(x, z[0])
    terms = model.emission(z[0], h).log_prob(x)  # the guide is the model's own law of the states
    torch.testing.assert_close(log_w[0] - first[0], terms[:, 1:].sum(-1))
    torch.testing.assert_close(first[0], terms[:, 0])


def test_a_model_that_conditions_on_the_first_frame_skips_it_anyway() -> None:
    model, x = make_rnn("gru", Gaussian(2), first="condition"), ragged(Gaussian(2), LENGTHS)
    both = [evaluate(model, x, LENGTHS, normalisation=name) for name in ("sum", "skip-first")]
    assert both[0].nats_per_step == both[1].nats_per_step
    assert both[0].num_steps == both[1].num_steps


def test_a_mean_over_sequences_leaves_out_those_without_a_step() -> None:
    model, x = make_rnn("gru", Gaussian(2), first="condition"), ragged(Gaussian(2), LENGTHS)
    longer = LENGTHS > 1
    found = evaluate(model, x, LENGTHS, normalisation="sequence")
    assert found.nats_per_step == pytest.approx(
        evaluate(model, x[longer], LENGTHS[longer], normalisation="sequence").nats_per_step
    )


# Errors of the estimate.


@pytest.mark.slow
@every_random_bound
@pytest.mark.parametrize("normalisation", ["sum", "sequence", "skip-first"])
def test_the_monte_carlo_error_is_the_spread_over_seeds(bound: str, normalisation: str) -> None:
    model = scalar_network()
    x = sequences(model).repeat(10, 1, 1)
    runs = [
        evaluate(model, x, LENGTHS.repeat(10), bound=bound, num_particles=50, normalisation=normalisation, seed=seed)
        for seed in range(40)
    ]
    spread = float(torch.tensor([run.nats_per_step for run in runs]).std())
    claimed = math.sqrt(sum(run.monte_carlo_error**2 for run in runs) / len(runs))
    # a standard deviation's own error is 1 / sqrt(2 n); the delta method's bias is of the order of 1 / K
    assert abs(claimed / spread - 1) < LIMIT / math.sqrt(2 * 39) + 0.1


@pytest.mark.parametrize("bound", ["elbo", "iwae", "importance"])
def test_one_particle_has_no_error(bound: str) -> None:
    model = scalar_network()
    found = evaluate(model, sequences(model), LENGTHS, bound=bound, num_particles=1)
    assert math.isnan(found.monte_carlo_error)
    assert math.isfinite(found.standard_error)


@pytest.mark.slow
@torch.no_grad()
def test_few_effective_particles_give_away_an_error_that_is_too_small() -> None:
    model = scalar_network()
    x = model.sample(20, 60, seed=0).x
    exact = -float(by_quadrature(model, x[:4]).sum()) / (4 * 60)
    short = evaluate(model, x[:, :2], bound="importance", num_particles=100)
    long = evaluate(model, x[:4], bound="importance", num_particles=100)
    assert short.effective_particles > 10 > 3 > long.effective_particles >= 1
    assert score(long, exact) > LIMIT
    assert math.isnan(evaluate(model, x, bound="fivo", num_particles=5).effective_particles)


# The run.


@every_random_bound
def test_particles_and_sequences_are_taken_in_parts_where_they_are_many(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = scalar_network()
    x = sequences(model)
    whole = evaluate(model, x, LENGTHS, bound=bound, num_particles=2_000)
    monkeypatch.setattr(evaluation, "MAX_STATES", 24 * 300)
    sizes: list[int] = []
    program = model.guide

    def guide(data: Sequences, **options: Any) -> Any:
        sizes.append(data.x.shape[:2].numel())
        return program(data, **options)

    object.__setattr__(model, "guide", guide)
    parts = evaluate(model, x, LENGTHS, bound=bound, num_particles=2_000)
    assert max(sizes, default=0) <= 24 * 300
    assert len(sizes) == (0 if bound == "fivo" else 7)
    error = math.hypot(whole.monte_carlo_error, parts.monte_carlo_error)
    assert abs(whole.nats_per_step - parts.nats_per_step) < LIMIT * error


@every_random_bound
def test_the_same_seed_gives_the_same_number_and_leaves_the_random_state(bound: str) -> None:
    model = scalar_network()
    x, before = sequences(model), torch.get_rng_state()
    first, again, other = (evaluate(model, x, LENGTHS, bound=bound, num_particles=8, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.log_likelihoods, again.log_likelihoods)
    assert not torch.equal(first.log_likelihoods, other.log_likelihoods)
    assert torch.equal(torch.get_rng_state(), before)
    assert not first.log_likelihoods.requires_grad


def test_a_single_sequence_of_one_step_has_every_bound() -> None:
    model = scalar_network()
    x = sequences(model)[:1, :1]
    for bound in RANDOM:
        found = evaluate(model, x, bound=bound, num_particles=4)
        assert math.isfinite(found.nats_per_step)
        assert math.isnan(found.standard_error)


# Bad input.


def test_bad_input_is_an_error() -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"expected a guide over .*, the support of the model's states, got"):
        evaluate(Positive(), x)
    with pytest.raises(ValueError, match="expected a proposal over"):
        evaluate(Positive(), x, bound="fivo")
    with pytest.raises(TypeError, match="expected a model with latent states for smc, RNN has none"):
        evaluate(make_rnn("gru", Gaussian()), x, bound="fivo")
    with pytest.raises(ValueError, match="expected num_particles to be an integer of at least 1, got 0"):
        evaluate(LatentToy(), x, num_particles=0)
    with pytest.raises(ValueError, match="got only first ones, which are skipped"):
        evaluate(LatentToy(), x[:, :1], normalisation="skip-first")
    with pytest.raises(ValueError, match="at least one sequence and one step"):
        evaluate(LatentToy(), torch.zeros(0, 3))
    with pytest.raises(ValueError, match="got nan in sequence 1 at step 3"):
        evaluate(LatentToy(), torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, math.nan]]))
    with pytest.raises(TypeError, match="expected a SequenceModel, such as RNN or HMM, got str"):
        evaluate("rnn", x)  # type: ignore[arg-type]
