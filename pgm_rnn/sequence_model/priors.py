"""Priors on the parameters of a model: each such parameter becomes a Pyro site.

    theta_name ~ priors[name],   x ~ model(theta)
    phi ~ hyperpriors,   theta_g ~ law(phi),   x_n ~ model(theta_{g(n)})      in groups of sequences

Every engine of Pyro that takes a program takes this one: NUTS (`pgm_rnn.inference.mcmc`), SVI with an automatic guide,
`Predictive`. Vectorised draws of the parameters, as in `Trace_ELBO(vectorize_particles=True)` and
`Predictive(parallel=True)`, have one density each.
"""

import copy
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model.by_group import ByGroup, Groups, moved
from pgm_rnn.sequence_model.group_program import check_one_each, run_in_groups
from pgm_rnn.sequence_model.law_checks import check_laws
from pgm_rnn.sequence_model.model import SequenceModel
from pgm_rnn.sequence_model.naturals import natural_parameters
from pgm_rnn.sequence_model.parameter_draws import axes_of_draws, raw_parameters, run_with_values
from pgm_rnn.sequence_model.parameters import current_parameters
from pgm_rnn.sequences import Sequences

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

    With `groups`, the priors that are a `ByGroup` give each group of sequences a parameter of its own, which comes from
    a law of the population; all groups share the other parameters. A draw of such a parameter is (num_groups, *shape),
    in the order of `group_names`, and its hyperparameters are sites of their own ("loc_scale").

    Args:
        model: any model of the zoo; with groups, one with an exact likelihood.
        priors: laws by the names of parameters. The batch axes of a law become part of its event.
        groups: the group of each sequence, as words or whole numbers: a list, an array or a column of a table.

    Raises:
        TypeError: a model that is no `SequenceModel`, or groups of another kind.
        ValueError: no prior, a name that the model does not have, a law over another shape or over values that the
            parameter cannot have, two laws for one parameter, or groups without a `ByGroup` or the other way round.

    Example:
        >>> import pyro.distributions as dist
        >>> from pgm_rnn.models import HMM
        >>> hmm = HMM.random(num_states=2, num_symbols=3, seed=0)
        >>> program = WithPriors(hmm, {"transition_probs": dist.Dirichlet(torch.ones(2, 2))})
        >>> program(hmm.sample(4, 8, seed=1).x)["transition_probs"].shape
        torch.Size([2, 2])
        >>> law = ByGroup(dist.Dirichlet, concentration=dist.Gamma(torch.ones(2, 2), 1.0))
        >>> program = WithPriors(hmm, {"transition_probs": law}, groups=["a", "b", "b", "a"])
        >>> program(hmm.sample(4, 8, seed=1).x)["transition_probs"].shape
        torch.Size([2, 2, 2])
    """

    def __init__(
        self, model: SequenceModel, priors: Mapping[str, TorchDistribution | ByGroup], *, groups: Any = None
    ) -> None:
        if not isinstance(model, SequenceModel):
            raise TypeError(f"expected a SequenceModel, such as HMM, got {type(model).__name__}")
        if not priors:
            raise ValueError("expected at least one prior, got none; name a parameter and its law")
        check_laws(model, values=False)  # here, for the parameters of a run may be those of any draw
        self.model = model
        self.by_group = {name: law for name, law in priors.items() if isinstance(law, ByGroup)}
        self.groups = None if groups is None else Groups.of(groups)
        self._check_groups()
        self.priors = _sites(priors)
        with seeded(0), torch.no_grad():  # draws that are only looked at
            self._event_dims = {name: law.event_dim for name, law in self._laws_of_one_group().items()}
            self._check_laws()
            self._check_one_law_each()
            self._offset_laws = self._laws_of_offsets()

    def _laws_of_offsets(self) -> dict[str, TorchDistribution]:
        """Standard normal laws of one group's offsets, by the names of the parameters that are not centred."""
        found = {}
        for name, law in self._laws_of_one_group().items():
            if name in self.by_group and not self.by_group[name].centered:
                value = moved(law, law.sample().new_zeros(()))
                if value.shape != law.event_shape:
                    raise ValueError(f"expected one offset for each entry of {name}, got {tuple(value.shape)}")
                found[name] = dist.Normal(torch.zeros_like(value), 1.0).to_event(value.dim())
        for name in found:
            if self.offset_site(name) in (*self.priors, *self.by_group):
                raise ValueError(
                    f"expected a name of its own for the offset of {name}, got {self.offset_site(name)} twice"
                )
        return found

    def _check_groups(self) -> None:
        """Raise unless groups and laws of groups come together, for a model that can be summed out."""
        if self.groups is None and self.by_group:
            raise ValueError(f"expected groups= with ByGroup for {next(iter(self.by_group))}, got none")
        if self.groups is not None and not self.by_group:
            raise ValueError("expected a parameter that differs between the groups, ByGroup(law, ...), got none")
        if self.by_group and not self.model.exact:
            raise ValueError(
                f"expected a model with an exact likelihood for groups, such as HMM or LinearGaussianSSM, got "
                f"{type(self.model).__name__}"
            )

    def _check_laws(self) -> None:
        """Raise unless each law fits its parameter."""
        naturals, present = natural_parameters(self.model), current_parameters(self.model)
        for name, law in self._laws_of_one_group().items():
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
        values = {name: law.sample() for name, law in self._laws_of_one_group().items()}
        for pair in combinations(values, 2):
            there, back = (self.raw({name: values[name] for name in names}) for names in (pair, pair[::-1]))
            if not all(torch.allclose(there[raw], back[raw], rtol=1e-3, atol=1e-5, equal_nan=True) for raw in there):
                raise ValueError(
                    f"expected one prior for each parameter, got {pair[0]} and {pair[1]}, which set the same one; "
                    "leave one out"
                )

    def _laws_of_one_group(self) -> dict[str, TorchDistribution]:
        """The laws of the model's parameters, those of groups at a draw of their hyperparameters."""
        hyper = {site for name in self.by_group for site in self.hyper_sites(name).values()}
        found = {name: law for name, law in self.priors.items() if name not in hyper}
        for name, law in self.by_group.items():
            one = law.at({key: self.priors[site].sample() for key, site in self.hyper_sites(name).items()})
            found[name] = one.to_event(len(one.batch_shape))
        return found

    def hyper_sites(self, name: str) -> dict[str, str]:
        """The sites of the hyperparameters of a parameter, by the names of the arguments of its law."""
        return {key: _site(name, key) for key in self.by_group[name].hyperpriors}

    def offset_site(self, name: str) -> str:
        """The site of the offsets of a parameter that is not centred."""
        return _site(name, "offset")

    @property
    def offsets(self) -> tuple[str, ...]:
        """The sites of the offsets of groups; none where all parameters are centred."""
        return tuple(self.offset_site(name) for name in self._offset_laws)

    @property
    def group_names(self) -> tuple[Any, ...]:
        """The labels of the groups, sorted; none without groups."""
        return () if self.groups is None else self.groups.names

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parameters of a draw: with a prior, of a population, of groups and of their offsets."""
        return (*self.priors, *self.offsets, *self.by_group)

    def __call__(
        self, x: Tensor, lengths: Tensor | None = None, *, groups: Any = None, **options: Any
    ) -> dict[str, Tensor]:
        """Draw the parameters and run the model's program.

        Vectorised draws are computed at once, by `torch.func.vmap`. Where the code of a model cannot be mapped, for
        example because it reads the value of a tensor, they are computed one after the other, with the same result.

        Args:
            x: observations (batch, T, *event).
            lengths: (batch,) steps of each sequence, None for T.
            groups: the group of each sequence, for other sequences than those of the constructor's `groups`, such as a
                minibatch of them.
            options: as for `SequenceModel.model`.

        Raises:
            ValueError: a group that the program does not have, or another number of groups than sequences.
        """
        values = {name: pyro.sample(name, law) for name, law in self.priors.items()}
        if self.groups is None and groups is None:
            run_with_values(self.model, values, self._event_dims, x, lengths, **options)
            return values
        there = self._groups_of(groups)
        with pyro.plate("groups", len(there.names), dim=-1):
            for name in self.by_group:
                values |= self._drawn_in_groups(name, values)
        used = {name: values[name] for name in self._event_dims}
        run_in_groups(self.model, used, self._event_dims, there, x, lengths, **options)
        return values

    def _drawn_in_groups(self, name: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sites of a parameter of groups: its own, and before it that of the offsets if it is not centred."""
        law = self._law_of_groups(name, values)
        if name not in self._offset_laws:
            return {name: pyro.sample(name, law)}
        site = self.offset_site(name)
        offset = pyro.sample(site, self._offset_laws[name])
        return {site: offset, name: pyro.deterministic(name, moved(law, offset), event_dim=self._event_dims[name])}

    def _law_of_groups(self, name: str, values: Mapping[str, Tensor]) -> TorchDistribution:
        """The law of a parameter of one group, at hyperparameters that may have axes of draws."""
        hyper = {}
        for key, site in self.hyper_sites(name).items():
            value, own = values[site], self.priors[site].event_dim
            hyper[key] = value.reshape(axes_of_draws(value, own) + value.shape[value.dim() - own :])
        law = self.by_group[name].at(hyper)
        return law.to_event(self._event_dims[name] - law.event_dim)

    @torch.no_grad()
    def draw(self) -> dict[str, Tensor]:
        """A draw of all parameters from their priors, by name: (*shape), or (num_groups, *shape) of groups."""
        values = {name: law.sample() for name, law in self.priors.items()}
        return values | self.draw_groups(values)

    @torch.no_grad()
    def draw_groups(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A draw of the groups' parameters at those of their population, by name: (num_groups, *shape)."""
        size, found = torch.Size([len(self.group_names)]), {}
        for name in self.by_group:
            law = self._law_of_groups(name, values)
            if name in self._offset_laws:
                offset = found[self.offset_site(name)] = self._offset_laws[name].sample(size)
                found[name] = moved(law, offset)
            else:
                found[name] = law.sample(size)
        return found

    @torch.no_grad()
    def completed(self, draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Draws with the groups' parameters that follow from their offsets, (*draws, num_groups, *shape).

        Args:
            draws: values of the sites, (*draws, *shape), or (*draws, num_groups, *shape) of groups.
        """
        found = dict(draws)
        for name in self._offset_laws:
            sites = self.hyper_sites(name).items()
            hyper = {key: draws[site].unsqueeze(-1 - self.priors[site].event_dim) for key, site in sites}
            found[name] = moved(self.by_group[name].at(hyper), draws[self.offset_site(name)])
        return found

    def of_group(self, values: Mapping[str, Tensor], group: Any) -> dict[str, Tensor]:
        """The parameters of one group among those of a draw, or of many draws (num, *shape).

        Raises:
            ValueError: a group that the program does not have.
        """
        if self.groups is None:
            raise ValueError(f"expected a program with groups=, got one without, for the group {group!r}")
        number = self.groups.number(group)
        axis = {name: values[name].dim() - 1 - self._event_dims[name] for name in self.by_group}
        return {
            name: values[name].select(axis[name], number) if name in axis else values[name] for name in self._event_dims
        }

    def parts(
        self, values: Mapping[str, Tensor], data: Sequences, groups: Any = None
    ) -> Iterator[tuple[Tensor, dict[str, Tensor], Sequences]]:
        """The places of a group's sequences, its parameters, and these sequences; all at once without groups.

        Args:
            values: parameters by name, of one draw or of many (num, *shape).
            data: the sequences.
            groups: the group of each sequence, where they are others than those of the constructor.

        Raises:
            ValueError: another number of groups than sequences, or a group that the program does not have.
        """
        if self.groups is None:
            yield torch.arange(len(data.x)), {name: values[name] for name in self.priors}, data
            return
        there = self._groups_of(groups)
        check_one_each(there, len(data.x))
        for number in there.numbers.unique().tolist():
            place = (there.numbers == number).nonzero()[:, 0]
            yield place, self.of_group(values, there.names[number]), data.select(place)

    def _groups_of(self, labels: Any) -> Groups:
        """The groups of sequences with these labels, or those of the constructor for None."""
        if self.groups is None:
            raise ValueError("expected a program with groups=, WithPriors(model, priors, groups=...), got one without")
        return self.groups if labels is None else self.groups._replace(numbers=self.groups.among(labels))

    def raw(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The module's parameters, by name, from natural ones."""
        return raw_parameters(self.model, values)

    @torch.no_grad()
    def model_at(self, values: Mapping[str, Tensor], group: Any = None) -> SequenceModel:
        """A copy of the model with one draw of the parameters, to run any engine on: filters, forecasts, saving.

        Args:
            values: a draw of the parameters by name, such as `posterior.draw(0)`.
            group: the group whose parameters it has, for a program with groups.

        Raises:
            ValueError: no group for a program with groups, or one that it does not have.
        """
        if self.groups is not None and group is None:
            raise ValueError(
                f"expected group=, one of {', '.join(map(repr, self.group_names))}, got none; new_group makes another"
            )
        twin = copy.deepcopy(self.model)
        parameters = dict(twin.named_parameters())
        for name, value in self.raw(values if group is None else self.of_group(values, group)).items():
            parameters[name].copy_(value)
        return twin

    @torch.no_grad()
    def new_group(self, values: Mapping[str, Tensor], *, seed: int | None = None) -> SequenceModel:
        """A copy of the model for a group without data, whose parameters are drawn from the law of the population.

        Args:
            values: a draw of the parameters by name.
            seed: makes the draw reproducible; None uses torch's global generator.

        Raises:
            ValueError: a program without groups.
        """
        if self.groups is None:
            raise ValueError("expected a program with groups=, got one without; model_at gives its model")
        with seeded(seed, stream=18):
            own = {name: self._law_of_groups(name, values).sample()[None] for name in self.by_group}
        alone = copy.copy(self)
        alone.groups = Groups(("new",), torch.zeros(1, dtype=torch.int64))
        return alone.model_at({**values, **own}, "new")


def _site(name: str, key: str) -> str:
    """The site of the hyperparameter `key` of a parameter."""
    return f"{name}_{key}"


def _sites(priors: Mapping[str, TorchDistribution | ByGroup]) -> dict[str, TorchDistribution]:
    """The laws of the parameters that all groups share, and of hyperparameters, by their sites.

    Raises:
        ValueError: two of them have the same name.
    """
    found: dict[str, TorchDistribution] = {}
    for name, law in priors.items():
        if not isinstance(law, ByGroup):
            found[name] = law.to_event(len(law.batch_shape))
            continue
        for key, hyperprior in law.hyperpriors.items():
            site = _site(name, key)
            if site in priors or site in found:
                raise ValueError(f"expected a name of its own for the hyperparameter {key} of {name}, got {site} twice")
            found[site] = hyperprior
    return found


def _check_shape(name: str, value: Tensor, like: Tensor) -> None:
    if value.shape != like.shape:
        raise ValueError(f"expected a prior for {name} that gives {tuple(like.shape)}, got {tuple(value.shape)}")


def _title(law: TorchDistribution) -> str:
    """The name of a law, without the event axes around it."""
    return type(getattr(law, "base_dist", law)).__name__
