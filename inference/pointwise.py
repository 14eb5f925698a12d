"""Log likelihoods by sequence and by step, under a model's own parameters or under draws of them.

    log p(x_{1:T} | theta)                     one value per sequence, the unit of leave-one-out cross-validation
    log p(x_t | x_{1:t-1}, theta), t = 1..T    one-step terms, which sum to it: the unit of leave-future-out

Every number is exact, which needs a model with an exact likelihood; others raise an error that names the engine that
estimates it. Source of the two units: Vehtari, Gelman & Gabry (2017); Bürkner, Gabry & Vehtari (2020).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pgm_rnn.inference import forward_backward, kalman
from pgm_rnn.inference.forward_backward.problem import has_finite_states
from pgm_rnn.inference.kalman.kinds import is_linear
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.densities import marginal_log_prob, step_log_probs, without_given
from pgm_rnn.sequence_model.mixins import SumsOutStates
from pgm_rnn.sequence_model.observations import check_given, checked
from pgm_rnn.sequence_model.parameter_draws import draws_of
from pgm_rnn.sequence_model.parameters import call_with
from pgm_rnn.sequences import Data, Sequences

MAX_ROWS = 2**20
"""Largest number of draws times steps that are computed side by side."""


def check_exact(model: SequenceModel) -> None:
    """Raise unless log p(x) has a closed form.

    Raises:
        ValueError: it has none.
    """
    if not model.exact:
        raise ValueError(
            f"expected a model with an exact likelihood, got {type(model).__name__}; smc.filter estimates its "
            "log likelihoods, and pmmh.run keeps such estimates for each draw of its parameters"
        )


@torch.no_grad()
def log_likelihoods(
    model: SequenceModel, x: Data, samples: Mapping[str, Tensor] | None = None, lengths: Tensor | None = None
) -> Tensor:
    """log p(x_{1:T} | theta) of each sequence, nats: (batch,), or (num_draws, batch) under draws of the parameters.

    Args:
        model: with an exact likelihood.
        x: a batch, observations (batch, T, *event), or one sequence (T, *event), as any `Data`.
        samples: draws of natural or raw parameters by name, (num_draws, *shape); the others are the model's.
        lengths: (batch,) steps of each sequence, None for T.

    Raises:
        TypeError, ValueError: a model without an exact likelihood, or observations that do not fit the model.
    """
    check_exact(model)
    data = checked(model, x, lengths)
    if samples is None:
        return marginal_log_prob(model, data, model.first)
    draws, size = draws_of(model, samples), max(1, MAX_ROWS // data.x.shape[:2].numel())
    parts = [draws.chosen(index) for index in torch.arange(draws.shape.numel()).split(size)]
    return torch.cat([part.each(lambda: marginal_log_prob(model, data, model.first)) for part in parts])


@torch.no_grad()
def one_step_log_likelihoods(
    model: SequenceModel, x: Data, samples: Mapping[str, Tensor] | None = None, lengths: Tensor | None = None
) -> Tensor:
    """log p(x_t | x_{1:t-1}, theta) of each step, nats: (batch, T), or (num_draws, batch, T); 0 in the padding.

    The term is 0 where x_t is missing, and at t = 1 for a model that conditions on x_1. Arguments and errors are those
    of `log_likelihoods`.
    """
    check_exact(model)
    data, terms = checked(model, x, lengths), _terms(model)
    check_given(data, model.first)
    if samples is None:
        return terms(model, data)
    draws = draws_of(model, samples)
    each = [{name: values[i] for name, values in draws.parameters.items()} for i in range(draws.shape.numel())]
    return torch.stack([call_with(model, raw, terms, model, data) for raw in each])


def _terms(model: SequenceModel) -> Callable[[SequenceModel, Sequences], Tensor]:
    """The function of the one-step terms that suits the model."""
    if isinstance(model, SumsOutStates):
        return _of_prefixes
    return _of_filter if has_finite_states(model) or is_linear(model) else _of_emission


def _of_emission(model: SequenceModel, data: Sequences) -> Tensor:
    """Without latent states x_t depends on the memory alone."""
    return step_log_probs(model, data._replace(z=None), model.first)


def _of_filter(model: SequenceModel, data: Sequences) -> Tensor:
    found = forward_backward.filter(model, data) if has_finite_states(model) else kalman.filter(model, data)
    return without_given(found.log_normalizers, model.num_given)


def _of_prefixes(model: SequenceModel, data: Sequences) -> Tensor:
    """Differences of log p(x_{1:t}), for a model that sums its states out by itself."""
    each = [
        marginal_log_prob(model, data._replace(lengths=data.lengths.clamp(max=t)), model.first)
        for t in range(1, data.x.shape[1] + 1)
    ]
    totals = torch.stack(each, dim=1)  # (batch, T)
    return torch.cat([totals[:, :1], totals.diff(dim=1)], dim=1)
