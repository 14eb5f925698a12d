"""Figure 6: a network of fixed size learns to predict the states of HMMs with ever more of them."""

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from typing_extensions import override

from pgm_rnn.experiments.experiment import PAPER, Cell, Experiment, Finding, Row, Rows, Sentence
from pgm_rnn.experiments.networks import network_row, train_networks
from pgm_rnn.experiments.pictures import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILION,
    draw_curve,
    label_axis,
    legend_above,
    panels,
    plain_ticks,
    side_by_side,
)
from pgm_rnn.experiments.problem import make_problem
from pgm_rnn.experiments.settings import NUM_STEPS, PAPER_TEST, Settings
from pgm_rnn.experiments.summary import curve, each_draw, largest, middle, number, values_of, where

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POOR = 0.1
"""Accuracy below which the forward algorithm counts as performing very poorly."""

MATCHING = 0.95
"""Fraction of the forward algorithm's expected accuracy that counts as matching it."""

HARDER = 1.25
"""Factor by which expected accuracy must fall each time that m doubles, to count as an exponential fall."""


class Figure6(Experiment):
    """Accuracy, agreement and numbers of parameters against the number of states."""

    id = "figure-6"
    title = "predicted states of HMMs with m states and 3 symbols, by a network of 100 units"
    source = f"{PAPER}, sec. 4.1.1, fig. 6"
    described = (
        "As figure 5 with m = 2, 4, ..., 512 states, n = 20 000 and k = 100; the paper does not say which k and how "
        "many symbols it has, so these are figure 5's. Parameters are free probabilities of the HMM and entries of "
        "the network's W, U, b, V and c."
    )
    settings = Settings(num_states=(2, 4, 8, 16, 32, 64, 128, 256, 512), hidden_dims=(100,), num_updates=1000, group=2)
    quick = Settings(
        num_states=(2, 4, 8), hidden_dims=(4,), num_sequences=(200,), replicates=2, num_updates=20, narrow_starts=1
    )

    @override
    def check(self, settings: Settings) -> None:
        settings.check_several(self.id, "num_states")

    @override
    def cells(self, settings: Settings) -> list[Cell]:
        return [
            Cell("zero", num_states, k, replicates)
            for replicates in settings.replicate_groups()
            for num_states in sorted(settings.num_states, reverse=True)
            for k in settings.hidden_dims
        ]

    @override
    def run(self, settings: Settings, cell: Cell) -> list[Row]:
        problems = [make_problem(settings, cell.num_states, replicate) for replicate in cell.replicates]
        return [network_row(settings, network, cell) for network in train_networks(settings, problems, cell.size)]

    @override
    def draw(self, rows: Rows) -> "Figure":
        figure, (top, ratio, bottom) = panels(3, height=2.9)
        rows = largest(rows)
        curves = [
            ("forward algorithm", "forward_accuracy", GREEN),
            ("RNN", "accuracy", BLUE._replace(dashes="--")),
            ("agreement of the two", "agreement", ORANGE),
        ]
        for place, (name, measured, look) in enumerate(curves):
            draw_curve(top, curve(rows, "num_states", measured), look, name, shift=side_by_side(place, len(curves)))
        draw_curve(top, curve(rows, "num_states", "chance"), PURPLE, "chance, 1/m", interval=False)
        shares = [{**row, "ratio": _ratio(row)} for row in rows]
        draw_curve(ratio, curve(shares, "num_states", "ratio"), BLUE, "expected accuracy, RNN / forward")
        ratio.axhline(MATCHING, color=BLACK.color, linestyle=":", label="counts as matching")
        for name, measured, look in (("RNN", "parameters", BLUE), ("HMM", "hmm_parameters", VERMILION)):
            draw_curve(bottom, curve(rows, "num_states", measured), look, name, interval=False)
        for axis in (top, bottom):
            axis.set_yscale("log")
        for axis in (top, ratio, bottom):
            axis.set_xscale("log", base=2)
            plain_ticks(axis, [float(m) for m in values_of(rows, "num_states")])
        draws = len(values_of(rows, "replicate"))
        label, note = "m, hidden states of the HMM", f"median and middle 80 % of {draws} HMMs for each m"
        label_axis(top, label, "accuracy, agreement", percent=True, note=note)
        label_axis(ratio, label, "accuracy ratio", percent=True, note=note)
        label_axis(bottom, label, "parameters")
        for axis, columns in ((top, 2), (ratio, 2), (bottom, 2)):
            legend_above(axis, columns)
        return figure


