"""The data sets' names."""

from collections.abc import Callable

from pgm_rnn.checks import check_choice
from pgm_rnn.data.dataset import Dataset
from pgm_rnn.data.handwriting import kanji, pen_digits
from pgm_rnn.data.piano_rolls import jsb_chorales, nottingham
from pgm_rnn.data.speech import japanese_vowels
from pgm_rnn.data.synthetic import synthetic_hmm
from pgm_rnn.data.text import tiny_shakespeare

_LOADERS: dict[str, Callable[[int], Dataset]] = {
    "japanese-vowels": lambda seed: japanese_vowels(),
    "jsb": lambda seed: jsb_chorales(),
    "kanji": lambda seed: kanji(),
    "nottingham": lambda seed: nottingham(),
    "pen-digits": lambda seed: pen_digits(),
    "synthetic-hmm": synthetic_hmm,
    "tiny-shakespeare": lambda seed: tiny_shakespeare(),
}


def list_datasets() -> list[str]:
    """The names that `load` knows, sorted."""
    return sorted(_LOADERS)


def load(name: str, *, seed: int = 0) -> Dataset:
    """The data set called `name`.

    Args:
        name: one of `list_datasets()`.
        seed: what synthetic data are drawn from; the others are the same for every seed.

    Raises:
        ValueError: there is no data set of that name.
        DataError: its file is neither in the folder that PGM_RNN_DATA names, or a folder in it, nor in the cache and
            cannot be downloaded, or the copy that is there has other contents.

    Example:
        >>> from pgm_rnn.data import load
        >>> data = load("synthetic-hmm", seed=0)
        >>> data.test.x.shape
        torch.Size([100, 8])
    """
    check_choice("the data set", name, list_datasets())
    return _LOADERS[name](seed)
