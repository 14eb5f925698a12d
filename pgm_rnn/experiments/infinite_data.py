"""How close k units come to the forward algorithm with n = infinity: figure 5 without finite data or learning rates."""

from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.experiments.experiment import PAPER, Cell, Experiment, Finding, Row, Rows, Sentence
from pgm_rnn.experiments.histories import Fitted, Histories, all_histories, fit, history_log_probs
from pgm_rnn.experiments.pictures import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    VERMILION,
    draw_curve,
    label_axis,
    legend_above,
    panels,
    plain_ticks,
)
from pgm_rnn.experiments.problem import Problem, make_problem
from pgm_rnn.experiments.scores import NEAR_TIE
from pgm_rnn.experiments.settings import NUM_STEPS, PAPER_TEST, Settings
from pgm_rnn.experiments.summary import column, curve, each_draw, middle, number, values_of, where
from pgm_rnn.experiments.taggers import initial_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAME_OPTIMUM = 1.1
"""Fits whose divergences are within this factor of the least count as one optimum."""

SMALLEST = 1e-15
"""Divergence in nats that is indistinguishable from rounding error."""


class InfiniteData(Experiment):
    """Divergence and differing predictions against the number of units."""

    id = "infinite-data"
    title = "how close k units come to the forward algorithm when they are fitted to it on all histories"
    source = f"{PAPER}, sec. 4.1"
    described = (
        "Figure 5's HMMs and networks with neither sequences nor states drawn: the expected KL divergence to "
        "p(z_t | x_{1:t}), a sum over all 9840 histories of up to 8 symbols with their probabilities, is minimised by "
        "L-BFGS in float64. Of the fits from different starts, fewer where a network is wider, the one of least "
        "divergence is kept; the least that there is may be lower. What then differs from the forward algorithm is "
        "neither too little data nor a learning rate. One unit is fitted with h_0 = 0 and with a trained h_0."
    )
    settings = Settings(hidden_dims=(1, 2, 3, 5), num_sequences=(1,), num_starts=16, num_updates=1500)
    quick = Settings(hidden_dims=(1, 2), num_sequences=(1,), num_starts=2, num_updates=10, replicates=2)

    @override
    def check(self, settings: Settings) -> None:
        settings.check_one(self.id, "num_states")
        settings.check_single_unit(self.id)
        if settings.num_sequences != self.settings.num_sequences:
            raise ValueError(f"expected no n, the number of training sequences, for {self.id}: it is infinite there")

    @override
    def cells(self, settings: Settings) -> list[Cell]:
        kinds = [("zero", k) for k in sorted(settings.hidden_dims)] + [("trained", min(settings.hidden_dims))]
        return [
            Cell(kind, num_states, k, replicates)
            for replicates in settings.replicate_groups()
            for kind, k in kinds
            for num_states in settings.num_states
        ]

    @override
    def run(self, settings: Settings, cell: Cell) -> list[Row]:
        return [
            _row(settings, cell, make_problem(settings, cell.num_states, replicate)) for replicate in cell.replicates
        ]

    @override
    def procedure(self, settings: dict[str, Any]) -> str:
        starts = ", ".join(f"{_num_fits(settings['num_starts'], k)} for k = {k}" for k in settings["hidden_dims"])
        return f"starts: {starts}; {settings['num_updates']} iterations at most"

    @override
    def draw(self, rows: Rows) -> "Figure":
        from matplotlib.ticker import MaxNLocator

        figure, (top, bottom) = panels(2)
        zero, trained = where(rows, start="zero"), where(rows, start="trained")
        draw_curve(top, curve(zero, "size", "kl_worst"), ORANGE._replace(dashes=":"), "worst start", interval=False)
        draw_curve(top, curve(zero, "size", "kl"), BLUE, "best start")
        draw_curve(
            top,
            curve(trained, "size", "kl"),
            BLACK._replace(marker="x", dashes=""),
            "best start, h_0 trained",
            interval=False,
        )
        top.set_yscale("log")
        shares = [{**row, "all": row["different"] == 0, "paper": row["different_test"] == 0} for row in zero]
        for name, look, said in (
            ("paper", GREEN, "on the hundred test sequences"),
            ("all", VERMILION, f"after every history of up to {NUM_STEPS} symbols"),
        ):
            found = curve(shares, "size", name)
            counts = [sum(float(row[name]) for row in where(shares, size=k)) for k in values_of(shares, "size")]
            draw_curve(bottom, found._replace(middle=counts), look, said, interval=False)
        label = "k, hidden units"
        draws = len(values_of(rows, "replicate"))
        bottom.yaxis.set_major_locator(MaxNLocator(integer=True))
        bottom.set_ylim(0, 1.04 * draws)
        for axis in (top, bottom):
            plain_ticks(axis, [float(k) for k in values_of(rows, "size")])
        label_axis(top, label, "KL to forward, nats per step", note=f"median and middle 80 % of {draws} HMMs")
        label_axis(bottom, label, f"HMMs, of {draws}", note="no prediction differs from the forward algorithm's")
        for axis in (top, bottom):
            legend_above(axis)
        return figure


