"""The registry of data sets; the command line and its help get all data sets from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pgm_rnn.checks import check_choice
from pgm_rnn.data.dataset import Dataset
from pgm_rnn.data.handwriting import kanji, pen_digits
from pgm_rnn.data.piano_rolls import jsb_chorales, nottingham
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
    """

    name: str
    load: Callable[[int], Dataset]
    family: type[Emission]
    labels: str = ""


DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo("japanese-vowels", lambda seed: japanese_vowels(), Gaussian, "sequences"),
        DatasetInfo("jsb", lambda seed: jsb_chorales(), Bernoulli),
        DatasetInfo("kanji", lambda seed: kanji(), Pen),
        DatasetInfo("nottingham", lambda seed: nottingham(), Bernoulli),
        DatasetInfo("pen-digits", lambda seed: pen_digits(), Gaussian, "sequences"),
        DatasetInfo("synthetic-hmm", synthetic_hmm, Categorical, "steps"),
        DatasetInfo("tiny-shakespeare", lambda seed: tiny_shakespeare(), Categorical),
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
