"""The recursions of a Markov chain that numba compiles, run on tensors' memory with as many threads as torch has."""

from functools import cache

import torch
from torch import Tensor

from pgm_rnn.kernels.hmm_losses import LossTest, largest_future
from pgm_rnn.kernels.hmm_tables import two_axes
from pgm_rnn.kernels.threads import num_threads, run_compiled


class Compiled:
    """The functions of `hmm_compiled` on tensors' memory."""

    def __init__(self) -> None:
        from pgm_rnn.kernels import hmm_compiled

        self.module = hmm_compiled

    def subtract_largest(self, log_emission: Tensor) -> tuple[Tensor, Tensor]:
        """Rows minus their largest entries, and these entries."""
        shifted, shift = torch.empty_like(log_emission), log_emission.new_empty(log_emission.shape[:-1])
        run_compiled(self.module.subtract_largest, log_emission.flatten(0, 1), shifted.flatten(0, 1), shift.flatten())
        return shifted, shift

    def forward(
        self,
        initial: Tensor,
        transition: Tensor,
        log_emission: Tensor,
        emission: Tensor,
        shift: Tensor,
        lengths: Tensor,
        filtered: Tensor,
        scale: Tensor,
        test: LossTest,
    ) -> Tensor:
        """Runs `hmm_compiled.forward` and returns `lost`."""
        tiny = torch.finfo(log_emission.dtype).tiny ** 0.75
        group = self._group(len(log_emission), transition)
        transposed = transition[:1, :1].mT.contiguous()
        lost = torch.zeros(len(log_emission), dtype=torch.int8)
        tables = (two_axes(initial), transition, transposed)
        steps = (log_emission, emission, shift, lengths, filtered, scale)
        run_compiled(self.module.forward, *tables, *steps, tiny, group, *test, lost)
        return lost

    def backward(
        self,
        transition: Tensor,
        emission: Tensor,
        scale: Tensor,
        lengths: Tensor,
        filtered: Tensor,
        future: Tensor,
        smoothed: Tensor,
        weights: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> None:
        """Runs `hmm_compiled.backward`."""
        batch, num_states = len(emission), emission.shape[2]
        weights = emission.new_ones(batch) if weights is None else weights.to(emission.dtype)
        counts = emission.new_empty(0, num_states, num_states) if counts is None else counts
        transposed = transition[:1, :1].mT.contiguous()
        arguments = (transition, transposed, emission, scale, lengths, filtered, weights, future, smoothed, counts)
        run_compiled(self.module.backward, *arguments, self._group(batch, transition), largest_future(emission.dtype))

    def expected_counts(
        self, transition: Tensor, steps: tuple[Tensor, Tensor, Tensor, Tensor], weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients in p(z_1), in the shared transition table and in log p(x_t | z_t); `steps` as in `backward`."""
        emission = steps[0]
        batch, _, num_states = emission.shape
        first, counts = emission.new_empty(batch, 1, num_states), emission.new_zeros(batch, num_states, num_states)
        smoothed = torch.empty_like(emission)
        self.backward(transition, *steps, first, smoothed, weights, counts)
        return first[:, 0], counts.sum(0), smoothed

    def _group(self, batch: int, transition: Tensor) -> int:
        """How many sequences a thread takes together: two, if they share a matrix and every thread has work."""
        shared = transition.shape[:2].numel() == 1 and transition.shape[-1] >= self.module.SMALL
        return 2 if shared and batch >= 2 * num_threads() else 1

    def most_likely_states(self, *arguments: Tensor) -> None:
        """Runs `hmm_compiled.most_likely_states`."""
        run_compiled(self.module.most_likely_states, *arguments)


@cache
def compiled() -> Compiled:
    """The single instance; the first call imports numba."""
    return Compiled()
