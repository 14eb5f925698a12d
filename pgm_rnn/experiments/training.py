"""Stacked networks trained side by side, each on its own sequences with its own learning rate: supervised labels.

    loss = -mean_{i,t} log p(y_t^i | x_{1:t}^i)        nats per step

Adam (Kingma & Ba, 2015) on mini-batches drawn without replacement, epoch after epoch; the rate rises over the first
twentieth of the updates and falls to zero along a cosine. A fifth of a network's sequences, a thousand at most, is held
out, and the parameters with the best held-out loss at twenty checks are kept. The paper does not say how it trains.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.experiments.taggers import Weights, label_log_probs

NUM_MOMENTS = 20
"""Number of times that the held-out loss is computed."""

MOST_HELD_OUT = 1000
"""Largest number of held-out sequences; a fifth of all sequences if that is fewer."""


def num_held_out(num_sequences: int) -> int:
    """Number of n sequences that are held out."""
    return min(num_sequences // 5, MOST_HELD_OUT)


Targets = Callable[[Tensor], Tensor]
"""Laws of the labels (N, T, m) in place of labels, of the sequences with given numbers (N,)."""


@dataclass(frozen=True)
class Task:
    """The data and the learning rate of one network.

    Attributes:
        x: symbols, (N, T); networks may share the tensor.
        y: labels, (N, T).
        num_sequences: n; the network uses the first n sequences.
        learning_rate: largest learning rate.
        seed: random seed for the order of the sequences.
    """

    x: Tensor
    y: Tensor
    num_sequences: int
    learning_rate: float
    seed: int

    @property
    def num_held_out(self) -> int:
        """Number of held-out sequences."""
        return num_held_out(self.num_sequences)

    @property
    def num_trained(self) -> int:
        """Number of training sequences, the first ones."""
        return self.num_sequences - self.num_held_out

    def order(self, num_updates: int, batch_size: int) -> Tensor:
        """Numbers of the sequences of each update, (num_updates, batch_size): permutations one after the other."""
        generator = torch.Generator().manual_seed(self.seed)
        epochs = math.ceil(num_updates * batch_size / self.num_trained)
        numbers = torch.cat([torch.randperm(self.num_trained, generator=generator) for _ in range(epochs)])
        return numbers[: num_updates * batch_size].view(num_updates, batch_size)

    def held_out(self) -> slice:
        """The held-out sequences; with fewer than five sequences, the training sequences."""
        return slice(self.num_trained, self.num_sequences) if self.num_held_out else slice(0, self.num_sequences)


class Trained(NamedTuple):
    """Result of `train`.

    Attributes:
        weights: weights of every network at its best held-out loss.
        held_out_loss: this loss, (S,), nats per step.
        train_loss: mean loss over the mini-batches of the last twentieth of the updates, (S,), nats per step.
    """

    weights: Weights
    held_out_loss: Tensor
    train_loss: Tensor


def train(
    weights: Weights,
    tasks: list[Task],
    num_updates: int,
    batch_size: int,
    *,
    trains_start: bool = False,
    targets: Targets | None = None,
) -> Trained:
    """Train every network on its task.

    Args:
        weights: initial weights of S networks; they are not changed.
        tasks: S tasks.
        num_updates: number of gradient steps.
        batch_size: sequences per network and step.
        trains_start: whether h_0 is trained too; otherwise it is fixed.
        targets: distributions used instead of the labels, for training and for the held-out loss.
    """
    weights = {name: value.clone() for name, value in weights.items()}
    trained = [name for name in weights if trains_start or name != "h_0"]
    adam = _Adam([weights[name] for name in trained])
    rates = torch.tensor([task.learning_rate for task in tasks])
    orders = [task.order(num_updates, batch_size) for task in tasks]
    best = Trained(weights, torch.full((len(tasks),), torch.inf), torch.zeros(len(tasks)))
    moments = {round(num_updates * (i + 1) / NUM_MOMENTS) for i in range(NUM_MOMENTS)}
    last = max(1, num_updates // NUM_MOMENTS)
    for number in range(num_updates):
        numbers = [order[number] for order in orders]
        losses, gradients = _gradients(weights, trained, tasks, numbers, targets)
        adam.update(gradients, rates * schedule(number, num_updates))
        if number >= num_updates - last:
            best.train_loss.add_(losses / last)
        if number + 1 in moments:
            best = _better(best, weights, tasks, targets)
    return best


def schedule(number: int, num_updates: int) -> float:
    """Fraction of the largest learning rate at update `number` = 0, 1, ...: a short rise, then a cosine to zero."""
    warm = max(1, num_updates // 20)
    rise = min(1.0, (number + 1) / warm)
    return rise * (1 + math.cos(math.pi * number / num_updates)) / 2


def _gradients(
    weights: Weights, trained: list[str], tasks: list[Task], numbers: list[Tensor], targets: Targets | None
) -> tuple[Tensor, list[Tensor]]:
    """Loss of each network, (S,), and the gradients of the trained parameters."""
    leaves = {name: value.detach().requires_grad_(name in trained) for name, value in weights.items()}
    x = torch.stack([task.x[i] for task, i in zip(tasks, numbers, strict=True)])
    losses = _losses(label_log_probs(leaves, x), tasks, numbers, targets)
    return losses.detach(), list(torch.autograd.grad(losses.sum(), [leaves[name] for name in trained]))


def _losses(log_probs: Tensor, tasks: list[Task], numbers: list[Tensor], targets: Targets | None) -> Tensor:
    """Cross entropy per step of log probabilities (S, T, B, m): (S,)."""
    if targets is not None:
        laws = torch.stack([targets(i) for i in numbers]).transpose(1, 2)  # (S, T, B, m)
        return -(laws.to(log_probs.dtype) * log_probs).sum(-1).mean((1, 2))
    y = torch.stack([task.y[i] for task, i in zip(tasks, numbers, strict=True)])
    return -log_probs.gather(-1, y.mT[..., None]).mean((1, 2, 3))


@torch.no_grad()
def _better(best: Trained, weights: Weights, tasks: list[Task], targets: Targets | None) -> Trained:
    """For each network, keep the weights that do better on its held-out sequences."""
    found = torch.stack([_held_out_loss(weights, i, task, targets) for i, task in enumerate(tasks)])
    better = found < best.held_out_loss
    kept = {
        name: value.where(better.view(-1, *[1] * (value.dim() - 1)), best.weights[name])
        for name, value in weights.items()
    }
    return Trained(kept, found.where(better, best.held_out_loss), best.train_loss)


def _held_out_loss(weights: Weights, i: int, task: Task, targets: Targets | None) -> Tensor:
    one = {name: value[i : i + 1] for name, value in weights.items()}
    numbers = torch.arange(task.num_sequences)[task.held_out()]
    return _losses(label_log_probs(one, task.x[numbers][None]), [task], [numbers], targets)[0]


class _Adam:
    """Adam with a learning rate for each network, on stacked parameters that are changed in place."""

    def __init__(self, parameters: list[Tensor], decay: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        self.parameters, self.decay, self.eps, self.number = parameters, decay, eps, 0
        self.means = [torch.zeros_like(value) for value in parameters]
        self.squares = [torch.zeros_like(value) for value in parameters]

    @torch.no_grad()
    def update(self, gradients: list[Tensor], rates: Tensor) -> None:
        """One step; rates are (S,)."""
        self.number += 1
        first, second = (1 - decay**self.number for decay in self.decay)
        torch._foreach_lerp_(self.means, gradients, 1 - self.decay[0])
        torch._foreach_mul_(self.squares, self.decay[1])
        torch._foreach_addcmul_(self.squares, gradients, gradients, value=1 - self.decay[1])
        for value, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            rate = (rates / first).to(value.dtype).view(-1, *[1] * (value.dim() - 1))
            value.sub_(rate * mean / ((square / second).sqrt_().add_(self.eps)))
