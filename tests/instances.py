"""Small instances for parametrised tests: every family, every registered model, ragged batches, and their ELBOs."""

from functools import partial
from typing import Any, TypeVar

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch import Tensor, nn

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, FullGaussian, Gaussian, NadeBits, Pen, Poisson
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.registry import get_model, list_models, model_info
from pgm_rnn.models.rnn import RNN
from pgm_rnn.sequence_model import First, SequenceModel
from pgm_rnn.storage import Model

Module = TypeVar("Module", bound=nn.Module)

FAMILIES: dict[str, Emission] = {
    "symbols": Categorical(3),
    "bit": Bernoulli(),
    "bits": Bernoulli(2),
    "real": Gaussian(),
    "reals": Gaussian(2),
    "count": Poisson(),
    "counts": Poisson(2),
    "correlated-reals": FullGaussian(2),
    "strokes": Pen(2),
}
HEAD_FAMILIES: dict[str, Emission] = FAMILIES | {"linked-bits": NadeBits(3, 4)}
"""Those of which a network takes one, and no model with a law for each state the last."""
ESTIMATED = {label: family for label, family in FAMILIES.items() if not isinstance(family, Pen)} | {"Pen1": Pen(1)}
"""Those with weighted estimates in closed form."""
LENGTHS = torch.tensor([4, 1, 3])
SIZES: dict[str, dict[str, int]] = {
    "belief-rnn": {"num_states": 2},
    "hmm": {"num_states": 2},
    "lgssm": {"latent_dim": 2},
    "dmm": {"latent_dim": 2, "hidden_dim": 3},
    "markov-chain": {},
    "noisy-rnn": {"latent_dim": 2},
    "vrnn": {"latent_dim": 2, "hidden_dim": 3},
    "particle-filter-rnn": {"num_states": 2, "num_particles": 5},
}
"""What a registered model asks for; a network with a hidden vector needs no entry."""

OF_SYMBOLS = [name for name in list_models() if Categorical in model_info(name).families]
"""Models that take symbols and bits."""
OF_VECTORS = [name for name in list_models() if Gaussian in model_info(name).families]
"""Models that take real vectors."""
GENERAL = [name for name in OF_SYMBOLS if name in OF_VECTORS]
"""Models that take any family of observations."""
INEXACT = ("noisy-rnn", "dmm", "vrnn")
"""Models without a likelihood in closed form."""
GROWING = ("rnn-elman-linear",)
"""Models whose memory grows without bound where its parameters are large."""
STEPPED = {"particle-filter-rnn": ("of.initial_logits", "of.transition_logits")}
"""Parameters in which a likelihood is a step function, its slope zero: they say which state a uniform draws."""
LAWS = [
    pytest.param(name, family, id=f"{name}-{label}")
    for name in list_models()
    for label, family in HEAD_FAMILIES.items()
    if type(family) in model_info(name).families and (name in OF_SYMBOLS or family.event_shape)
]
EXACT_LAWS = [law for law in LAWS if law.values[0] not in INEXACT]

every_model = pytest.mark.parametrize("name", [name for name in GENERAL if name not in INEXACT])
"""Models that take any family and have a likelihood."""
every_bounded_model = pytest.mark.parametrize("name", [n for n in GENERAL if n not in (*INEXACT, *GROWING)])
every_model_of_symbols = pytest.mark.parametrize("name", [name for name in OF_SYMBOLS if name not in INEXACT])
every_model_of_vectors = pytest.mark.parametrize("name", OF_VECTORS)
every_exact_model_of_vectors = pytest.mark.parametrize("name", [n for n in OF_VECTORS if n not in INEXACT])
every_law = pytest.mark.parametrize(("name", "family"), LAWS)
every_exact_law = pytest.mark.parametrize(("name", "family"), EXACT_LAWS)
every_inexact_law = pytest.mark.parametrize(("name", "family"), [law for law in LAWS if law.values[0] in INEXACT])
every_cell = pytest.mark.parametrize("name", list(CELLS))
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
every_family_of_heads = pytest.mark.parametrize("family", HEAD_FAMILIES.values(), ids=HEAD_FAMILIES)
every_estimated_family = pytest.mark.parametrize("family", ESTIMATED.values(), ids=ESTIMATED)
every_first = pytest.mark.parametrize("first", ["model", "condition"])


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
    """A small registered model with random parameters."""
    options = SIZES.get(name, {"hidden_dim": 3}) | sizes
    return randomised(get_model(name, seed=seed, emission=family, first=first, **options), seed)


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
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch, *family.event_shape)
    if isinstance(family, Categorical):
        return torch.randint(family.num_symbols, shape, generator=generator)
    if isinstance(family, Bernoulli | NadeBits):
        return torch.randint(2, shape, generator=generator).double()
    if isinstance(family, Poisson):
        return torch.randint(4, shape, generator=generator).double()
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    if isinstance(family, Pen):
        x[..., 2] = (x[..., 2] > 0).double()
    return x


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
    enumerate_states = isinstance(model, HMM) and options.get("rendering") == "unrolled"
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
