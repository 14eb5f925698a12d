"""Two commits timed side by side in one run: `make bench-compare BASE=REV`, or `python -m benchmarks.compare REV`.

Both trees answer for the same steps (`public_steps`), in processes of their own, by turns; a step is called once before
it is timed. The table has the median milliseconds of both, and the median over rounds of the ratio, today's by the
other's: below one is faster.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
STEPS = Path(__file__).with_name("public_steps.py")
SLOWER = 1.1
"""Ratio above which a step is marked."""


class Row(NamedTuple):
    """Median milliseconds of a step before and now, and the median of the rounds' ratios."""

    name: str
    before: float
    now: float
    ratio: float


class Worker:
    """A process that runs the steps of one tree."""

    def __init__(self, tree: Path) -> None:
        # -P keeps the folder of the script, this tree's, out of the path
        environment = os.environ | {"PYTHONPATH": str(tree), "OMP_WAIT_POLICY": "PASSIVE"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(STEPS)], stdin=pipe, stdout=pipe, text=True, env=environment, cwd=tree
        )
        self.names: list[str] = []

    def ready(self) -> None:
        """Wait until it has compiled what it needs and called each step once."""
        self.names = self._line().split("\t")

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"The steps of {self.process.args!r} ended early; their error is above.")
        return line.rstrip("\n")

    def seconds(self, name: str) -> float:
        """Wall-clock time of a step, after one that is not timed."""
        assert self.process.stdin is not None
        for _ in range(2):
            print(name, file=self.process.stdin, flush=True)
            answer = float(self._line())
        return answer

    def end(self) -> None:
        """Close the process."""
        self.process.communicate()


def compared(before: Worker, now: Worker, rounds: int) -> list[Row]:
    """A row for each step that both have."""
    rows = []
    for name in now.names:
        if name not in before.names:
            continue
        pairs = []
        for number in range(rounds):  # each round begins with another of the two
            first, second = (before, now) if number % 2 else (now, before)
            times = {first: first.seconds(name), second: second.seconds(name)}
            pairs.append((times[before], times[now]))
        old, new = (1e3 * median(values) for values in zip(*pairs, strict=True))
        rows.append(Row(name, old, new, median(now_took / took for took, now_took in pairs)))
        print(line(rows[-1]), flush=True)
    return rows


def line(row: Row) -> str:
    """A row of the table."""
    mark = "  slower" if row.ratio > SLOWER else ""
    return f"  {row.name:48}{row.before:10.2f}{row.now:10.2f}{row.ratio:8.2f}{mark}"


def main(revision: str, rounds: int = 15) -> None:
    """Print the table for a revision and this tree."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        done = subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", str(tree), revision],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"expected BASE as a revision of this repository, got {revision!r}: {done.stderr.strip()}")
        try:
            workers = Worker(tree), Worker(ROOT)
            print("compiling the kernels of both trees", file=sys.stderr)
            for worker in workers:
                worker.ready()
            print(f"  {'milliseconds':48}{revision[:9]:>10}{'now':>10}{'ratio':>8}")
            compared(*workers, rounds)
            for worker in workers:
                worker.end()
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=False)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1]:
        raise SystemExit("expected the revision to compare with, such as `make bench-compare BASE=HEAD~1`, got none")
    main(sys.argv[1])
