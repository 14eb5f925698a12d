"""Tables of times for a terminal of 100 columns."""

import math

from benchmarks.gpu import Line
from benchmarks.hmm_growth import Growth
from benchmarks.peers import Row
from benchmarks.record import keep
from benchmarks.smc_memory import Peak
from benchmarks.smc_peers import SLOW, FilterRow


def print_comparison(title: str, rows: list[Row], timed: str = "value") -> None:
    """Print milliseconds and ratios to the first row's engine; `timed` names the quantity timed besides gradients."""
    with_gradient = any(row.gradient for row in rows)
    gradient = f"{'gradient, ms':>16}{'ratio':>8}" if with_gradient else ""
    print(title)
    print(f"  {'':22}{timed + ', ms':>16}{'ratio':>8}{gradient}{'first call, ms':>18}{'error':>10}")
    for row in rows:
        if row.value is None:
            print(f"  {row.name:22}{'not installed':>16}")
            continue
        keep(title, timed, row.name, row.value)
        keep(title, "gradient", row.name, row.gradient)
        gradient = _pair(row.gradient) if with_gradient else ""
        print(f"  {row.name:22}{_pair(row.value)}{gradient}{row.first_call:18.0f}{row.error:10.0e}")
    print()


def print_filters(title: str, rows: list[FilterRow], num_sequences: int) -> None:
    """Print milliseconds for one sequence and for many, ratios to the first row's, and errors of the estimates."""
    print(title)
    many = f"{num_sequences} sequences, ms"
    print(f"  {'':26}{'1 sequence, ms':>16}{'ratio':>8}{many:>18}{'ratio':>8}{'error':>10}{'deviation':>12}")
    for row in rows:
        if row.one is None:
            print(f"  {row.name:26}{'not installed':>16}")
            continue
        first, first_many = rows[0].one or math.nan, rows[0].many or math.nan
        keep(title, "1 sequence", row.name, (1e3 * row.one, row.one / first))
        if row.many is not None:
            keep(title, f"{num_sequences} sequences", row.name, (1e3 * row.many, row.many / first_many))
        one = _seconds(row.one, rows[0].one, 16)
        many = _seconds(row.many, rows[0].many, 18) if row.many is not None else f"{f'over {SLOW:.0f} s':>18}{'':8}"
        check = f"{'-':>10}{'-':>12}" if row.error is None else f"{row.error:10.3f}{row.deviation:12.3f}"
        print(f"  {row.name:26}{one}{many}{check}")
    print()


def print_peaks(title: str, peaks: list[Peak]) -> None:
    """Print steps, megabytes, and seconds where they were measured."""
    print(title)
    for num_steps, megabytes, seconds in peaks:
        took = "" if seconds is None else f"{seconds:12.2f} s"
        print(f"  {f'{num_steps} steps':26}{megabytes:12.0f} MB{took}")
    print()


def print_growth(title: str, series: list[Growth]) -> None:
    """Print sizes, times and slopes."""
    print(title)
    for name, sizes, milliseconds, slope in series:
        times = "  ".join(f"{size}: {time:.1f} ms" for size, time in zip(sizes, milliseconds, strict=True))
        print(f"  {name:24}{times:64}slope {slope:.2f}")
    print()


def print_gpu(title: str, lines: list[Line]) -> None:
    """Print milliseconds on the CPU, on the GPU and by a scan, and the GPU's peak memory."""
    print(title)
    print(f"  {'':28}{'CPU, ms':>12}{'GPU, ms':>12}{'GPU, scan, ms':>16}{'peak, MB':>12}")
    for name, *times, megabytes in lines:
        cpu, gpu, scan = ("-" if value is None or math.isnan(value) else f"{value:.2f}" for value in times)
        print(f"  {name:28}{cpu:>12}{gpu:>12}{scan:>16}{megabytes:12.0f}")
    print()


def print_steps(title: str, subtitle: str, rows: list[tuple[str, float, float]], width: int = 34) -> None:
    """Print names, milliseconds and ratios to the first row's, under a title that a heading above has begun."""
    if subtitle:
        print(f"  {subtitle}")
    for name, milliseconds, ratio in rows:
        keep(f"{title}, {subtitle}" if subtitle else title, "step", name, (milliseconds, ratio))
        print(f"    {name:{width}}{milliseconds:8.1f}{ratio:8.3f}")


def print_times(title: str, rows: list[tuple[str, float]]) -> None:
    """Names and milliseconds."""
    print(title)
    for name, milliseconds in rows:
        print(f"  {name:36}{milliseconds:8.1f}")
    print()


def _pair(times: tuple[float, float] | None) -> str:
    return f"{times[0]:16.2f}{times[1]:8.2f}" if times else f"{'-':>16}{'':8}"


def _seconds(seconds: float, first: float | None, width: int) -> str:
    if math.isinf(seconds):
        return f"{'failed':>{width}}{'':8}"
    ratio = f"{seconds / first:8.2f}" if first is not None and math.isfinite(first) else f"{'':8}"
    return f"{1e3 * seconds:{width}.1f}{ratio}"
