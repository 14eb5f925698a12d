"""The names under which priors may be put on the parameters of a model.

transition_probs, initial_cov       a natural parameter of the model, named as its constructor names it
loc, scale, rate, probs             a natural parameter of a part of it, named as the family's `table` names it
emission_table.loc                  the same, with the path of the part, for models in which two parts have the name
readout.bias, transition_logits     a raw parameter, one of `named_parameters()`
"""

from collections import Counter
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from pgm_rnn.checks import check_choice
from pgm_rnn.emissions.natural import Natural
from pgm_rnn.sequence_model.parameters import current_parameters

_FOUND: "WeakKeyDictionary[nn.Module, dict[str, Natural]]" = WeakKeyDictionary()


def natural_parameters(module: nn.Module) -> Mapping[str, Natural]:
    """The natural parameters of a module and its parts by all of their names; short names come first.

    They are looked up only once, so a module must not gain parts later.
    """
    if module not in _FOUND:
        _FOUND[module] = _looked_up(module)
    return _FOUND[module]


def _looked_up(module: nn.Module) -> dict[str, Natural]:
    full: dict[str, Natural] = {}
    for path, part in module.named_modules():
        views: Mapping[str, Natural] = getattr(part, "natural_parameters", {})
        full |= {f"{path}.{name}" if path else name: natural.within(path) for name, natural in views.items()}
    times = Counter(name.rpartition(".")[2] for name in full)
    own = {name: natural for name, natural in full.items() if "." not in name}
    short = {name.rpartition(".")[2]: natural for name, natural in full.items() if times[name.rpartition(".")[2]] == 1}
    return own | short | full


def written(module: nn.Module, name: str, value: Tensor) -> tuple[str, Tensor]:
    """Name and value of the raw parameter in which the parameter `name` has this value; what else it holds stays.

    Raises:
        ValueError: a name that the module does not have.
    """
    natural, raw = natural_parameters(module).get(name), current_parameters(module)
    if natural is not None:
        return natural.raw, natural.write(raw[natural.raw], value.to(raw[natural.raw].dtype))
    if name not in raw:
        check_choice("the parameter", name, listed(module))
    return name, value.to(raw[name].dtype)


def listed(module: nn.Module) -> list[str]:
    """The names for an error, each parameter once: without its path where that is possible, then the raw ones."""
    naturals = natural_parameters(module)
    names = [name for name in naturals if "." not in name or name.rpartition(".")[2] not in naturals]
    return names + [name for name, _ in module.named_parameters()]
