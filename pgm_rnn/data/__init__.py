"""Data sets by name: piano rolls, characters, speech, handwriting, and sequences drawn from a known HMM.

Files are looked for in the folder that the environment variable PGM_RNN_DATA names and in the folders in it, then in
the user's cache folder, and downloaded into that cache otherwise. Each is checked by its SHA-256 before it is read.
"""

from pgm_rnn.data.catalogue import list_datasets, load
from pgm_rnn.data.dataset import Dataset, Labels
from pgm_rnn.data.source import DataError
from pgm_rnn.data.synthetic import dirichlet_hmm

__all__ = ["DataError", "Dataset", "Labels", "dirichlet_hmm", "list_datasets", "load"]
