"""Draws of a model in the shape of data: its lengths, inputs, ids, times and names.

    from a model                    x* ~ p(x | theta)                                   parametric bootstrap of a fit
    from residuals                  e* drawn from the data's one-step residuals         residual bootstrap
    from a model with priors        theta ~ p(theta),       x* ~ p(x | theta)           prior predictive
    from draws of its parameters    theta ~ p(theta | x),   x* ~ p(x | theta)           posterior predictive

The residual bootstrap is for linear Gaussian states; see `pgm_rnn.inference.kalman.innovations`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.inference.em import EmFit
from pgm_rnn.inference.kalman.innovations import one_step_residuals, rebuilt
from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.inference.pmmh import ParticlePosterior
from pgm_rnn.inference.svi import Fit
from pgm_rnn.kernels.not_numbers import has_nan
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.observations import as_batch
from pgm_rnn.sequence_model.parameter_draws import draws_of, sample_under_draws
from pgm_rnn.sequence_model.parameters import call_with
from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.sequences import Data, Sequences, length_mask, over_events

METHODS = ("model", "residuals")
MAX_ROWS = 2**20
"""Largest number of draws of the parameters times steps that are drawn side by side."""


@torch.no_grad()
def simulate(
    model: SequenceModel | WithPriors | Fit | EmFit,
    like: Data,
    *,
    num_draws: int = 1,
    posterior: Posterior | ParticlePosterior | None = None,
    method: Literal["model", "residuals"] = "model",
    groups: Any = None,
    keep_missing: bool = False,
    seed: int | None = 0,
) -> Sequences:
    """New sequences from a model, with the lengths, inputs, ids, times and names of some data.

    Args:
        model: a model, or a fit, whose model is taken; a `WithPriors` draws its parameters from their priors, or from
            `posterior`, anew for every draw.
        like: the data to be like: a batch, or observations (B, T, *event). A model that conditions on x_1 starts from
            theirs; otherwise their observations are read by method="residuals" only.
        num_draws: number of times that the whole batch is drawn, N.
        posterior: result of `mcmc.run` or `pmmh.run` with the same program; N of its draws, evenly spread, are used.
        method: "model" draws from the model's laws, "residuals" rebuilds sequences from the data's one-step residuals,
            drawn with replacement (linear Gaussian states).
        groups: the group of each sequence of `like`, for a program with groups, where they are others than the
            program's own.
        keep_missing: whether what is missing from the data is missing from the draws, too.
        seed: makes the draws reproducible; None uses torch's global generator.

    Returns:
        N * B sequences, first those of the first draw, as `like.repeated(N)` would order them, with the latent states z
        where the model has some and draws them.

    Raises:
        TypeError: no model, or draws of parameters for a model without priors.
        ValueError: data that do not fit the model, a model that has no one-step residuals, a group that the program
            does not have, or another number of groups than sequences.

    Example:
        >>> from pgm_rnn.models import HMM
        >>> hmm = HMM.random(num_states=2, num_symbols=3, seed=0)
        >>> data = hmm.sample(num_sequences=4, num_steps=6, seed=1)
        >>> simulate(hmm, like=data, num_draws=3, seed=2)
        Sequences(12 of 6 steps, x (12, 6) torch.int64, z (12, 6))
    """
    check_counts(num_draws=num_draws)
    check_choice("method", method, METHODS)
    source, samples = _parameters(model, posterior, num_draws, seed)
    batch = batch_for(source.model if isinstance(source, WithPriors) else source, like)
    with seeded(seed, stream=15):
        if isinstance(source, WithPriors):
            x, z = _in_groups(source, samples, batch, num_draws, method, groups)
        else:
            x, z = _whole(source, None, batch, num_draws, method)
    return _shaped(x, z, batch, num_draws, keep_missing)


def model_of(source: object) -> SequenceModel | WithPriors:
    """The model of a fit, or the model or program itself.

    Raises:
        TypeError: neither of them.
    """
    found = source.model if isinstance(source, Fit | EmFit) else source
    if not isinstance(found, SequenceModel | WithPriors):
        raise TypeError(f"expected a SequenceModel, a WithPriors or a fit of one, got {type(found).__name__}")
    return found


def batch_for(model: SequenceModel, data: Data) -> Sequences:
    """The data as one batch, whose observations have the shape of the model's.

    Raises:
        TypeError: no data.
        ValueError: observations of another shape.
    """
    batch = as_batch(model, data)
    if batch.x.shape[2:] != model.family.event_shape:
        expected = ", ".join(["batch", "T", *map(str, model.family.event_shape)])
        raise ValueError(f"expected data of shape ({expected}) for {model.family}, got {tuple(batch.x.shape)}")
    return batch


def prior_draws(program: WithPriors, num_draws: int, seed: int | None) -> dict[str, Tensor]:
    """Draws of each parameter from its prior, (num_draws, *shape)."""
    with seeded(seed, stream=16):
        shared = {name: torch.stack([law.sample() for _ in range(num_draws)]) for name, law in program.priors.items()}
        each = [program.draw_groups({name: values[i] for name, values in shared.items()}) for i in range(num_draws)]
    return shared | {name: torch.stack([draw[name] for draw in each]) for name in (*program.offsets, *program.by_group)}


def of_priors(program: WithPriors, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The draws of the parameters that have priors; a sampler may have drawn latent states besides.

    Raises:
        ValueError: draws of a parameter are missing.
    """
    if any(name not in samples for name in program.names):
        raise ValueError(
            f"expected draws of {', '.join(program.names)}, got draws of {', '.join(samples)}; give the program of "
            "the posterior"
        )
    return {name: samples[name] for name in program.names}


