"""The definition of a model: its conditional laws, and plain attributes that engines read.

    h_t = recurrence(h_{t-1}, z_{t-1}, x_{t-1})     deterministic memory, h_1 = initial_memory
    z_t ~ transition(z_{t-1}, h_t)                  latent state, z_1 ~ initial(h_1)
    x_t ~ emission(z_t, h_t)                        observation,   t = 1..T

Values of z are (*batch, *latent), h is (*batch, memory_dim) and x is (*batch, *event), with the same number of leading
axes, any of which may have size 1: particles, sequences and steps occur together. Methods broadcast, and a law's batch
shape need only broadcast to *batch. Without memory and inputs h is None; without a latent state z is None.
"""

from abc import abstractmethod
from itertools import chain
from typing import Any, Literal, Self

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.nn import PyroModule
from torch import Tensor, nn

from pgm_rnn.checks import check_choice
from pgm_rnn.emissions import Emission
from pgm_rnn.sequence_model.constructor import bound_arguments
from pgm_rnn.sequence_model.first_state import of_finite_states, of_linear_states, of_switching_states
from pgm_rnn.sequence_model.memory import Inputs, Memory, Recurrence, WithInputs
from pgm_rnn.sequence_model.random_attributes import ModelMeta, make_random, note_random
from pgm_rnn.states import (
    NUMBERED,
    FiniteStates,
    GaussianStates,
    ProductStates,
    SemiMarkovStates,
    States,
    SwitchingStates,
)

First = Literal["model", "condition"]

STANDS_FOR = {
    "advance": ("recurrence",),
    "unroll_memory": ("recurrence",),
    "draw_guide": ("recurrence", "proposal"),
    "state_log_probs": ("initial", "transition"),
    "chain": ("initial", "transition", "emission"),
    "sum_out_states": ("initial", "transition", "emission"),
    "last_states": ("initial", "transition", "emission"),
    "initial_given": ("initial", "emission"),
    "initial_probs": ("initial",),
    "transition_probs": ("transition",),
    "emission_log_probs": ("emission",),
}
"""Optional methods that engines call in place of conditionals, with the conditionals that they must agree with."""


