"""Data sets by name: music, characters, speech, handwriting, classical series, and sequences drawn from a known HMM.

Files are first looked up in the folder named by the environment variable PGM_RNN_DATA and in its subfolders, then in
the user's cache folder; files found nowhere are downloaded into that cache. Each file is checked by its SHA-256 before
it is read.
"""

from pgm_rnn.data.catalogue import list_datasets, load
from pgm_rnn.data.dataset import Dataset, Inputs, Labels
from pgm_rnn.data.source import DataError
from pgm_rnn.data.synthetic import dirichlet_hmm

__all__ = ["DataError", "Dataset", "Inputs", "Labels", "dirichlet_hmm", "list_datasets", "load"]
