"""The law of several independent finite states, as one law of the number that stands for all of them."""

from collections.abc import Iterable
from typing import Any

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.states import ProductStates


class ProductOfCategoricals(TorchDistribution):
    """z = (z^1, ..., z^M), independent, z^m ~ laws[m]; a value is a number in 0..K_1 ... K_M - 1.

    `states`, a `pgm_rnn.states.ProductStates`, converts between the number and the states of the chains.

    Args:
        laws: `Categorical` laws, one for each chain, whose batch shapes broadcast.

    Raises:
        ValueError: no law.
        TypeError: a law that is not `Categorical`.

    Example:
        >>> import pyro.distributions as dist
        >>> law = ProductOfCategoricals([dist.Categorical(torch.ones(2)), dist.Categorical(torch.ones(3))])
        >>> law.states, law.sample((5,)).shape, round(float(law.log_prob(torch.tensor(4)).exp()), 3)
        (ProductStates(2, 3), torch.Size([5]), 0.167)
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    has_enumerate_support = True

    def __init__(self, laws: Iterable[TorchDistribution]) -> None:
        self.laws: tuple[Any, ...] = tuple(laws)
        if not self.laws:
            raise ValueError("expected at least one law, got none")
        for law in self.laws:
            if not isinstance(law, torch.distributions.Categorical):
                raise TypeError(f"expected a Categorical law for each chain, got {type(law).__name__}")
        self.states = ProductStates(*(law._num_events for law in self.laws))
        batch = torch.broadcast_shapes(*(law.batch_shape for law in self.laws))
        super().__init__(batch, torch.Size(), validate_args=False)

    @property
    def support(self) -> Any:
        """The numbers 0..K_1 ... K_M - 1."""
        return constraints.integer_interval(0, self.states.num_states - 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ProductOfCategoricals":
        """The same law for a larger batch."""
        return ProductOfCategoricals([law.expand(torch.Size(batch_shape)) for law in self.laws])

    def log_prob(self, value: Tensor) -> Tensor:
        """sum_m log p(z^m), nats."""
        terms = [law.log_prob(own) for law, own in zip(self.laws, self.states.split(value), strict=True)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (*sample_shape, *batch), int64."""
        with torch.no_grad():
            drawn = [law.expand(self.batch_shape).sample(torch.Size(sample_shape)) for law in self.laws]
            return self.states.joined(drawn)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values, (N, *batch), or (N, 1, ..., 1) with expand=False."""
        values = torch.arange(self.states.num_states, device=self.laws[0]._param.device)
        values = values.view(-1, *[1] * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values
