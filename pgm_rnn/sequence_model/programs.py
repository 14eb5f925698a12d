"""The two renderings of a sequence model as a Pyro program: one density, different sites.

unrolled, one site a variable and step (t = 1..T), inside the plate "sequences", the steps inside `pyro.markov`:

    h_t   Delta                          batch (batch,), event (state_dim,)
    z_t   initial / transition           marked for parallel enumeration where it has finitely many values
    x_t   emission, observed             batch (batch,), event as the family

fused, one site a variable, time inside the event; latent states that can be summed out are no site:

    z     all latent states              batch (batch,), event (T, *latent)
    h     Delta                          batch (batch,), event (T, dim)
    x     the whole sequence, observed   batch (batch,), event (T, *event)

`parameter_draws` runs the fused rendering under several draws of the parameters side by side: batch (*draws, batch).

Steps behind a sequence's length are masked. Under first="condition" x_1 is an input: the unrolled rendering has it as
a deterministic site, the fused one leaves its factor out.
"""

from typing import TYPE_CHECKING

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.sequence_model.memory import memory_of
from pgm_rnn.sequence_model.observations import check_inputs
from pgm_rnn.sequence_model.sequence_law import SequenceLaw
from pgm_rnn.sequence_model.state_law import StateLaw
from pgm_rnn.sequences import check_lengths, length_mask

if TYPE_CHECKING:
    from pgm_rnn.sequence_model.model import First, Memory, Rendering, SequenceModel


def run_model(
    model: "SequenceModel",
    x: Tensor | None,
    lengths: Tensor | None,
    rendering: "Rendering",
    first: "First",
    memory: "Memory",
    inputs: Tensor | None,
) -> Tensor:
    """Run the program of p(x, z) in one of its renderings; see `SequenceModel.model`."""
    check_options(rendering, memory)
    x, lengths = checked(model, x, lengths, rendering, first)
    inputs = checked_inputs(model, x, lengths, inputs)
    _register(model)
    if rendering == "unrolled":
        return _unrolled(model, x, lengths, first, memory, inputs)
    assert x is not None  # checked
    _fused(model, x, lengths, first, memory, inputs)
    return x


def run_guide(
    model: "SequenceModel",
    x: Tensor | None,
    lengths: Tensor | None,
    rendering: "Rendering",
    first: "First",
    memory: "Memory",
    inputs: Tensor | None,
) -> None:
    """Run the guide in one of its renderings; see `SequenceModel.guide`."""
    check_options(rendering, memory)
    sampled_memory = memory == "sampled" and model.initial_memory is not None
    sampled_states = model.has_latent and not (rendering == "fused" and model.exact)
    if not sampled_memory and not sampled_states:
        return
    x, lengths = checked(model, x, lengths, rendering, first)
    if x is None:
        raise ValueError("expected observations x for the guide, got None; a guide is a law given x")
    inputs = checked_inputs(model, x, lengths, inputs)
    _register(model)
    with pyro.plate("sequences", x.shape[0], dim=-1):
        if rendering == "fused":
            z = None if not sampled_states else pyro.sample("z", StateLaw(model, x, lengths, first, inputs, guide=True))
            if sampled_memory:
                _fused_memory(model, x, z, memory, inputs)
        else:
            _unrolled_guide(model, x, lengths, memory, inputs)


def check_options(rendering: "Rendering", memory: "Memory") -> None:
    """Raise a ValueError unless both are known."""
    check_choice("rendering", rendering, ("fused", "unrolled"))
    check_choice("memory", memory, ("deterministic", "sampled"))


def checked(
    model: "SequenceModel", x: Tensor | None, lengths: Tensor | None, rendering: "Rendering", first: "First"
) -> tuple[Tensor | None, Tensor]:
    """Observations, if there are any, and explicit lengths; a ValueError where a rendering cannot do without x."""
    if x is not None:
        return model.check(x, lengths)
    if rendering == "fused" or first == "condition":
        raise ValueError(
            "expected observations x, got None; only rendering='unrolled' with first='model' can draw them"
        )
    if lengths is None:
        raise ValueError("expected lengths (batch,) where x is to be drawn, got None")
    return None, check_lengths(lengths)


def checked_inputs(model: "SequenceModel", x: Tensor | None, lengths: Tensor, inputs: Tensor | None) -> Tensor | None:
    """The inputs of a model that has some, of one row for each sequence and step."""
    like = next(model.parameters()).new_empty(len(lengths), int(lengths.max())) if x is None else x
    return check_inputs(inputs, model.input_dim, like)


def _register(model: "SequenceModel") -> None:
    """Show the parameters to Pyro's own SVI, unless parameters are to stay out of the global store."""
    if not pyro.settings.get("module_local_params"):
        pyro.module(model.site_prefix, model)


def _memory_site(name: str, h: Tensor, memory: "Memory", event_dim: int) -> Tensor:
    if memory == "deterministic":
        return known_site(name, h, event_dim, like=h)
    return pyro.sample(name, dist.Delta(h, event_dim=event_dim, validate_args=False))


def known_site(name: str, value: Tensor, event_dim: int, like: Tensor) -> Tensor:
    """`pyro.deterministic` without a check of every entry, its zero log density in the dtype of `like`."""
    zeros = like.new_zeros(value.shape[: value.dim() - event_dim])
    law = _Known(dist.Delta(value, zeros, event_dim, validate_args=False), False)
    return pyro.sample(name, law, obs=value, infer={"_deterministic": True})