def _row(settings: Settings, cell: Cell, problem: Problem) -> Row:
    histories = all_histories(problem.hmm, NUM_STEPS)
    fits = sorted(_fits(settings, cell, problem, histories), key=lambda fitted: fitted.kl)
    best = fits[0]
    predicted = history_log_probs(best.weights, NUM_STEPS).mT.argmax(-1)
    different = predicted != histories.beliefs.argmax(-1)
    return {
        "method": "rnn",
        "num_states": cell.num_states,
        "size": cell.size,
        "replicate": problem.replicate,
        "start": cell.kind,
        "hmm_seed": settings.seed_of("hmm", cell.num_states, problem.replicate),
        "kl": best.kl,
        "kl_median": fits[len(fits) // 2].kl,
        "kl_worst": fits[-1].kl,
        "fits": len(fits),
        "fits_at_best": sum(fitted.kl <= SAME_OPTIMUM * best.kl for fitted in fits),
        "fits_converged": sum(fitted.converged for fitted in fits),
        "converged": int(best.converged),
        "largest_weight": max(float(value.abs().max()) for value in best.weights.values()),
        "histories": len(different),
        "different": int(different.sum()),
        "disagreement": histories.mean(different),
        "largest_odds": _largest_odds(histories.beliefs, different),
        "different_test": _different_on_test(problem, best),
    }


def _num_fits(num_starts: int, hidden_dim: int) -> int:
    """Number of fits, fewer for wider networks."""
    return max(1, num_starts // hidden_dim)


def _fits(settings: Settings, cell: Cell, problem: Problem, histories: Histories) -> list[Fitted]:
    """Fits of one network from several starts."""
    sizes = (settings.num_symbols, cell.num_states, cell.size)
    purposes = [(*sizes, problem.replicate, start) for start in range(_num_fits(settings.num_starts, cell.size))]
    seeds = [settings.seed_of("infinite data", *purpose) for purpose in purposes]
    return [
        fit(histories, initial_weights(*sizes, [seed]), settings.num_updates, trains_start=cell.kind == "trained")
        for seed in seeds
    ]


def _largest_odds(beliefs: Tensor, different: Tensor) -> float:
    """The largest log-odds in nats between the two most probable states where a prediction differs, 0 if none does."""
    top = beliefs.topk(2, dim=-1).values.log()
    return float((top[:, 0] - top[:, 1]).where(different, 0.0).max())


@torch.no_grad()
def _different_on_test(problem: Problem, best: Fitted) -> int:
    """Predictions that differ from the forward algorithm's on the paper's test set."""
    x, beliefs = problem.test.x[:PAPER_TEST], problem.beliefs[:PAPER_TEST]
    return int((best.tagger.predict(x) != beliefs.argmax(-1)).sum())


def _is_exact(draw: list[Row]) -> bool:
    return all(row["different"] == 0 for row in draw)


def _is_exact_on_test(draw: list[Row]) -> bool:
    return all(row["different_test"] == 0 for row in draw)


def _at(rows: Rows, size: int, start: str = "zero") -> list[Row]:
    return where(rows, size=size, start=start)


def _single_unit(rows: Rows) -> Finding:
    zero, trained = _at(rows, 1), _at(rows, 1, "trained")
    differing = [row for row in zero if row["different"] != 0]
    near = sum(number(row, "largest_odds") < NEAR_TIE for row in differing)
    where_different = ""
    if differing:
        where_different = (
            f" Where some differ with h_0 = 0, {middle(differing, 'different'):.0f} of {differing[0]['histories']} "
            f"histories (median) are predicted differently, {100 * middle(differing, 'disagreement'):.2g} % of the "
            f"steps; in {near} of these {len(differing)} draws near ties alone, log-odds below {NEAR_TIE} nats."
        )
    reason = (
        f"On the hundred test sequences no prediction differs in {sum(each_draw(zero, _is_exact_on_test))} of "
        f"{len(zero)} draws, and with a trained h_0 in {sum(each_draw(trained, _is_exact_on_test))}; after all "
        f"histories in {sum(each_draw(zero, _is_exact))} and {sum(each_draw(trained, _is_exact))}.{where_different} "
        f"Median KL {middle(zero, 'kl'):.1e} nats per step, with a trained h_0 {middle(trained, 'kl'):.1e}; "
        f"{sum(number(row, 'converged') for row in zero):.0f} of the best fits with h_0 = 0 converged, the others "
        "were still improving. The log-odds of two states are one number, and `BeliefRNN` with that one unit is the "
        "forward algorithm (claim `proposition-6`), but it adds the symbol after its curve. The unit here adds it "
        "before: with the log-odds' own curve in place of tanh, and a trained h_0, it has every prediction right and "
        "the law wrong, for what is read from it is affine in h."
    )
    return Finding(each_draw(zero, _is_exact_on_test), reason)


def _capacity(rows: Rows) -> Finding:
    zero = where(rows, start="zero")
    sizes = values_of(zero, "size")

    def falls(draw: list[Row]) -> bool:
        one, widest = (number(where(draw, size=k)[0], "kl") for k in (1, sizes[-1]))
        return widest < one / 10

    exact = ", ".join(f"{sum(each_draw(_at(rows, k), _is_exact))} with k = {k}" for k in sizes)
    medians = ", ".join(f"{middle(_at(rows, k), 'kl'):.1e}" for k in sizes)
    reason = (
        f"Median of the least KL found, in nats per step, for k = {', '.join(map(str, sizes))}: {medians}. Draws in "
        f"which no prediction differs after any history: {exact}."
    )
    return Finding(each_draw(zero, falls), reason)


def _optima(rows: Rows) -> Finding:
    one = _at(rows, 1)
    share = median(number(row, "fits_at_best") / number(row, "fits") for row in one)
    reason = (
        f"Of the single unit's fits from random starts {100 * share:.0f} % (median) end within "
        f"{100 * (SAME_OPTIMUM - 1):.0f} % of the least divergence found; the worst fit's is "
        f"{median(map(_worst_to_best, one)):.0f} times the best's (median). The forward algorithm's divergence is "
        f"zero; the least of a single unit's is {min(column(one, 'kl')):.0e} nats per step."
    )
    return Finding(each_draw(one, lambda draw: _worst_to_best(draw[0]) >= 2), reason)


def _worst_to_best(row: Row) -> float:
    return number(row, "kl_worst") / max(number(row, "kl"), SMALLEST)


InfiniteData.sentences = (
    Sentence(
        "sec. 4.1",
        "even an RNN with a single hidden unit can recover the predictions of the HMM forward algorithm exactly",
        "no difference on the hundred test sequences, by the unit with h_0 = 0 of least expected divergence",
        _single_unit,
    ),
    Sentence(
        "sec. 4.1",
        "by increasing the capacity of the RNN",
        "is it capacity, the widest network's least divergence being less than a tenth of the single unit's?",
        _capacity,
        question=True,
    ),
    Sentence(
        "sec. 4.1.1",
        "the existence of many local optima, with the forward algorithm being one of them",
        "has one unit several optima already, the worst fit's divergence being twice the best's or more?",
        _optima,
        question=True,
    ),
)
