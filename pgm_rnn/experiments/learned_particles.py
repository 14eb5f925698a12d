"""A network that targets a particle filter: a learned proposal and soft resampling, trained end to end.

Beside it the bootstrap filter, the filter with the locally optimal proposal p(z_t | z_{t-1}, x_t), which know the true
parameters, and a recurrent network of as many units as there are particles.
"""

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from pgm_rnn.experiments.experiment import PAPER, Cell, Experiment, Finding, Row, Rows, Sentence
from pgm_rnn.experiments.learned_filters import METHODS, filter_rows, gradient_rows
from pgm_rnn.experiments.networks import network_row, train_networks
from pgm_rnn.experiments.pictures import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    draw_curve,
    label_axis,
    panels,
    plain_ticks,
    side_by_side,
)
from pgm_rnn.experiments.problem import Problem, make_problem
from pgm_rnn.experiments.settings import Settings
from pgm_rnn.experiments.summary import curve, each_draw, middle, number, values_of, where

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRADIENT, RNN, ALL = "gradient", "rnn", "all-particles"
OF_LOG_Z = ("bootstrap", "untrained", "optimal", "likelihood", "weights-only")
FORWARD = BLACK._replace(dashes=":")
STYLES = {
    "bootstrap": ("bootstrap filter", VERMILION),
    "optimal": ("optimal proposal", GREEN),
    "untrained": ("prior, soft resampling", BLACK),
    "likelihood": ("proposal learned for log Z", SKY),
    "weights-only": ("the same, gradient of weights alone", PURPLE._replace(marker="x")),
    ALL: ("all learned", ORANGE),
    "all-ahead": ("all learned, to be read one step ahead", ORANGE._replace(dashes="--", marker="P")),
    RNN: ("RNN", BLUE),
}
"""Label and look of each method's curve."""


class LearnedParticles(Experiment):
    """Predicted states and log Z against the number of particles, with what was learned and what was known."""

    id = "learned-particles"
    title = "a particle filter trained end to end, beside the bootstrap filter and a network of as many units"
    source = f"{PAPER}, end of sec. 3.3 and sec. 4.2"
    described = (
        "HMMs with 5 states and 10 symbols, M particles or M hidden units. The bootstrap filter and the filter with "
        "the locally optimal proposal p(z_t | z_{t-1}, x_t) know the true parameters and resample at every step. "
        "Trained filters resample softly, from half the weights and half a uniform law. They learn, by Adam (rate "
        "0.05, falling to zero) with an unbiased gradient (the score of every draw, other runs as baseline), either "
        "the proposal alone, a table over x_t, z_{t-1}, z_t that begins at the prior, for log Z or for the true "
        "states' cross-entropy; or all tables (initial, transition, emission, proposal, readout) from observations "
        "and states, as a network learns. An update is four runs on each of 25 sequences. States are read from the "
        "particles, or one exact step ahead of them (from the particles before x_t, and x_t), which for M = 1 is a "
        "law for each pair of a state and a symbol. RNNs as in figure 5, n = 20 000."
    )
    settings = Settings(
        num_symbols=10, num_states=(5,), hidden_dims=(1, 2, 5, 10, 20), group=20, num_updates=800, narrow_starts=2
    )
    quick = Settings(
        num_symbols=4,
        num_states=(3,),
        hidden_dims=(1, 3),
        num_sequences=(100,),
        replicates=2,
        num_updates=12,
        batch_size=8,
        narrow_starts=1,
        num_test=120,
        group=2,
    )

    @override
    def check(self, settings: Settings) -> None:
        settings.check_one(self.id, "num_states", "num_sequences")

    @override
    def cells(self, settings: Settings) -> list[Cell]:
        return [
            Cell(kind, num_states, size, replicates)
            for size in sorted(settings.hidden_dims, reverse=True)
            for kind in (*reversed(METHODS), GRADIENT, RNN)
            for num_states in settings.num_states
            for replicates in settings.replicate_groups()
        ]

    @override
    def run(self, settings: Settings, cell: Cell) -> list[Row]:
        problems = _problems(settings, cell.num_states, cell.replicates)
        if cell.kind == GRADIENT:
            return gradient_rows(settings, problems, cell)
        if cell.kind == RNN:
            networks = train_networks(settings, problems, cell.size)
            return [network_row(settings, network, cell) for network in networks]
        return filter_rows(settings, problems, cell)

    @override
    def procedure(self, settings: dict[str, Any]) -> str:
        return (
            f"RNNs: {super().procedure(settings)}; filters: {settings['num_updates']} updates, the same test sequences"
        )

    @override
    def draw(self, rows: Rows) -> "Figure":
        figure, axes = panels(3, height=3.0)
        exact = where(rows, method="bootstrap")
        draw_curve(
            axes[0], curve(exact, "size", "forward_expected_accuracy"), FORWARD, "forward algorithm", interval=False
        )
        _draw(axes[0], rows, {"bootstrap": "expected_accuracy", ALL: "expected_accuracy", RNN: "expected_accuracy"})
        _draw(axes[1], rows, {"bootstrap": "ahead_kl", ALL: "kl", "all-ahead": "ahead_kl", RNN: "kl"})
        _draw(axes[2], rows, dict.fromkeys(OF_LOG_Z, "log_z_gap"))
        draws = len(values_of(rows, "replicate"))
        label = "M particles or k = M hidden units"
        note = f"median and middle 80 % of {draws} HMMs"
        label_axis(axes[0], label, "expected accuracy", percent=True, note=f"states read from the particles; {note}")
        label_axis(
            axes[1], label, "KL to p(z | x), nats per step", note=f"bootstrap filter read one step ahead; {note}"
        )
        label_axis(axes[2], label, "log p(x) - log Z, nats", note=f"true parameters, per sequence; {note}")
        named: dict[str, Any] = {}
        for axis in axes:
            handles, labels = axis.get_legend_handles_labels()
            named |= dict(zip(labels, handles, strict=True))
        figure.legend([*named.values()], [*named], loc="outside upper center", ncols=2, fontsize=9, frameon=False)
        return figure


