"""Assignments that grade themselves: sources, versions to hand out, and a grader that trusts no submission.

    source (py:percent)  ->  student version, nbgrader, Otter, pytest        `pgm-rnn course`
    submission  ->  process of its own  ->  values  ->  tests in the grader  ->  grades.csv        `pgm-rnn grade`

A submission runs in a process without rights (`pgm_rnn.teaching.sandbox`). Hidden tests stay with the grader, which
receives numbers, arrays and texts and nothing else (`pgm_rnn.teaching.protocol`). Importing this package imports numpy
alone, for it is imported in each of these processes.
"""

from pgm_rnn.teaching.checks import check_close
from pgm_rnn.teaching.instances import student_rng

__all__ = ["check_close", "student_rng"]
