"""Structured mean field and Gibbs sampling of several chains, beside what is exact."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, FullGaussian, Gaussian
from pgm_rnn.inference import forward_backward, gibbs, mean_field
from pgm_rnn.inference.mean_field.evidence import OfAllValues, OfNormal, evidence_of
from pgm_rnn.models import HMM, FactorialHMM
from pgm_rnn.models.additive import AdditiveEmission
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequence_model.products import product_of
from pgm_rnn.sequences import Sequences, length_mask
from tests.own_models import SwitchingAR

LENGTHS = torch.tensor([6, 1, 4])


def made(sizes: tuple[int, ...] = (2, 3), family: Emission | None = None, effects: str = "additive") -> FactorialHMM:
    family = Gaussian(2) if family is None else family
    return FactorialHMM.random(len(sizes), sizes, effects=effects, emission=family, seed=0).double()


def additive(model: FactorialHMM) -> AdditiveEmission:
    assert isinstance(model.emission_law, AdditiveEmission)
    return model.emission_law


def data_of(model: FactorialHMM, seed: int = 1) -> Sequences:
    return Sequences(model.sample(3, 6, seed=seed).x, LENGTHS)


def with_gaps(data: Sequences) -> Sequences:
    """The data without one whole observation and, in vectors, without one entry."""
    x = data.x.clone()
    x[0, 2] = math.nan
    if x.dim() == 3:
        x[2, 1, 0] = math.nan
    return Sequences(x, data.lengths)


every_kind = pytest.mark.parametrize(
    "model",
    [
        made(),
        made((2, 2, 2), FullGaussian(2)),
        made((2, 3), Gaussian()),
        made((2, 3), Bernoulli(2)),
        made((3, 2), Categorical(4), "joint"),
    ],
    ids=["reals", "full", "real", "bits", "table"],
)


def bound_by_definition(model: FactorialHMM, data: Sequences, found: mean_field.MeanField) -> Tensor:
    """E_q[log p(x, z) - log q(z)] by a sum over all paths, with q the product of chains given by its marginals.

    A Markov chain with the marginals and moves of one sequence is q_m itself, so that there must be one sequence.
    """
    length = int(data.lengths[0])
    values = torch.arange(model.states.num_states)
    paths = torch.cartesian_prod(*[values] * length).reshape(-1, length)
    x = data.x[:1, :length].expand(len(paths), *data.x.shape[1:2][:0], length, *data.x.shape[2:])
    joint = model.log_prob(x, paths)
    log_q = torch.zeros(len(paths), dtype=torch.float64)
    for m, states in enumerate(model.states.split(paths)):
        log_q = log_q + log_prob_of_chain(model, data, found, m, states)
    q = log_q.exp()
    assert float(q.sum()) == pytest.approx(1.0, abs=1e-9)
    return (q * (joint - log_q).where(q > 0, 0.0)).sum()


def log_prob_of_chain(
    model: FactorialHMM, data: Sequences, found: mean_field.MeanField, m: int, states: Tensor
) -> Tensor:
    """log q_m of paths: proportional to p(z^m) times the evidence that the other chains' beliefs leave to it."""
    beliefs = found.smoothed_probs
    logs = evidence_of(model, data).given_others(m, beliefs)[0]
    start, moves = model.initial_probs[m].log(), model.transition_probs[m].log()
    value = start[states[:, 0]] + moves[states[:, :-1], states[:, 1:]].sum(1)
    value = value + logs[torch.arange(states.shape[1]), states].sum(1)
    size, length = model.sizes[m], states.shape[1]
    every = torch.cartesian_prod(*[torch.arange(size)] * length).reshape(-1, length)
    total = start[every[:, 0]] + moves[every[:, :-1], every[:, 1:]].sum(1)
    total = total + logs[torch.arange(length), every].sum(1)
    return value - total.logsumexp(0)


@every_kind
@torch.no_grad()
def test_the_bound_is_its_definition(model: FactorialHMM) -> None:
    data = Sequences(data_of(model).x[:1, :4], torch.tensor([4]))
    found = mean_field.smooth(model, data, num_sweeps=500, tolerance=0)
    assert float(found.bound) == pytest.approx(float(bound_by_definition(model, data, found)), abs=1e-7)


