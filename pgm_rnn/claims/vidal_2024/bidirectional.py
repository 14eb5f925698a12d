"""A bidirectional network smooths, a forward one filters: labels are the states of a hidden Markov model.

    forward          q(z_t | x_{1:t}),  best where it is p(z_t | x_{1:t})
    bidirectional    q(z_t | x_{1:T}),  best where it is p(z_t | x_{1:T})

Whatever reads x_{1:t} alone is at least G = E KL(smoothed || filtered) away from the smoothed posterior.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest
from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.claims.vidal_2024 import PAPER
from pgm_rnn.models.bidirectional_rnn import BidirectionalRNN
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.tagger import Tagger
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model.label_model import LabelModel

NUM_STEPS, NUM_SYMBOLS, NUM_STATES, HIDDEN_DIM = 6, 2, 2, 8


def both_ways() -> LabelModel:
    """The network that reads the whole sequence."""
    return BidirectionalRNN("gru", NUM_SYMBOLS, NUM_STATES, HIDDEN_DIM)


def forward_only() -> LabelModel:
    """The network whose labels depend on the symbols up to them."""
    return Tagger("gru", NUM_SYMBOLS, NUM_STATES, HIDDEN_DIM, embedding_dim=HIDDEN_DIM)


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


def trained(model: LabelModel, x: Tensor, z: Tensor, num_steps: int) -> LabelModel:
    """The model after training by Adam on the cross entropy of sampled states."""
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = -model.log_prob(z, x).sum() / z.numel()
        loss.backward()
        optimizer.step()
    return model


class BidirectionalIsSmoothing(Claim):
    """Divergences from the exact posteriors, in units of what no forward network can go below."""

    id = "bidirectional-is-smoothing"
    source = f"{PAPER}, Other Variants: Bidirectional-RNNs"
    statement = (
        "trained on states of an HMM, a bidirectional RNN approaches p(z_t | x_{1:T}), a forward one p(z_t | x_{1:t})"
    )
    quotation = "knowing a word means knowing what comes before and after the word"
    meaning = (
        "Filtering knows the past, smoothing the whole sequence. Trained to name the states of a hidden Markov model, "
        "a forward network learns the first and a bidirectional one the second: the backward network, not the number "
        "of units, makes the difference."
    )
    hypotheses = "the output of a step depends on the forward and on the backward hidden state"
    routes = (
        "E sum_t KL over all words of length 6, the posteriors summed over all paths, to each of the two networks "
        "after training on 600 sampled sequences; divided by the divergence G of filtered from smoothed posteriors"
    )
    control = "the forward network against the smoothed posteriors, where at least G, one unit, remains"
    kind = "limit"
    unit = "limit"
    proof = (
        "For any function r of an input I, E[-log r(z_t | I)] = H(z_t | I) + E KL(p(z_t | I) || r(. | I)), so the "
        "cross-entropy is smallest at the posterior given the network's input: x_{1:t} for a forward network, x_{1:T} "
        "for a bidirectional one. A forward network stays away from the smoothed posteriors by at least G = sum_t E "
        "KL(p(z_t | x_{1:T}) || p(z_t | x_{1:t})), the information of x_{t+1:T} about z_t given x_{1:t}."
    )

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
        for make, posterior in ((both_ways, posteriors.smoothed), (forward_only, posteriors.filtered)):
            distances.append(posteriors.divergence(posterior, self._log_q(make, posteriors, seed)))
        return largest(distances) / unit

    @override
    def control_residual(self, case: int, seed: int) -> float:
        posteriors, unit = self._posteriors()
        return posteriors.divergence(posteriors.smoothed, self._log_q(forward_only, posteriors, seed)) / unit

    def _hmm(self) -> HMM:
        """Sticky states that show themselves in two of three symbols or so, so that what follows matters."""
        sticky = torch.tensor([[0.85, 0.15], [0.1, 0.9]], dtype=torch.float64)
        shown = torch.tensor([[0.8, 0.2], [0.25, 0.75]], dtype=torch.float64)
        return HMM(torch.tensor([0.5, 0.5], dtype=torch.float64), sticky, shown)

    @torch.no_grad()
    def _posteriors(self) -> tuple[Posteriors, float]:
        posteriors = Posteriors(self._hmm())
        return posteriors, posteriors.divergence(posteriors.smoothed, posteriors.filtered.log())

    def _log_q(self, make: Callable[[], LabelModel], posteriors: Posteriors, seed: int) -> Tensor:
        drawn = self._hmm().sample(self.num_sequences, NUM_STEPS, seed=seed)
        assert drawn.z is not None
        with seeded(seed, stream=4):
            model = trained(make().double(), drawn.x, drawn.z, self.num_updates)
        log_q: Tensor = model.label_law(posteriors.words).logits.log_softmax(-1)
        return log_q.detach()
