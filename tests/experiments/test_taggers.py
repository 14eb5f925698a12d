"""Stacked networks are the project's networks, one by one."""

import pytest
import torch

from pgm_rnn.experiments.problem import hmm_parameter_count
from pgm_rnn.experiments.taggers import (
    hidden_states,
    initial_weights,
    label_log_probs,
    parameter_count,
    stacked,
    tagger_of,
)
from pgm_rnn.models import HMM, Tagger
from pgm_rnn.models.tagger import Start
from tests.instances import assert_same


@pytest.mark.parametrize(("num_symbols", "num_labels", "hidden_dim"), [(3, 2, 1), (3, 5, 4), (10, 2, 20)])
def test_a_stack_computes_what_each_network_computes(num_symbols: int, num_labels: int, hidden_dim: int) -> None:
    networks = [Tagger("elman", num_symbols, num_labels, hidden_dim, start="trained") for _ in range(3)]
    for network in networks:
        torch.nn.init.normal_(network.initial_memory)
    x = torch.randint(num_symbols, (3, 7, 8))
    together = label_log_probs(stacked(networks), x)
    one_by_one = torch.stack([network.label_law(x_of).logits for network, x_of in zip(networks, x, strict=True)])
    torch.testing.assert_close(together, one_by_one.transpose(1, 2))


@pytest.mark.parametrize("start", ["zero", "trained"])
def test_a_network_of_a_stack_is_a_tagger_of_the_zoo_with_its_law(start: Start) -> None:
    networks, before = [Tagger("elman", 3, 5, 4, start=start).float() for _ in range(3)], torch.get_rng_state()
    if start == "trained":
        for network in networks:
            torch.nn.init.normal_(network.initial_memory)
        before = torch.get_rng_state()
    weights = stacked(networks)
    found = [tagger_of(weights, i) for i in range(3)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(network.recipe == other.recipe for network, other in zip(found, networks, strict=True))
    assert_same(stacked(found), weights)
    x = torch.randint(3, (6, 8))
    for network, other in zip(found, networks, strict=True):
        assert network.readout.weight.dtype == torch.float32
        torch.testing.assert_close(network.label_law(x).logits, other.label_law(x).logits)


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
