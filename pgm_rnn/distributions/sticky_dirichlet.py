"""A Dirichlet prior of transition probabilities that favours staying in a state.

    row i ~ Dirichlet(concentration, ..., concentration + stickiness at entry i, ..., concentration)

Fox et al. (2011), eq. (9), for finitely many states: their alpha beta is `concentration`, their kappa `stickiness`.
"""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pgm_rnn.checks import check_counts


class StickyDirichlet(dist.Dirichlet):
    """The law of the K rows of transition probabilities, with extra weight on the diagonal: batch (K,), event (K,).

    The expected probability of staying is (concentration + stickiness) / (K concentration + stickiness).

    Args:
        num_states: K.
        concentration: positive, a number or (K,) or (K, K).
        stickiness: added to the diagonal, at least 0, a number or (K,).

    Raises:
        ValueError: no state, or numbers outside these ranges.

    Example:
        >>> StickyDirichlet(2, concentration=1.0, stickiness=8.0).mean
        tensor([[0.9000, 0.1000],
                [0.1000, 0.9000]])
    """

    def __init__(self, num_states: int, concentration: float | Tensor = 1.0, stickiness: float | Tensor = 10.0) -> None:
        check_counts(num_states=num_states)
        base, extra = torch.as_tensor(concentration), torch.as_tensor(stickiness)
        if not bool((base > 0).all()) or not bool((extra >= 0).all()):
            raise ValueError(
                "expected concentration above 0 and stickiness of at least 0, got "
                f"{float(base.min()):g} and {float(extra.min()):g} as the smallest"
            )
        dtype = torch.promote_types(base.dtype, torch.get_default_dtype())
        rows = base.to(dtype).expand(num_states, num_states) + extra.to(dtype).expand(num_states).diag_embed()
        super().__init__(rows)

    def expand(self, batch_shape: Any, _instance: Any = None) -> dist.Dirichlet:
        """The same law for a larger batch."""
        return dist.Dirichlet(self.concentration).expand(torch.Size(batch_shape))
