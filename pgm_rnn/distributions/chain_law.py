"""The base class for laws of whole sequences: batches of chains, durations, padded values."""

from collections.abc import Sequence
from functools import reduce
from typing import Any, Self

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from pgm_rnn.checks import check_counts


class ChainLaw(TorchDistribution):
    """A law with batch shape of chains and event shape (T, *event); (1, *event) where T may be any number, as in Pyro.

    Args:
        batch_shape: batch shape of the chains.
        num_steps: number of steps that the parameters are given for, 1 if all steps share them.
        duration: T; None takes `num_steps`, or any number of steps if that is 1.
        event_shape: shape of one observation.
        lengths: steps of each sequence, (*batch_shape,), integers in 1..T; None for T. Values beyond them do not count.
        validate_args: whether values are checked; None for Pyro's setting at the time.

    Raises:
        TypeError: lengths that are no integers.
        ValueError: parameters for another number of steps, or lengths of another shape or outside 1..T.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)

    def __init__(
        self,
        batch_shape: torch.Size,
        num_steps: int,
        duration: int | None,
        event_shape: torch.Size,
        lengths: Tensor | None,
        validate_args: bool | None = None,
    ) -> None:
        if duration is not None:
            check_counts(duration=duration)
            if num_steps not in (1, duration):
                raise ValueError(f"expected parameters for 1 or duration = {duration} steps, got {num_steps}")
        self.duration = duration or (num_steps if num_steps > 1 else None)
        self.lengths = None if lengths is None else _checked(lengths, batch_shape, self.duration)
        super().__init__(batch_shape, torch.Size([self.duration or 1, *event_shape]), validate_args)

    def another(self, batch_shape: Sequence[int], duration: int | None, lengths: Tensor | None) -> Self:
        """A law of the same class, also where that is a subclass, which lacks its parameters so far."""
        law = type(self).__new__(type(self))
        checked = self.__dict__.get("_validate_args")
        ChainLaw.__init__(law, torch.Size(batch_shape), 1, duration, self.event_shape[1:], lengths, checked)
        return law

    def expanded_shape(self, batch_shape: Sequence[int]) -> torch.Size:
        """The batch shape of `expand(batch_shape)`, which broadcasts as Pyro's laws of chains do.

        Raises:
            ValueError: shapes that do not broadcast.
        """
        return torch.Size(broadcast_shape(self.batch_shape, tuple(batch_shape)))

    def regrouped_shape(self, batch_shape: Sequence[int]) -> torch.Size:
        """The batch shape of `reshape_batch(batch_shape)`.

        Raises:
            ValueError: another number of chains.
        """
        shape = torch.Size(batch_shape)
        if shape.numel() != self.batch_shape.numel():
            raise ValueError(
                f"expected reshape_batch to keep the number of chains of batch shape {tuple(self.batch_shape)}, got "
                f"{tuple(shape)}; use expand to repeat the law"
            )
        return shape

    def steps_before(self, data: Tensor) -> tuple[int, int]:
        """t and T - t, where the data of `prefix_condition` are x_{1:t}.

        Raises:
            TypeError: no tensor.
            ValueError: no duration, another event shape, as many steps as the law has or more, or a sequence that ends
                within the first t steps.
        """
        if self.duration is None:
            raise ValueError(
                "expected a law with a duration for prefix_condition, got one without, which is the same at all "
                "steps; make it with duration=T, more steps than the data have"
            )
        if not isinstance(data, Tensor):
            raise TypeError(f"expected data as a tensor for prefix_condition, got {type(data).__name__}")
        expected, found = self.event_shape[1:], data.shape[-len(self.event_shape) :]
        if len(found) != len(self.event_shape) or found[1:] != expected or not 0 < found[0] < self.duration:
            raise ValueError(
                f"expected data of t steps for prefix_condition, 0 < t < {self.duration}, whose shape ends in "
                f"{_shape(('t', *expected))}, got {tuple(data.shape)}"
            )
        if self.lengths is not None and bool((self.lengths <= found[0]).any()):
            raise ValueError(
                f"expected sequences of more than the {found[0]} steps of the data for prefix_condition, got a length "
                f"of {int(self.lengths.min())}"
            )
        return found[0], self.duration - found[0]

    def steps_of_density(self, other: torch.distributions.Distribution) -> int:
        """T of another density of x_{1:T}, for `conjugate_update`.

        Raises:
            ValueError: another event shape, or a law with lengths.
        """
        if self.lengths is not None:
            raise ValueError(
                "expected a law without lengths for conjugate_update, got one with lengths; update the sequences of "
                "each length separately"
            )
        found, event = tuple(other.event_shape), tuple(self.event_shape[1:])
        if found[1:] != event or not found or found[0] not in (self.duration or found[0],):
            expected = _shape((self.duration or "T", *event))
            raise ValueError(f"expected a law of event shape {expected} for conjugate_update, got {found}")
        return found[0]

    def rows(self, batch: torch.Size, num_steps: int) -> Tensor:
        """The lengths of a batch of values of `num_steps` steps, flat."""
        if self.lengths is None:
            return torch.full((batch.numel(),), num_steps)
        return self.lengths.expand(batch).reshape(-1)

    def observed(self, batch: torch.Size, num_steps: int, device: torch.device) -> Tensor | None:
        """Which steps of a batch of values count, (*batch, T), on a device; None if all do.

        Raises:
            ValueError: lengths outside 1..T.
        """
        if self.lengths is None:
            return None
        lengths = _checked(self.lengths, self.batch_shape, num_steps).to(device)
        return torch.arange(num_steps, device=device) < lengths.expand(batch)[..., None]

    def steps_of(self, value: Tensor) -> int:
        """T of a value (*sample, *batch, T, *event).

        Raises:
            TypeError: no tensor.
            ValueError: another event shape, or no steps.
        """
        if not isinstance(value, Tensor):
            raise TypeError(f"expected a value as a tensor, got {type(value).__name__}")
        expected: tuple[Any, ...] = tuple(self.event_shape)
        found = tuple(value.shape[max(0, value.dim() - len(expected)) :])
        num_steps = found[0] if found else 0
        if self.duration is None:
            expected = ("T", *expected[1:])
        if len(found) != len(expected) or found[1:] != expected[1:] or num_steps not in (self.duration or num_steps,):
            raise ValueError(f"expected a value whose shape ends in {_shape(expected)}, got {tuple(value.shape)}")
        if 0 in value.shape:
            raise ValueError(f"expected a value of at least one sequence and one step, got {tuple(value.shape)}")
        return num_steps

    def steps_to_draw(self) -> int:
        """T of a draw.

        Raises:
            ValueError: the law has no duration.
        """
        if self.duration is None:
            raise ValueError("expected a duration for draws from a law that is the same at all steps; give duration=T")
        return self.duration


def _shape(axes: tuple[Any, ...]) -> str:
    return f"({', '.join(map(str, axes))}{',' if len(axes) == 1 else ''})"


def _checked(lengths: Any, batch_shape: torch.Size, duration: int | None) -> Tensor:
    """Lengths as int64."""
    if not isinstance(lengths, Tensor) or lengths.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8):
        got = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
        raise TypeError(f"expected lengths as a tensor of integers, got {got}; try torch.as_tensor(lengths).long()")
    if tuple(lengths.shape) != tuple(batch_shape):
        raise ValueError(f"expected lengths of the batch's shape {tuple(batch_shape)}, got {tuple(lengths.shape)}")
    wrong = lengths < 1
    if duration is not None:
        wrong = wrong | (lengths > duration)
    if bool(wrong.any()):
        limit = "of at least 1" if duration is None else f"in 1..duration = 1..{duration}"
        raise ValueError(f"expected lengths {limit}, got {int(lengths[wrong][0])}; drop empty sequences first")
    return lengths.long()


def follows(*tensors: Tensor) -> bool:
    """Whether a result of these tensors has gradients that someone may ask for."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def check_no_nan(value: Tensor) -> None:
    """Raise unless a value has no NaN.

    Raises:
        ValueError: a value with NaN.
    """
    wrong = value.isnan()
    if bool(wrong.any()):
        index = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(
            f"expected a value without NaN, got NaN at index {index}; for missing observations use inference.kalman "
            "with a mask"
        )


def common_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype that results from an operation on all of these tensors."""
    return reduce(torch.promote_types, (tensor.dtype for tensor in tensors))


def check_initial_step(initial_step: int) -> None:
    """Raise unless `initial_step` is 0 or 1.

    Raises:
        ValueError: another number.
    """
    if initial_step not in (0, 1):
        raise ValueError(
            "expected initial_step=1 (initial law of the first observation's state) or initial_step=0 (of the state "
            f"before it, as in Pyro), got {initial_step!r}"
        )


def support_of(law: TorchDistribution) -> Any:
    """The support of observations under `law`, for a whole sequence."""
    return constraints.independent(law.support, 1)
