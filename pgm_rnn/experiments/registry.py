"""The registry of experiments, which the command line, the page and the tests use.

A new experiment is a module with an `Experiment` and an entry here; `pgm-rnn reproduce NAME`, a quick run in the tests,
its picture, its CSV and its section of the page follow.
"""

from pgm_rnn.experiments.disagreement import Disagreement
from pgm_rnn.experiments.experiment import Experiment
from pgm_rnn.experiments.figure_5 import Figure5
from pgm_rnn.experiments.figure_6 import Figure6
from pgm_rnn.experiments.figure_7 import Figure7
from pgm_rnn.experiments.infinite_data import InfiniteData
from pgm_rnn.experiments.learned_particles import LearnedParticles
from pgm_rnn.experiments.next_symbol import NextSymbol

EXPERIMENTS: dict[str, Experiment] = {
    experiment.id: experiment
    for experiment in (
        Figure5(),
        Figure6(),
        Figure7(),
        InfiniteData(),
        NextSymbol(),
        LearnedParticles(),
        Disagreement(),
    )
}
"""Every experiment by its id: the paper's figures, then its open questions."""
