"""Errors about a saved model with invalid parameters, in one sentence instead of torch's message."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from pgm_rnn.inference.svi.processes import ProcessLostError
from pgm_rnn.storage import StorageError

TORCH_SAYS = "Expected parameter "
"""Beginning of the long message of torch's distributions about an invalid parameter."""


@contextmanager
def blamed_on_model(where: object) -> Iterator[None]:
    """Turn errors of arithmetic in a block into an error about the model `where`; our own and memory errors pass.

    Raises:
        StorageError: torch could not draw or compute with the model's parameters.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Encountered (NaN|.inf)"
            )  # a warning of Pyro's about something that is an error below
            yield
    except ProcessLostError:
        raise
    except (RuntimeError, ArithmeticError, LookupError) as error:
        if "alloc" in str(error):
            raise
        raise StorageError(_sentence(where, error)) from error
    except ValueError as error:
        if not str(error).startswith(TORCH_SAYS):
            raise
        raise StorageError(_sentence(where, error)) from error


def check_score(nats_per_step: float, where: object) -> None:
    """Check that a model's score on its data is a number; infinity is allowed, it stands for impossible data.

    Raises:
        StorageError: the score is NaN.
    """
    if nats_per_step != nats_per_step:
        raise StorageError(
            f"expected a number of nats per step, got NaN from {where}; either its parameters are invalid, so fit it "
            "again, or the data are far larger than those it was fitted to, so rescale them"
        )


def check_drawn(x: Tensor, where: object) -> None:
    """Check that draws (..., T, *event) are finite, so that they can be printed.

    Raises:
        StorageError: they are not.
    """
    if not bool(x.isfinite().all()):
        raise StorageError(
            f"expected finite draws from {where}, got NaN or infinity; either its parameters are invalid, so fit it "
            "again, or it grows without bound, so take fewer steps or look at the draws in an .npz"
        )


def _sentence(where: object, error: Exception) -> str:
    reason = str(error).split("\n")[0].rstrip(" .:")
    return f"expected a model with valid parameters, got {where}, with which torch fails ({reason}); fit it again"
