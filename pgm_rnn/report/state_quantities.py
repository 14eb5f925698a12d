"""The numbers of finite states: probabilities, durations and shares, transitions, and the emission by state."""

import torch
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.inference import forward_backward
from pgm_rnn.models.input_hmm import InputHMM
from pgm_rnn.report.finite_chain import Chain, chain_of, durations, stationary_law
from pgm_rnn.report.input_quantities import of_inputs
from pgm_rnn.report.natural_quantities import naturals_of, of_natural, own_parameters
from pgm_rnn.report.quantity import TITLES, Quantities, Quantity, Words
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences, length_mask


def of_finite_states(
    model: SequenceModel, num_states: int, words: Words, data: Sequences | None, order: str | int | None
) -> Quantities:
    """The numbers of a model with finite states, and of its emission by state.

    Raises:
        ValueError: an order that the model does not have.
    """
    chain, remarks = chain_of(model), []
    shares = None if data is None else _shares(model, data)
    law = None if chain is None else stationary_law(chain.transition())
    if chain is None:
        remarks.append("transitions depend on the memory or on inputs: there is no stationary law")
    elif law is None:
        remarks.append("no stationary law: the chain has parts that it cannot leave, and may end in either of them")
    places = _ordered(model, num_states, words, order, law if shares is None else shares)
    labels, index = tuple(str(int(k)) for k in places), places.clone()
    summary = _summary(chain, law is not None, shares, labels, index)
    found = [summary] if summary.columns else []
    if chain is not None:
        columns = tuple(f"to {label}" for label in labels)
        moves = chain.transition
        found.append(
            Quantity(
                "transition_probs",
                TITLES["transition_probs"],
                "from state",
                labels,
                columns,
                lambda: moves()[index][:, index],
            )
        )
    raw = {q: n for q, n in naturals_of(model) if q not in ("initial_probs", "transition_probs")}
    for name, natural in raw.items():
        found.append(of_natural(name, model, natural, words, index))
    if not raw and chain is not None and chain.memoryless:
        found += _moments(model, words, labels, index)
    if isinstance(model, InputHMM):
        found += of_inputs(model, words, index)
    found += own_parameters(model)
    return Quantities(tuple(found), tuple(remarks), tuple(map(int, places)))


def _summary(
    chain: Chain | None, has_law: bool, shares: Tensor | None, labels: tuple[str, ...], index: Tensor
) -> Quantity:
    """One row per state: initial and stationary probability, expected duration in steps, share of the data."""
    of_chain = () if chain is None else ("initial", "stationary", "duration")
    columns = of_chain if shares is None else (*of_chain, "share")

    def value() -> Tensor:
        parts = [] if shares is None else [shares]
        if chain is not None:
            moves = chain.transition()
            law = stationary_law(moves) if has_law else None
            stationary = torch.full_like(moves[0], torch.nan) if law is None else law
            parts = [chain.initial(), stationary, durations(moves), *parts]
        return torch.stack(parts, dim=-1)[index]

    words = [] if chain is None else ["probabilities", "expected duration in steps"]
    title = f"states: {', '.join(words if shares is None else [*words, 'share of the data'])}"
    return Quantity("states", title, "state", labels, columns, value, of_data=() if shares is None else ("share",))


def _shares(model: SequenceModel, data: Sequences) -> Tensor:
    """Mean smoothed probability of each state, (K,)."""
    found = forward_backward.smooth(model, data)
    inside = length_mask(data.lengths, data.x.shape[1])
    return found.smoothed_probs[inside].mean(0)


def _ordered(
    model: SequenceModel, num_states: int, words: Words, order: str | int | None, sizes: Tensor | None
) -> Tensor:
    """The states in the order asked for, (K,)."""
    if order is None:
        return torch.arange(num_states)
    if order == "size":
        if sizes is None:
            raise ValueError(
                "expected data for order='size', because the model has no stationary law, got none; give data"
            )
        return sizes.argsort(descending=True, stable=True)
    names = words.names
    if isinstance(order, int):
        if not 0 <= order < len(names):
            raise ValueError(f"expected order as a column in 0..{len(names) - 1}, got {order}")
        place = order
    else:
        check_choice("order", order, ["size", *names])
        place = names.index(order)
    return _means(model, num_states)[:, place].argsort(stable=True)


def _means(model: SequenceModel, num_states: int) -> Tensor:
    """E(x_t | z_t = k) of each entry, (K, entries).

    Raises:
        ValueError: a family without means, or emissions that depend on a memory.
    """
    no_mean = "expected order='size', for the states have no means of a column, got the name of one"
    if model.family.needs_integers or model.initial_memory is not None or model.input_dim is not None:
        raise ValueError(no_mean)
    try:
        return model.emission(torch.arange(num_states), None).mean.reshape(num_states, -1)
    except (AttributeError, NotImplementedError, TypeError) as error:
        raise ValueError(no_mean) from error


def _moments(model: SequenceModel, words: Words, labels: tuple[str, ...], index: Tensor) -> list[Quantity]:
    """Means and standard deviations by state, of a family without natural parameters."""
    found = []
    for name, title, moment in (("emission_mean", "means", "mean"), ("emission_sd", "standard deviations", "stddev")):

        def value(moment: str = moment) -> Tensor:
            wanted: Tensor = getattr(model.emission(index, None), moment)
            return wanted.reshape(len(index), -1)

        try:
            value()
        except (AttributeError, NotImplementedError, TypeError):
            continue
        found.append(Quantity(name, title, "state", labels, words.of_axis(len(words.titles), symbols=False), value))
    return found
