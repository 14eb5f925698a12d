"""Means, medians and central intervals of the observations ahead: from moments, a mixture over states, or draws.

moments    linear Gaussian states: the normal law of each entry, exact
mixture    finitely many states, no memory, no inputs: sum_k p(z_{L+n} = k | x_{1:L}) p(x | z = k), exact
draws      everything else
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from pgm_rnn.distributions.entry_laws import of_entries
from pgm_rnn.emissions.mixing import mixture
from pgm_rnn.inference import forward_backward, kalman, mixture_kalman, smc
from pgm_rnn.inference.mixture_kalman.problem import sums_out_vectors
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.conditionals import spread
from pgm_rnn.sequences import Sequences

HALVINGS = 80
"""Halvings of an interval that holds a quantile: more than a float64 can tell apart."""
FAR = 40.0
"""Standard deviations beyond which no count is looked for."""
GROUP = 64
"""Sequences that are drawn at a time."""


class Ahead(NamedTuple):
    """Marginal laws of the entries of x_{L+1}, ..., x_{L+N}; an entry that is a symbol has NaN, and probabilities.

    Attributes:
        means: (B, N, M).
        quantiles: (Q, B, N, M), of the probabilities that were asked for.
        probs: probabilities of the symbols of each entry that is one, (B, N, V), by the entry's place 0..M - 1.
    """

    means: Tensor
    quantiles: Tensor
    probs: dict[int, Tensor]


def of_moments(model: Any, data: Sequences, num_steps: int, points: Sequence[float], future: Tensor | None) -> Ahead:
    """The normal laws of a model with linear Gaussian states that does not read its own observations."""
    found = kalman.forecast(model, data, num_steps, future_inputs=future)
    means, covs = found.means.double(), found.covs.double()
    sds = covs.diagonal(dim1=-2, dim2=-1).clamp(min=0.0).sqrt()
    scores = torch.as_tensor(ndtri(np.asarray(points)))
    return Ahead(means, means + scores[:, None, None, None] * sds, {})


def state_probs_ahead(model: Any, data: Sequences, num_steps: int) -> Tensor:
    """p(z_{L+n} | x_{1:L}), n = 1..N, of finitely many states without memory and inputs: (B, N, K).

    The steps ahead are steps without an observation, so that the filter does all the work.
    """
    observed = data.mask
    x = torch.cat([data.x, data.x[:, :1].expand(-1, num_steps, *data.x.shape[2:])], dim=1)
    observed = torch.cat(
        [observed, torch.zeros_like(observed[:, :1]).expand(-1, num_steps, *observed.shape[2:])], dim=1
    )
    probs = forward_backward.filter(model, Sequences(x, data.lengths + num_steps, mask=observed)).filtered_probs
    place = data.lengths[:, None] + torch.arange(num_steps, device=x.device)  # (B, N)
    return probs.gather(1, place[..., None].expand(-1, -1, probs.shape[-1]))


def of_mixture(model: Any, data: Sequences, num_steps: int, points: Sequence[float]) -> Ahead | None:
    """The mixtures over states; None where the states' laws are neither symbols nor normal, nor bits, nor counts."""
    num_states = model.states.num_states
    laws: Any = model.emission(torch.arange(num_states, device=data.x.device), None)
    laws = spread(laws, torch.Size([num_states]))
    kind: Any = torch.distributions.Categorical
    if isinstance(laws, kind):
        weights = state_probs_ahead(model, data, num_steps)
        probs = mixture(laws, weights.log()).probs.double()
        nothing = torch.full((*weights.shape[:2], 1), torch.nan, dtype=torch.float64)
        return Ahead(nothing, nothing.expand(len(points), *nothing.shape), {0: probs})
    base = laws.base_dist if isinstance(laws, torch.distributions.Independent) else laws
    kinds = (torch.distributions.Normal, torch.distributions.MultivariateNormal)
    kinds += (torch.distributions.Bernoulli, torch.distributions.Poisson)  # type: ignore[assignment]
    if not isinstance(base, kinds):
        return None
    weights = state_probs_ahead(model, data, num_steps).double()
    means = laws.mean.double().reshape(num_states, -1)  # (K, M)
    sds = laws.variance.double().sqrt().reshape(means.shape)
    found = [_quantile(_cdf(laws), weights, _bounds(base, means, sds, point), point) for point in points]
    whole = not isinstance(base, kinds[:2])
    quantiles = torch.stack([values.floor() if whole else values for values in found])
    return Ahead(weights @ means, quantiles, {})


