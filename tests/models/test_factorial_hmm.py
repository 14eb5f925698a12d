"""The factorial HMM, and models of a reader's own with several chains: sums over paths, one chain over all values."""

import itertools
import math
from typing import Any
from unittest.mock import Mock

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.infer import TraceEnum_ELBO
from torch import Tensor, nn

import pgm_rnn as pr
from pgm_rnn.distributions import ProductOfCategoricals
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, FullGaussian, Gaussian, Poisson, StudentT
from pgm_rnn.inference import em, forward_backward, mcmc, smc
from pgm_rnn.inference.em.ascent import ascend
from pgm_rnn.kernels import bits, factorial
from pgm_rnn.models import HMM, FactorialHMM
from pgm_rnn.models.additive import AdditiveEmission
from pgm_rnn.sequence_model import SequenceModel, state_laws
from pgm_rnn.sequence_model.expected import expect, expected_log_density
from pgm_rnn.sequence_model.products import product_of
from pgm_rnn.sequence_model.tables import tables_of
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import FiniteStates, ProductStates
from tests.instances import gradients

LENGTHS = torch.tensor([4, 1, 3])


def made(sizes: tuple[int, ...] = (2, 3), family: Emission | None = None, effects: str = "additive") -> FactorialHMM:
    family = Gaussian(2) if family is None else family
    return FactorialHMM.random(len(sizes), sizes, effects=effects, emission=family, seed=0).double()


def data_of(model: SequenceModel) -> Sequences:
    drawn = model.sample(3, 4, seed=1)
    return Sequences(drawn.x, LENGTHS)


def additive(model: FactorialHMM) -> AdditiveEmission:
    assert isinstance(model.emission_law, AdditiveEmission)
    return model.emission_law


def total(model: SequenceModel, data: Sequences) -> float:
    return float(model.log_marginal_likelihood(data).sum().detach())


def log_joint(model: FactorialHMM, x: Tensor, path: tuple[tuple[int, ...], ...]) -> Tensor:
    """log p(x_{1:T}, z_{1:T}) of one sequence and one path, a sum of logarithms over steps and chains."""
    value = torch.zeros((), dtype=torch.float64)
    for t, states in enumerate(path):
        for m, k in enumerate(states):
            row = model.initial_probs[m] if t == 0 else model.transition_probs[m][path[t - 1][m]]
            value = value + row[k].log()
        value = value + law_of(model, states).log_prob(x[t])
    return value


def law_of(model: FactorialHMM, states: tuple[int, ...]) -> TorchDistribution:
    """p(x | z^1, ..., z^M) from the parameters themselves."""
    law = model.emission_law
    if isinstance(law, AdditiveEmission):
        total = sum(effects[k] for effects, k in zip(law.effects, states, strict=True))
        assert isinstance(total, Tensor)
        return law.family.distribution(total if law.common is None else torch.cat([total, law.common]))
    number = 0
    for size, k in zip(model.sizes, states, strict=True):
        number = number * size + k
    return law.family.distribution(law.params[number])


def all_paths(sizes: tuple[int, ...], length: int) -> Any:
    return itertools.product(itertools.product(*[range(size) for size in sizes]), repeat=length)


