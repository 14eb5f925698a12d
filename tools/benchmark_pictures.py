"""The picture and the first table of docs/benchmarks.md, from recorded times: `python -m tools.benchmark_pictures`.

docs/benchmarks.json is what `python -m benchmarks --record docs/benchmarks.json` has measured. The picture,
docs/benchmarks.svg, has a row for each problem and a mark for each peer at the ratio of its time to ours; the table has
the same numbers. Both stand between two marks in the page.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.record import Entry, read
from pgm_rnn.experiments.pictures import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, Look, as_svg, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOCS = Path(__file__).parents[1] / "docs"
TIMES, PICTURE, PAGE = DOCS / "benchmarks.json", DOCS / "benchmarks.svg", DOCS / "benchmarks.md"
BEGIN, END = "<!-- times -->\n", "<!-- end of times -->\n"


class Problem(NamedTuple):
    """A row of the picture.

    Attributes:
        title: its name on the page.
        table: the table that has its times.
        quantity: what was timed.
        ours: our entry.
    """

    title: str
    table: str
    quantity: str
    ours: str = "pgm_rnn"


PROBLEMS = (
    Problem(
        "HMM, 16 states, 64 × 1000: gradient", "HMM, 16 states, 64 x 1000: softmax, densities and recursion", "gradient"
    ),
    Problem(
        "HMM, 5 states, 1 × 100 000: gradient",
        "HMM, 5 states, 1 x 100000: softmax, densities and recursion",
        "gradient",
    ),
    Problem(
        "HMM, 512 states, 4 × 200: gradient", "HMM, 512 states, 4 x 200: softmax, densities and recursion", "gradient"
    ),
    Problem("autoregressive HMM, 3 states, 64 × 1000: gradient", "autoregressive HMM, 3 states, 64 x 1000", "gradient"),
    Problem(
        "autoregressive HMM, 16 states, 64 × 1000: gradient", "autoregressive HMM, 16 states, 64 x 1000", "gradient"
    ),
    Problem(
        "Kalman filter, 4 states, 100 × 200: gradient", "Kalman filter, 4 states, 2 outputs, 100 x 200", "gradient"
    ),
    Problem("Kalman filter, 2 states, 1 × 1000: gradient", "Kalman filter, 2 states, 1 outputs, 1 x 1000", "gradient"),
    Problem(
        "EM, 64 states, rolls of 88 keys: an iteration",
        "EM on random rolls of their shape, 64 states, 5 iterations in a call",
        "iteration",
    ),
    Problem(
        "particles, AR(1) + noise, 100 × 100 steps",
        "particle filter, AR(1) plus noise, 100 particles, 100 steps",
        "1 sequence",
    ),
    Problem(
        "particles, AR(1) + noise, 1000 × 1000",
        "particle filter, AR(1) plus noise, 1000 particles, 1000 steps",
        "1 sequence",
    ),
    Problem(
        "particles, AR(1) + noise, 100 000 × 200",
        "particle filter, AR(1) plus noise, 100000 particles, 200 steps",
        "1 sequence",
    ),
    Problem(
        "particles, 64 sequences, 100 × 100",
        "particle filter, AR(1) plus noise, 100 particles, 100 steps",
        "64 sequences",
    ),
    Problem(
        "particles, stochastic volatility, 1000 × 1000",
        "particle filter, stochastic volatility, 1000 particles, 1000 steps",
        "1 sequence",
    ),
    Problem(
        "particles, the same in a reader's own class",
        "particle filter, stochastic volatility, 1000 particles, 1000 steps",
        "1 sequence",
        "pgm_rnn, a reader's class",
    ),
    Problem(
        "particles, noisy network, 1000 × 1000",
        "particle filter, noisy network, 1000 particles, 1000 steps",
        "1 sequence",
    ),
    Problem(
        "particles, hidden Markov model, 1000 × 1000",
        "particle filter, hidden Markov model, 1000 particles, 1000 steps",
        "1 sequence",
    ),
    Problem("VRNN, training step", "training step, VRNN", "step", "pgm_rnn fused"),
    Problem("deep Markov model, training step", "training step, deep Markov model", "step", "pgm_rnn fused"),
    Problem("LSTM language model, training step", "LSTM language model", "step", "pgm_rnn fused, p(x_2..T | x_1)"),
    Problem("GRU, T = 512, training step", "language models of 64 units, T 512, cpu", "step", "RNN('gru')"),
    Problem("LRU, T = 4096, training step", "language models of 64 units, T 4096, cpu", "step", "RNN('lru')"),
)
PEERS: dict[str, tuple[str, ...]] = {
    "dynamax": ("dynamax",),
    "jax.lax.scan": ("jax.lax.scan",),
    "hmmlearn, statsmodels": ("hmmlearn (float64)", "statsmodels"),
    "particles": ("particles (float64)",),
    "cuthbert": ("cuthbert",),
    "Pyro": ("pyro DiscreteHMM", "pyro GaussianHMM", "pyro SMCFilter (float64)"),
    "plain torch": ("plain torch, fused", "bare torch.nn.LSTM", "torch.nn.GRU"),
}
"""The peers of the picture: how they are called there, and in the tables."""
LOOKS: tuple[Look, ...] = (
    *(BLUE, SKY, GREEN, ORANGE),
    *(BLACK._replace(marker="x"), PURPLE._replace(marker="P"), VERMILION),
)


class Line(NamedTuple):
    """A problem with our milliseconds and the peers' ratios to them."""

    title: str
    milliseconds: float
    threads: int
    ratios: dict[str, float]


