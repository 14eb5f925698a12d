"""The goals of gradient fits: minus the log probability of sequences, or of their labels.

    sequences    loss = -sum_i L_i,   L_i = log p(x^{(i)}) or a bound on it            in nats per step
    labels       loss = -sum_i log p(y^{(i)} | x^{(i)})                                in nats per label

A goal knows its model, its data and the unit that its loss is divided by. The loop in `training` only knows goals.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from pgm_rnn.emissions import Emission
from pgm_rnn.inference.svi import label_scores
from pgm_rnn.inference.svi.evaluation import evaluate, modelled_steps, num_modelled
from pgm_rnn.inference.svi.label_scores import Labelled, label_counts
from pgm_rnn.inference.svi.objectives import make_objective
from pgm_rnn.inference.svi.plan import Epoch, Plan
from pgm_rnn.particles import DegenerateWeightsError
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.label_model import LabelModel
from pgm_rnn.sequences import Sequences


class Goal(ABC):
    """The loss of a batch, the unit that it is divided by, and the loss on the validation data.

    Attributes:
        model: the model that is fitted.
        family: emission family of the sequences that the model reads.
        train: the sequences of the training data.
        num_valid: number of validation sequences, None without validation data.
        unit: the unit that the loss is divided by, "step" or "label".
    """

    model: nn.Module
    family: Emission
    train: Sequences
    num_valid: int | None
    unit: Literal["step", "label"]

    @abstractmethod
    def num_units(self, index: Tensor) -> int:
        """Number of steps or labels of the training sequences at `index`."""

    @abstractmethod
    def batch(self, index: Tensor) -> Any:
        """The training sequences at `index`, in the form that `loss` takes."""

    @abstractmethod
    def loss(self, batch: Any, weight: float) -> Tensor:
        """Minus the objective, summed over the sequences, in nats; `weight` multiplies log p(z) - log q(z), if any."""

    @abstractmethod
    def valid_nats(self, index: Tensor) -> float:
        """Loss of the validation sequences at `index`, in nats; infinite if a particle filter lost all particles."""

    @abstractmethod
    def num_valid_units(self) -> int:
        """Number of steps or labels of the validation data."""

    @abstractmethod
    def described(self) -> str:
        """The model's name, options and families. Two runs with the same description fit the same model."""

    @abstractmethod
    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None]:
        """The tensors of the training and of the validation data."""

    def measured(self, entry: Epoch, rate: float, weight: float) -> dict[str, float | None]:
        """An epoch's numbers for a metrics file, by name."""
        _, train, valid, seconds = entry
        losses = {f"train_nats_per_{self.unit}": train, f"valid_nats_per_{self.unit}": valid}
        return {"epoch": entry.epoch, **losses, "seconds": seconds, "learning_rate": rate}


