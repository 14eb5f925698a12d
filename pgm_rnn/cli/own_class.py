"""The option `--class FILE.py:NAME`: a class of the user's own, from a file that the user says to run."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pgm_rnn.sequence_model import SequenceModel

OwnClass = Annotated[
    str | None,
    typer.Option(
        "--class",
        metavar="FILE.py:NAME",
        help="Class of the model, if it is your own. The file is run; a model of the zoo needs none.",
        show_default="none",
    ),
]


def class_of(given: str | None) -> "type[SequenceModel] | None":
    """The class that the option names, after its file has been run; None without the option.

    Raises:
        ValueError: the option has another form, the file cannot be run, or it defines no such class.
    """
    if given is None:
        return None
    from pgm_rnn.storage.own_class import is_model_class

    path, _, name = given.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise ValueError(f"expected --class as FILE.py:NAME, such as my_models.py:SwitchingAR, got {given}")
    module = _run(Path(path))
    found = vars(module).get(name)
    if is_model_class(found):
        return found
    there = [
        each for each, value in vars(module).items() if is_model_class(value) and value.__module__ == module.__name__
    ]
    what = "no such name" if found is None else f"{name}, which is not one"
    offered = f"it defines {', '.join(there)}" if there else "it defines none"
    raise ValueError(
        f"expected --class to name a class in {path} that derives from SequenceModel, got {what}; {offered}"
    )


def _run(given: Path) -> ModuleType:
    """The module in a file, which is run as by `python FILE`, once: modules beside it can be imported."""
    path, name = given.resolve(), given.stem
    if not path.is_file():
        raise ValueError(f"expected --class to name a Python file, got {given}, which does not exist; check the name")
    known = sys.modules.get(name)
    if known is not None:
        if getattr(known, "__file__", None) == str(path):
            return known
        name = f"{name}_file"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"expected --class to name a Python file, got {given}; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import does, for pickles and dataclasses look there
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(f"expected a Python file that can be run, got {given}: {_reason(error, path)}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _reason(error: BaseException, path: Path) -> str:
    """The kind of an error, its first line, and the line of the file where it came up."""
    trace: Any = error.__traceback__
    lines = []
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    where = getattr(error, "lineno", None) or (lines[-1] if lines else None)
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}{f' in line {where}' if where else ''}: {first}"
