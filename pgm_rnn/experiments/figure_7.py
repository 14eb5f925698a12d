"""Figure 7: a network of k units beside a particle filter of k particles."""

from math import inf, log2
from statistics import median_low
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from pgm_rnn.experiments.experiment import PAPER, Cell, Experiment, Finding, Row, Rows, Sentence
from pgm_rnn.experiments.networks import network_row, train_networks
from pgm_rnn.experiments.pictures import (
    BLACK,
    BLUE,
    VERMILION,
    draw_curve,
    label_axis,
    legend_above,
    panels,
    plain_ticks,
)
from pgm_rnn.experiments.problem import Problem, hmm_parameter_count, make_problem
from pgm_rnn.experiments.scores import state_scores
from pgm_rnn.experiments.settings import PAPER_TEST, Settings
from pgm_rnn.experiments.summary import column, curve, each_draw, middle, number, values_of, where
from pgm_rnn.inference import smc

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTICLES = "particle filter"


class Figure7(Experiment):
    """Accuracy and agreement against the dimension."""

    id = "figure-7"
    title = "predicted states of a 5-state, 10-symbol HMM by k hidden units and by k particles"
    source = f"{PAPER}, sec. 4.2, fig. 7"
    described = (
        "HMMs with 5 states and 10 symbols. Networks as in figure 5, n = 20 000; a bootstrap filter with the true "
        "parameters and M = k particles, resampled at every step (sec. 2.3), predicts the state of the largest "
        "weight. Further to the right, particles alone, on the hundred test sequences only."
    )
    settings = Settings(
        num_symbols=10,
        num_states=(5,),
        hidden_dims=(1, 2, 5, 10, 20, 50, 100),
        num_updates=1000,
        many_particles=(14, 28, 70, 140, 280, 700, 1400, 10_000),
        group=5,
    )
    quick = Settings(
        num_symbols=10,
        num_states=(3,),
        hidden_dims=(1, 3),
        num_sequences=(100,),
        replicates=2,
        num_updates=20,
        narrow_starts=1,
        num_test=120,
        many_particles=(200,),
        group=2,
    )

    @override
    def check(self, settings: Settings) -> None:
        settings.check_one(self.id, "num_states", "num_sequences")
        settings.check_single_unit(self.id)

    @override
    def cells(self, settings: Settings) -> list[Cell]:
        networks = [("zero", k) for k in sorted(settings.hidden_dims, reverse=True)]
        numbers = sorted({*settings.many_particles, *settings.hidden_dims}, reverse=True)
        return [
            Cell(kind, num_states, size, replicates)
            for replicates in settings.replicate_groups()
            for kind, size in [*networks, *(("particles", number) for number in numbers)]
            for num_states in settings.num_states
        ]

    @override
    def run(self, settings: Settings, cell: Cell) -> list[Row]:
        problems = [make_problem(settings, cell.num_states, replicate) for replicate in cell.replicates]
        if cell.kind == "particles":
            if cell.size in settings.many_particles:
                problems = [problem.first(PAPER_TEST) for problem in problems]
            return [filter_row(settings, problem, cell.size) for problem in problems]
        return [network_row(settings, network, cell) for network in train_networks(settings, problems, cell.size)]

    @override
    def draw(self, rows: Rows) -> "Figure":
        figure, (top, bottom) = panels(2)
        for axis, measured in ((top, "accuracy"), (bottom, "agreement")):
            for name, method, look in (("RNN", "rnn", BLUE), ("particle filter", PARTICLES, VERMILION)):
                draw_curve(axis, curve(where(rows, method=method), "size", measured), look, name)
            axis.set_xscale("log")
            plain_ticks(axis, [*map(float, _both(rows)), 1000.0, 10_000.0])
        draw_curve(
            top,
            curve(where(rows, method=PARTICLES), "size", "forward_accuracy"),
            BLACK,
            "forward algorithm",
            interval=False,
        )
        draws = len(values_of(rows, "replicate"))
        label = "k, hidden units or particles"
        label_axis(top, label, "accuracy", percent=True, note=f"median and middle 80 % of {draws} HMMs")
        label_axis(bottom, label, "agreement with forward", percent=True)
        legend_above(top)
        return figure


def filter_row(settings: Settings, problem: Problem, num_particles: int) -> Row:
    """The row of a bootstrap filter."""
    num_states = problem.hmm.num_states
    return {
        "method": PARTICLES,
        "num_states": num_states,
        "size": num_particles,
        "num_sequences": 0,
        "replicate": problem.replicate,
        "start": "particles",
        "hmm_seed": settings.seed_of("hmm", num_states, problem.replicate),
        "parameters": hmm_parameter_count(num_states, settings.num_symbols),
        "hmm_parameters": hmm_parameter_count(num_states, settings.num_symbols),
        **state_scores(problem, filtered_shares(settings, problem, num_particles)),
    }


def filtered_shares(settings: Settings, problem: Problem, num_particles: int) -> Tensor:
    """Weights of the particles in each state after every test step, (num_test, T, m)."""
    num_states = problem.hmm.num_states

    def indicators(z: Tensor, h: Tensor | None) -> Tensor:
        return F.one_hot(z, num_states).double()

    result = smc.filter(
        problem.hmm,
        problem.test.x,
        num_particles=num_particles,
        resampling="multinomial",
        ess_threshold=1.0,
        functions={"states": indicators},
        seed=settings.seed_of("particles", num_states, problem.replicate, num_particles),
    )
    return result.means["states"]


def _both(rows: Rows) -> list[int]:
    """The dimensions that networks and filters share."""
    return values_of(where(rows, method="rnn"), "size")


