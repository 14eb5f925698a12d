"""Figure 5: networks of k units learn to predict an HMM's states from n labelled sequences."""

from itertools import takewhile
from math import inf, sqrt
from statistics import median_low
from typing import TYPE_CHECKING

from typing_extensions import override

from pgm_rnn.experiments.experiment import PAPER, Cell, Experiment, Finding, Row, Rows, Sentence
from pgm_rnn.experiments.networks import network_row, train_networks
from pgm_rnn.experiments.pictures import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    SKY,
    draw_curve,
    label_axis,
    panels,
    plain_ticks,
    side_by_side,
)
from pgm_rnn.experiments.problem import make_problem
from pgm_rnn.experiments.scores import NEAR_TIE
from pgm_rnn.experiments.settings import NUM_STEPS, PAPER_TEST, Settings
from pgm_rnn.experiments.summary import Curve, column, curve, each_draw, middle, number, values_of, where

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = (BLUE, ORANGE, GREEN, SKY)

CLOSE = 0.99
"""Least agreement at which a network counts as having the forward algorithm's predictions, except for near ties."""

ROUNDING = 1e-5
"""Difference of two expected accuracies in the CSV, which has six digits, that may be rounding."""

SMALL = 1e-3
"""The divergence in nats per step below which the forward probability counts as estimated."""


class Figure5(Experiment):
    """Accuracy against the number of training sequences."""

    id = "figure-5"
    title = "predicted states of a 2-state, 3-symbol HMM against the number n of training sequences"
    source = f"{PAPER}, sec. 4.1, fig. 5"
    described = (
        "An HMM with 2 states and 3 symbols and Dirichlet(1) parameters gives n labelled sequences of 8 steps. Elman "
        "networks of k units with h_0 = 0 learn the state of each step; the first hundred test sequences are the "
        "paper's test set. As a fourth curve, one unit whose h_0 is trained as well."
    )
    settings = Settings(num_sequences=(100, 300, 1000, 3000, 10_000, 20_000))
    quick = Settings(
        num_sequences=(20, 200), hidden_dims=(1, 4), replicates=2, num_updates=20, batch_size=20, narrow_starts=1
    )

    @override
    def check(self, settings: Settings) -> None:
        settings.check_one(self.id, "num_states")
        settings.check_single_unit(self.id)

    @override
    def cells(self, settings: Settings) -> list[Cell]:
        kinds = [("zero", k) for k in sorted(settings.hidden_dims, reverse=True)] + [("trained", 1)]
        return [
            Cell(kind, num_states, k, replicates)
            for replicates in settings.replicate_groups()
            for kind, k in kinds
            for num_states in settings.num_states
        ]

    @override
    def run(self, settings: Settings, cell: Cell) -> list[Row]:
        problems = [make_problem(settings, cell.num_states, replicate) for replicate in cell.replicates]
        networks = train_networks(settings, problems, cell.size, trains_start=cell.kind == "trained")
        return [network_row(settings, network, cell) for network in networks]

    @override
    def draw(self, rows: Rows) -> "Figure":
        figure, (top, middle_panel, bottom) = panels(3, height=2.7)
        first, series = where(rows, replicate=0), _series(rows)
        for place, (look, name) in enumerate(zip(LOOKS, series, strict=False)):
            shift = side_by_side(place, len(series))
            draw_curve(top, _sampled(_series(first)[name]), look, name, shift=shift)
            chosen = [{**row, "loss": _loss(row)} for row in series[name]]
            draw_curve(middle_panel, curve(chosen, "num_sequences", "loss"), look, name, shift=shift)
            draw_curve(bottom, curve(chosen, "num_sequences", "agreement"), look, name, shift=shift)
        forward = curve(where(first, size=values_of(rows, "size")[0]), "num_sequences", "forward_accuracy")
        draw_curve(top, forward, BLACK, "forward algorithm", interval=False)
        for axis in (top, middle_panel, bottom):
            axis.set_xscale("log")
            plain_ticks(axis, [float(n) for n in values_of(rows, "num_sequences")])
        top.set_ylim(number(first[0], "chance"), 1)  # differences of a few predictions are noise
        note = f"median and middle 80 % of {len(values_of(rows, 'replicate'))} HMMs"
        label = "n, training sequences"
        one = f"one HMM, draw 0; bars: ± 2 standard errors of {PAPER_TEST * NUM_STEPS} predictions"
        label_axis(top, label, "accuracy", percent=True, note=one)
        label_axis(middle_panel, label, "accuracy - forward's", percent=True, note=note)
        label_axis(bottom, label, "agreement", percent=True, note=note)
        figure.legend(*top.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=9, frameon=False)
        return figure


