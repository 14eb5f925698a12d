"""Writers that are killed at every step, in children: `python -m tests.storage.killed FOLDER` prints what was left.

A step is a file that is opened, renamed, removed or written down, or a folder that is made or removed, as the
interpreter's audit hooks see it. A process of its own forks, because pytest's has threads.
"""

import itertools
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from pgm_rnn import load_model, save_model
from pgm_rnn.models import HMM
from pgm_rnn.storage import StorageError
from pgm_rnn.storage.folder import read
from pgm_rnn.zoo.entries import CARD, CONFIG, FILES, MANIFEST, REFERENCE, TENSORS, list_pretrained, load_pretrained
from pgm_rnn.zoo.publication import put
from tests.storage.earlier import without_digests

STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.scandir", "os.listdir"}


def model(seed: int) -> HMM:
    return HMM.random(2, 3, seed=seed)


def in_child(work: Callable[[], object], prepare: Callable[[], object]) -> int:
    """How a child ends: minus the signal, or its exit status."""
    child = os.fork()
    if child == 0:
        try:
            prepare()
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(number: int, folder: Path) -> None:
    """Have this process killed before step `number` in a folder."""
    steps = itertools.count()

    def step() -> None:
        if next(steps) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in STEPS and any(str(folder) in str(argument) for argument in arguments):
            step()

    os.fsync = lambda fd: step()
    sys.addaudithook(hook)


def kill_beyond(size: int) -> None:
    """Have this process killed while it writes byte `size` of a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def killed_everywhere(
    work: Callable[[], object], before: Callable[[], object], check: Callable[[], object], folder: Path
) -> int:
    """Run some work again and again, killed ever later, with a look at what is left; the number of kills."""
    for number in itertools.count():
        before()
        ended = in_child(work, lambda number=number: kill_at(number, folder))  # type: ignore[misc]
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        check()
    for size in (0, 1, 50, 200):
        before()
        assert in_child(work, lambda size=size: kill_beyond(size)) == -signal.SIGXFSZ  # type: ignore[misc]
        check()
    return number


def which(found: HMM) -> int:
    """The seed of a model."""
    (seed,) = (seed for seed in range(3) if torch.equal(found.transition_logits, model(seed).transition_logits))
    return seed


def saves(place: Path, before: Callable[[Path], object], seen: set[str]) -> int:
    """Kill saves of model 1; note what loads afterwards, and that the next save cleans up."""

    def check() -> None:
        try:
            seen.add(str(which(load_model(place))))  # type: ignore[arg-type]
        except StorageError as error:
            seen.add(str(error).replace(str(place), "PLACE"))
        save_model(model(2), place)
        assert which(load_model(place)) == 2  # type: ignore[arg-type]
        seen.add(" ".join(sorted(path.name for path in place.iterdir())))
        assert [path.name for path in place.parent.iterdir()] == [place.name]

    return killed_everywhere(lambda: save_model(model(1), place), lambda: before(place), check, place.parent)


def nothing(place: Path) -> None:
    for path in place.iterdir() if place.exists() else ():
        path.unlink()
    if place.exists():
        place.rmdir()


def of_today(place: Path) -> None:
    save_model(model(0), place)


def of_yesterday(place: Path) -> None:
    """A model as it was saved before there were digests."""
    save_model(model(0), place)
    without_digests(place)


def publications(home: Path, there: bool, seen: set[str]) -> int:
    """Kill publications of model 1; note what loads, and that the next publication cleans up."""

    def published(seed: int, name: str) -> None:
        save_model(model(seed), home.parent / "fit")
        described, packed = read(home.parent / "fit")
        put(home, name, {CONFIG: described, TENSORS: packed, CARD: b"# card", REFERENCE: b"{}"})

    def before() -> None:
        for path in sorted(home.rglob("*"), reverse=True) if home.exists() else ():
            path.rmdir() if path.is_dir() else path.unlink()
        if there:
            published(0, "entry")

    def check() -> None:
        names = list_pretrained(home=home)
        seen.add(str(which(load_pretrained("entry", home=home))) if names else "nothing")  # type: ignore[arg-type]
        published(2, "other")  # what was begun of another entry is ended or undone
        for name in list_pretrained(home=home):
            which(load_pretrained(name, home=home))  # type: ignore[arg-type]
            assert {path.name for path in (home / name).iterdir()} == set(FILES)
        assert {path.name for path in home.iterdir()} == {*list_pretrained(home=home), MANIFEST}

    return killed_everywhere(lambda: published(1, "entry"), before, check, home)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    os.fsync = lambda fd: None  # processes are killed, not the machine
    found = {}
    for name, before in {"new": nothing, "today": of_today, "yesterday": of_yesterday}.items():
        seen: set[str] = set()
        (folder / name).mkdir()
        found[name] = {"kills": saves(folder / name / "model", before, seen), "seen": sorted(seen)}
    for name, there in {"published new": False, "published again": True}.items():
        seen = set()
        (folder / name).mkdir()
        found[name] = {"kills": publications(folder / name / "zoo", there, seen), "seen": sorted(seen)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
