"""The graphical model that all models of the zoo share.

    h_t = recurrence(h_{t-1}, z_{t-1}, x_{t-1})     deterministic memory, h_1 = initial_memory
    z_t ~ transition(z_{t-1}, h_t)                  latent state, z_1 ~ initial(h_1)
    x_t ~ emission(z_t, h_t)                        observation,   t = 1..T

A model defines these four (`conditionals`); densities, draws, forecasts and the Pyro programs are derived from them
here, once. Choe et al. (2017, sec. 3.1) index the memory one step later (their H_t is h_{t+1}) and condition on x_1:
that is `first="condition"`. `first="model"` is the joint law of their Remark 1, where p(x_1) is the emission at h_1.
"""

from itertools import count
from typing import Any

import torch
from torch import Tensor

from pgm_rnn import moved
from pgm_rnn.checks import check_counts
from pgm_rnn.emissions import Emission
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import chains, products, programs, segments
from pgm_rnn.sequence_model.ancestral import Forecast, Step, drawn_sequences, following, stacked
from pgm_rnn.sequence_model.conditionals import Conditionals, First, example_of, memory_of
from pgm_rnn.sequence_model.densities import joint_log_prob, marginal_log_prob
from pgm_rnn.sequence_model.law_checks import check_laws
from pgm_rnn.sequence_model.mixins import SumsOutStates
from pgm_rnn.sequence_model.naturals import written
from pgm_rnn.sequence_model.observations import check_inputs, check_observations, checked, chosen_first
from pgm_rnn.sequence_model.programs import Memory, Rendering
from pgm_rnn.sequence_model.pyro_module import is_random, run_random
from pgm_rnn.sequence_model.tables import has_tables, last_states
from pgm_rnn.sequences import Data, Sequences


