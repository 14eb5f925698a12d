"""The objectives of `svi.fit`: the log likelihood, or a lower bound on it from the model's guide.

    mle     log p(x), for a model that is `exact`: Pyro's ELBO, which is tight there
    elbo    (1/K) sum_k log w^k, by Pyro's Trace_ELBO
    iwae    log (1/K) sum_k w^k, sequence by sequence (`bounds`)
    fivo    the log of a particle filter's estimate of p(x) (`smc`), resampled where the effective sample size is low;
            for switching states whose vectors can be summed out, that of `mixture_kalman`

The draws are reparametrised, and the gradient goes through them. The gradient of a filter's resampling is left out, as
in Maddison et al. (2017), sec. 3.3, so that FIVO's gradient is biased; `mixture_kalman` keeps it. Under KL annealing
the ELBO's term log p(z) - log q(z) has a weight below 1 at first (Bowman et al., 2016, sec. 3.1).
"""

from collections.abc import Callable
from typing import Any

from pyro.infer import Trace_ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.inference import mixture_kalman, smc
from pgm_rnn.inference.mixture_kalman.problem import has_switching_states, sums_out_vectors
from pgm_rnn.inference.svi import bounds
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.conditionals import follows_parameters
from pgm_rnn.sequences import Sequences

OBJECTIVES = ("mle", "elbo", "iwae", "fivo")

Objective = Callable[[Sequences], Tensor]
"""The loss of a batch: minus the objective, summed over sequences, in nats."""


class ScaledLatents(Messenger):
    """Multiplies the log density of every site that is not observed, in a model or a guide, by `weight`.

    Example:
        >>> from pyro import distributions as dist, poutine, sample
        >>> with ScaledLatents(0.5):
        ...     trace = poutine.trace(lambda: sample("z", dist.Normal(0.0, 1.0))).get_trace()
        >>> trace.nodes["z"]["scale"]
        0.5
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.weight


def chosen_objective(model: SequenceModel, objective: str | None) -> str:
    """The objective's name; None stands for "mle" if the model is `exact` and for "elbo" otherwise.

    Raises:
        ValueError: the name is unknown, or the model cannot be fitted by this objective.
    """
    name = type(model).__name__
    if objective is None:
        return "mle" if model.exact else "elbo"
    check_choice("objective", objective, OBJECTIVES)
    if objective == "mle" and not model.exact:
        raise ValueError(f"expected objective elbo, iwae or fivo for {name}, which has no exact likelihood, got mle")
    if objective == "fivo" and model.states is None:
        raise ValueError(f"expected objective mle for {name}, which has no latent states, got fivo")
    return objective


def check_objective(
    model: SequenceModel, objective: str, num_particles: int, kl_warmup: float, data: Sequences
) -> None:
    """Check that the objective is defined for this model, with these options and data.

    Raises:
        ValueError: it is not; the message names an objective that is, or the option at fault.
    """
    if not (isinstance(kl_warmup, int | float) and 0 <= kl_warmup < float("inf")):
        raise ValueError(f"expected kl_warmup to be a number of epochs, at least 0, got {kl_warmup!r}")
    if kl_warmup and (objective != "elbo" or model.exact):
        raise ValueError(
            f"expected kl_warmup only with objective elbo of a model that has a guide of its states, got {kl_warmup} "
            f"with {objective} of {type(model).__name__}; leave kl_warmup out, there is no KL term to anneal"
        )
    if objective == "mle" and num_particles > 1:
        raise ValueError(f"expected num_particles only with elbo, iwae and fivo, got {num_particles} with mle")
    follows = bounds.check_guide(model, data.select(slice(0, 1)))  # judged by the distributions that the guide makes
    if not (objective == "iwae" and model.exact):
        follows = follows and follows_parameters(model)
    follows = follows or (objective == "fivo" and sums_out_vectors(model, data))
    if objective in ("iwae", "fivo") and not follows:
        other = "mle" if model.exact else "elbo"
        raise ValueError(
            f"expected reparametrised draws of states for objective {objective}, got discrete states from "
            f"{type(model).__name__}; use {other}"
        )


def make_objective(model: SequenceModel, objective: str, num_particles: int) -> Callable[[float], Objective]:
    """The loss, for a weight of log p(z) - log q(z) that is 1 unless the ELBO is annealed."""
    if objective == "fivo":
        filtering: Any = mixture_kalman if has_switching_states(model) else smc
        return lambda weight: (
            lambda data: -filtering.log_marginal_likelihood(model, data, num_particles=num_particles).sum()
        )
    if objective == "iwae":
        return lambda weight: (
            lambda data: -bounds.iwae(bounds.log_weights(model, data, num_particles=num_particles)).sum()
        )
    elbo = Trace_ELBO()(model.model, model.guide)  # type: ignore[arg-type]

    def annealed(weight: float) -> Objective:
        def loss(data: Sequences) -> Tensor:
            many = data.repeated(num_particles)
            if weight == 1:
                return elbo(many) / num_particles
            with ScaledLatents(weight):
                return elbo(many) / num_particles

        return loss

    return annealed