def spread_draws(posterior: Posterior | ParticlePosterior, num_draws: int) -> dict[str, Tensor]:
    """Evenly spread draws of a posterior, its chains one after another, (num_draws, *shape)."""
    chains = posterior.posterior if isinstance(posterior, ParticlePosterior) else posterior
    flat = {name: values.flatten(0, 1) for name, values in chains.samples.items()}
    total = chains.num_chains * chains.num_samples
    index = ((torch.arange(num_draws) + 0.5) * (total / num_draws)).long()
    return {name: values[index] for name, values in flat.items()}


def _parameters(
    source: object, posterior: Posterior | ParticlePosterior | None, num_draws: int, seed: int | None
) -> tuple[SequenceModel | WithPriors, dict[str, Tensor]]:
    """The model or program, and the parameters of each draw, (num_draws, *shape); none for the model's own."""
    model = model_of(source)
    if not isinstance(model, WithPriors):
        if posterior is not None:
            raise TypeError(
                f"expected the program that the posterior belongs to, WithPriors(model, {{...}}), got "
                f"{type(model).__name__}"
            )
        return model, {}
    samples = prior_draws(model, num_draws, seed) if posterior is None else spread_draws(posterior, num_draws)
    return model, of_priors(model, samples)


Drawn = tuple[Tensor, Tensor | None]


def _in_groups(
    program: WithPriors, samples: dict[str, Tensor], batch: Sequences, num_draws: int, method: str, groups: Any
) -> Drawn:
    """Draws of the whole batch, each group's under its own parameters."""
    x, z = [], []
    for place, own, part in program.parts(samples, batch, groups):
        of_x, of_z = _whole(program.model, own, part, num_draws, method)
        x.append((place, of_x.unflatten(0, (num_draws, -1))))
        z += [] if of_z is None else [(place, of_z.unflatten(0, (num_draws, -1)))]
    return together(x).flatten(0, 1), together(z).flatten(0, 1) if z else None