def _at(rows: Rows, num_states: int, name: str) -> float:
    return middle(where(rows, num_states=num_states), name)


def _percents(rows: Rows, name: str) -> str:
    """Medians of a column for every m."""
    return ", ".join(f"{100 * _at(rows, m, name):.3g}" for m in values_of(rows, "num_states"))


def _poor(rows: Rows) -> Finding:
    rows = largest(rows)
    few, many = values_of(rows, "num_states")[0], values_of(rows, "num_states")[-1]
    last = where(rows, num_states=many)
    reason = (
        "The forward algorithm's expected accuracy falls from a median of "
        f"{100 * _at(rows, few, 'forward_expected_accuracy'):.1f} % at m = {few} to "
        f"{100 * middle(last, 'forward_expected_accuracy'):.2g} % at m = {many}, "
        f"{many * middle(last, 'forward_expected_accuracy'):.1f} times chance."
    )
    return Finding(
        each_draw(last, lambda draw: all(number(row, "forward_expected_accuracy") < POOR for row in draw)), reason
    )


def _harder(rows: Rows) -> Finding:
    rows = largest(rows)
    states = values_of(rows, "num_states")
    steps = list(pairwise(states))

    def fall(draw: list[Row], few: int, many: int) -> float:
        return _at(draw, few, "forward_expected_accuracy") / _at(draw, many, "forward_expected_accuracy")

    draws = [where(rows, replicate=replicate) for replicate in values_of(rows, "replicate")]
    falls = ", ".join(f"{median([fall(draw, *step) for draw in draws]):.2f}" for step in steps)
    first, last = (m * _at(rows, m, "forward_expected_accuracy") for m in (states[0], states[-1]))
    reason = (
        f"From each m to the next its expected accuracy is divided by {falls} (medians), chance by "
        f"{', '.join(f'{many / few:g}' for few, many in steps)}. An exponential in the number of doublings, the "
        f"figure's axis, is a power of m. The forward algorithm is {first:.1f} times as accurate as chance at "
        f"m = {states[0]} and {last:.1f} times at m = {states[-1]}."
    )
    return Finding(each_draw(rows, lambda draw: all(fall(draw, *step) >= HARDER for step in steps)), reason)


def _chance(rows: Rows) -> Finding:
    rows = largest(rows)
    ratios = [
        f"{middle(group, 'chance_agreement') * m:.1f} at m = {m}"
        for m in values_of(rows, "num_states")
        for group in [where(rows, num_states=m)]
    ]
    reason = (
        "A guess is right with probability 1/m, but two predictors that know nothing of each other agree more often, "
        "for some states are predicted far more often than others. How often, in units of 1/m: "
        + ", ".join(ratios)
        + "."
    )
    return Finding(
        each_draw(
            rows, lambda draw: all(number(row, "chance_agreement") < 1.5 * number(row, "chance") for row in draw)
        ),
        reason,
    )


def _matches(rows: Rows) -> Finding:
    rows = largest(rows)
    states = values_of(rows, "num_states")
    ratios = [f"{100 * median(map(_ratio, where(rows, num_states=m))):.1f}" for m in states]
    right = NUM_STEPS * PAPER_TEST * _at(rows, states[-1], "forward_accuracy")
    lost = right * (1 - median(map(_ratio, where(rows, num_states=states[-1]))))
    reason = (
        f"Expected accuracy in percent of the forward algorithm's, medians for m = {', '.join(map(str, states))}: "
        f"{', '.join(ratios)}. On the paper's hundred test sequences the forward algorithm is right in {right:.0f} of "
        f"{NUM_STEPS * PAPER_TEST} predictions at m = {states[-1]} (median), of which the network loses {lost:.1f}."
    )
    return Finding(each_draw(rows, lambda draw: all(_ratio(row) >= MATCHING for row in draw)), reason)