class SequenceModel(Conditionals):
    """A sequence model given by its recurrence, initial, transition and emission; attributes as for `Conditionals`.

    Args:
        family: the family of observation laws; fixes event shape, dtype and valid values.
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Example:
        >>> import pyro.distributions as dist
        >>> from pgm_rnn.emissions import Gaussian
        >>> class Walk(SequenceModel):
        ...     def initial(self, h):
        ...         return dist.Normal(0.0, 1.0)
        ...     def transition(self, z, h):
        ...         return dist.Normal(z, 1.0)
        ...     def emission(self, z, h):
        ...         return dist.Normal(z, 0.5)
        >>> Walk(Gaussian()).sample(num_sequences=2, num_steps=5, seed=0).z.shape
        torch.Size([2, 5])
    """

    _instances = count()

    def __init__(self, family: Emission, first: First = "model") -> None:
        super().__init__(family, first)
        self._name_sites()

    def _name_sites(self) -> None:
        """Give each instance a name of its own, so that two models never share an entry of Pyro's parameter store."""
        self.site_prefix = f"{type(self).__name__}_{next(SequenceModel._instances)}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._name_sites()

    def __getattr__(self, name: str) -> Any:
        """A parameter, buffer or module; for a method of 0.1.0, the error names its replacement."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in moved.METHODS:
                raise AttributeError(f"{type(self).__name__} has no {name}; use {moved.METHODS[name]}") from None
            raise

    def __repr__(self) -> str:
        """One line: the sizes, the family, the states and the number of parameters."""
        try:
            name, options = self.recipe
        except TypeError:
            name, options = "", {}
        sizes = [f"{option}={value!r}" for option, value in options.items() if value is not None]
        title = [] if name.replace("-", "") in ("", type(self).__name__.lower()) else [name]
        states = [] if self.states is None or options else [repr(self.states)]
        numbers = sum(parameter.numel() for parameter in self.parameters())
        parts = [*title, *sizes, *states, f"emission={self.family}"]
        first = ["first='condition'"] if self.first == "condition" else []
        return f"{type(self).__name__}({', '.join([*parts, *first])}; {numbers:,} parameters)"

    def unconstrained(self, name: str, value: Tensor) -> tuple[str, Tensor]:
        """Name and value of the module's parameter in which the parameter `name` has this value; differentiable.

        Args:
            name: a natural or a raw parameter; see `pgm_rnn.sequence_model.naturals`.
            value: its value, which is converted to the parameter's dtype. What else the module's parameter holds stays
                as it is now.

        Raises:
            ValueError: a name that the model does not have.
        """
        return written(self, name, value)

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """The zoo's name, and the options besides emission and `first` that make a model of the same shape.

        Raises:
            TypeError: a model that is not in the zoo.
        """
        raise TypeError(f"expected a model of the zoo, got {type(self).__name__}, which has no recipe to make it again")

    def model(
        self,
        x: Data | None = None,
        lengths: Tensor | None = None,
        *,
        rendering: Rendering = "fused",
        first: First | None = None,
        memory: Memory = "deterministic",
        inputs: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The Pyro program of p(x, z); sites and their shapes are described in `pgm_rnn.sequence_model.programs`.

        Args:
            x: a batch, or observations (batch, T, *event); None draws them (unrolled rendering only, `lengths` needed).
            lengths: (batch,) steps of each sequence, None for T.
            rendering: "fused", one site per variable, or "unrolled", one site per variable and step.
            first: overrides the model's own `first`.
            memory: "deterministic", h_t is `pyro.deterministic`; "sampled", h_t is a latent site with a Delta law,
                which the guide must supply.
            inputs: (batch, T, input_dim) for a model with inputs.
            mask: True where x was observed, (batch, T) or the shape of x; None for wherever it is not NaN. What is
                missing is integrated out.

        Returns:
            The observations, (batch, T, *event).

        Raises:
            ValueError, TypeError: observations or options that do not fit the model.
        """
        first = chosen_first(self, first)
        if is_random(self):
            options = {"rendering": rendering, "first": first, "memory": memory, "inputs": inputs, "mask": mask}
            return run_random(self, x, lengths, **options)
        return programs.run_model(self, self.site_prefix, x, lengths, inputs, rendering, first, memory, mask)

    def guide(
        self,
        x: Data | None = None,
        lengths: Tensor | None = None,
        *,
        rendering: Rendering = "fused",
        first: First | None = None,
        memory: Memory = "deterministic",
        inputs: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """The Pyro guide q(h, z | x) = prod_t p(h_t | h_{t-1}, z_{t-1}, x_{t-1}) q(z_t | z_{t-1}, h_t, features_t).

        Arguments as for `model`. Deterministic memory is not latent; latent states that the engine or the fused
        rendering sums out need no guide. Without z it is that of Sohl-Dickstein & Kingma (2015), eq. (6)-(8).
        """
        first = chosen_first(self, first)
        programs.run_guide(self, self.site_prefix, x, lengths, inputs, rendering, first, memory, mask)

    def log_prob(
        self,
        x: Data,
        z: Tensor | None = None,
        lengths: Tensor | None = None,
        *,
        first: First | None = None,
        inputs: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Log density of the given values, log p(x_{1:T}, z_{1:T}), or log p(x_{1:T}) if z is None: nats, (batch,).

        Args:
            x: a batch, whose z counts if it has one, observations (batch, T, *event), or one sequence (T, *event).
            z: latent states (batch, T, *latent).
            lengths: (batch,) steps of each sequence, None for T.
            first: overrides the model's own `first`.
            inputs: (batch, T, input_dim) for a model with inputs.
            mask: True where x was observed, (batch, T) or the shape of x; None for wherever it is not NaN. What is
                missing is integrated out.

        Raises:
            ValueError, TypeError: values that do not fit the model.
        """
        if self.states is None and z is not None:
            raise ValueError(
                f"expected no latent states z, because {type(self).__name__} has none, got {type(z).__name__}; leave z "
                "out"
            )
        data = checked(self, x, lengths, z=z, inputs=inputs, mask=mask, with_states=self.states is not None)
        first = chosen_first(self, first)
        return marginal_log_prob(self, data, first) if data.z is None else joint_log_prob(self, data, first)

    def log_marginal_likelihood(
        self,
        x: Data,
        lengths: Tensor | None = None,
        *,
        first: First | None = None,
        inputs: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Exact log p(x_{1:T}) in nats, (batch,), where the model can sum its latent states out.

        Args:
            x: a batch, observations (batch, T, *event), or one sequence (T, *event), as any `Data`.
            lengths: (batch,) steps of each sequence, None for T.
            first: overrides the model's own `first`.
            inputs: (batch, T, input_dim) for a model with inputs.
            mask: True where x was observed, (batch, T) or the shape of x; None for wherever it is not NaN. What is
                missing is integrated out.

        Raises:
            ValueError: a model without an exact likelihood, or values that do not fit the model.
        """
        first = chosen_first(self, first)
        return marginal_log_prob(self, checked(self, x, lengths, inputs=inputs, mask=mask), first)

    @torch.no_grad()
    def sample(
        self, num_sequences: int, num_steps: int, *, seed: int | None = None, inputs: Tensor | None = None
    ) -> Sequences:
        """Ancestral draws from p(x_{1:T}, z_{1:T}).

        Args:
            num_sequences: number of sequences, at least 1.
            num_steps: T, at least 1.
            seed: makes the draw reproducible; None uses torch's global generator.
            inputs: (num_sequences, num_steps, input_dim) for a model with inputs.

        Returns:
            x (num_sequences, num_steps, *event) and, where there are any, latent states z and the inputs.

        Raises:
            ValueError: counts below 1, or a model that conditions on x_1.
        """
        check_counts(num_sequences=num_sequences, num_steps=num_steps)
        inputs = check_inputs(inputs, self.input_dim, example_of(self).new_empty(num_sequences, num_steps))
        check_laws(self, None, inputs)
        with seeded(seed, stream=1):
            return drawn_sequences(self, num_sequences, num_steps, inputs)

    @torch.no_grad()
    def forecast(
        self,
        x: Data,
        num_steps: int,
        *,
        lengths: Tensor | None = None,
        num_samples: int | None = None,
        seed: int | None = None,
        inputs: Tensor | None = None,
        future_inputs: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Forecast:
        """Draws of x_{L+1}, ..., x_{L+num_steps} given x_{1:L}, where L is the length of each sequence.

        Args:
            x: a batch, observations so far (batch, T, *event), or those of one sequence (T, *event), as any `Data`.
            num_steps: number of steps to forecast, at least 1.
            lengths: (batch,) steps of each sequence, None for T.
            num_samples: draws for each sequence; None for one draw without the leading dimension.
            seed: makes the draws reproducible; None uses torch's global generator.
            inputs: (batch, T, input_dim) for a model with inputs.
            future_inputs: inputs of the steps to forecast, (batch, num_steps, input_dim).
            mask: True where x was observed, (batch, T) or the shape of x; None for wherever it is not NaN.

        Returns:
            x (num_samples, batch, num_steps, *event) and z where there is one.

        Raises:
            ValueError, TypeError: values that do not fit the model, or a model without p(z_L | x_{1:L}) in closed form.
        """
        check_counts(num_steps=num_steps, **({} if num_samples is None else {"num_samples": num_samples}))
        data = checked(self, x, lengths, inputs=inputs, mask=mask)
        batch, draws = len(data.x), num_samples or 1
        ahead = check_inputs(
            future_inputs, self.input_dim, example_of(self).new_empty(batch, num_steps), name="future_inputs"
        )
        with seeded(seed, stream=2):
            repeat = torch.arange(batch, device=data.x.device).repeat(draws)
            last = self._last_step(data, repeat)
            drawn = stacked(following(self, last, num_steps, None if ahead is None else ahead[repeat]), dim=1)
        shape = (batch,) if num_samples is None else (draws, batch)
        return Forecast(*(None if part is None else part.reshape(*shape, *part.shape[1:]) for part in drawn))  # type: ignore[arg-type]

    def _last_step(self, data: Sequences, index: Tensor) -> Step:
        """The last step of the sequences at `index` (k,), its latent states drawn given all observations."""
        last, z = data.lengths[index] - 1, None
        if isinstance(self, SumsOutStates):
            z = self.last_states(data, index)
        elif products.has_product(self):
            z = products.last_states(self, data, index)
        elif has_tables(self):
            z = last_states(self, data, index)
        elif segments.has_segments(self):
            return Step(*segments.last_states(self, data, index), data.x[index, last])
        elif chains.has_chain(self):
            z = chains.last_states(chains.chain_of(self, data), index)
        elif self.states is not None:
            raise ValueError(f"{type(self).__name__} has no exact filter to forecast from; use smc.forecast")
        h = memory_of(self).step_by_step(data.x, None, data.inputs)
        return Step(None if h is None else h[index, last], z, data.x[index, last])

    def check(self, x: Tensor, lengths: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Observations with zeros in their padding and where they are missing, in the model's dtype, and lengths.

        Raises:
            TypeError: an x that is no tensor or has the wrong dtype.
            ValueError: wrong shape, device, lengths, NaN or values outside the family's support.
        """
        return check_observations(self.family, x, lengths, example_of(self), mask)
