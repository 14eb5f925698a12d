"""A plain folder: the student's file, and the hidden tests as functions that pytest runs on a submission."""

import json
from textwrap import indent

from pgm_rnn.teaching.bench import MAKER
from pgm_rnn.teaching.source import Assignment, role_of

CONFTEST = '''"""Options and fixtures of the tests: pytest --submission FILE --student NAME."""

from pgm_rnn.teaching.pytest_plugin import *  # noqa: F403
'''


def pytest_file(assignment: Assignment) -> str:
    """`test_NAME.py`: a function per hidden test, with its points."""
    given = [cell.content for cell in assignment.cells if role_of(cell) == "given" and f"def {MAKER}(" in cell.content]
    hidden = [cell.content for cell in assignment.cells if role_of(cell) == "hidden"]
    lines = [
        f'"""Hidden tests of {assignment.name}. They are not for students.',
        "",
        f"    pytest test_{_identifier(assignment.name)}.py --submission FILE --student NAME",
        '"""',
        "",
        "import numpy as np",
        "import pytest",
        "",
        "from pgm_rnn.teaching import check_close, student_rng",
        "from pgm_rnn.teaching.checks import numbers",
        "",
        *given,
        "",
        *hidden,
        "",
        "",
        "@pytest.fixture",
        "def instance(student):",
        f'    return {MAKER}(student_rng("{assignment.name}", student))',
    ]
    for number, test in enumerate(assignment.tests, start=1):
        lines += ["", "", f'@pytest.mark.points("{test.part}", {test.points:g})']
        lines += [f"def test_{number:02d}_{_identifier(test.part)}(call, value, instance):"]
        lines += [f"    {json.dumps(test.says, ensure_ascii=False)}", indent(test.code, "    ")]
    return "\n".join(lines) + "\n"


def _identifier(name: str) -> str:
    return name.replace("-", "_")