@pytest.mark.parametrize("gaps", [False, True])
@every_kind
@torch.no_grad()
def test_the_bound_is_below_the_likelihood_and_rises_with_each_sweep(model: FactorialHMM, gaps: bool) -> None:
    data = with_gaps(data_of(model)) if gaps and model.family.continuous else data_of(model)
    exact = model.log_prob(data)
    bounds = [mean_field.smooth(model, data, num_sweeps=num, tolerance=0).bound for num in (1, 2, 3, 10)]
    assert bool((torch.stack(bounds).diff(dim=0) > -1e-10).all())
    assert bool((bounds[-1] < exact + 1e-10).all())
    assert float((exact - bounds[-1]).max()) > 1e-4  # the chains do depend on each other


@torch.no_grad()
def test_a_bound_of_wrong_parameters_would_be_seen() -> None:
    """The bound is close enough that it lies above the likelihood of a model that fits worse."""
    model, other = made(), made()
    data = data_of(model)
    additive(other).effects[1].add_(1.0)
    bound = mean_field.smooth(model, data).bound.sum()
    assert float(other.log_prob(data).sum()) < float(bound) < float(model.log_prob(data).sum())


@torch.no_grad()
def test_one_chain_is_exact() -> None:
    model = made((3,))
    data = with_gaps(data_of(model))
    found, exact = mean_field.smooth(model, data), forward_backward.smooth(model, data)
    torch.testing.assert_close(found.bound, exact.log_marginal_likelihood)
    torch.testing.assert_close(found.smoothed_probs[0], exact.smoothed_probs)
    two = made((3, 1))
    torch.testing.assert_close(mean_field.smooth(two, data).bound, two.log_prob(data))


@pytest.mark.parametrize("model", [made(), made((2, 2, 2), FullGaussian(2)), made((2, 3), Gaussian())], ids=str)
@torch.no_grad()
def test_the_evidence_of_normal_laws_is_the_sum_over_all_values(model: FactorialHMM) -> None:
    data = checked(model, with_gaps(data_of(model)))
    beliefs = [torch.rand(3, 6, size, dtype=torch.float64).softmax(-1) for size in model.sizes]
    product = product_of(model, data)
    ours = evidence_of(model, data)
    theirs = OfAllValues(product.log_emission.where(length_mask(LENGTHS, 6)[..., None], 0.0), product.sizes)
    assert isinstance(ours, OfNormal)
    torch.testing.assert_close(ours.expected(beliefs), theirs.expected(beliefs))
    for m in range(len(beliefs)):
        found, expected = (each.given_others(m, beliefs).log_softmax(-1) for each in (ours, theirs))
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("family", [Gaussian(2), FullGaussian(2), Gaussian()], ids=str)
def test_the_fit_raises_its_bound_and_ends_where_gradients_of_the_bound_vanish(family: Emission) -> None:
    truth = made((2, 2), family)
    data = Sequences(truth.sample(5, 40, seed=3).x, torch.full((5,), 40))
    model = FactorialHMM.random(2, 2, emission=family, seed=7).double()
    found = mean_field.fit(model, data, num_iterations=60)
    assert bool((found.bounds.diff() > -1e-8).all())
    assert float(found.bounds[-1] - found.bounds[0]) > 10
    assert float(found.bounds[-1]) < float(model.log_prob(data).sum().detach())
    with torch.no_grad():
        additive(model).effects[0][0].add_(0.05)
        moved = mean_field.smooth(model, data).bound.sum()
    assert float(moved) < float(found.bounds[-1])


