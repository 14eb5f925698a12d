"""The registry of data sets; the command line and its help get all data sets from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pgm_rnn.checks import check_choice
from pgm_rnn.data.dataset import Dataset
from pgm_rnn.data.handwriting import kanji, pen_digits
from pgm_rnn.data.piano_rolls import jsb_chorales, nottingham
from pgm_rnn.data.series import gnp, pound_dollar, uk_drivers
from pgm_rnn.data.speech import japanese_vowels
from pgm_rnn.data.synthetic import synthetic_hmm
from pgm_rnn.data.text import tiny_shakespeare
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, Pen


@dataclass(frozen=True)
class DatasetInfo:
    """An entry of the registry of data sets.

    Attributes:
        name: its name for `load`.
        load: function that loads it; the seed matters for synthetic data only.
        family: the class of its observations' family.
        labels: "sequences" if each sequence has a label, "steps" if the state at each step is known, "" for no labels.
        licence: the terms under which the data may be used, for the cards of trained models.
    """

    name: str
    load: Callable[[int], Dataset]
    family: type[Emission]
    labels: str = ""
    licence: str = ""


_UCI = "CC BY 4.0, UCI Machine Learning Repository"
_TCN = "files under the MIT licence (repository of Bai, Kolter & Koltun)"
_PUBLIC = "public domain"

DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo("gnp", lambda seed: gnp(), Gaussian, licence=f"{_PUBLIC}, Bureau of Economic Analysis"),
        DatasetInfo("japanese-vowels", lambda seed: japanese_vowels(), Gaussian, "sequences", _UCI),
        DatasetInfo("jsb", lambda seed: jsb_chorales(), Bernoulli, licence=f"works in the {_PUBLIC}; {_TCN}"),
        DatasetInfo("kanji", lambda seed: kanji(), Pen, licence="CC BY-SA 3.0, KanjiVG, Ulrich Apel"),
        DatasetInfo("nottingham", lambda seed: nottingham(), Bernoulli, licence=f"traditional tunes; {_TCN}"),
        DatasetInfo("pen-digits", lambda seed: pen_digits(), Gaussian, "sequences", _UCI),
        DatasetInfo(
            "pound-dollar", lambda seed: pound_dollar(), Gaussian, licence=f"{_PUBLIC}, Federal Reserve, release H.10"
        ),
        DatasetInfo("synthetic-hmm", synthetic_hmm, Categorical, "steps", "drawn by this package"),
        DatasetInfo("tiny-shakespeare", lambda seed: tiny_shakespeare(), Categorical, licence=_PUBLIC),
        DatasetInfo(
            "uk-drivers",
            lambda seed: uk_drivers(),
            Gaussian,
            licence="official figures; file under the BSD 3-Clause licence (sktime)",
        ),
    )
}
"""Every data set by its name."""


def list_datasets() -> list[str]:
    """The names that `load` knows, sorted."""
    return sorted(DATASETS)


def load(name: str, *, seed: int = 0, datasets: Mapping[str, DatasetInfo] = DATASETS) -> Dataset:
    """The data set called `name`.

    Args:
        name: one of `list_datasets()`.
        seed: random seed for synthetic data; other data sets do not depend on it.
        datasets: the registry; `DATASETS` with entries of your own added to it, for example.

    Raises:
        ValueError: there is no data set of that name.
        DataError: its file is neither in the folder PGM_RNN_DATA or a subfolder, nor in the cache, and cannot be
            downloaded; or the copy found has other contents.

    Example:
        >>> from pgm_rnn.data import load
        >>> data = load("synthetic-hmm", seed=0)
        >>> data.test.x.shape
        torch.Size([100, 8])
    """
    check_choice("the data set", name, sorted(datasets))
    return datasets[name].load(seed)