def together(parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Values of groups, (num, n) or (num, n, T, ...), at their places (n,) of a batch; zeros where one is shorter."""
    batch, first = sum(len(place) for place, _ in parts), parts[0][1]
    steps = [max(part.shape[2] for _, part in parts)] if first.dim() > 2 else []
    whole = first.new_zeros(len(first), batch, *steps, *first.shape[3:])
    for place, part in parts:
        if steps:
            whole[:, place, : part.shape[2]] = part
        else:
            whole[:, place] = part
    return whole


def _whole(
    model: SequenceModel, samples: dict[str, Tensor] | None, batch: Sequences, num_draws: int, method: str
) -> Drawn:
    """Draws of the whole batch."""
    parts = _parts(model, samples, batch, num_draws, method)
    x = torch.cat([part[0] for part in parts])
    return x, None if parts[0][1] is None else torch.cat([part[1] for part in parts if part[1] is not None])


def _parts(
    model: SequenceModel, samples: dict[str, Tensor] | None, batch: Sequences, num_draws: int, method: str
) -> list[Drawn]:
    """Draws of the whole batch, some at a time."""
    draw = _from_residuals if method == "residuals" else _from_model
    if samples is None:
        return [draw(model, batch, num_draws)]
    draws, size = draws_of(model, samples), max(1, MAX_ROWS // batch.x.shape[:2].numel())
    if method == "residuals" or model.first == "condition":
        each = [{name: values[i] for name, values in draws.parameters.items()} for i in range(num_draws)]
        return [call_with(model, raw, draw, model, batch, 1) for raw in each]
    found = []
    for index in torch.arange(num_draws).split(size):
        drawn = sample_under_draws(draws.chosen(index), *batch.x.shape[:2], inputs=batch.inputs)
        found.append((drawn.x.flatten(0, 1), None if drawn.z is None else drawn.z.flatten(0, 1)))
    return found


def _from_model(model: SequenceModel, batch: Sequences, num_draws: int) -> Drawn:
    inputs = None if batch.inputs is None else batch.inputs.repeat(num_draws, 1, 1)
    num_steps = batch.x.shape[1]
    if model.first == "model":
        drawn = model.sample(num_draws * len(batch.x), num_steps, inputs=inputs)
        return drawn.x, drawn.z
    start = batch.x[:, : model.num_given]
    if num_steps <= model.num_given:
        return start.repeat(num_draws, *[1] * (start.dim() - 1)), None
    given, ahead = (
        (None, None)
        if batch.inputs is None
        else (batch.inputs[:, : model.num_given], batch.inputs[:, model.num_given :])
    )
    options: dict[str, Any] = {"num_samples": num_draws, "inputs": given, "future_inputs": ahead}
    later = model.forecast(start, num_steps - model.num_given, **options).x  # (num_draws, B, later, *event)
    x = torch.cat([start.to(later.dtype).expand(num_draws, *start.shape), later], dim=2)
    return x.flatten(0, 1), None


def _from_residuals(model: SequenceModel, batch: Sequences, num_draws: int) -> Drawn:
    found = one_step_residuals(model, batch)
    pool = found.values[found.whole]
    if len(pool) == 0:
        raise ValueError("expected a step of which everything was observed, got none; use method='model'")
    pool = pool - pool.mean(0)
    many = batch.repeated(num_draws)._replace(observed=None)
    many = many._replace(x=torch.zeros_like(many.x))  # the observations are not read
    index = torch.randint(len(pool), many.x.shape[:2], device=pool.device)
    return rebuilt(model, many, pool[index]), None


def _shaped(x: Tensor, z: Tensor | None, batch: Sequences, num_draws: int, keep_missing: bool) -> Sequences:
    """The draws in the shape of the data, with zeros in the padding."""
    like = batch.repeated(num_draws)
    inside = length_mask(like.lengths, x.shape[1])
    x = x.where(over_events(inside, x), 0)
    z = None if z is None else z.where(over_events(inside, z), 0)
    mask = _observed(like) if keep_missing else None
    if mask is not None and x.is_floating_point():
        x = x.where(over_events(mask | ~over_events(inside, mask), x), torch.nan)
    return Sequences(x, like.lengths, z, like.inputs, mask, like.legend)


def _observed(data: Sequences) -> Tensor | None:
    """True where x was observed: the mask, or where it is no NaN; None if nothing is missing."""
    if data.observed is not None or not has_nan(data.x):
        return data.observed
    return ~data.x.isnan()
