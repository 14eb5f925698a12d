"""Particle filters trained end to end on a random hidden Markov model's sequences, and what their gradients are worth.

A method determines what is learned, from which loss and with which gradient (`pgm_rnn.experiments.particle_networks`).
Each update runs every filter several times on each of a few sequences, so that the runs serve as one another's
baseline. The optimiser is Adam, with a learning rate that falls linearly to zero. All numbers are in float32, and each
replicate has its own generator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from pgm_rnn.experiments.experiment import Cell, Row
from pgm_rnn.experiments.particle_networks import Gradient, Objective, ParticleNetworks, Trace, surrogate
from pgm_rnn.experiments.problem import Problem
from pgm_rnn.experiments.scores import state_scores
from pgm_rnn.experiments.settings import NUM_STEPS, Settings
from pgm_rnn.inference import forward_backward

RATE = 0.05
"""The learning rate at the beginning, of logits."""

NUM_RUNS = 4
"""Runs of a filter per sequence of an update; `Settings.batch_size` counts runs."""

TEST_RUNS = 5
"""Runs on each test sequence, over which the scores are averaged."""

READ_AHEAD = ("accuracy", "agreement", "accuracy_all", "agreement_all", "expected_accuracy", "kl")
"""Scores of states read one step ahead."""

GRADIENT_BATCHES = 100
"""Updates whose gradients are averaged to compare them."""


@dataclass(frozen=True)
class Method:
    """A kind of filter.

    Attributes:
        proposal: initial proposal q: the transition, or p(z_t | z_{t-1}, x_t).
        share: the weights' share of the distribution of the ancestors.
        objective: the training objective, None for a filter that is not trained.
        gradient: the draws that the gradient accounts for.
        learns_model: whether all parameters are learned; otherwise only the proposal is.
    """

    proposal: Literal["prior", "optimal"] = "prior"
    share: float = 0.5
    objective: Objective | None = None
    gradient: Gradient = "full"
    learns_model: bool = False


METHODS = {
    "bootstrap": Method(share=1.0),
    "optimal": Method("optimal", share=1.0),
    "untrained": Method(),
    "likelihood": Method(objective="likelihood"),
    "weights-only": Method(objective="likelihood", gradient="weights"),
    "states": Method(objective="ahead"),
    "all-ahead": Method(objective="ahead", learns_model=True),
    "all-particles": Method(objective="particles", learns_model=True),
}
"""Filters by name; what begins with "all" learns everything from observations and states, as a network does."""


def make_filters(
    method: Method, problems: Sequence[Problem], num_symbols: int, generators: Sequence[torch.Generator]
) -> ParticleNetworks:
    """One filter per problem, before any training."""
    if method.learns_model:
        num_states = problems[0].hmm.num_states
        return ParticleNetworks.blank(num_states, num_symbols, generators, share=method.share).float()
    networks = ParticleNetworks.of([problem.hmm for problem in problems], share=method.share)
    if method.proposal == "optimal":
        networks.set_optimal_proposal()
    return networks.float()


def train_filters(
    method: Method,
    settings: Settings,
    problems: Sequence[Problem],
    num_particles: int,
    generators: Sequence[torch.Generator],
) -> ParticleNetworks:
    """One filter per problem, trained on its first n sequences if the method has an objective."""
    networks = make_filters(method, problems, settings.num_symbols, generators)
    if method.objective is None:
        return networks
    optimizer = torch.optim.Adam([p for p in networks.parameters() if p.requires_grad], RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda number: 1 - number / settings.num_updates)
    for _ in range(settings.num_updates):
        x, z, uniforms = drawn_batch(settings, problems, num_particles, generators)
        optimizer.zero_grad(set_to_none=True)
        surrogate(networks.run(x, uniforms, method.gradient), method.objective, z).backward()
        optimizer.step()
        schedule.step()
    return networks


def drawn_batch(
    settings: Settings, problems: Sequence[Problem], num_particles: int, generators: Sequence[torch.Generator]
) -> tuple[Tensor, Tensor, Tensor]:
    """Symbols and states of random training sequences, (H, B, T), and uniforms (T, 2, M, R, H, B) for their runs."""
    batch = max(1, settings.batch_size // NUM_RUNS)
    x, z, uniforms = [], [], []
    for problem, generator in zip(problems, generators, strict=True):
        assert problem.train.z is not None  # it was sampled with them
        index = torch.randint(settings.num_sequences[-1], (batch,), generator=generator)
        x.append(problem.train.x[index])
        z.append(problem.train.z[index])
        uniforms.append(_uniforms((NUM_STEPS, 2, num_particles, NUM_RUNS, batch), generator))
    return torch.stack(x), torch.stack(z), torch.stack(uniforms, dim=4)


def filter_rows(settings: Settings, problems: Sequence[Problem], cell: Cell) -> list[Row]:
    """One row per problem: scores of states read from the particles, and ("ahead_") one exact step ahead of them."""
    method = METHODS[cell.kind]
    generators = generators_for(settings, problems, cell)
    networks = train_filters(method, settings, problems, cell.size, generators)
    return [
        {
            "method": cell.kind,
            "num_states": cell.num_states,
            "size": cell.size,
            "num_sequences": settings.num_sequences[-1] if method.objective else 0,
            "replicate": problem.replicate,
            "hmm_seed": settings.seed_of("hmm", cell.num_states, problem.replicate),
            "parameters": sum(p[0].numel() for p in networks.parameters() if p.requires_grad and method.objective),
            **_scores(problem, _tested(networks, problem, number, cell.size, generator)),
        }
        for number, (problem, generator) in enumerate(zip(problems, generators, strict=True))
    ]


@torch.no_grad()
def _tested(
    networks: ParticleNetworks, problem: Problem, number: int, num_particles: int, generator: torch.Generator
) -> Trace:
    """Runs of one of the filters on its test sequences."""
    uniforms = _uniforms((NUM_STEPS, 2, num_particles, TEST_RUNS, 1, len(problem.test.x)), generator)
    return networks.only(number).run(problem.test.x[None], uniforms, "weights")


def _scores(problem: Problem, trace: Trace) -> Row:
    """Scores averaged over the runs of one filter; without the divergence where a law is zero and it infinite."""
    found: Row = {}
    for prefix, laws in (("", trace.particles), ("ahead_", trace.ahead)):
        scores = [state_scores(problem, law.transpose(0, 1).double()) for law in laws[:, :, 0].unbind(1)]
        names = READ_AHEAD if prefix else scores[0]
        means = {name: sum(float(score[name]) for score in scores) / len(scores) for name in names}
        found |= {prefix + name: value for name, value in means.items() if value < torch.inf}
    exact = forward_backward.filter(problem.hmm, problem.test.x).log_marginal_likelihood
    log_z = trace.log_normalizers[:, :, 0].double().sum(0)  # (R, num_test)
    return found | {"log_z_gap": float((exact - log_z).mean())}


def gradient_rows(settings: Settings, problems: Sequence[Problem], cell: Cell) -> list[Row]:
    """Compare gradients that leave out some draws with the unbiased one, at the prior proposal, for two objectives.

    projection    <g, f> / <f, f> of the expected gradients g and f, f the unbiased one: 1 for f itself, 0 for a
                  gradient that says nothing of it, negative for one that leads away
    bias          |g - f| / |f|
    noise         root mean square of an update's deviation from g, in |f|

    Columns are called objective_gradient_measure. The numbers are made of products of two independent halves, which
    have no bias themselves; where |f| cannot be told from zero there is none.
    """
    networks = make_filters(METHODS["untrained"], problems, settings.num_symbols, [])
    generators = generators_for(settings, problems, cell)
    kinds: list[tuple[Objective, Gradient]] = list(product(("likelihood", "ahead"), ("full", "states", "weights")))
    count = max(2, min(GRADIENT_BATCHES, settings.num_updates))
    sums = {kind: torch.zeros(2, len(problems), networks.delta[0].numel(), dtype=torch.float64) for kind in kinds}
    squares = {kind: torch.zeros(len(problems), dtype=torch.float64) for kind in kinds}
    for number in range(count):
        x, z, uniforms = drawn_batch(settings, problems, cell.size, generators)
        for kind in kinds:
            loss = surrogate(networks.run(x, uniforms, kind[1]), kind[0], z)
            (found,) = torch.autograd.grad(loss, [networks.delta])
            flat = found.double().flatten(1)
            sums[kind][number % 2] += flat
            squares[kind] += flat.square().sum(-1) / count
    counts = torch.tensor([(count + 1) // 2, count // 2])[:, None, None]
    halves = {kind: total / counts for kind, total in sums.items()}
    return [
        {
            "method": "gradient",
            "num_states": cell.num_states,
            "size": cell.size,
            "num_sequences": settings.num_sequences[-1],
            "replicate": problem.replicate,
            **{
                f"{kind[0]}_{kind[1]}_{name}": value
                for kind in kinds
                for name, value in _comparison(
                    halves[kind][:, i], halves[kind[0], "full"][:, i], float(squares[kind][i])
                ).items()
            },
        }
        for i, problem in enumerate(problems)
    ]


def _comparison(halves: Tensor, unbiased: Tensor, mean_square: float) -> Row:
    """Projection, bias and noise from the means of two halves (2, P)."""
    norm, off = float(unbiased[0] @ unbiased[1]), halves - unbiased
    if norm <= 0:
        return {}
    return {
        "projection": float(halves[0] @ unbiased[1] + halves[1] @ unbiased[0]) / 2 / norm,
        "bias": (max(0.0, float(off[0] @ off[1])) / norm) ** 0.5,
        "noise": (max(0.0, mean_square - float(halves[0] @ halves[1])) / norm) ** 0.5,
    }


def generators_for(settings: Settings, problems: Sequence[Problem], cell: Cell) -> list[torch.Generator]:
    """One generator per problem, independent of the other problems."""
    purpose = ("filter", cell.kind, cell.num_states, cell.size)
    return [torch.Generator().manual_seed(settings.seed_of(*purpose, problem.replicate)) for problem in problems]


def _uniforms(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float32)