def _outperforms(rows: Rows) -> Finding:
    def better(draw: list[Row], size: int) -> bool:
        (rnn,), (particles,) = (where(draw, method=method, size=size) for method in ("rnn", PARTICLES))
        return all(number(rnn, name) > number(particles, name) for name in ("expected_accuracy", "agreement_all"))

    def count(size: int) -> int:
        return sum(each_draw(rows, lambda draw: better(draw, size)))

    counts = [f"{count(size)} at k = {size}" for size in _both(rows)]
    agreement = [
        f"{100 * middle(where(rows, method='rnn', size=size), 'agreement_all'):.1f} against "
        f"{100 * middle(where(rows, method=PARTICLES, size=size), 'agreement_all'):.1f} at k = {size}"
        for size in _both(rows)
    ]
    reason = f"Draws: {', '.join(counts)}. Median agreement in percent: {', '.join(agreement)}."
    return Finding(each_draw(rows, lambda draw: all(better(draw, size) for size in _both(rows))), reason)


UNIT_BITS = 32
"""Bits of a hidden unit, a float32; a particle is one of m states."""


def _efficient(rows: Rows) -> Finding:
    """Number of particles that agree with the forward algorithm as often as k units, on the paper's test set."""
    states = values_of(rows, "num_states")[0]
    tried = values_of(where(rows, method=PARTICLES), "size")
    draws = [where(rows, replicate=replicate) for replicate in values_of(rows, "replicate")]

    def agreement(draw: list[Row], method: str, size: int) -> float:
        return number(where(draw, method=method, size=size)[0], "agreement")

    def needed(draw: list[Row], size: int) -> float:
        unit = agreement(draw, "rnn", size)
        return min((m for m in tried if agreement(draw, PARTICLES, m) >= unit), default=inf)

    def said(size: int) -> str:
        particles = median_low(needed(draw, size) for draw in draws)
        return f"{particles:.0f}" if particles < inf else f"more than {tried[-1]}"

    per_unit = round(UNIT_BITS / log2(states))
    as_many_bits = [
        f"{sum(agreement(draw, 'rnn', k) > agreement(draw, PARTICLES, per_unit * k) for draw in draws)} at k = {k}"
        for k in _both(rows)
        if per_unit * k in tried
    ]
    beside = f": {', '.join(as_many_bits)}" if as_many_bits else " was not looked at"
    reason = (
        f"As often as k = {', '.join(map(str, _both(rows)))} units agree {', '.join(map(said, _both(rows)))} particles "
        f"(the least of those tried, median). Dimension is not memory: a unit has {UNIT_BITS} bits, a particle log2 "
        f"{states} = {log2(states):.1f}. In how many of {len(draws)} draws k units agree more often than {per_unit} k "
        f"particles, as many bits{beside}."
    )
    return Finding([all(needed(draw, size) > size for size in _both(rows)) for draw in draws], reason)


MUCH = 1.5
"""Ratio of agreements with the forward algorithm that counts as "much more expressive"."""


def _unit_against_particle(rows: Rows) -> Finding:
    unit, particle = (where(rows, method=method, size=1) for method in ("rnn", PARTICLES))
    reason = (
        f"Agreement {100 * middle(unit, 'agreement_all'):.1f} % against "
        f"{100 * middle(particle, 'agreement_all'):.1f} % (medians), {100 * min(column(unit, 'agreement_all')):.1f} % "
        f"against {100 * min(column(particle, 'agreement_all')):.1f} % (least). A particle is a "
        "draw from the states and a unit a number. A single particle's weight is always one: its path is a draw from "
        "the Markov chain that never looks at x."
    )

    def is_much(draw: list[Row]) -> bool:
        one, other = (number(where(draw, method=method)[0], "agreement_all") for method in ("rnn", PARTICLES))
        return one >= MUCH * other

    return Finding(each_draw([*unit, *particle], is_much), reason)


def _enough_particles(rows: Rows) -> Finding:
    most = values_of(where(rows, method=PARTICLES), "size")[-1]
    last = where(rows, method=PARTICLES, size=most)
    same = each_draw(last, lambda draw: all(row["different"] == 0 for row in draw))
    reason = (
        f"With M = {most} the median agreement is {100 * middle(last, 'agreement_all'):.2f} %; no prediction differs "
        f"in {sum(same)} of {len(same)} draws. Nearly tied states are told apart by more particles only: the error "
        "falls as 1 / sqrt(M) (claim `particle-filter-rate`)."
    )
    return Finding(each_draw(last, lambda draw: all(map(_only_near_ties, draw))), reason)


def _only_near_ties(row: Row) -> bool:
    """Whether nothing but nearly tied states was predicted differently."""
    return row["agreement_all"] == 1 or row["near_ties_among_different"] == 1


Figure7.sentences = (
    Sentence(
        "sec. 4.2",
        "for any fixed dimension shown, the RNN outperforms the particle filter in both prediction and learning "
        "optimal inference",
        "expected accuracy and agreement with the forward algorithm are higher, for every k",
        _outperforms,
    ),
    Sentence(
        "sec. 4.2",
        "the RNN is able to learn a more efficient representation than the particle filter given the same dimension",
        "more than k particles are needed to agree with the forward algorithm as often as k units, for every k",
        _efficient,
    ),
    Sentence(
        "sec. 4.2",
        "a single RNN hidden unit is much more expressive than a single particle",
        f"a network of one unit agrees with the forward algorithm {MUCH:g} times as often as one particle, at least",
        _unit_against_particle,
    ),
    Sentence(
        "sec. 4.2",
        "with enough particles, a particle filter will perform identically to the forward algorithm",
        "with the largest M, on the hundred test sequences, only nearly tied states are predicted differently",
        _enough_particles,
    ),
)
