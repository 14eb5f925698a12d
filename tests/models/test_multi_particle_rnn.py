import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, Poisson, Tied
from pgm_rnn.inference import svi
from pgm_rnn.models.multi_particle_rnn import MultiParticleRNN
from pgm_rnn.models.rnn import RNN
from pgm_rnn.registries import OWN
from pgm_rnn.storage import load_model, save_model
from tests.definitions import all_words
from tests.instances import (
    FAMILIES,
    LENGTHS,
    assert_same,
    draw,
    every_cell,
    every_first,
    gradients,
    make_rnn,
    of_sequences,
    ragged,
    randomised,
)

TAKEN = {label: family for label, family in FAMILIES.items() if OWN.models["multi-particle-rnn"].takes(family)}
every_family = pytest.mark.parametrize("family", TAKEN.values(), ids=TAKEN)
every_average = pytest.mark.parametrize("average", ["sequence", "step"])


def make(family: Emission, cell: str = "gru", *, num_particles: int = 3, **options: Any) -> MultiParticleRNN:
    torch.manual_seed(0)
    model = MultiParticleRNN(num_particles, cell, hidden_dim=3, num_layers=2, emission=family, **options)
    return randomised(model)


def network(model: MultiParticleRNN, particle: int) -> RNN:
    """The recurrent network that one particle is."""
    rnn = make_rnn(model.cell_name, model.family, num_layers=2)
    state = {name: value for name, value in model.state_dict().items() if name != "initial_states"}
    rnn.load_state_dict(state | {"initial_memory": model.initial_states[particle].detach()})
    return rnn


