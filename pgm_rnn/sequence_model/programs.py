"""The two renderings of a sequence model as a Pyro program: one density, different sites.

unrolled, one site per variable and step (t = 1..T), inside the plate "sequences", the steps inside `pyro.markov`:

    h_t   Delta                          batch (batch,), event (state_dim,)
    z_t   initial / transition           marked for parallel enumeration where it has finitely many values
    x_t   emission, observed             batch (batch,), event as the family

fused, one site per variable, time inside the event; latent states that can be summed out have no site, nor does h then:

    z     all latent states              batch (batch,), event (T, *latent)
    h     Delta                          batch (batch,), event (T, dim)
    x     the whole sequence, observed   batch (batch,), event (T, *event)

`parameter_draws` runs the fused rendering under several draws of the parameters side by side: batch (*draws, batch).

Steps beyond a sequence's length are masked. Under first="condition" x_1 is an input: the unrolled rendering makes it a
deterministic site, the fused one leaves its factor out.

Missing observations, by step or by entry, leave the sites as they are. An observed site of x has the log density of
the entries that were observed, which is 0 for a step that is missing, and the value zero where an entry is missing. So
no guide needs to supply what is missing; a guide whose features read x reads these zeros.
"""

from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.distributions.observed import partly
from pgm_rnn.sequence_model.conditionals import Conditionals, First, example_of, memory_of, spread
from pgm_rnn.sequence_model.densities import memory_given
from pgm_rnn.sequence_model.drawn import Drawn, sample_with_way
from pgm_rnn.sequence_model.observations import check_given, check_inputs, checked
from pgm_rnn.sequence_model.sequence_law import SequenceLaw
from pgm_rnn.sequence_model.state_law import StateLaw
from pgm_rnn.sequences import Data, Sequences, check_lengths, length_mask

Rendering = Literal["fused", "unrolled"]
Memory = Literal["deterministic", "sampled"]


def run_model(
    model: Conditionals,
    site_prefix: str,
    x: Data | None,
    lengths: Tensor | None,
    inputs: Tensor | None,
    rendering: Rendering,
    first: First,
    memory: Memory,
    mask: Tensor | None = None,
) -> Tensor:
    """Run the program of p(x, z) in one of its renderings; see `SequenceModel.model`.

    Raises:
        ValueError, TypeError: observations or options that do not fit the model, or no x where it cannot be drawn.
    """
    check_options(rendering, memory)
    if x is None:
        if rendering == "fused" or first == "condition":
            raise ValueError(
                "expected observations x, got None; only rendering='unrolled' with first='model' can draw them"
            )
        lengths, inputs = _of_drawn(model, lengths, inputs)
        if mask is not None:
            raise ValueError("expected no mask where x is to be drawn, got one; give x, or leave the mask out")
        _register(model, site_prefix)
        return _unrolled(model, None, None, lengths, inputs, first, memory)
    data = checked(model, x, lengths, inputs=inputs, mask=mask)
    _register(model, site_prefix)
    if rendering == "unrolled":
        check_given(data, first)
        _unrolled(model, data.x, data.observed, data.lengths, data.inputs, first, memory)
    else:
        _fused(model, data, first, memory)
    return data.x


def run_guide(
    model: Conditionals,
    site_prefix: str,
    x: Data | None,
    lengths: Tensor | None,
    inputs: Tensor | None,
    rendering: Rendering,
    first: First,
    memory: Memory,
    mask: Tensor | None = None,
) -> None:
    """Run the guide in one of its renderings; see `SequenceModel.guide`.

    Raises:
        ValueError, TypeError: observations or options that do not fit the model, or no observations.
    """
    check_options(rendering, memory)
    summed_out = rendering == "fused" and model.states is not None and model.exact  # then no site but x is left
    sampled_memory = memory == "sampled" and model.initial_memory is not None and not summed_out
    sampled_states = model.states is not None and not summed_out
    if not sampled_memory and not sampled_states:
        return
    if x is None:
        raise ValueError("expected observations x for the guide, got None; give x, on which the guide depends")
    data = checked(model, x, lengths, inputs=inputs, mask=mask)
    _register(model, site_prefix)
    with pyro.plate("sequences", len(data.x), dim=-1):
        if rendering == "unrolled":
            _unrolled_guide(model, data, memory)
            return
        drawn = _fused_states(model, data, first, guide=True) if sampled_states else None
        if sampled_memory:
            _fused_memory(model, data, drawn, memory)


def check_options(rendering: Rendering, memory: Memory) -> None:
    """Raise unless both options are known.

    Raises:
        ValueError: an unknown rendering or memory.
    """
    check_choice("rendering", rendering, ("fused", "unrolled"))
    check_choice("memory", memory, ("deterministic", "sampled"))


