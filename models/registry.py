"""The registry of models; storage, the command line, the README and the tests get all models from it."""

from collections.abc import Mapping

from pgm_rnn.checks import check_choice
from pgm_rnn.models import (
    autoregressive_hmm,
    belief_rnn,
    deep_markov,
    factorial_hmm,
    hmm,
    hsmm,
    input_hmm,
    linear_gaussian,
    markov_chain,
    multi_particle_rnn,
    noisy_rnn,
    particle_filter_rnn,
    recurrent_hmm,
    rnn,
    stochastic_volatility,
    structural,
    switching_linear,
    switching_mean_ar,
    vrnn,
)
from pgm_rnn.models.info import ModelInfo
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel

MODELS: Mapping[str, ModelInfo] = {
    info.name: info
    for info in (
        *rnn.INFOS,
        markov_chain.INFO,
        hmm.INFO,
        hsmm.INFO,
        factorial_hmm.INFO,
        autoregressive_hmm.INFO,
        switching_mean_ar.INFO,
        input_hmm.INFO,
        recurrent_hmm.INFO,
        belief_rnn.INFO,
        particle_filter_rnn.INFO,
        multi_particle_rnn.INFO,
        linear_gaussian.INFO,
        structural.INFO,
        switching_linear.INFO,
        deep_markov.INFO,
        vrnn.INFO,
        noisy_rnn.INFO,
        stochastic_volatility.INFO,
    )
}
"""Every model by its name."""


def list_models(contains: str = "") -> list[str]:
    """Names of the models that contain a string."""
    return [name for name in MODELS if contains in name]


def model_info(name: str, *, models: Mapping[str, ModelInfo] = MODELS) -> ModelInfo:
    """The registry entry of a model.

    Args:
        name: one of `list_models()`.
        models: the registry; `MODELS` with entries of your own added to it, for example.

    Raises:
        ValueError: an unknown name; the closest one is suggested.
    """
    check_choice("model", name, models)
    return models[name]


def get_model(name: str, *, seed: int | None = None, **options: object) -> SequenceModel:
    """A fresh model of the zoo, for example `get_model("rnn-lstm", num_symbols=3)`.

    Args:
        name: one of `list_models()`.
        seed: makes its initial parameters reproducible; None uses torch's global generator.
        options: arguments of the model's class.

    Raises:
        TypeError: an unknown option.
        ValueError: an unknown name, or options that the model refuses.
    """
    return made_by(model_info(name), seed=seed, **options)


def made_by(info: ModelInfo, *, seed: int | None = None, **options: object) -> SequenceModel:
    """A fresh model of an entry; arguments and errors as `get_model`."""
    with seeded(seed):
        return info.make(**options)