def apart(model: MultiParticleRNN, x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """log p(x | particle l) by as many networks, (L, batch)."""
    return torch.stack([network(model, i).log_prob(x, lengths=lengths) for i in range(model.num_particles)])


def alternating() -> MultiParticleRNN:
    """Two particles that expect ones and zeros by turns, the first in one order and the second in the other."""
    model = MultiParticleRNN(2, "elman", hidden_dim=1, emission=Bernoulli())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.initial_states.copy_(torch.tensor([[1.0], [-1.0]]))
        model.cell.network.weight_hh_l0.fill_(-20.0)  # type: ignore[union-attr, operator]
        model.readout.weight.fill_(2.0)
    return model


# The two laws.


@every_cell
def test_the_law_is_the_mean_of_the_particles_laws(name: str) -> None:
    model, x = make(Categorical(3), name), ragged(Categorical(3))
    expected = apart(model, x, LENGTHS).logsumexp(0) - math.log(3)
    torch.testing.assert_close(model.log_prob(x, lengths=LENGTHS), expected)


@every_first
@every_family
def test_the_law_is_a_mean_for_every_family(family: Emission, first: Any) -> None:
    model, x = make(family), ragged(family)
    expected = apart(model, x, LENGTHS).logsumexp(0)
    expected = expected - (math.log(3) if first == "model" else apart(model, x[:, :1]).logsumexp(0))
    torch.testing.assert_close(model.log_prob(x, lengths=LENGTHS, first=first), expected)


def test_its_gradient_is_that_of_the_definition() -> None:
    model, x = make(Gaussian(2), "lstm"), ragged(Gaussian(2))
    definition = model.particle_log_probs(x, LENGTHS).sum(1).logsumexp(-1).sum()
    actual = gradients(model.log_prob(x, lengths=LENGTHS).sum(), model)
    assert_same(actual, gradients(definition, model), rtol=1e-8, atol=1e-11)


@every_first
@every_family
def test_the_other_law_averages_at_every_step(family: Emission, first: Any) -> None:
    model, x = make(family), ragged(family)
    by_step = torch.stack([apart(model, x[:, :t]) for t in range(1, 5)], -1)  # (L, batch, T)
    steps = by_step.diff(dim=-1, prepend=torch.zeros_like(by_step[..., :1]))
    mask = torch.arange(4) < LENGTHS[:, None]
    expected = ((steps.logsumexp(0) - math.log(3)) * mask)[:, int(first == "condition") :].sum(-1)
    torch.testing.assert_close(model.average_log_prob(x, LENGTHS, first=first), expected)
    other = make(family, average="step")
    torch.testing.assert_close(other.log_prob(x, lengths=LENGTHS, first=first), expected)


def test_the_law_averaged_at_every_step_sums_to_one() -> None:
    model, words = make(Categorical(3), average="step"), all_words(3, 4)
    assert float(model.log_prob(words).detach().exp().sum()) == pytest.approx(1, abs=1e-12)
    assert not torch.allclose(model.log_prob(words), make(Categorical(3)).log_prob(words), atol=0.01)


@every_family
def test_one_particle_is_a_network(family: Emission) -> None:
    model, x = make(family, num_particles=1), ragged(family)
    torch.testing.assert_close(model.log_prob(x, lengths=LENGTHS), network(model, 0).log_prob(x, lengths=LENGTHS))


# What is said of eq. (17).


@every_family
def test_the_mean_of_the_particles_log_likelihoods_is_at_most_either(family: Emission) -> None:
    model, x = make(family), draw(family, 50, 4)
    bound = apart(model, x).mean(0)
    assert bool((bound <= model.log_prob(x) + 1e-12).all())
    assert bool((bound <= model.average_log_prob(x) + 1e-12).all())
    assert bool((bound < model.log_prob(x) - 1e-6).any())


def test_particles_that_start_at_one_point_are_one_network() -> None:
    model, x = make(Categorical(3)), draw(Categorical(3), 5, 6)
    with torch.no_grad():
        model.initial_states.copy_(model.initial_states[:1].expand(3, -1))
    expected = network(model, 0).log_prob(x)
    torch.testing.assert_close(model.log_prob(x), expected)
    torch.testing.assert_close(model.average_log_prob(x), expected)


def test_neither_law_bounds_the_other() -> None:
    model = alternating()
    right = torch.tensor(2 * math.tanh(20)).sigmoid()  # how surely a particle expects its next bit, but the first's 2
    right = torch.stack([torch.tensor(2.0).sigmoid(), right, right, right])
    x = torch.tensor([[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    one, other = right.log().sum(), (1 - right).log().sum()
    mixed = (right.log() * torch.tensor([1, 0, 1, 0]) + (1 - right).log() * torch.tensor([0, 1, 0, 1])).sum()
    swapped = one + other - mixed
    expected = torch.stack([torch.logaddexp(one, other), torch.logaddexp(mixed, swapped)]) - math.log(2)
    torch.testing.assert_close(model.log_prob(x).detach(), expected)
    torch.testing.assert_close(model.average_log_prob(x).detach(), torch.full((2,), -4 * math.log(2)))
    assert float(expected[0]) > -4 * math.log(2) > float(expected[1])


@pytest.mark.parametrize("model", [alternating, lambda: make(Bernoulli())], ids=["alternating", "random"])
def test_the_papers_bound_is_reversed_where_the_data_are_drawn_from_it(model: Any) -> None:
    network, words = model(), all_words(2, 6).double()
    exact, step = network.log_prob(words).detach(), network.average_log_prob(words).detach()
    assert float((step.exp() * (step - exact)).sum()) > 1e-3  # a divergence: E K > E L for these data
    assert float((exact.exp() * (exact - step)).sum()) > 1e-3  # and E K < E L for the mixture's own


# The memory.


@every_average
@every_cell
def test_the_unrolled_memory_is_what_the_recurrence_gives(name: str, average: Any) -> None:
    model, x = make(Gaussian(2), name, average=average), draw(Gaussian(2), 3, 5)
    h = [model.initial_memory.expand(3, -1)]
    for t in range(4):
        h.append(model.recurrence(h[-1], None, x[:, t]))
    expected = torch.stack(h, 1)[..., : 3 * (model.cell.hidden_dim + 1)]
    torch.testing.assert_close(model.unroll_memory(x), expected)


def test_the_memory_holds_what_the_past_says_of_the_particles() -> None:
    model, x = make(Poisson()), draw(Poisson(), 2, 5)
    log_weights = model.unroll_memory(x)[..., 3 * model.cell.hidden_dim :]
    for t in range(5):
        expected = apart(model, x[:, :t]).softmax(0).T if t else torch.full((2, 3), 1 / 3)
        torch.testing.assert_close(log_weights[:, t].exp(), expected)
    assert float(log_weights[:, -1].exp().std(-1).max().detach()) > 0.01


def test_long_sequences_keep_their_weights_in_single_precision() -> None:
    model, x = make(Bernoulli(2)), draw(Bernoulli(2), 2, 2_000)
    exact = model.unroll_memory(x)[..., 3 * model.cell.hidden_dim :].detach()
    single = model.float().unroll_memory(x.float())[..., 3 * model.cell.hidden_dim :].detach()
    largest = float(exact.abs().max())
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=2_000 * 1e-6 * max(1.0, largest**0.5))


def test_an_observation_that_no_particle_emits_is_impossible_and_no_nan() -> None:
    model, x = make(Gaussian()), draw(Gaussian(), 1, 4)
    x[0, 1] = 1e200
    assert float(model.log_prob(x).detach()) == -math.inf
    assert bool(model.unroll_memory(x)[..., 3 * model.cell.hidden_dim :].isfinite().all())


# What it is for.


@pytest.mark.slow
def test_two_particles_learn_two_modes_that_one_of_the_same_size_cannot() -> None:
    signs = torch.tensor([-2.0, 2.0]).repeat(100)
    x = (signs[:, None] + 0.5 * torch.randn(200, 2)).float()
    means = {}
    for num_particles in (1, 2):
        torch.manual_seed(0)
        model = MultiParticleRNN(num_particles, "elman", hidden_dim=3, emission=Gaussian()).float()
        svi.fit(model, x, num_epochs=60, batch_size=100, learning_rate=0.05, progress=False)
        means[num_particles] = float(model.log_prob(x).mean().detach())
    # One network has a normal law of x_1, and of x_2 nothing sharper than the noise that draws it.
    second = torch.distributions.Normal(signs, 0.5).log_prob(x[:, 1]).mean()
    limit = float(second - 0.5 * (2 * math.pi * math.e * x[:, 0].var(correction=0)).log())
    slack = 4 / 200**0.5 / 2
    assert means[1] < limit + slack
    assert means[2] > limit + slack


# The module.


def test_fresh_particles_start_apart_and_train_their_starts() -> None:
    model = MultiParticleRNN(3, "lstm", num_symbols=2, hidden_dim=2)
    assert isinstance(model.initial_states, torch.nn.Parameter)
    assert model.initial_states.shape == (3, 4)
    assert model.initial_memory.shape == (3 * 5,)
    assert len(model.initial_states.unique(dim=0)) == 3


@every_average
def test_the_average_is_saved_with_the_model(tmp_path: Any, average: Any) -> None:
    model, x = make(Gaussian(2), average=average), draw(Gaussian(2), 2, 3)
    save_model(model, tmp_path / "model")
    loaded = of_sequences(load_model(tmp_path / "model"))
    assert torch.equal(loaded.log_prob(x), model.log_prob(x))


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected num_particles to be an integer of at least 1, got 0"):
        MultiParticleRNN(0, num_symbols=3)
    with pytest.raises(
        ValueError, match="expected average to be one of sequence, step, got 'steps'; did you mean 'step'"
    ):
        MultiParticleRNN(num_symbols=3, average="steps")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected cell to be one of elman, .*got 'ltsm'; did you mean 'lstm'"):
        MultiParticleRNN(cell="ltsm", num_symbols=3)
    with pytest.raises(ValueError, match=r"expected embedding_dim only for symbols, got 4 for Gaussian\(size=2\)"):
        MultiParticleRNN(emission=Gaussian(2), embedding_dim=4)


def test_a_family_with_ties_is_refused_by_its_name() -> None:
    with pytest.raises(TypeError, match="expected a family without ties, because each particle has a law of its own"):
        make(Tied(Gaussian(2)))
