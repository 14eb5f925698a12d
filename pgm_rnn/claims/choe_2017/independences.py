"""Which variables of an RNN's graphical model are independent: by its graph, and because hidden states are points.

X_{t+1} _||_ X_{<=t} | H_t        H_t _||_ X_{<=t-1} | H_{t-1}, X_t        every law on the graph of fig. 3
H_t _||_ X_{>=t+1} | H_{t-1}, X_t                                          Proposition 4, Delta kernels only
"""

from collections.abc import Callable, Sequence

import networkx as nx
import torch
from typing_extensions import override

from pgm_rnn.claims.choe_2017 import PAPER
from pgm_rnn.claims.choe_2017.theorem_5 import BIT_CASES, HIDDEN_DIM, Case, instance
from pgm_rnn.claims.claim import Claim, largest, rounding, smallest
from pgm_rnn.claims.hidden_chain import reachable_chain, table_rounding
from pgm_rnn.claims.tables import Table, joint_table, mutual_information, random_kernels
from pgm_rnn.emissions import Bernoulli
from pgm_rnn.graph import D_separated, d_separated, read_graph, without_roots
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.rnn import RNN

Statement = tuple[set[str], set[str], set[str]]
"""a independent of b given c."""

Criterion = Callable[["nx.DiGraph[str]", set[str], set[str], set[str]], bool]


def program_graph(rnn: RNN, num_steps: int) -> "nx.DiGraph[str]":
    """The graph of fig. 3, read out of the Pyro program; h_1 is a constant and no variable of the paper's."""
    return without_roots(read_graph(rnn, num_steps), ["h_1"])


def misread(graph: "nx.DiGraph[str]", num_steps: int) -> float:
    """One for a graph other than that of fig. 3: arcs X_t -> H_t, H_{t-1} -> H_t and H_t -> X_{t+1}."""
    steps = range(1, num_steps)
    arcs = {(f"x_{t}", hidden(t)) for t in steps} | {(hidden(t), f"x_{t + 1}") for t in steps}
    return float(set(graph.edges) != arcs | {(hidden(t - 1), hidden(t)) for t in steps[1:]})


def hidden(t: int) -> str:
    """The site of the paper's H_t."""
    return f"h_{t + 1}"


def observed(first: int, last: int) -> set[str]:
    """X_first, ..., X_last."""
    return {f"x_{t}" for t in range(first, last + 1)}


def dependence(table: Table, graph: "nx.DiGraph[str]", statement: Statement, criterion: Criterion) -> float:
    """Mutual information in nats, and one nat more if the graph's criterion does not give the independence."""
    return mutual_information(table, *statement) + (0.0 if criterion(graph, *statement) else 1.0)


def confirmed_dependence(table: Table, graph: "nx.DiGraph[str]", statement: Statement, criterion: Criterion) -> float:
    """Mutual information in nats, but nothing if the graph's criterion gives the independence all the same."""
    return 0.0 if criterion(graph, *statement) else mutual_information(table, *statement)


