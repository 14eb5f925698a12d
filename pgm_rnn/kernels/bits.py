"""Log densities of independent bits under the laws of all K states, by matrix products.

    log p(x | k) = sum_d x_d l_kd - log(1 + e^l_kd),   d over the observed entries, l_kd the logit of p(x_d = 1 | k)

Where large logits meet ones, that difference would cancel; then two products give the sum of log sigmoid(l) over the
ones and of log sigmoid(-l) over the zeros.
"""

from torch import Tensor

from pgm_rnn.kernels.positive import softplus
from pgm_rnn.kernels.transforms import is_transformed

_MOST_NATS = 200.0
"""Up to this value of -log p(x = 0), log p(x) as a difference of two sums is exact to about 1e-5 nats in float32."""


def log_density(x: Tensor, logits: Tensor, observed: Tensor | None = None) -> Tensor:
    """log p(x | k), nats, (..., K), differentiable in x and the logits.

    Args:
        x: bits, (..., D), 0 or 1 where one is missing.
        logits: l, (K, D), of the dtype of x.
        observed: True where a bit was observed, (..., D); None for everywhere.
    """
    of_zeros = softplus(logits)  # -log p(x_d = 0 | k)
    if observed is not None:
        there = observed.to(logits.dtype)
        ones = x * there
        return -(ones @ softplus(-logits).T) - (there - ones) @ of_zeros.T
    in_general = is_transformed((x, of_zeros))  # inside torch.func, where no value can be read
    if not in_general and float(of_zeros.detach().sum(-1).max()) < _MOST_NATS:
        return x @ logits.T - of_zeros.sum(-1)
    return -(x @ softplus(-logits).T) - (1 - x) @ of_zeros.T