@lru_cache(maxsize=1)
def _problems(settings: Settings, num_states: int, replicates: tuple[int, ...]) -> list[Problem]:
    """Problems of a group of replicates, cached because successive cells of the group share their sequences."""
    return [make_problem(settings, num_states, replicate) for replicate in replicates]


def _draw(axis: "Axes", rows: Rows, measures: dict[str, str]) -> None:
    """A curve for each method; every method has the same look on all panels."""
    for place, (method, measured) in enumerate(measures.items()):
        name, look = STYLES[method]
        found = curve([row for row in where(rows, method=method) if measured in row], "size", measured)
        draw_curve(axis, found, look, name, shift=side_by_side(place, len(measures)))
    axis.set_xscale("log")
    if not set(measures.values()) <= {"expected_accuracy"}:
        axis.set_yscale("log")
    plain_ticks(axis, [float(size) for size in values_of(rows, "size")])


def _beside(rows: Rows, first: tuple[str, str], second: tuple[str, str], *, least: bool = True) -> Finding:
    """Whether one method's column is better than another's for every M; `least` where less is better."""
    sizes = values_of(where(rows, method=first[0]), "size")
    both = [row for row in rows if row["method"] in (first[0], second[0])]

    def better(draw: list[Row], size: int) -> bool:
        one, other = (number(where(draw, method=m, size=size)[0], measured) for m, measured in (first, second))
        return one < other if least else one > other

    counts = ", ".join(f"{sum(each_draw(both, partial(better, size=m)))} at M = {m}" for m in sizes)
    medians = [
        f"{STYLES[method][0]} {', '.join(_median(where(rows, method=method, size=m), measured) for m in sizes)}"
        for method, measured in (first, second)
    ]
    what = UNITS[second[1]]
    reason = f"Draws: {counts}. Median {what} for M = {', '.join(map(str, sizes))}: {'; '.join(medians)}."
    return Finding(each_draw(both, lambda draw: all(better(draw, m) for m in sizes)), reason)