class MarkovProperties(Claim):
    """The two conditional independences that the graph of fig. 3 encodes."""

    id = "markov-properties"
    source = f"{PAPER}, after Remark 2"
    statement = "X_{t+1} is independent of X_{<=t} given H_t, and H_t of X_{<=t-1} given H_{t-1}, X_t"
    quotation = "the future observation is independent to current and past observations given the current hidden state"
    meaning = (
        "The hidden state is all that a prediction needs: once H_t is known, the history adds nothing; and H_{t-1} "
        "and x_t are all that H_t needs. This follows from the arrows of the graph, whether hidden states are noisy "
        "or not."
    )
    hypotheses = "the law factorises over the graph of fig. 3, whatever its kernels"
    routes = (
        "d-separation on the graph read out of the Pyro program, and mutual information in the table of random "
        "stochastic kernels on that graph"
    )
    control = "arcs X_t -> X_{t+1} and X_{t-1} -> H_t added to the graph"
    kind = "independence"
    proof = (
        "In fig. 3 the only parent of X_{t+1} is H_t, and the parents of H_t are H_{t-1} and X_t. In every law that "
        "factorises over a graph, a variable is independent of its non-descendants, given its parents. X_{<=t} are "
        "non-descendants of X_{t+1}, and X_{<=t-1} are non-descendants of H_t."
    )

    num_steps = 5

    @override
    def cases(self) -> Sequence[str]:
        return list(CELLS)

    @property
    @override
    def tolerance(self) -> float:
        return rounding(num_steps=1, width=2 ** (2 * self.num_steps - 1))

    @override
    def residual(self, case: str, seed: int) -> float:
        graph = program_graph(RNN(case, emission=Bernoulli(), hidden_dim=HIDDEN_DIM), self.num_steps)
        table = self._random_law(graph, seed)
        found = largest(dependence(table, graph, statement, d_separated) for statement in self.statements())
        return found + misread(graph, self.num_steps)

    @override
    def control_residual(self, case: str, seed: int) -> float:
        graph = program_graph(RNN(case, emission=Bernoulli(), hidden_dim=HIDDEN_DIM), self.num_steps)
        graph.add_edges_from((f"x_{t}", f"x_{t + 1}") for t in range(1, self.num_steps))
        graph.add_edges_from((f"x_{t - 1}", hidden(t)) for t in range(2, self.num_steps))
        table = self._random_law(graph, seed)
        return smallest(confirmed_dependence(table, graph, statement, d_separated) for statement in self.statements())

    def statements(self) -> list[Statement]:
        """All that the paper lists, for t = 1..T-1 and t = 2..T-1."""
        steps = range(1, self.num_steps)
        emitted: list[Statement] = [({f"x_{t + 1}"}, observed(1, t), {hidden(t)}) for t in steps]
        return emitted + [({hidden(t)}, observed(1, t - 1), {hidden(t - 1), f"x_{t}"}) for t in steps[1:]]

    def _random_law(self, graph: "nx.DiGraph[str]", seed: int) -> Table:
        return joint_table(graph, random_kernels(graph, 2, torch.Generator().manual_seed(seed % 2**63)))


class Proposition4(Claim):
    """The independence from the future, which only point masses have."""

    id = "proposition-4"
    source = f"{PAPER}, Proposition 4"
    statement = "H_t is independent of X_{>=t+1} given H_{t-1}, X_t; d-separation does not give it, D-separation does"
    quotation = "it is also independent to the future observations, given the past hidden state and current observation"
    meaning = (
        "Later observations improve the guess of a noisy hidden state; a deterministic one is known already. The "
        "arrows alone cannot show this: there is one from H_t to X_{t+1}, and d-separation calls the two dependent. "
        "D-separation, which counts as known what is computed from what is known, gets it right."
    )
    hypotheses = "every P(H_t | H_{t-1}, X_t) is a point mass"
    routes = (
        "D-separation (Geiger, Verma & Pearl, 1990) on the graph read out of the Pyro program, and mutual information "
        "in the table of a random RNN over its reachable hidden states"
    )
    control = "hidden states that with probability 0.05 are drawn uniformly instead: plain d-separation is right again"
    kind = "independence"
    proof = (
        "Given H_{t-1} = h and X_t = x, H_t is f(h, x) with probability one, and a constant is independent of "
        "everything: P(H_t = a, X_{>=t+1} = b | h, x) = 1[a = f(h, x)] P(X_{>=t+1} = b | h, x). In the graph, H_t is "
        "a deterministic node whose parents are given, so it is determined by what is given and separated from the "
        "rest (Geiger, Verma & Pearl, 1990). With noise in H_t the left side is p(a | h, x) p(b | a, ...), which "
        "depends on a and b together."
    )

    num_steps = 4

    @override
    def cases(self) -> Sequence[Case]:
        return BIT_CASES

    @property
    @override
    def tolerance(self) -> float:
        return table_rounding(self.num_steps)

    @override
    def residual(self, case: Case, seed: int) -> float:
        rnn = instance(case, seed)
        graph = program_graph(rnn, self.num_steps)
        table = reachable_chain(rnn, case[2], self.num_steps).joint(self.num_steps)
        unexpected = sum(d_separated(graph, *statement) for statement in self.statements())
        found = largest(dependence(table, graph, statement, D_separated) for statement in self.statements())
        return found + unexpected + misread(graph, self.num_steps)

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        rnn = instance(case, seed)
        graph = program_graph(rnn, self.num_steps)
        nx.set_node_attributes(graph, dict.fromkeys(graph, False), "deterministic")
        table = reachable_chain(rnn, case[2], self.num_steps).noisy(0.05).joint(self.num_steps)
        return largest(confirmed_dependence(table, graph, statement, D_separated) for statement in self.statements())

    def statements(self) -> list[Statement]:
        """For every t that has a future; H_0 is a constant."""
        return [
            ({hidden(t)}, observed(t + 1, self.num_steps), {f"x_{t}"} | ({hidden(t - 1)} if t > 1 else set()))
            for t in range(1, self.num_steps)
        ]
