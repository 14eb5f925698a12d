"""ArviZ, imported where it is used, for that takes seconds; from version 1 on it has another interface."""

import warnings
from typing import Any


def load() -> tuple[Any, Any]:
    """The modules ArviZ and xarray."""
    with warnings.catch_warnings():
        # ArviZ warns, once a day, of a change of interface that those who call this hide
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
        import xarray
    return arviz, xarray


def is_new(arviz: Any) -> bool:
    """Whether this ArviZ is version 1 or later, which takes xarray's `DataTree` in place of `InferenceData`."""
    return int(arviz.__version__.split(".")[0]) >= 1
