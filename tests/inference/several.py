"""Fits by two processes: `python -m tests.inference.several FOLDER` forks them.

Each writes what it ended with to FOLDER/RANK.json. Two more pairs, of which one process is lost, follow.
"""

import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pgm_rnn.emissions import Bernoulli, Categorical
from pgm_rnn.inference import svi
from pgm_rnn.inference.svi import supervised
from pgm_rnn.inference.svi.processes import leave
from pgm_rnn.inference.svi.supervised import LabelFit, Labelled
from pgm_rnn.inference.svi.training import Run
from pgm_rnn.models.tagger import Tagger
from pgm_rnn.models.vrnn import VRNN
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from tests.instances import make_rnn, ragged

LENGTHS = torch.tensor([5, 1, 4, 5, 1, 3, 1])
"""In minibatches of three and four the last one leaves a process with nothing, and some have sequences of one step."""
GIVEN: dict[str, Any] = {"num_epochs": 6, "batch_size": 3, "learning_rate": 0.02, "progress": False}


def exact(**options: Any) -> svi.Fit:
    """Maximum likelihood; the loss curve of several processes is that of one."""
    return _fit(make_rnn("gru", Categorical(3)), Categorical(3), **options)


def drawn(**options: Any) -> svi.Fit:
    """A bound, with draws of each process's own."""
    with seeded(0):
        model = VRNN(emission=Bernoulli(3), latent_dim=2, hidden_dim=3).double()
    return _fit(model, Bernoulli(3), num_particles=2, **options)


def labelled(**options: Any) -> LabelFit:
    """Labels of steps, on the same minibatches."""
    with seeded(0):
        model = Tagger("gru", 3, 2, hidden_dim=3).double()
    x, y = ragged(Categorical(3), LENGTHS, 0), ragged(Categorical(2), LENGTHS, 1)
    data = Labelled(Sequences(x, LENGTHS), y)
    return supervised.fit(model, data, data, **GIVEN | options)


def _fit(model: SequenceModel, family: Categorical | Bernoulli, **options: Any) -> svi.Fit:
    train, valid = (Sequences(ragged(family, LENGTHS, seed), LENGTHS) for seed in (0, 1))
    return svi.fit(model, train, valid, **GIVEN | options)


def written(fit: svi.Fit | LabelFit) -> dict[str, Any]:
    """What a test compares, numbers in full."""
    history = [list(entry[:3]) for entry in fit.history]
    parameters = {name: value.tolist() for name, value in fit.model.state_dict().items()}
    return {"history": history, "parameters": parameters, "best": fit.best_epoch}


def fits(folder: Path, rank: int) -> None:
    """Fits of every kind, one of them checkpointed at every step, and that one once more from its end."""
    found = {"exact": written(exact()), "labelled": written(labelled()), "drawn": written(drawn())}
    options: dict[str, Any] = {"checkpoint": folder / "run", "checkpoint_seconds": 0}
    options["metrics"] = folder / "metrics.jsonl"
    found["whole"] = written(drawn(**options))
    found["again"] = written(drawn(**options, resume=True))
    (folder / f"{rank}.json").write_text(json.dumps(found))


def refused(rank: int, **options: Any) -> str:
    """The error of a fit in which the processes do not agree."""
    try:
        drawn(**options)
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def side_by_side(work: Callable[[int], None]) -> list[int]:
    """Fork two processes that find each other, each of which does its part; their ids."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    children = []
    for rank in range(2):
        children.append(os.fork())
        if children[-1] == 0:
            os.environ.update(meeting | {"RANK": str(rank)})
            try:
                work(rank)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
    return children


def lost(folder: Path, signal_number: int) -> str:
    """What the first of two processes says when the other one gets a signal in the middle of an epoch."""
    said = folder / f"{signal_number}.txt"
    children = side_by_side(lambda rank: _be_lost(said, rank, signal_number))
    os.waitpid(children[0], 0)
    os.kill(children[1], signal.SIGKILL)
    os.waitpid(children[1], 0)
    return said.read_text()


def _be_lost(said: Path, rank: int, signal_number: int) -> None:
    step, steps = Run.step, iter(range(100_000))

    def interrupted(self: Run, *arguments: Any) -> tuple[float, bool]:
        if next(steps) == 4 and rank == 1:
            os.kill(os.getpid(), signal_number)
        return step(self, *arguments)

    Run.step = interrupted  # type: ignore[method-assign, assignment]
    dist.init_process_group("gloo", timeout=timedelta(seconds=2))
    try:
        drawn(num_epochs=1000)
    except Exception as error:
        said.write_text(f"{type(error).__name__}: {error}")


def fit_and_refuse(folder: Path, rank: int) -> None:
    """Every fit, and what is refused, in one of two processes."""
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    assert dist.get_rank() == rank
    fits(folder, rank)
    errors = [refused(rank, learning_rate=0.01 * (1 + rank)), refused(rank, checkpoint=folder / "run", seed=0)]
    errors.append(refused(rank, checkpoint=folder / "run", resume=True, seed=5))
    (folder / f"errors-{rank}.json").write_text(json.dumps(errors))
    leave()


def main(folder: Path) -> None:
    """Fork two processes that fit, then two pairs of which one process is lost."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    for child in side_by_side(lambda rank: fit_and_refuse(folder, rank)):
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    said = [lost(folder, number) for number in (signal.SIGKILL, signal.SIGSTOP)]
    (folder / "lost.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
