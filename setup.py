"""Lists the packages from the disk, and keeps links in an sdist; pyproject.toml alone can do neither."""

import os
from typing import Any

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

LINKS = ("pgm_rnn/models", "pgm_rnn/inference")
"""Links to the folders at the top level, by which a source tree is imported without being installed."""

DATA = ["pgm_rnn.teaching.assignments"]
"""Folders of data that stand elsewhere in the tree (pyproject.toml says where) and hold no modules."""

DEVELOPMENT = {"pgm_rnn.zoo": ("make", "recipes")}
"""Modules of a package that are run from a checkout and left out of the wheel; MANIFEST.in puts them into the sdist."""

mapped = [
    f"pgm_rnn.{top}{rest}" for top in ("models", "inference") for rest in ("", *(f".{p}" for p in find_packages(top)))
]
own = [
    p
    for p in find_packages(include=["pgm_rnn", "pgm_rnn.*"])
    if not p.startswith(("pgm_rnn.models", "pgm_rnn.inference"))
]


class BuildPy(build_py):
    """The package without its tools of development."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """(package, module, file) of what is installed of a package."""
        found = super().find_package_modules(package, package_dir)
        return [module for module in found if module[1] not in DEVELOPMENT.get(package, ())]


class Sdist(sdist):
    """An sdist with the links in it instead of second copies of the files behind them."""

    def make_release_tree(self, base_dir: str, files: Any) -> None:
        """The tree that becomes the archive."""
        links = [link for link in LINKS if os.path.islink(link)]
        behind = tuple(link + "/" for link in links)
        super().make_release_tree(base_dir, [f for f in files if not f.replace(os.sep, "/").startswith(behind)])
        for link in links:
            os.symlink(os.readlink(link), os.path.join(base_dir, link))


setup(packages=own + mapped + DATA, cmdclass={"build_py": BuildPy, "sdist": Sdist})
