import torch

from pgm_rnn.claims.instances import random_rnn
from pgm_rnn.claims.on_data import CHUNK, check_on_data, num_chunks
from pgm_rnn.emissions import Bernoulli
from pgm_rnn.sequences import Sequences


def test_the_claims_hold_on_given_sequences_and_leave_the_model_as_it_was() -> None:
    rnn = random_rnn("lstm", Bernoulli(5), num_layers=1, seed=0).float()
    before = {name: value.clone() for name, value in rnn.state_dict().items()}
    x = rnn.sample(6, 12, seed=0).x.to(torch.uint8)
    results = check_on_data(rnn, Sequences(x, torch.tensor([12, 3, 1, 7, 12, 5])))
    assert [(result.id, result.verdict) for result in results] == [
        ("theorem-5", "holds"),
        ("elbo-equivalence", "holds"),
    ]
    assert all(torch.equal(before[name], value) for name, value in rnn.state_dict().items())


def test_the_instances_are_the_sequences() -> None:
    rnn = random_rnn("gru", Bernoulli(), num_layers=1, seed=0)
    results = check_on_data(rnn, rnn.sample(7, 6, seed=0))
    assert {result.instances for result in results} == {7}


def test_progress_is_told_for_every_part_of_the_sequences() -> None:
    rnn, told = random_rnn("gru", Bernoulli(), num_layers=1, seed=0), []
    data = rnn.sample(2 * CHUNK + 1, 4, seed=0)
    results = check_on_data(rnn, data, advance=lambda: told.append(1))
    assert len(told) == len(results) * num_chunks(data) == 6
