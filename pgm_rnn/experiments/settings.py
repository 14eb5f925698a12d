"""Settings of an experiment, and the seeds derived from them.

The seed of each hidden Markov model, data set and network is a digest of its purpose, so that results do not depend on
where, when or with which other cells they are computed. Data sets of different sizes are different data sets: the first
hundred sequences of a thousand are not those of a hundred.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from pgm_rnn.checks import check_counts

NUM_STEPS = 8
"""Steps of every sequence: sec. 4.1 and 4.2."""

PAPER_TEST = 100
"""Sequences of the paper's test set."""

AXES = {
    "num_states": "m, the number of states",
    "hidden_dims": "k, the number of hidden units",
    "num_sequences": "n, the number of training sequences",
}
"""Names of the settings that are lists."""

NARROW = 10
"""Networks with fewer hidden units than this are tried from several starts."""


@dataclass(frozen=True)
class Settings:
    """Sizes of an experiment.

    Attributes:
        num_symbols: number of symbols of the hidden Markov models.
        num_states: values of m, the number of states.
        hidden_dims: values of k, the number of hidden units.
        num_sequences: values of n, the number of training sequences; the training sets are nested.
        replicates: number of random hidden Markov models, each with its own data and networks.
        seed: random seed for models, data and networks.
        learning_rates: each network is trained once with each rate; the held-out part of its n sequences selects one.
        narrow_rates: learning rates of networks with fewer than `NARROW` units, whose loss has worse optima.
        narrow_starts: number of starts per rate for such networks.
        num_updates: gradient steps per network.
        batch_size: sequences per gradient step.
        num_test: number of test sequences; the paper's test set is the first hundred.
        num_starts: number of networks trained on the same data, if an experiment compares them.
        group: number of replicates whose networks are trained as one stack.
        many_particles: further numbers of particles, if an experiment runs a particle filter.

    Raises:
        ValueError: a size is too small, or a list is empty or repeats a value; the message names the setting.
    """

    num_symbols: int = 3
    num_states: tuple[int, ...] = (2,)
    hidden_dims: tuple[int, ...] = (1, 20, 100)
    num_sequences: tuple[int, ...] = (20_000,)
    replicates: int = 20
    seed: int = 0
    learning_rates: tuple[float, ...] = (0.001, 0.005)
    narrow_rates: tuple[float, ...] = (0.01, 0.03, 0.1)
    narrow_starts: int = 3
    num_updates: int = 1500
    batch_size: int = 100
    num_test: int = 1000
    num_starts: int = 1
    group: int = 1
    many_particles: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the sizes; a ValueError names the first that is too small."""
        for num_states in self.num_states:
            if isinstance(num_states, bool) or not isinstance(num_states, int) or num_states < 2:
                raise ValueError(
                    f"expected m, the number of states, of at least 2, got {num_states!r}; one leaves nothing to "
                    "predict"
                )
        for num_sequences in self.num_sequences:
            if isinstance(num_sequences, bool) or not isinstance(num_sequences, int) or num_sequences < 1:
                raise ValueError(f"expected n, the number of training sequences, of at least 1, got {num_sequences!r}")
        for hidden_dim in self.hidden_dims:
            check_counts(hidden_dim=hidden_dim)
        for name in (
            "num_symbols",
            "replicates",
            "num_updates",
            "batch_size",
            "num_test",
            "narrow_starts",
            "num_starts",
            "group",
        ):
            check_counts(**{name: getattr(self, name)})
        for name in ("num_states", "hidden_dims", "num_sequences", "learning_rates", "narrow_rates"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"expected {name} as one or more different values, got {values}")

    def check_one(self, experiment: str, *names: str) -> None:
        """Check that a list has a single value, for an experiment with one m, k or n.

        Raises:
            ValueError: it has several.
        """
        for name in names:
            values = getattr(self, name)
            if len(values) > 1:
                raise ValueError(f"expected one {AXES[name]}, for {experiment}, got {', '.join(map(str, values))}")

    def check_several(self, experiment: str, *names: str) -> None:
        """Check that a list has several values, for an experiment that compares m, k or n.

        Raises:
            ValueError: it has only one.
        """
        for name in names:
            values = getattr(self, name)
            if len(values) == 1:
                raise ValueError(f"expected more than one {AXES[name]}, for {experiment} to compare, got {values[0]}")

    def check_single_unit(self, experiment: str) -> None:
        """Check that the hidden sizes include 1 and more, for an experiment that compares them.

        Raises:
            ValueError: they do not.
        """
        if 1 not in self.hidden_dims or len(self.hidden_dims) == 1:
            given = ", ".join(map(str, self.hidden_dims))
            raise ValueError(f"expected 1 and more among {AXES['hidden_dims']}, for {experiment}, got {given}")

    def seed_of(self, *purpose: object) -> int:
        """The seed in 0..2^63 - 1 for one purpose, such as ("data", 2, 0)."""
        digest = hashlib.sha256(repr((self.seed, *purpose)).encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def rates(self, hidden_dim: int) -> tuple[float, ...]:
        """The learning rates that a network of k units is trained with."""
        return self.narrow_rates if hidden_dim < NARROW else self.learning_rates

    def starts(self, hidden_dim: int) -> range:
        """The starts that a network of k units is chosen from."""
        return range(self.narrow_starts if hidden_dim < NARROW else 1)

    def replicate_groups(self) -> list[tuple[int, ...]]:
        """Numbers of the replicates, `group` at a time."""
        numbers = range(self.replicates)
        return [tuple(numbers[i : i + self.group]) for i in range(0, self.replicates, self.group)]

    def as_json(self) -> dict[str, Any]:
        """Names and values, tuples as lists."""
        found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return found


@contextmanager
def reproducible() -> Iterator[None]:
    """Use one thread and float64 as default within a block, because the order of sums depends on them."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
