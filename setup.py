"""Lists the packages from the disk, and keeps links in an sdist; pyproject.toml alone can do neither."""

import os
from typing import Any

from setuptools import find_packages, setup
from setuptools.command.sdist import sdist

LINKS = ("pgm_rnn/models", "pgm_rnn/inference")
"""Links to the folders at the top level, by which a source tree is imported without being installed."""

mapped = [
    f"pgm_rnn.{top}{rest}" for top in ("models", "inference") for rest in ("", *(f".{p}" for p in find_packages(top)))
]
own = [
    p
    for p in find_packages(include=["pgm_rnn", "pgm_rnn.*"])
    if not p.startswith(("pgm_rnn.models", "pgm_rnn.inference"))
]


class Sdist(sdist):
    """An sdist with the links in it instead of second copies of the files behind them."""

    def make_release_tree(self, base_dir: str, files: Any) -> None:
        """The tree that becomes the archive."""
        links = [link for link in LINKS if os.path.islink(link)]
        behind = tuple(link + "/" for link in links)
        super().make_release_tree(base_dir, [f for f in files if not f.replace(os.sep, "/").startswith(behind)])
        for link in links:
            os.symlink(os.readlink(link), os.path.join(base_dir, link))


setup(packages=own + mapped, cmdclass={"sdist": Sdist})