def lines(entries: list[Entry]) -> list[Line]:
    """What was measured of each problem; a problem that was not is left out."""
    found = []
    for title, table, quantity, ours in PROBLEMS:
        known = {entry.engine: entry for entry in entries if (entry.table, entry.quantity) == (table, quantity)}
        if ours not in known:
            continue
        ratios = {
            peer: known[name].ratio / known[ours].ratio
            for peer, names in PEERS.items()
            for name in names
            if name in known
        }
        if ratios:
            found.append(Line(title, known[ours].milliseconds, known[ours].threads, ratios))
    return found


def table(found: list[Line]) -> str:
    """The table of the page."""
    peers = [peer for peer in PEERS if any(peer in line.ratios for line in found)]
    rows = ["| problem | ours, ms | threads | " + " | ".join(peers) + " |", "|---" * (len(peers) + 3) + "|"]
    for line in found:
        cells = [_shown(line.ratios[peer]) if peer in line.ratios else "" for peer in peers]
        rows.append(f"| {line.title} | {line.milliseconds:.3g} | {line.threads} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _shown(ratio: float) -> str:
    """Two digits, and no powers of ten."""
    return f"{ratio:.2g}" if ratio < 100 else f"{ratio:.0f}"


def says(found: list[Line]) -> str:
    """The alternative text."""
    ratios = [ratio for line in found for ratio in line.ratios.values()]
    slower = sum(ratio > 1 for ratio in ratios)
    least = min(ratios)
    return (
        f"For {len(found)} problems, the ratio of each peer's time to ours on a logarithmic scale, from {least:.2g} to "
        f"{max(ratios):.0f}. In {slower} of {len(ratios)} comparisons the peer takes longer. The table has the numbers."
    )


def draw(axis: "Axes", found: list[Line]) -> None:
    """A row for each problem, from the top down."""
    for (peer, _), look in zip(PEERS.items(), LOOKS, strict=True):
        places = [(line.ratios[peer], -row) for row, line in enumerate(found) if peer in line.ratios]
        if places:
            axis.plot(*zip(*places, strict=True), look.marker, color=look.color, markersize=7, label=peer)
    axis.axvline(1, color=BLACK.color, linewidth=1)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_yticks([-row for row in range(len(found))], [line.title for line in found])
    axis.set_ylim(-len(found) + 0.4, 0.6)
    axis.set_xlabel("the peer's time over ours: to the right of 1, ours is faster")
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, fontsize="small", frameon=False)


def page(text: str, found: list[Line]) -> str:
    """The page with its picture and table."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}![{says(found)}](benchmarks.svg)\n\n{table(found)}{END}{after}"


def main() -> None:
    """Write the picture, and the page anew."""
    found = lines(read(TIMES))
    figure, (axis,) = panels(1, width=8.2, height=1.1 + 0.34 * len(found))
    draw(axis, found)
    PICTURE.write_bytes(as_svg(figure))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
