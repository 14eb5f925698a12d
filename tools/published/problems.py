"""All comparisons at given parameters and of fits to a series."""

from collections.abc import Mapping

from tools.published.chains import CHAINS
from tools.published.networks import NETWORKS
from tools.published.problem import Problem
from tools.published.series import SERIES

PROBLEMS: Mapping[str, Problem] = {problem.name: problem for problem in (*NETWORKS, *CHAINS, *SERIES)}
"""Every comparison by its name."""