def _sampled(rows: Rows) -> Curve:
    """The accuracy of one draw's networks, with two standard errors of a share of the test set's predictions."""
    found = curve(rows, "num_sequences", "accuracy")
    errors = [2 * sqrt(p * (1 - p) / (PAPER_TEST * NUM_STEPS)) for p in found.middle]
    low, high = ([p + sign * e for p, e in zip(found.middle, errors, strict=True)] for sign in (-1, 1))
    return found._replace(low=low, high=high)


def _loss(row: Row) -> float:
    """The accuracy beyond the forward algorithm's, on the paper's test set."""
    return number(row, "accuracy") - number(row, "forward_accuracy")


def _series(rows: Rows) -> dict[str, list[Row]]:
    """The curves: every k with h_0 = 0, then the unit with a trained h_0."""
    paper = where(rows, start="zero")
    found = {f"k = {k}": where(paper, size=k) for k in values_of(paper, "size")}
    return {**found, "k = 1, h_0 trained": where(rows, start="trained")}


def _last(rows: Rows, start: str = "zero", size: int | None = None) -> list[Row]:
    """The rows of the largest training set."""
    found = where(rows, start=start, num_sequences=values_of(rows, "num_sequences")[-1])
    return found if size is None else where(found, size=size)


def _same(rows: Rows) -> bool:
    """Whether no prediction on the paper's test set differs from the forward algorithm's."""
    return all(row["different"] == 0 for row in rows)


def _caption(rows: Rows) -> Finding:
    last = _last(rows)
    counts = [f"{sum(each_draw(where(last, size=k), _same))} with k = {k}" for k in values_of(last, "size")]
    differing = [row for row in last if number(row, "agreement_all") < 1]
    near = (
        f" Of a network's differences on all test sequences {100 * middle(differing, 'near_ties_among_different'):.0f} "
        f"% (median) are near ties, log-odds below {NEAR_TIE} nats; the worst network agrees on "
        f"{100 * min(column(differing, 'agreement_all')):.1f} % of the steps."
        if differing
        else ""
    )
    return Finding(each_draw(last, _same), f"Draws without a single difference: {', '.join(counts)}.{near}")


def _single_unit(rows: Rows) -> Finding:
    zero, trained = _last(rows, size=values_of(rows, "size")[0]), _last(rows, "trained")
    stuck = each_draw(where(rows, start="zero", size=values_of(rows, "size")[0]), _is_stuck)
    reason = (
        "One number is enough, the log-odds of the two states, if any function of it may follow (claim "
        "`proposition-6`). Here a unit adds the symbol's part before its curve, which is a tanh and not the curve "
        "along which log-odds pass through the transitions; what is read from it is affine in the unit; and with "
        "h_0 = 0 one bias serves two offsets, the initial law's and the transitions'. Median agreement "
        f"{100 * middle(zero, 'agreement_all'):.2f} % (KL {middle(zero, 'kl'):.1e} nats per step); with a trained h_0 "
        f"{100 * middle(trained, 'agreement_all'):.2f} % (KL {middle(trained, 'kl'):.1e}), and no difference in "
        f"{sum(each_draw(trained, _same))} of {len(trained)} draws. The unit with h_0 = 0 has at least twice the KL "
        f"that it has with some smaller n in {sum(stuck)} of {len(stuck)} draws: its training ended in a worse "
        "optimum. What one unit can do at best, without data or learning rates, is the experiment infinite-data."
    )
    return Finding(each_draw(zero, _same), reason)


def _is_stuck(draw: list[Row]) -> bool:
    """Whether a draw's network of the largest n has twice the divergence of one with fewer sequences."""
    *fewer, last = sorted(draw, key=lambda row: number(row, "num_sequences"))
    return any(number(last, "kl") >= 2 * number(row, "kl") for row in fewer)


def _less_data(rows: Rows) -> Finding:
    paper = where(rows, start="zero")
    sizes = values_of(paper, "size")
    narrow, wide = sizes[0], sizes[-1]
    least = values_of(paper, "num_sequences")[0]

    def is_less(draw: list[Row]) -> bool:
        return enough(draw, wide) < inf and 3 * enough(draw, wide) <= enough(draw, narrow)

    def said(size: int) -> str:
        found = [enough(where(paper, replicate=replicate), size) for replicate in values_of(paper, "replicate")]
        never, at_once = sum(n == inf for n in found), sum(n == least for n in found)
        when = f"from the smallest n on in {at_once}, never in {never} of {len(found)} draws"
        return f"with k = {size} {when}, median n {_n(found)}"

    reason = (
        f"{100 * CLOSE:.0f} % agreement from some n on: {'; '.join(map(said, (narrow, wide)))}. Where one unit is "
        f"there with n = {least} already, a wider network cannot need less."
    )
    return Finding(each_draw(paper, is_less), reason)


