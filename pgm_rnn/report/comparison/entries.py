"""What is compared: models with their names and data, and Bayesian fits as pairs of a program and its draws."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pgm_rnn.inference.em import EmFit
from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.inference.svi import Fit
from pgm_rnn.report.comparison.base_measures import check_one_measure
from pgm_rnn.report.material import in_dtype_of
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.observations import as_batch, checked
from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.sequences import Data, Sequences

Refit = Callable[[Any, Sequences], Any]
"""Fits a model (or a `WithPriors`, for a Bayesian fit) to training sequences and returns it, or the result of the fit
(the `Posterior`)."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The log likelihood that a fit ended with, by which its training data are known again.

    Attributes:
        nats: -log p of the training data, in nats.
        num_steps: number of their steps; None if it is not known.
    """

    nats: float
    num_steps: int | None = None


@dataclass(frozen=True, eq=False)
class Entry:
    """One model, or one Bayesian fit, with the data as it takes them.

    Attributes:
        name: its name in the tables.
        model: the model; of a Bayesian fit, that of its program.
        data: the data, checked by the model.
        program: the program of a Bayesian fit, else None.
        posterior: its draws, else None.
        trained: the end of its fit, where that is known.
        refit: how it is fitted to other data; None for the default.
    """

    name: str
    model: SequenceModel
    data: Sequences
    program: WithPriors | None = None
    posterior: Posterior | None = None
    trained: Trained | None = None
    refit: Refit | None = None

    @property
    def num_series(self) -> int:
        """Number of sequences."""
        return len(self.data.lengths)


def entries_of(
    models: Mapping[str, Any], data: Data, *, mask: Tensor | None = None, fit: Refit | Mapping[str, Refit] | None = None
) -> list[Entry]:
    """The models with their data.

    Raises:
        TypeError: no mapping, or something that is neither a model, nor a fit, nor a Bayesian pair.
        ValueError: fewer than two models, data that one of them does not take, or likelihoods of two kinds.
    """
    if not isinstance(models, Mapping):
        raise TypeError(f"expected models by name, {{'A': model, 'B': model}}, got {type(models).__name__}")
    if len(models) < 2:
        raise ValueError(f"expected at least two models to compare, got {len(models)}; svi.evaluate scores one model")
    parts = {str(name): _parts(str(name), given) for name, given in models.items()}
    check_one_measure({name: part["model"].family for name, part in parts.items()})
    return [
        Entry(name, data=taken(name, part["model"], data, mask), refit=_refit_of(name, fit), **part)
        for name, part in parts.items()
    ]


def taken(name: str, model: SequenceModel, data: Data, mask: Tensor | None = None) -> Sequences:
    """The data as a model takes them.

    Raises:
        TypeError, ValueError: the model does not take them; the message says which model.
    """
    try:
        return checked(model, in_dtype_of(model, as_batch(model, data, mask=mask)))
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} does not take these data: {error}") from error


def _refit_of(name: str, fit: Refit | Mapping[str, Refit] | None) -> Refit | None:
    return fit.get(name) if isinstance(fit, Mapping) else fit


def _parts(name: str, given: Any) -> dict[str, Any]:
    """Model, program, posterior and end of the fit of what the user gave."""
    if isinstance(given, SequenceModel):
        return {"model": given}
    if isinstance(given, EmFit) and isinstance(given.model, SequenceModel):
        return {"model": given.model, "trained": Trained(-float(given.log_likelihood))}
    if isinstance(given, Fit):
        return {"model": given.model}
    if isinstance(given, Posterior):
        raise TypeError(
            f"expected a Bayesian fit as a pair (program, posterior), got the posterior alone for {name}; give the "
            "pgm_rnn.WithPriors that mcmc.run was called with, too"
        )
    pair = given if isinstance(given, tuple) and len(given) == 2 else (None, None)
    if isinstance(pair[0], WithPriors) and isinstance(pair[1], Posterior):
        if pair[0].groups is not None:
            raise ValueError(
                f"expected a program without groups to compare, got {len(pair[0].group_names)} for {name}; "
                "az.compare takes the results of pgm_rnn.to_arviz(posterior, model=program, data=data)"
            )
        _check_names(name, *pair)
        return {"model": pair[0].model, "program": pair[0], "posterior": pair[1]}
    raise TypeError(
        f"expected a SequenceModel, a result of em.fit or svi.fit, or a pair (WithPriors, posterior) for {name}, got "
        f"{type(given).__name__}"
    )


def _check_names(name: str, program: WithPriors, posterior: Posterior) -> None:
    """Raise unless the draws are those of the program's parameters."""
    if set(program.priors) != set(posterior.samples):
        raise ValueError(
            f"expected draws of {', '.join(program.priors)}, the parameters with priors, for {name}, got "
            f"{', '.join(posterior.samples)}; pair each posterior with its own program"
        )
