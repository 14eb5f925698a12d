"""The hidden semi-Markov model: its laws are those of its tables, under every engine."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import em, forward_backward, smc, svi
from pgm_rnn.models import HMM, HSMM
from pgm_rnn.models.durations import (
    KINDS,
    CategoricalDurations,
    Durations,
    GeometricDurations,
    NegativeBinomialDurations,
    PoissonDurations,
    random_durations,
)
from tests.definitions import all_words
from tests.kernels.test_hsmm import Chain, joint_probs

LENGTHS = torch.tensor([6, 1, 4])


def example(num_states: int = 3, max_duration: int = 3, kind: str = "categorical", seed: int = 0) -> HSMM:
    return HSMM.random(num_states, 4, max_duration, durations=kind, seed=seed)


def words(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(4, shape, generator=torch.Generator().manual_seed(seed))


def tables(model: HSMM, x: Tensor) -> Chain:
    with torch.no_grad():
        seen = model.emission_table.log_probs(x)
        return Chain(model.initial_probs, model.transition_probs, model.duration_probs, seen)


@torch.no_grad()
def test_the_joint_density_is_that_of_the_segments() -> None:
    model, x = example(), words(1, 5)
    joint = joint_probs(tables(model, x), 0, 5)
    paths = all_words(3, 5)
    found = model.log_prob(x.expand(len(paths), -1), paths).exp()
    expected = torch.tensor([joint[tuple(path)] for path in paths.tolist()], dtype=found.dtype)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(found.sum(), model.log_prob(x)[0].exp())
    given = model.log_prob(x.expand(len(paths), -1), paths, first="condition").exp().sum()
    torch.testing.assert_close(given, model.log_prob(x, first="condition")[0].exp())
    longer = joint_probs(tables(model, x), 0, 5, late=1)  # a control: durations that are one step off
    assert sum(longer.values()) != pytest.approx(float(found.sum()), rel=1e-3)


@torch.no_grad()
def test_geometric_durations_make_a_hidden_markov_model() -> None:
    model = HSMM.random(3, 4, 200, durations="geometric", seed=1).double()
    model.durations.stay_logits.copy_(torch.tensor([0.0, 1.0, -0.5]))  # type: ignore[operator]
    stay = model.durations.stay_logits.sigmoid()  # type: ignore[operator]
    moves = torch.diag(stay) + (1 - stay)[:, None] * model.transition_probs
    hmm, x = HMM(model.initial_probs, moves, model.emission_probs), words(3, 30)
    lengths = torch.tensor([30, 1, 12])
    torch.testing.assert_close(model.log_prob(x, lengths=lengths), hmm.log_prob(x, lengths=lengths))
    ours, theirs = forward_backward.smooth(model, x, lengths), forward_backward.smooth(hmm, x, lengths)
    for name in ("filtered_probs", "predicted_probs", "smoothed_probs", "log_normalizers"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    a, b = (forward_backward.most_likely_states(m, x, lengths) for m in (model, hmm))
    assert torch.equal(a.states, b.states)
    torch.testing.assert_close(a.log_prob, b.log_prob)
    next_a, next_b = (forward_backward.predict(m, x, lengths) for m in (model, hmm))
    torch.testing.assert_close(next_a.log_prob(x)[0], next_b.log_prob(x)[0])


@torch.no_grad()
def test_missing_observations_are_summed_out() -> None:
    model, x = example(), words(1, 4)
    mask = torch.tensor([[True, False, True, True]])
    filled = x.repeat(4, 1)
    filled[:, 1] = torch.arange(4)
    expected = model.log_prob(filled).logsumexp(0)
    torch.testing.assert_close(model.log_prob(x, mask=mask)[0], expected)
    gaussian = HSMM.random(2, max_duration=3, emission=Gaussian(2), seed=0)
    row = torch.randn(1, 4, 2)
    row[0, 1], row[0, 2, 0] = torch.nan, torch.nan
    assert bool(gaussian.log_prob(row).isfinite().all())
    torch.testing.assert_close(gaussian.log_prob(row), gaussian.log_prob(row.nan_to_num(), mask=~row.isnan()))


@torch.no_grad()
def test_draws_have_the_laws_of_the_tables() -> None:
    model = example(max_duration=4)
    drawn = model.sample(num_sequences=2000, num_steps=12, seed=0)
    assert drawn.z is not None
    first, spells = torch.zeros(3), torch.zeros(3, 4)
    for path in drawn.z.tolist():
        segments = [(k, len(list(group))) for k, group in itertools.groupby(path)]
        first[segments[0][0]] += 1
        state, steps = segments[0]
        assert steps <= 4
        spells[state, steps - 1] += 1
    share, probs = first / 2000, model.initial_probs
    assert bool(((share - probs).abs() < 4.5 * (probs * (1 - probs) / 2000).sqrt()).all())
    for k in range(3):
        total = spells[k].sum()
        error = (spells[k] / total - model.duration_probs[k]).abs()
        assert bool((error < 4.5 * (model.duration_probs[k] / total).sqrt() + 1e-6).all())


@torch.no_grad()
def test_forecasts_continue_the_segment_that_runs() -> None:
    rates = torch.eye(2)
    sure = CategoricalDurations(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))
    model = HSMM(torch.tensor([1.0, 0.0]), 1 - torch.eye(2), sure, rates)
    found = model.forecast(torch.tensor([[0, 0, 0, 1], [0, 0, 0, 0]]), 5, lengths=torch.tensor([4, 2]), seed=0)
    assert found.x.tolist() == [[1, 1, 0, 0, 0], [0, 1, 1, 1, 0]]
    paths = forward_backward.sample_states(model, torch.tensor([[0, 0, 0, 1]]), num_samples=2, seed=0)
    assert paths.tolist() == [[[0, 0, 0, 1]], [[0, 0, 0, 1]]]


@torch.no_grad()
def test_a_particle_filter_estimates_the_same_likelihood() -> None:
    model, x = example(), words(2, 6)
    runs = [smc.filter(model, x, num_particles=500, seed=seed).log_marginal_likelihood for seed in range(20)]
    ratios = (torch.stack(runs) - model.log_prob(x)).exp()
    error = ratios.std(0) / math.sqrt(20)
    assert bool(((ratios.mean(0) - 1).abs() < 4 * error).all())


@pytest.mark.parametrize("kind", KINDS)
def test_em_ascends_and_agrees_with_gradients(kind: str) -> None:
    truth = example(max_duration=5, kind=kind, seed=3).double()
    data = truth.sample(num_sequences=6, num_steps=40, seed=1)
    model = example(max_duration=5, kind=kind, seed=4).double()
    fit = em.fit(model, data.x, num_iterations=15, start="model", progress=False)
    gains = fit.log_likelihoods.diff()
    assert bool((gains > -1e-8).all())
    assert float(gains[0]) > 1e-3
    assert fit.stopped_by in ("num_iterations", "tolerance")
    torch.testing.assert_close(model.log_prob(data.x).sum().detach(), fit.log_likelihood)
    assert bool((model.transition_probs.diagonal() == 0).all())


def test_em_recovers_durations() -> None:
    emission = Gaussian().table(loc=torch.tensor([-3.0, 3.0]), scale=torch.tensor([1.0, 1.0]))
    truth = HSMM(torch.ones(2) / 2, 1 - torch.eye(2), PoissonDurations(torch.tensor([4.0, 12.0]), 40), emission)
    data = truth.sample(num_sequences=20, num_steps=200, seed=0)
    start = HSMM.random(2, max_duration=40, durations="poisson", emission=Gaussian(), seed=1)
    em.fit(start, data.x, num_iterations=60, progress=False)
    rates = start.durations.log_rates.exp().detach()  # type: ignore[operator]
    order = start.emission_table.params[:, 0].argsort()
    torch.testing.assert_close(rates[order], torch.tensor([4.0, 12.0]), rtol=0.1, atol=0.0)


def test_em_keeps_frozen_parts_and_improves_validation_choice() -> None:
    model, x = example().double(), words(4, 20)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    em.fit(model, x, num_iterations=3, start="model", frozen=["durations", "emission"], progress=False)
    for name, value in model.named_parameters():
        same = torch.equal(value, before[name])
        assert same == (name.startswith(("durations", "emission"))), name
    fit = em.fit(model, x, valid=words(2, 20, seed=5), num_iterations=3, num_restarts=3, progress=False)
    assert fit.restarts.log_likelihoods.shape == (3,)


@pytest.mark.parametrize("by_entry", [False, True])
def test_em_takes_gaps_and_sequences_that_are_given_their_first_step(by_entry: bool) -> None:
    model, x = HSMM.random(2, max_duration=3, emission=Gaussian(2), seed=0), torch.randn(3, 12, 2)
    x[:, 4] = torch.nan
    if by_entry:
        x[:, 7, 0] = torch.nan
    given = HSMM.random(2, max_duration=3, emission=Gaussian(2), seed=0, first="condition")
    for one in (model, given):
        fit = em.fit(one, x, num_iterations=4, start="model", progress=False)
        assert bool((fit.log_likelihoods.diff() > -1e-8).all())
        torch.testing.assert_close(one.log_prob(x).sum().detach(), fit.log_likelihood)


def test_gradient_steps_raise_the_likelihood() -> None:
    model, x = example(max_duration=4), words(8, 15)
    before = float(model.log_prob(x).sum().detach())
    svi.fit(model, x, objective="mle", num_epochs=20, learning_rate=0.05, progress=False)
    assert float(model.log_prob(x).sum().detach()) > before + 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_of_durations_is_a_maximum(kind: str) -> None:
    torch.manual_seed(0)
    laws = random_durations(kind, 3, 12).double()
    counts = 100 * random_durations(kind, 3, 12).double().probs().detach()
    counts[2] = 0
    kept = laws.probs()[2].detach().clone()
    laws.fit(counts)
    torch.testing.assert_close(laws.probs()[2], kept)
    value = (counts * laws.log_probs()).sum()
    for gradient in torch.autograd.grad(value, list(laws.parameters())):
        assert float(gradient.abs().max()) < 1e-3
    fitted = laws.probs()[:2]
    torch.testing.assert_close(fitted, counts[:2] / 100, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("laws", "expected"),
    [
        (GeometricDurations(torch.tensor([0.5]), 3), [4 / 7, 2 / 7, 1 / 7]),
        (PoissonDurations(torch.tensor([2.0]), 3), [1 / 5, 2 / 5, 2 / 5]),
        (NegativeBinomialDurations(torch.tensor([2.0]), torch.tensor([0.5]), 3), [4 / 11, 4 / 11, 3 / 11]),
    ],
)
def test_laws_of_durations_are_their_formulas(laws: Durations, expected: list[float]) -> None:
    torch.testing.assert_close(laws.probs()[0].detach().tolist(), expected)


def test_a_model_comes_back_from_its_recipe() -> None:
    for kind in KINDS:
        model = example(kind=kind)
        name, sizes = model.recipe
        assert name == "hsmm"
        again = HSMM.random(**sizes, emission=model.family)
        again.load_state_dict(model.state_dict())
        torch.testing.assert_close(again.log_prob(words(1, 5)), model.log_prob(words(1, 5)))


def test_what_does_not_fit_is_one_sentence() -> None:
    start, moves, emission = torch.ones(2) / 2, 1 - torch.eye(2), torch.ones(2, 3) / 3
    given: dict[str, Any] = {
        "initial_probs": start, "transition_probs": moves, "durations": torch.ones(2, 5) / 5, "emission": emission
    }  # fmt: skip
    HSMM(**given)
    with pytest.raises(ValueError, match="expected durations of at most max_duration = 3 steps, got laws up to 5"):
        HSMM(**given, max_duration=3)
    with pytest.raises(ValueError, match="expected each row of durations to sum to one, got a sum of"):
        HSMM(**{**given, "durations": torch.ones(2, 5) / 6})
    with pytest.raises(ValueError, match="expected each row of transition_probs to sum to one"):
        HSMM(**{**given, "transition_probs": moves / 2})
    with pytest.raises(
        ValueError, match=r"expected zeros on the diagonal of transition_probs, .* got 0\.5 for state 0"
    ):
        HSMM(**{**given, "transition_probs": torch.ones(2, 2) / 2})
    with pytest.raises(ValueError, match="expected max_duration to be an integer of at least 1, got 0"):
        HSMM(**{**given, "durations": torch.ones(2, 0)})
    with pytest.raises(ValueError, match="expected max_duration to be an integer of at least 1, got 0"):
        PoissonDurations(torch.ones(2), 0)
    with pytest.raises(ValueError, match="expected num_states of at least 2"):
        HSMM.random(1, 3)
    with pytest.raises(ValueError, match="expected durations for 2 states, got them for 3"):
        HSMM(**{**given, "durations": torch.ones(3, 5) / 5})
    with pytest.raises(ValueError, match="expected stay_probs between 0 and 1"):
        GeometricDurations(torch.ones(2), 4)