def _ratio(row: Row) -> float:
    return number(row, "expected_accuracy") / number(row, "forward_expected_accuracy")


def _decreases(rows: Rows) -> Finding:
    rows = largest(rows)
    few, many = values_of(rows, "num_states")[0], values_of(rows, "num_states")[-1]

    def falls(draw: list[Row]) -> bool:
        return _at(draw, many, "agreement_all") < _at(draw, few, "agreement_all")

    states = ", ".join(map(str, values_of(rows, "num_states")))
    reason = f"Median agreement in percent for m = {states}: {_percents(rows, 'agreement_all')}."
    return Finding(each_draw(rows, falls), reason)


def _crossing(rows: Rows) -> Finding:
    rows = largest(rows)
    crossing = next((m for m in values_of(rows, "num_states") if _surpassed(rows, m)), None)

    def steepest(draw: list[Row]) -> int:
        steps = list(pairwise(values_of(draw, "num_states")))
        return max(steps, key=lambda step: _at(draw, step[0], "agreement_all") - _at(draw, step[1], "agreement_all"))[1]

    found = [steepest(where(rows, replicate=replicate)) for replicate in values_of(rows, "replicate")]
    where_steepest = ", ".join(f"at m = {m} in {found.count(m)}" for m in sorted(set(found)))
    states = ", ".join(map(str, values_of(rows, "num_states")))
    more = "for no m" if crossing is None else f"from m = {crossing} on"
    reason = (
        f"The HMM has more parameters than the network {more}. The steepest drop ends "
        f"{where_steepest} of {len(found)} draws. For m = {states} the median agreement in percent is "
        f"{_percents(rows, 'agreement_all')}, and the share of steps whose two most probable states are nearly tied "
        f"{_percents(rows, 'near_ties')}."
    )
    return Finding(each_draw(rows, lambda draw: steepest(draw) == crossing), reason)


def _surpassed(rows: Rows, num_states: int) -> bool:
    return _at(rows, num_states, "hmm_parameters") > _at(rows, num_states, "parameters")


Figure6.sentences = (
    Sentence(
        "sec. 4.1.1",
        "even the information-theoretically optimal forward algorithm [...] performs very poorly as the number of "
        "hidden states in the HMM increases exponentially",
        f"its expected accuracy at the largest m is below {100 * POOR:.0f} %",
        _poor,
    ),
    Sentence(
        "sec. 4.1.1",
        "the prediction task gets exponentially harder at the same time",
        f"the forward algorithm's expected accuracy falls at least by a factor of {HARDER:g} from each m to the next",
        _harder,
    ),
    Sentence(
        "fig. 6, caption",
        "Purple line indicates making the correct or identical prediction by chance",
        "independent predictors with the two's frequencies agree less than 1.5 / m of the time, for every m",
        _chance,
    ),
    Sentence(
        "sec. 4.1.1",
        "the RNN prediction accuracy (blue) still matches the optimal accuracy",
        f"the network's expected accuracy is at least {100 * MATCHING:.0f} % of the forward algorithm's, for every m",
        _matches,
    ),
    Sentence(
        "sec. 4.1.1",
        "the agreement between the two predictions (yellow) appear to decrease",
        "the agreement is lower at the largest m than at the smallest",
        _decreases,
    ),
    Sentence(
        "sec. 4.1.1",
        "The agreement drops significantly when the number of HMM parameters surpasses that of RNN",
        "its steepest drop from one m to the next is where the HMM's parameters become more",
        _crossing,
    ),
)
