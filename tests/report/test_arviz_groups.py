"""Every engine's result and every group: what is there, and the sentence where it is not."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import pgm_rnn
from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.inference import em, forward_backward, kalman, mcmc, pmmh, smc, svi
from pgm_rnn.legend import Column, Legend
from pgm_rnn.models import VRNN
from pgm_rnn.report.posterior import GROUPS
from pgm_rnn.sequences import Sequences, as_sequences
from tests.instances import make_hmm, make_model

FEW: dict[str, Any] = {"num_samples": 20, "num_warmup": 5, "progress": False}
ALWAYS = {"posterior", "observed_data", "constant_data", "log_likelihood", "one_step_log_likelihood"}
REQUESTED = {"posterior_predictive", "prior", "prior_predictive"}


class Case(NamedTuple):
    """A result, what it was made from, and the groups that it has besides those that all have."""

    result: Any
    model: Any
    data: Sequences
    own: set[str]


def stations() -> Sequences:
    """Five ragged sequences of two variables with the user's names; one entry is missing."""
    lengths = torch.tensor([4, 2, 1, 3, 4])
    x = torch.randn(5, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[0, 2, 1] = torch.nan
    mask = ~x.isnan()
    times = tuple(np.datetime64("2024-03-01") + np.arange(length) for length in lengths.tolist())
    ids = ("Aare", "Bode", "Cam", "Dee", "Elbe")
    columns = (Column("flow", unit="m3/s"), Column("rain"))
    return Sequences(x, lengths, mask=mask, legend=Legend(columns, (), "river", ids, "day", times))


def program(model: Any) -> pgm_rnn.WithPriors:
    name, size = ("emission_scale", 2) if hasattr(model, "emission_matrix") else ("scale", (2, 2))
    return pgm_rnn.WithPriors(model, {name: dist.LogNormal(torch.zeros(size), 0.5)})


def engine(name: str) -> Case:
    data, finite, linear = stations(), make_hmm(Gaussian(2)), make_model("lgssm", Gaussian(2))
    runs: dict[str, Callable[[], tuple[Any, Any, set[str]]]] = {
        "mcmc": lambda: (
            mcmc.run(program(finite), data, num_chains=2, max_tree_depth=3, **FEW),
            program(finite),
            {"sample_stats", *REQUESTED},
        ),
        "pmmh": lambda: (
            pmmh.run(program(linear), data, num_particles=10, **FEW),
            program(linear),
            {"sample_stats", *REQUESTED},
        ),
        "smc.filter": lambda: (smc.filter(linear, data, num_particles=20, seed=0), linear, {"sample_stats"}),
        "smc.filter all": lambda: (smc.filter(finite, data, num_particles=20, keep="all"), finite, {"sample_stats"}),
        "smc.smooth": lambda: (smc.smooth(linear, data, num_particles=20, num_paths=7), linear, set()),
        "kalman.filter": lambda: (kalman.filter(linear, data), linear, {"state_laws"}),
        "kalman.smooth": lambda: (kalman.smooth(linear, data), linear, {"state_laws"}),
        "kalman.sample_states": lambda: (kalman.sample_states(linear, data, num_samples=7), linear, set()),
        "forward_backward.filter": lambda: (forward_backward.filter(finite, data), finite, {"state_laws"}),
        "forward_backward.smooth": lambda: (forward_backward.smooth(finite, data), finite, {"state_laws"}),
        "forward_backward.most_likely_states": lambda: (
            forward_backward.most_likely_states(finite, data),
            finite,
            {"sample_stats"},
        ),
        "forward_backward.sample_states": lambda: (
            forward_backward.sample_states(finite, data, num_samples=7),
            finite,
            set(),
        ),
        "svi.fit": lambda: (svi.fit(finite, data, num_epochs=2, progress=False), finite, {"sample_stats"}),
        "em.fit": lambda: (em.fit(linear, data, num_iterations=2, progress=False), linear, {"sample_stats"}),
    }
    result, model, own = runs[name]()
    return Case(result, model, data, own | {"posterior_predictive"})


case = cache(engine)
RESULTS = (
    "mcmc",
    "pmmh",
    "smc.filter",
    "smc.filter all",
    "smc.smooth",
    "kalman.filter",
    "kalman.smooth",
    "kalman.sample_states",
    "forward_backward.filter",
    "forward_backward.smooth",
    "forward_backward.most_likely_states",
    "forward_backward.sample_states",
    "svi.fit",
    "em.fit",
)


@cache
def converted(name: str) -> Any:
    """The result with all groups that it can have."""
    result, model, data, own = case(name)
    return pgm_rnn.to_arviz(result, model=model, data=data, include=tuple(own), num_draws=6)


def names(data: Any) -> set[str]:
    """Groups of either version of ArviZ."""
    return set(data.children) if hasattr(data, "children") else set(data.groups())


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("name", RESULTS)
def test_a_result_has_a_group_or_says_why_not(name: str, group: str) -> None:
    result, model, data, own = case(name)
    if group in ALWAYS | own:
        found = converted(name)[group]
        values = [part.values for part in found.data_vars.values()]
        assert values
        for part in values:
            assert part.dtype.kind != "f" or np.isfinite(part).any()
        return
    assert group not in names(converted(name))
    with pytest.raises(ValueError, match=rf"expected .*{group}.*; (pass model=WithPriors|leave it out of include)"):
        pgm_rnn.to_arviz(result, model=model, data=data, include=[group])


@pytest.mark.parametrize("name", RESULTS)
def test_likelihoods_have_one_value_per_sequence_and_one_step_terms_that_sum_to_it(name: str) -> None:
    found, data = converted(name), case(name).data
    totals, terms = found["log_likelihood"]["x"], found["one_step_log_likelihood"]["x"]
    assert list(found["log_likelihood"].data_vars) == ["x"]
    assert totals.dims == ("chain", "draw", "sequence")
    assert terms.dims == ("chain", "draw", "sequence", "time")
    assert not np.isnan(totals.values).any()
    inside = np.arange(4) < data.lengths.numpy()[:, None]
    np.testing.assert_array_equal(np.isnan(terms.values), np.broadcast_to(~inside, terms.shape))
    if name not in ("pmmh", "smc.smooth"):  # whose likelihoods are estimates, and their terms exact
        np.testing.assert_allclose(np.nansum(terms.values, -1), totals.values, rtol=1e-9)


@pytest.mark.parametrize("name", RESULTS)
def test_axes_have_the_users_names(name: str) -> None:
    found = converted(name)
    for group, axes in (("observed_data", ()), ("posterior_predictive", ("chain", "draw"))):
        x = found[group]["x"]
        assert x.dims == (*axes, "sequence", "time", "variable")
        assert x["sequence"].values.tolist() == ["Aare", "Bode", "Cam", "Dee", "Elbe"]
        assert x["variable"].values.tolist() == ["flow", "rain"]
        assert x["time"].values[3] == np.datetime64("2024-03-04")
        assert x["sequence"].attrs["long_name"] == "river"
        np.testing.assert_array_equal(np.isnan(x.values).reshape(-1, 40).any(0), np.isnan(stations_x()).ravel())
    np.testing.assert_array_equal(found["observed_data"]["x"].values, stations_x())


def stations_x() -> Any:
    data = stations()
    return data.x.where(data.mask, torch.nan).numpy()


def test_draws_of_states_have_the_laws_that_the_engine_found() -> None:
    for name, law, drawn in (
        ("forward_backward.smooth", "smoothed_probs", "z"),
        ("forward_backward.filter", "filtered_probs", "filtered_states"),
        ("kalman.smooth", "smoothed_means", "z"),
        ("kalman.filter", "filtered_means", "filtered_states"),
    ):
        result, model, data, _ = case(name)
        found = pgm_rnn.to_arviz(result, model=model, data=data, num_draws=800)
        laws, draws = found["state_laws"][law].values, found["posterior"][drawn].values[0]
        assert found["state_laws"][law].dims == ("sequence", "time", "state")
        draws = (draws[..., None] == np.arange(2)).astype(float) if "probs" in law else draws
        inside = ~np.isnan(laws[..., 0])
        means, sds = draws[:, inside].mean(0), draws[:, inside].std(0).clip(min=0.05)
        distance = np.abs(means - laws[inside]) / (sds / 800**0.5)
        assert distance.max() < 5, name
        assert (np.abs(means - laws[inside][:, ::-1]) / (sds / 800**0.5)).max() > 5, name  # of the other state


def test_weighted_particles_become_draws_of_equal_weight() -> None:
    model, data = make_hmm(Gaussian(2)), stations()
    exact = forward_backward.filter(model, data).filtered_probs
    for keep, name in (("last", "last_states"), ("all", "filtered_states")):
        result = smc.filter(model, data, num_particles=4000, keep=keep, seed=0)  # type: ignore[arg-type]
        draws = pgm_rnn.to_arviz(result, data=data, num_draws=4000)["posterior"][name].values[0]
        ones, last = draws if keep == "last" else draws[:, np.arange(5), data.lengths - 1], data.lengths - 1
        expected = exact[torch.arange(5), last, 1].numpy()
        assert (np.abs(ones.mean(0) - expected) < 5 * 2**0.5 * (0.25 / 4000) ** 0.5).all()
    assert np.abs(ones.mean(0) - (1 - expected)).max() > 5 * 2**0.5 * (0.25 / 4000) ** 0.5


def test_a_fit_is_one_draw_of_its_natural_parameters() -> None:
    result, _, data, _ = case("em.fit")
    posterior = pgm_rnn.to_arviz(result, data=data)["posterior"]
    matrix = posterior["transition_matrix"]
    assert matrix.dims == ("chain", "draw", "state", "previous_state")
    np.testing.assert_array_equal(matrix.values[0, 0], result.model.transition_matrix.detach())
    assert posterior["emission_cov"].dims[2:] == ("observable", "other_observable")
    assert set(posterior.data_vars) == {
        "initial_mean", "initial_cov", "transition_matrix", "transition_cov", "emission_matrix", "emission_cov",
    }  # fmt: skip
    assert posterior["emission_matrix"]["observable"].values.tolist() == ["flow", "rain"]
    course = pgm_rnn.to_arviz(case("svi.fit").result)["sample_stats"]
    assert course["train_nats_per_step"]["epoch"].values.tolist() == [1, 2]


def elpd(data: Any) -> Any:
    """PSIS-LOO of each sequence, by either version of ArviZ."""
    import arviz

    found: Any = arviz.loo(data, pointwise=True)
    return (found.loo_i if hasattr(found, "loo_i") else found.elpd_i).values


@pytest.mark.filterwarnings("ignore")  # of so few draws
def test_loo_is_arvizs_own_on_the_likelihoods_of_the_models_that_the_draws_make() -> None:
    import arviz

    result, model, data, _ = case("mcmc")
    log_likelihood = np.stack(
        [
            [model.model_at(result.draw(i, chain)).log_prob(data).detach().numpy() for i in range(result.num_samples)]
            for chain in range(2)
        ]
    )
    draws = {"posterior": {"a": np.zeros((2, 20))}, "log_likelihood": {"x": log_likelihood}}
    make: Any = arviz.from_dict
    expected = elpd(make(draws) if int(arviz.__version__.split(".")[0]) >= 1 else make(**draws))
    np.testing.assert_allclose(elpd(converted("mcmc")), expected, rtol=1e-10)
    assert np.abs(elpd(converted("mcmc")) - log_likelihood.mean((0, 1))).max() > 1e-4  # which a mere mean is not
    names_and_data: Any = {"nuts": converted("mcmc"), "again": pgm_rnn.to_arviz(result, model=model, data=data)}
    assert set(arviz.compare(names_and_data).index) == {"nuts", "again"}


@pytest.mark.parametrize("name", ["mcmc", "smc.filter all", "svi.fit"])
def test_all_groups_are_written_to_a_netcdf_file_and_read_again(name: str, tmp_path: Path) -> None:
    import arviz

    data, path = converted(name), tmp_path / "draws.nc"
    data.to_netcdf(path, engine="h5netcdf")
    again: Any = arviz.from_netcdf(path, engine="h5netcdf")
    assert names(again) == names(data)
    assert dict(again.attrs).items() >= dict(data.attrs).items()
    for group in names(data):
        for variable, values in data[group].data_vars.items():
            np.testing.assert_array_equal(again[group][variable].values, values.values)
        for axis, labels in data[group].coords.items():
            np.testing.assert_array_equal(again[group][axis].values, labels.values)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_arvizs_pictures_and_summary_take_the_data() -> None:
    import arviz
    import matplotlib.pyplot as plt

    data, api = converted("mcmc"), arviz
    api.plot_trace(data)
    api.plot_forest(data)
    plot_ppc: Any = getattr(api, "plot_ppc_dist", None) or getattr(api, "plot_ppc", None)
    plot_ppc(data)
    assert len(api.summary(data)) == 4
    plt.close("all")


def test_attributes_tell_where_the_data_come_from() -> None:
    attributes = converted("mcmc").attrs
    assert attributes["seed"] == 0
    assert attributes["call"].startswith("pgm_rnn.to_arviz(Posterior, model=HMM(num_states=2")
    assert {"inference_library_version", "torch_version", "arviz_version"} <= set(attributes)
    data, digests = stations(), []
    changed = data.x.clone()
    changed[1, 3] = 9.0  # in the padding
    other = data.x.clone()
    other[1, 1] = 9.0
    for x in (data.x, changed, other):
        found = pgm_rnn.to_arviz(case("mcmc").result, data=data._replace(x=x), attributes={"command": "pgm-rnn fit"})
        digests.append(found.attrs["data_sha256"])
        assert found.attrs["command"] == "pgm-rnn fit"
    assert digests[0] == digests[1] != digests[2]


def test_words_times_of_their_own_and_inputs_are_kept() -> None:
    times = (np.array([5.0, 7.0]), np.array([1.0, 2.0]))
    legend = Legend((Column("sky", "symbol", words=("sun", "rain")),), ids=(3, 4), time="hour", times=times)
    data = Sequences(torch.tensor([[0, 1], [1, 1]]), torch.tensor([2, 2]), inputs=torch.ones(2, 2, 1), legend=legend)
    plain = data._replace(inputs=None)
    found = pgm_rnn.to_arviz(em.fit(make_hmm(Categorical(2)), plain, num_iterations=1, progress=False), data=plain)
    assert found["observed_data"]["x"].attrs["words"] == '{"sky": ["sun", "rain"]}'
    assert found["observed_data"]["x"].dtype == np.int64  # nothing is missing
    assert found["posterior"]["emission_probs"]["symbol"].values.tolist() == ["sun", "rain"]
    assert found["constant_data"]["times"].values.tolist() == [[5.0, 7.0], [1.0, 2.0]]
    paths = pgm_rnn.to_arviz(torch.zeros(1, 2, 2, dtype=torch.int64), data=data)
    assert paths["constant_data"]["inputs"].values.tolist() == [[[1.0], [1.0]], [[1.0], [1.0]]]
    assert found["observed_data"]["sequence"].values.tolist() == [3, 4]


def test_what_lacks_is_named_with_the_way_out() -> None:
    result, model, data, _ = case("mcmc")
    for include, given, message in (
        (
            "log_likelihood",
            {},
            r"expected a model for the group log_likelihood of mcmc.Posterior, got none; pass model=",
        ),
        ("observed_data", {}, r"expected data for the group observed_data of mcmc.Posterior, got none; pass data="),
        ("log_likelihood", {"model": model}, r"expected data for the group log_likelihood of mcmc.Posterior"),
        ("prior", {"model": model.model}, r"expected a program with priors for the group prior, got HMM; pass model="),
        ("state_laws", {}, r"expected a result with state_laws, got mcmc.Posterior, which has none; leave it out"),
        ("loo", {}, "expected include to be one of posterior, "),
    ):
        with pytest.raises(ValueError, match=message):
            pgm_rnn.to_arviz(result, include=[include], **given)
    with pytest.raises(ValueError, match="expected the data that the result was made from, with 5 sequences, got 2"):
        pgm_rnn.to_arviz(case("kalman.smooth").result, data=as_sequences(data).select(slice(0, 2)))
    with pytest.raises(TypeError, match=r"expected include as a collection of groups, got 'prior'; use include="):
        pgm_rnn.to_arviz(result, include="prior")
    with pytest.raises(ValueError, match=r"expected paths of sample_states of shape .*, got \(3, 2\)"):
        pgm_rnn.to_arviz(torch.zeros(3, 2))
    vague = VRNN(obs_dim=2, latent_dim=2, hidden_dim=2)
    fit = svi.fit(vague, torch.zeros(2, 3, 2), objective="elbo", num_epochs=1, progress=False)
    assert "log_likelihood" not in names(pgm_rnn.to_arviz(fit, data=torch.zeros(2, 3, 2)))
    with pytest.raises(ValueError, match="expected a model with an exact likelihood, got VRNN; smc"):
        pgm_rnn.to_arviz(fit, data=torch.zeros(2, 3, 2), include=["log_likelihood"])
