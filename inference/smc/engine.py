"""The engine's functions: each checks its arguments and sets the seed; the modules beside this one do the work."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.checks import by_keyword, check_choice, check_counts
from pgm_rnn.inference.smc.forecasting import continued, drawn_particles
from pgm_rnn.inference.smc.paths import ancestral_paths, backward_paths, fixed_lag_states
from pgm_rnn.inference.smc.results import Filtered
from pgm_rnn.inference.smc.run import Function, checked_for_smc, run
from pgm_rnn.inference.smc.two_passes import in_two_passes
from pgm_rnn.particles import Lookahead, Options, Proposal
from pgm_rnn.particles.errors import offering_minus_infinity
from pgm_rnn.particles.noise import Noise
from pgm_rnn.randomness import seeded
from pgm_rnn.results import shown
from pgm_rnn.sequence_model import Forecast, SequenceModel, memory_of
from pgm_rnn.sequence_model.conditionals import example_of
from pgm_rnn.sequence_model.observations import check_inputs
from pgm_rnn.sequences import Data, length_mask


class Smoothed(NamedTuple):
    """Result of `smooth`.

    Attributes:
        paths: state paths of equal weight, (num_paths, B, T, *latent), 0 in the padding.
        log_marginal_likelihood: the filter's estimate, (B,), nats.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "log_marginal_likelihood", "paths")

    paths: Tensor
    log_marginal_likelihood: Tensor


@by_keyword
@torch.no_grad()
def filter(
    model: SequenceModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    num_particles: int = 1000,
    proposal: Proposal | Literal["bootstrap"] | None = None,
    resampling: str = "systematic",
    ess_threshold: float = 0.5,
    lookahead: Lookahead | None = None,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    functions: Mapping[str, Function] | None = None,
    keep: Literal["last", "all"] = "last",
    degenerate: Literal["raise", "-inf"] = "raise",
    noise: Noise | None = None,
    seed: int | None = None,
) -> Filtered:
    """Particles for p(z_t | x_{1:t}) and an estimate of p(x_{1:T}); memory does not grow with T unless steps are kept.

    Args:
        model: any model with latent states.
        x: a batch, observations (B, T, *event), or one sequence (T, *event), as any `Data`.
        lengths: (B,) steps of each sequence, None for T.
        num_particles: N.
        proposal: None for the model's own guide, "bootstrap" for its transition, or a function.
        resampling: "multinomial", "stratified", "systematic", "residual" or "soft".
        ess_threshold: resample where the effective sample size is at most this part of N: 0 never, 1 at every step.
        lookahead: makes the filter auxiliary.
        inputs: (B, T, input_dim) for a model with inputs.
        mask: True where x was observed, (B, T) or the shape of x; None for wherever it is not NaN. What is missing is
            integrated out of the weights.
        functions: functions of state and memory whose filtered means are wanted, by name.
        keep: "all" keeps every step's particles, weights and ancestors.
        degenerate: "raise" an error if all weights of a sequence are zero, or give its likelihood as "-inf".
        noise: the uniforms of every step, such as `pgm_rnn.particles.noise.SeededNoise`; the filter is then a
            function of them and x.
        seed: makes the run reproducible; None uses torch's global generator.

    Raises:
        TypeError: a model without latent states.
        ValueError: observations or options that do not fit.
        DegenerateWeightsError: all weights of a sequence are zero, or one is NaN; it names step and sequence.
    """
    options = Options(num_particles, proposal, lookahead, resampling, ess_threshold, degenerate=degenerate, noise=noise)
    check_choice("keep", keep, ("last", "all"))
    with seeded(seed, stream=8), offering_minus_infinity():
        return run(model, checked_for_smc(model, x, lengths, inputs, mask), options, functions, keep)


@by_keyword
@torch.no_grad()
def smooth(
    model: SequenceModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    num_particles: int = 1000,
    num_paths: int = 100,
    method: Literal["backward", "ancestors", "fixed-lag"] = "backward",
    lag: int = 10,
    proposal: Proposal | Literal["bootstrap"] | None = None,
    resampling: str = "systematic",
    ess_threshold: float = 0.5,
    lookahead: Lookahead | None = None,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    seed: int | None = None,
) -> Smoothed:
    """State paths that approximate draws from p(z_{1:T} | x_{1:T}); the filter's history is kept on the way.

    Args:
        model: any model with latent states; for method="backward" without a memory that reads them.
        x: a batch, observations (B, T, *event), or one sequence (T, *event), as any `Data`.
        lengths: (B,) steps of each sequence, None for T.
        num_particles: N, of the filter.
        num_paths: number of paths for each sequence.
        method: "backward" for backward simulation, Godsill, Doucet & West (2004), alg. 1; "ancestors" for the ancestral
            lines of the last particles; "fixed-lag" for draws of each state from the particles `lag` steps later, which
            are not joint draws of a path.
        lag: at least 1, for method="fixed-lag".
        proposal: as in `filter`, like the arguments that follow.
        resampling: the resampling scheme.
        ess_threshold: when to resample.
        lookahead: the lookahead of an auxiliary filter.
        inputs: (B, T, input_dim) for a model with inputs.
        mask: as in `filter`.
        seed: makes the run reproducible; None uses torch's global generator.

    Raises:
        TypeError, ValueError: as `filter`, or a memory that reads states for method="backward".
    """
    check_choice("method", method, ("backward", "ancestors", "fixed-lag"))
    check_counts(num_paths=num_paths, lag=lag)
    if method == "backward" and isinstance(model, SequenceModel) and model.memory_reads_state:
        raise ValueError(
            f"expected a model whose memory reads no states for method='backward', got {type(model).__name__}, whose "
            "memory reads them; use method='ancestors'"
        )
    options = Options(num_particles, proposal, lookahead, resampling, ess_threshold)
    data = checked_for_smc(model, x, lengths, inputs, mask)
    with seeded(seed, stream=8):
        result = run(model, data, options, keep="all")
        assert result.history is not None  # it was asked for
        if method == "ancestors":
            paths = ancestral_paths(result.history, num_paths)
        elif method == "fixed-lag":
            paths = fixed_lag_states(result.history, num_paths, lag)
        else:
            h = memory_of(model).unroll(data.x, None, data.inputs)
            paths = backward_paths(model, result.history, data.lengths, h, num_paths)
    inside = length_mask(data.lengths, data.x.shape[1])
    paths = paths.where(inside[(...,) + (None,) * (paths.dim() - 3)], 0)
    return Smoothed(paths, result.log_marginal_likelihood)


