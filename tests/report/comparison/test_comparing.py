"""`pgm_rnn.compare` as a person calls it: groups, criteria, tables, any data, and errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

import pgm_rnn as pr
from pgm_rnn.emissions import Bernoulli, Gaussian, Joint, Pen, Poisson
from pgm_rnn.inference import em, svi
from pgm_rnn.models import HMM, RNN, NoisyRNN
from pgm_rnn.report.comparison.base_measures import check_one_measure, measures_of
from pgm_rnn.sequence_model.criteria import aic, bic


def chains() -> dict[str, HMM]:
    return {f"{k} states": HMM.random(k, 3, seed=0) for k in (1, 2)}


def test_scores_and_differences_are_those_of_evaluate() -> None:
    models = chains()
    data = models["2 states"].sample(30, 12, seed=1)
    found = pr.compare(models, data)
    scores = {name: svi.evaluate(model, data) for name, model in models.items()}
    [group] = found.groups
    assert [one.model for one in group.standings] == ["2 states", "1 states"]
    assert found.best == "2 states"
    for one in group.standings:
        assert one.nats_per_step == scores[one.model].nats_per_step
        assert one.standard_error == scores[one.model].standard_error
    difference = scores["2 states"].log_likelihoods - scores["1 states"].log_likelihoods
    assert group.standings[1].behind == pytest.approx(float(difference.sum()) / 360)
    assert group.standings[1].behind_error == pytest.approx(float(difference.std()) * 30**0.5 / 360)


def test_bounds_are_not_ranked_with_likelihoods() -> None:
    exact = HMM.random(1, emission=Gaussian(1), seed=0)
    data = exact.sample(4, 5, seed=0)
    models = {"exact": exact, "bound": NoisyRNN.random(1, 1, seed=0), "other": NoisyRNN.random(2, 1, seed=0)}
    found = pr.compare(models, data, bound="iwae", num_particles=5)
    assert [(group.label, len(group.standings)) for group in found.groups] == [("exact", 1), ("IWAE_5", 2)]
    text = " ".join(str(found).split())
    assert "exact likelihoods and bounds are not ranked together: a bound lies above the exact nats" in text
    assert "two bounds differ by their gaps" in text
    alone = pr.compare({"exact": exact, "again": exact}, data)
    assert "ranked together" not in str(alone)


def test_criteria_are_given_where_the_data_are_those_of_the_fit() -> None:
    data = HMM.random(2, 3, seed=3).sample(20, 10, seed=1)
    fits = {name: em.fit(model, data, num_iterations=5, progress=False) for name, model in chains().items()}
    found = pr.compare(fits, data)
    for name, fit in fits.items():
        nats, free = -float(fit.log_likelihood), pr.num_free_parameters(fits[name].model)  # type: ignore[arg-type]
        criteria = found.criteria[name]
        assert criteria.num_free_parameters == free
        assert criteria.aic == pytest.approx(aic(nats, free))
        assert criteria.bic == pytest.approx(bic(nats, free, 200))
    assert "were fitted to these data, on which more parameters always look better" in " ".join(str(found).split())
    other = pr.compare(fits, data.select(slice(10)))
    assert other.criteria == {}
    assert "no AIC and BIC: 1 states and 2 states were fitted to other data" in " ".join(str(other).split())
    mixed = {
        "these": fits["2 states"],
        "others": em.fit(HMM.random(2, 3, seed=1), data.select(slice(2)), progress=False),
    }
    with pytest.raises(ValueError, match="got these fitted to these and others to others or to a part of these; fit"):
        pr.compare(mixed, data)
    unknown = pr.compare({name: fit.model for name, fit in fits.items()}, data)
    assert set(unknown.criteria) == set(fits)
    assert "fitted to these data, which is not known" in " ".join(str(unknown).split())


def test_the_frame_has_a_row_per_group_and_model(tmp_path: Path) -> None:
    models = chains()
    found = pr.compare(models, models["2 states"].sample(6, 5, seed=1), folds=2)
    frame = found.to_frame()
    assert list(frame["measure"]) == ["2-fold cross-validation over sequences"] * 2 + ["the data as they are"] * 2
    assert frame["aic"].notna().tolist() == [False, False, True, True]
    found.write(tmp_path / "table.csv")
    again = pandas.read_csv(tmp_path / "table.csv")
    np.testing.assert_allclose(again["nats_per_step"], frame["nats_per_step"])
    with pytest.raises(ValueError, match=r"expected the file to end in .csv or .parquet, got .*table.txt"):
        found.write(tmp_path / "table.txt")


def test_the_text_is_at_most_80_columns_wide_and_has_the_advice() -> None:
    models = {
        "a model with a long name, as a person may give it": HMM.random(2, 3, seed=0),
        "B": HMM.random(1, 3, seed=0),
    }
    found = pr.compare(models, HMM.random(2, 3, seed=0).sample(300, 20, seed=1))
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    assert found.advice in " ".join(text.split())
    assert "300 sequences, 6,000 steps" in text
    assert repr(found).startswith("Comparison(exact: a model")


def test_every_kind_of_data_gives_the_same_numbers() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2))
    models = {str(k): HMM.random(k, emission=Gaussian(2), seed=0) for k in (1, 2)}
    first = pr.compare(models, x).to_frame()["nats_per_step"]
    for data in (torch.tensor(x), pandas.DataFrame(x, columns=["a", "b"]), [x], pr.read_sequences(x)):
        np.testing.assert_allclose(pr.compare(models, data).to_frame()["nats_per_step"], first)


def test_missing_steps_do_not_count() -> None:
    models = {str(k): HMM.random(k, emission=Gaussian(), seed=0) for k in (1, 2)}
    x = models["2"].sample(5, 6, seed=0).x
    x[0, 2:4] = torch.nan
    assert pr.compare(models, x).groups[0].num_steps == 28


GAUSS, COUNTS = HMM.random(2, emission=Gaussian(), seed=0), HMM.random(2, emission=Poisson(), seed=0)


@pytest.mark.parametrize(
    ("models", "error", "message"),
    [
        ({"A": GAUSS}, ValueError, "expected at least two models to compare, got 1"),
        ([GAUSS, GAUSS], TypeError, "expected models by name, {'A': model, 'B': model}, got list"),
        ({"A": GAUSS, "B": COUNTS}, ValueError, r"got a density from A .* and a probability from B .*different units"),
        ({"A": GAUSS, "B": HMM.random(1, 3, seed=0)}, ValueError, "got a density from A"),
        ({"A": GAUSS, "B": HMM.random(1, emission=Gaussian(2), seed=0)}, ValueError, "expected models of the same col"),
        ({"A": COUNTS, "B": COUNTS}, ValueError, "A does not take these data: expected .* got -"),
        (
            {"A": GAUSS, "B": RNN("elman", emission=Gaussian(), hidden_dim=2, first="condition")},
            ValueError,
            "same steps",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(models: Any, error: type[Exception], message: str) -> None:
    x = torch.tensor([[-1.0, 2.0, 0.0, 1.0], [1.0, 0.5, 0.0, 1.0]])
    with pytest.raises(error, match=message) as raised:
        pr.compare(models, x)
    assert "\n" not in str(raised.value)


def test_an_unknown_bound_is_answered_by_the_closest_one() -> None:
    with pytest.raises(ValueError, match=r"expected bound to be one of elbo, .*, got 'fiov'; did you mean 'fivo'\?"):
        pr.compare(chains(), torch.tensor([[0, 1, 2]]), bound="fiov")


def test_columns_have_their_own_measures() -> None:
    family = Joint([Gaussian(), Poisson(), Bernoulli()])
    assert measures_of(family) == ("density", "probability", "probability")
    assert measures_of(Pen(2)) == ("density", "density", "probability")
    check_one_measure({"A": Pen(2), "B": Joint([Gaussian(2), Bernoulli()])})
    with pytest.raises(ValueError, match=r"got a probability of column 3 from A .* and a density from B"):
        check_one_measure({"A": Pen(2), "B": Gaussian(3)})


def test_columns_in_another_order_are_the_same_columns() -> None:
    families = {"A": Joint([Gaussian(), Poisson()]), "B": Joint([Poisson(), Gaussian()])}
    check_one_measure(families, {"A": ("flow", "calls"), "B": ("calls", "flow")})
    with pytest.raises(ValueError, match="a density of column flow from A"):
        check_one_measure(families, {"A": ("flow", "calls"), "B": ("flow", "calls")})
