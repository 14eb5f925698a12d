"""The graph of a particle filter (fig. 4) is that of a recurrent network (fig. 3): sec. 3.3.

    H_{t-1}^j -> H_t^i,   X_t -> H_t^i,   H_t^i -> X_{t+1}         i, j = 1..M particles

With the M particles of a step taken for one node it is fig. 3.
"""

from collections.abc import Sequence

import networkx as nx
from networkx.algorithms.isomorphism import DiGraphMatcher
from typing_extensions import override

from pgm_rnn.claims.choe_2017 import PAPER
from pgm_rnn.claims.choe_2017.independences import hidden
from pgm_rnn.claims.claim import Claim, rounding
from pgm_rnn.graph import read_graph, without_roots
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.particle_filter_rnn import ParticleFilterRNN
from pgm_rnn.models.rnn import RNN
from pgm_rnn.sequence_model import SequenceModel

NUM_STEPS = 4


def particle_graph(num_particles: int, num_steps: int) -> "nx.DiGraph[str]":
    """Fig. 4 with a node for each particle."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for t in range(1, num_steps):
        for i in range(num_particles):
            node = f"{hidden(t)}[{i}]"
            graph.add_edges_from([(f"x_{t}", node), (node, f"x_{t + 1}")])
            if t > 1:
                graph.add_edges_from((f"{hidden(t - 1)}[{j}]", node) for j in range(num_particles))
    return graph


def sets_of_particles(graph: "nx.DiGraph[str]") -> "nx.DiGraph[str]":
    """The quotient graph in which the particles of one step are one node."""
    merged: nx.DiGraph[str] = nx.DiGraph()
    merged.add_edges_from((a.partition("[")[0], b.partition("[")[0]) for a, b in graph.edges)
    return merged


def mismatches(*graphs: "nx.DiGraph[str]") -> float:
    """How many of the graphs are not isomorphic to the first by a map that takes observations to observations."""
    first, *others = graphs
    return float(sum(not _isomorphic(first, other) for other in others))


def _isomorphic(a: "nx.DiGraph[str]", b: "nx.DiGraph[str]") -> bool:
    for graph in (a, b):
        nx.set_node_attributes(graph, {node: node[0] == "x" for node in graph}, "observed")
    return bool(
        DiGraphMatcher(a, b, node_match=lambda one, other: one["observed"] == other["observed"]).is_isomorphic()
    )


class Figure4IsFigure3(Claim):
    """One graph, read out of two Pyro programs and drawn particle by particle."""

    id = "figure-4-is-figure-3"
    source = f"{PAPER}, sec. 3.3, fig. 3 and 4"
    statement = "with the particles of a step as one node, the particle filter's graph is that of the recurrent network"
    quotation = "The graphical model in Figure 4 is equivalent to the one depicted in Figure 3."
    meaning = (
        "Draw a box around the particles of each step: the arrows between the boxes are those of a recurrent network. "
        "Particles depend on those before (propagation) and on x_t (resampling), and the next observation is "
        "predicted from them."
    )
    hypotheses = "the particles act as the true hidden state when x_{t+1} is predicted, and resampling reads x_t alone"
    routes = (
        "isomorphism of the graphs read out of the Pyro programs of ParticleFilterRNN and of an RNN, and of fig. 4 "
        "drawn with one node per particle and contracted; the residual is the number of graphs that differ"
    )
    control = "the hidden Markov model that the particles stand for, fig. 2"
    proof = (
        "In fig. 4 every particle of step t has arrows from all particles of step t - 1 and from X_t, and one to "
        "X_{t+1}. Contracting the M particles of a step into one node H_t maps these arcs onto H_{t-1} -> H_t, X_t -> "
        "H_t and H_t -> X_{t+1}, and none elsewhere: this is fig. 3. The hidden Markov model of fig. 2 has arcs into "
        "observations only, none out of them, so no map of its nodes turns it into fig. 3."
    )

    @override
    def cases(self) -> Sequence[int]:
        return [1, 2, 5]

    @property
    @override
    def tolerance(self) -> float:
        return rounding(num_steps=1, width=1)

    @override
    def residual(self, case: int, seed: int) -> float:
        filtering = ParticleFilterRNN(HMM.random(2, 3, seed=seed).double(), num_particles=case, seed=seed)
        drawn = sets_of_particles(particle_graph(case, NUM_STEPS))
        return mismatches(self._network(), self._read(filtering), drawn)

    @override
    def control_residual(self, case: int, seed: int) -> float:
        hmm = read_graph(HMM.random(2, 3, seed=seed).double(), NUM_STEPS)
        return min(mismatches(self._network(), hmm), mismatches(self._network(), without_roots(hmm, ["z_1"])))

    def _network(self) -> "nx.DiGraph[str]":
        return self._read(RNN("elman", num_symbols=3, hidden_dim=2))

    def _read(self, model: SequenceModel) -> "nx.DiGraph[str]":
        return without_roots(read_graph(model, NUM_STEPS), ["h_1"])
