"""Tells Pyro's `reshape_batch`, which its forecasts call, how the laws of this package do it.

Pyro's `prefix_condition` calls the law's method of that name and needs no word.
"""

from collections.abc import Sequence
from typing import Any

from pyro.contrib.forecast.util import reshape_batch

from pgm_rnn.distributions.chain_law import ChainLaw


@reshape_batch.register(ChainLaw)
def _(law: Any, batch_shape: Sequence[int]) -> Any:
    return law.reshape_batch(batch_shape)
