"""Groups of arrays as ArviZ data, of whichever version of ArviZ is installed.

ArviZ before version 1 has `InferenceData`, from version 1 on it takes xarray's `DataTree`; both hold one xarray
`Dataset` per group.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pgm_rnn.report import arviz_versions
from pgm_rnn.report.labelled import Group, Labels, Variable


def arviz_data(groups: Mapping[str, Group], labels: Labels, attributes: Mapping[str, Any]) -> Any:
    """An `arviz.InferenceData`, or a `DataTree` from ArviZ version 1 on, with these groups and attributes."""
    arviz, xarray = arviz_versions.load()
    sets = {name: _dataset(xarray, group, labels) for name, group in groups.items() if group}
    if arviz_versions.is_new(arviz):
        tree = xarray.DataTree.from_dict({f"/{name}": found for name, found in sets.items()})
        tree.attrs.update(attributes)
        return tree
    return arviz.InferenceData(attrs=dict(attributes), warn_on_custom_groups=False, **sets)


def version() -> str:
    """The version of ArviZ that is installed."""
    return str(arviz_versions.load()[0].__version__)


def _dataset(xarray: Any, group: Group, labels: Labels) -> Any:
    """One group: each axis is a coordinate, with labels or counted; a variable named like its axis has its labels."""
    sizes = {axis: size for part in group.values() for axis, size in zip(part.axes, part.values.shape, strict=True)}
    coords = {axis: (axis, *_labels(axis, size, labels)) for axis, size in sizes.items() if "_dim_" not in axis}
    coords |= {axis: _labelled(group[axis]) for axis in sizes if axis in group}
    parts = {name: _labelled(part) for name, part in group.items() if name not in sizes}
    return xarray.Dataset(parts, coords=coords)


def _labelled(part: Variable) -> tuple[Any, ...]:
    return (part.axes, part.values, dict(part.attributes))


def _labels(axis: str, size: int, labels: Labels) -> tuple[Any, dict[str, str]]:
    """The labels of an axis, numbers from 0 where it has none, and its title."""
    found = labels.values.get(axis.removeprefix("other_"))
    values = found if found is not None and len(found) == size else np.arange(size)
    title = labels.titles.get(axis)
    return values, {} if title is None else {"long_name": title}
