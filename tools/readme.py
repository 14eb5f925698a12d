"""The README's tables of models and engines, derived from their registries: `python -m tools.readme` writes them."""

import importlib
import inspect
from collections.abc import Iterable
from pathlib import Path

from pgm_rnn.inference.registry import Engine
from pgm_rnn.models.info import ModelInfo
from pgm_rnn.registries import OWN

README = Path(__file__).parents[1] / "README.md"
HEAD = "| model | h | z | the papers' object |"
ENGINES_HEAD = "| engine | what it is | models of the zoo |"


def models_table(infos: Iterable[ModelInfo]) -> str:
    """One row for each model in Markdown; models with equal rows share one."""
    rows = (f"| {info.title} | {info.memory} | {info.latent} | {info.source} |" for info in infos)
    return "\n".join([HEAD, "|---|---|---|---|", *dict.fromkeys(rows)])


def engines_table(engines: Iterable[Engine], infos: Iterable[ModelInfo]) -> str:
    """One row for each engine: its functions, the first line of its docstring, and the classes that it takes."""
    models = [info.make(**info.smallest) for info in infos]
    rows = [ENGINES_HEAD, "|---|---|---|"]
    for engine in engines:
        module = importlib.import_module(f"pgm_rnn.inference.{engine.name}")
        names = sorted(name for name, found in vars(module).items() if is_verb(name, found))
        first = f"`{engine.name}.{names[0]}`" + "".join(f", `{name}`" for name in names[1:])
        what = (inspect.getdoc(module) or "").partition("\n")[0].rstrip(".").replace("|", r"\|")
        taken = dict.fromkeys(type(model).__name__ for model in models if engine.takes(model))
        everything = len(taken) == len({type(model) for model in models})
        rows.append(f"| {first} | {what} | {'all' if everything else ', '.join(f'`{name}`' for name in taken)} |")
    return "\n".join(rows)


def is_verb(name: str, found: object) -> bool:
    """Whether a name of an engine's module is a function that runs the engine on a model."""
    if (
        name.startswith(("_", "check", "has_"))
        or not inspect.isfunction(found)
        or not found.__module__.startswith("pgm_rnn.inference")
    ):
        return False
    return next(iter(inspect.signature(found).parameters), "") in ("model", "program")


def with_table(text: str, table: str) -> str:
    """The README with the table that has this one's head replaced by it.

    Raises:
        ValueError: the README has no such table.
    """
    start = text.index(table.partition("\n")[0] if table else HEAD)
    return text[:start] + table + text[text.index("\n\n", start) :]


if __name__ == "__main__":
    written = README.read_text(encoding="utf-8")
    for made in (models_table(OWN.models.values()), engines_table(OWN.engines.values(), OWN.models.values())):
        written = with_table(written, made)
    README.write_text(written, encoding="utf-8")
