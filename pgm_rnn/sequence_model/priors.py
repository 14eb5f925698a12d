"""Priors on the parameters of a model: each such parameter becomes a Pyro site.

    theta_name ~ priors[name],   x ~ model(theta)

Every engine of Pyro that takes a program takes this one: NUTS (`pgm_rnn.inference.mcmc`), SVI with an automatic guide,
`Predictive`. Vectorised draws of the parameters, as in `Trace_ELBO(vectorize_particles=True)` and
`Predictive(parallel=True)`, have one density each.
"""

import copy
from collections.abc import Mapping
from typing import Any

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model.law_checks import check_laws
from pgm_rnn.sequence_model.model import SequenceModel
from pgm_rnn.sequence_model.parameter_draws import run_under_draws
from pgm_rnn.sequence_model.parameters import call_with


class WithPriors:
    """The program of a model whose parameters have priors; those without one keep the model's values.

    Args:
        model: any model of the zoo.
        priors: laws by parameter name, either a name of the model's constructor ("transition_probs", "transition_cov")
            or one of `named_parameters()`. The batch axes of a law become part of its event.

    Raises:
        TypeError: a model that is no `SequenceModel`.
        ValueError: no prior, a name that the model does not have, or a law over another shape.

    Example:
        >>> import pyro.distributions as dist
        >>> from pgm_rnn.models import HMM
        >>> hmm = HMM.random(num_states=2, num_symbols=3, seed=0)
        >>> program = WithPriors(hmm, {"transition_probs": dist.Dirichlet(torch.ones(2, 2))})
        >>> program(hmm.sample(4, 8, seed=1).x)["transition_probs"].shape
        torch.Size([2, 2])
    """

    def __init__(self, model: SequenceModel, priors: Mapping[str, TorchDistribution]) -> None:
        if not isinstance(model, SequenceModel):
            raise TypeError(f"expected a SequenceModel, such as HMM, got {type(model).__name__}")
        if not priors:
            raise ValueError("expected at least one prior, got none; name a parameter and its law")
        check_laws(model, values=False)  # here, for the parameters of a run may be those of any draw
        self.model = model
        self.priors = {name: law.to_event(len(law.batch_shape)) for name, law in priors.items()}
        for name, law in self.priors.items():
            with seeded(0):  # only the shape of this draw is used
                raw_name, raw = model.unconstrained(name, law.sample())
            expected = dict(model.named_parameters())[raw_name].shape
            if raw.shape != expected:
                raise ValueError(f"expected a prior for {name} that gives {tuple(expected)}, got {tuple(raw.shape)}")

    def __call__(self, x: Tensor, lengths: Tensor | None = None, **options: Any) -> dict[str, Tensor]:
        """Draw the parameters and run the model's program; options as for `SequenceModel.model`.

        Raises:
            ValueError: vectorised draws under the unrolled rendering.
        """
        values = {name: pyro.sample(name, law) for name, law in self.priors.items()}
        draws = self._draws(values)
        with pyro.settings.context(module_local_params=True):
            if draws is None:
                call_with(self.model, self.raw(values), self.model.model, x, lengths, **options)
            else:
                run_under_draws(self.model, self._raw_of_each(values, draws), draws, x, lengths, **options)
        return values

    def _draws(self, values: Mapping[str, Tensor]) -> torch.Size | None:
        """Shape of vectorised draws of the parameters, left of the axis of the sequences; None for a single draw."""
        axes = [self._axes(name, value) for name, value in values.items()]
        return torch.broadcast_shapes(*axes)[:-1] if any(axes) else None

    def _axes(self, name: str, value: Tensor) -> torch.Size:
        """Axes of draws and of sequences, the latter of size 1; `Predictive` may leave it out."""
        batch = value.shape[: max(0, value.dim() - self.priors[name].event_dim)]
        return batch if not batch or batch[-1] == 1 else torch.Size([*batch, 1])

    def _raw_of_each(self, values: Mapping[str, Tensor], draws: torch.Size) -> list[dict[str, Tensor]]:
        """The module's parameters of each draw."""
        rows = []
        for name, value in values.items():
            event = self.priors[name].event_shape
            value = value.reshape(self._axes(name, value) + event)
            rows.append(value.expand(*draws, 1, *event).reshape(-1, *event).unbind(0))
        return [self.raw(dict(zip(values, each, strict=True))) for each in zip(*rows, strict=True)]

    def raw(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The module's parameters, by name, from natural ones."""
        return dict(self.model.unconstrained(name, value) for name, value in values.items())

    @torch.no_grad()
    def model_at(self, values: Mapping[str, Tensor]) -> SequenceModel:
        """A copy of the model with one draw of the parameters, to run any engine on."""
        twin = copy.deepcopy(self.model)
        parameters = dict(twin.named_parameters())
        for name, value in self.raw(values).items():
            parameters[name].copy_(value)
        return twin
