"""Checks of a model's methods: that they return what every engine relies on (`conditionals`).

    initial, transition    laws of z_1 and z_2: the event shape of z; for finite states, probabilities that sum to one;
                           for several chains, a law for each that reads the state before of that chain alone
    proposal               the guide's laws of z_1 and z_2, where there are any: the event shape of z
    emission               laws of x_1 and x_2: event shape and kind of values of the family
    recurrence             h_2: (*batch, memory_dim), finite; it gets no z unless memory_reads_state
    all                    batch shapes that broadcast over values of z, particles and sequences

A violation is an error that names the method and the step. The methods are called once for each model, at the beginning
of its first run, with the run's first sequence, repeated; and again when the kind of its states, memory or inputs has
changed. A copy counts as checked. Classes with a recipe, those of the zoo, are tested elsewhere and not checked; nor is
a `PyroModule`, in which a call may be a draw of parameters.
"""

from contextlib import suppress
from typing import Any

import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor

from pgm_rnn.checks import check_probs
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import law_faults as faults
from pgm_rnn.sequence_model.conditionals import Conditionals, example_of, memory_of
from pgm_rnn.sequence_model.law_faults import Place
from pgm_rnn.sequence_model.products import laws_of_chains
from pgm_rnn.sequence_model.regimes import regime_law
from pgm_rnn.sequence_model.tables import LARGEST_OF_CHAINS
from pgm_rnn.states import FiniteStates, GaussianStates, ProductStates, SwitchingStates, described

_SIZES = (2, 3, 5, 7, 11, 13, 17)
"""Sizes for axes, so that none is mistaken for another."""


def check_laws(
    model: Conditionals, x: Tensor | None = None, inputs: Tensor | None = None, *, values: bool = True
) -> None:
    """Raise unless the model's methods return what engines rely on, as far as two steps show it.

    Args:
        model: the model.
        x: valid observations, (batch, T, *event); None draws them.
        inputs: (batch, T, input_dim) for a model with inputs; None for zeros.
        values: whether the present parameters are those of the run, so that NaN is a fault, too.

    Raises:
        ValueError: a law or a memory of another shape, of other values, or not normalised; it names method and step.
        TypeError: something else in place of a law or memory, or a recurrence that reads z and gets none.
    """
    memory = model.initial_memory
    now = (model.states, model.input_dim, model.memory_reads_state, None if memory is None else memory.shape)
    known = model.has_recipe or model.laws_are_known or isinstance(model, PyroModule)
    if known or model.checked_as == now:
        return
    if x is None and model.first == "condition":  # its laws begin with x_1
        return
    with torch.no_grad(), seeded(0), poutine.block(), suppress(faults.Unclear):
        if values:
            check_tables(model)
        if model.states is not None or not hasattr(model, "emission_log_probs"):
            _TwoSteps(model, x, inputs, values=values).check()
    model.checked_as = now


def check_tables(model: Any) -> None:
    """Raise unless the tables that a model gives by hand, if any, are probabilities.

    Raises:
        ValueError: `initial_probs` or `transition_probs` of another shape, negative, or with rows of another sum.
    """
    if not hasattr(model, "emission_log_probs"):
        return
    name, initial, transition = type(model).__name__, model.initial_probs, model.transition_probs
    check_probs(f"initial_probs of {name}", initial, (None,))
    rows = transition if transition.dim() == 2 else transition.reshape(-1, transition.shape[-1])
    check_probs(f"transition_probs of {name}", rows, (None, len(initial)))


