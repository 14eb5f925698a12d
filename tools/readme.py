"""The README's table of models, derived from the models' entries: `python -m tools.readme` writes it."""

from collections.abc import Iterable
from pathlib import Path

from pgm_rnn.models.info import ModelInfo
from pgm_rnn.registries import OWN

README = Path(__file__).parents[1] / "README.md"
HEAD = "| model | h | z | the papers' object |"


def models_table(infos: Iterable[ModelInfo]) -> str:
    """One row for each model in Markdown; models with equal rows share one."""
    rows = (f"| {info.title} | {info.memory} | {info.latent} | {info.source} |" for info in infos)
    return "\n".join([HEAD, "|---|---|---|---|", *dict.fromkeys(rows)])


def with_table(text: str, table: str) -> str:
    """The README with its table of models replaced by this one.

    Raises:
        ValueError: the README has no such table.
    """
    start = text.index(HEAD)
    return text[:start] + table + text[text.index("\n\n", start) :]


if __name__ == "__main__":
    README.write_text(
        with_table(README.read_text(encoding="utf-8"), models_table(OWN.models.values())), encoding="utf-8"
    )
