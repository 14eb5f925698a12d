"""Where the fit of a structural time series starts: a regression, and shares of the variance that it leaves.

The columns of the regression are a constant, the number of the step, the seasons and the inputs, as far as the model
has them. It also finds inputs whose coefficients no data of this length determine.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from pgm_rnn.sequences import Sequences, length_mask

SHARES = {"irregular": 0.5, "level": 0.1, "slope": 0.001, "seasonal": 0.01, "cycle": 0.1, "ar": 0.2}
"""First variances of the components, as shares of the residual variance of the regression."""


def first_values(data: Sequences, options: Mapping[str, Any], names: Collection[str]) -> dict[str, Tensor]:
    """First values of a model's parameters, by name.

    Args:
        data: training sequences, x (B, T) or (B, T, 1).
        options: of the model's constructor.
        names: of the model's parameters.

    Raises:
        ValueError: sequences too short for the components, or inputs that depend on each other.
    """
    x = data.x.detach().double().flatten(2).squeeze(-1) if data.x.dim() == 3 else data.x.detach().double()
    longest = int(data.lengths.max())
    _check_long_enough(longest, options)
    inside = length_mask(data.lengths, x.shape[1])
    seen = inside & (data.mask if data.mask.dim() == 2 else data.mask[..., 0]) & ~x.isnan()
    if not bool(seen.any()):
        raise ValueError("expected some observations to start a fit from, got none")
    own = _columns(x, options)
    inputs = None if data.inputs is None else data.inputs.detach().double()
    rows = own if inputs is None else torch.cat([own, inputs], dim=-1)
    if inputs is not None:
        _check_independent(rows[seen], own.shape[-1], options)
    solution = torch.linalg.lstsq(rows[seen], x[seen, None], driver="gelsd").solution[:, 0]
    left = float((x[seen] - rows[seen] @ solution).square().mean())
    size = float(x[seen].square().mean())
    variance = left if left > 1e-12 * size else max(1e-6 * size, 1e-6)
    found = {f"{part}_variance": torch.tensor(share * variance) for part, share in SHARES.items()}
    found["coefficients"] = solution[own.shape[-1] :]
    return {name: value for name, value in found.items() if name in names}


def _check_long_enough(longest: int, options: Mapping[str, Any]) -> None:
    """Raise unless the longest sequence has more steps than a season and than the order of the autoregression.

    Raises:
        ValueError: it has not.
    """
    for name, words in (("seasonal", "a period"), ("ar", "an order")):
        number = options[name]
        if number is not None and number >= longest:
            raise ValueError(
                f"expected {name}, {words} in steps, below the {longest} steps of the longest sequence, got {number}"
            )


def _columns(x: Tensor, options: Mapping[str, Any]) -> Tensor:
    """The columns of the model's own components, (B, T, n)."""
    steps = torch.arange(x.shape[1], dtype=x.dtype)
    columns = [torch.ones_like(steps)] if options["level"] != "none" else []
    columns += [(steps - steps.mean()) / max(1.0, float(len(steps)))] if options["trend"] != "none" else []
    period = options["seasonal"]
    if period is not None:
        highest = period // 2 if options["harmonics"] is None else options["harmonics"]
        for j in range(1, highest + 1):
            angle = 2 * math.pi * j / period * steps
            columns += [angle.cos()] if 2 * j == period else [angle.cos(), angle.sin()]
    found = torch.stack(columns, dim=-1) if columns else steps.new_zeros(len(steps), 0)
    return found.to(x.device).expand(len(x), -1, -1)


def _check_independent(rows: Tensor, num_own: int, options: Mapping[str, Any]) -> None:
    """Raise if an input is a combination of the columns before it.

    Raises:
        ValueError: it is; the message names it by its number.
    """
    scale = rows.square().mean(0).sqrt()
    unit = rows / scale.where(scale > 0, 1.0)
    for k in range(num_own, rows.shape[1]):
        if int(torch.linalg.matrix_rank(unit[:, : k + 1])) < int(torch.linalg.matrix_rank(unit[:, :k])) + 1:
            raise ValueError(
                f"expected inputs that are no combination of each other and of the level, trend and season, got input "
                f"{k - num_own + 1} (counted from 1) of {rows.shape[1] - num_own}, which is one; leave it out"
            )
