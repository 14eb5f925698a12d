"""The functions of the engine: each checks its arguments, and the modules beside this one do the work."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from pgm_rnn.checks import by_keyword, check_choice, check_counts
from pgm_rnn.inference.mixture_kalman import collapsing
from pgm_rnn.inference.mixture_kalman.given_regimes import chain_given
from pgm_rnn.inference.mixture_kalman.paths import backward_paths
from pgm_rnn.inference.mixture_kalman.problem import prepared
from pgm_rnn.inference.mixture_kalman.regime_model import RegimeModel
from pgm_rnn.inference.mixture_kalman.results import Collapsed, Filtered, Smoothed
from pgm_rnn.inference.smc import run as particles
from pgm_rnn.inference.smc.forecasting import Start, continued
from pgm_rnn.inference.smc.paths import ancestral_paths
from pgm_rnn.kernels.gaussian_backward import root_of
from pgm_rnn.particles import Options
from pgm_rnn.particles.errors import offering_minus_infinity
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import Forecast
from pgm_rnn.sequence_model.chains import filtered
from pgm_rnn.sequence_model.conditionals import example_of
from pgm_rnn.sequence_model.observations import check_inputs
from pgm_rnn.sequences import Data, Sequences, last_of, length_mask

Proposal = Literal["optimal", "bootstrap"]


@by_keyword
@torch.no_grad()
def filter(
    model: Any,
    x: Data,
    lengths: Tensor | None = None,
    *,
    num_particles: int = 1000,
    proposal: Proposal = "optimal",
    resampling: str = "systematic",
    ess_threshold: float = 0.5,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    keep: Literal["last", "all"] = "last",
    degenerate: Literal["raise", "-inf"] = "raise",
    seed: int | None = None,
) -> Filtered:
    """Filtered laws of regimes and vectors, and an unbiased estimate of p(x_{1:T}), from particles that are regimes.

    The weights are those of the particle filter of the whole state, averaged over the vectors given the regimes, so
    that their variance is at most as large: Doucet, Godsill & Andrieu (2000), sec. 4.

    Args:
        model: with `SwitchingStates` whose regimes do not read the vectors, and normal laws linear in them.
        x: a batch, observations (B, T, *event), or one sequence (T, *event), as any `Data`, NaN where one is missing.
        lengths: (B,) steps of each sequence, None for T.
        num_particles: N.
        proposal: "optimal" for q(s_t) proportional to p(s_t | s_{t-1}) p(x_t | s_{1:t}, x_{1:t-1}), "bootstrap" for the
            model's p(s_t | s_{t-1}).
        resampling: "multinomial", "stratified", "systematic", "residual" or "soft".
        ess_threshold: resample where the effective sample size is at most this part of N: 0 never, 1 at every step.
        inputs: (B, T, input_dim) for a model with inputs.
        mask: True where x was observed, (B, T) or the shape of x; None for wherever it is not NaN.
        keep: "all" keeps every step's regimes, weights and ancestors.
        degenerate: "raise" an error if all weights of a sequence are zero, or give its likelihood as "-inf".
        seed: makes the run reproducible; None uses torch's global generator.

    Raises:
        TypeError: a model without switching states, or laws of another kind.
        ValueError: observations or options that do not fit, a law that is not linear, or regimes that read the vectors.
        DegenerateWeightsError: all weights of a sequence are zero, or one is NaN; it names step and sequence.
    """
    check_choice("keep", keep, ("last", "all"))
    options = _options(num_particles, proposal, resampling, ess_threshold, degenerate=degenerate)
    data, regimes = prepared(model, x, lengths, inputs, mask), RegimeModel(model)
    with seeded(seed, stream=8), offering_minus_infinity():
        result = particles.run(regimes, data, options, keep=keep, seen={"moments": _moments(regimes)})
    last = last_of(data.x, data.lengths)
    assert result.memory is not None  # h_t has the moments
    means, covs = regimes.filtered(result.memory, result.particles, last)
    inside = length_mask(data.lengths, data.x.shape[1])
    probs, mean, cov = (
        part.where(inside[(..., *(None,) * (part.dim() - 2))], 0.0)
        for part in _unpacked(result.means["moments"], regimes)
    )
    return Filtered(
        result.log_marginal_likelihood,
        result.log_normalizers,
        probs,
        mean,
        cov,
        result.particles,
        means,
        covs,
        result.log_weights,
        result.ess,
        result.resampled,
        result.history,
    )


@by_keyword
@torch.no_grad()
def smooth(
    model: Any,
    x: Data,
    lengths: Tensor | None = None,
    *,
    num_particles: int = 1000,
    num_paths: int = 100,
    method: Literal["backward", "ancestors"] = "backward",
    proposal: Proposal = "optimal",
    resampling: str = "systematic",
    ess_threshold: float = 0.5,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    seed: int | None = None,
) -> Smoothed:
    """Smoothed laws from paths of regimes, each with the exact smoother of the vectors given it.

    Args:
        model: as for `filter`, like the arguments that are not named here.
        x: a batch, observations (B, T, *event), or one sequence (T, *event), as any `Data`, NaN where one is missing.
        lengths: (B,) steps of each sequence, None for T.
        num_particles: N, of the filter.
        num_paths: number of paths for each sequence.
        method: "backward" for backward simulation of the regimes, Lindsten et al. (2016); "ancestors" for the
            ancestral lines of the last particles, which is cheaper and has few distinct early regimes.
        proposal: the filter's proposal.
        resampling: the resampling scheme.
        ess_threshold: when to resample.
        inputs: (B, T, input_dim) for a model with inputs.
        mask: as in `filter`.
        seed: makes the run reproducible; None uses torch's global generator.

    Raises:
        TypeError, ValueError: as `filter`.
    """
    check_choice("method", method, ("backward", "ancestors"))
    check_counts(num_paths=num_paths)
    options = _options(num_particles, proposal, resampling, ess_threshold)
    data, regimes = prepared(model, x, lengths, inputs, mask), RegimeModel(model)
    with seeded(seed, stream=8):
        result = particles.run(regimes, data, options, keep="all")
        assert result.history is not None  # it was asked for
        if method == "backward":
            paths = backward_paths(regimes, result.history, data, num_paths)
        else:
            paths = ancestral_paths(result.history, num_paths)  # (num_paths, B, T)
        return _smoothed(model, data, paths, result.log_marginal_likelihood)


@by_keyword
def log_marginal_likelihood(
    model: Any,
    x: Data,
    lengths: Tensor | None = None,
    *,
    num_particles: int = 1000,
    proposal: Proposal = "optimal",
    resampling: str = "systematic",
    ess_threshold: float = 0.5,
    gradient: Literal["drop", "score"] = "score",
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    seed: int | None = None,
) -> Tensor:
    """Estimate of log p(x_{1:T}), (B,), nats, differentiable: its expectation is at most log p(x_{1:T}).

    Regimes are drawn with the parameters held fixed, and the gradient is that of the weights. With gradient="score" it
    goes through the ancestors' weights, too (Ścibior & Wood, 2021), and tends to the exact gradient as N grows, by
    Fisher's identity; "drop" leaves that out, as in Maddison et al. (2017), sec. 3.3. Other arguments are those of
    `filter`.

    Raises:
        TypeError, ValueError: as `filter`, or an unknown `gradient`.
    """
    options = _options(num_particles, proposal, resampling, ess_threshold, gradient=gradient)
    data, regimes = prepared(model, x, lengths, inputs, mask), RegimeModel(model, fixed_guide=True)
    with seeded(seed, stream=8):
        return particles.run(regimes, data, options).log_marginal_likelihood


@torch.no_grad()
def forecast(
    model: Any,
    x: Data,
    num_steps: int,
    *,
    lengths: Tensor | None = None,
    num_samples: int | None = None,
    num_particles: int = 1000,
    proposal: Proposal = "optimal",
    resampling: str = "systematic",
    ess_threshold: float = 0.5,
    inputs: Tensor | None = None,
    future_inputs: Tensor | None = None,
    mask: Tensor | None = None,
    seed: int | None = None,
) -> Forecast:
    """Draws of x_{L+1}, ..., x_{L+num_steps} given x_{1:L}, continued from the filter's last particles.

    Args:
        model: as for `filter`, like the arguments that are not named here.
        x: a batch, observations so far (B, T, *event), or those of one sequence (T, *event), as any `Data`.
        num_steps: number of steps to forecast, at least 1.
        lengths: (B,) steps of each sequence, None for T.
        num_samples: draws for each sequence; None for one draw without the leading dimension.
        num_particles: N, of the filter.
        proposal: the filter's proposal.
        resampling: the resampling scheme.
        ess_threshold: when to resample.
        inputs: (B, T, input_dim) for a model with inputs.
        future_inputs: inputs of the steps to forecast, (B, num_steps, input_dim).
        mask: as in `filter`.
        seed: makes the draws reproducible; None uses torch's global generator.

    Returns:
        x (num_samples, B, num_steps, *event) and z = (s, y) likewise.

    Raises:
        TypeError, ValueError: as `filter`, or num_steps below 1.
    """
    check_counts(num_steps=num_steps, **({} if num_samples is None else {"num_samples": num_samples}))
    options = _options(num_particles, proposal, resampling, ess_threshold)
    data, regimes = prepared(model, x, lengths, inputs, mask), RegimeModel(model)
    ahead = check_inputs(
        future_inputs, model.input_dim, example_of(model).new_empty(len(data.x), num_steps), name="future_inputs"
    )
    last = last_of(data.x, data.lengths)
    with seeded(seed, stream=8):
        result = particles.run(regimes, data, options)
        index = torch.multinomial(result.log_weights.softmax(0).mT, num_samples or 1, replacement=True).mT
        assert result.memory is not None  # h_t has the moments
        h = result.memory.gather(0, index[..., None].expand(*index.shape, result.memory.shape[-1]))
        s = result.particles.gather(0, index)
        mean, cov = regimes.filtered(h, s, last)
        y = mean + (root_of(cov) @ torch.randn_like(mean)[..., None])[..., 0]
        own = h[..., 1 + regimes.dim + regimes.dim**2 :]
        start = Start(torch.cat([s[..., None].to(y), y], dim=-1), own if own.shape[-1] else None)
        drawn = continued(model, start, last, num_steps, ahead)
    if num_samples is not None:
        return drawn
    return Forecast(drawn.x[0], None if drawn.z is None else drawn.z[0])


def approximate(
    model: Any,
    x: Data,
    lengths: Tensor | None = None,
    *,
    method: Literal["imm", "gpb1", "gpb2"] = "imm",
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
) -> Collapsed:
    """Filtered laws without randomness, by one normal law per regime; differentiable, and exact for one regime.

    Args:
        model: as for `filter`.
        x: a batch, observations (B, T, *event), or one sequence (T, *event), as any `Data`, NaN where one is missing.
        lengths: (B,) steps of each sequence, None for T.
        method: "imm" for the interacting multiple model, "gpb1" and "gpb2" for the generalised pseudo-Bayesian filters
            of first and second order; see `pgm_rnn.inference.mixture_kalman.collapsing`.
        inputs: (B, T, input_dim) for a model with inputs.
        mask: as in `filter`.

    Raises:
        TypeError, ValueError: as `filter`, or an unknown method.
    """
    check_choice("method", method, collapsing.METHODS)
    return collapsing.run(model, prepared(model, x, lengths, inputs, mask), method)


def _options(num_particles: int, proposal: str, resampling: str, ess_threshold: float, **others: Any) -> Options:
    check_choice("proposal", proposal, ("optimal", "bootstrap"))
    chosen: Any = None if proposal == "optimal" else proposal
    return Options(num_particles, chosen, None, resampling, ess_threshold, **others)


def _moments(model: RegimeModel) -> Callable[[Tensor, Any, Tensor], Tensor]:
    """What `_unpacked` takes, of each particle: indicators of the regimes, and moments around the particles' mean."""

    def packed(z: Tensor, h: Any, x: Tensor) -> Tensor:
        mean, cov = model.filtered(h, z, x)
        centre = mean.mean(0, keepdim=True).expand(mean.shape)
        far = mean - centre
        indicators = torch.nn.functional.one_hot(z, model.num_regimes).to(mean.dtype)
        return torch.cat([indicators, centre, far, (cov + far[..., :, None] * far[..., None, :]).flatten(-2)], dim=-1)

    return packed


