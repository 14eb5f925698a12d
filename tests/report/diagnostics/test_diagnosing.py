"""`diagnose`: the sections that apply, words, tables and files, any data, and errors of one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

import pgm_rnn as pr
from pgm_rnn.distributions.entry_laws import of_entries
from pgm_rnn.emissions import Bernoulli, Gaussian
from pgm_rnn.inference import em
from pgm_rnn.legend import Column, Legend
from pgm_rnn.models import HMM, RNN, VRNN, LinearGaussianSSM, NoisyRNN, Tagger
from pgm_rnn.report.diagnostics import one_step
from pgm_rnn.report.diagnostics.diagnosis import Diagnosis
from pgm_rnn.report.diagnostics.residuals import normal_scores
from tests.report.diagnostics.test_one_step import autoregression, counts
from tests.report.diagnostics.test_sections import posterior

FEW: dict[str, Any] = {"num_particles": 50, "num_simulations": 5, "num_steps": 2, "num_origins": 10, "num_restarts": 1}


def diagnosed(model: Any, num_sequences: int = 2, num_steps: int = 20, **options: Any) -> Diagnosis:
    return pr.diagnose(model, model.sample(num_sequences, num_steps, seed=0), **FEW | options)


@pytest.mark.parametrize(
    ("model", "sections"),
    [
        (autoregression(), "residuals simulations coverage"),
        (counts(), "residuals simulations coverage states restarts"),
        (HMM.random(1, 3, seed=0), "residuals simulations coverage"),
        (RNN("gru", emission=Bernoulli(2), hidden_dim=2), "residuals simulations"),
        (NoisyRNN.random(1, 1, seed=0), "residuals simulations coverage particles"),
        (VRNN(emission=Gaussian(1), latent_dim=1, hidden_dim=2), "residuals simulations coverage particles guide"),
    ],
    ids=["lgssm", "hmm", "one-state", "rnn-of-bits", "noisy-rnn", "vrnn"],
)
def test_only_sections_that_apply_are_there(model: Any, sections: str) -> None:
    found = diagnosed(model.double())
    assert [section.name for section in found.sections] == sections.split()
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    assert text.index("What to do") > text.index("simulations")


def test_a_right_model_is_told_what_was_looked_at() -> None:
    found = diagnosed(counts(), 4, 60)
    assert found.findings == ()
    assert found.what_to_do == (
        "Nothing was found. Looked at: one-step residuals and PIT, statistics of simulated data, coverage of forecasts "
        "1 to 2 ahead, shares and likeness of the states and agreement of restarts.",
    )
    assert repr(found) == "Diagnosis(residuals, simulations, coverage, states, restarts; 0 findings)"
    assert str(found).endswith("agreement of restarts.")


def test_findings_name_variables_sequences_and_times_of_the_user() -> None:
    model = NoisyRNN.random(1, 1, seed=0)
    data = model.sample(2, 20, seed=0)
    x = data.x.clone()
    x[1, 4] += 60.0
    days = np.arange("2024-01-01", "2024-01-21", dtype="datetime64[D]").astype("datetime64[ns]")
    legend = Legend((Column("flow", unit="m3/s"),), (), "machine", ("machine-01", "machine-03"), "day", (days, days))
    found = pr.diagnose(model, data._replace(x=x, legend=legend), **FEW | {"num_particles": 500})
    assert any("lost its particles at day 2024-01-05 of machine-03" in finding for finding in found.findings)
    frame = found.steps()
    assert list(frame.columns) == ["machine", "day", "residual_flow", "pit_flow", "score_flow", "ess", "pareto_k"]
    assert frame.loc[frame["ess"].idxmin(), "day"] == pandas.Timestamp("2024-01-05")
    assert list(found.to_frame("particles").index) == ["machine-01", "machine-03"]


def test_tables_hold_the_numbers_of_the_sections_and_the_sentences() -> None:
    found = diagnosed(autoregression(scale=0.2))
    assert found.pit is not None
    frame = found.to_frame()
    assert list(frame.columns) == ["section", "row", "column", "value", "standard_error", "text"]
    sentences = frame[frame["section"] == "what_to_do"]["text"]
    assert tuple(sentences) == found.what_to_do
    row = frame[(frame["section"] == "residuals") & (frame["column"] == "values")]
    assert row["value"].tolist() == [40.0]
    wide = found.to_frame("coverage")
    assert wide.loc["x1, 2 ahead", "90 %"] == found.section("coverage").table.values[1][2]
    steps = found.steps()
    np.testing.assert_allclose(steps["score_x1"], normal_scores(found.pit)[..., 0].flatten())
    with pytest.raises(ValueError, match="expected the section to be one of residuals, simulations, coverage, got"):
        found.section("states")


def test_files_hold_the_tables(tmp_path: Path) -> None:
    found = diagnosed(autoregression())
    found.write(tmp_path / "all.csv")
    found.write_steps(tmp_path / "steps.csv")
    assert len(pandas.read_csv(tmp_path / "all.csv")) == len(found.to_frame())
    np.testing.assert_allclose(pandas.read_csv(tmp_path / "steps.csv")["pit_x1"], found.steps()["pit_x1"])
    with pytest.raises(ValueError, match=r"to end in .csv, .parquet, .png or .svg, got"):
        found.write(tmp_path / "all.pdf")


def test_every_kind_of_data_gives_the_same_diagnosis() -> None:
    model = autoregression()
    x = model.sample(1, 20, seed=0).x
    expected = str(pr.diagnose(model, x, **FEW))
    for data in (x.numpy(), x[0], [x[0].numpy()], x.tolist()):
        assert str(pr.diagnose(model, data, **FEW)) == expected
    named = pr.diagnose(model, pandas.DataFrame({"flow": x[0, :, 0].numpy()}), **FEW)
    assert "variable flow" in str(named)
    np.testing.assert_array_equal(named.to_frame()["value"], pr.diagnose(model, x, **FEW).to_frame()["value"])


def test_the_same_seed_gives_the_same_diagnosis_and_leaves_the_generator_alone() -> None:
    model = NoisyRNN.random(1, 1, seed=0)
    before = torch.get_rng_state()
    first, second, other = (str(diagnosed(model, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert first == second
    assert first != other


def test_a_record_of_a_fit_and_draws_of_a_chain_have_their_sections() -> None:
    model = counts()
    data = model.sample(2, 30, seed=0)
    fit = em.fit(counts(), data, num_restarts=2, num_iterations=3, progress=False)
    found = pr.diagnose(model, data, fit=fit, posterior=posterior(0.5), **FEW)
    assert [section.name for section in found.sections][-2:] == ["restarts", "switching"]
    chosen = found.section("restarts").table.rows[fit.restarts.chosen]
    assert chosen == f"start {fit.restarts.chosen} (chosen)"
    assert any("labels of the states switch" in finding for finding in found.findings)


def test_what_cannot_be_computed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    conditioned = HMM.random(2, 3, first="condition", seed=0)
    x = HMM.random(2, 3, seed=0).sample(2, 4, seed=0).x
    found = pr.diagnose(conditioned, x, num_restarts=0, num_steps=10)
    assert [sentence.split(":")[0] for sentence in found.left_out] == [
        "Simulations are left out",
        "Coverage is left out",
    ]

    def unknown(law: Any, x: Any) -> Any:
        return of_entries.dispatch(object)(torch.distributions.Dirichlet(torch.ones(2)), x)

    monkeypatch.setattr(one_step, "of_entries", unknown)
    found = pr.diagnose(counts(), counts().sample(1, 10, seed=0), num_simulations=0, num_origins=0, num_restarts=0)
    assert found.left_out[0].startswith("One-step residuals are left out: expected a law whose entries have")
    assert [section.name for section in found.sections] == ["states"]
    with pytest.raises(ValueError, match="expected one-step laws, got none; One-step"):
        found.steps()


def test_wrong_arguments_are_one_sentence() -> None:
    data = counts().sample(1, 10, seed=0)
    with pytest.raises(TypeError, match="expected a SequenceModel to diagnose, got Tagger"):
        pr.diagnose(Tagger(num_symbols=3, num_labels=2), data)  # type: ignore[arg-type]
    for option in ("num_particles", "num_steps", "num_lags"):
        wrong: dict[str, Any] = {option: 0}
        with pytest.raises(ValueError, match=f"expected {option} to be an integer of at least 1, got 0"):
            pr.diagnose(counts(), data, **wrong)
    with pytest.raises(ValueError, match="expected num_restarts to be an integer of at least 1, got -1"):
        pr.diagnose(counts(), data, num_restarts=-1)
    with pytest.raises(ValueError, match=r"expected counts 0, 1, 2, ..., got -1"):
        pr.diagnose(counts(), torch.tensor([[1.0, -1.0]]))


def test_a_diffuse_start_is_diagnosed_without_simulations() -> None:
    one = torch.eye(1, dtype=torch.float64)
    level = LinearGaussianSSM(torch.zeros(1), 0 * one, one, one, one, one, diffuse=[True])
    found = pr.diagnose(level, torch.randn(60).cumsum(0) + torch.randn(60), num_origins=5)
    assert "Simulations are left out: a diffuse start has no law to draw from." in found.left_out
    assert [section.table.name for section in found.sections][:1] == ["residuals"]