def test_many_chains_that_cannot_be_summed_over() -> None:
    """25 switches have 2^25 values; the exact engines say why they stop."""
    torch.manual_seed(0)
    num, moves = 25, torch.tensor([[0.95, 0.05], [0.05, 0.95]])
    loc = [torch.stack([torch.zeros(40), 2 * torch.randn(40)]) for _ in range(num)]
    law = AdditiveEmission.normal(loc, scale=torch.full((40,), 0.3))
    model = FactorialHMM([torch.tensor([0.5, 0.5])] * num, [moves] * num, law).double()
    data = model.sample(2, 30, seed=0)
    found = mean_field.smooth(model, data.x)
    assert data.z is not None
    states = torch.stack(model.states.split(data.z), -1)
    probs = torch.stack([part[..., 1] for part in found.smoothed_probs], -1)
    assert float(((probs > 0.5) == (states == 1)).double().mean()) > 0.95
    assert not model.exact
    with pytest.raises(TypeError, match="too many to sum over; use mean_field, gibbs or smc"):
        forward_backward.smooth(model, data.x)
    drawn = gibbs.sample_states(model, data.x, num_samples=3, num_burn_in=20, seed=0)
    right = torch.stack(model.states.split(drawn), -1) == states
    assert float(right.double().mean()) > 0.9


@every_kind
@torch.no_grad()
def test_gibbs_draws_have_the_exact_marginals(model: FactorialHMM) -> None:
    """Copies of the sequences have draws of their own, so that the spread between copies gives standard errors."""
    check_marginals(model, data_of(model))


@torch.no_grad()
def test_gibbs_draws_of_sequences_with_gaps_have_the_exact_marginals() -> None:
    check_marginals(made(), with_gaps(data_of(made())))


def check_marginals(model: FactorialHMM, data: Sequences, copies: int = 400) -> None:
    many = Sequences(data.x.repeat(copies, *[1] * (data.x.dim() - 1)), data.lengths.repeat(copies))
    drawn = gibbs.sample_states(model, many, num_samples=10, num_burn_in=15, seed=0)
    hits = nn.functional.one_hot(drawn.clamp(min=0), model.states.num_states).double().mean(0)
    hits = hits.unflatten(0, (copies, -1))  # (copies, B, T, N)
    error = hits.std(0) / copies**0.5 + 1 / (10 * copies)
    exact, inside = forward_backward.smooth(model, data), length_mask(LENGTHS, 6)
    apart = ((hits.mean(0) - exact.smoothed_probs).abs() / error)[inside]
    assert float(apart.max()) < 5
    filtered = ((hits.mean(0) - exact.filtered_probs).abs() / error)[inside]
    assert float(filtered.max()) > 8  # a kernel that forgot the future would be seen
    assert bool((drawn[:, ~inside.repeat(copies, 1)] == -1).all())


def test_a_seed_makes_draws_reproducible() -> None:
    model = made()
    data = data_of(model)
    first, again, other = (gibbs.sample_states(model, data, num_samples=5, seed=s) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("engine", [mean_field.smooth, gibbs.sample_states])
def test_models_that_do_not_fit_are_named(engine: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a model with several chains \(ProductStates\)"):
        engine(HMM.random(2, 3), torch.zeros(1, 3, dtype=torch.long))
    with pytest.raises(TypeError, match=r"expected a model with several chains \(ProductStates\)"):
        engine(SwitchingAR(), torch.zeros(1, 3, 1))
    with pytest.raises(ValueError, match="expected a model with first='model'"):
        engine(FactorialHMM.random(2, 2, 3, first="condition"), torch.zeros(1, 3, dtype=torch.long))


def test_options_out_of_range_are_named() -> None:
    model = made()
    data = data_of(model)
    with pytest.raises(ValueError, match="num_sweeps"):
        mean_field.smooth(model, data, num_sweeps=0)
    with pytest.raises(ValueError, match="expected tolerance of at least 0"):
        mean_field.smooth(model, data, tolerance=-1.0)
    with pytest.raises(ValueError, match="expected num_burn_in of at least 0"):
        gibbs.sample_states(model, data, num_burn_in=-1)
    with pytest.raises(TypeError, match="expected additive normal laws to fit"):
        mean_field.fit(made((2, 2), Bernoulli(2)), data_of(made((2, 2), Bernoulli(2))))
    with pytest.raises(ValueError, match="partly missing"):
        mean_field.fit(model, with_gaps(data))
    many = FactorialHMM.random(21, 2, emission=Bernoulli(2), seed=0)
    with pytest.raises(TypeError, match="expected a model with additive normal observations, or fewer values"):
        mean_field.smooth(many, torch.zeros(1, 2, 2))
