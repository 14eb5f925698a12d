"""Gradient fits of chains begin near the data: where EM leaves a chain that starts from them."""

from collections.abc import Callable
from unittest.mock import Mock

import pytest
import torch

import pgm_rnn as pr
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, Poisson
from pgm_rnn.inference import em
from pgm_rnn.models import HMM, HSMM, RNN, AutoregressiveHMM, FactorialHMM, RecurrentHMM
from pgm_rnn.report.chain_starts import move_near
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences


def switching() -> Sequences:
    """Two regimes around 10 and 15, far from where random parameters are."""
    moves = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    table = Gaussian().table(loc=torch.tensor([10.0, 15.0]), scale=torch.ones(2))
    return HMM(torch.ones(2) / 2, moves, table).sample(6, 60, seed=0)._replace(z=None)


def made(name: str) -> SequenceModel:
    torch.manual_seed(0)
    makers: dict[str, Callable[[], SequenceModel]] = {
        "hsmm": lambda: HSMM.random(2, emission=Gaussian(), max_duration=30, seed=0),
        "factorial-hmm": lambda: FactorialHMM.random(2, 2, emission=Gaussian(), seed=0),
        "autoregressive-hmm": lambda: AutoregressiveHMM.random(2, emission=Gaussian(), seed=0),
        "recurrent-hmm": lambda: RecurrentHMM(2, emission=Gaussian(), hidden_dim=4),
    }
    return makers[name]()


def per_step(model: SequenceModel, data: Sequences) -> float:
    with torch.no_grad():
        return float(model.log_prob(data.x).sum()) / data.num_steps


@pytest.mark.parametrize("name", ["hsmm", "factorial-hmm", "autoregressive-hmm", "recurrent-hmm"])
def test_the_start_is_as_good_as_the_chain_without_more(name: str) -> None:
    data, model = switching(), made(name)
    plain = HMM.random(2, emission=Gaussian(), seed=0)
    em.fit(plain, data, progress=False)
    assert per_step(model, data) < per_step(plain, data) - 10  # where the gradient would begin otherwise
    assert move_near(model, data, 0)
    assert per_step(model, data) > per_step(plain, data) - 0.1


@pytest.mark.parametrize("effects", ["additive", "joint"])
@pytest.mark.parametrize("family", [Bernoulli(3), Categorical(4)], ids=["bits", "symbols"])
def test_bits_and_symbols_begin_near_their_shares_and_each_start_by_itself(family: Emission, effects: str) -> None:
    """The noise moves a start's log likelihood less than the distance of uniform laws from the shares."""
    model = FactorialHMM.random(2, 2, emission=family, effects=effects, seed=0)
    rare = torch.tensor([0.02, 0.03, 0.9, 0.05])
    x = (
        (torch.rand(5, 40, 3) < 0.03).float()
        if isinstance(family, Bernoulli)
        else rare.multinomial(200, True).view(5, 40)
    )
    data = Sequences(x, torch.full((5,), 40))
    before, laws = per_step(model, data), []
    for seed in (0, 1, 0):
        assert model.start_near(data, seed)
        laws.append([value.clone() for value in model.emission_law.parameters()])
        assert per_step(model, data) > before + 0.1
    assert all(torch.equal(a, b) for a, b in zip(laws[0], laws[2], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(laws[0], laws[1], strict=True))


def test_counts_have_one_start_the_parameters_that_the_model_has(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FactorialHMM.random(2, 2, emission=Poisson(), seed=0)
    data = model.sample(4, 20, seed=0)._replace(z=None)
    monkeypatch.setattr(em, "fit", fit := Mock(wraps=em.fit))
    assert not model.start_near(data, 0)
    assert move_near(model, data, 0)
    assert [call.kwargs["num_iterations"] for call in fit.call_args_list] == [5, 25]  # one start, and the same goes on


def test_a_model_without_such_a_start_stays_as_it_is() -> None:
    model = RNN("gru", emission=Gaussian(), hidden_dim=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not move_near(model, switching(), 0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_chain_that_a_network_drives_is_described_without_a_table_of_its_chain() -> None:
    text = str(pr.describe(made("recurrent-hmm")))
    assert "means (loc)" in text
    assert "states:" not in text
    assert "states: share of the data" in str(pr.describe(made("recurrent-hmm"), switching()))
