"""Small instances for parametrised tests: every family, every registered model, ragged batches, and their ELBOs."""

from functools import partial
from typing import Any, TypeVar

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch import Tensor, nn

from pgm_rnn.emissions import Emission
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.registry import made_by
from pgm_rnn.models.rnn import RNN
from pgm_rnn.registries import OWN
from pgm_rnn.sequence_model import First, SequenceModel
from pgm_rnn.storage import Model
from tests.cases import Cases, every

Module = TypeVar("Module", bound=nn.Module)

REGISTRIES = OWN
"""Where instances come from; a test of other registries sets its own."""
FAMILIES = Cases(OWN).alone
"""Families with a law for each state on its own."""
HEAD_FAMILIES = Cases(OWN).families
"""All of them; the others are for networks."""
ESTIMATED = Cases(OWN).estimated
"""Those with weighted estimates in closed form."""
LENGTHS = torch.tensor([4, 1, 3])

every_model = every("exact model")
"""Models that take any family and have a likelihood."""
every_bounded_model = every("exact bounded model")
every_model_of_symbols = every("exact model of symbols")
every_model_of_vectors = every("model of vectors")
every_exact_model_of_vectors = every("exact model of vectors")
every_law = every("law")
every_exact_law = every("exact law")
every_inexact_law = every("inexact law")
every_cell = pytest.mark.parametrize("name", list(CELLS))
every_family = every("family")
every_family_of_heads = every("family of heads")
every_estimated_family = every("estimated family")
every_first = pytest.mark.parametrize("first", ["model", "condition"])


def some_family(name: str) -> Emission:
    """A family that the registered model takes: vectors of real numbers, symbols, or real numbers."""
    takes = REGISTRIES.models[name].takes
    return next(FAMILIES[label] for label in ("reals", "symbols", "real") if takes(FAMILIES[label]))


def randomised(module: Module, seed: int = 0, scale: float = 0.5) -> Module:
    """Every parameter moved by normal noise, so that none of them is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(scale * noise)
    return module


def of_sequences(model: Model) -> SequenceModel:
    """The model itself, which is no law of labels."""
    assert isinstance(model, SequenceModel)
    return model


def make_model(
    name: str, family: Emission, *, first: First = "model", seed: int = 0, **sizes: int | None
) -> SequenceModel:
    """A small registered model with random parameters, smaller ones where draws feed on themselves without a bound."""
    info = REGISTRIES.models[name]
    options = {**info.small, **sizes}
    scale = 0.2 if info.unbounded_memory else 0.5
    return randomised(made_by(info, seed=seed, emission=family, first=first, **options), seed, scale)


def make_rnn(cell: str, family: Emission, *, first: First = "model", num_layers: int = 1, seed: int = 0) -> RNN:
    rnn = make_model(f"rnn-{cell}", family, first=first, seed=seed, num_layers=num_layers)
    assert isinstance(rnn, RNN)
    return rnn


def make_hmm(family: Emission, *, num_states: int = 2, first: First = "model", seed: int = 0) -> HMM:
    hmm = make_model("hmm", family, first=first, seed=seed, num_states=num_states)
    assert isinstance(hmm, HMM)
    return hmm


def draw(family: Emission, *batch: int, seed: int = 0) -> Tensor:
    """Valid observations (*batch, *event) that owe nothing to a model."""
    info, *_ = [info for info in REGISTRIES.families.values() if type(family) is info.family]
    return info.draw(family, (*batch, *family.event_shape), torch.Generator().manual_seed(seed))


def ragged(family: Emission, lengths: Tensor = LENGTHS, seed: int = 0) -> Tensor:
    """Observations for a ragged batch, (batch, max length, *event); the padding holds valid values too."""
    return draw(family, len(lengths), int(lengths.max()), seed=seed)


def spoiled(x: Tensor, lengths: Tensor, garbage: float) -> Tensor:
    """x with `garbage` in the padding."""
    x = x.clone()
    for row, length in zip(x, lengths.tolist(), strict=True):
        row[length:] = garbage
    return x


def program_loss(model: SequenceModel, x: Tensor, lengths: Tensor | None = None, **options: Any) -> Tensor:
    """-ELBO of the Pyro programs, summed over the batch; latent states are enumerated where they are sites."""
    enumerate_states = OWN.engines["forward_backward"].takes(model) and options.get("rendering") == "unrolled"
    elbo = TraceEnum_ELBO(max_plate_nesting=1) if enumerate_states else Trace_ELBO()
    pyro.set_rng_seed(0)  # a guide that draws draws the same
    return elbo.differentiable_loss(model.model, model.guide, x, lengths, **options)


def gradients(value: Tensor, module: nn.Module) -> dict[str, Tensor]:
    """d value / d parameter of every parameter, by name; zero where value does not depend on it."""
    names, parameters = zip(*module.named_parameters(), strict=True)
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for name, parameter, gradient in zip(names, parameters, found, strict=True)
    }


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor], rtol: float = 0.0, atol: float = 0.0) -> None:
    """Equal gradients or states, to the bit unless a tolerance is given."""
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=rtol, atol=atol, msg=partial(_named, name))


def _named(name: str, message: str) -> str:
    return f"{name}: {message}"
