"""One graph: an RNN and an HMM are the same graphical model, and Pyro's engines cannot tell which they are given.

Run it: `python tutorials/one_graph.py`. Every number that it prints is explained by the line above it.
"""

import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO

from pgm_rnn.graph import D_separated, d_separated, read_graph
from pgm_rnn.models import HMM, RNN


def main() -> None:
    """Walk from two models to one interface."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    rnn = RNN(cell="elman", num_symbols=3, hidden_dim=4)
    hmm = HMM.random(num_states=2, num_symbols=3, seed=0)
    x = hmm.sample(num_sequences=4, num_steps=6, seed=1).x

    print("1. Two models, one graph with different nodes, read out of their Pyro programs (3 steps):")
    print("   RNN:", *(f"{a}->{b}" for a, b in read_graph(rnn, 3).edges))
    print("   HMM:", *(f"{a}->{b}" for a, b in read_graph(hmm, 3).edges))

    print("\n2. In the RNN's program every h_t has a Delta law, a function of what came before:")
    trace = poutine.trace(rnn.model).get_trace(x, rendering="unrolled", memory="sampled")
    print("  ", *(f"{name} ~ {type(trace.nodes[name]['fn']).__name__} " for name in ("h_1", "x_1", "h_2", "x_2")))

    print("\n3. Its hidden states as latent variables, with the guide q(H | X) = p(H | X): the ELBO is the log")
    print("   likelihood in every draw (Sohl-Dickstein & Kingma 2015):")
    draws = [-Trace_ELBO().loss(rnn.model, rnn.guide, x, rendering="unrolled", memory="sampled") for _ in range(3)]
    print(f"   {draws}\n   log p(X) = {float(rnn.log_prob(x).sum().detach())}")

    print("\n4. The HMM's states are summed out: by Pyro's enumeration, and by the forward recursion:")
    enumerated = -TraceEnum_ELBO(max_plate_nesting=1).loss(hmm.model, hmm.guide, x, rendering="unrolled")
    print(f"   {enumerated}\n   {float(hmm.log_prob(x).sum().detach())}")

    print("\n5. Proposition 4 of Choe et al. (2017): h_3 is independent of x_3, x_4 given h_2 and x_2. The graph alone")
    print("   does not say so, the graph with deterministic nodes does:")
    graph = read_graph(rnn, 4)
    statement = ({"h_3"}, {"x_3", "x_4"}, {"h_2", "x_2"})
    print(f"   d-separation: {d_separated(graph, *statement)}, D-separation: {D_separated(graph, *statement)}")

    print("\n6. Forecasts are one call, whichever it is:")
    for model in (rnn, hmm):
        print(f"   {type(model).__name__}:", model.forecast(x[:1], num_steps=8, seed=0).x.tolist()[0])


if __name__ == "__main__":
    main()
