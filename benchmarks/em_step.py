"""An iteration of Baum-Welch on the JSB chorales: 229 piano rolls of 88 keys, 64 states, ours beside hmmlearn's.

After `ITERATIONS` of them from the same parameters, ours in float64 and hmmlearn's must have the same parameters. Where
the chorales are neither in PGM_RNN_DATA nor in the cache, random rolls of the same shape stand in for them.
"""

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.peers import Row, missing, relative_errors
from benchmarks.timing import seconds_of, time_in_turn
from pgm_rnn.data import DataError, load
from pgm_rnn.emissions import Bernoulli
from pgm_rnn.inference import em
from pgm_rnn.models import HMM
from pgm_rnn.sequences import Sequences

NUM_STATES, NUM_KEYS, ITERATIONS = 64, 88, 5


def run(repeats: int = 5) -> tuple[str, list[Row]]:
    """A title that names the data, and rows with milliseconds per iteration; ours includes a final likelihood.

    Raises:
        ValueError: the float64 engines do not end with the same parameters.
    """
    rolls, name = _rolls()
    fits = {"pgm_rnn": _ours(rolls, torch.float32), "pgm_rnn (float64)": _ours(rolls, torch.float64)}
    if not missing(["hmmlearn"]):
        fits["hmmlearn (float64)"] = _hmmlearn(rolls)
    first_calls = {fit: 1e3 * seconds_of(lambda run=run: run(ITERATIONS)) for fit, run in fits.items()}
    exact = fits["pgm_rnn (float64)"](ITERATIONS)
    errors = {fit: max(relative_errors(run(ITERATIONS), exact)) for fit, run in fits.items()}
    if any(error > 1e-6 for fit, error in errors.items() if "float64" in fit):
        raise ValueError(f"expected the same parameters after {ITERATIONS} iterations, got relative errors {errors}")
    times = time_in_turn({fit: lambda run=run: run(ITERATIONS) for fit, run in fits.items()}, repeats)
    names = [*fits, *(["hmmlearn (float64)"] if "hmmlearn (float64)" not in fits else [])]
    per_iteration = {fit: (ms / ITERATIONS, ratio) for fit, (ms, ratio) in times.items()}
    rows = [Row(fit, per_iteration.get(fit), None, first_calls.get(fit), errors.get(fit)) for fit in names]
    return f"EM on {name}, {NUM_STATES} states, {ITERATIONS} iterations in a call", rows


def _rolls() -> tuple[Sequences, str]:
    try:
        return load("jsb").train, "the JSB chorales"
    except DataError:
        generator = torch.Generator().manual_seed(0)
        x = (torch.rand(229, 129, NUM_KEYS, generator=generator) < 0.05).to(torch.uint8)
        return Sequences(x, torch.randint(20, 130, (229,), generator=generator)), "random rolls of their shape"


def _parameters() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    rows = generator.dirichlet(np.ones(NUM_STATES), NUM_STATES + 1)
    return rows[0], rows[1:], generator.uniform(0.02, 0.3, (NUM_STATES, NUM_KEYS))


Fit = Callable[[int], list[np.ndarray]]


def _ours(rolls: Sequences, dtype: torch.dtype) -> Fit:
    start, transition, probs = (torch.from_numpy(array).to(dtype) for array in _parameters())
    x = rolls.x.to(dtype)

    def fit(num_iterations: int) -> list[np.ndarray]:
        model = HMM(start, transition, Bernoulli(NUM_KEYS).table(probs))
        em.fit(model, x, rolls.lengths, num_iterations=num_iterations, tolerance=0.0, progress=False)
        parameters = model.initial_probs, model.transition_probs, model.emission_table.params.sigmoid()
        return [parameter.detach().numpy() for parameter in parameters]

    return fit


def _hmmlearn(rolls: Sequences) -> Fit:
    from benchmarks.hmmlearn_bernoulli import BernoulliHMM

    x, lengths = rolls.x[rolls.mask].double().numpy(), rolls.lengths.numpy()

    def fit(num_iterations: int) -> list[np.ndarray]:
        model = BernoulliHMM(*(array.copy() for array in _parameters()), num_iterations)
        model.fit(x, lengths)
        return [model.startprob_, model.transmat_, model.probs_]

    return fit
