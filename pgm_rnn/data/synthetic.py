"""Sequences drawn from a random hidden Markov model, which is therefore known.

    initial, rows of the transition table, rows of the emission table ~ Dirichlet(1, ..., 1)
    z_1 ~ initial,  z_t ~ transition(z_{t-1}),  x_t ~ emission(z_t),  t = 1..T

Choe et al. (2017), sec. 4.1: 2 states, 3 symbols, T = 8, 20 000 training and 100 test sequences.

Differences from the paper: there is also a validation split of 1000 sequences.
"""

import torch
from torch import Tensor

from pgm_rnn.checks import check_counts
from pgm_rnn.data.dataset import Dataset
from pgm_rnn.emissions import Categorical
from pgm_rnn.models.hmm import HMM
from pgm_rnn.sequences import Sequences


def synthetic_hmm(seed: int) -> Dataset:
    """The data of Choe et al. (2017), sec. 4.1, drawn from `seed`."""
    return dirichlet_hmm(
        num_states=2, num_symbols=3, num_steps=8, num_train=20_000, num_valid=1_000, num_test=100, seed=seed
    )


def dirichlet_hmm(
    num_states: int, num_symbols: int, num_steps: int, num_train: int, num_valid: int, num_test: int, seed: int
) -> Dataset:
    """States and symbols of the random HMM `HMM.random(..., seed=seed)`.

    Args:
        num_states: number of values of z_t.
        num_symbols: number of values of x_t.
        num_steps: T, the length of every sequence.
        num_train: number of training sequences, at least 1.
        num_valid: number of validation sequences; 0 means no such split.
        num_test: number of test sequences; 0 means no such split.
        seed: random seed for the model and the data.

    Returns:
        A data set whose splits have x and z (N, T), and whose `model` is the HMM.

    Raises:
        ValueError: a size is too small.
        TypeError: the seed is no integer.
    """
    check_counts(num_train=num_train)
    if num_valid < 0 or num_test < 0:
        raise ValueError(f"expected num_valid and num_test to be at least 0, got {num_valid} and {num_test}")
    hmm = HMM.random(num_states=num_states, num_symbols=num_symbols, seed=seed)
    total = num_train + num_valid + num_test
    drawn = hmm.sample(num_sequences=total, num_steps=num_steps, seed=seed)
    train, valid, test = torch.arange(total).split([num_train, num_valid, num_test])
    return Dataset(
        name="synthetic-hmm",
        description=f"{num_steps} steps of an HMM with {num_states} states, {num_symbols} symbols, Dirichlet(1) rows",
        emission=Categorical(num_symbols),
        train=drawn.select(train),
        valid=_split(drawn, valid),
        test=_split(drawn, test),
        model=hmm,
    )


def _split(drawn: Sequences, index: Tensor) -> Sequences | None:
    return drawn.select(index) if len(index) else None
