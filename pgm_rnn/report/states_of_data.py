"""The latent states of a batch as a result: tensors, a table with the user's ids and times, and files of both.

Columns of the table, after id and time, for states 0..K - 1 or components 0..D - 1:

    filtered_k    p(z_t = k | x_{1:t}), or the mean of component k
    filtered_sd_k, smoothed_sd_k    standard deviations, where states are vectors
    filtered_mean_k, smoothed_mean_k    means of the vectors of switching states, beside their regimes' probabilities
    smoothed_k    p(z_t = k | x_{1:T}), or the mean
    smoothed_se_k    standard error of the number in smoothed_k, where that is estimated from draws
    NAME, NAME_sd    smoothed mean and standard deviation of a component of a structural model: level, seasonal, ...
    chain_m_smoothed_k    p(z_t^m = k | x_{1:T}) of chain m, from 0, of a model of several chains
    chain_m_state         the state of chain m at t of the most likely path of all chains
    state         the state at t of the most likely path, where there are finitely many
    entropy       of p(z_t | x_{1:T}), in nats
    ess           effective sample size of a particle filter
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from pgm_rnn.inference.kalman import Components
from pgm_rnn.legend import Legend
from pgm_rnn.report import figures
from pgm_rnn.report.canvas import FILE, Canvas
from pgm_rnn.report.places import Values, frame_of, ids_of, key_columns, name_of_ids, name_of_times, places_of
from pgm_rnn.report.table_files import NETCDF, PARQUET, Writer, netcdf_of, table_writers, write_table_file
from pgm_rnn.results import shown
from pgm_rnn.sequences import length_mask
from pgm_rnn.states import ProductStates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STATE_FILES = (".csv", PARQUET, NETCDF, *figures.SUFFIXES)
"""Suffixes of the files that `States.write` makes."""


class Chains(NamedTuple):
    """The states of each chain of a model whose states are products.

    Attributes:
        smoothed_probs: p(z_t^m = k | x_{1:T}) of each chain m, (B, T, K_m).
        states: the states of each chain on the most likely path of all chains, (B, T), -1 in the padding.
    """

    smoothed_probs: tuple[Tensor, ...]
    states: tuple[Tensor, ...]

    @staticmethod
    def of(states: ProductStates, smoothed_probs: Tensor, most_likely: Tensor) -> "Chains":
        """Those of the laws (B, T, K_1 ... K_M) and the path (B, T) of all chains together."""
        each = smoothed_probs.unflatten(-1, states.sizes)
        axes = range(2, 2 + len(states.sizes))
        laws = tuple(each.sum([axis for axis in axes if axis != own]) if len(axes) > 1 else each for own in axes)
        inside = most_likely >= 0
        return Chains(laws, tuple(part.where(inside, -1) for part in states.split(most_likely)))


@dataclass(frozen=True, eq=False)
class States:
    """Result of `infer`; what the engine or the kind of state does not give is None.

    Attributes:
        engine: "forward", "kalman", "mixture", "smc" or "svi".
        reason: why this engine, in one sentence.
        lengths: steps of each sequence, (B,).
        legend: names, ids and times of the data, or None.
        log_marginal_likelihood: log p(x_{1:T}) in nats, exact or as the engine estimates it, (B,).
        filtered_probs: p(z_t = k | x_{1:t}), (B, T, K), of finite states and of regimes.
        smoothed_probs: p(z_t = k | x_{1:T}), (B, T, K).
        most_likely_states: argmax_z p(z_{1:T} | x_{1:T}), states 0..K - 1, (B, T), -1 in the padding.
        filtered_means: E(z_t | x_{1:t}), (B, T, D), of other states, or of the vectors beside regimes.
        filtered_sds: their standard deviations, (B, T, D).
        smoothed_means: E(z_t | x_{1:T}), (B, T, D); the guide's with engine "svi".
        smoothed_sds: their standard deviations, (B, T, D).
        smoothed_errors: standard errors of the smoothed means or probabilities, where they are estimates from draws
            (engines "mixture" and "smc"), (B, T, D) or (B, T, K).
        entropy: of p(z_t | x_{1:T}) in nats, (B, T), 0 in the padding.
        ess: effective sample size of the particles after each step, (B, T).
        components: the components of a structural model given x_{1:T}, by name.
        chains: the states of each chain, for a model of several chains.
        remarks: sentences on how the laws were found that matter for their use.
    """

    engine: str
    reason: str
    lengths: Tensor
    legend: Legend | None = None
    log_marginal_likelihood: Tensor | None = None
    filtered_probs: Tensor | None = None
    smoothed_probs: Tensor | None = None
    most_likely_states: Tensor | None = None
    filtered_means: Tensor | None = None
    filtered_sds: Tensor | None = None
    smoothed_means: Tensor | None = None
    smoothed_sds: Tensor | None = None
    entropy: Tensor | None = None
    ess: Tensor | None = None
    smoothed_errors: Tensor | None = None
    components: Components | None = None
    remarks: tuple[str, ...] = ()
    chains: Chains | None = None

    def __repr__(self) -> str:
        """The engine, the reason and the main numbers."""
        return shown(self, "engine", "reason", "log_marginal_likelihood")

    def to_frame(self) -> Any:
        """A pandas DataFrame: one row per row that was read, in the source's order, with its id and time.

        The other columns are those in the module's text; one whose name is that of the ids or times gets the prefix
        "model_". Without a legend the first two are the number of the sequence, from 0, and the step, from 1.
        """
        places = places_of(self.lengths, self.legend)
        columns: dict[str, Values] = {}
        for name, values in self._parts():
            taken = places.of(values)
            columns |= {name: taken} if taken.ndim == 1 else {f"{name}_{k}": part for k, part in enumerate(taken.T)}
        return frame_of(key_columns(places, self.legend, len(self.lengths)), columns)

    def to_xarray(self) -> Any:
        """The same numbers as an xarray Dataset with the axes sequence, time and state, NaN (-1) in the padding.

        The path is "most_likely_state". The coordinate "sequence" holds the ids. "time" holds the times if all
        sequences share them, else steps from 1; then "times" holds those of each sequence, as text.
        """
        xarray: Any = import_module("xarray")
        num_steps = int(self.lengths.max())
        inside = length_mask(self.lengths.cpu(), num_steps).numpy()
        arrays = {}
        for name, values in self._parts():
            array = values.detach().cpu().numpy()
            mask = inside.reshape(*inside.shape, *[1] * (array.ndim - 2))
            padding = np.nan if array.dtype.kind == "f" else -1
            name = "most_likely_state" if name == "state" else name  # "state" is an axis
            axes = ("sequence", "time", self._axis(name))
            arrays[name] = (axes[: array.ndim], np.where(mask, array, padding))
        coords = {"sequence": _plain(ids_of(self.legend, len(self.lengths))), **self._times(num_steps)}
        widths = {axes[2]: array.shape[2] for axes, array in arrays.values() if len(axes) > 2}
        coords |= {axis: np.arange(width) for axis, width in widths.items()}
        about = {"engine": self.engine, "reason": self.reason}
        about |= {"sequence_name": name_of_ids(self.legend), "time_name": name_of_times(self.legend)}
        return xarray.Dataset(arrays, coords=coords, attrs=about)

    def write(self, path: str | Path) -> None:
        """Write the table (.csv, .parquet), the arrays (.nc, for xarray and ArviZ) or a picture (.png, .svg).

        Raises:
            ValueError: another suffix, a folder that cannot be written to, or a .parquet without pyarrow.
            OSError: the file cannot be written; an earlier one stays.
        """
        path = Path(path)
        pictures: dict[str, Writer] = {suffix: partial(self._picture, suffix) for suffix in figures.SUFFIXES}
        arrays: dict[str, Writer] = {NETCDF: lambda: netcdf_of(self.to_xarray())}
        write_table_file(path, table_writers(self.to_frame) | arrays | pictures)

    def draw(self, which: str | None = None, canvas: Canvas = FILE) -> "list[Axes]":
        """A picture of the beliefs, with one panel per sequence.

        Args:
            which: "filtered" or "smoothed"; None for smoothed where there is such a law.
            canvas: what to draw on.

        Raises:
            ValueError: the engine did not give that law.
        """
        from pgm_rnn.report.state_pictures import beliefs, means

        laws = {
            name: (getattr(self, f"{name}_probs"), getattr(self, f"{name}_means"), getattr(self, f"{name}_sds"))
            for name in ("smoothed", "filtered")
        }
        there = [name for name, (probs, centre, _) in laws.items() if probs is not None or centre is not None]
        if (which or there[0]) not in there:
            raise ValueError(
                f"expected which to be {' or '.join(there)}, which engine {self.engine!r} gives, got {which}"
            )
        name = which or there[0]
        probs, centre, spread = laws[name]
        if probs is not None:
            return beliefs(probs, self.lengths, self.legend, name, canvas)
        return means(centre, spread, self.lengths, self.legend, name, canvas)

    def _picture(self, suffix: str) -> bytes:
        figure: Any = self.draw()[0].figure
        return figures.rendered(figure, suffix)

    def _parts(self) -> Iterator[tuple[str, Tensor]]:
        """The name and the values (B, T) or (B, T, K) of what is there, in the order of the table."""
        for name, values in (
            ("filtered", self.filtered_means if self.filtered_probs is None else self.filtered_probs),
            ("filtered_mean", None if self.filtered_probs is None else self.filtered_means),
            ("filtered_sd", self.filtered_sds),
            ("smoothed", self.smoothed_means if self.smoothed_probs is None else self.smoothed_probs),
            ("smoothed_mean", None if self.smoothed_probs is None else self.smoothed_means),
            ("smoothed_sd", self.smoothed_sds),
            ("smoothed_se", self.smoothed_errors),
            ("state", self.most_likely_states),
            ("entropy", self.entropy),
            ("ess", self.ess),
        ):
            if values is not None:
                yield name, values
        if self.chains is not None:
            for m, (probs, path) in enumerate(zip(*self.chains, strict=True)):
                yield f"chain_{m}_smoothed", probs
                yield f"chain_{m}_state", path
        if self.components is not None:
            for name, means in self.components.means.items():
                yield name, means
                yield f"{name}_sd", self.components.sds[name]

    def _axis(self, name: str) -> str:
        """The name of the last axis of a part."""
        if name.startswith("chain_"):
            return name.replace("smoothed", "value")
        return "entry" if self._beside_regimes(name) else "state"

    def _beside_regimes(self, name: str) -> bool:
        """Whether a part has entries of the vectors of switching states, whose regimes have the other parts."""
        both = self.filtered_probs is not None and self.filtered_means is not None
        return both and name.endswith(("_mean", "_sd"))

    def _times(self, num_steps: int) -> dict[str, Any]:
        """The coordinate of time, and the times of each sequence where they differ."""
        times = () if self.legend is None else tuple(np.asarray(part) for part in self.legend.times)
        if not times:
            return {"time": np.arange(1, num_steps + 1)}
        longest = max(times, key=len)
        if all(np.array_equal(part, longest[: len(part)]) for part in times):
            return {"time": _plain(longest)}
        texts = np.full((len(times), num_steps), "", dtype=object)
        for row, part in zip(texts, times, strict=True):
            row[: len(part)] = part.astype(str)
        return {"time": np.arange(1, num_steps + 1), "times": (("sequence", "time"), texts.astype(str))}


def _plain(values: Values) -> Values:
    """Numbers and dates as they are, everything else as text, which netCDF can hold."""
    values = np.asarray(values.tolist()) if values.dtype == object else values
    return values if values.dtype.kind in "iufM" else values.astype(str)
