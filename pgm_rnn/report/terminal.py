"""The terminal on which reports are printed."""

from rich.console import Console


def console() -> Console:
    """Standard output as it is now; text is printed as it stands: no markup, no highlights, lines of any length."""
    return Console(highlight=False, markup=False, soft_wrap=True)
