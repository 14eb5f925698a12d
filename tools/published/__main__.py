"""`python -m tools.published` writes the page.

`python -m tools.published measure [NAME ...]` measures what can be measured here first, all comparisons or those named.
"""

import sys

from pgm_rnn.checks import check_choice
from pgm_rnn.files import write_whole
from pgm_rnn.registries import OWN
from tools.published.measured import measure
from tools.published.page import PAGE, all_rows, page
from tools.published.problems import PROBLEMS

if __name__ == "__main__":
    if sys.argv[1:]:
        command, *names = sys.argv[1:]
        check_choice("the command", command, ["measure"])
        for name in names:
            check_choice("comparison", name, PROBLEMS)
        for line in measure(PROBLEMS[name] for name in names or PROBLEMS):
            print(line)
    write_whole(PAGE, page(all_rows(PROBLEMS), OWN.models).encode())
