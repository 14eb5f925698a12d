"""Versions of an assignment: for students, for nbgrader, for Otter, for pytest, and the solution with its rubric."""

from pgm_rnn.teaching.versions.course import write_course

__all__ = ["write_course"]
