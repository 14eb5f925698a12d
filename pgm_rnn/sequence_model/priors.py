"""Priors on the parameters of a model: each such parameter becomes a Pyro site.

    theta_name ~ priors[name],   x ~ model(theta)

Every engine of Pyro that takes a program takes this one: NUTS (`pgm_rnn.inference.mcmc`), SVI with an automatic guide,
`Predictive`. Vectorised draws of the parameters, as in `Trace_ELBO(vectorize_particles=True)` and
`Predictive(parallel=True)`, have one density each.
"""

import copy
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model.law_checks import check_laws
from pgm_rnn.sequence_model.model import SequenceModel
from pgm_rnn.sequence_model.naturals import natural_parameters
from pgm_rnn.sequence_model.parameter_draws import raw_parameters, run_with_values
from pgm_rnn.sequence_model.parameters import current_parameters

_DRAWS = 16
"""Number of draws from a prior that are compared with the values that its parameter may have."""


class WithPriors:
    """The program of a model whose parameters have priors; those without one keep the model's values.

    A parameter has the name of the constructor's argument (`transition_probs`, `initial_mean`), or in a family's
    `table` (`loc`, `scale`, `rate`, `probs`, `cov`), or among the model's `named_parameters()`. Where two parts of a
    model have the name, the path of the part stands before it ("emission_table.loc"). Each covariance can be drawn
    whole ("transition_cov", by `pgm_rnn.distributions.InverseWishart`) or in two parts: "transition_scale", its
    standard deviations, and "transition_correlation_cholesky", by `pyro.distributions.LKJCholesky`, or
    "transition_correlation", by `LKJ`. An unknown name is an error that lists all names.

    Args:
        model: any model of the zoo.
        priors: laws by the names of parameters. The batch axes of a law become part of its event.

    Raises:
        TypeError: a model that is no `SequenceModel`.
        ValueError: no prior, a name that the model does not have, a law over another shape or over values that the
            parameter cannot have, or two laws for one parameter.

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
        with seeded(0), torch.no_grad():  # draws that are only looked at
            self._check_laws()
            self._check_one_law_each()

    def _check_laws(self) -> None:
        """Raise unless each law fits its parameter."""
        naturals, present = natural_parameters(self.model), current_parameters(self.model)
        for name, law in self.priors.items():
            natural = naturals.get(name)
            if natural is None:
                raw, value = self.model.unconstrained(name, law.sample())
                _check_shape(name, value, present[raw])
                continue
            _check_shape(name, law.sample(), natural.read(present[natural.raw]))
            for value in (law.sample() for _ in range(_DRAWS)):
                if not bool(natural.support.check(value).all()):
                    raise ValueError(
                        f"expected a prior over {natural.values} for {name}, got a draw of {_title(law)} outside these "
                        "values; use a law over them"
                    )

    def _check_one_law_each(self) -> None:
        """Raise if two laws set the same entries of a parameter, which is where their order matters."""
        values = {name: law.sample() for name, law in self.priors.items()}
        for pair in combinations(values, 2):
            there, back = (self.raw({name: values[name] for name in names}) for names in (pair, pair[::-1]))
            if not all(torch.allclose(there[raw], back[raw], rtol=1e-3, atol=1e-5, equal_nan=True) for raw in there):
                raise ValueError(
                    f"expected one prior for each parameter, got {pair[0]} and {pair[1]}, which set the same one; "
                    "leave one out"
                )

    def __call__(self, x: Tensor, lengths: Tensor | None = None, **options: Any) -> dict[str, Tensor]:
        """Draw the parameters and run the model's program; options as for `SequenceModel.model`.

        Vectorised draws are computed at once, by `torch.func.vmap`. Where the code of a model cannot be mapped, for
        example because it reads the value of a tensor, they are computed one after the other, with the same result.
        """
        values = {name: pyro.sample(name, law) for name, law in self.priors.items()}
        event_dims = {name: law.event_dim for name, law in self.priors.items()}
        run_with_values(self.model, values, event_dims, x, lengths, **options)
        return values

    def raw(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The module's parameters, by name, from natural ones."""
        return raw_parameters(self.model, values)

    @torch.no_grad()
    def model_at(self, values: Mapping[str, Tensor]) -> SequenceModel:
        """A copy of the model with one draw of the parameters, to run any engine on."""
        twin = copy.deepcopy(self.model)
        parameters = dict(twin.named_parameters())
        for name, value in self.raw(values).items():
            parameters[name].copy_(value)
        return twin


def _check_shape(name: str, value: Tensor, like: Tensor) -> None:
    if value.shape != like.shape:
        raise ValueError(f"expected a prior for {name} that gives {tuple(like.shape)}, got {tuple(value.shape)}")


def _title(law: TorchDistribution) -> str:
    """The name of a law, without the event axes around it."""
    return type(getattr(law, "base_dist", law)).__name__
