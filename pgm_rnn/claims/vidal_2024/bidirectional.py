"""A bidirectional network smooths, a forward one filters: labels are the states of a hidden Markov model.

    forward          q(z_t | x_{1:t}),  best where it is p(z_t | x_{1:t})
    bidirectional    q(z_t | x_{1:T}),  best where it is p(z_t | x_{1:T})

Whatever reads x_{1:t} alone is at least G = E KL(smoothed || filtered) away from the smoothed posterior.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest
from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.claims.vidal_2024 import PAPER
from pgm_rnn.models.bidirectional_rnn import BidirectionalRNN
from pgm_rnn.models.hmm import HMM
from pgm_rnn.randomness import seeded

NUM_STEPS, NUM_SYMBOLS, NUM_STATES, HIDDEN_DIM = 6, 2, 2, 8


class ForwardTagger(nn.Module):
    """The forward chain alone: labels of a step from the symbols up to it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(NUM_SYMBOLS, HIDDEN_DIM)
        self.network = nn.GRU(HIDDEN_DIM, HIDDEN_DIM, batch_first=True)
        self.readout = nn.Linear(HIDDEN_DIM, NUM_STATES)

    def logits(self, x: Tensor) -> Tensor:
        """log q(z_t | x_{1:t}), (batch, T, NUM_STATES)."""
        logits: Tensor = self.readout(self.network(self.embedding(x))[0])
        return logits.log_softmax(-1)


class BothWays(nn.Module):
    """The library's network, by the same name of its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.tagger = BidirectionalRNN("gru", NUM_SYMBOLS, NUM_STATES, HIDDEN_DIM)

    def logits(self, x: Tensor) -> Tensor:
        """log q(z_t | x_{1:T}), (batch, T, NUM_STATES)."""
        law: Tensor = self.tagger.label_law(x).logits
        return law.log_softmax(-1)


class Posteriors:
    """Exact posteriors of every word by the sum over all paths.

    Attributes:
        words: every sequence of symbols, (2^T, T).
        probs: p(x), (2^T,).
        smoothed: p(z_t | x_{1:T}), (2^T, T, NUM_STATES).
        filtered: p(z_t | x_{1:t}), likewise.
    """

    def __init__(self, hmm: HMM) -> None:
        paths = all_sequences(NUM_STATES, NUM_STEPS)
        self.words = all_sequences(NUM_SYMBOLS, NUM_STEPS)
        prior = hmm.initial_probs[paths[:, 0]] * hmm.transition_probs[paths[:, :-1], paths[:, 1:]].prod(1)
        emitted = hmm.emission_probs[paths[None], self.words[:, None]]  # (words, paths, T)
        joint = emitted.prod(-1) * prior  # (words, paths)
        states = nn.functional.one_hot(paths, NUM_STATES).to(prior)  # (paths, T, NUM_STATES)
        self.probs = joint.sum(1)
        self.smoothed = torch.einsum("wp,ptk->wtk", joint, states) / self.probs[:, None, None]
        past = emitted.cumprod(-1) * prior[:, None]  # p(path, x_{1:t})
        filtered = torch.einsum("wpt,ptk->wtk", past, states)
        self.filtered = filtered / filtered.sum(-1, keepdim=True)

    def divergence(self, posterior: Tensor, log_q: Tensor) -> float:
        """E sum_t KL(posterior || q) over all words, nats."""
        terms = torch.special.xlogy(posterior, posterior) - posterior * log_q
        return float((self.probs * terms.sum((1, 2))).sum())


def trained(module: ForwardTagger | BothWays, x: Tensor, z: Tensor, num_steps: int) -> ForwardTagger | BothWays:
    """The module after so many steps of Adam on the cross entropy of sampled states."""
    optimizer = torch.optim.Adam(module.parameters(), 0.02)
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = nn.functional.nll_loss(module.logits(x).flatten(0, 1), z.flatten())
        loss.backward()
        optimizer.step()
    return module


class BidirectionalIsSmoothing(Claim):
    """Divergences from the exact posteriors, in units of what no forward network can go below."""

    id = "bidirectional-is-smoothing"
    source = f"{PAPER}, Other Variants: Bidirectional-RNNs"
    statement = (
        "trained on states of an HMM, a bidirectional RNN nears p(z_t | x_{1:T}), a forward one p(z_t | x_{1:t})"
    )
    hypotheses = "the output of a step depends on the forward and on the backward hidden state"
    routes = (
        "E sum_t KL over all words of length 6, the posteriors summed over all paths, to each of the two networks "
        "after training on 600 sampled sequences; divided by the divergence G of filtered from smoothed posteriors"
    )
    control = "the forward network against the smoothed posteriors, where at least G, one unit, remains"
    kind = "limit"
    unit = "limit"

    num_sequences = 600
    num_updates = 100

    @override
    def cases(self) -> Sequence[int]:
        return range(1)

    @property
    @override
    def tolerance(self) -> float:
        """Half of the unit: a network within it uses what follows, for without that nothing gets below one."""
        return 0.5

    @override
    def residual(self, case: int, seed: int) -> float:
        posteriors, unit = self._posteriors()
        distances = []
        for module, posterior in ((BothWays, posteriors.smoothed), (ForwardTagger, posteriors.filtered)):
            distances.append(posteriors.divergence(posterior, self._log_q(module, posteriors, seed)))
        return largest(distances) / unit

    @override
    def control_residual(self, case: int, seed: int) -> float:
        posteriors, unit = self._posteriors()
        return posteriors.divergence(posteriors.smoothed, self._log_q(ForwardTagger, posteriors, seed)) / unit

    def _hmm(self) -> HMM:
        """Sticky states that show themselves in two of three symbols or so, so that what follows matters."""
        sticky = torch.tensor([[0.85, 0.15], [0.1, 0.9]], dtype=torch.float64)
        shown = torch.tensor([[0.8, 0.2], [0.25, 0.75]], dtype=torch.float64)
        return HMM(torch.tensor([0.5, 0.5], dtype=torch.float64), sticky, shown)

    @torch.no_grad()
    def _posteriors(self) -> tuple[Posteriors, float]:
        posteriors = Posteriors(self._hmm())
        return posteriors, posteriors.divergence(posteriors.smoothed, posteriors.filtered.log())

    def _log_q(self, kind: type[ForwardTagger] | type[BothWays], posteriors: Posteriors, seed: int) -> Tensor:
        drawn = self._hmm().sample(self.num_sequences, NUM_STEPS, seed=seed)
        assert drawn.z is not None
        with seeded(seed, stream=4):
            module = trained(kind().double(), drawn.x, drawn.z, self.num_updates)
        return module.logits(posteriors.words).detach()
