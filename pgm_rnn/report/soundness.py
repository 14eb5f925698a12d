"""One sentence about a saved model whose numbers make no law, in place of what torch says of the arithmetic."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from pgm_rnn.inference.svi.processes import ProcessLostError
from pgm_rnn.storage import StorageError

TORCH_SAYS = "Expected parameter "
"""How torch's laws begin their complaint of a parameter, over many lines."""


@contextmanager
def blamed_on_model(where: object) -> Iterator[None]:
    """Errors of arithmetic as an error about the model `where`; our own sentences, and a full memory, pass.

    Raises:
        StorageError: torch could not draw or compute with the model's numbers.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Encountered (NaN|.inf)")  # Pyro's, of what is an error below
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
    """Raise a StorageError if a model gives no number for its data; infinity is one, of impossible data."""
    if nats_per_step != nats_per_step:
        raise StorageError(
            f"expected a number of nats per step, got NaN from {where}; either its numbers make no law, so fit it "
            "again, or the data are far larger than those it was fitted to, so rescale them"
        )


def check_drawn(x: Tensor, where: object) -> None:
    """Raise a StorageError unless draws (..., T, *event) are numbers that can be printed."""
    if not bool(x.isfinite().all()):
        raise StorageError(
            f"expected finite draws from {where}, got others; either its numbers make no law, so fit it again, or it "
            "grows without bound, so take fewer steps or look at the draws in an .npz"
        )


def _sentence(where: object, error: Exception) -> str:
    reason = str(error).split("\n")[0].rstrip(" .:")
    return f"expected a model whose numbers make a law, got {where}, with which torch stops ({reason}); fit it again"
