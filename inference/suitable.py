"""The errors of an engine that cannot run a model: it names an engine that can, judged by the model's `states`."""

from torch import nn

from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.states import (
    FiniteStates,
    GaussianStates,
    ProductStates,
    SemiMarkovStates,
    SwitchingStates,
    described,
)

_WITH_PRIORS = (
    "use mcmc.run, or Pyro's SVI with an automatic guide, such as AutoNormal(program), for the posterior of its "
    "parameters; program.model_at(draw) is a model for every engine"
)


def no_model(model: object) -> TypeError:
    """The TypeError of an engine that is given something else than a SequenceModel.

    Args:
        model: what it was given.
    """
    way_out = f"; {_WITH_PRIORS}" if isinstance(model, WithPriors) else ""
    return TypeError(f"expected a SequenceModel, such as RNN or HMM, got {type(model).__name__}{way_out}")


def check_trainable(engine: str, model: object, *, by_gradient: bool = True) -> None:
    """Raise if a model has nothing to train.

    Args:
        engine: the engine's name, such as "svi.fit".
        model: the model.
        by_gradient: whether only parameters that require a gradient count.

    Raises:
        ValueError: a model without such parameters.
    """
    if isinstance(model, nn.Module) and not any(p.requires_grad or not by_gradient for p in model.parameters()):
        kind = (
            "parameters that require a gradient"
            if by_gradient and any(True for _ in model.parameters())
            else "parameters"
        )
        raise ValueError(
            f"expected a model with {kind} for {engine}, got {type(model).__name__}, in which there is nothing to "
            "train; svi.evaluate gives its score"
        )


def unsuitable(engine: str, wanted: str, model: object) -> TypeError:
    """The TypeError of an engine that cannot run a model; its message names an engine that can.

    Args:
        engine: the engine's name, such as "kalman".
        wanted: the property that it needs, such as "Gaussian states".
        model: the model that it was given.
    """
    has = described(getattr(model, "states", None))
    counts = isinstance(getattr(model, "states", None), SemiMarkovStates)
    has += " and a memory that reads them" if getattr(model, "memory_reads_state", False) and not counts else ""
    return TypeError(f"expected a model with {wanted} for {engine}, {type(model).__name__} has {has}; {_taker(model)}")


def em_unsuitable(model: object) -> TypeError:
    """The TypeError of EM, which fits linear Gaussian models of the zoo only; the message names another fit.

    Args:
        model: the model that it was given.
    """
    states = getattr(model, "states", None)
    if not isinstance(states, GaussianStates) or not states.linear or getattr(model, "memory_reads_state", False):
        return unsuitable("em", "finite or linear Gaussian states", model)
    return TypeError(
        f"expected a LinearGaussianSSM among models with linear Gaussian states for em, got {type(model).__name__}, "
        "whose matrices have no closed M-step; use svi.fit, which maximises the same exact likelihood"
    )


def _taker(model: object) -> str:
    states = getattr(model, "states", None)
    if isinstance(model, WithPriors):
        return _WITH_PRIORS
    if not hasattr(model, "states"):
        return "give a SequenceModel, such as RNN or HMM"
    if states is None:
        return "use svi.evaluate, which gives its exact likelihood"
    if isinstance(states, SemiMarkovStates):
        return "use forward_backward" if hasattr(model, "duration_probs") else "use smc or svi"
    if getattr(model, "memory_reads_state", False):
        return "use smc or svi"
    if isinstance(states, ProductStates) and not states.are_few:
        return "use mean_field, gibbs or smc"
    if isinstance(states, FiniteStates):
        return "use forward_backward"
    if isinstance(states, GaussianStates):
        return "use kalman" if states.linear else "use kalman with a method, smc or svi"
    return "use mixture_kalman, smc or svi" if isinstance(states, SwitchingStates) else "use smc or svi"
