"""Recurrent networks, hidden Markov models and state-space models as one graphical model in Pyro.

    h_t = recurrence(h_{t-1}, z_{t-1}, x_{t-1})     deterministic memory: a Delta node
    z_t ~ transition(z_{t-1}, h_t)                  latent state
    x_t ~ emission(z_t, h_t)                        observation,   t = 1..T

Models are in `pgm_rnn.models`, engines in `pgm_rnn.inference`, the papers' statements in `pgm_rnn.claims`. The names
below are looked up when they are first used, so that importing the package stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pgm_rnn import moved
from pgm_rnn.version import __version__ as __version__

if TYPE_CHECKING:
    from pgm_rnn import data, distributions, emissions, graph, inference, models, plot
    from pgm_rnn.data.reading import read_sequences
    from pgm_rnn.models.registry import get_model, list_models, model_info
    from pgm_rnn.report.comparison import compare
    from pgm_rnn.report.description import describe
    from pgm_rnn.report.diagnostics.diagnosing import diagnose
    from pgm_rnn.report.forecasting import forecast
    from pgm_rnn.report.inferring import infer
    from pgm_rnn.report.posterior import to_arviz
    from pgm_rnn.report.simulating import simulate
    from pgm_rnn.sequence_model import SequenceModel
    from pgm_rnn.sequence_model.by_group import ByGroup
    from pgm_rnn.sequence_model.criteria import num_free_parameters
    from pgm_rnn.sequence_model.priors import WithPriors
    from pgm_rnn.sequences import Sequences, pad
    from pgm_rnn.storage import load_model, save_model
    from pgm_rnn.zoo import list_pretrained, load_pretrained

_HOMES = {
    "ByGroup": "pgm_rnn.sequence_model.by_group",
    "SequenceModel": "pgm_rnn.sequence_model",
    "Sequences": "pgm_rnn.sequences",
    "WithPriors": "pgm_rnn.sequence_model.priors",
    "compare": "pgm_rnn.report.comparison",
    "forecast": "pgm_rnn.report.forecasting",
    "describe": "pgm_rnn.report.description",
    "diagnose": "pgm_rnn.report.diagnostics.diagnosing",
    "get_model": "pgm_rnn.models.registry",
    "infer": "pgm_rnn.report.inferring",
    "list_models": "pgm_rnn.models.registry",
    "list_pretrained": "pgm_rnn.zoo",
    "load_model": "pgm_rnn.storage",
    "load_pretrained": "pgm_rnn.zoo",
    "model_info": "pgm_rnn.models.registry",
    "num_free_parameters": "pgm_rnn.sequence_model.criteria",
    "pad": "pgm_rnn.sequences",
    "read_sequences": "pgm_rnn.data.reading",
    "save_model": "pgm_rnn.storage",
    "simulate": "pgm_rnn.report.simulating",
    "to_arviz": "pgm_rnn.report.posterior",
}
_MODULES = ("data", "distributions", "emissions", "graph", "inference", "models", "plot")

__all__ = [
    "ByGroup",
    "SequenceModel",
    "Sequences",
    "WithPriors",
    "compare",
    "data",
    "describe",
    "diagnose",
    "distributions",
    "emissions",
    "forecast",
    "get_model",
    "graph",
    "infer",
    "inference",
    "list_models",
    "list_pretrained",
    "load_model",
    "load_pretrained",
    "model_info",
    "models",
    "num_free_parameters",
    "pad",
    "plot",
    "read_sequences",
    "save_model",
    "simulate",
    "to_arviz",
]

moved.install()


def __getattr__(name: str) -> Any:
    """Import a public name where it is first used (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"pgm_rnn.{name}")
    raise AttributeError(f"module 'pgm_rnn' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*__all__, "__version__"])
