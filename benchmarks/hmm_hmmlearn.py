"""hmmlearn's GaussianHMM in float64, its only precision; it computes the value but no gradient."""

import numpy as np
from hmmlearn.hmm import GaussianHMM

from benchmarks.hmm_problem import Problem, softmax
from benchmarks.peers import Peer


def hmmlearn(problem: Problem) -> Peer:
    """`score` with unit variances by its scaled recursion, which is faster than its logarithmic one."""
    start, moves, loc = (np.asarray(array, dtype=np.float64) for array in problem[:3])
    batch, num_steps = problem.x.shape
    x, lengths = problem.x.reshape(-1, 1).astype(np.float64), [num_steps] * batch

    def value() -> float:
        model = GaussianHMM(len(start), covariance_type="spherical", implementation="scaling")
        model.transmat_ = softmax(moves)
        model.startprob_ = softmax(start) @ model.transmat_
        model.means_, model.covars_ = loc[:, None], np.ones(len(start))
        model.n_features = 1
        return model.score(x, lengths)

    return Peer(value)
