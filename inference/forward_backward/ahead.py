"""The law of the observation that follows each step, which mixes the emissions of the states to come."""

import math
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.emissions.mixing import mixture
from pgm_rnn.inference.forward_backward.problem import FiniteModel, check_possible, checked_finite
from pgm_rnn.kernels import factorial, hmm, hsmm
from pgm_rnn.sequence_model import memory_of
from pgm_rnn.sequence_model.conditionals import example_of
from pgm_rnn.sequence_model.observations import check_inputs
from pgm_rnn.sequence_model.products import Product, has_product, product_of
from pgm_rnn.sequence_model.segments import Segments, has_segments, segments_of
from pgm_rnn.sequence_model.tables import tables_of
from pgm_rnn.sequences import Data, Sequences, length_mask


@torch.no_grad()
def predict(
    model: FiniteModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    future_inputs: Tensor | None = None,
) -> TorchDistribution:
    """The law p(x_{t+1} | x_{1:t}) of the next observation after each step: batch shape (B, T).

    It mixes the model's `emission(z, h)` over the states z, where h is the memory after x_t: Categorical for symbols, a
    mixture for other emissions. Its values in the padding have no meaning.

    Args:
        model: with finitely many states.
        x: a batch, observations (B, T, *event), or one sequence (T, *event), as any `Data`.
        lengths: (B,) steps of each sequence, None for T.
        inputs: (B, T, input_dim) for a model with inputs.
        mask: as in `filter`.
        future_inputs: inputs of the step after the last one of each sequence, (B, 1, input_dim), for such a model.

    Raises:
        TypeError: a model without finitely many states.
        ValueError: observations that do not fit the model, or tables of transitions that a model gives itself and that
            vary over time, so that the next one is not known.
        ImpossibleSequenceError: a sequence has probability zero.
    """
    data = checked_finite(model, x, lengths, inputs=inputs, mask=mask)
    if has_segments(model):
        segments = segments_of(model, data)
        check_possible(hsmm.forward(*segments, data.lengths).log_normalizers, "no posterior exists given it")
        ahead = _one_step_ahead(segments, data.lengths)
        states = torch.arange(model.states.num_states, device=data.x.device)
        return mixture(model.emission(states, None), ahead)
    longer = _one_step_longer(model, data, future_inputs)
    if has_product(model):
        ahead = _product_ahead(product_of(model, longer), data.lengths)
        return mixture(_laws_ahead(model, longer, ahead.shape[-1]), ahead)
    initial, transition, log_emission = tables_of(model, longer)
    if transition.dim() > 2 and hasattr(model, "emission_log_probs"):
        raise ValueError(
            "expected one transition table for all steps, got one per step; the table of the next step is not known"
        )
    before = transition if transition.dim() == 2 or transition.shape[1] == 1 else transition[:, :-1]
    forward = hmm.forward(initial, before, log_emission[:, :-1], data.lengths)
    check_possible(forward.log_normalizers, "no posterior exists given it")
    ahead = hmm.log_propagated(transition, forward)  # (B, T, K)
    padding = ~length_mask(data.lengths, ahead.shape[1])
    ahead = ahead.masked_fill(padding[..., None], -math.log(ahead.shape[-1]))
    return mixture(_laws_ahead(model, longer, ahead.shape[-1]), ahead)


def _one_step_ahead(segments: Segments, lengths: Tensor) -> Tensor:
    """log p(z_{t+1} | x_{1:t}) of semi-Markov states, (B, T, K), that of equal states in the padding."""
    seen = length_mask(lengths, segments.log_emission.shape[1])
    log_emission = segments.log_emission.where(seen[..., None], 0.0)
    longer = torch.cat([log_emission, torch.zeros_like(log_emission[:, :1])], 1)
    ahead = hsmm.forward(*segments._replace(log_emission=longer), lengths + 1).predicted[:, 1:].log()
    return ahead.masked_fill(~seen[..., None], -math.log(ahead.shape[-1]))


def _product_ahead(product: Product, lengths: Tensor) -> Tensor:
    """log p(z_{t+1} | x_{1:t}) of several chains, (B, T, N), that of equal states in the padding.

    Args:
        product: tables and densities of the data with one more step, at which nothing is observed here.
        lengths: (B,), without that step.

    Raises:
        ImpossibleSequenceError: a sequence has probability zero.
    """
    seen = length_mask(lengths, product.log_emission.shape[1])
    longer = product._replace(log_emission=product.log_emission.where(seen[..., None], 0.0))
    forward = factorial.forward(*longer, lengths + 1)
    check_possible(forward.log_normalizers[:, :-1], "no posterior exists given it")
    ahead = forward.log_predicted[:, 1:]
    return ahead.masked_fill(~seen[:, :-1, None], -math.log(ahead.shape[-1]))


def _one_step_longer(model: Any, data: Sequences, future_inputs: Tensor | None) -> Sequences:
    """The data with one more step, of which only the inputs are read.

    Raises:
        ValueError: a model with inputs, and none for that step.
    """
    input_dim = getattr(model, "input_dim", None)
    if input_dim is not None and future_inputs is None:
        raise ValueError(
            f"expected future_inputs of shape ({len(data.x)}, 1, {input_dim}), the inputs of the step after the last "
            "one of each sequence, got None"
        )
    ahead, inputs = (
        check_inputs(future_inputs, input_dim, data.x[:, :1], example_of(model), name="future_inputs"),
        data.inputs,
    )
    if ahead is not None and inputs is not None:
        inputs = torch.cat([inputs, torch.zeros_like(ahead)], dim=1)
        inputs[torch.arange(len(inputs), device=inputs.device), data.lengths] = ahead[:, 0]
    seen = None if data.observed is None else torch.cat([data.observed, data.observed[:, -1:]], dim=1)
    return Sequences(torch.cat([data.x, data.x[:, -1:]], dim=1), data.lengths + 1, inputs=inputs, mask=seen)


def _laws_ahead(model: Any, longer: Sequences, num_states: int) -> TorchDistribution:
    """p(x_{t+1} | z_{t+1} = k, x_{1:t}) of every state k: batch shape (K,), or (B, T, K) with a memory or inputs."""
    states = torch.arange(num_states, device=longer.x.device)
    if getattr(model, "initial_memory", None) is None and getattr(model, "input_dim", None) is None:
        return model.emission(states, None)
    h = memory_of(model).unroll(longer.x, None, longer.inputs)
    return model.emission(states.expand(1, 1, -1), h[:, 1:, None])  # h_2, ..., h_{T+1}