def _unpacked(values: Tensor, model: RegimeModel) -> tuple[Tensor, Tensor, Tensor]:
    """p(s_t), E(y_t) and Cov(y_t), (B, T, ...), from the weighted means of `_moments`."""
    dim = model.dim
    probs, centre, far, square = values.split([model.num_regimes, dim, dim, dim**2], dim=-1)
    return probs, centre + far, square.unflatten(-1, (dim, dim)) - far[..., :, None] * far[..., None, :]


def _smoothed(model: Any, data: Sequences, regimes: Tensor, log_marginal: Tensor) -> Smoothed:
    """The exact smoothers of y given each path of regimes (num_paths, B, T), and their mixture."""
    num_paths, batch, num_steps = regimes.shape
    many = data._replace(legend=None).repeated(num_paths)
    chained = chain_given(model, regimes.flatten(0, 1), many)
    posterior = filtered(chained)
    y = posterior.sample_paths(many.lengths, 1)[0]
    moments = posterior.smooth(many.lengths)
    means = moments.means.unflatten(0, (num_paths, batch))
    covs = moments.covs[moments.rows].unflatten(0, (num_paths, batch))
    mean = means.mean(0)
    far = means - mean
    cov = (covs + far[..., :, None] * far[..., None, :]).mean(0)
    probs = torch.nn.functional.one_hot(regimes, model.states.num_regimes).to(mean.dtype).mean(0)
    inside = length_mask(data.lengths, num_steps)[..., None]
    paths = torch.cat([regimes[..., None].to(y.dtype), y.unflatten(0, (num_paths, batch))], dim=-1)
    kept = (paths.where(inside, 0.0), log_marginal, probs.where(inside, 0.0), mean.where(inside, 0.0))
    return Smoothed(*kept, cov.where(inside[..., None], 0.0))
