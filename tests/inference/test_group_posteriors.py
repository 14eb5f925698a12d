"""Posteriors of parameters by group: against the joint Gaussian, and on simulated groups whose truth is known."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal, init_to_value
from torch import Tensor

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import mcmc
from pgm_rnn.models.hmm import HMM
from pgm_rnn.sequence_model.by_group import ByGroup
from pgm_rnn.sequence_model.priors import WithPriors

NOISE, SPREAD, WIDE = 1.0, 0.7, 2.0


def one_mean() -> HMM:
    """x_t ~ N(loc, 1): a hidden Markov model of one state."""
    table = Gaussian().table(loc=torch.zeros(1), scale=torch.full((1,), NOISE))
    return HMM(torch.ones(1), torch.ones(1, 1), table).double()


def normal_posterior(sums: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Means and covariance of (theta_1..G, mu) given the sums of counts observations of each group, by matrices.

    mu ~ N(0, WIDE^2), theta_g ~ N(mu, SPREAD^2), x ~ N(theta_g, NOISE^2).
    """
    num = len(counts)
    precision = torch.zeros(num + 1, num + 1, dtype=torch.float64)
    for g in range(num):
        precision[g, g] = 1 / SPREAD**2 + counts[g] / NOISE**2
        precision[g, num] = precision[num, g] = -1 / SPREAD**2
    precision[num, num] = 1 / WIDE**2 + num / SPREAD**2
    cov = torch.linalg.inv(precision)
    return cov @ torch.cat([sums / NOISE**2, torch.zeros(1, dtype=torch.float64)]), cov


@pytest.mark.slow
def test_draws_of_groups_have_the_posterior_of_the_joint_gaussian() -> None:
    labels = ["a", "a", "b", "c", "c", "c"]
    truth = torch.tensor([1.5, -1.0, 0.4], dtype=torch.float64)
    index = torch.tensor([0, 0, 1, 2, 2, 2])
    pyro.set_rng_seed(0)
    x = truth[index, None] + torch.randn(6, 2).double()
    law = ByGroup(lambda loc: dist.Normal(loc, SPREAD), loc=dist.Normal(torch.zeros(1).double(), WIDE))
    program = WithPriors(one_mean(), {"loc": law}, groups=labels)
    found = mcmc.run(program, x, num_samples=200, num_warmup=60, seed=0, progress=False)
    sums = torch.zeros(3, dtype=torch.float64).index_add(0, index, x.sum(1))
    mean, cov = normal_posterior(sums, torch.tensor([4.0, 2.0, 6.0]))
    drawn = torch.cat([found.samples["loc"][0, :, :, 0], found.samples["loc_loc"][0]], dim=1)  # (200, 4)
    sizes = torch.cat([found.effective_sample_sizes["loc"][:, 0], found.effective_sample_sizes["loc_loc"]])
    error = (cov.diagonal() / sizes).sqrt()
    assert bool(((drawn.mean(0) - mean).abs() < 4 * error).all())
    ratio = drawn.var(0) / cov.diagonal()
    assert bool(((ratio - 1).abs() < 5 * (2 / sizes).sqrt()).all())
    unpooled = sums / torch.tensor([4.0, 2.0, 6.0])
    assert bool(((drawn.mean(0)[:3] - unpooled).abs() > 4 * error[:3]).any())  # the control: no pooling


SIDES = torch.tensor([-1.0, 1.0], dtype=torch.float64)
"""Around which the means lie; a start there keeps the states from switching."""
NUM_GROUPS = 24
SMALL = 16
"""The first groups have one sequence of 12 steps, the others six."""


def groups_of_known_means() -> tuple[HMM, Tensor, Tensor, Tensor]:
    """Two states whose means differ by group: model, means (group, state), observations, group of each sequence."""
    transition = torch.tensor([[0.85, 0.15], [0.15, 0.85]]).double()
    pyro.set_rng_seed(1)
    means = SIDES + 0.3 * torch.randn(NUM_GROUPS, 2).double()
    labels = torch.cat([torch.arange(SMALL), torch.arange(SMALL, NUM_GROUPS).repeat_interleave(6)])
    start = torch.full((2,), 0.5).double()
    scale = torch.ones(2).double()
    sequences = []
    for n, group in enumerate(labels.tolist()):
        truth = HMM(start, transition, Gaussian().table(loc=means[group], scale=scale))
        sequences.append(truth.sample(1, 12, seed=n).x)
    model = HMM(start, transition, Gaussian().table(loc=SIDES, scale=scale))
    return model.double(), means, torch.cat(sequences), labels


def fitted(program: WithPriors, x: Tensor) -> Tensor:
    """Draws of the means from an automatic guide, (draws, group, state)."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    start = {"loc": SIDES.expand(NUM_GROUPS, 2), "loc_loc": SIDES}
    guide = AutoNormal(program, init_loc_fn=init_to_value(values=start), init_scale=0.1)
    svi = SVI(program, guide, pyro.optim.ClippedAdam({"lr": 0.03, "lrd": 0.995}), Trace_ELBO())
    for _ in range(400):
        svi.step(x)
    drawn: Any = Predictive(program, guide=guide, num_samples=200)(x)
    means: Tensor = drawn["loc"]
    return means


@pytest.mark.slow
def test_pooling_recovers_the_means_of_small_groups_better_than_each_alone() -> None:
    model, means, x, labels = groups_of_known_means()
    ones = torch.ones(2).double()
    pooled = ByGroup(dist.Normal, loc=dist.Normal(SIDES, 2.0), scale=dist.HalfNormal(ones))
    alone = ByGroup(dist.Normal(SIDES, 5.0 * ones))
    drawn = {
        name: fitted(WithPriors(model, {"loc": law}, groups=labels), x)
        for name, law in (("pooled", pooled), ("alone", alone))
    }
    errors = {name: (values.mean(0) - means).square().mean(1).sqrt() for name, values in drawn.items()}
    small = {name: float(error[:SMALL].mean()) for name, error in errors.items()}
    assert small["pooled"] < 0.75 * small["alone"]
    low, high = drawn["pooled"].quantile(0.05, dim=0), drawn["pooled"].quantile(0.95, dim=0)
    inside = int(((low < means) & (means < high)).sum())
    # 48 means in intervals of 90 %: 43.2 +- 2.1 of independent ones; a factorised guide is narrower, so from below 4 sd
    assert inside >= 43.2 - 4 * (48 * 0.9 * 0.1) ** 0.5
