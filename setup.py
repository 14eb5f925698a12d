"""Lists the packages from the disk, which pyproject.toml alone cannot do for folders that are mapped elsewhere."""

from setuptools import find_packages, setup

mapped = [
    f"pgm_rnn.{top}{rest}" for top in ("models", "inference") for rest in ("", *(f".{p}" for p in find_packages(top)))
]
own = [
    p
    for p in find_packages(include=["pgm_rnn", "pgm_rnn.*"])
    if not p.startswith(("pgm_rnn.models", "pgm_rnn.inference"))
]
setup(packages=own + mapped)
