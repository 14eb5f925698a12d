"""Distributions over finitely many values as tables: the definition that every faster computation must agree with."""

from itertools import product
from typing import NamedTuple

import networkx as nx
import torch
from torch import Tensor


class Table(NamedTuple):
    """A probability table with one axis per variable.

    Attributes:
        names: the variables, one per axis.
        probs: their joint probabilities.
    """

    names: tuple[str, ...]
    probs: Tensor

    def marginal(self, names: set[str]) -> Tensor:
        """The law of some variables; the others' axes stay with size one."""
        others = [axis for axis, name in enumerate(self.names) if name not in names]
        return self.probs.sum(others, keepdim=True) if others else self.probs


def mutual_information(table: Table, a: set[str], b: set[str], given: set[str]) -> float:
    """Conditional mutual information I(A; B | C) = sum p(a, b, c) log [p(a, b, c) p(c) / (p(a, c) p(b, c))], nats."""
    joint = table.marginal(a | b | given)
    product_law = table.marginal(a | given) * table.marginal(b | given)
    ratio = joint * table.marginal(given) / product_law
    return float(torch.special.xlogy(joint, ratio).where(joint > 0, 0.0).sum())


def joint_table(graph: "nx.DiGraph[str]", kernels: dict[str, Tensor]) -> Table:
    """The product of the kernels p(node | parents) of a directed graph.

    Args:
        graph: its nodes are the variables.
        kernels: for each node a tensor whose axes are its parents, in the graph's order, then the node.
    """
    names = tuple(nx.topological_sort(graph))
    axis = {name: i for i, name in enumerate(names)}
    operands: list[object] = []
    for name in names:
        operands += [kernels[name], [*(axis[parent] for parent in graph.predecessors(name)), axis[name]]]
    return Table(names, torch.einsum(*operands, list(range(len(names)))))


def random_kernels(graph: "nx.DiGraph[str]", num_values: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A stochastic kernel for each node, every row uniform on the simplex: nothing is constant or deterministic."""
    kernels = {}
    for name in graph:
        shape = [num_values] * (graph.in_degree(name) + 1)
        exponentials = -torch.rand(shape, generator=generator, dtype=torch.float64).clamp(min=1e-300).log()
        kernels[name] = exponentials / exponentials.sum(-1, keepdim=True)
    return kernels


def all_sequences(num_symbols: int, num_steps: int) -> Tensor:
    """Every sequence of symbols, (num_symbols ** num_steps, num_steps), in the order of a table's entries."""
    return torch.tensor(list(product(range(num_symbols), repeat=num_steps)))
