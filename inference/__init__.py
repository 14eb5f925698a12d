"""The engines. Each is a module of functions that work on every suitable `pgm_rnn.sequence_model.SequenceModel`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    ENGINES: tuple[str, ...]


def __getattr__(name: str) -> tuple[str, ...]:
    """`ENGINES`: names of the engines, each a module of this package, from the registry."""
    if name != "ENGINES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pgm_rnn.inference import registry

    return tuple(registry.ENGINES)
