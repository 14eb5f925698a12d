"""`docs/experiments/README.md` and its pictures, made from the CSV files: `python -m tools.experiments_page`.

Nothing is run here. Every verdict and every number in its reason is computed from the rows; a test compares the page
with the file.
"""

import sys
from pathlib import Path

from pgm_rnn.experiments import disagreement, figure_5, figure_6, figure_7, infinite_data, scores
from pgm_rnn.experiments.experiment import Experiment, Sentence
from pgm_rnn.experiments.record import Record, read_record, redraw
from pgm_rnn.experiments.registry import EXPERIMENTS
from pgm_rnn.files import write_whole

COMMAND = "python -m tools.experiments_page"
NAME = "README.md"

THRESHOLDS = (
    ("figure-5", f"{figure_5.SMALL:g} nats per step", "divergence below which the forward probability is estimated"),
    ("figure-5", f"{100 * figure_5.CLOSE:.0f} %", "least agreement that replicates the forward algorithm"),
    ("figure-5", f"{figure_5.ROUNDING:g}", "difference of expected accuracies that may be rounding"),
    ("figure-6", f"{100 * figure_6.POOR:.0f} %", "accuracy below which the forward algorithm performs very poorly"),
    ("figure-6", f"{100 * figure_6.MATCHING:.0f} %", "share of the optimal expected accuracy that counts as a match"),
    ("figure-6", f"{figure_6.HARDER:g}", "factor of the fall, each time m doubles, that is exponential"),
    ("figure-7", f"{figure_7.MUCH:g}", 'ratio of agreements that is "much more expressive"'),
    ("figure-7", f"{figure_7.UNIT_BITS} bits", "size of a hidden unit; a particle is one of m states"),
    ("infinite-data", f"{infinite_data.SAME_OPTIMUM:g}", "ratio to the least divergence that is the same optimum"),
    ("infinite-data", f"{infinite_data.SMALLEST:g} nats", "divergence that may be rounding error"),
    (
        "disagreement",
        f"{100 * disagreement.AS_WELL:.0f} %",
        "share of the optimal accuracy that counts as equally good",
    ),
    ("all", f"{scores.NEAR_TIE:g} nats", "log-odds below which two states are nearly tied"),
)
"""Where a threshold is used, its value, and what it decides."""


def page(folder: Path) -> str:
    """The page of the experiments whose files are in a folder, as Markdown."""
    records = [(experiment, read_record(experiment.id, folder)) for experiment in EXPERIMENTS.values()]
    found = [(experiment, record) for experiment, record in records if record is not None]
    lines = [
        "# The experiments",
        "",
        f"Written by `{COMMAND}` from the CSV files in this folder; do not edit. The figures of Choe, Shin & Spencer",
        "(2017), sec. 4, run as in the paper and with replicates: each draw is a random HMM with its own data and",
        "networks. A verdict counts the draws that confirm a sentence by the stated measure; its numbers come from",
        "the CSV. Accuracy is the share of correct states, agreement the share of predictions equal to the forward",
        "algorithm's, both on a hundred test sequences of 8 steps (800 predictions) as in the paper. The suffix",
        "`_all` means that all test sequences are used. Expected accuracy uses the states' exact probabilities in",
        "place of drawn states. Where the paper gives no details (optimiser, learning rates, stopping) and a section",
        "does not say otherwise, each network is trained by Adam with every learning rate listed, and the one with",
        "the best held-out loss is kept. A sentence that is true by definition is judged with exact probabilities, so",
        "that the noise of drawn states plays no part.",
        "",
        "| experiment | sentence | measured or asked | verdict |",
        "|---|---|---|---|",
    ]
    for experiment, record in found:
        link = f"[{experiment.id}](#{experiment.id})"
        lines += [
            f"| {link} | {_quoted(sentence)} | {_in_a_cell(sentence.measured)} | {sentence.judge(record.rows).words} |"
            for sentence in experiment.sentences
        ]
    lines += ["", "## Thresholds", "", "| experiment | threshold | what it decides |", "|---|---|---|"]
    lines += [f"| {where} | {value} | {meaning} |" for where, value, meaning in THRESHOLDS]
    for experiment, record in found:
        lines += ["", *_section(experiment, record)]
    return "\n".join(lines) + "\n"


def _section(experiment: Experiment, record: Record) -> list[str]:
    lines = [
        f"## {experiment.id}",
        "",
        f"{experiment.title[0].upper()}{experiment.title[1:]}. {experiment.source}.",
        "",
        experiment.described,
        "",
        f"![{experiment.title}]({experiment.id}.png)",
        "",
        f"`{record.command}`, [numbers]({experiment.id}.csv), [curves]({experiment.id}.svg),",
        f"[settings]({experiment.id}.json): {record.settings['replicates']} draws, seed {record.settings['seed']}; "
        f"{experiment.procedure(record.settings)}.",
    ]
    for sentence in experiment.sentences:
        words, finding = sentence.judge(record.rows)
        lines += [
            "",
            _quoted(sentence),
            "",
            f"- **{words}**. {sentence.measure}",
            f"- {finding.reason}",
        ]
    return lines


def _quoted(sentence: Sentence) -> str:
    """The sentence and its place, with no markup of its own."""
    return _in_a_cell(f'"{sentence.quote}" ({sentence.place})')


def _in_a_cell(text: str) -> str:
    """A text that a table's cell can hold."""
    return text.replace("|", r"\|")


def main(folder: str = "docs/experiments") -> None:
    """Draw the pictures in a folder again, and write its page.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    for experiment in EXPERIMENTS.values():
        redraw(experiment, Path(folder))
    write_whole(Path(folder) / NAME, page(Path(folder)).encode())


if __name__ == "__main__":
    main(*sys.argv[1:2])
