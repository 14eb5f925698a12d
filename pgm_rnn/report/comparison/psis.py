"""Pareto-smoothed importance sampling, by ArviZ; here its two interfaces, before and from version 1, are one.

    log p(x_i | x_{-i})  ~  log sum_s w_s p(x_i | theta_s),    w_s proportional to smoothed 1 / p(x_i | theta_s)

Vehtari, Gelman & Gabry (2017), eq. (10); Vehtari et al. (2024) for the smoothing and its diagnostic k.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgm_rnn.report import arviz_versions

Values = NDArray[np.floating[Any]]


def relative_efficiency(samples: Mapping[str, Values]) -> float:
    """Effective sample size of the draws over their number, as `arviz.loo` takes it: 1 for a single chain.

    Args:
        samples: draws of each parameter, (num_chains, num_samples, *shape).
    """
    num_chains, num_samples = next(iter(samples.values())).shape[:2]
    if num_chains == 1:
        return 1.0
    arviz = arviz_versions.load()[0]
    groups: Any = {"posterior": dict(samples)}
    tree = arviz.from_dict(groups) if arviz_versions.is_new(arviz) else arviz.from_dict(**groups)
    found = arviz.ess(tree, method="mean")
    sizes = [values.to_numpy().ravel() for values in getattr(found, "dataset", found).data_vars.values()]
    return float(np.concatenate(sizes).mean()) / (num_chains * num_samples)


def smoothed_weights(log_ratios: Values, efficiency: float = 1.0) -> tuple[Values, Values]:
    """Smoothed log weights, normalised over the draws, and the Pareto k of each row.

    Args:
        log_ratios: logarithms of importance ratios, (n, num_draws).
        efficiency: effective sample size of the draws over their number.

    Returns:
        Log weights (n, num_draws), and k (n,).
    """
    arviz = arviz_versions.load()[0]
    if arviz_versions.is_new(arviz):
        stats: Any = import_module("arviz_stats.base").array_stats  # which older ones lack
        return stats.psislw(-log_ratios, r_eff=efficiency)  # its argument is the log likelihood, the negative ratio
    return arviz.psislw(log_ratios, reff=efficiency)
