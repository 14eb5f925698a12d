"""The networks of a cell: trained side by side for several hidden Markov models, numbers of sequences, rates, starts.

Of those that share model and number of sequences the held-out loss keeps one: that is how the learning rate is
"properly adjusted" (Choe, Shin & Spencer, 2017, sec. 4.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.experiments.experiment import Cell, Row
from pgm_rnn.experiments.problem import Problem, hmm_parameter_count
from pgm_rnn.experiments.scores import state_scores
from pgm_rnn.experiments.settings import Settings
from pgm_rnn.experiments.taggers import Weights, initial_weights, parameter_count, tagger_of
from pgm_rnn.experiments.training import Targets, Task, train
from pgm_rnn.models.tagger import Tagger


class Candidate(NamedTuple):
    """One network to train.

    Attributes:
        problem: the problem whose sequences it learns from.
        num_sequences: number of these sequences.
        learning_rate: largest learning rate.
        start: number that determines its initial weights and the order of its sequences.
    """

    problem: Problem
    num_sequences: int
    learning_rate: float
    start: int


@dataclass(frozen=True)
class Network:
    """A trained network.

    Attributes:
        candidate: the candidate that was trained.
        weights: its weights, a stack of one network.
        held_out_loss: loss on held-out sequences, nats per step.
        train_loss: loss at the end of training, nats per step.
    """

    candidate: Candidate
    weights: Weights
    held_out_loss: float
    train_loss: float

    @cached_property
    def tagger(self) -> Tagger:
        """The network as a `Tagger` of the zoo."""
        return tagger_of(self.weights)

    @torch.no_grad()
    def probs(self, x: Tensor) -> Tensor:
        """p(y_t | x_{1:t}) of symbols (N, T): (N, T, m), float64."""
        logits: Tensor = self.tagger.label_law(x).logits
        return logits.double().softmax(-1)


def all_candidates(settings: Settings, problems: Sequence[Problem], hidden_dim: int) -> list[Candidate]:
    """All candidates with k units: every learning rate and start, for each problem and number of sequences."""
    return [
        Candidate(problem, num_sequences, rate, start)
        for problem in problems
        for num_sequences in settings.num_sequences
        for rate in settings.rates(hidden_dim)
        for start in settings.starts(hidden_dim)
    ]


def train_networks(
    settings: Settings,
    problems: Sequence[Problem],
    hidden_dim: int,
    *,
    trains_start: bool = False,
) -> list[Network]:
    """The best network for each problem and each number of sequences, in that order; labels are the states."""
    candidates = all_candidates(settings, problems, hidden_dim)
    labels = []
    for problem in problems:
        assert problem.train.z is not None  # it was sampled with them
        labels.append(problem.train.z)
    states = dict(zip([problem.replicate for problem in problems], labels, strict=True))
    tried = train_candidates(
        settings,
        candidates,
        [states[candidate.problem.replicate] for candidate in candidates],
        (settings.num_symbols, problems[0].hmm.num_states, hidden_dim),
        trains_start=trains_start,
    )
    return chosen(tried)


def train_candidates(
    settings: Settings,
    candidates: Sequence[Candidate],
    labels: Sequence[Tensor],
    sizes: tuple[int, int, int],
    *,
    trains_start: bool = False,
    sequences: Sequence[Tensor] | None = None,
    targets: Targets | None = None,
) -> list[Network]:
    """Train every candidate as one stack.

    Args:
        settings: learning rates and counts.
        candidates: the candidates to train.
        labels: labels of each candidate's sequences, (N, T).
        sizes: numbers of symbols, of labels and of hidden units.
        trains_start: whether h_0 is trained.
        sequences: symbols (N, T) of each candidate, None for its problem's.
        targets: distributions of the labels, used instead of the labels.
    """
    inputs = sequences or [candidate.problem.train.x for candidate in candidates]
    purposes = [(*sizes, trains_start, c.problem.replicate, c.num_sequences, c.start) for c in candidates]
    weights = initial_weights(*sizes, [settings.seed_of("weights", *purpose) for purpose in purposes])
    tasks = [
        Task(x, y, c.num_sequences, c.learning_rate, settings.seed_of("order", *purpose))
        for x, y, c, purpose in zip(inputs, labels, candidates, purposes, strict=True)
    ]
    result = train(
        weights, tasks, settings.num_updates, settings.batch_size, trains_start=trains_start, targets=targets
    )
    return [
        Network(
            candidate,
            {name: value[i : i + 1] for name, value in result.weights.items()},
            float(result.held_out_loss[i]),
            float(result.train_loss[i]),
        )
        for i, candidate in enumerate(candidates)
    ]


def chosen(networks: Sequence[Network]) -> list[Network]:
    """The network of the smallest held-out loss for each problem and number of sequences, in order of appearance."""
    best: dict[tuple[int, int], Network] = {}
    for network in networks:
        key = (network.candidate.problem.replicate, network.candidate.num_sequences)
        if key not in best or network.held_out_loss < best[key].held_out_loss:
            best[key] = network
    return list(best.values())


def network_row(settings: Settings, network: Network, cell: Cell) -> Row:
    """A trained network's row."""
    problem, num_sequences, rate, _ = network.candidate
    return {
        "method": "rnn",
        "num_states": cell.num_states,
        "size": cell.size,
        "num_sequences": num_sequences,
        "replicate": problem.replicate,
        "start": cell.kind,
        "hmm_seed": settings.seed_of("hmm", cell.num_states, problem.replicate),
        "learning_rate": rate,
        "held_out_loss": network.held_out_loss,
        "train_loss": network.train_loss,
        "parameters": parameter_count(settings.num_symbols, cell.num_states, cell.size),
        "hmm_parameters": hmm_parameter_count(cell.num_states, settings.num_symbols),
        **state_scores(problem, network.probs(problem.test.x)),
    }
