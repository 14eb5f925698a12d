"""Stacked networks are the project's networks, one by one."""

import pytest
import torch

from pgm_rnn.experiments.problem import hmm_parameter_count
from pgm_rnn.experiments.taggers import (
    Tagger,
    hidden_states,
    initial_weights,
    label_log_probs,
    parameter_count,
    stacked,
)
from pgm_rnn.models import HMM


@pytest.mark.parametrize(("num_symbols", "num_labels", "hidden_dim"), [(3, 2, 1), (3, 5, 4), (10, 2, 20)])
def test_a_stack_computes_what_each_network_computes(num_symbols: int, num_labels: int, hidden_dim: int) -> None:
    networks = [Tagger(num_symbols, num_labels, hidden_dim) for _ in range(3)]
    for network in networks:
        torch.nn.init.normal_(network.start)
    x = torch.randint(num_symbols, (3, 7, 8))
    together = label_log_probs(stacked(networks), x)
    one_by_one = torch.stack([network(x_of) for network, x_of in zip(networks, x, strict=True)])
    torch.testing.assert_close(together, one_by_one.transpose(1, 2))


def test_a_network_is_the_equations_of_the_paper() -> None:
    network = Tagger(3, 2, 4)
    weights = {name: value[0] for name, value in stacked([network]).items()}
    x = torch.tensor([[2, 0]])
    h, expected = torch.zeros(4), []
    for symbol in x[0]:
        h = torch.tanh(weights["W"][:, symbol] + weights["U"] @ h + weights["b"])
        expected.append((weights["V"] @ h + weights["c"]).log_softmax(-1))
    torch.testing.assert_close(network(x)[0], torch.stack(expected))


def test_networks_start_at_zero_and_differ_by_their_seeds_alone() -> None:
    a, b = initial_weights(3, 2, 4, [1, 2]), initial_weights(3, 2, 4, [2, 3])
    assert not bool(a["h_0"].any())
    for name in ("W", "U", "b", "V", "c"):
        torch.testing.assert_close(a[name][1], b[name][0], rtol=0, atol=0)
        assert not torch.equal(a[name][0], a[name][1])


def test_hidden_states_are_of_every_step() -> None:
    assert hidden_states(initial_weights(3, 2, 4, [0, 1, 2]), torch.zeros(3, 6, 8, dtype=torch.long)).shape == (
        3,
        8,
        6,
        4,
    )


def test_parameters_are_counted_as_the_entries_that_there_are() -> None:
    weights = initial_weights(3, 5, 7, [0])
    assert parameter_count(3, 5, 7) == sum(weights[name].numel() for name in ("W", "U", "b", "V", "c"))
    hmm = HMM.random(5, 3, seed=0)
    tables = (hmm.initial_probs[None], hmm.transition_probs, hmm.emission_probs)
    assert hmm_parameter_count(5, 3) == sum(table.shape[0] * (table.shape[1] - 1) for table in tables)