class _TwoSteps:
    """The methods at t = 1 and t = 2, for B sequences and several values of z.

    Where tables are made, z is (K, 1) and h (1, B, dim); otherwise z is (N, B, *latent) and h (N, B, dim), as in a
    particle filter. Without a latent state h is (B, dim).
    """

    def __init__(self, model: Conditionals, x: Tensor | None, inputs: Tensor | None, *, values: bool) -> None:
        self.model, self.x, self.memory, self.values = model, x, memory_of(model), values
        if inputs is None and model.input_dim is not None:
            inputs = example_of(model).new_zeros(1, 1, model.input_dim)
        self.inputs = inputs
        self.states, self.event = model.states, tuple(model.family.event_shape)
        self.tables = isinstance(self.states, FiniteStates) and not model.memory_reads_state and not self._has_many
        taken = {*self.event, *(() if model.initial_memory is None else model.initial_memory.shape), model.input_dim}
        taken |= {getattr(self.states, name, None) for name in ("num_states", "num_regimes", "dim")}
        self.batch, self.num = [size for size in _SIZES if size not in taken][:2]
        if isinstance(self.states, FiniteStates) and self.tables:
            self.num = self.states.num_states

    def check(self) -> None:
        """Call each method and look at what it returns."""
        self._check_initial_memory()
        h = first = self.memory.start(self.batch, self._first(self.inputs, 1))
        if self.states is None:
            z = None
        elif self.model.first == "condition" and type(self.model).initial_given is not Conditionals.initial_given:
            z = self._state("initial_given", 1, self._beside(h), self._first(self.x, 1))
        else:
            z = self._state("initial", 1, self._beside(h))
        x = self._observation(1, z, h)
        h = self._next_memory(h, z, x)
        before, z = z, None if z is None else self._state("transition", 2, z, self._beside(h))
        self._observation(2, z, h)
        if before is not None and self.model.has_proposal and self.x is not None:
            self._check_proposals(before, first, h)

    def _first(self, values: Tensor | None, step: int) -> Any:
        """The values of the first sequence at a step, or at its last one, for every sequence: (B, ...)."""
        if values is None:
            return None
        one = values[0, min(step, values.shape[1]) - 1]
        return one.expand(self.batch, *one.shape)

    def _at(self, method: str, step: int) -> Place:
        return Place(method, type(self.model).__name__, step)

    def _check_initial_memory(self) -> None:
        h = self.model.initial_memory
        if h is not None and (h.dim() != 1 or not h.is_floating_point()):
            raise ValueError(
                f"expected initial_memory of {type(self.model).__name__} of shape (memory_dim,) and floating point, "
                f"got {tuple(h.shape)} of {h.dtype}; a memory of one number is (1,)"
            )

    def _next_memory(self, h: Any, z: Tensor | None, x: Tensor) -> Any:
        """h_2, (B, dim), or (N, B, dim) where it reads z."""
        place, reads_z = self._at("recurrence", 2), z is not None and self.model.memory_reads_state
        read = self.memory.read(x, self._first(self.inputs, 2))
        if self.model.initial_memory is None:
            return self.memory.step(h, z, read)
        if reads_z:
            h, read = h.expand(self.num, *h.shape), self.memory.repeated(read, self.num)
        try:
            found = self.memory.step(h, z, read)
        except Exception as error:
            faults.bad_recurrence(place, error, blind=z is not None and not reads_z)
        if not isinstance(found, Tensor):
            raise TypeError(f"expected a tensor as the memory from {place}, got {faults.kind(found)}")
        if found.shape != h.shape:
            way_out = "; a scalar x becomes a memory by x[..., None]" if found.shape == h.shape[:-1] else ""
            raise ValueError(
                f"expected a memory of shape {tuple(h.shape)} from {place}, as h_1 has, got "
                f"{tuple(found.shape)}{way_out}"
            )
        if self.values and not bool(found.isfinite().all()):
            number = float(found[~found.isfinite()][0])
            raise ValueError(f"expected a memory of finite numbers from {place}, got {number}; keep it bounded")
        return found

    def _beside(self, h: Any) -> Any:
        """Memories beside values of z."""
        if h is None or self.states is None or h.dim() == 3:
            return h
        return h[None] if self.tables else h.expand(self.num, *h.shape)

    def _state(self, method: str, step: int, *given: Any) -> Tensor:
        """Check a law of z_t, and return values of z_t."""
        place, shape = self._at(method, step), (self.num, self.batch)
        law = self._law(place, *given)
        if isinstance(self.states, ProductStates):
            self._check_chains(place, law, given[0] if step == 2 else None)
        if isinstance(self.states, FiniteStates):
            return self._finite_state(place, law, self.states.num_states)
        if isinstance(self.states, GaussianStates):
            event, of = (self.states.dim,), repr(self.states)
        elif isinstance(self.states, SwitchingStates):
            regime_law(law, str(place), self.states.num_regimes, self.states.dim)
            event, of = (1 + self.states.dim,), repr(self.states)
        else:
            event, of = tuple(law.event_shape if step == 1 else given[0].shape[2:]), "z_1"
        faults.check_event(place, law, event, of)
        faults.check_batch(place, law, shape)
        drawn = faults.drawn_from(place, law, shape)
        faults.log_probs_of(place, law, drawn, nan=True)  # a singular law has no density
        return drawn.nan_to_num(0.0, 0.0, 0.0) if drawn.is_floating_point() else drawn  # nor a diffuse one draws

    def _finite_state(self, place: Place, law: Any, num_states: int) -> Tensor:
        """Check that a law is one of the states 0..K - 1, and return them, (K, 1), or some of them, (N, B)."""
        states = self._some_states() if self._has_many else torch.arange(num_states)
        states = states.to(example_of(self.model).device)
        faults.check_event(place, law, (), "the number of a state")
        faults.check_values(place, law, f"the states 0..{num_states - 1}", True, num_states)
        rows = 1 if self.tables and place.step == 1 else self.num
        faults.check_batch(place, law, (rows, self.batch))
        log_probs = faults.log_probs_of(place, law, states[:, None, None], nan=not self.values)
        if not self._has_many:
            faults.check_sum(place, law, num_states, log_probs)
        if self.tables:
            return states[:, None]
        return states.repeat(self.num)[: self.num, None].expand(self.num, self.batch)

    @property
    def _has_many(self) -> bool:
        """Whether the values of several chains are too many to look at all of them."""
        return isinstance(self.states, ProductStates) and self.states.num_states > LARGEST_OF_CHAINS

    def _some_states(self) -> Tensor:
        """Some values of the states of many chains, (N,)."""
        assert isinstance(self.states, ProductStates)  # the caller has checked it
        parts = [torch.randint(size, (self.num,)) for size in self.states.sizes]
        return self.states.joined(parts)

    def _check_chains(self, place: Place, law: Any, before: Tensor | None) -> None:
        """Check that a law is one for each chain, which depends on the state before of that chain alone.

        Raises:
            TypeError: it is no product of laws of the chains.
            ValueError: it is one of other chains, or depends on other chains.
        """
        assert isinstance(self.states, ProductStates)  # the caller has checked it
        product = laws_of_chains(self.states, str(place), law)
        if before is None:
            return
        faults.check_batch(place, law, (self.num, self.batch))
        for m, own in enumerate(self.states.split(before[:, 0])):
            rows = product.laws[m].expand((self.num, self.batch)).logits[:, 0]  # (N, K_m)
            same = own[:, None] == own
            apart = (rows.exp()[:, None] - rows.exp()).abs().amax(-1)
            if bool((apart[same] > torch.finfo(rows.dtype).eps ** 0.5).any()):
                raise ValueError(
                    f"expected the law of chain {m} from {place} to depend on the state before of that chain alone, "
                    f"got one that depends on other chains; use FiniteStates({self.states.num_states}), or a memory"
                )

    def _check_proposals(self, z: Tensor, first: Any, later: Any) -> None:
        """Check the guide's laws of z_1 and z_2, one for each sequence."""
        assert self.x is not None  # the caller has checked it
        x = torch.stack([self._first(self.x, 1), self._first(self.x, 2)], dim=1)
        found = self.model.encode(x, torch.full((self.batch,), 2, device=x.device))
        features = [None, None] if found is None else found.unbind(1)
        z = z[0].expand(self.batch, *z.shape[2:])
        h = later[0] if later is not None and later.dim() == 3 else later
        for step, given in ((1, (None, first, features[0])), (2, (z, h, features[1]))):
            place = self._at("proposal", step)
            law = self._law(place, *given)
            faults.check_event(place, law, tuple(z.shape[1:]), "z_1")
            faults.check_batch(place, law, (self.batch,))

    def _observation(self, step: int, z: Tensor | None, h: Any) -> Tensor:
        """Check the law of x_t, and return x_t, (B, *event)."""
        place, family = self._at("emission", step), self.model.family
        shape = (self.batch,) if z is None else (self.num, self.batch)
        law = self._law(place, z, self._beside(h))
        faults.check_event(place, law, self.event, f"the family {family}")
        faults.check_batch(place, law, shape)
        faults.check_values(place, law, family.support, self._is_discrete(), getattr(family, "num_symbols", None))
        x: Tensor
        if self.x is not None:
            x = self._first(self.x, step)
        else:
            drawn = faults.drawn_from(place, law, shape)
            x = drawn if z is None else drawn[0]
        faults.log_probs_of(place, law, x, nan=not self.values)
        return x

    def _law(self, place: Place, *given: Any) -> Any:
        """The law that a method returns; a method that is missing is named."""
        try:
            without = self.model.initial_memory is None and self.model.input_dim is None
            return faults.law_of(place, getattr(self.model, place.method), *given, without_memory=without)
        except faults.Unclear as end:
            if str(end.__cause__) != f"{place.model} has no latent state":
                raise
            raise TypeError(
                f"expected {place.method} of {place.model}, which has {described(self.states)}, got none; define it"
            ) from None

    def _is_discrete(self) -> bool | None:
        """Whether all entries of an observation are whole numbers; None where it is not known or only some are."""
        family = self.model.family
        if family.needs_integers or family.continuous:
            return family.needs_integers
        halves = family.invalid(example_of(self.model).new_full(self.event, 0.5))
        return True if bool(halves.all()) else None
