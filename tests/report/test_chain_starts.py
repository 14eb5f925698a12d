"""Gradient fits of chains begin near the data: where EM leaves a chain that starts from them."""

from collections.abc import Callable

import pytest
import torch

import pgm_rnn as pr
from pgm_rnn.emissions import Gaussian
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