def enough(draw: Rows, size: int) -> float:
    """The smallest n from which on the network of k units agrees on `CLOSE` of the steps; infinite if there is none."""
    found = sorted(where(draw, size=size), key=lambda row: number(row, "num_sequences"), reverse=True)
    close = takewhile(lambda row: number(row, "agreement_all") >= CLOSE, found)
    return min((number(row, "num_sequences") for row in close), default=inf)


def _n(found: list[float]) -> str:
    """The median number of sequences, one of those tried."""
    value = median_low(found)
    return f"{value:.0f}" if value < inf else "beyond the largest"


def _imperfect(rows: Rows) -> Finding:
    last = _last(rows)
    reason = (
        f"The forward algorithm's accuracy has the median {100 * middle(last, 'forward_accuracy'):.1f} %, and lies "
        f"between {100 * min(column(last, 'forward_accuracy')):.1f} and "
        f"{100 * max(column(last, 'forward_accuracy')):.1f} % over the draws: how well states can be told apart "
        "depends on the HMM."
    )
    return Finding(
        each_draw(
            last, lambda draw: all(max(number(row, "forward_accuracy"), number(row, "accuracy")) < 1 for row in draw)
        ),
        reason,
    )


def _optimum(rows: Rows) -> Finding:
    paper = where(rows, start="zero")
    lucky = [number(row, "accuracy") - number(row, "forward_accuracy") for row in paper]
    lucky = [gain for gain in lucky if gain > 0]
    reason = (
        "The forward algorithm chooses the state of the largest exact probability at every step, so no function of the "
        f"past has a larger expected accuracy. On the drawn states, {len(lucky)} of {len(paper)} networks are more "
        f"accurate on their hundred test sequences, by up to {100 * max(lucky, default=0.0):.1f} points: the states "
        "are a sample."
    )

    def ahead(row: Row) -> bool:
        return number(row, "expected_accuracy") > number(row, "forward_expected_accuracy") + ROUNDING

    return Finding(each_draw(paper, lambda draw: not any(map(ahead, draw))), reason)


def _probabilities(rows: Rows) -> Finding:
    wide = _last(rows, size=values_of(rows, "size")[-1])
    reason = (
        f"The median divergence is {middle(wide, 'kl'):.1e} nats per step, the largest {max(column(wide, 'kl')):.1e}; "
        f"with k = 1 the median is {middle(_last(rows, size=1), 'kl'):.1e}."
    )
    return Finding(each_draw(wide, lambda draw: all(number(row, "kl") < SMALL for row in draw)), reason)


def _replicates(rows: Rows) -> Finding:
    wide = _last(rows, size=values_of(rows, "size")[-1])
    reason = (
        f"Median agreement {100 * middle(wide, 'agreement_all'):.2f} %, least "
        f"{100 * min(column(wide, 'agreement_all')):.2f} %; median KL {middle(wide, 'kl'):.1e} nats per step."
    )
    return Finding(each_draw(wide, lambda draw: all(number(row, "agreement_all") >= CLOSE for row in draw)), reason)


Figure5.sentences = (
    Sentence(
        "sec. 4.1",
        "it also estimates the forward probability",
        f"the widest network's divergence from p(z_t | x_{{1:t}}) is below {SMALL:g} nats per step at the largest n",
        _probabilities,
    ),
    Sentence(
        "fig. 5, caption",
        "the predicted hidden states on a test set were exactly the same as those from the HMM forward algorithm",
        "no difference on the hundred test sequences, at the largest n, with any k",
        _caption,
    ),
    Sentence(
        "sec. 4.1",
        "even an RNN with a single hidden unit can recover the predictions of the HMM forward algorithm exactly",
        "no difference on the hundred test sequences, at the largest n, with one unit and h_0 = 0",
        _single_unit,
    ),
    Sentence(
        "sec. 4.1",
        "by increasing the capacity of the RNN [...] we can recover the HMM forward predictions with much less "
        "training data",
        f"the widest network has {100 * CLOSE:.0f} % agreement from at most a third of the single unit's n on",
        _less_data,
    ),
    Sentence(
        "sec. 4.1",
        "RNNs can indeed replicate the forward algorithm given sufficient amount of data",
        f"the widest network's agreement on all test sequences is at least {100 * CLOSE:.0f} % at the largest n",
        _replicates,
    ),
    Sentence(
        "sec. 4.1",
        "neither the HMM forward predictions nor the RNN predictions are perfect",
        "both make mistakes on the hundred test sequences, at the largest n",
        _imperfect,
    ),
    Sentence(
        "sec. 4.1",
        "it cannot outperform this optimal prediction",
        "no network, with any k and n, has a larger expected accuracy than the forward algorithm",
        _optimum,
        by_definition=True,
    ),
)
