"""The tables of a model of several chains (`ProductStates`), which the recursions of products take.

    p(z_t | z_{t-1}, h_t) = prod_m p(z_t^m | z_{t-1}^m, h_t)

A law of a transition is asked for only as many values of z as the largest chain has states: in the k-th of them every
chain is in its k-th state, or its last one. The emission is evaluated at all values. Tables differ by sequence and step
if the laws read a memory or inputs. `pgm_rnn.kernels.factorial` has the recursions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeGuard, TypeVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions.product_of_categoricals import ProductOfCategoricals
from pgm_rnn.kernels import factorial
from pgm_rnn.sequence_model.conditionals import Conditionals, First
from pgm_rnn.sequence_model.state_laws import StateLaws, again_in_backward
from pgm_rnn.sequence_model.tables import gives_tables
from pgm_rnn.sequences import Sequences, last_of
from pgm_rnn.states import ProductStates

Result = TypeVar("Result")


class Product(NamedTuple):
    """The tables of a model and the log densities of some sequences, as `pgm_rnn.kernels.factorial` takes them.

    Attributes:
        sizes: K_1, ..., K_M.
        initial: p(z_1^m) of every chain, one after the other, (batch or 1, sum of K_m).
        transition: p(z_t^m | z_{t-1}^m) of every chain, (batch or 1, T - 1 or 1, sum of K_m^2).
        log_emission: log p(x_t | z_t) of the entries of x_t that were observed, (batch, T, N), nats, 0 where x_t is
            missing.
    """

    sizes: tuple[int, ...]
    initial: Tensor
    transition: Tensor
    log_emission: Tensor


def has_chains(model: object) -> TypeGuard[Any]:
    """Whether a model has several chains, of any number of values, and no memory that reads them."""
    reads = getattr(model, "memory_reads_state", False) or gives_tables(model)
    return isinstance(getattr(model, "states", None), ProductStates) and not reads


def has_product(model: object) -> TypeGuard[Conditionals]:
    """Whether a model has several chains, no memory that reads them, and few enough values to sum over."""
    return has_chains(model) and model.states.are_few


def laws_of(model: Any, data: Sequences) -> StateLaws:
    """The laws of a model of several chains on checked data; tables of states are those of the chains, side by side."""
    return _ProductLaws(model, data)


def product_of(model: Any, data: Sequences) -> Product:
    """The tables of checked data, of all sequences at once.

    Raises:
        TypeError: a law of states that is no `ProductOfCategoricals`.
        ValueError: one of other numbers of states.
    """
    return _evaluated(_ProductLaws(model, data), slice(0, len(data.x)))


def chain_tables(model: Any, data: Sequences) -> list[tuple[Tensor, Tensor]]:
    """p(z_1^m) and p(z_t^m | z_{t-1}^m) of each chain, in the forms that `pgm_rnn.kernels.hmm` takes.

    Raises:
        TypeError, ValueError: as `product_of`.
    """
    laws, whole = _ProductLaws(model, data), slice(0, len(data.x))
    starts = factorial.unpacked(laws.sizes, laws.initial(whole), square=False)
    moves = factorial.unpacked(laws.sizes, laws.transition(whole), square=True)  # (1 or B, 1 or T - 1, K_m, K_m)
    return [
        (start[0] if len(start) == 1 else start, table[0, 0] if table.shape[:2] == (1, 1) else table)
        for start, table in zip(starts, moves, strict=True)
    ]


def in_groups(model: Any, data: Sequences, function: Callable[[Product, slice], Result]) -> list[Result]:
    """function(product, rows) for consecutive groups of sequences, a few at a time where their tables are large."""
    laws = _ProductLaws(model, data)

    def of_group(rows: slice) -> Result:
        return function(_evaluated(laws, rows), rows)

    groups = laws.groups()
    if len(groups) == 1:
        return [of_group(groups[0])]
    return [again_in_backward(of_group, rows) for rows in groups]


def marginal(model: Any, data: Sequences, first: First) -> Tensor:
    """`summed_out` of a model and checked data, (batch,)."""
    return torch.cat(in_groups(model, data, lambda product, rows: summed_out(product, data.lengths[rows], first)))


def summed_out(product: Product, lengths: Tensor, first: First) -> Tensor:
    """log p(x_{1:T}) or log p(x_{2:T} | x_1), nats, (batch,); -inf for an impossible sequence."""
    log_prob = factorial.log_marginal_likelihood(*product, lengths)
    if first == "model":
        return log_prob
    return (log_prob - of_first_step(product)).where(log_prob > -torch.inf, -torch.inf)


def of_first_step(product: Product) -> Tensor:
    """log p(x_1), nats, (batch,)."""
    sizes, initial, transition, log_emission = product
    one = torch.ones(len(log_emission), dtype=torch.int64, device=log_emission.device)
    return factorial.log_marginal_likelihood(sizes, initial, transition[:, :1], log_emission[:, :1], one)


@torch.no_grad()
def last_states(model: Any, data: Sequences, index: Tensor) -> Tensor:
    """Draws of z_L given x_{1:L} for the sequences at `index` (k,) of checked data, with repetitions.

    Raises:
        ValueError: a sequence of probability zero.
    """
    forward = factorial.forward(*product_of(model, data), data.lengths)
    last = last_of(forward.log_filtered, data.lengths)
    impossible = (last.amax(-1) == -torch.inf).nonzero()
    if len(impossible):
        raise ValueError(
            f"expected observations of positive probability, got probability 0 for sequence {int(impossible[0])}; "
            "leave it out"
        )
    return torch.distributions.Categorical(logits=last[index]).sample()


def laws_of_chains(states: ProductStates, place: str, law: TorchDistribution) -> ProductOfCategoricals:
    """The law that a method of a model of several chains returned.

    Args:
        states: those of the model.
        place: the method, such as "initial of Walk", for errors.
        law: what it returned.

    Raises:
        TypeError: it is no product of laws of the chains.
        ValueError: it is one of other chains.
    """
    if not isinstance(law, ProductOfCategoricals):
        raise TypeError(
            f"expected a ProductOfCategoricals, one law for each chain of {states}, from {place}, got "
            f"{type(law).__name__}; chains that depend on each other are FiniteStates({states.num_states})"
        )
    if law.states != states:
        raise ValueError(f"expected laws for {states} from {place}, got laws for {law.states}")
    return law


class _ProductLaws(StateLaws):
    """`StateLaws` with the laws of one chain at a time."""

    def __init__(self, model: Conditionals, data: Sequences) -> None:
        super().__init__(model, data)
        assert isinstance(model.states, ProductStates)  # `has_product` has checked it
        self.states, self.sizes = model.states, model.states.sizes
        self._per_step = model.states.num_states * self._of_observation

    @property
    def varies(self) -> tuple[bool, bool]:
        """Not asked: the emission alone decides how many sequences are evaluated at once."""
        return False, False

    def initial(self, rows: slice) -> Tensor:
        """p(z_1^m) of every chain, one after the other, (rows or 1, sum of K_m)."""
        h = None if self._h is None else self._h[rows, 0]
        law = self._of_chains("initial", h)
        return factorial.packed([self._table(own, num_axes=1) for own in law.laws], square=False)

    def transition(self, rows: slice) -> Tensor:
        """p(z_t^m | z_{t-1}^m) of every chain, (rows or 1, T - 1 or 1, sum of K_m^2)."""
        largest = torch.arange(max(self.sizes), device=self._x.device)
        z = self.states.joined([largest.clamp(max=size - 1) for size in self.sizes])[None, None]  # (1, 1, K)
        later = slice(1, self._x.shape[1]) if self._x.shape[1] > 1 else slice(0, 1)
        h = None if self._h is None else self._h[rows, later][:, :, None]  # (rows, steps, 1, dim)
        law = self._of_chains("transition", z, h)
        tables = []
        for own, size in zip(law.laws, self.sizes, strict=True):
            table = self._table(own, num_axes=3)  # (rows or 1, steps or 1, K or 1, K_m)
            tables.append(table.expand(-1, -1, len(largest), -1)[:, :, :size])
        return factorial.packed(tables, square=True)

    def _of_chains(self, method: str, *given: Any) -> ProductOfCategoricals:
        """The law that a method of the model returns."""
        law = self._snapshot.call(getattr(self._model, method), *given)
        return laws_of_chains(self.states, f"{method} of {type(self._model).__name__}", law)


def _evaluated(laws: _ProductLaws, rows: slice) -> Product:
    log_emission = laws.log_emission(rows).contiguous()
    initial, transition = (table.to(log_emission.dtype) for table in (laws.initial(rows), laws.transition(rows)))
    return Product(laws.sizes, initial, transition, log_emission)
