"""Classical series, one sequence each: the data of published estimates, so that a fit can be compared with them.

gnp           x_t = growth of real gross national product of the United States, per cent per quarter, 1951Q2 to 1984Q4:
              the series of Hamilton (1989). Figures of the Bureau of Economic Analysis, in the public domain.
pound-dollar  x_t = 100 (log p_t - log p_{t-1}) minus its mean, for p_t the noon rate of a pound in dollars on the t-th
              day of business, October 1, 1981 to June 28, 1985. Rates of the Federal Reserve's release H.10, in
              the public domain, as FRED's series DEXUSUK gives them.
uk-drivers    x_t = log of the car drivers killed or seriously injured in Great Britain in month t, 1969 to 1984:
              figures of the Department of Transport, Harvey & Durbin (1986), as the file seatbelts.csv of sktime.
              Its inputs: law_t = 1 from February 1983, when drivers had to wear seat belts, and the season as cosines
              and sines of 2 pi (t - 1) / 12 (`year`) and 2 pi (t - 1) / 6 (`half_year`).

The first two are in this package; the third is looked for and downloaded as other data sets are. All numbers are
float64, because estimates of variances are compared to several digits.

Differences from the publications: Harvey, Ruiz & Shephard (1994) and others use 945 returns of a weekday's closing
rates of the same period, of another source; there are 936 here, one for each day of business of New York.
"""

import csv
from dataclasses import replace
from importlib.resources import files

import numpy as np
import torch
from numpy.typing import ArrayLike

from pgm_rnn.data.dataset import Dataset, Inputs
from pgm_rnn.data.source import DataError, SourceFile, fetch, find
from pgm_rnn.emissions import Gaussian
from pgm_rnn.sequences import Sequences

DRIVERS = SourceFile(
    "seatbelts.csv",
    "sktime/sktime/d646887472f1e2c2746fdcabed27ab830e43fe7b/sktime/datasets/data/seatbelts/seatbelts.csv",
    "a1cf71093fd69545babe0ded15362835b0f67df3cb75b5f7f98a342a850fb365",
)
MONTHS_BEFORE_LAW = 169
"""January 1969 to January 1983: the seat belt law came into force after them."""
PACKED = SourceFile(
    "small_series.npz",
    None,
    "f9a8f92f4bb23deb59be2d6a20301743f24706ee9f49156aec061b195c9b6f5f",
    "several small series as arrays, seatbelts_ksi among them",
)


def gnp() -> Dataset:
    """Growth of American gross national product: one sequence of 135 quarters."""
    growth = [row["growth"] for row in _rows("gnp.csv")]
    description = (
        "Growth of real GNP of the United States, per cent per quarter, 1951Q2 to 1984Q4, one quarter per step"
    )
    return _series("gnp", description, [float(value) for value in growth])


def pound_dollar() -> Dataset:
    """Daily returns of the pound in dollars, in per cent, less their mean: one sequence of 936 days."""
    rates = np.array([float(row["dollars_per_pound"]) for row in _rows("pound-dollar.csv")])
    returns = 100 * np.diff(np.log(rates))
    description = "Daily returns of the pound in US dollars less their mean, in per cent, October 1981 to June 1985"
    return _series("pound-dollar", description, returns - returns.mean())


def uk_drivers() -> Dataset:
    """Logs of the car drivers killed or seriously injured in Great Britain: one sequence of 192 months.

    Raises:
        DataError: the file is missing and cannot be downloaded, or holds something else.
    """
    packed = find(PACKED)
    if packed is not None:
        with np.load(packed, allow_pickle=False) as arrays:
            numbers = arrays["seatbelts_ksi"]
    else:
        path = fetch(DRIVERS)
        with path.open(encoding="utf-8", newline="") as lines:
            try:
                numbers = np.array([float(row["KSI"]) for row in csv.DictReader(lines)])
            except (KeyError, TypeError, ValueError):
                raise DataError(f"expected a column KSI of numbers in {path}, got something else") from None
    description = "Log of car drivers killed or seriously injured in Great Britain, 1969 to 1984, one month per step"
    return replace(_series("uk-drivers", description, np.log(numbers)), inputs=_law_and_season(len(numbers)))


def _law_and_season(num_months: int) -> Inputs:
    """The seat belt law and two waves of the year, for months from January 1969: (1, T, 5)."""
    months = np.arange(num_months)
    law = (months >= MONTHS_BEFORE_LAW).astype(float)
    waves = {
        f"{wave}_{name}": of(2 * np.pi * months / period)
        for name, period in (("year", 12), ("half_year", 6))
        for wave, of in (("cos", np.cos), ("sin", np.sin))
    }
    return Inputs(("law", *waves), torch.from_numpy(np.stack([law, *waves.values()], axis=-1))[None])


def _rows(name: str) -> list[dict[str, str]]:
    """The rows of a table of this package."""
    text = files("pgm_rnn.data").joinpath("series", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _series(name: str, description: str, values: ArrayLike) -> Dataset:
    x = torch.as_tensor(np.asarray(values), dtype=torch.float64)[None]  # (1, T)
    return Dataset(name, description, Gaussian(), Sequences(x, torch.tensor([x.shape[1]])))