class _Known(dist.MaskedDistribution):
    """A Delta law that counts nothing; that of a plain mask counts zeros of torch's default dtype."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Zeros, batch shape."""
        return self.base_dist.log_density


def _unrolled(
    model: "SequenceModel",
    x: Tensor | None,
    lengths: Tensor,
    first: "First",
    memory: "Memory",
    inputs: Tensor | None,
) -> Tensor:
    num_steps = int(lengths.max()) if x is None else x.shape[1]
    mask = length_mask(lengths, num_steps).unbind(1)
    given = [None] * num_steps if x is None else x.unbind(1)
    h = z = x_t = None
    drawn = []
    with pyro.plate("sequences", lengths.shape[0], dim=-1):
        for t in pyro.markov(range(num_steps)):
            with poutine.mask(mask=mask[t]):  # type: ignore[call-overload]
                h = _next_memory(model, t, h, z, x_t, lengths.shape[0], inputs)
                if inputs is not None:
                    h = known_site(f"u_{t + 1}", inputs[:, t], event_dim=1, like=inputs)
                elif h is not None:
                    h = _memory_site(f"h_{t + 1}", h, memory, event_dim=1)
                conditioned = given[t] if t == 0 and first == "condition" else None
                z = _next_latent(model, t, z, h, conditioned)
                x_t = _next_observation(model, t, z, h, given[t], conditioned)
            drawn.append(x_t)
    return torch.stack(drawn, dim=-1 - len(model.family.event_shape)) if x is None else x


def _next_memory(
    model: "SequenceModel",
    t: int,
    h: Tensor | None,
    z: Tensor | None,
    x: Tensor | None,
    num_sequences: int,
    inputs: Tensor | None,
) -> Tensor | None:
    if x is None:
        return model.first_memory(num_sequences, inputs)
    return model.next_memory(h, z, x, None if inputs is None else inputs[:, t])


def _next_latent(
    model: "SequenceModel", t: int, z: Tensor | None, h: Tensor | None, conditioned: Tensor | None
) -> Tensor | None:
    if not model.has_latent:
        return None
    if z is not None:
        law = model.transition(z, h)
    else:
        law = model.initial(h) if conditioned is None else model.initial_given(h, conditioned)
    return pyro.sample(f"z_{t + 1}", law, infer={"enumerate": "parallel"} if law.has_enumerate_support else None)


def _next_observation(
    model: "SequenceModel", t: int, z: Tensor | None, h: Tensor | None, given: Tensor | None, conditioned: Tensor | None
) -> Tensor:
    if conditioned is not None:
        return known_site(f"x_{t + 1}", conditioned, len(model.family.event_shape), like=next(model.parameters()))
    return pyro.sample(f"x_{t + 1}", model.emission(z, h), obs=given)


def _fused(
    model: "SequenceModel", x: Tensor, lengths: Tensor, first: "First", memory: "Memory", inputs: Tensor | None
) -> None:
    with pyro.plate("sequences", x.shape[0], dim=-1):
        if model.has_latent and model.exact:
            pyro.sample("x", SequenceLaw(model, lengths, x.shape[1], first, inputs), obs=x)
            return
        z = pyro.sample("z", StateLaw(model, x, lengths, first, inputs)) if model.has_latent else None
        h = _fused_memory(model, x, z, memory, inputs)
        law = model.emission(z, h)
        mask = modelled_steps(lengths, x.shape[1], first)
        pyro.sample("x", (law if mask is None else law.mask(mask)).to_event(1), obs=x)


def modelled_steps(lengths: Tensor, num_steps: int, first: "First") -> Tensor | None:
    """True where an observation has a law, (batch, T); None if that is everywhere."""
    if first == "model" and bool((lengths == num_steps).all()):
        return None
    mask = length_mask(lengths, num_steps)
    if first == "condition":
        mask[:, 0] = False
    return mask


def _fused_memory(
    model: "SequenceModel", x: Tensor, z: Tensor | None, memory: "Memory", inputs: Tensor | None
) -> Tensor | None:
    h = memory_of(model, x, z, inputs)
    return h if h is None or inputs is not None else _memory_site("h", h, memory, event_dim=2)


def _unrolled_guide(
    model: "SequenceModel", x: Tensor, lengths: Tensor, memory: "Memory", inputs: Tensor | None
) -> None:
    """Hidden states by the recurrence, latent states by the proposal; enumerated ones are the engine's."""
    encoded = model.encode(x, lengths) if model.has_latent else None
    features = [None] * x.shape[1] if encoded is None else encoded.unbind(1)
    h = z = x_t = None
    steps = zip(x.unbind(1), length_mask(lengths, x.shape[1]).unbind(1), features, strict=True)
    for t, (x_next, valid, features_t) in enumerate(steps):
        with poutine.mask(mask=valid):  # type: ignore[call-overload]
            h = _next_memory(model, t, h, z, x_t, x.shape[0], inputs)
            if h is not None and memory == "sampled" and inputs is None:
                h = _memory_site(f"h_{t + 1}", h, memory, event_dim=1)
            if model.has_latent:
                law = model.proposal(z, h, features_t)
                if law.has_enumerate_support:
                    return
                z = pyro.sample(f"z_{t + 1}", law)
        x_t = x_next
