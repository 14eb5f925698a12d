"""Parameters that differ between groups of sequences: a law of the population, and the groups themselves.

    phi ~ hyperpriors,   theta_g ~ law(phi) for each group g,   x_n ~ model(theta_{g(n)}) for each sequence n
    not centred:   offset_g ~ N(0, 1),   theta_g = f(loc(phi) + scale(phi) offset_g),   the same law of theta_g

Groups with little data borrow from the others through phi: partial pooling (Gelman & Hill, 2007, ch. 12).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from pyro.distributions.torch_distribution import TorchDistribution, TorchDistributionMixin
from torch import Tensor

__all__ = ["ByGroup", "Groups"]

Law = TorchDistribution | Callable[..., TorchDistribution]


class ByGroup:
    """The prior of a parameter that every group of sequences has of its own: theta_g ~ law(phi), phi ~ hyperpriors.

    Args:
        law: the law of the population, for one group: a function of the hyperparameters that returns a law, such as
            `dist.Normal`, or a law, which leaves the groups unpooled. The function also gets hyperparameters with more
            axes on the left, one for each of several draws, and must broadcast over them.
        centered: False draws a standard normal offset of each group at the site "loc_offset" of a parameter `loc`, and
            computes the parameter, loc + scale offset, in place of drawing it. The law must be normal, or a function of
            a normal variable, such as `dist.LogNormal`. It stays the same, but NUTS and guides move more easily where
            the groups have little data: the offsets do not shrink with the scale (Papaspiliopoulos et al., 2007).
        hyperpriors: the laws of the hyperparameters by the names of the function's arguments. The site of the
            hyperparameter `scale` of the parameter `loc` is "loc_scale".

    Raises:
        TypeError: a law or a hyperprior of another kind.
        ValueError: a law with hyperpriors, or a function without; centered=False with a law without hyperpriors.

    Example:
        >>> import pyro.distributions as dist
        >>> ByGroup(dist.Normal, loc=dist.Normal(torch.zeros(2), 3.0), scale=dist.HalfNormal(torch.ones(2)))
        ByGroup(Normal, loc=Normal, scale=HalfNormal)
    """

    def __init__(self, law: Law, *, centered: bool = True, **hyperpriors: TorchDistribution) -> None:
        if not isinstance(law, TorchDistributionMixin) and not callable(law):
            raise TypeError(f"expected a law, or a function that returns one, for ByGroup, got {type(law).__name__}")
        for name, prior in hyperpriors.items():
            if not isinstance(prior, TorchDistributionMixin):
                raise TypeError(f"expected a law as the hyperprior {name}, got {type(prior).__name__}")
        if isinstance(law, TorchDistributionMixin) == bool(hyperpriors):
            got = (
                f"hyperpriors {', '.join(hyperpriors)} with a law" if hyperpriors else "a function without hyperpriors"
            )
            raise ValueError(f"expected ByGroup(law), or ByGroup(function, name=hyperprior, ...), got {got}")
        if not centered and not hyperpriors:
            raise ValueError(f"expected hyperpriors with centered=False, got the law {_title(law)}; leave centered out")
        self.law, self.centered = law, centered
        self.hyperpriors = {name: prior.to_event(len(prior.batch_shape)) for name, prior in hyperpriors.items()}

    def __repr__(self) -> str:
        """The names of the laws."""
        named = [f"{name}={_title(prior)}" for name, prior in self.hyperpriors.items()]
        named += [] if self.centered else ["centered=False"]
        return f"ByGroup({', '.join([_title(self.law), *named])})"

    def at(self, hyper: Mapping[str, Tensor]) -> TorchDistribution:
        """The law of the population at hyperparameters by the names of the function's arguments.

        Raises:
            TypeError: the function returned something else than a law.
        """
        law = self.law if isinstance(self.law, TorchDistributionMixin) else self.law(**hyper)
        if not isinstance(law, TorchDistributionMixin):
            raise TypeError(f"expected a law of Pyro's from the function of ByGroup, got {type(law).__name__}")
        return law


def moved(law: TorchDistribution, offset: Tensor) -> Tensor:
    """The value f(loc + scale offset) of the law f(N(loc, scale^2)) at a standard normal offset.

    Raises:
        ValueError: a law that is neither normal nor a function of a normal variable.
    """
    inner: Any = law
    transforms: list[Any] = []
    while not isinstance(inner, torch.distributions.Normal):
        transforms += reversed(getattr(inner, "transforms", []))
        inner = getattr(inner, "base_dist", None)
        if inner is None:
            raise ValueError(
                "expected a normal law, or a function of a normal variable such as LogNormal, for ByGroup with "
                f"centered=False, got {_title(law)}; leave centered out"
            )
    value = inner.loc + inner.scale * offset
    for transform in reversed(transforms):
        value = transform(value)
    return value


class Groups(NamedTuple):
    """The group of each sequence.

    Attributes:
        names: the label of each group, sorted.
        numbers: number of each sequence's group, (batch,), int64.
    """

    names: tuple[Any, ...]
    numbers: Tensor

    @staticmethod
    def of(labels: Any) -> "Groups":
        """The groups of labels, one for each sequence: words or numbers, in a list, array, tensor or column of a table.

        Raises:
            TypeError: labels of several kinds, or of another kind.
            ValueError: no labels, a missing one, or a category of a column that no sequence has.
        """
        each = _listed(labels)
        kinds = {type(label) for label in each}
        if len(kinds) > 1 or not kinds <= {int, str, bool}:
            got = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise TypeError(f"expected the groups as words or as whole numbers, got {got}")
        found = set(each)
        categories = getattr(getattr(labels, "cat", labels), "categories", None)
        for name in [] if categories is None else categories.tolist():
            if name not in found:
                raise ValueError(
                    f"expected a sequence in each group, got none in {name!r}; use remove_unused_categories()"
                )
        names = tuple(sorted(found))
        return Groups(names, _places(names, each))

    def among(self, labels: Any) -> Tensor:
        """Numbers of the groups of other sequences, (batch,), int64.

        Raises:
            ValueError: a group that is not among these.
        """
        each = _listed(labels)
        for label in each:
            self.number(label)
        return _places(self.names, each)

    def number(self, name: Any) -> int:
        """The number of a group.

        Raises:
            ValueError: it is not among these.
        """
        name = name.item() if isinstance(name, Tensor) else name
        if name not in self.names:
            listed = ", ".join(map(repr, self.names[:20])) + (", ..." if len(self.names) > 20 else "")
            raise ValueError(
                f"expected one of the groups {listed}, got {name!r}; new_group draws the parameters of another one"
            )
        return self.names.index(name)


def _listed(labels: Any) -> list[Any]:
    """The labels in a list.

    Raises:
        TypeError: one word, or nothing that can be listed.
        ValueError: no labels, more than one axis, or a missing one.
    """
    if isinstance(labels, str) or not (hasattr(labels, "tolist") or hasattr(labels, "__iter__")):
        raise TypeError(f"expected the group of each sequence, a list or a column of labels, got {labels!r}")
    each = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if not isinstance(each, list) or not each or isinstance(each[0], list):
        raise ValueError("expected the group of each sequence, (batch,), got no labels or more than one axis of them")
    for place, label in enumerate(each):
        if label is None or label != label:
            raise ValueError(f"expected the group of each sequence, got none at sequence {place}")
    return each


def _places(names: tuple[Any, ...], each: list[Any]) -> Tensor:
    place = {name: number for number, name in enumerate(names)}
    return torch.tensor([place[label] for label in each], dtype=torch.int64)


def _title(law: Any) -> str:
    """The name of a law without the event axes around it, or of a function."""
    if isinstance(law, TorchDistributionMixin):
        return type(getattr(law, "base_dist", law)).__name__
    return str(getattr(law, "__name__", type(law).__name__))
