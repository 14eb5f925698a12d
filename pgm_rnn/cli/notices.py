"""What the kernels log, on standard error: above a progress bar, if there is one."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LOGGER = "pgm_rnn.kernels"


class _OnStandardError(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


@contextmanager
def notices() -> Iterator[None]:
    """Show what the kernels log, such as that they are compiled, as long as the block runs."""
    logger, handler = logging.getLogger(LOGGER), _OnStandardError()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
