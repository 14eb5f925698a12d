"""What a program with groups gives: new data, ArviZ data, models to save and to forecast with, and its refusals."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.inspect import get_model_relations
from torch import Tensor

import pgm_rnn as pr
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import mcmc, pmmh
from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.models.hmm import HMM
from pgm_rnn.sequences import Sequences
from tests.instances import of_sequences

LABELS = ["west", "east", "west", "east"]
LENGTHS = torch.tensor([5, 2, 3, 4])


def program(first: Any = "model") -> pr.WithPriors:
    """Means far apart between the groups, so that a draw tells its group."""
    table = Gaussian().table(loc=torch.tensor([0.0, 1.0]), scale=torch.full((2,), 0.1))
    model = HMM(torch.full((2,), 0.5), torch.full((2, 2), 0.5), table, first=first).double()
    law = pr.ByGroup(dist.Normal, loc=dist.Normal(torch.zeros(2).double(), 1.0), scale=dist.HalfNormal(torch.ones(2)))
    return pr.WithPriors(model, {"loc": law, "transition_probs": dist.Dirichlet(torch.ones(2, 2))}, groups=LABELS)


def draws(num_chains: int = 2, num: int = 3) -> Posterior:
    loc = torch.tensor([[-50.0, -50.0], [70.0, 70.0]]).double() + torch.randn(num_chains, num, 2, 2).double()
    shared = torch.rand(num_chains, num, 2).double()
    rows = dist.Dirichlet(torch.ones(2, 2).double()).sample((num_chains, num))
    samples = {"loc_loc": shared, "loc_scale": shared + 1, "transition_probs": rows, "loc": loc}
    return Posterior(samples, torch.zeros(num_chains, dtype=torch.int64), 0.0)


def data() -> Sequences:
    return Sequences(torch.randn(4, 5).double(), LENGTHS)


@pytest.mark.parametrize("first", ["model", "condition"])
def test_new_data_of_a_group_come_from_its_own_parameters(first: Any) -> None:
    posterior, like = draws(), data()
    made = pr.simulate(program(first), like, posterior=posterior, num_draws=6, seed=0)
    assert made.x.shape == (24, 5)
    assert made.lengths.tolist() == LENGTHS.tolist() * 6
    x = made.x.reshape(6, 4, 5)
    later = (slice(None), slice(None), slice(int(first == "condition"), 2))  # all sequences have two steps
    west, east = x[later][:, [0, 2]], x[later][:, [1, 3]]
    assert bool((west > 60).all())
    assert bool((east < -40).all())
    assert float(x[:, 1, 2:].abs().max()) == 0  # the padding
    other = pr.simulate(program(first), like, posterior=posterior, num_draws=6, seed=0, groups=LABELS[1:] + LABELS[:1])
    assert bool((other.x.reshape(6, 4, 5)[later][:, [1, 3]] > 60).all())


def test_prior_predictive_draws_of_a_group_share_its_parameters() -> None:
    wide = pr.ByGroup(dist.Normal(torch.zeros(1).double(), 100.0))
    table = Gaussian().table(loc=torch.zeros(1), scale=torch.full((1,), 0.01))
    model = HMM(torch.ones(1), torch.ones(1, 1), table).double()
    made = pr.simulate(pr.WithPriors(model, {"loc": wide}, groups=LABELS), data(), num_draws=5, seed=0)
    first = made.x.reshape(5, 4, 5)[..., 0]
    assert float((first[:, 0] - first[:, 2]).abs().max()) < 0.1
    assert float((first[:, 0] - first[:, 1]).abs().min()) > 0.1
    again = pr.simulate(pr.WithPriors(model, {"loc": wide}, groups=LABELS), data(), num_draws=5, seed=0)
    assert torch.equal(made.x, again.x)


def test_arviz_data_have_an_axis_of_groups_and_the_likelihoods_of_each() -> None:
    posterior, seen, of = draws(), data(), program()
    found = pr.to_arviz(posterior, model=of, data=seen, include=["posterior_predictive", "prior"], num_draws=3)
    loc = found.posterior["loc"]
    assert loc.dims == ("chain", "draw", "group", "state")
    assert loc["group"].values.tolist() == ["east", "west"]
    assert found.posterior["loc_scale"].dims == ("chain", "draw", "state")
    np.testing.assert_allclose(loc.sel(group="west").values, posterior.samples["loc"][:, :, 1])
    assert found.prior["loc"].dims == loc.dims
    x = found.posterior_predictive["x"].values[..., 0, 0]
    assert (x[..., [0, 2]] > 60).all()
    total, steps = found.log_likelihood["x"].values, found.one_step_log_likelihood["x"].values
    for chain, draw, n in np.ndindex(2, 3, 4):
        twin = of.model_at(posterior.draw(draw, chain), LABELS[n])
        expected = twin.log_prob(seen.x[n : n + 1], lengths=LENGTHS[n : n + 1]).detach()
        np.testing.assert_allclose(total[chain, draw, n], float(expected), rtol=1e-9)
        np.testing.assert_allclose(np.nansum(steps[chain, draw, n]), float(expected), rtol=1e-9)


@pytest.mark.slow
def test_draws_of_the_sampler_go_on_into_forecasts_and_files(tmp_path: Path) -> None:
    of, seen = program(), data()
    found = mcmc.run(of, seen.x, LENGTHS, num_samples=4, num_warmup=2, max_tree_depth=2, progress=False)
    assert {name: tuple(values.shape[2:]) for name, values in found.samples.items()} == {
        "loc_loc": (2,),
        "loc_scale": (2,),
        "transition_probs": (2, 2),
        "loc": (2, 2),
    }
    twin = of.model_at(found.draw(3), "west")
    ahead = pr.forecast(twin, Sequences(seen.x[:1], LENGTHS[:1]), 2)
    pr.save_model(twin, tmp_path / "west")
    again = pr.forecast(of_sequences(pr.load_model(tmp_path / "west")), Sequences(seen.x[:1], LENGTHS[:1]), 2)
    torch.testing.assert_close(ahead.means, again.means)


def test_a_program_with_groups_is_copied_and_pickled() -> None:
    values: dict[str, Tensor] = program().draw()
    for twin in (copy.deepcopy(program()), pickle.loads(pickle.dumps(program()))):
        torch.testing.assert_close(
            twin.model_at(values, "west").state_dict(), program().model_at(values, "west").state_dict()
        )


def test_pyro_sees_the_plates_of_groups_and_sequences() -> None:
    relations = get_model_relations(program(), (data().x,))
    assert relations["plate_sample"] == {"groups": ["loc"], "sequences": ["x"]}
    assert {"loc", "transition_probs"} <= {*relations["sample_sample"]["x"]}
    assert {"loc_loc", "loc_scale"} <= {*relations["sample_sample"]["loc"]}


def test_what_takes_no_groups_is_one_sentence() -> None:
    of = program()
    with pytest.raises(ValueError, match=r"expected a program without groups for pmmh.run, got 2; mcmc.run takes it"):
        pmmh.run(of, data().x, num_samples=1, num_warmup=1)
    with pytest.raises(
        ValueError, match=r"expected a program without groups to compare, got 2 for A; az.compare takes"
    ):
        pr.compare({"A": (of, draws()), "B": of.model}, data())
    with pytest.raises(
        ValueError, match=r"expected a program without groups, got 2; pyro.render_model\(program, \(x,\)\)"
    ):
        pr.graph.read_graph(of, 3)
    with pytest.raises(ValueError, match="expected a group for each of the 3 sequences, got 4 groups"):
        pr.simulate(of, data().x[:3], num_draws=2)
    with pytest.raises(ValueError, match="expected one of the groups 'east', 'west', got 'north'"):
        pr.simulate(of, data(), num_draws=2, groups=["west", "west", "west", "north"])
