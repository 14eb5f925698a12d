"""The one graphical model that every member of the zoo is.

    h_t = recurrence(h_{t-1}, z_{t-1}, x_{t-1})     deterministic memory, h_1 = initial_memory
    z_t ~ transition(z_{t-1}, h_t)                  latent state, z_1 ~ initial(h_1)
    x_t ~ emission(z_t, h_t)                        observation,   t = 1..T

A model says what these four are; densities, draws, forecasts and the Pyro programs follow from them here, once.
Choe et al. (2017, sec. 3.1) index the memory one step later (their H_t is h_{t+1}) and condition on x_1: that is
`first="condition"`. `first="model"` is the joint law of their Remark 1, where p(x_1) is the emission at h_1.
Exogenous inputs u_t are a memory that nobody writes: a model with `input_dim` has h_t = u_t.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import count
from typing import Any, Literal, NamedTuple

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.emissions import Emission
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import programs
from pgm_rnn.sequence_model.memory import Drawn, memory_of
from pgm_rnn.sequence_model.observations import check_inputs, check_observations
from pgm_rnn.sequences import Sequences, length_mask

First = Literal["model", "condition"]
Rendering = Literal["fused", "unrolled"]
Memory = Literal["deterministic", "sampled"]


class Forecast(NamedTuple):
    """Draws of what follows some sequences.

    Attributes:
        x: observations, (batch, num_steps, *event) or (num_samples, batch, num_steps, *event).
        z: latent states, (..., num_steps, *latent), or None.
    """

    x: Tensor
    z: Tensor | None


class SequenceModel(nn.Module, ABC):
    """A sequence model given by its recurrence, initial, transition and emission.

    Args:
        family: the family of observation laws; fixes event shape, dtype and valid values.
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Attributes:
        initial_memory: h_1, (state_dim,), or None for a model without memory.
        has_latent: whether there is a latent state z.
        exact: whether log p(x_{1:T}) is known in closed form, latent states summed out.
        input_dim: width of the inputs u_t that take the place of the memory, or None.
        reads_state: whether the laws of z_t, the model's and the guide's, read z_{t-1}, or h_t alone.
    """

    has_latent: bool = False
    initial_memory: Tensor | None
    input_dim: int | None = None
    reads_state: bool = True

    _instances = count()

    def __init__(self, family: Emission, first: First = "model") -> None:
        super().__init__()
        check_choice("first", first, ("model", "condition"))
        self.family = family
        self.first: First = first
        self._name_sites()

    def _name_sites(self) -> None:
        """A name of its own for each instance, so that two models never share an entry of Pyro's parameter store."""
        self.site_prefix = f"{type(self).__name__}_{next(SequenceModel._instances)}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._name_sites()

    # What a model defines.

    def recurrence(self, h: Tensor, z: Tensor | None, x: Tensor) -> Tensor:
        """h_t from h_{t-1} (..., state_dim), z_{t-1} (..., *latent) and x_{t-1} (..., *event): (..., state_dim)."""
        raise NotImplementedError(f"{type(self).__name__} has no memory")

    def read(self, x: Tensor) -> Tensor:
        """What `advance` needs of observations (..., *event), for many steps at once; by default all of them."""
        return x

    def advance(self, h: Tensor, z: Tensor | None, read: Tensor) -> Tensor:
        """The recurrence, from what `read` has made of x_{t-1}: a model overrides both or neither."""
        return self.recurrence(h, z, read)

    def initial(self, h: Tensor | None) -> TorchDistribution:
        """Law of z_1 given h_1."""
        raise NotImplementedError(f"{type(self).__name__} has no latent state")

    def initial_given(self, h: Tensor | None, x: Tensor) -> TorchDistribution:
        """Law of z_1 given h_1 and x_1, p(z_1 | x_1), which `first="condition"` needs where there is a latent state."""
        raise ValueError(
            f"first='condition' needs p(z_1 | x_1), which {type(self).__name__} does not have in closed form; "
            "use first='model'"
        )

    def transition(self, z: Tensor, h: Tensor | None) -> TorchDistribution:
        """Law of z_t given z_{t-1} and h_t."""
        raise NotImplementedError(f"{type(self).__name__} has no latent state")

    @abstractmethod
    def emission(self, z: Tensor | None, h: Tensor | None) -> TorchDistribution:
        """Law of x_t given z_t and h_t, event shape that of the family."""

    def sum_out_states(
        self, x: Tensor, lengths: Tensor, first: First, inputs: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        """log p(x_{1:T}) in nats, (batch,), of checked observations, for a model that is `exact`."""
        raise NotImplementedError(f"{type(self).__name__} has no latent state that can be summed out")

    def proposal(self, z: Tensor | None, h: Tensor | None, features: Tensor | None) -> TorchDistribution:
        """The guide's q(z_t | z_{t-1}, h_t, features_t), z_{t-1} None at t = 1; the model's own unless overridden."""
        return self.initial(h) if z is None else self.transition(z, h)

    def encode(self, x: Tensor, lengths: Tensor) -> Tensor | None:
        """What the proposal knows of the observations at each step, (batch, T, num_features); nothing by default."""
        return None

    def unroll_guide(self, x: Tensor, features: Tensor | None) -> Drawn | None:
        """States drawn from the proposal by a loop of the model's own, or None.

        For a model that can share work between the proposal and the recurrence; by default they are called in turn.
        """
        return None

    def unconstrained(self, name: str, value: Tensor) -> tuple[str, Tensor]:
        """The parameter of the module, by name and value, that gives `name` this value; differentiable.

        Raises:
            ValueError: a name that the model does not have.
        """
        check_choice("the parameter", name, dict(self.named_parameters()))
        return name, value

    @property
    def exact(self) -> bool:
        """Whether log p(x_{1:T}) is known in closed form."""
        return not self.has_latent

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """The zoo's name and the options, beside emission and `first`, that make a model of the same shape.

        Raises:
            TypeError: a model that is not in the zoo.
        """
        raise TypeError(f"expected a model of the zoo, got {type(self).__name__}, which has no recipe to make it again")

    # Pyro programs.

    def model(
        self,
        x: Tensor | None = None,
        lengths: Tensor | None = None,
        *,
        rendering: Rendering = "fused",
        first: First | None = None,
        memory: Memory = "deterministic",
        inputs: Tensor | None = None,
    ) -> Tensor:
        """The Pyro program of p(x, z); sites and their shapes are described in `pgm_rnn.sequence_model.programs`.

        Args:
            x: observations (batch, T, *event); None draws them (unrolled rendering only, `lengths` needed).
            lengths: (batch,) steps of each sequence, None for T.
            rendering: "fused", one site a variable, or "unrolled", one site a variable and step.
            first: overrides the model's own `first`.
            memory: "deterministic", h_t is `pyro.deterministic`; "sampled", h_t is a latent site with a Delta law,
                which the guide must supply.
            inputs: (batch, T, input_dim) for a model with inputs.

        Returns:
            The observations, (batch, T, *event).

        Raises:
            ValueError, TypeError: observations or options that do not fit the model.
        """
        return programs.run_model(self, x, lengths, rendering, self._first(first), memory, inputs)

    def guide(
        self,
        x: Tensor | None = None,
        lengths: Tensor | None = None,
        *,
        rendering: Rendering = "fused",
        first: First | None = None,
        memory: Memory = "deterministic",
        inputs: Tensor | None = None,
    ) -> None:
        """The Pyro guide q(h, z | x) = prod_t p(h_t | h_{t-1}, z_{t-1}, x_{t-1}) q(z_t | z_{t-1}, h_t, features_t).

        Arguments as for `model`. Deterministic memory is not latent; latent states that the engine or the fused
        rendering sums out need no guide. Without z it is that of Sohl-Dickstein & Kingma (2015), eq. (6)-(8).
        """
        programs.run_guide(self, x, lengths, rendering, self._first(first), memory, inputs)

    # What follows.

    def log_prob(
        self,
        x: Tensor,
        z: Tensor | None = None,
        lengths: Tensor | None = None,
        *,
        first: First | None = None,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """Log density of the given values, log p(x_{1:T}, z_{1:T}), or log p(x_{1:T}) if z is None: nats, (batch,).

        Args:
            x: observations (batch, T, *event).
            z: latent states (batch, T, *latent).
            lengths: (batch,) steps of each sequence, None for T.
            first: overrides the model's own `first`.
            inputs: (batch, T, input_dim) for a model with inputs.

        Raises:
            ValueError, TypeError: values that do not fit the model.
        """
        x, lengths = self.check(x, lengths)
        first, inputs = self._first(first), check_inputs(inputs, self.input_dim, x)
        if z is not None and not self.has_latent:
            raise ValueError(f"expected no latent states z, for {type(self).__name__} has none, got {type(z).__name__}")
        if self.has_latent and z is None:
            return self.log_marginal_likelihood(x, lengths, first=first, inputs=inputs)
        mask = length_mask(lengths, x.shape[1])
        if self.has_latent:
            z = self.check_latent(z, mask)
        h = memory_of(self, x, z, inputs)
        log_probs = self.emission(z, h).log_prob(x)  # (batch, T)
        if first == "condition":
            log_probs = torch.cat([torch.zeros_like(log_probs[:, :1]), log_probs[:, 1:]], dim=1)
        if z is not None:
            log_probs = log_probs + self.latent_log_probs(x, z, h, first)
        return log_probs.where(mask, 0.0).sum(-1)

    def log_marginal_likelihood(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        first: First | None = None,
        inputs: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Exact log p(x_{1:T}) in nats, (batch,), where the model can sum its latent states out.

        Args:
            x: observations (batch, T, *event).
            lengths: (batch,) steps of each sequence, None for T.
            first: overrides the model's own `first`.
            inputs: (batch, T, input_dim) for a model with inputs.
            mask: True where x was observed, (batch, T), or (batch, T, *event) where the model takes parts of an
                observation; what was not observed is summed out too.

        Raises:
            ValueError: it cannot, or values that do not fit the model.
        """
        if not self.exact:
            raise ValueError(
                f"{type(self).__name__} has no exact likelihood; estimate it with an SMC engine or bound it"
            )
        if not self.has_latent:
            if mask is not None:
                raise ValueError(
                    f"expected no mask: the memory of {type(self).__name__} reads every observation, got one; "
                    "fill in what is missing, or use a model with latent states"
                )
            return self.log_prob(x, None, lengths, first=first, inputs=inputs)
        x, lengths = self.check(x, lengths, mask)
        return self.sum_out_states(x, lengths, self._first(first), check_inputs(inputs, self.input_dim, x), mask)

    @torch.no_grad()
    def sample(
        self, num_sequences: int, num_steps: int, *, seed: int | None = None, inputs: Tensor | None = None
    ) -> Sequences:
        """Ancestral draws from p(x_{1:T}, z_{1:T}).

        Args:
            num_sequences: how many, at least 1.
            num_steps: T, at least 1.
            seed: makes the draw reproducible; None uses torch's global generator.
            inputs: (num_sequences, num_steps, input_dim) for a model with inputs.

        Returns:
            x (num_sequences, num_steps, *event) and, where there is a latent state, z.

        Raises:
            ValueError: counts below 1, or a model that conditions on x_1.
        """
        check_counts(num_sequences=num_sequences, num_steps=num_steps)
        if self.first == "condition":
            raise ValueError(
                "a model with first='condition' has no law of x_1 to draw from; use forecast(x_1, num_steps)"
            )
        like = next(self.parameters()).new_empty(num_sequences, num_steps)
        inputs = check_inputs(inputs, self.input_dim, like)
        with seeded(seed, stream=1):
            h = self.first_memory(num_sequences, inputs)
            z = self.initial(h).expand([num_sequences]).sample() if self.has_latent else None
            x = self.emission(z, h).expand([num_sequences]).sample()
            return self._continue(h, z, x, num_steps - 1, [(z, x)], None if inputs is None else inputs[:, 1:])

    @torch.no_grad()
    def forecast(
        self,
        x: Tensor,
        num_steps: int,
        *,
        lengths: Tensor | None = None,
        num_samples: int | None = None,
        seed: int | None = None,
        inputs: Tensor | None = None,
        future_inputs: Tensor | None = None,
    ) -> Forecast:
        """Draws of x_{L+1}, ..., x_{L+num_steps} given x_{1:L}, L the length of each sequence.

        Args:
            x: observations so far, (batch, T, *event).
            num_steps: how far to go, at least 1.
            lengths: (batch,) steps of each sequence, None for T.
            num_samples: draws for each sequence; None for one draw without the leading dimension.
            seed: makes the draws reproducible; None uses torch's global generator.
            inputs: (batch, T, input_dim) for a model with inputs.
            future_inputs: what follows them, (batch, num_steps, input_dim).

        Returns:
            x (num_samples, batch, num_steps, *event) and z where there is one.

        Raises:
            ValueError, TypeError: values that do not fit the model, or a p(z_L | x_{1:L}) that has no closed form.
        """
        check_counts(num_steps=num_steps, **({} if num_samples is None else {"num_samples": num_samples}))
        x, lengths = self.check(x, lengths)
        batch, draws = x.shape[0], num_samples or 1
        inputs = check_inputs(inputs, self.input_dim, x)
        future_inputs = check_inputs(future_inputs, self.input_dim, next(self.parameters()).new_empty(batch, num_steps))
        with seeded(seed, stream=2):
            repeat = torch.arange(batch, device=x.device).repeat(draws)
            h, z = self.last_state(x, lengths, repeat, inputs)
            ahead_inputs = None if future_inputs is None else future_inputs[repeat]
            ahead = self._continue(h, z, x[repeat, lengths[repeat] - 1], num_steps, [], ahead_inputs)
        shape = (batch,) if num_samples is None else (draws, batch)
        x, z = ahead.x, ahead.z
        return Forecast(x.reshape(*shape, *x.shape[1:]), None if z is None else z.reshape(*shape, *z.shape[1:]))

    def last_state(
        self, x: Tensor, lengths: Tensor, index: Tensor, inputs: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """h_L and a draw of z_L given x_{1:L} for the sequences at `index` (k,), with repetitions."""
        if self.has_latent:
            raise ValueError(f"{type(self).__name__} has no exact filter to forecast from; use an SMC engine")
        h = self._memory_loop(x)
        return (None if h is None else h[index, lengths[index] - 1]), None

    def unroll_memory(self, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Tensor | None:
        """h_1, ..., h_T given the observations, latent states and inputs: (batch, T, dim), or None without memory.

        A model may return only the part of h_t that its emission reads, and compute all steps at once.
        """
        return inputs if self.input_dim is not None else self._memory_loop(x, z)

    def first_memory(self, num_sequences: int, inputs: Tensor | None = None) -> Tensor | None:
        """h_1, (num_sequences, dim): the first input, or the initial memory, or None."""
        if inputs is not None:
            return inputs[:, 0]
        return None if self.initial_memory is None else self.initial_memory.expand(num_sequences, -1)

    def next_memory(self, h: Tensor | None, z: Tensor | None, x: Tensor, u: Tensor | None = None) -> Tensor | None:
        """h_t from h_{t-1}, z_{t-1} and x_{t-1}: the input u_t, or the recurrence, or None."""
        return self.drive(h, z, u if u is not None or h is None else self.read(x))

    def drivers(self, x: Tensor, inputs: Tensor | None = None) -> Sequence[Tensor | None]:
        """What `drive` needs to reach h_2, ..., h_T: the inputs, or what the recurrence reads of x_1, ..., x_{T-1}."""
        if inputs is not None:
            return inputs[:, 1:].unbind(1)
        return [None] * (x.shape[1] - 1) if self.initial_memory is None else self.read(x[:, :-1]).unbind(1)

    def drive(self, h: Tensor | None, z: Tensor | None, driver: Tensor | None) -> Tensor | None:
        """h_t from h_{t-1}, z_{t-1} and one of the `drivers`."""
        if self.input_dim is not None or h is None or driver is None:
            return driver
        return self.advance(h, z, driver)

    def check(self, x: Tensor, lengths: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Observations with zeros in their padding and where they are missing, in the model's dtype, and lengths.

        Raises:
            TypeError: an x that is no tensor or has the wrong dtype.
            ValueError: wrong shape, device, lengths, NaN or values outside the family's support.
        """
        return check_observations(self.family, x, lengths, next(self.parameters()), mask)

    def check_latent(self, z: Tensor | None, mask: Tensor) -> Tensor:
        """Latent states with a fixed value in the padding; `mask` is (batch, T)."""
        if not isinstance(z, Tensor) or z.shape[:2] != mask.shape:
            got = tuple(z.shape) if isinstance(z, Tensor) else z
            raise ValueError(f"expected z of shape {tuple(mask.shape)} + latent shape as x, got {got}")
        if z.device != mask.device:
            raise ValueError(f"expected z on {mask.device} as x, got {z.device}; move it with .to")
        return z.where(mask[(...,) + (None,) * (z.dim() - 2)], 0)

    def _first(self, first: First | None) -> First:
        if first is None:
            return self.first
        check_choice("first", first, ("model", "condition"))
        return first

    def latent_log_probs(self, x: Tensor, z: Tensor, h: Tensor | None, first: First) -> Tensor:
        """log p(z_t | z_{t-1}, h_t) of every step, (batch, T), for memory h (batch, T, dim)."""
        if first == "model" and not self.reads_state:
            return self.initial(h).log_prob(z)
        h_1, later = (None, None) if h is None else (h[:, 0], h[:, 1:])
        start = self.initial(h_1) if first == "model" else self.initial_given(h_1, x[:, 0])
        steps = [start.log_prob(z[:, 0])[:, None]]
        if z.shape[1] > 1:
            steps.append(self.transition(z[:, :-1], later).log_prob(z[:, 1:]))
        return torch.cat(steps, dim=1)

    def _memory_loop(self, x: Tensor, z: Tensor | None = None) -> Tensor | None:
        if self.initial_memory is None:
            return None
        h = [self.initial_memory.expand(x.shape[0], -1)]
        latents = [None] * x.shape[1] if z is None else z.unbind(1)
        for read, z_t in zip(self.read(x[:, :-1]).unbind(1), latents, strict=False):
            h.append(self.advance(h[-1], z_t, read))
        return torch.stack(h, dim=1)

    def _continue(
        self,
        h: Tensor | None,
        z: Tensor | None,
        x: Tensor,
        num_steps: int,
        drawn: list[tuple[Tensor | None, Tensor]],
        inputs: Tensor | None,
    ) -> Sequences:
        """Append `num_steps` ancestral draws that follow the state (h, z, x) to those in `drawn`."""
        for t in range(num_steps):
            h = self.next_memory(h, z, x, None if inputs is None else inputs[:, t])
            z = None if z is None else self.transition(z, h).sample()
            x = self.emission(z, h).sample()
            drawn.append((z, x))
        states, observations = zip(*drawn, strict=True)
        lengths = torch.full((x.shape[0],), len(drawn), device=x.device)
        return Sequences(torch.stack(observations, 1), lengths, None if z is None else torch.stack(states, 1))
