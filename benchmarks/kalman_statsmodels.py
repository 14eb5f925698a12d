"""statsmodels' compiled Kalman filter, one sequence at a time; it computes the value but no gradient."""

import numpy as np
from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

from benchmarks.kalman_problem import Problem
from benchmarks.peers import Peer


def statsmodels(problem: Problem) -> Peer:
    """The value, memory of the filter's moments switched off."""
    mean, A, L, C, S, x = problem
    model = KalmanFilter(k_endog=len(S), k_states=len(A), dtype=x.dtype)
    model["design"], model["transition"], model["selection"] = C, A, np.eye(len(A), dtype=x.dtype)
    model["state_cov"], model["obs_cov"] = L @ L.T, S @ S.T
    model.initialize_known(A @ mean, A @ A.T + L @ L.T)
    model.memory_no_filtered = model.memory_no_predicted = model.memory_no_gain = model.memory_no_smoothing = True

    def value() -> float:
        total = 0.0
        for rows in x:
            model.bind(rows)
            total += float(model.loglike())
        return total

    return Peer(value)
