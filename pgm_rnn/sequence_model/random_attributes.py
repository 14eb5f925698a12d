"""Classes of models for which Pyro can make `PyroModule[Model]`, with properties that give way to random attributes."""

import inspect
from abc import ABCMeta
from typing import Any

from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import nn


class ModelMeta(ABCMeta, type(PyroModule)):  # type: ignore[misc]
    """The class of models' classes: they may have abstract methods, and `PyroModule[Model]` can be made of them."""


_REPLACED = "_replaced"


def note_random(model: nn.Module, name: str, value: Any) -> None:
    """Keep the name of a parameter in whose place a random or constrained attribute is set."""
    if isinstance(value, PyroSample | PyroParam) and name in model._parameters:
        vars(model)[_REPLACED] = {*replaced(model), name}


def replaced(model: nn.Module) -> set[str]:
    """Names of the parameters that random or constrained attributes have replaced."""
    found: set[str] = vars(model).get(_REPLACED, set())
    return found


class _GivesWay(property):
    """A property in whose place a `PyroSample` or `PyroParam` of the same name is read, where there is one."""

    def __init__(self, name: str, own: property) -> None:
        super().__init__(own.fget, own.fset, own.fdel, own.__doc__)
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        managed = {} if instance is None else vars(instance)
        if self.name in managed.get("_pyro_samples", ()) or self.name in managed.get("_pyro_params", ()):
            return PyroModule.__getattr__(instance, self.name)
        return super().__get__(instance, owner)


def make_random(kind: Any) -> None:
    """Prepare the class of a `PyroModule[Model]`: calling it runs its program, and its properties give way.

    A property such as `transition_probs` would otherwise hide the random attribute of its name, because Python looks
    for it first.
    """
    if not hasattr(kind, "forward") or kind.forward is nn.Module.forward:
        kind.forward = lambda self, *arguments, **options: self.model(*arguments, **options)
    for name in dir(kind):
        own = inspect.getattr_static(kind, name)
        if type(own) is property:
            setattr(kind, name, _GivesWay(name, own))