def _cdf(laws: Any) -> Callable[[Tensor], Tensor]:
    """P(x <= values | z = k) of every state, (..., M) to (..., K, M)."""
    if laws.event_shape:
        return lambda values: of_entries(laws, values[..., None, :]).upto
    return lambda values: of_entries(laws, values).upto[..., None]  # M = 1


def _bounds(base: Any, means: Tensor, sds: Tensor, point: float) -> tuple[Tensor, Tensor]:
    """Values below and above the quantile of any mixture, (M,): those of the states, or whole numbers far out."""
    if isinstance(base, torch.distributions.Bernoulli):
        return torch.full_like(means[0], -1.0), torch.ones_like(means[0])
    if isinstance(base, torch.distributions.Poisson):
        return torch.full_like(means[0], -1.0), (means + FAR * (sds + 1)).amax(0).ceil()
    each = means + float(ndtri(point)) * sds
    return each.amin(0), each.amax(0)


def _quantile(cdf: Callable[[Tensor], Tensor], weights: Tensor, bounds: tuple[Tensor, Tensor], point: float) -> Tensor:
    """The smallest values (B, N, M) with sum_k weights[..., k] P(x <= values | k) >= point, by halving."""
    low, high = (bound.expand(*weights.shape[:2], -1) for bound in bounds)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        enough = (weights[..., None] * cdf(middle)).sum(-2) >= point
        low, high = low.where(enough, middle), middle.where(enough, high)
    return high


def of_draws(
    draw: Callable[[Sequences, int], Tensor],
    data: Sequences,
    points: Sequence[float],
    symbols: dict[int, int],
    whole: bool,
) -> Ahead:
    """Means and quantiles of draws, and frequencies of symbols, a few sequences at a time.

    Args:
        draw: draws (num_samples, b, N, *event) for some sequences, the first of which has this number.
        data: the sequences.
        points: the probabilities of the quantiles.
        symbols: the number of symbols of each entry that is one.
        whole: whether quantiles are values that were drawn, as suits whole numbers, or lie between two of them.
    """
    parts = []
    for first in range(0, len(data.lengths), GROUP):
        x = draw(data.select(slice(first, first + GROUP)), first)
        parts.append(_summary(x.reshape(*x.shape[:3], -1).double(), points, symbols, whole))
    means, quantiles, probs = zip(*parts, strict=True)
    joined = {place: torch.cat([part[place] for part in probs]) for place in symbols}
    return Ahead(torch.cat(means), torch.cat(quantiles, dim=1), joined)


def _summary(x: Tensor, points: Sequence[float], symbols: dict[int, int], whole: bool) -> Ahead:
    values = x.cpu().numpy()
    method: Any = "inverted_cdf" if whole else "linear"
    means, quantiles = x.mean(0).cpu(), torch.from_numpy(np.quantile(values, points, axis=0, method=method))
    probs = {}
    for place, num_symbols in symbols.items():
        counts = [(x[..., place] == symbol).double().mean(0) for symbol in range(num_symbols)]
        probs[place] = torch.stack(counts, dim=-1)
        means[..., place] = quantiles[..., place] = torch.nan
    return Ahead(means, quantiles, probs)


def draws_of(
    model: SequenceModel, num_steps: int, num_samples: int, num_particles: int, seed: int | None, future: Tensor | None
) -> Callable[[Sequences, int], Tensor]:
    """A function for `of_draws`: the model's own forecasts, from a particle filter where it has no exact one.

    The particles are regimes with a Kalman filter each where switching states allow it, and whole states otherwise.
    """

    def draw(data: Sequences, first: int) -> Tensor:
        options: dict[str, Any] = {"num_samples": num_samples, "seed": None if seed is None else seed + first}
        options["future_inputs"] = None if future is None else future[first : first + len(data.lengths)]
        if model.exact:
            return model.forecast(data, num_steps, **options).x
        engine = mixture_kalman if sums_out_vectors(model, data) else smc
        return engine.forecast(model, data, num_steps, num_particles=num_particles, **options).x

    return draw
