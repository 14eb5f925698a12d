"""The grader's side of an assignment for one student: the student's instance and what the hidden tests need.

The code that is run here is the assignment's own, never a submission's.
"""

import functools
from typing import Any

import numpy as np

from pgm_rnn.teaching import checks
from pgm_rnn.teaching.instances import student_rng
from pgm_rnn.teaching.source import Assignment, role_of

MAKER = "make_instance"
"""Name of the function of an assignment that draws an instance."""


def namespace_of(assignment: Assignment, name: str) -> dict[str, Any]:
    """Names for the hidden tests of one student: `instance`, `np`, `check_close`, `numbers` and the hidden cells'.

    Raises:
        ValueError: the assignment defines no `make_instance`.
    """
    shared = _shared(assignment)
    if MAKER not in shared:
        raise ValueError(f"expected a function {MAKER}(rng) in the assignment {assignment.name}, got none")
    return shared | {"instance": shared[MAKER](student_rng(assignment.name, name))}


@functools.lru_cache(maxsize=8)
def _shared(assignment: Assignment) -> dict[str, Any]:
    """What does not depend on the student: the maker of instances and the hidden cells."""
    names: dict[str, Any] = {"__name__": "hidden", "np": np}
    names |= {"check_close": checks.check_close, "numbers": checks.numbers}
    for cell in assignment.cells:
        makes = role_of(cell) == "given" and f"def {MAKER}(" in cell.content
        if not cell.is_text and (makes or role_of(cell) == "hidden"):
            exec(compile(cell.content, f"{assignment.name}, line {cell.line}", "exec"), names)
    return names
