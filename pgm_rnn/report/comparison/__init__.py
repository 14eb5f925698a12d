"""Comparison of models on the same data: scores, paired differences, criteria, and held-out scores.

`comparing` is the public function, `entries` what it takes and `result` what it gives. `scores` scores one model,
`ranking` puts scores side by side, `cross_validation` and `leaving_out` make held-out ones.
"""

from pgm_rnn.report.comparison.comparing import compare
from pgm_rnn.report.comparison.result import Comparison

__all__ = ["Comparison", "compare"]