def expanded(model: FactorialHMM) -> HMM:
    """The same law as a hidden Markov model over all combinations of states."""
    start, table = torch.ones(1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    for row, moves in zip(model.initial_probs, model.transition_probs, strict=True):
        start, table = torch.kron(start, row), torch.kron(table, moves)
    law = model.emission_law
    rows = law.params_at(torch.arange(model.states.num_states)) if isinstance(law, AdditiveEmission) else law.params
    emission = model.family.random_table(model.states.num_states).double()
    with torch.no_grad():
        emission.params.copy_(rows)
    return HMM(start.detach(), table.detach(), emission)


every_kind = pytest.mark.parametrize(
    "model",
    [
        made(),
        made((3,)),
        made((2, 2, 2), Bernoulli(2)),
        made((2, 3), Categorical(3)),
        made((2, 3), Categorical(3), "joint"),
        made((2, 2), FullGaussian(2)),
        made((2, 2), Poisson()),
        made((2, 2), StudentT()),
        made((2, 2), Gaussian(), "joint"),
    ],
    ids=["reals", "one chain", "bits", "symbols", "table", "full", "counts", "student", "normal table"],
)


@every_kind
@torch.no_grad()
def test_the_likelihood_is_the_sum_over_all_paths(model: FactorialHMM) -> None:
    data = data_of(model)
    found = model.log_prob(data)
    for b, length in enumerate(LENGTHS.tolist()):
        terms = torch.stack([log_joint(model, data.x[b], path) for path in all_paths(model.sizes, length)])
        torch.testing.assert_close(found[b], terms.logsumexp(0), rtol=1e-12, atol=1e-10)
    other = model.log_prob(data.x.flip(1), lengths=LENGTHS)
    assert float((found - other).abs().max()) > 1e-4


@every_kind
def test_posteriors_are_those_of_the_expanded_chain(model: FactorialHMM) -> None:
    data, whole = data_of(model), expanded(model)
    ours, theirs = forward_backward.smooth(model, data), forward_backward.smooth(whole, data)
    torch.testing.assert_close(ours.log_normalizers, theirs.log_normalizers)
    torch.testing.assert_close(ours.filtered_probs, theirs.filtered_probs)
    torch.testing.assert_close(ours.predicted_probs, theirs.predicted_probs)
    torch.testing.assert_close(ours.smoothed_probs, theirs.smoothed_probs)
    assert isinstance(ours, forward_backward.SmoothedProduct)
    for m, (probs, moves) in enumerate(zip(ours.of_chains(ours.smoothed_probs), ours.chain_moves, strict=True)):
        own = model.states.split(torch.arange(model.states.num_states))[m]
        member = nn.functional.one_hot(own, model.sizes[m]).double()
        torch.testing.assert_close(probs, theirs.smoothed_probs @ member)
        torch.testing.assert_close(moves[:, 0], (member.T @ theirs.pairwise_probs @ member).sum(1))
    best, expected = forward_backward.most_likely_states(model, data), forward_backward.most_likely_states(whole, data)
    torch.testing.assert_close(best.log_prob, expected.log_prob)
    assert torch.equal(best.states, expected.states)
    ahead, theirs_ahead = forward_backward.predict(model, data), forward_backward.predict(whole, data)
    inside = data.mask[:, :3] & data.mask[:, 1:]
    torch.testing.assert_close(
        ahead.log_prob(data.x.roll(-1, 1))[:, :3][inside], theirs_ahead.log_prob(data.x.roll(-1, 1))[:, :3][inside]
    )


@pytest.mark.parametrize("sizes", [(2, 3), (6, 7)], ids=["states first", "states last"])
@torch.no_grad()
def test_densities_of_many_bits_are_those_of_a_few(sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Large tables are made by matrix products, small ones bit by bit."""
    model = made(sizes, Bernoulli(3))
    x = model.sample(3, 4, seed=1).x
    monkeypatch.setattr(bits, "log_density", counted := Mock(wraps=bits.log_density))
    for mask in (None, torch.tensor([[True, False, True, True]] * 3), torch.rand(x.shape) > 0.3):
        data = Sequences(x, LENGTHS, mask=mask)
        found = []
        for largest in (1e9, 0):
            monkeypatch.setattr(state_laws, "_LARGE", largest)
            found.append(product_of(model, data).log_emission[data.mask.reshape(3, 4, -1).any(-1)])
        torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
    assert counted.call_count == 3


@every_kind
def test_the_gradient_is_that_of_autograd_through_the_sum_over_paths(model: FactorialHMM) -> None:
    data = data_of(model)
    ours = gradients(model.log_prob(data).sum(), model)
    terms = [
        torch.stack([log_joint(model, data.x[b], path) for path in all_paths(model.sizes, min(length, 3))])
        for b, length in enumerate(LENGTHS.tolist())
    ]
    value = torch.stack([part.logsumexp(0) for part in terms])
    short = gradients(model.log_prob(data.x, lengths=LENGTHS.clamp(max=3)).sum(), model)
    for name, expected in gradients(value.sum(), model).items():
        torch.testing.assert_close(short[name], expected, rtol=1e-8, atol=1e-10)
    assert any(not torch.allclose(short[name], ours[name]) for name in ours)


@torch.no_grad()
def test_missing_entries_are_integrated_out() -> None:
    model = made()
    data = data_of(model)
    x = data.x.clone()
    x[0, 1, 0] = x[0, 2] = math.nan
    found = model.log_prob(x, lengths=LENGTHS)
    terms = []
    for path in all_paths(model.sizes, 4):
        value = torch.zeros((), dtype=torch.float64)
        for t, states in enumerate(path):
            for m, k in enumerate(states):
                row = model.initial_probs[m] if t == 0 else model.transition_probs[m][path[t - 1][m]]
                value = value + row[k].log()
            law: Any = law_of(model, states)
            each = law.base_dist.log_prob(x[0, t].nan_to_num(0.0))
            value = value + each[~x[0, t].isnan()].sum()
        terms.append(value)
    torch.testing.assert_close(found[0], torch.stack(terms).logsumexp(0))


def test_given_the_first_observation() -> None:
    model = made()
    data = data_of(model)
    expected = model.log_prob(data) - model.log_prob(data.x[:, :1])
    torch.testing.assert_close(model.log_prob(data, first="condition"), expected)


# EM.


@pytest.mark.parametrize(
    ("family", "effects"),
    [(Gaussian(2), "additive"), (FullGaussian(2), "additive"), (Bernoulli(2), "additive"), (Categorical(3), "joint")],
    ids=str,
)
def test_em_ascends_and_its_m_step_is_a_maximum(family: Emission, effects: str) -> None:
    model = made((2, 3), family, effects)
    data = model.sample(6, 30, seed=2)
    start = FactorialHMM.random(2, (2, 3), effects=effects, emission=family, seed=5).double()
    fit = em.fit(start, data, num_iterations=8, tolerance=0, progress=False)
    assert bool((fit.log_likelihoods.diff() > -1e-9 * data.num_steps).all())
    assert float(fit.log_likelihoods[-1] - fit.log_likelihoods[0]) > 1
    assert float(fit.log_likelihood) == pytest.approx(total(start, data))


def test_the_m_step_of_normal_laws_is_that_of_gradient_steps_and_of_no_other_weights() -> None:
    model, start = made((2, 3), FullGaussian(2)), made((2, 3), FullGaussian(2))
    data = model.sample(3, 20, seed=2)
    with torch.no_grad():
        for effects in additive(start).effects:
            effects.add_(0.3)
    expected: Any = expect(product_of(start, data), data.lengths)[1]

    def q(of: SequenceModel) -> Tensor:
        return expected_log_density(product_of(of, data), expected, "model")

    start.maximise(data, expected)
    value = float(q(start).detach())
    assert ascend(list(start.parameters()), lambda: q(start), data.num_steps) < 1e-6 * abs(value)
    with torch.no_grad():
        additive(start).effects[0][0].add_(0.05)
    assert float(q(start).detach()) < value - 1e-3


def test_expected_counts_of_chains_are_those_of_the_expanded_chain() -> None:
    model = made()
    data = data_of(model)
    terms, expected = expect(product_of(model, data), data.lengths)
    whole_terms, whole = expect(tables_of(expanded(model), data), data.lengths)
    torch.testing.assert_close(terms, whole_terms)
    torch.testing.assert_close(expected.states, whole.states)
    value = expected_log_density(product_of(model, data), expected, "model")
    torch.testing.assert_close(value, expected_log_density(tables_of(expanded(model), data), whole, "model"))


def test_em_finds_chains_that_add_up() -> None:
    """Two switches of effects 4 and 1, from a start near them."""
    moves = torch.tensor([[0.95, 0.05], [0.1, 0.9]])
    effects = [torch.tensor([[0.0], [4.0]]), torch.tensor([[0.0], [1.0]])]
    half, scale = torch.tensor([0.5, 0.5]), torch.tensor([0.4])
    truth = FactorialHMM([half] * 2, [moves] * 2, AdditiveEmission.normal(effects, scale=scale)).double()
    data = truth.sample(10, 300, seed=0)
    near = [torch.tensor([[0.0], [3.0]]), torch.tensor([[0.0], [1.5]])]
    start = AdditiveEmission.normal(near, scale=2 * scale)
    model = FactorialHMM([half] * 2, [moves.flip(0).flip(1)] * 2, start).double()
    em.fit(model, data, num_iterations=50, progress=False)
    found = sorted(float((part[1] - part[0]).detach().abs()) for part in additive(model).effects)
    assert found == pytest.approx([1.0, 4.0], abs=0.1)  # standard errors are about 0.4 / sqrt(1000)
    assert total(model, data) > total(truth, data)


# Engines that know nothing of chains.


def test_particles_come_close_and_a_wrong_likelihood_would_be_seen() -> None:
    model = made()
    data = data_of(model)
    found = torch.stack([smc.filter(model, data, num_particles=500, seed=s).log_marginal_likelihood for s in range(20)])
    exact, error = model.log_prob(data), found.exp().std(0) / 20**0.5
    apart = (found.exp().mean(0) - exact.exp()).abs()
    assert bool((apart < 4 * error).all())
    assert bool(((found.exp().mean(0) - (exact + 0.5).exp()).abs() > 4 * error).any())


def test_pyro_enumerates_the_unrolled_program() -> None:
    model = made((2, 2))
    data = data_of(model)

    def program(x: Tensor) -> None:
        model.model(x, LENGTHS, rendering="unrolled")

    loss = TraceEnum_ELBO(max_plate_nesting=1).loss(
        program, lambda x: model.guide(x, LENGTHS, rendering="unrolled"), data.x
    )
    assert loss == pytest.approx(-total(model, data))


def test_draws_of_states_and_forecasts_follow_the_expanded_chain() -> None:
    model = made((2, 2), Categorical(3))
    data = data_of(model)
    drawn = forward_backward.sample_states(model, data, num_samples=4000, seed=0)
    probs = forward_backward.smooth(expanded(model), data).smoothed_probs
    shares = nn.functional.one_hot(drawn, 4).double().mean(0)
    error = (probs * (1 - probs) / 4000).sqrt() + 1e-12
    apart = (((shares - probs).abs() / error) * data.mask[..., None]).max()
    assert float(apart) < 5
    ahead = model.forecast(data, 1, num_samples=4000, seed=0).x[..., 0]
    law: Any = forward_backward.predict(expanded(model), data)
    rows = law.probs[torch.arange(3), LENGTHS - 1]
    counts = nn.functional.one_hot(ahead, 3).double().mean(0)
    assert bool(((counts - rows).abs() < 5 * (rows * (1 - rows) / 4000).sqrt()).all())


def test_nuts_moves_in_a_table_of_one_chain() -> None:
    model = made((2, 2), Bernoulli())
    data = model.sample(2, 10, seed=0)
    priors = {"transition_probs_1": dist.Dirichlet(torch.ones(2, 2, dtype=torch.float64)).to_event(1)}
    found = mcmc.run(pr.WithPriors(model, priors), data, num_samples=20, num_warmup=20, progress=False, seed=0)
    rows = found.samples["transition_probs_1"]
    torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:-1]).double())


def test_a_fit_is_saved_and_comes_back(tmp_path: Any) -> None:
    model = made((2, 3))
    data = data_of(model)
    pr.save_model(model, tmp_path / "model")
    again: Any = pr.load_model(tmp_path / "model")
    assert again.sizes == (2, 3)
    assert torch.equal(again.log_prob(data), model.log_prob(data))


# A reader's own model.


class Switches(SequenceModel):
    """x_t ~ N(a_{z^1} x_{t-1} + b_{z^2}, 1); the second chain moves faster after a large observation."""

    initial_memory = torch.zeros(1)

    def __init__(self, states: FiniteStates | None = None) -> None:
        super().__init__(Gaussian())
        self.states = ProductStates(2, 3) if states is None else states
        self.own = ProductStates(2, 3)
        self.a, self.b = nn.Parameter(torch.tensor([0.1, 0.9])), nn.Parameter(torch.tensor([-1.0, 0.0, 2.0]))
        self.moves = nn.Parameter(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))

    def recurrence(self, h: Any, z: Any, x: Tensor) -> Tensor:
        return x[..., None]

    def initial(self, h: Any) -> TorchDistribution:
        return self.law([dist.Categorical(torch.ones(2)), dist.Categorical(torch.ones(3))])

    def transition(self, z: Any, h: Any) -> TorchDistribution:
        first, second = self.own.split(z)
        stay = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
        logits = self.moves[second] * (1 + h.abs().clamp(max=3.0))
        return self.law([dist.Categorical(stay[first]), dist.Categorical(logits=logits)])

    def law(self, laws: list[TorchDistribution]) -> TorchDistribution:
        return ProductOfCategoricals(laws)

    def emission(self, z: Any, h: Any) -> TorchDistribution:
        first, second = self.own.split(z)
        return dist.Normal(self.a[first] * h[..., 0] + self.b[second], 1.0)


class AsOneChain(Switches):
    """The same law with finite states of no further structure."""

    def __init__(self) -> None:
        super().__init__(FiniteStates(6))


def test_structure_makes_a_readers_model_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    model, plain = Switches(), AsOneChain()
    data = model.sample(4, 12, seed=0)
    torch.testing.assert_close(model.log_prob(data.x), plain.log_prob(data.x))
    for name, expected in gradients(plain.log_prob(data.x).sum(), plain).items():
        torch.testing.assert_close(gradients(model.log_prob(data.x).sum(), model)[name], expected, rtol=1e-4, atol=1e-4)
    ours, theirs = forward_backward.smooth(model, data.x), forward_backward.smooth(plain, data.x)
    torch.testing.assert_close(ours.smoothed_probs, theirs.smoothed_probs, rtol=1e-4, atol=1e-5)
    fits = [em.fit(each, data.x, num_iterations=3, progress=False).log_likelihoods for each in (model, plain)]
    torch.testing.assert_close(*fits, rtol=1e-4, atol=1e-3)
    monkeypatch.setattr(factorial, "log_marginal_likelihood", lambda *given: pytest.fail("used"))
    with pytest.raises(pytest.fail.Exception):
        model.log_prob(data.x)
    plain.log_prob(data.x)


class Coupled(Switches):
    """The second chain reads the first."""

    def transition(self, z: Any, h: Any) -> TorchDistribution:
        first, second = self.own.split(z)
        rows = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
        return self.law([dist.Categorical(rows[first]), dist.Categorical(logits=self.moves[(second + first) % 3])])


class NoProduct(Switches):
    def law(self, laws: list[TorchDistribution]) -> TorchDistribution:
        return dist.Categorical(torch.ones(6))


def test_chains_that_are_no_chains_are_named() -> None:
    x = torch.zeros(1, 3)
    with pytest.raises(ValueError, match=r"expected the law of chain 1 from transition of Coupled at step 2 to depend"):
        Coupled().log_prob(x)
    with pytest.raises(TypeError, match=r"expected a ProductOfCategoricals, one law for each chain of ProductStates"):
        NoProduct().log_prob(x)


def test_arguments_that_do_not_fit_are_named() -> None:
    half, table = torch.tensor([0.5, 0.5]), torch.full((2, 2), 0.5)
    law = AdditiveEmission.normal([torch.zeros(2, 1), torch.ones(2, 1)], scale=torch.ones(1))
    with pytest.raises(ValueError, match="for the same chains, at least one, got 2 and 1"):
        FactorialHMM([half, half], [table], law)
    with pytest.raises(ValueError, match=r"expected an emission for ProductStates\(2\), got one for Prod"):
        FactorialHMM([half], [table], law)
    with pytest.raises(ValueError, match="transition_probs of chain 1"):
        FactorialHMM([half, half], [table, 2 * table], law)
    with pytest.raises(ValueError, match=r"expected effects of shape \(num_states, 1\) for chain 1"):
        AdditiveEmission(Gaussian(1), [torch.zeros(2, 1), torch.zeros(2, 2)], torch.zeros(1))
    with pytest.raises(ValueError, match=r"expected 1 common parameters for .*, got none"):
        AdditiveEmission(Gaussian(1), [torch.zeros(2, 1)])
    with pytest.raises(ValueError, match="expected either scale or cov"):
        AdditiveEmission.normal([torch.zeros(2, 1)])
    with pytest.raises(ValueError, match=r"expected num_states as one number or 2 of them, got 3"):
        FactorialHMM.random(2, (2, 2, 2), 3)
    with pytest.raises(ValueError, match="expected the number of states of at least one chain"):
        ProductStates()
    with pytest.raises(ValueError, match="num_states"):
        ProductStates(2, 0)
    with pytest.raises(ValueError, match="expected at least one law"):
        ProductOfCategoricals([])
    with pytest.raises(TypeError, match="expected a Categorical law for each chain, got Normal"):
        ProductOfCategoricals([dist.Normal(0.0, 1.0)])


def test_numbers_and_states_of_chains_are_the_same_thing() -> None:
    states = ProductStates(2, 3, 4)
    z = torch.arange(states.num_states)
    assert torch.equal(states.joined(states.split(z)), z)
    assert torch.equal(torch.stack(states.split(z), -1), factorial.digits(states.sizes))
    law = ProductOfCategoricals([dist.Categorical(torch.rand(5, size)) for size in states.sizes])
    values = law.enumerate_support(expand=False)
    torch.testing.assert_close(law.log_prob(values).exp().sum(0), torch.ones(5))
    assert law.expand((2, 5)).sample((7,)).shape == (7, 2, 5)
