"""Runs that are killed at random moments, in FOLDER/1, ...: `python -m tests.inference.killed FOLDER NUM`.

One process imports what a fit needs and forks a child for each start, so that a start costs a hundredth of a second.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from pgm_rnn.emissions import Bernoulli
from pgm_rnn.inference import svi
from pgm_rnn.models.vrnn import VRNN
from pgm_rnn.randomness import seeded
from pgm_rnn.sequences import as_sequences
from tests.instances import ragged

LENGTHS = torch.tensor([5, 2, 4, 5, 1, 3, 4])
LONGEST = 0.1
"""Seconds, at most, from a start to its end."""


def run(folder: Path, checkpoint: str | None = "run", *, resume: bool = False, **options: Any) -> svi.Fit:
    """A fit by draws of a guide, three steps an epoch, with everything that a checkpoint has to hold."""
    with seeded(0):
        model = VRNN(emission=Bernoulli(3), latent_dim=2, hidden_dim=3).double()
    train, valid = (as_sequences(ragged(Bernoulli(3), LENGTHS, seed), LENGTHS) for seed in (0, 1))
    given: dict[str, Any] = {
        "num_particles": 2,
        "num_epochs": 30,
        "batch_size": 3,
        "learning_rate": 0.01,
        "schedule": "cosine",
    }
    given |= {"kl_warmup": 20, "patience": 30, "metrics": folder / "metrics.jsonl", "seed": 1, "progress": False}
    given |= {"checkpoint": None if checkpoint is None else folder / checkpoint, "checkpoint_seconds": 0}
    return svi.fit(model, train, valid, resume=resume, **(given | options))


def kill_once(folder: Path, seconds: float) -> bool:
    """Start the run in a child, and kill it after so many seconds; whether it was still running then."""
    child = os.fork()
    if child == 0:
        try:
            run(folder, resume=True)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main(folder: Path, num_kills: int) -> None:
    """Kill runs at moments that a seed and the clock choose; one that got to its end is followed by another."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    run(folder, None, num_epochs=1, metrics=None)  # imports what is imported late
    moments, kills, runs = random.Random(0), 0, 1
    while kills < num_kills:
        place = folder / f"{runs}"
        place.mkdir(exist_ok=True)
        if kill_once(place, moments.uniform(0, LONGEST)):
            kills += 1
        else:
            runs += 1
    print(kills)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