class SequenceGoal(Goal):
    """The log likelihood of sequences, or a bound on it, as a goal.

    Args:
        model: the model to fit.
        train: the training data.
        valid: the validation data, or None.
        plan: the objective and its number of particles.
    """

    unit = "step"

    def __init__(self, model: SequenceModel, train: Sequences, valid: Sequences | None, plan: Plan) -> None:
        self.model: SequenceModel = model
        self.family, self.train, self.valid, self.plan = model.family, train, valid, plan
        self.num_valid = None if valid is None else len(valid.lengths)
        self.objective = make_objective(model, plan.objective, plan.num_particles)
        self.counts = modelled_steps(model, train)

    @override
    def num_units(self, index: Tensor) -> int:
        return int(self.counts[index.to(self.counts.device)].sum())

    @override
    def batch(self, index: Tensor) -> Sequences:
        return self.train.select(index.to(self.train.x.device))

    @override
    def loss(self, batch: Sequences, weight: float) -> Tensor:
        try:
            return self.objective(weight)(batch)
        except DegenerateWeightsError:  # NaN ends the run; it must depend on the parameters so that backward can run
            return math.nan * torch.stack([p.sum() for p in self.model.parameters() if p.requires_grad]).sum()

    @override
    def valid_nats(self, index: Tensor) -> float:
        assert self.valid is not None
        bound = "exact" if self.plan.objective == "mle" else self.plan.objective
        if int(modelled_steps(self.model, self.valid)[index].sum()) == 0:
            return 0.0
        options: dict[str, Any] = {"num_particles": self.plan.judges, "seed": self.plan.seed}
        try:
            found = evaluate(self.model, self.valid.select(index), bound=bound, **options)
        except (DegenerateWeightsError, FloatingPointError):
            return math.inf
        return -float(found.log_likelihoods.double().sum())

    @override
    def num_valid_units(self) -> int:
        assert self.valid is not None
        return num_modelled(self.model, self.valid)

    @override
    def described(self) -> str:
        name, options = _recipe(self.model)
        return f"{name} {options}, {_family(self.family)}, first={self.model.first}"

    @override
    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None]:
        return _observations(self.train), None if self.valid is None else _observations(self.valid)

    @override
    def measured(self, entry: Epoch, rate: float, weight: float) -> dict[str, float | None]:
        return super().measured(entry, rate, weight) | {"kl_weight": weight}


class LabelGoal(Goal):
    """The log probability of labels given their sequences, as a goal.

    Args:
        model: the label model to fit.
        train: the training data.
        valid: the validation data, or None.
    """

    unit = "label"

    def __init__(self, model: LabelModel, train: Labelled, valid: Labelled | None) -> None:
        self.model: LabelModel = model
        self.family, self.train, self.labelled, self.valid = model.inputs, train.inputs, train, valid
        self.num_valid = None if valid is None else len(valid.labels)
        self.counts = label_counts(model, train)

    @override
    def num_units(self, index: Tensor) -> int:
        return int(self.counts[index.to(self.counts.device)].sum())

    @override
    def batch(self, index: Tensor) -> Labelled:
        return self.labelled.select(index.to(self.labelled.labels.device))

    @override
    def loss(self, batch: Labelled, weight: float) -> Tensor:
        return -self.model.log_prob(batch.labels, batch.inputs.x, batch.inputs.lengths).sum()

    @override
    def valid_nats(self, index: Tensor) -> float:
        assert self.valid is not None
        if len(index) == 0:
            return 0.0
        return -float(label_scores.log_probs(self.model, self.valid.select(index)).double().sum())

    @override
    def num_valid_units(self) -> int:
        assert self.valid is not None
        return int(label_counts(self.model, self.valid).sum())

    @override
    def described(self) -> str:
        name, options = _recipe(self.model)
        return f"{name} {options}, {_family(self.model.inputs)}, labels {_family(self.model.labels)}"

    @override
    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None]:
        parts = [None if data is None else (*data.inputs[:2], data.labels) for data in (self.labelled, self.valid)]
        assert parts[0] is not None
        return parts[0], parts[1]


def _observations(data: Sequences) -> tuple[Tensor, ...]:
    """What a fit reads of the data: observations, lengths and, where something is missing, what was observed."""
    return data[:2] if data.observed is None else (*data[:2], data.observed)


def _recipe(model: SequenceModel | LabelModel) -> tuple[str, dict[str, Any]]:
    """The zoo's name and options of a model, or the class of one's own and the arguments of its constructor."""
    if isinstance(model, LabelModel) or model.has_recipe:
        return model.recipe
    arguments = model.constructor_arguments or {}
    return type(model).__name__, {name: _without_numbers(value) for name, value in arguments.items()}


def _without_numbers(value: Any) -> Any:
    """An argument with the shape of a tensor in place of its numbers, from which a fit may begin anew."""
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return [_without_numbers(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_numbers(each) for name, each in value.items()}
    return value


def _family(family: Emission) -> str:
    return f"{type(family).__name__} {vars(family)}"
