"""The interface of a law of labels y given a sequence x.

    tagging          p(y_{1:T} | x_{1:T}) = prod_t p(y_t | h_t),   h_t a function of x
    classification   p(y | x_{1:T}) = p(y | h),                    h a function of x

A model defines how h is computed from x; its densities, program and checks are derived here, once. T is each sequence's
own length, so padding has no influence.
"""

from abc import ABC, abstractmethod
from itertools import count
from typing import Any, Literal

import pyro
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_choice
from pgm_rnn.coerce import as_tensor
from pgm_rnn.emissions import Categorical, Emission
from pgm_rnn.emissions.family import EmissionHead
from pgm_rnn.sequence_model.observations import check_observations
from pgm_rnn.sequences import last_of as last_of  # for laws of labels of one's own
from pgm_rnn.sequences import length_mask

Task = Literal["tagging", "classification"]


class LabelModel(nn.Module, ABC):
    """A law of labels given a sequence, p(y | x_{1:T}).

    It has no law of the sequence itself, so it is no `SequenceModel`, and `svi.fit` and the other engines do not take
    it. Train it by `supervised.fit`, by `pgm-rnn fit`, or with Pyro's `Trace_ELBO`; save it by `save_model`.

    A model defines `hidden`, `ends` and `recipe`, and sets `readout` to `labels.head(width)` in its constructor.

    Args:
        inputs: the family whose values the sequence has.
        labels: the family of the labels.
        task: "tagging" for a label at every step, "classification" for one of the sequence.

    Attributes:
        causal: whether a step's label depends only on the sequence up to that step.
        readout: maps h, (..., width), to the law of a label.
        site_prefix: the name under which Pyro's global store keeps the parameters.

    Raises:
        ValueError: an unknown task.
    """

    _instances = count()
    causal: bool
    readout: EmissionHead

    def __init__(self, inputs: Emission, labels: Emission, task: Task) -> None:
        super().__init__()
        check_choice("task", task, ("tagging", "classification"))
        self.inputs, self.labels = inputs, labels
        self.task: Task = task
        self.site_prefix = f"{type(self).__name__}_{next(LabelModel._instances)}"

    @property
    @abstractmethod
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """The model's name, and the options besides inputs and labels that make a model of the same shape."""

    @abstractmethod
    def hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        """h_t at every step, (batch, T, width), zero in the padding, for sequences that have been checked."""

    @abstractmethod
    def ends(self, h: Tensor, lengths: Tensor) -> Tensor:
        """The part of h_{1:T} from which a label of the whole sequence is read, (batch, width)."""

    def features(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """h, from which the labels are read.

        Args:
            x: one sequence per row, (batch, T, *event).
            lengths: (batch,) steps of each sequence, None for T.

        Returns:
            (batch, T, width) with zeros in the padding for tagging, (batch, width) for classification.

        Raises:
            ValueError, TypeError: values that do not fit the model.
        """
        return self._features(*self._checked_inputs(x, lengths))

    def label_law(self, x: Tensor, lengths: Tensor | None = None) -> TorchDistribution:
        """p(y_t | x), batch shape (batch, T), or p(y | x), batch shape (batch,).

        The law at a step of the padding has no meaning. Arguments and errors are those of `features`.
        """
        law: TorchDistribution = self.readout(self.features(x, lengths))
        return law

    def log_prob(self, y: Tensor, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """log p(y | x_{1:T}), summed over the steps for tagging: nats, (batch,).

        Args:
            y: labels, (batch, T, *label) for tagging, (batch, *label) for classification.
            x: one sequence per row, (batch, T, *event).
            lengths: (batch,) steps of each sequence, None for T.

        Raises:
            ValueError, TypeError: values that do not fit the model.
        """
        y, x, lengths = self.check(y, x, lengths)
        law: TorchDistribution = self.readout(self._features(x, lengths))
        log_probs: Tensor = law.log_prob(y)
        if self.task == "classification":
            return log_probs
        return log_probs.where(length_mask(lengths, x.shape[1]), 0.0).sum(-1)

    def check(self, y: Tensor, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The arguments of `log_prob`, with zeros in the padding and in the model's dtype.

        Raises:
            ValueError, TypeError: values that do not fit the model.
        """
        x, lengths = self._checked_inputs(x, lengths)
        return self._checked_labels(y, x, lengths), x, lengths

    def predict(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The most probable label of each step (batch, T), or of each sequence (batch,).

        Raises:
            TypeError: labels that are not symbols.
            ValueError: values that do not fit the model.
        """
        if not isinstance(self.labels, Categorical):
            raise TypeError(f"expected labels that are symbols, got {self.labels}; use the mean of label_law(x)")
        found: Tensor = self.label_law(x, lengths).logits.argmax(-1)
        return found

    def model(self, x: Tensor, lengths: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """The Pyro program of p(y | x_{1:T}): a deterministic site "h", the features, and a site "y", the labels.

        Args:
            x: one sequence per row, (batch, T, *event).
            lengths: (batch,) steps of each sequence, None for T.
            y: labels as for `log_prob`; None draws them.

        Returns:
            The labels.

        Raises:
            ValueError, TypeError: values that do not fit the model.
        """
        x, lengths = self._checked_inputs(x, lengths)
        y = None if y is None else self._checked_labels(y, x, lengths)
        if not pyro.settings.get("module_local_params"):
            pyro.module(self.site_prefix, self)
        with pyro.plate("sequences", len(x), dim=-1):
            h = pyro.deterministic("h", self._features(x, lengths), event_dim=2 if self.task == "tagging" else 1)
            law = self.readout(h)
            if self.task == "tagging":
                law = law.mask(length_mask(lengths, x.shape[1])).to_event(1)
            found: Tensor = pyro.sample("y", law, obs=y)
        return found

    def guide(self, x: Tensor, lengths: Tensor | None = None, y: Tensor | None = None) -> None:
        """The Pyro guide, which is empty: nothing is latent once the labels are given."""

    def _features(self, x: Tensor, lengths: Tensor) -> Tensor:
        h = self.hidden(x, lengths)
        return h if self.task == "tagging" else self.ends(h, lengths)

    def _checked_inputs(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        return check_observations(self.inputs, x, lengths, self.readout.weight)

    def _checked_labels(self, y: Tensor, x: Tensor, lengths: Tensor) -> Tensor:
        """Labels in the model's dtype, with zeros in the padding."""
        expected = (*x.shape[: 2 if self.task == "tagging" else 1], *self.labels.event_shape)
        y = as_tensor("labels", y)
        if expected[0] == 1 and tuple(y.shape) == expected[1:]:
            y = y[None]  # those of one sequence
        if y.shape != expected:
            raise ValueError(f"expected labels of shape {expected} for {self.task}, got {tuple(y.shape)}")
        if self.task == "classification":
            return check_observations(self.labels, y[:, None], None, self.readout.weight, name="labels")[0][:, 0]
        return check_observations(self.labels, y, lengths, self.readout.weight, name="labels")[0]


def one_family(number_name: str, number: int | None, family_name: str, family: Emission | None) -> Emission:
    """The given family, or Categorical(number); exactly one of the two is given.

    Raises:
        ValueError: both or none of them.
        TypeError: a family of another type.
    """
    if (number is None) == (family is None):
        raise ValueError(
            f"expected exactly one of {number_name} and {family_name}, such as {number_name}=3, got "
            f"{'neither' if family is None else 'both'}"
        )
    if number is not None:
        return Categorical(number)
    if not isinstance(family, Emission):
        raise TypeError(f"expected a family such as Bernoulli(88) as {family_name}, got {type(family).__name__}")
    return family
