"""A model of the same kind fitted to other sequences, from a start that has never seen those that are held out.

MarkovChain           by counts
HMM                   EM from k-means and random starts, as `pgm-rnn fit hmm`
LinearGaussianSSM     em.fit from `linear_start`, as `pgm-rnn fit lgssm`
any other             svi.fit of a model that is made again, with random parameters

A fit that began at the present parameters would begin at what the held-out sequences have taught them.
"""

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from pgm_rnn.emissions import Emission, Pen
from pgm_rnn.inference import em, svi
from pgm_rnn.inference.em import EmWarning
from pgm_rnn.inference.svi.objectives import chosen_objective
from pgm_rnn.inference.svi.options import among
from pgm_rnn.inference.svi.plan import Plan
from pgm_rnn.models import HMM, LinearGaussianSSM, MarkovChain
from pgm_rnn.models.linear_start import linear_start
from pgm_rnn.randomness import seeded
from pgm_rnn.report.comparison.entries import Refit
from pgm_rnn.report.hmm_fit import fit_by_em
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from pgm_rnn.storage.making import described_as, made

HMM_OPTIONS: dict[str, Any] = {"num_restarts": 4, "pseudo_count": 0.1}
LINEAR_OPTIONS: dict[str, Any] = {"num_iterations": 500}
PSEUDO_COUNT = 0.1
"""Options of the default fits; those of a saved fit take their place."""
SPARE = 5
"""Number of training sequences from which on every fifth one is set aside to stop a fit by gradient steps."""
ORDER_STREAM = 21


def refitted(model: SequenceModel, train: Sequences, refit: Refit | None, *, seed: int) -> SequenceModel:
    """The model fitted to other sequences by the user's function, or by the default for its kind.

    Raises:
        TypeError: the function returns something else.
        KeyboardInterrupt: the fit was interrupted.
    """
    found = default_refit(model, train, seed=seed) if refit is None else refit(copy.deepcopy(model), train)
    if getattr(found, "stopped_by", None) == "interrupt":
        raise KeyboardInterrupt
    fitted = getattr(found, "model", found) if not isinstance(found, SequenceModel) else found
    if not isinstance(fitted, SequenceModel):
        raise TypeError(f"expected fit= to return a model or the result of a fit, got {type(found).__name__}")
    return fitted


def default_refit(
    model: SequenceModel, train: Sequences, *, seed: int = 0, options: Mapping[str, Any] | None = None
) -> Any:
    """The result of a fit of a model of the same kind.

    Args:
        model: the model, which stays as it is.
        train: the training sequences.
        seed: random seed of starts and of the order of the data.
        options: options of the fit in place of the default ones: of em.fit, of svi.fit, or `pseudo_count`.
    """
    given = dict(options or {})
    if isinstance(model, MarkovChain):
        count = given.get("pseudo_count", PSEUDO_COUNT)
        return MarkovChain.from_counts(*train[:2], emission=model.family, pseudo_count=count, first=model.first)
    if isinstance(model, HMM) and model.first == "model" and _has_closed_form(model.family):
        return fit_by_em(copy.deepcopy(model), train, seed=seed, progress=False, **HMM_OPTIONS | given).found
    if isinstance(model, LinearGaussianSSM) and model.input_dim is None and model.first == "model":
        fresh = linear_start(train, latent_dim=model.latent_dim)
        keeps_initial = len(train.lengths) <= model.latent_dim  # as in `pgm-rnn fit lgssm`
        frozen = ("initial_mean", "initial_cov") if keeps_initial else ()
        return _by_em(fresh, train._replace(x=train.x.double()), frozen=frozen, **LINEAR_OPTIONS | given)
    return _by_gradient(model, train, seed, given)


def _has_closed_form(family: Emission) -> bool:
    """Whether EM has a closed form for an HMM with such observations: not for mixtures."""
    return not (isinstance(family, Pen) and family.num_components > 1)


def made_again(model: SequenceModel) -> SequenceModel:
    """A model of the same kind and size with random parameters, from its recipe or from its class and arguments.

    Raises:
        TypeError: a model that cannot be made again.
    """
    try:
        description, arguments = described_as(model, dict(model.state_dict()), {})
        again = made(description, model_class=None if model.has_recipe else type(model), tensors=arguments)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"expected a model that can be made again from its arguments, got {type(model).__name__}; give fit=, a "
            "function that fits it"
        ) from error
    assert isinstance(again, SequenceModel)  # as the model is
    return again


def _by_em(model: SequenceModel, train: Sequences, **options: Any) -> em.EmFit:
    """EM without a bar of its own; its warnings on single folds are left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmWarning)
        return em.fit(model, train, progress=False, **options)


def _by_gradient(model: SequenceModel, train: Sequences, seed: int, options: Mapping[str, Any]) -> Any:
    fresh = made_again(model)
    if not any(parameter.requires_grad for parameter in fresh.parameters()):
        return copy.deepcopy(model)  # nothing that could have seen the data
    objective = chosen_objective(fresh, options.get("objective"))
    given = among(options, Plan) | {"objective": objective, "progress": False, "seed": seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", svi.FitWarning)  # on single folds
        return svi.fit(fresh, *_parted(train, seed), **given)


def _parted(train: Sequences, seed: int) -> tuple[Sequences, Sequences | None]:
    """Sequences to fit to, and those that stop the fit early; None if there are few."""
    num = len(train.lengths)
    if num < SPARE:
        return train, None
    with seeded(seed, stream=ORDER_STREAM):
        order = torch.randperm(num)
    return train.select(order[num // SPARE :].sort().values), train.select(order[: num // SPARE].sort().values)
