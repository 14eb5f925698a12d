"""The processes of a data-parallel fit, which torchrun starts: each one's share of a minibatch, and communication.

    gradient = sum_r d loss_r / d parameters,   loss_r of the sequences r, r + R, r + 2R, ... of a minibatch

Process r of R has the whole data and takes its part of every minibatch; DistributedDataParallel adds the gradients, so
that all take the same step. A fit without an initialised process group is the only process, R = 1.
"""

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class ProcessLostError(RuntimeError):
    """Another process of the run has ended or does not answer."""


TIMEOUT = timedelta(minutes=10)
"""How long a process waits for another one."""


@contextmanager
def launched(device: str | None) -> Iterator[bool]:
    """A process group for the block if torchrun has started this process; whether this process is the first.

    Gloo on CPUs, NCCL on GPUs, of which each process of a machine takes its own.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()) or dist.is_initialized():
        yield Processes(torch.device("cpu")).rank == 0
        return
    on_gpu = device is not None and device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        yield dist.get_rank() == 0
    finally:
        leave()


def leave() -> None:
    """Free what is left of the fits, then destroy the process group.

    A gloo thread that still holds a tensor while the interpreter shuts down can abort the process (seen once; pytorch's
    pull request 179291 explains it). A fit's optimiser and parallel module lie in reference cycles, hence the explicit
    garbage collection.
    """
    gc.collect()
    dist.destroy_process_group()
    gc.collect()


class Processes:
    """This process among those of torch's default process group, or alone without one.

    Args:
        device: device of the model and of the tensors that the processes exchange.

    Attributes:
        rank: 0, ..., size - 1; process 0 writes files and prints.
        size: number of processes.
    """

    def __init__(self, device: torch.device) -> None:
        grouped = dist.is_available() and dist.is_initialized()
        self.device = device
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if grouped else (0, 1)

    def part(self, index: Tensor) -> Tensor:
        """This process's share of the indices (n,): every `size`-th, possibly none."""
        return index[self.rank :: self.size]

    def parallel(self, module: nn.Module) -> nn.Module:
        """A module whose backward pass averages gradients over the processes; they begin with rank 0's parameters."""
        if self.size == 1:
            return module
        with _losses_named():
            # A sequence of one step leaves a recurrence unused, in one process and not in another.
            return DistributedDataParallel(module, find_unused_parameters=True)

    def totals(self, *values: float) -> Sequence[float]:
        """Sums of the values over the processes, returned in each process."""
        if self.size == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        with _losses_named():
            dist.all_reduce(sums)
        return sums.tolist()

    def gathered(self, state: Tensor) -> list[Tensor]:
        """The tensors of all processes, on the CPU; they must have one shape and dtype."""
        if self.size == 1:
            return [state]
        sent = state.to(self.device)
        states = [torch.empty_like(sent) for _ in range(self.size)]
        with _losses_named():
            dist.all_gather(states, sent)
        return [each.cpu() for each in states]

    def from_first(self, content: bytes) -> bytes:
        """The first process's content, returned in every process. It is sent as bytes, not as pickled objects."""
        if self.size == 1:
            return content
        length = int(self.totals(len(content) if self.rank == 0 else 0)[0])
        mine = list(content) if self.rank == 0 else [0] * length
        sent = torch.tensor(mine, dtype=torch.uint8, device=self.device)
        with _losses_named():
            dist.broadcast(sent, 0)
        return sent.cpu().numpy().tobytes()

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """A block in which a collective operation that fails is a ProcessLostError."""
        with _losses_named():
            yield


@contextmanager
def _losses_named() -> Iterator[None]:
    """Failures of the transport as one sentence about the process that is missing."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(word in str(error).lower() for word in _TRANSPORT):
            raise
        raise ProcessLostError(
            "expected every process of the run to answer, got no answer from one that has ended or hangs; see its own "
            "error, then start all of them again, with resume where there is a checkpoint "
            f"({str(error).splitlines()[0][:200]})"
        ) from error


_TRANSPORT = ("gloo", "nccl", "connection closed", "connection reset", "timed out waiting", "pair closure")
