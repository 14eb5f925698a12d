"""Instances that differ from student to student: a random generator from an assignment and a name."""

import hashlib
import unicodedata

import numpy as np


def normalized(name: str) -> str:
    """The letters and digits of a name, in lower case: "Ada Lovelace" and "ada_lovelace" are one student.

    >>> normalized("Ada Lovelace") == normalized("ada_lovelace")
    True
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(letter for letter in folded if letter.isalnum())


def student_rng(assignment: str, name: object) -> np.random.Generator:
    """A generator whose seed is the SHA-256 digest of the assignment and the normalised name.

    Args:
        assignment: name of the assignment.
        name: name of the student, a text, as in the lecturer's list. Case, blanks and punctuation do not matter.

    Raises:
        ValueError: the name is no text, or has no letter and no digit.

    >>> bool(student_rng("kalman", "Ada").normal() == student_rng("kalman", "ada").normal())
    True
    """
    if not isinstance(name, str) or not normalized(name):
        raise ValueError(f"expected your name in NAME, such as NAME = 'Ada Lovelace', got {name!r}")
    digest = hashlib.sha256(f"{assignment}\n{normalized(name)}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