def _median(rows: list[Row], measured: str) -> str:
    value = middle(rows, measured)
    return f"{100 * value:.1f}" if measured == "expected_accuracy" else f"{value:.3g}"


UNITS = {
    "expected_accuracy": "expected accuracy in percent",
    "kl": "KL in nats per step",
    "ahead_kl": "KL in nats per step",
    "log_z_gap": "log p(x) - log Z in nats per sequence",
}
"""Name of each measure in a finding."""


def _targets(rows: Rows) -> Finding:
    return _beside(rows, ("all-particles", "expected_accuracy"), ("bootstrap", "expected_accuracy"), least=False)


def _against_rnn(rows: Rows) -> Finding:
    return _beside(rows, (RNN, "kl"), ("all-particles", "kl"))


def _against_rnn_ahead(rows: Rows) -> Finding:
    return _beside(rows, (RNN, "kl"), ("all-ahead", "ahead_kl"))


def _log_z(rows: Rows) -> Finding:
    return _beside(rows, ("likelihood", "log_z_gap"), ("bootstrap", "log_z_gap"))


def _beyond_optimal(rows: Rows) -> Finding:
    return _beside(rows, ("likelihood", "log_z_gap"), ("optimal", "log_z_gap"))


def _weights_alone(rows: Rows) -> Finding:
    """Whether training with the gradient of the weights alone leaves log Z worse than no training."""
    found = _beside(rows, ("untrained", "log_z_gap"), ("weights-only", "log_z_gap"))
    measured = where(rows, method=GRADIENT)
    sizes = values_of(measured, "size")
    weights, states = (
        ", ".join(_projection(where(measured, size=m), f"likelihood_{gradient}_projection") for m in sizes)
        for gradient in ("weights", "states")
    )
    reason = (
        f"{found.reason} Before training, the projection of the expected gradient on the unbiased one (1 if it is the "
        f"same, negative if it leads away), median for M = {', '.join(map(str, sizes))}: {weights} without the scores "
        f"of the draws; {states} with those of the states, not of the ancestors."
    )
    return found._replace(reason=reason)


def _projection(rows: list[Row], measured: str) -> str:
    known = [row for row in rows if measured in row]
    return f"{middle(known, measured):.2g}" if known else "unknown"


HARD = "It has been difficult to further establish an RNN which targets a particle filter explicitly."
OUTPERFORMS = "for any fixed dimension shown, the RNN outperforms the particle filter"

LearnedParticles.sentences = (
    Sentence(
        "sec. 3.3",
        HARD,
        "does a filter that learned everything from observations and states, with soft resampling, predict "
        "states better than the bootstrap filter with the true parameters, both read from the particles, for every M?",
        _targets,
        question=True,
    ),
    Sentence(
        "sec. 4.2",
        OUTPERFORMS,
        "is an RNN of M units closer to p(z_t | x_{1:t}) than a filter of M particles that learned everything, for "
        "every M?",
        _against_rnn,
        question=True,
    ),
    Sentence(
        "sec. 4.2",
        OUTPERFORMS,
        "is it closer than such a filter that is trained to be read one exact step ahead, for every M?",
        _against_rnn_ahead,
        question=True,
    ),
    Sentence(
        "sec. 3.3",
        HARD,
        "does a proposal that is learned for log Z bring it closer to log p(x) than the bootstrap filter, "
        "though it is resampled softly, for every M?",
        _log_z,
        question=True,
    ),
    Sentence(
        "sec. 3.3",
        HARD,
        "does it bring it closer than the locally optimal proposal p(z_t | z_{t-1}, x_t) of the true parameters, for "
        "every M?",
        _beyond_optimal,
        question=True,
    ),
    Sentence(
        "sec. 3.3",
        HARD,
        "does the gradient of soft resampling's weights alone, without the draws' scores, leave log Z worse "
        "than no training, for every M?",
        _weights_alone,
        question=True,
    ),
)
