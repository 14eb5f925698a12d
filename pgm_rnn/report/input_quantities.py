"""The effects of the inputs of an `InputHMM`, one row per state or move and one column per input.

start    A_k - A_0          log odds of beginning in state k against the first row's state, per unit of the input
moves    B_ij - B_ii        log odds of moving from i to j against staying
laws     C_k                means of normal laws, log odds of bits, logits of symbols

Differences, because a number added to all logits of a row changes nothing.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, FullGaussian, Gaussian
from pgm_rnn.models.input_hmm import InputHMM
from pgm_rnn.report.quantity import Quantity, Words
from pgm_rnn.sequence_model.parameters import current_parameters


def of_inputs(model: InputHMM, words: Words, states: Tensor) -> list[Quantity]:
    """The effects of the inputs on what they drive.

    Args:
        model: the model.
        words: names of the observations and inputs.
        states: the states in the order of the rows, (K,).
    """
    num, labels = model.input_dim or 0, [str(int(k)) for k in states]
    columns = words.inputs if len(words.inputs) == num else tuple(f"u{n + 1}" for n in range(num))

    def table(name: str, title: str, corner: str, rows: list[str], value: Callable[[Tensor], Tensor]) -> Quantity:
        read = partial(_read, model, name, value)
        return Quantity(f"{name}_effects", f"effects of the inputs on {title}", corner, tuple(rows), columns, read)

    found = []
    if model.drives != "emission" and len(labels) > 1:
        title = f"the log odds of z_1 against {labels[0]}"
        found.append(table("initial", title, "state", labels[1:], lambda a: (a - a[states[0]])[states[1:]]))
        moves = [f"{i} to {j}" for i in labels for j in labels if i != j]
        title = "log odds of moving, not staying"
        found.append(table("transition", title, "move", moves, partial(_against_staying, states)))
    if model.drives != "transition":
        title, entries = _moved(model, words)
        rows = [f"{k} {entry}".strip() for k in labels for entry in entries]
        found.append(table("emission", title, "state", rows, lambda c: c[states]))
    return found


def _read(model: InputHMM, name: str, value: Callable[[Tensor], Tensor]) -> Tensor:
    """What the present weights of a part say."""
    return value(current_parameters(model)[f"{name}_weight"])


def _against_staying(states: Tensor, weights: Tensor) -> Tensor:
    """B_ij - B_ii for all i != j, (K (K - 1), U), from B (K, K, U)."""
    moves = weights[states][:, states]
    staying = moves.diagonal(dim1=0, dim2=1).mT[:, None]  # (K, 1, U)
    return (moves - staying)[~torch.eye(len(states), dtype=torch.bool)]


def _moved(model: InputHMM, words: Words) -> tuple[str, tuple[str, ...]]:
    """What the inputs move in the law of a state, and the names of its entries, empty if there is one only."""
    family, size = model.family, model.emission_weight.shape[1]
    titles = {Gaussian: "the means", FullGaussian: "the means", Bernoulli: "the log odds of a 1"}
    title = titles.get(type(family), "the unconstrained parameters")
    if isinstance(family, Categorical):
        return "the logits of the symbols", words.of_axis(size, symbols=True)
    return title, ("",) if size == 1 else words.of_axis(size, symbols=False)
