"""Data sets by name: piano rolls, characters, and sequences drawn from a known hidden Markov model.

Files are looked for in the folder that the environment variable PGM_RNN_DATA names, then in the user's cache folder,
and downloaded into that cache otherwise. Each is checked by its SHA-256 before it is read.
"""

from pgm_rnn.data.catalogue import list_datasets, load
from pgm_rnn.data.dataset import Dataset
from pgm_rnn.data.source import DataError
from pgm_rnn.data.synthetic import dirichlet_hmm

__all__ = ["DataError", "Dataset", "dirichlet_hmm", "list_datasets", "load"]