@torch.no_grad()
def forecast(
    model: SequenceModel,
    x: Data,
    num_steps: int,
    *,
    lengths: Tensor | None = None,
    num_samples: int | None = None,
    num_particles: int = 1000,
    proposal: Proposal | Literal["bootstrap"] | None = None,
    resampling: str = "systematic",
    ess_threshold: float = 0.5,
    inputs: Tensor | None = None,
    future_inputs: Tensor | None = None,
    mask: Tensor | None = None,
    seed: int | None = None,
) -> Forecast:
    """Draws of x_{L+1}, ..., x_{L+num_steps} given x_{1:L}, continued from the filter's last particles.

    It is `SequenceModel.forecast` for any model with latent states; it becomes exact as the number of particles grows.

    Args:
        model: any model with latent states.
        x: a batch, observations so far (B, T, *event), or those of one sequence (T, *event), as any `Data`.
        num_steps: number of steps to forecast, at least 1.
        lengths: (B,) steps of each sequence, None for T.
        num_samples: draws for each sequence; None for one draw without the leading dimension.
        num_particles: N, of the filter.
        proposal: as in `filter`, like the two arguments that follow.
        resampling: the resampling scheme.
        ess_threshold: when to resample.
        inputs: (B, T, input_dim) for a model with inputs.
        future_inputs: inputs of the steps to forecast, (B, num_steps, input_dim).
        mask: as in `filter`.
        seed: makes the draws reproducible; None uses torch's global generator.

    Returns:
        x (num_samples, B, num_steps, *event) and z likewise.

    Raises:
        TypeError, ValueError: as `filter`.
    """
    check_counts(num_steps=num_steps, **({} if num_samples is None else {"num_samples": num_samples}))
    options = Options(num_particles, proposal, None, resampling, ess_threshold)
    data = checked_for_smc(model, x, lengths, inputs, mask)
    future_inputs = check_inputs(
        future_inputs, model.input_dim, example_of(model).new_empty(len(data.x), num_steps), name="future_inputs"
    )
    with seeded(seed, stream=8):
        result = run(model, data, options)
        last = data.x[torch.arange(len(data.x), device=data.x.device), data.lengths - 1]
        drawn = continued(model, drawn_particles(result, num_samples or 1), last, num_steps, future_inputs)
    if num_samples is not None:
        return drawn
    return Forecast(drawn.x[0], None if drawn.z is None else drawn.z[0])


@by_keyword
def log_marginal_likelihood(
    model: SequenceModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    num_particles: int = 1000,
    resample: Literal["adaptive", "never", "always"] = "adaptive",
    proposal: Proposal | Literal["bootstrap"] | None = None,
    lookahead: Lookahead | None = None,
    resampling: str = "systematic",
    gradient: Literal["drop", "score"] = "drop",
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    seed: int | None = None,
) -> Tensor:
    """Estimate of log p(x_{1:T}), (B,), nats, differentiable through particles and weights.

    It is the filtering variational objective (FIVO) of Maddison et al. (2017), sec. 3, alg. 1: its expectation is at
    most log p(x_{1:T}). Without resampling it is the importance-weighted bound (IWAE) of Burda et al. (2016), eq. (8);
    with one particle it is the evidence lower bound (ELBO). `resample="adaptive"` resamples at half the particles.
    Other arguments and errors are those of `filter`. The gradient through the choice of ancestors is left out unless
    gradient="score" (Ścibior & Wood, 2021). A seed gives the same draws every time, but may give others with gradients
    than without: that of a deep model's guide runs in another order.

    Raises:
        TypeError, ValueError: as `filter`, or an unknown `resample`.
    """
    check_choice("resample", resample, _THRESHOLDS)
    options = Options(num_particles, proposal, lookahead, resampling, _THRESHOLDS[resample], gradient)
    with seeded(seed, stream=8):
        data = checked_for_smc(model, x, lengths, inputs, mask)
        found = in_two_passes(model, data, options)
        return run(model, data, options).log_marginal_likelihood if found is None else found


_THRESHOLDS = {"adaptive": 0.5, "never": 0.0, "always": 1.0}
