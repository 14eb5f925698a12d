"""Missing observations: each verb of a model sums them out, or refuses in one sentence."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import em, smc, svi
from pgm_rnn.models import HMM, LinearGaussianSSM
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from tests.instances import make_hmm, make_model

LENGTHS = torch.tensor([6, 4])


def gappy(model: SequenceModel) -> Sequences:
    """Two sequences; x_6 of the first and x_2 of the second are missing, and what stands there is nonsense."""
    x, z = model.sample(2, 6, seed=0)[0:3:2]
    x, mask = x.clone(), torch.ones(2, 6, dtype=torch.bool)
    mask[0, 5] = mask[1, 1] = False
    x[~mask] = torch.nan
    return Sequences(x, LENGTHS, z, mask=mask & (torch.arange(6) < LENGTHS[:, None]))


@pytest.mark.parametrize("name", ["hmm", "lgssm"])
def test_a_joint_density_leaves_out_what_is_missing_and_no_state(name: str) -> None:
    """sum_t log p(z_t | z_{t-1}) + sum over the observed t of log p(x_t | z_t), step by step."""
    model = make_model(name, Gaussian(2))
    data = gappy(model)
    assert data.z is not None
    expected = []
    for x, z, length, there in zip(data.x, data.z, LENGTHS.tolist(), data.mask, strict=True):
        total = model.initial(None).log_prob(z[0])
        for t in range(length):
            total = total + (model.transition(z[t - 1], None).log_prob(z[t]) if t else 0.0)
            total = total + (model.emission(z[t], None).log_prob(x[t]) if there[t] else 0.0)
        expected.append(total)
    torch.testing.assert_close(model.log_prob(data), torch.stack(expected))


def test_a_forecast_goes_on_from_what_was_observed() -> None:
    """A chain that stays where it is and starts anywhere: what follows is known from the last observation alone."""
    hmm = HMM(torch.full((3,), 1 / 3), torch.eye(3), torch.eye(3))
    x, mask = torch.tensor([[2, 0, 0]]), torch.tensor([[True, False, False]])
    assert hmm.forecast(Sequences(x, torch.tensor([3]), mask=mask), 4, seed=0).x.tolist() == [[2, 2, 2, 2]]
    one = torch.eye(1, dtype=torch.float64)
    level = LinearGaussianSSM(torch.zeros(1).double(), 100 * one, one, 1e-12 * one, one, 1e-12 * one)
    data = Sequences(torch.tensor([[[7.0], [0.0]]]).double(), torch.tensor([2]), mask=torch.tensor([[True, False]]))
    assert float(level.forecast(data, 1, seed=0).x) == pytest.approx(7, abs=1e-4)
    whole = Sequences(data.x, data.lengths)
    assert not math.isclose(float(level.forecast(whole, 1, seed=0).x), 7, abs_tol=1.0)  # the zero counts


REFUSALS: dict[str, Callable[[Any, Sequences], object]] = {
    "smc": lambda model, data: smc.filter(model, data, num_particles=10),
    "em.fit": lambda model, data: em.fit(model, data, num_iterations=1),
    "Pyro's programs": lambda model, data: model.model(data),
    "svi": lambda model, data: svi.fit(model, data, num_epochs=1, progress=False),
}


@pytest.mark.parametrize("engine", REFUSALS)
def test_an_engine_that_cannot_sum_out_says_so(engine: str) -> None:
    model = make_hmm(Gaussian(2))
    with pytest.raises(
        ValueError, match=r"expected every observation for .*, got missing ones; fill them in, or use forward_backward"
    ):
        REFUSALS[engine](model, gappy(model))


@pytest.mark.parametrize("name", ["rnn-gru", "belief-rnn"])
def test_a_memory_that_reads_every_observation_refuses(name: str) -> None:
    model = make_model(name, Gaussian(2))
    data = gappy(make_model("hmm", Gaussian(2)))._replace(z=None)
    for verb in (model.log_prob, model.log_marginal_likelihood, lambda given: model.forecast(given, 2)):
        with pytest.raises(ValueError, match=r"the memory of .* reads every observation"):
            verb(data)