def _of_drawn(model: Conditionals, lengths: Tensor | None, inputs: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Checked lengths and inputs of observations that are to be drawn."""
    if lengths is None:
        raise ValueError("expected lengths (batch,) where x is to be drawn, got None")
    lengths = check_lengths(lengths)
    return lengths, check_inputs(inputs, model.input_dim, example_of(model).new_empty(len(lengths), int(lengths.max())))


def _register(model: Conditionals, site_prefix: str) -> None:
    """Register the parameters with Pyro's global store for its own SVI, unless `module_local_params` is set."""
    if not pyro.settings.get("module_local_params"):
        pyro.module(site_prefix, model)


def _memory_site(name: str, h: Tensor, memory: Memory, event_dim: int) -> Tensor:
    if memory == "deterministic":
        return known_site(name, h, event_dim, like=h)
    return pyro.sample(name, dist.Delta(h, event_dim=event_dim, validate_args=False))


def known_site(name: str, value: Tensor, event_dim: int, like: Tensor) -> Tensor:
    """`pyro.deterministic` without its check of every entry, and with a zero log density in the dtype of `like`."""
    zeros = like.new_zeros(value.shape[: value.dim() - event_dim])
    law = _Known(dist.Delta(value, zeros, event_dim, validate_args=False), False)
    return pyro.sample(name, law, obs=value, infer={"_deterministic": True})


class _Known(dist.MaskedDistribution):
    """A Delta law without a density; Pyro's masked Delta would return zeros of torch's default dtype."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Zeros, batch shape."""
        return self.base_dist.log_density


def _unrolled(
    model: Conditionals,
    x: Tensor | None,
    observed: Tensor | None,
    lengths: Tensor,
    inputs: Tensor | None,
    first: First,
    memory: Memory,
) -> Tensor:
    memory = _own_or_deterministic(model, memory)
    num_steps = int(lengths.max()) if x is None else x.shape[1]
    there = [None] * num_steps if observed is None else observed.unbind(1)
    mask = length_mask(lengths, num_steps).unbind(1)
    given = [None] * num_steps if x is None else x.unbind(1)
    h = z = x_t = None
    drawn = []
    with pyro.plate("sequences", lengths.shape[0], dim=-1):
        steps = range(num_steps)
        for t in steps if model.memory_reads_state else pyro.markov(steps):  # such a memory holds more than one step
            with poutine.mask(mask=mask[t]):  # type: ignore[call-overload]
                h = _next_memory(model, t, h, z, x_t, lengths.shape[0], inputs)
                h = _memory_sites(model, t, h, inputs, memory)
                conditioned = given[t] if t == 0 and first == "condition" else None
                z = _next_latent(model, t, z, h, conditioned)
                x_t = _next_observation(model, t, z, h, given[t], there[t], conditioned)
            drawn.append(x_t)
    return torch.stack(drawn, dim=-1 - len(model.family.event_shape)) if x is None else x


def _own_or_deterministic(model: Conditionals, memory: Memory) -> Memory:
    """The memory that was asked for; one that reads enumerated states has no value that a guide could draw."""
    return "deterministic" if model.memory_reads_state and model.exact else memory


def _next_memory(
    model: Conditionals, t: int, h: Any, z: Tensor | None, x: Tensor | None, num_sequences: int, inputs: Tensor | None
) -> Any:
    """h_t from the step before it and the present inputs."""
    u, steps = None if inputs is None else inputs[:, t], memory_of(model)
    return steps.start(num_sequences, u) if x is None else steps.step(h, z, steps.read(x, u))


def _memory_sites(model: Conditionals, t: int, h: Any, inputs: Tensor | None, memory: Memory) -> Any:
    """The sites u_t and h_t, where there are inputs and a memory; h = cat(memory, u_t) as the laws see it."""
    if inputs is not None:
        u = known_site(f"u_{t + 1}", inputs[:, t], event_dim=1, like=inputs)
        return u if model.initial_memory is None else _own_memory_site(t, h, u, memory)
    return None if h is None else _own_memory_site(t, h, None, memory)


def _own_memory_site(t: int, h: Tensor, u: Tensor | None, memory: Memory) -> Tensor:
    """The site h_t, with the inputs u_t, if there are any, beside its value."""
    if u is None:
        return _memory_site(f"h_{t + 1}", h, memory, event_dim=1)
    own = _memory_site(f"h_{t + 1}", h[..., : -u.shape[-1]], memory, event_dim=1)
    return torch.cat([own, u.expand(*own.shape[:-1], -1)], dim=-1)


def _next_latent(model: Conditionals, t: int, z: Tensor | None, h: Any, conditioned: Tensor | None) -> Tensor | None:
    if model.states is None:
        return None
    if z is not None:
        law = model.transition(z, h)
    else:
        law = model.initial(h) if conditioned is None else model.initial_given(h, conditioned)
    return pyro.sample(f"z_{t + 1}", law, infer={"enumerate": "parallel"} if law.has_enumerate_support else None)


def _next_observation(
    model: Conditionals,
    t: int,
    z: Tensor | None,
    h: Any,
    given: Tensor | None,
    observed: Tensor | None,
    conditioned: Tensor | None,
) -> Tensor:
    if conditioned is not None:
        return known_site(f"x_{t + 1}", conditioned, len(model.family.event_shape), like=example_of(model))
    return pyro.sample(f"x_{t + 1}", partly(model.emission(z, h), observed), obs=given)


def _fused(model: Conditionals, data: Sequences, first: First, memory: Memory) -> None:
    num_steps = data.x.shape[1]
    with pyro.plate("sequences", len(data.x), dim=-1):
        if model.states is not None and model.exact:
            law = SequenceLaw(model, data.lengths, num_steps, first, data.inputs, data.observed)
            pyro.sample("x", law, obs=data.x)
            return
        check_given(data, first)
        drawn = None if model.states is None else _fused_states(model, data, first)
        h = _fused_memory(model, data, drawn, memory)
        pyro.sample("x", observations(model, data, None if drawn is None else drawn.z, h, first), obs=data.x)


def observations(model: Conditionals, data: Sequences, z: Tensor | None, h: Any, first: First) -> TorchDistribution:
    """The law of the whole sequence x given states and memory: batch (batch,), event (T, *event)."""
    law = partly(spread(model.emission(z, h), data.x.shape[:2]), data.observed)
    mask = modelled_steps(data.lengths, data.x.shape[1], first)
    return (law if mask is None else law.mask(mask)).to_event(1)


def _fused_states(model: Conditionals, data: Sequences, first: First, *, guide: bool = False) -> Drawn:
    """The site "z", with the memory and densities that its draw, here or in the guide, has computed."""
    law = StateLaw(model, data.x, data.lengths, first, data.inputs, guide)
    z, law.way = sample_with_way("z", law, law.way)
    return law.way.to(law.snapshot, data.x, z) or Drawn(z)


def modelled_steps(lengths: Tensor, num_steps: int, first: First) -> Tensor | None:
    """True where an observation has a law, (batch, T); None if all of them have one."""
    if first == "model" and bool((lengths == num_steps).all()):
        return None
    mask = length_mask(lengths, num_steps)
    if first == "condition":
        mask[:, 0] = False
    return mask


def _fused_memory(model: Conditionals, data: Sequences, drawn: Drawn | None, memory: Memory) -> Any:
    """The site "h", if there is a memory; inputs beside it are not part of the site."""
    h = memory_given(model, data._replace(z=None if drawn is None else drawn.z), drawn)
    if h is None or model.initial_memory is None:
        return h
    if data.inputs is None:
        return _memory_site("h", h, memory, event_dim=2)
    own = _memory_site("h", h[..., : -data.inputs.shape[-1]], memory, event_dim=2)
    return torch.cat([own, data.inputs], dim=-1)


def _unrolled_guide(model: Conditionals, data: Sequences, memory: Memory) -> None:
    """Hidden states from the recurrence and latent states from the proposal, except those that Pyro enumerates.

    A memory that reads enumerated states is left to the model's own law as well.
    """
    memory = _own_or_deterministic(model, memory)
    encoded = model.encode(data.x, data.lengths) if model.states is not None else None
    features = [None] * data.x.shape[1] if encoded is None else encoded.unbind(1)
    h = z = x_t = None
    inside = length_mask(data.lengths, data.x.shape[1])
    for t, (x_next, valid) in enumerate(zip(data.x.unbind(1), inside.unbind(1), strict=True)):
        with poutine.mask(mask=valid):  # type: ignore[call-overload]
            h = _next_memory(model, t, h, z, x_t, len(data.x), data.inputs)
            if memory == "sampled" and model.initial_memory is not None:
                h = _own_memory_site(t, h, None if data.inputs is None else data.inputs[:, t], memory)
            if model.states is not None:
                law = model.proposal(z, h, features[t])
                if not law.has_enumerate_support:
                    z = pyro.sample(f"z_{t + 1}", law)
                elif memory == "deterministic" or model.memory_reads_state:
                    return
        x_t = x_next
