"""Tables of times for a terminal of 100 columns."""

from benchmarks.hmm_growth import Growth
from benchmarks.peers import Row


def print_comparison(title: str, rows: list[Row], timed: str = "value") -> None:
    """Milliseconds, and how many times as long as the first row's engine; `timed` is what was, beside a gradient."""
    with_gradient = any(row.gradient for row in rows)
    gradient = f"{'gradient, ms':>16}{'ratio':>8}" if with_gradient else ""
    print(title)
    print(f"  {'':22}{timed + ', ms':>16}{'ratio':>8}{gradient}{'first call, ms':>18}{'error':>10}")
    for row in rows:
        if row.value is None:
            print(f"  {row.name:22}{'not installed':>16}")
            continue
        gradient = _pair(row.gradient) if with_gradient else ""
        print(f"  {row.name:22}{_pair(row.value)}{gradient}{row.first_call:18.0f}{row.error:10.0e}")
    print()


def print_growth(title: str, series: list[Growth]) -> None:
    """Sizes, times and slopes."""
    print(title)
    for name, sizes, milliseconds, slope in series:
        times = "  ".join(f"{size}: {time:.1f} ms" for size, time in zip(sizes, milliseconds, strict=True))
        print(f"  {name:24}{times:64}slope {slope:.2f}")
    print()


def print_times(title: str, rows: list[tuple[str, float]]) -> None:
    """Names and milliseconds."""
    print(title)
    for name, milliseconds in rows:
        print(f"  {name:36}{milliseconds:8.1f}")
    print()


def _pair(times: tuple[float, float] | None) -> str:
    return f"{times[0]:16.2f}{times[1]:8.2f}" if times else f"{'-':>16}{'':8}"
