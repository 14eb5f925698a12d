"""Classical series: what is known of them from their publications, and where the third one comes from."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pgm_rnn.data import DataError, load, series, source
from pgm_rnn.emissions import Gaussian

SIZES = {"gnp": 135, "pound-dollar": 936}


@pytest.mark.parametrize("name", SIZES)
def test_series_of_the_package_need_no_file(name: str) -> None:
    data = load(name)
    assert (tuple(data.train.x.shape), data.emission, data.train.x.dtype) == (
        (1, SIZES[name]),
        Gaussian(),
        torch.float64,
    )
    assert data.is_series
    assert not load("synthetic-hmm").is_series


def test_gnp_begins_and_ends_as_hamilton_has_it() -> None:
    """100 times the change in log real GNP, 1951Q2 to 1984Q4; the recessions of 1974 and 1981 are in it."""
    x = load("gnp").train.x[0]
    assert float(x[0]) == pytest.approx(2.593, abs=1e-3)
    year = 1951.25 + torch.arange(135) / 4
    for begin, end in ((1974.0, 1975.25), (1981.5, 1982.25)):
        assert float(x[(year >= begin) & (year < end)].mean()) < -0.5
    assert float(x[(year >= 1975.25) & (year < 1979)].mean()) > 0.8  # the expansion between them


def test_returns_of_the_pound_are_centred_logarithms() -> None:
    x = load("pound-dollar").train.x[0]
    assert float(x.mean()) == pytest.approx(0, abs=1e-12)
    first = 100 * np.log(1.8180 / 1.8310) - 100 * np.log(1.3095 / 1.8310) / 936  # rates of October 1 and 2, 1981
    assert float(x[0]) == pytest.approx(first, abs=1e-9)
    assert 0.6 < float(x.std()) < 0.8  # per cent per day


@pytest.fixture
def drivers(packed: Path, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    monkeypatch.setenv("PGM_RNN_DATA", str(packed))
    return load("uk-drivers").train.x


def test_the_arrays_and_the_table_of_drivers_are_the_same(
    drivers: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tuple(drivers.shape) == (1, 192)
    assert float(drivers[0, 0].exp()) == pytest.approx(1687)
    table = tmp_path / "seatbelts.csv"
    rows = [f"x,{round(float(value.exp()))},0" for value in drivers[0]]
    table.write_text("\n".join([",KSI,label", *rows]), encoding="utf-8")
    monkeypatch.setattr(series, "find", lambda file: None)
    monkeypatch.setattr(series, "fetch", lambda file: table)
    torch.testing.assert_close(load("uk-drivers").train.x, drivers, rtol=0, atol=1e-12)
    for text in ("month,killed\n1,2\n", ",KSI\n1,many\n"):
        table.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=r"expected a column KSI of numbers in .*, got something else"):
            load("uk-drivers")


def test_inputs_of_the_drivers_are_chosen_by_name(drivers: torch.Tensor, packed: Path) -> None:
    data = load("uk-drivers")
    assert data.inputs is not None
    assert data.inputs.names == ("law", "cos_year", "sin_year", "cos_half_year", "sin_half_year")
    assert data.train.inputs is None  # before any is chosen
    chosen = data.with_inputs(["sin_half_year", "law"]).train
    assert chosen.inputs is not None
    assert chosen.legend is not None
    assert torch.equal(chosen.x, drivers)
    assert (chosen.legend.inputs, chosen.legend.columns[0].name) == (("sin_half_year", "law"), "uk-drivers")
    year = 1969 + torch.arange(192).double() / 12
    torch.testing.assert_close(chosen.inputs[0, :, 0], torch.sin(4 * torch.pi * year), rtol=0, atol=1e-9)
    with np.load(packed / "small_series.npz") as arrays:
        np.testing.assert_array_equal(chosen.inputs[0, :, 1], arrays["seatbelts_law"])


def test_inputs_that_are_not_there_are_one_sentence(drivers: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="expected no inputs of gnp, which has none, got law; leave them out"):
        load("gnp").with_inputs(["law"])
    data = load("uk-drivers")
    with pytest.raises(ValueError, match=r"expected inputs to be one of .*, got 'lawn'; did you mean 'law'"):
        data.with_inputs(["lawn"])
    with pytest.raises(ValueError, match="expected each input once, got 'law' twice"):
        data.with_inputs(["law", "law"])
    with pytest.raises(ValueError, match=r"expected names of inputs, some of law, cos_year, .*, got none"):
        data.with_inputs([])


def test_another_table_of_drivers_is_refused(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(source, "_default_cache", lambda: cache)
    (tmp_path / "seatbelts.csv").write_text(",KSI,label\n", encoding="utf-8")
    monkeypatch.setenv("PGM_RNN_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"expected SHA-256 .*seatbelts\.csv"):
        load("uk-drivers")
    shutil.copy(packed / "small_series.npz", tmp_path)
    assert load("uk-drivers").train.num_steps == 192
