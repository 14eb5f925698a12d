"""A random hidden Markov model with its data: Choe, Shin & Spencer (2017), sec. 4.1.

Initial, transition and emission probabilities are Dirichlet(1) draws; sequences have eight steps.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pgm_rnn.experiments.settings import NUM_STEPS, Settings
from pgm_rnn.inference import forward_backward
from pgm_rnn.models.hmm import HMM
from pgm_rnn.sequences import Sequences


@dataclass(frozen=True)
class Problem:
    """A hidden Markov model, sequences to train on and others to test on, states with both.

    Attributes:
        replicate: number of the replicate.
        hmm: the true model, in float64.
        train: the sequences of the largest training set.
        test: `Settings.num_test` sequences.
    """

    replicate: int
    hmm: HMM
    train: Sequences
    test: Sequences

    def first(self, num_test: int) -> "Problem":
        """The same problem with fewer test sequences."""
        return Problem(
            self.replicate, self.hmm, self.train, self.test.select(torch.arange(min(num_test, len(self.test.x))))
        )

    @cached_property
    def beliefs(self) -> Tensor:
        """p(z_t | x_{1:t}) on the test sequences by the forward algorithm, (num_test, T, m), float64."""
        return forward_backward.filter(self.hmm, self.test.x).filtered_probs


def make_problem(settings: Settings, num_states: int, replicate: int) -> Problem:
    """Replicate number `replicate` of the random models with `num_states` states; the same for every use of it."""
    seeds = {name: settings.seed_of(name, num_states, replicate) for name in ("hmm", "train", "test")}
    hmm = HMM.random(num_states, settings.num_symbols, seed=seeds["hmm"]).requires_grad_(False)
    train = hmm.sample(max(settings.num_sequences), NUM_STEPS, seed=seeds["train"])
    return Problem(replicate, hmm, train, hmm.sample(settings.num_test, NUM_STEPS, seed=seeds["test"]))


def hmm_parameter_count(num_states: int, num_symbols: int) -> int:
    """Free probabilities of a hidden Markov model: (m - 1) + m (m - 1) + m (p - 1)."""
    return (num_states - 1) + num_states * (num_states - 1) + num_states * (num_symbols - 1)
