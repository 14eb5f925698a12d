"""What a model of the zoo says of itself to the registry, the command line, the README and the tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pgm_rnn.emissions import Emission
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.label_model import LabelModel


@dataclass(frozen=True)
class Size:
    """An argument of a model's maker that `pgm-rnn fit` offers as an option.

    Attributes:
        help: one sentence.
        default: what the command takes if nothing is given; None leaves it to the maker.
        shown: what the help shows in place of a default that is None.
        kind: int or str.
        choices: the values that there are, or none for any.
    """

    help: str
    default: int | str | None = None
    shown: str = "its own"
    kind: type[int] | type[str] = int
    choices: Sequence[str] = ()


NUM_STATES = Size("Number of hidden states.", shown="needed")
LATENT_DIM = Size("Number of entries of the latent state z.")
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
        help: one sentence, for the list of the commands.
        sizes: options of the model, by the names of its maker's arguments.
        defaults: of the training options, by their names in `svi.fit`, where the command line has others. With an
            `objective` among them the model is fitted by a bound, and the command has the options of bounds.
        command: what the command is called; empty for the model's name.
        named_by: the size whose value ends the model's name, COMMAND-VALUE, where one command fits several models.
    """

    help: str
    sizes: Mapping[str, Size]
    defaults: Mapping[str, object] = field(default_factory=lambda: STEPS)
    command: str = ""
    named_by: str | None = None

    @property
    def by_bound(self) -> bool:
        """Whether the fit maximises a lower bound on the likelihood."""
        return "objective" in self.defaults


@dataclass(frozen=True)
class ModelInfo:
    """An entry of the zoo; it stands at the end of the model's file.

    Attributes:
        name: what `get_model` calls it.
        make: its maker, called with sizes and options by keyword.
        memory: what h is, or "-".
        latent: what z is, or "-".
        source: the paper's object.
        smallest: options for an instance to look at.
        families: the families of observations that it takes are these classes and their subclasses.
        shares_weights: whether it takes families whose members share weights, by `Emission.head`.
        only_vectors: whether it takes vectors only.
        title: what the README's table calls it, in Markdown; models with equal rows share one.
        fit: how the command line fits it by gradient steps; None if it has another command, for EM, or none.
        small: sizes of an instance for the tests.
        unbounded_memory: whether h of such an instance grows so fast that its sequences leave every grid.
        stepped_parameters: parameters in which its likelihood is a step function, so that the gradient is zero.
    """

    name: str
    make: Callable[..., SequenceModel]
    memory: str
    latent: str
    source: str
    smallest: Mapping[str, object]
    families: tuple[type[Emission], ...] = (Emission,)
    shares_weights: bool = False
    only_vectors: bool = False
    title: str = ""
    fit: GradientFit | None = None
    small: Mapping[str, int] = field(default_factory=dict)
    unbounded_memory: bool = False
    stepped_parameters: tuple[str, ...] = ()

    def takes(self, family: Emission) -> bool:
        """Whether observations of this family can be given to the model."""
        stands_alone = self.shares_weights or not family.needs_head
        return isinstance(family, self.families) and stands_alone and bool(family.event_shape or not self.only_vectors)

    @property
    def command(self) -> str:
        """What `pgm-rnn fit` calls the model."""
        return (self.fit.command if self.fit else "") or self.name


@dataclass(frozen=True)
class LabelInfo:
    """An entry of the registry of laws of labels; it stands at the end of the model's file.

    Attributes:
        name: what saved models, the trained zoo and the command line call it.
        make: its maker, called with sizes, `inputs`, `labels` and `task` by keyword.
        help: one sentence, for the list of the commands.
        sizes: options of the model at the command line, by the names of its maker's arguments; the first one that is a
            number names the folder of a fit.
        defaults: of the training options, by their names in `supervised.fit`, where the command line has others.
    """

    name: str
    make: Callable[..., LabelModel]
    help: str
    sizes: Mapping[str, Size]
    defaults: Mapping[str, object] = field(default_factory=lambda: LABEL_STEPS)
