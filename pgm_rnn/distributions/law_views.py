"""Laws of a batch's observations, batch shape (*batch, T, K) for chains, steps and states, seen in another batch shape.

Laws of well-known families are made again with other parameters. Laws of any other family are seen through a `View`,
which brings values to where the law expects them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pgm_rnn.distributions.law_parameters import changed, is_known


def some_steps(law: TorchDistribution, start: int, stop: int) -> TorchDistribution:
    """The law of the steps `start`..`stop - 1`, counted from 0, of a law of T steps."""
    if not is_known(law):
        return SomeSteps(law, start, stop)
    return changed(law, lambda parameter, own: parameter.narrow(-2 - own, start, stop - start))


def other_chains(law: TorchDistribution, chains: Sequence[int]) -> TorchDistribution:
    """The law in a batch shape (*chains, T, K) of as many chains."""
    if not is_known(law):
        return OtherChains(law, chains)
    return changed(law, lambda parameter, own: parameter.reshape(*chains, *parameter.shape[-2 - own :]))


class View(TorchDistribution):
    """Another law seen in another batch shape; subclasses say how values go there and log densities come back.

    Args:
        law: the law, batch shape (*batch, T, K).
        batch_shape: the batch shape in which it is seen.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)

    def __init__(self, law: TorchDistribution, batch_shape: Sequence[int]) -> None:
        self.law = law
        super().__init__(torch.Size(batch_shape), law.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The law's support."""
        return self.law.support


class SomeSteps(View):
    """The law of the steps `start`..`stop - 1`, counted from 0.

    Args:
        law: the law of all steps, batch shape (*batch, T, K).
        start: the first of these steps.
        stop: the step after the last.

    Example:
        >>> import pyro.distributions as dist
        >>> law = SomeSteps(dist.Normal(torch.arange(3.0)[:, None], 1.0), 2, 3)
        >>> law.batch_shape, law.log_prob(torch.tensor([[2.0]])).exp()
        (torch.Size([1, 1]), tensor([[0.3989]]))
    """

    def __init__(self, law: TorchDistribution, start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        super().__init__(law, (*law.batch_shape[:-2], stop - start, law.batch_shape[-1]))
        with torch.random.fork_rng(devices=[]):
            self.other = law.sample()
        """Values that stand for those of other steps, whatever the law's support is."""

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "SomeSteps":
        """The same law for more chains."""
        shape = (*batch_shape[:-2], self.law.batch_shape[-2], batch_shape[-1])
        return SomeSteps(self.law.expand(shape), self.start, self.stop)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats, (*sample, *batch)."""
        axis, own = -2 - len(self.event_shape), self.other.shape[-1 - len(self.event_shape) :]
        front = broadcast_shape(self.other.shape[:axis], value.shape[:axis])
        value, other = (part.expand(*front, part.shape[axis], *own) for part in (value, self.other.to(value.dtype)))
        before, after = other.narrow(axis, 0, self.start), other.narrow(axis, self.stop, other.shape[axis] - self.stop)
        return self.law.log_prob(torch.cat([before, value, after], axis))[..., self.start : self.stop, :]

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradient."""
        drawn, axis = self.law.sample(torch.Size(sample_shape)), -2 - len(self.event_shape)
        return drawn.narrow(axis, self.start, self.stop - self.start)


class OtherChains(View):
    """The law of the same chains in another batch shape.

    Args:
        law: the law, batch shape (*batch, T, K).
        chains: the batch shape of as many chains to see it in.

    Example:
        >>> import pyro.distributions as dist
        >>> law = OtherChains(dist.Normal(torch.arange(6.0).reshape(6, 1, 1), 1.0), (2, 3))
        >>> law.batch_shape, law.log_prob(torch.zeros(2, 3, 4, 1)).shape
        (torch.Size([2, 3, 1, 1]), torch.Size([2, 3, 4, 1]))
    """

    def __init__(self, law: TorchDistribution, chains: Sequence[int]) -> None:
        self.chains = torch.Size(chains)
        super().__init__(law, (*self.chains, *law.batch_shape[-2:]))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "OtherChains":
        """The same law for more steps.

        Raises:
            ValueError: a batch shape of other chains.
        """
        if tuple(batch_shape[:-2]) != tuple(self.chains):
            raise ValueError(f"expected a batch shape of the chains {tuple(self.chains)}, got {tuple(batch_shape)}")
        return OtherChains(self.law.expand((*self.law.batch_shape[:-2], *batch_shape[-2:])), self.chains)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats, (*sample, *batch)."""
        axes = 2 + len(self.event_shape)
        own, old = value.shape[value.dim() - axes :], self.law.batch_shape[:-2]
        front = broadcast_shape(value.shape[: value.dim() - axes], self.chains)
        sample = front[: len(front) - len(self.chains)]
        log_prob = self.law.log_prob(value.expand(*front, *own).reshape(*sample, *old, *own))
        return log_prob.reshape(*front, *log_prob.shape[-2:])

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradient."""
        drawn, old = self.law.sample(torch.Size(sample_shape)), len(self.law.batch_shape) - 2
        front = len(sample_shape)
        return drawn.reshape(*drawn.shape[:front], *self.chains, *drawn.shape[front + old :])


def draws(law: TorchDistribution, batch_shape: Sequence[int]) -> Tensor:
    """Independent draws in a batch shape to which the law's broadcasts, (*batch_shape, *event), without gradient.

    It draws more often where the law has an axis of one entry or none, so the law itself is not expanded.
    """
    own = (1,) * (len(batch_shape) - len(law.batch_shape)) + tuple(law.batch_shape)
    new = [axis for axis, size in enumerate(batch_shape) if size != own[axis]]
    sizes = [batch_shape[axis] for axis in new]
    drawn = law.sample(sizes).reshape(*sizes, *own, *law.event_shape)
    for front, axis in enumerate(new):
        drawn = drawn.transpose(front, len(new) + axis)
    return drawn.reshape(*batch_shape, *law.event_shape)
