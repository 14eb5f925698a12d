"""Draws of any engine as ArviZ data; the one module that knows ArviZ, whose interface changed at version 1."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.inference.pmmh import ParticlePosterior
from pgm_rnn.inference.smc import Smoothed

Group = dict[str, NDArray[np.generic]]


def to_arviz(result: object) -> Any:
    """Convert draws to ArviZ data, with chains and draws as the first axes.

    The result is an `arviz.InferenceData`, or a tree of data sets from ArviZ version 1 on.

    Args:
        result: the result of `mcmc.run` (parameters), of `pmmh.run` (parameters, and "log_likelihood_estimate" of each
            draw among the sample statistics) or of `smc.smooth` (states "z", the paths as draws of one chain).

    Raises:
        TypeError: `result` is none of these.

    Example:
        >>> import torch
        >>> posterior = Posterior({"scale": torch.ones(2, 5)}, torch.zeros(2, dtype=torch.int64), 0.0)
        >>> to_arviz(posterior).posterior["scale"].shape
        (2, 5)
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # ArviZ warns, once a day, of a change of interface that this module hides
        import arviz

    make: Any = arviz.from_dict
    groups = _groups(result)
    if int(arviz.__version__.split(".")[0]) >= 1:
        return make(groups)
    return make(**groups)


def _groups(result: object) -> dict[str, Group]:
    if isinstance(result, Posterior):
        return {"posterior": {name: _array(draws) for name, draws in result.samples.items()}}
    if isinstance(result, ParticlePosterior):
        statistics = {"log_likelihood_estimate": _array(result.log_likelihoods[None])}
        return _groups(result.posterior) | {"sample_stats": statistics}
    if isinstance(result, Smoothed):
        return {"posterior": {"z": _array(result.paths[None])}}
    raise TypeError(
        f"expected a result of mcmc.run, pmmh.run or smc.smooth, which hold draws, got {type(result).__name__}"
    )


def _array(tensor: Tensor) -> NDArray[np.generic]:
    return tensor.detach().cpu().numpy()
