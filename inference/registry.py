"""The registry of the engines. The contract tests run each engine on every model, and `ENGINES` has their names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyro.distributions import Normal

from pgm_rnn.inference import em, forward_backward, gibbs, kalman, mcmc, mean_field, mixture_kalman, pmmh, smc, svi
from pgm_rnn.inference.em.gaussian_em import is_trainable
from pgm_rnn.inference.forward_backward.problem import has_finite_states
from pgm_rnn.inference.kalman.kinds import is_linear
from pgm_rnn.inference.mixture_kalman.problem import has_switching_states
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.sequence_model.products import has_chains
from pgm_rnn.sequences import Sequences


@dataclass(frozen=True)
class Engine:
    """An entry of the registry of engines.

    Attributes:
        name: its name in the package.
        takes: whether the engine can run on a model, judged by the model's attributes.
        example: a quick run on a model and a ragged batch. On a model that the engine cannot run on, it raises a
            TypeError that says what the engine needs.
    """

    name: str
    takes: Callable[[SequenceModel], bool]
    example: Callable[[SequenceModel, Sequences], object]


def has_likelihood(model: SequenceModel) -> bool:
    """Whether log p(x) has a closed form."""
    return model.exact


def has_latent_states(model: SequenceModel) -> bool:
    """Whether there is a latent state z."""
    return model.states is not None


def is_fitted_by_em(model: SequenceModel) -> bool:
    """Whether the E-step is exact: finitely many states, or linear-Gaussian ones whose parameters can be replaced."""
    return has_finite_states(model) or is_trainable(model)


def one_prior(model: SequenceModel) -> WithPriors:
    """A program in which the model's first parameter is random."""
    name, value = next(iter(model.named_parameters()))
    return WithPriors(model, {name: Normal(value.detach(), 0.1)})


ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine("em", is_fitted_by_em, lambda model, data: em.fit(model, data, num_iterations=2, progress=False)),
        Engine(
            "forward_backward",
            has_finite_states,
            lambda model, data: forward_backward.smooth(model, data),
        ),
        Engine(
            "gibbs",
            has_chains,
            lambda model, data: gibbs.sample_states(model, data, num_samples=2, num_burn_in=1),
        ),
        Engine("kalman", is_linear, lambda model, data: kalman.smooth(model, data)),
        Engine(
            "mixture_kalman",
            has_switching_states,
            lambda model, data: mixture_kalman.smooth(model, data, num_particles=20, num_paths=5),
        ),
        Engine(
            "mcmc",
            has_likelihood,
            lambda model, data: mcmc.run(one_prior(model), data, num_samples=2, num_warmup=2, progress=False),
        ),
        Engine("mean_field", has_chains, lambda model, data: mean_field.smooth(model, data, num_sweeps=2)),
        Engine(
            "pmmh",
            has_latent_states,
            lambda model, data: pmmh.run(one_prior(model), data, num_samples=2, num_warmup=2, progress=False),
        ),
        Engine(
            "smc",
            has_latent_states,
            lambda model, data: smc.filter(model, data, num_particles=20),
        ),
        Engine("svi", lambda model: True, lambda model, data: svi.fit(model, data, num_epochs=1, progress=False)),
    )
}
"""Every engine by its name."""
