"""The error of an engine that cannot run a model, which names an engine that can, judged by the model's `states`."""

from pgm_rnn.states import FiniteStates, GaussianStates, described


def unsuitable(engine: str, wanted: str, model: object) -> TypeError:
    """The TypeError of an engine that cannot run a model; its message names an engine that can.

    Args:
        engine: the engine's name, such as "kalman".
        wanted: the property that it needs, such as "Gaussian states".
        model: the model that it was given.
    """
    has = described(getattr(model, "states", None))
    return TypeError(f"{engine} needs a model with {wanted}, {type(model).__name__} has {has}; {_taker(model)}")


def _taker(model: object) -> str:
    states = getattr(model, "states", None)
    if not hasattr(model, "states"):
        return "expected a SequenceModel, such as RNN or HMM"
    if states is None:
        return "svi.evaluate gives its exact likelihood"
    if getattr(model, "memory_reads_state", False):
        return "smc and svi take it"
    if isinstance(states, FiniteStates):
        return "forward_backward takes it"
    if isinstance(states, GaussianStates):
        return "kalman takes it" if states.linear else "kalman takes it by a method, smc and svi take it too"
    return "smc and svi take it"
