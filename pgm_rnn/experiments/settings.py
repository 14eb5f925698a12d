"""What an experiment is run with, and the seeds that follow from it.

A seed of every hidden Markov model, data set and network is a digest of what it is for, so that a number does not
depend on where, when or beside which other cells it is computed. Data sets of another size are other data sets: the
first hundred sequences of a thousand are not those of a hundred.
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
"""What the lists of settings are called."""

NARROW = 10
"""Networks of fewer hidden units are tried from several starts."""


@dataclass(frozen=True)
class Settings:
    """Sizes of an experiment.

    Attributes:
        num_symbols: of the hidden Markov models.
        num_states: m, each of them one experiment's axis.
        hidden_dims: k, likewise.
        num_sequences: n, likewise; the training sets are nested.
        replicates: random hidden Markov models, each with its own data and networks.
        seed: of everything.
        learning_rates: each network is trained once with each; the held-out part of its n sequences chooses.
        narrow_rates: those of networks of fewer than `NARROW` units, whose loss has worse optima.
        narrow_starts: how many starts of such a network there are to choose from, with each rate.
        num_updates: gradient steps of a network.
        batch_size: sequences a gradient step.
        num_test: test sequences; the paper's test set is the first hundred.
        num_starts: networks of the same data, where an experiment compares them.
        group: replicates whose networks are trained as one stack.
        many_particles: further numbers of particles, where an experiment runs a particle filter.
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
                raise ValueError(f"expected {name} as different values and at least one, got {values}")

    def check_one(self, experiment: str, *names: str) -> None:
        """Raise a ValueError where an experiment that has one m, k or n is given several."""
        for name in names:
            values = getattr(self, name)
            if len(values) > 1:
                raise ValueError(f"expected one {AXES[name]}, for {experiment}, got {', '.join(map(str, values))}")

    def check_several(self, experiment: str, *names: str) -> None:
        """Raise a ValueError where an experiment that compares several m, k or n is given one."""
        for name in names:
            values = getattr(self, name)
            if len(values) == 1:
                raise ValueError(f"expected more than one {AXES[name]}, for {experiment} to compare, got {values[0]}")

    def check_single_unit(self, experiment: str) -> None:
        """Raise a ValueError where an experiment on a single unit and more of them is not given both."""
        if 1 not in self.hidden_dims or len(self.hidden_dims) == 1:
            given = ", ".join(map(str, self.hidden_dims))
            raise ValueError(f"expected 1 and more among {AXES['hidden_dims']}, for {experiment}, got {given}")

    def seed_of(self, *purpose: object) -> int:
        """A seed in 0..2^63 - 1 for one purpose, such as ("data", 2, 0)."""
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
    """One thread and float64 as the default, and the caller's own afterwards: what the sums' order depends on."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