class Conditionals(nn.Module, metaclass=ModelMeta):
    """The conditional laws of a sequence model; `SequenceModel` derives everything else from them.

    Args:
        family: the family of observation laws; fixes event shape, dtype and valid values.
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Attributes:
        states: the kind of latent state, or None if there is none; see `pgm_rnn.states`. The default is `States()` in
            a class that has a `transition`.
        initial_memory: h_1, (memory_dim,), or None for a model without memory. A tensor that a class names becomes a
            buffer of each instance.
        input_dim: width of exogenous inputs u_t, or None. With inputs every method sees h = cat(memory, u_t).
        memory_reads_observations: whether `recurrence` reads x_{t-1}; if not, observations may be missing.
        memory_reads_state: whether `recurrence` reads z_{t-1}. If not, it gets z = None, and exact engines apply.
        transition_reads_state: whether the laws of z_t, the model's and the guide's, read z_{t-1} besides h_t; True
            again in a subclass that defines one of them and does not say.
        reparametrised: whether draws of z_t are differentiable (`rsample`); those of finite and of switching states
            never are.
        has_proposal: whether the guide differs from the model's own laws; set where a class has a `proposal`.
        has_recipe: whether the class itself defines `recipe`, by which a registry makes the model again.
        laws_are_known: whether the methods are made from those of another model, which is the one to check.
        checked_as: the structure that the model had when its methods were checked (`law_checks`), None before.
        constructor_arguments: what the model was made with (`constructor`), by which its class makes it again; None in
            a class that has a recipe.
    """

    states: States | None = None
    input_dim: int | None = None
    memory_reads_observations: bool = True
    memory_reads_state: bool = False
    transition_reads_state: bool = True
    reparametrised: bool = True
    has_proposal: bool = False
    has_recipe: bool = False
    laws_are_known: bool = False
    checked_as: tuple[object, ...] | None = None
    initial_memory: Tensor | None
    constructor_arguments: dict[str, Any] | None
    _first_memory: Tensor | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Set the attributes that depend on which methods the class has, its own or those of its bases.

        Raises:
            TypeError: the class defines a conditional and inherits a method that stands for it and does not know it.
        """
        super().__init_subclass__(**options)
        own = vars(cls)
        if cls.states is None and "states" not in own and _place(cls, "transition") < _place(cls):
            cls.states = States()
        if "has_proposal" not in own:
            cls.has_proposal = _place(cls, "proposal") < _place(cls)
        if "transition_reads_state" not in own and own.keys() & {"initial", "transition", "proposal"}:
            cls.transition_reads_state = True
        if isinstance(own.get("initial_memory", 0), Tensor | None):
            cls._first_memory = cls.initial_memory
            del cls.initial_memory
        for method, laws in STANDS_FOR.items():
            _check_stands_for(cls, method, laws)
        cls.has_recipe = "recipe" in own
        if issubclass(cls, PyroModule):
            make_random(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """A model that knows the arguments with which it is made, before its constructor runs."""
        made = super().__new__(cls)
        vars(made)["constructor_arguments"] = None if cls.has_recipe else bound_arguments(cls, args, kwargs)
        return made

    def __init__(self, family: Emission, first: First = "model") -> None:
        super().__init__()
        check_choice("first", first, ("model", "condition"))
        self.family = family
        self.first: First = first
        if not hasattr(type(self), "initial_memory"):
            self.register_buffer("initial_memory", None if self._first_memory is None else self._first_memory.clone())

    def __setattr__(self, name: str, value: Any) -> None:
        note_random(self, name, value)
        super().__setattr__(name, value)

    def recurrence(self, h: Any, z: Any, x: Tensor) -> Tensor:
        """h_t from h_{t-1} (..., memory_dim), z_{t-1} (..., *latent) and x_{t-1} (..., *event): (..., memory_dim).

        Raises:
            NotImplementedError: a model without memory.
        """
        raise NotImplementedError(f"{type(self).__name__} has no memory")

    def initial(self, h: Any) -> TorchDistribution:
        """Law of z_1 given h_1.

        Raises:
            NotImplementedError: a model without latent state.
        """
        raise NotImplementedError(f"{type(self).__name__} has no latent state")

    def initial_given(self, h: Any, x: Tensor) -> TorchDistribution:
        """Law of z_1 given h_1 and x_1, which a model with latent states needs for first="condition" (`first_state`).

        Raises:
            ValueError: a model that does not have it in closed form: its states are neither finitely many, nor linear
                Gaussian, nor switching.
        """
        if isinstance(self.states, NUMBERED):
            return of_finite_states(self, self.states.num_states, h, x)
        if isinstance(self.states, GaussianStates) and self.states.linear:
            return of_linear_states(self, self.states.dim, h, x)
        if isinstance(self.states, SwitchingStates):
            return of_switching_states(self, self.states, h, x)
        raise ValueError(
            f"first='condition' needs p(z_1 | x_1), which {type(self).__name__} does not have in closed form; "
            "use first='model'"
        )

    def transition(self, z: Any, h: Any) -> TorchDistribution:
        """Law of z_t given z_{t-1} and h_t.

        Raises:
            NotImplementedError: a model without latent state.
        """
        raise NotImplementedError(f"{type(self).__name__} has no latent state")

    @abstractmethod
    def emission(self, z: Any, h: Any) -> TorchDistribution:
        """Law of x_t given z_t and h_t, event shape that of the family."""

    def proposal(self, z: Any, h: Any, features: Any) -> TorchDistribution:
        """The guide's q(z_t | z_{t-1}, h_t, features_t), z_{t-1} = None at t = 1; by default the model's own law."""
        return self.initial(h) if z is None else self.transition(z, h)

    def encode(self, x: Tensor, lengths: Tensor) -> Tensor | None:
        """Precomputes the features of x that the proposal reads, (batch, T, num_features); None by default.

        Entries of x in the padding and those that are missing are zeros.
        """
        return None

    @property
    def has_latent(self) -> bool:
        """Whether there is a latent state z."""
        return self.states is not None

    @property
    def exact(self) -> bool:
        """Whether log p(x_{1:T}), with latent states summed out, is known in closed form."""
        linear = isinstance(self.states, GaussianStates) and self.states.linear
        many = isinstance(self.states, ProductStates) and not self.states.are_few
        known = linear or (isinstance(self.states, FiniteStates) and not many)
        with_durations = isinstance(self.states, SemiMarkovStates) and hasattr(self, "duration_probs")
        return self.states is None or with_durations or (known and not self.memory_reads_state)

    @property
    def num_given(self) -> int:
        """Number of first observations that are given, not modelled: 1 with first="condition", otherwise 0."""
        return int(self.first == "condition")

    def _recurrence(self) -> Recurrence:
        """The object that steps the memory; `mixins` override it with faster ones."""
        assert self.initial_memory is not None  # callers have checked
        return Recurrence(self.initial_memory, self.recurrence, self.memory_reads_state)


def _place(cls: type, name: str | None = None) -> int:
    """The place in the method resolution order of the first class that defines a name, None for that of the default."""
    if name is None:
        return cls.__mro__.index(Conditionals)
    return next((i for i, base in enumerate(cls.__mro__) if name in vars(base)), len(cls.__mro__))


def _check_stands_for(cls: type, method: str, laws: tuple[str, ...]) -> None:
    """Raise if a class defines one of the laws, and inherits the method that stands for them from further up.

    Raises:
        TypeError: it does.
    """
    place = _place(cls, method)
    if place >= _place(cls) or getattr(getattr(cls, method), "__isabstractmethod__", False):
        return
    for law in laws:
        if _place(cls, law) < place:
            raise TypeError(
                f"expected {cls.__name__} to define {method} as well as {law}, got the {method} inherited from "
                f"{cls.__mro__[place].__name__}, which ignores the new {law}; define both, or derive from SequenceModel"
            )


def memory_of(model: Conditionals) -> Memory:
    """The memory of a model, with its present parameters."""
    if model.initial_memory is None:
        return Memory() if model.input_dim is None else Inputs()
    own = model._recurrence()
    return own if model.input_dim is None else WithInputs(own)


def follows_parameters(model: Conditionals) -> bool:
    """Whether draws of the latent states are differentiable in the parameters."""
    return model.reparametrised and not isinstance(model.states, NUMBERED | SwitchingStates)


def spread(law: TorchDistribution, batch: torch.Size) -> TorchDistribution:
    """A law over at least this batch, so that each of the batch has its own draw: batch shapes need only broadcast."""
    return law if law.batch_shape == batch else law.expand(torch.broadcast_shapes(law.batch_shape, batch))


def example_of(model: nn.Module) -> Tensor:
    """A tensor with the model's device and floating dtype: its first parameter or buffer, or torch's default."""
    return next((t for t in chain(model.parameters(), model.buffers()) if t.is_floating_point()), torch.empty(0))


def check_states(states: States | None, z: Any, mask: Tensor) -> Tensor:
    """Latent states with a fixed value in the padding, where the mask (batch, T) is False.

    Raises:
        TypeError: finite states that are no integers.
        ValueError: states of another shape or device, or outside 0..K - 1.
    """
    if not isinstance(z, Tensor) or z.shape[:2] != mask.shape:
        got = tuple(z.shape) if isinstance(z, Tensor) else z
        third = "; lengths come after z, or as lengths=..." if got == tuple(mask.shape[:1]) else ""
        raise ValueError(f"expected z of shape {tuple(mask.shape)} + latent shape, got {got}{third}")
    if z.device != mask.device:
        raise ValueError(f"expected z on {mask.device}, where x is, got {z.device}; move it with .to")
    latent = _event_of(states)
    if latent is not None and z.shape[2:] != latent:
        raise ValueError(f"expected z of shape {(*mask.shape, *latent)}, got {tuple(z.shape)}")
    z = z.where(mask[(...,) + (None,) * (z.dim() - 2)], 0)
    if isinstance(states, SwitchingStates):
        _numbered(z[..., 0].nan_to_num(-1.0).floor().long(), states.num_regimes, "regimes z[..., 0]")
    return _numbered(z, states.num_states) if isinstance(states, NUMBERED) else z


def _event_of(states: States | None) -> tuple[int, ...] | None:
    """The event shape of a state of this kind, None if the kind does not say."""
    if isinstance(states, NUMBERED):
        return ()
    if isinstance(states, GaussianStates):
        return (states.dim,)
    return (1 + states.dim,) if isinstance(states, SwitchingStates) else None


def _numbered(z: Tensor, num_states: int, what: str = "states") -> Tensor:
    """Numbers of states as int64."""
    if z.is_floating_point() or z.dtype == torch.bool:
        raise TypeError(f"expected states z as integers, got {z.dtype}; use z.long()")
    if bool(((z < 0) | (z >= num_states)).any()):
        raise ValueError(f"expected {what} in 0..{num_states - 1}, got {int(z.min())}..{int(z.max())}")
    return z.long()
