"""particles' bootstrap filter, run by the interpreter of another environment: lines of JSON in, lines of JSON out.

    python -m benchmarks.smc_worker problem.npz
    {"sequences": [0, 1], "seed": 0}  ->  {"seconds": 0.02, "estimates": [-163.1, -160.9]}

It computes in float64, one sequence after the other, without the optional summaries of each step.
"""

import json
import sys
import time

import numpy as np
from particles import SMC
from particles.distributions import Categorical, Normal
from particles.state_space_models import Bootstrap, StateSpaceModel


class AutoregressionPlusNoise(StateSpaceModel):
    """z_t ~ N(a z_{t-1}, s^2), x_t ~ N(z_t, r^2)."""

    def PX0(self):  # noqa: N802
        """The stationary law."""
        return Normal(scale=self.scale / np.sqrt(1 - self.coefficient**2))

    def PX(self, t, xp):  # noqa: N802
        """A step of the autoregression."""
        return Normal(loc=self.coefficient * xp, scale=self.scale)

    def PY(self, t, xp, x):  # noqa: N802
        """The state and noise."""
        return Normal(loc=x, scale=self.noise)


class StochasticVolatility(AutoregressionPlusNoise):
    """x_t ~ N(0, exp(z_t))."""

    def PY(self, t, xp, x):  # noqa: N802
        """Mean zero, variance exp(z)."""
        return Normal(scale=np.exp(x / 2))


class NoisyNetwork(AutoregressionPlusNoise):
    """z_t ~ N(tanh(a z_{t-1}), s^2) with z_0 = 0, x_t ~ N(z_t, r^2)."""

    def PX0(self):  # noqa: N802
        """What z_0 = 0 leads to."""
        return Normal(scale=self.scale)

    def PX(self, t, xp):  # noqa: N802
        """A step of the network."""
        return Normal(loc=np.tanh(self.coefficient * xp), scale=self.scale)


class HiddenMarkovModel(StateSpaceModel):
    """Three states that stay with a probability, x_t ~ N(d z_t, r^2)."""

    def PX0(self):  # noqa: N802
        """All states alike."""
        return Categorical(p=np.full(3, 1 / 3))

    def PX(self, t, xp):  # noqa: N802
        """Stay, or move to one of the others."""
        moves = np.full((3, 3), (1 - self.coefficient) / 2)
        np.fill_diagonal(moves, self.coefficient)
        return Categorical(p=moves[xp])

    def PY(self, t, xp, x):  # noqa: N802
        """The state's mean and noise."""
        return Normal(loc=self.scale * x, scale=self.noise)


CHAINS = {
    "AR(1) plus noise": AutoregressionPlusNoise,
    "stochastic volatility": StochasticVolatility,
    "noisy network": NoisyNetwork,
    "hidden Markov model": HiddenMarkovModel,
}


def main() -> None:
    """Answer requests until standard input ends."""
    problem = dict(np.load(sys.argv[1]))
    x, num_particles = problem.pop("x").astype(np.float64), int(problem.pop("num_particles"))
    model = CHAINS[str(problem.pop("chain"))](**{name: float(number) for name, number in problem.items()})
    for line in sys.stdin:
        question = json.loads(line)
        np.random.seed(question["seed"])  # noqa: NPY002
        start = time.perf_counter()
        estimates = [estimate(model, num_particles, x[i]) for i in question["sequences"]]
        print(json.dumps({"seconds": time.perf_counter() - start, "estimates": estimates}), flush=True)


def estimate(model: StateSpaceModel, num_particles: int, x: np.ndarray) -> float:
    """Estimate of log p(x_{1:T}), nats."""
    feynman_kac = Bootstrap(ssm=model, data=x)
    filtering = SMC(fk=feynman_kac, N=num_particles, resampling="systematic", ESSrmin=0.5, collect="off")
    filtering.run()
    return float(filtering.logLt)


if __name__ == "__main__":
    main()
