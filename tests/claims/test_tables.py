import math

import networkx as nx
import pytest
import torch

from pgm_rnn.claims.tables import Table, all_sequences, joint_table, mutual_information, random_kernels


def test_a_marginal_is_the_sum_over_the_others() -> None:
    probs = torch.rand(2, 3, 4)
    table = Table(("a", "b", "c"), probs)
    torch.testing.assert_close(table.marginal({"b"}).flatten(), probs.sum((0, 2)))
    assert table.marginal({"a", "b", "c"}) is probs


def test_mutual_information_of_equal_bits_is_the_entropy_of_one() -> None:
    table = Table(("a", "b"), torch.diag(torch.tensor([0.25, 0.75])))
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert mutual_information(table, {"a"}, {"b"}, set()) == pytest.approx(entropy, abs=1e-15)


def test_mutual_information_of_independent_variables_is_zero_and_of_an_xor_is_not() -> None:
    independent = Table(("a", "b"), torch.tensor([0.3, 0.7])[:, None] * torch.tensor([0.1, 0.9]))
    assert abs(mutual_information(independent, {"a"}, {"b"}, set())) < 1e-15
    xor = Table(("a", "b", "c"), torch.tensor([[[0.25, 0.0], [0.0, 0.25]], [[0.0, 0.25], [0.25, 0.0]]]))
    assert abs(mutual_information(xor, {"a"}, {"b"}, set())) < 1e-15
    assert mutual_information(xor, {"a"}, {"b"}, {"c"}) == pytest.approx(math.log(2))


def test_a_joint_table_is_the_product_of_its_kernels() -> None:
    graph: nx.DiGraph[str] = nx.DiGraph([("a", "b"), ("a", "c"), ("b", "c")])
    kernels = random_kernels(graph, 2, torch.Generator().manual_seed(0))
    table = joint_table(graph, kernels)
    assert table.names == ("a", "b", "c")
    for a, b, c in all_sequences(2, 3).tolist():
        expected = kernels["a"][a] * kernels["b"][a, b] * kernels["c"][a, b, c]
        assert float(table.probs[a, b, c]) == pytest.approx(float(expected), abs=1e-15)
    assert float(table.probs.sum()) == pytest.approx(1.0, abs=1e-15)


def test_all_sequences_stand_in_the_order_of_a_table() -> None:
    assert all_sequences(2, 2).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert all_sequences(3, 4).unique(dim=0).shape == (81, 4)
