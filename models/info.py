"""Registry entries of models, which the command line, storage, the README and the tests read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pgm_rnn.emissions import Emission
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.label_model import LabelModel


@dataclass(frozen=True)
class Size:
    """An argument of a model's maker that `pgm-rnn fit` offers as an option.

    Attributes:
        help: the option's help text, one sentence.
        default: the command's default; None uses the maker's default.
        shown: text that the help shows in place of a default that is None.
        kind: int or str.
        choices: the allowed values; empty if any value is allowed.
        repeats: whether the option may be given several times, for one value per part of the model.
    """

    help: str
    default: int | str | None = None
    shown: str = "its own"
    kind: type[int] | type[str] = int
    choices: Sequence[str] = ()
    repeats: bool = False

    def chosen(self, given: Any) -> Any:
        """The maker's argument from what the command line was given: one value if an option that repeats has one."""
        return given[0] if self.repeats and len(given) == 1 else given


NUM_STATES = Size("Number of hidden states.", shown="needed")
LATENT_DIM = Size("Number of entries of the latent state z.")
FIRST = Size(
    'Whether the first p observations are modelled or given: "model" or "condition".',
    "model",
    kind=str,
    choices=("model", "condition"),
)
HIDDEN_DIM = Size("Width of the hidden state, or of the networks.")

STEPS: Mapping[str, object] = {"num_epochs": 150, "batch_size": 16, "learning_rate": 1e-2}
"""Options of a fit by gradient steps on an exact likelihood, where the command line differs from `svi.fit`."""
STEPS_ON_A_BOUND: Mapping[str, object] = {**STEPS, "learning_rate": 3e-3, "objective": "elbo"}
"""The same for a fit on a lower bound."""
LABEL_STEPS: Mapping[str, object] = {**STEPS, "learning_rate": 3e-3, "batch_size": 32}
"""The same for a law of labels, where the command line differs from `supervised.fit`."""


@dataclass(frozen=True)
class GradientFit:
    """`pgm-rnn fit` of a model by gradient steps.

    Attributes:
        help: one sentence, for the list of commands.
        sizes: options of the model, by the names of its maker's arguments.
        defaults: defaults of training options that differ from `svi.fit`, by name. If they contain an `objective`, the
            model is fitted by a bound, and the command has the options of bounds.
        command: name of the command; empty for the model's name.
        named_by: the size whose value ends the model's name, COMMAND-VALUE, if one command fits several models.
        valid_fraction: the fraction of a file that is used for early stopping by default.
    """

    help: str
    sizes: Mapping[str, Size]
    defaults: Mapping[str, object] = field(default_factory=lambda: STEPS)
    command: str = ""
    named_by: str | None = None
    valid_fraction: float = 0.1

    @property
    def by_bound(self) -> bool:
        """Whether the fit maximises a lower bound on the likelihood."""
        return "objective" in self.defaults


@dataclass(frozen=True)
class ModelInfo:
    """An entry of the zoo; it stands at the end of the model's file.

    Attributes:
        name: its name for `get_model`.
        make: its maker, called with sizes and options by keyword.
        memory: description of h, or "-".
        latent: description of z, or "-".
        source: the corresponding object in the papers.
        smallest: options of a minimal instance to look at.
        families: classes of the families of observations that it takes; subclasses are taken, too.
        refuses: classes of families that it does not take all the same.
        shares_weights: whether it takes families whose members share weights, through `Emission.head`.
        only_vectors: whether it takes vectors only.
        only_numbers: whether it takes series of one variable only.
        title: its title in the README's table, in Markdown; models with equal titles share a row.
        fit: the command line's fit by gradient steps; None if its command uses EM or there is none.
        inputs: the maker's argument for the number of inputs; empty for a model that takes none.
        small: sizes of an instance for the tests.
        unbounded_memory: whether h of such an instance grows so fast that no grid of values covers its sequences.
        stepped_parameters: parameters in which its likelihood is a step function, so that the gradient is zero.
    """

    name: str
    make: Callable[..., SequenceModel]
    memory: str
    latent: str
    source: str
    smallest: Mapping[str, object]
    families: tuple[type[Emission], ...] = (Emission,)
    refuses: tuple[type[Emission], ...] = ()
    shares_weights: bool = False
    only_vectors: bool = False
    only_numbers: bool = False
    title: str = ""
    fit: GradientFit | None = None
    inputs: str = ""
    small: Mapping[str, int] = field(default_factory=dict)
    unbounded_memory: bool = False
    stepped_parameters: tuple[str, ...] = ()

    def takes(self, family: Emission) -> bool:
        """Whether the model takes observations of this family."""
        stands_alone = self.shares_weights or not family.needs_head
        of_size = bool(family.event_shape) if self.only_vectors else not self.only_numbers or _is_one(family)
        kept = isinstance(family, self.families) and not isinstance(family, self.refuses)
        return kept and stands_alone and of_size

    @property
    def command(self) -> str:
        """The model's name for `pgm-rnn fit`."""
        return (self.fit.command if self.fit else "") or self.name


def _is_one(family: Emission) -> bool:
    """Whether an observation is one number."""
    return family.event_shape.numel() == 1


@dataclass(frozen=True)
class LabelInfo:
    """An entry of the registry of laws of labels; it stands at the end of the model's file.

    Attributes:
        name: its name in saved models, in the trained zoo and on the command line.
        make: its maker, called with sizes, `inputs`, `labels` and `task` as keywords.
        help: one sentence, for the list of commands.
        sizes: options of the model on the command line, by the names of its maker's arguments; the value of the first
            numeric one is part of the name of a fit's folder.
        defaults: defaults of training options that differ from `supervised.fit`, by name.
    """

    name: str
    make: Callable[..., LabelModel]
    help: str
    sizes: Mapping[str, Size]
    defaults: Mapping[str, object] = field(default_factory=lambda: LABEL_STEPS)
