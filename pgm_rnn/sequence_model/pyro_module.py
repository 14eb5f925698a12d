"""Models as Pyro's own modules: `PyroModule[HMM](...)`, whose parameters may be `PyroSample`s.

    hmm = PyroModule[HMM](initial_probs, transition_probs, emission)
    hmm.transition_probs = PyroSample(dist.Dirichlet(torch.ones(2, 2)).to_event(1))    a natural parameter, or a raw one
    guide = AutoNormal(hmm)

As in every `PyroModule`, reading a random attribute inside the program makes a site, named after the attribute and the
modules around it, and the other parameters are `pyro.param`s. The program runs on a twin of the model in which the
values of these sites are parameters, because Pyro asks a law for its density after the program has ended, when reading
the attribute would draw another value.
"""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pgm_rnn.sequence_model.conditionals import Conditionals, example_of
from pgm_rnn.sequence_model.naturals import listed, natural_parameters
from pgm_rnn.sequence_model.parameter_draws import run_with_values
from pgm_rnn.sequence_model.random_attributes import replaced

_TWIN = "_is_twin"


def is_random(model: nn.Module) -> bool:
    """Whether a model is a `PyroModule` and not the twin of one."""
    return isinstance(model, PyroModule) and _TWIN not in vars(model)


def run_random(model: Any, x: Any, lengths: Tensor | None, **options: Any) -> Any:
    """The program of a `PyroModule`; arguments and result as of `SequenceModel.model`.

    Raises:
        ValueError: a random attribute with nearly the name of a parameter, or values that do not fit the model.
    """
    with model._pyro_context:
        twin, values, event_dims = twin_and_values(model)
        run_with_values(twin, values, event_dims, x, lengths, **options)
    return x


def twin_and_values(model: Conditionals) -> tuple[Conditionals, dict[str, Tensor], dict[str, int]]:
    """The twin of a `PyroModule`, the values of its random and constrained parameters, and their numbers of axes.

    It must be called in the model's context. It makes the sites of the values, and registers the other parameters.

    Raises:
        ValueError: a random attribute with nearly the name of a parameter.
    """
    values, shapes = {}, {}
    for name, part, attribute in _managed(model):
        values[name] = PyroModule.__getattr__(part, attribute)
        shapes[name] = _shape(part, attribute, values[name])
    _register(model)
    twin = _twin(model)
    naturals = natural_parameters(twin)
    for name in shapes.keys() - naturals.keys():
        path, _, attribute = name.rpartition(".")
        _check_spelling(model, name, [*listed(model), *replaced(model)])
        placeholder = nn.Parameter(example_of(twin).new_zeros(shapes[name]))  # `functional_call` puts the value there
        twin.get_submodule(path)._parameters[attribute] = placeholder
    return twin, values, {name: len(shape) for name, shape in shapes.items()}


def _check_spelling(model: nn.Module, name: str, names: Sequence[str]) -> None:
    """Raise if a random attribute of the reader's own has nearly the name of a parameter."""
    close = [] if name in names else difflib.get_close_matches(name, names, n=1, cutoff=0.8)
    if close:
        raise ValueError(
            f"expected a parameter of {type(model).__name__} as a random attribute, got {name!r}; did you mean "
            f"{close[0]!r}?"
        )


def _managed(model: nn.Module) -> Iterator[tuple[str, PyroModule, str]]:
    """Name, module and attribute of every `PyroSample` and `PyroParam`."""
    for path, part in model.named_modules():
        if isinstance(part, PyroModule):
            for attribute in (*part._pyro_samples, *part._pyro_params):
                yield f"{path}.{attribute}" if path else attribute, part, attribute


def _shape(part: PyroModule, attribute: str, value: Tensor) -> torch.Size:
    """Shape of one draw, without the axes of vectorised draws."""
    law: Any = part._pyro_samples.get(attribute, value)
    law = law if isinstance(law, Tensor) or hasattr(law, "sample") else law(part)
    return law.shape if isinstance(law, Tensor) else law.shape()


def _register(model: nn.Module) -> None:
    """Reads every other parameter, which makes its `pyro.param` statement."""
    for part in model.modules():
        if isinstance(part, PyroModule):
            for attribute in (*part._parameters, *part._modules):
                if not attribute.endswith("_unconstrained"):
                    getattr(part, attribute)


def _twin(module: Any) -> Any:
    """The module without random attributes, and the same for its parts; parameters are shared."""
    if not isinstance(module, PyroModule):
        return module
    twin = type(module).__new__(type(module))
    twin.__dict__.update(module.__dict__)
    own = {"_pyro_context": type(module._pyro_context)(), "_pyro_samples": {}, "_pyro_params": {}, _TWIN: True}
    parts = {name: _twin(part) for name, part in module._modules.items()}
    twin.__dict__.update(own, _parameters=dict(module._parameters), _modules=parts)
    return twin
