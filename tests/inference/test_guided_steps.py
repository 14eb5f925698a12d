"""Compiled steps along the guides of deep models, against the models' own laws and against the general filter."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pgm_rnn.emissions import Bernoulli, Gaussian
from pgm_rnn.inference import smc
from pgm_rnn.inference.smc import run
from pgm_rnn.inference.smc.results import Filtered
from pgm_rnn.kernels import gated
from pgm_rnn.kernels.guides import CombinerGuide
from pgm_rnn.models import VRNN, DeepMarkovModel
from pgm_rnn.sequence_model import DrawsGuide

KEYS, BATCH, STEPS = 6, 3, 7
LENGTHS = torch.tensor([STEPS, 2, 5])

MODELS: dict[str, Callable[[], Any]] = {
    "vrnn": lambda: VRNN(KEYS, 3, 5, feature_dim=4),
    "wide vrnn": lambda: VRNN(KEYS, 9, 17),
    "vrnn of an lstm": lambda: VRNN(KEYS, 3, 5, feature_dim=4, cell="lstm"),
    "dmm": lambda: DeepMarkovModel(KEYS, 3, 5, guide_dim=4),
    "wide dmm": lambda: DeepMarkovModel(KEYS, 9, 17, guide_dim=10),
}


def made(name: str, dtype: torch.dtype = torch.float64) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    model = MODELS[name]().to(dtype)
    with torch.no_grad():
        for part in model.parameters():
            part.add_(0.3 * torch.randn_like(part))  # biases and first states are zero at the start
    return model, (torch.rand(BATCH, STEPS, KEYS) < 0.4).to(dtype)


def by_laws(model: Any, x: Tensor, noise: list[Tensor], places: list[Tensor | None]) -> list[Tensor]:
    """z, h and log ratios of every step, each particle by itself, from the laws of the model and its guide."""
    num, batch = noise[0].shape[:2]
    features, found = model.encode(x, torch.full((batch,), STEPS)), []
    z: list[Any] = [[None] * batch for _ in range(num)]
    h: list[Any] = [[None] * batch for _ in range(num)]
    for t, e in enumerate(noise):
        ratios = x.new_empty(num, batch)
        before = z, h
        z, h = [[None] * batch for _ in range(num)], [[None] * batch for _ in range(num)]
        for n in range(num):
            for b in range(batch):
                place = n * batch + b if places[t] is None else int(places[t][n, b])  # type: ignore[index]
                assert place % batch == b
                last, memory = (part[place // batch][b] for part in before)
                if isinstance(model, VRNN):
                    memory = model.initial_memory if t == 0 else model.recurrence(memory, last, x[b, t - 1])
                law = model.initial(memory) if t == 0 else model.transition(last, memory)
                guide = model.proposal(last, memory, features[b, t])
                z[n][b], h[n][b] = guide.loc + e[n, b] * guide.scale, memory
                seen = model.emission(z[n][b], memory).log_prob(x[b, t])
                ratios[n, b] = seen + law.log_prob(z[n][b]) - guide.log_prob(z[n][b])
        stacked = torch.stack([torch.stack(row) for row in z])
        found += [stacked, ratios]
        found += [torch.stack([torch.stack(row) for row in h])] if isinstance(model, VRNN) else []
    return found


def by_kernel(model: Any, x: Tensor, num: int, ancestors: str) -> tuple[list[Tensor], list[Tensor | None], Any]:
    """The same by the compiled steps, with random ancestors, the places, and the steps themselves."""
    steps = model.compiled_guide(x, model.encode(x, torch.full((len(x),), STEPS))).steps(num)
    steps.keeps = True
    found, places = [], []
    for t in range(STEPS):
        drawn = torch.randint(num, (num, BATCH)) * BATCH + torch.arange(BATCH)
        places.append(None if t == 0 or ancestors == "none" or t % 3 == 0 else drawn)
        moved = steps.advance(places[-1])
        found += [moved.z, moved.log_ratios, *([] if moved.h is None else [moved.h])]
    return found, places, steps


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("ancestors", ["none", "random"])
@pytest.mark.parametrize("num", [1, 3, 4, 16])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_steps_are_those_of_the_laws(name: str, num: int, ancestors: str) -> None:
    model, x = made(name)
    found, places, steps = by_kernel(model, x, num, ancestors)
    expected = by_laws(model, x, steps.noise, places)
    assert difference(found, expected) < 1e-12 * max(1.0, max(float(part.abs().max()) for part in expected))
    if ancestors == "random" and num > 1:
        other = by_laws(model, x, steps.noise, [None] * STEPS)
        assert difference(found, other) > 1e-3


@pytest.mark.parametrize("name", ["vrnn", "vrnn of an lstm", "wide dmm"])
@torch.no_grad()
def test_single_precision_loses_roundings_alone(name: str) -> None:
    model, x = made(name, torch.float32)
    found, places, steps = by_kernel(model, x, 4, "random")
    expected = by_laws(model.double(), x.double(), [e.double() for e in steps.noise], places)
    assert difference(found, expected) < 3e-4


@pytest.mark.parametrize("raw", [-700.0, 800.0])
@torch.no_grad()
def test_scales_may_be_extreme_and_bits_improbable(raw: float) -> None:
    """softplus(-700) is below the least scale of a network; a bit of logit 400 that is not set costs 400 nats."""
    model, x = made("dmm")
    model.gated.raw_scale.bias.fill_(raw)
    model.emitter[1].bias.fill_(400)
    found, places, steps = by_kernel(model, x, 4, "random")
    expected = by_laws(model, x, steps.noise, places)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@torch.no_grad()
def test_the_noise_is_not_lost_in_states_of_tiny_scales() -> None:
    """z = loc + e s is loc to rounding where s = 2.8e-103, but log q(z) has -e^2 / 2."""
    model, x = made("dmm")
    model.combiner.head.linear.bias[3:] = -700
    found, places, steps = by_kernel(model, x, 4, "none")
    expected = by_laws(model, x, steps.noise, places)
    for t, (a, b) in enumerate(zip(found[1::2], expected[1::2], strict=True)):
        torch.testing.assert_close(a, b + steps.noise[t].square().sum(-1) / 2, rtol=1e-11, atol=1e-11)


@torch.no_grad()
def test_lineages_are_rows_of_places() -> None:
    model, x = made("dmm")
    _, places, steps = by_kernel(model, x, 4, "random")
    for t, part in enumerate(places):
        for b in range(BATCH):
            for n in range(4):
                before = n if part is None else int(part[n, b]) // BATCH
                assert int(steps.lineage.ancestors[4 * b + n, t]) == 4 * b + before


def filtered(model: Any, x: Tensor, **options: Any) -> Filtered:
    functions = {"state": lambda z, h: z}
    return smc.filter(model, x, LENGTHS, num_particles=9, seed=1, functions=functions, **options)


def test_a_filter_keeps_nothing_that_grows_with_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made("dmm")
    made_by, steps = CombinerGuide.steps, []

    def noted(self: Any, *arguments: Any) -> Any:
        steps.append(made_by(self, *arguments))
        return steps[-1]

    monkeypatch.setattr(CombinerGuide, "steps", noted)
    filtered(model, x)
    assert [(part.noise, part.places) for part in steps] == [([], [])]
    smc.log_marginal_likelihood(model, x, LENGTHS, num_particles=4, resampling="stratified", seed=0)
    assert [len(part.noise) for part in steps] == [0, STEPS]


def calls(monkeypatch: pytest.MonkeyPatch, kind: type[DrawsGuide]) -> list[bool]:
    """Whether the guide ran compiled, one entry per filter."""
    made_by, asked = kind.compiled_guide, []

    def noted(self: Any, *arguments: Any) -> Any:
        guide = made_by(self, *arguments)
        asked.append(guide is not None)
        return guide

    monkeypatch.setattr(kind, "compiled_guide", noted)
    return asked


@pytest.mark.parametrize("scheme", ["systematic", "stratified", "multinomial", "residual"])
@pytest.mark.parametrize("name", ["vrnn", "vrnn of an lstm", "dmm"])
def test_the_filter_is_that_of_the_laws(name: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made(name)
    asked = calls(monkeypatch, type(model))
    found = filtered(model, x, resampling=scheme, keep="all")
    assert asked == [True]
    monkeypatch.setattr(run, "guide_of", lambda *_: None)
    expected = filtered(model, x, resampling=scheme, keep="all")
    assert bool(expected.resampled.any())
    assert found.history is not None
    assert expected.history is not None
    pairs = zip(found[:6], expected[:6], strict=True)
    for a, b in (
        *pairs,
        (found.means["state"], expected.means["state"]),
        *zip(found.history, expected.history, strict=True),
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def changed_vrnn(change: Callable[[Any], None], **sizes: Any) -> VRNN:
    torch.manual_seed(0)
    given: dict[str, Any] = {"latent_dim": 3, "hidden_dim": 5, "emission": Bernoulli(KEYS)} | sizes
    model = VRNN(**given).double()
    change(model)
    return model


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def with_another_layer(model: Any) -> None:
    model.prior[0].linear[0] = Doubled(5, 5).double()


def with_a_hook(model: Any) -> None:
    model.decoder[0].linear[0].register_forward_hook(lambda _module, _given, found: 2 * found)


def with_one_more_layer(model: Any) -> None:
    model.prior.insert(1, nn.Hardtanh(-0.1, 0.1))


def without_an_activation(model: Any) -> None:
    model.prior[0] = model.prior[0].linear[0]


def with_other_widths(model: Any) -> None:
    wider = VRNN(latent_dim=3, hidden_dim=7, emission=Bernoulli(KEYS)).double()
    model.prior[0].linear[0], model.prior[1] = nn.Linear(5, 7).double(), wider.prior[1]


def with_a_guide_of_its_own(model: Any) -> None:
    model.encoder.head.register_forward_hook(lambda _module, _given, law: law)


def with_other_features_of_states(model: Any) -> None:
    model.phi_z.linear[0] = Doubled(3, 5).double()


def with_another_move_of_the_memory(model: Any) -> None:
    model.hidden.from_z = Doubled(5, 15, bias=False).double()


def with_a_law_of_its_own(model: Any) -> None:
    narrow = model.transition
    model.transition = lambda z, h: narrow(z, 2 * h)


class Warmer(VRNN):
    """Another law under the same name."""

    def emission(self, z: Tensor, h: Tensor) -> Any:
        return super().emission(z, h / 2)


OTHERS: dict[str, Callable[[], Any]] = {
    "another layer": lambda: changed_vrnn(with_another_layer),
    "a hook": lambda: changed_vrnn(with_a_hook),
    "a guide of its own": lambda: changed_vrnn(with_a_guide_of_its_own),
    "other features of states": lambda: changed_vrnn(with_other_features_of_states),
    "another move of the memory": lambda: changed_vrnn(with_another_move_of_the_memory),
    "one more layer": lambda: changed_vrnn(with_one_more_layer),
    "no activation": lambda: changed_vrnn(without_an_activation),
    "other widths": lambda: changed_vrnn(with_other_widths),
    "a law of its own": lambda: changed_vrnn(with_a_law_of_its_own),
    "a subclass": lambda: Warmer(KEYS, 3, 5).double(),
    "real numbers": lambda: changed_vrnn(lambda _: None, emission=Gaussian(KEYS)),
    "Elman's cell": lambda: changed_vrnn(lambda _: None, cell="elman"),
    "tanh": lambda: changed_vrnn(lambda _: None, activation="tanh"),
    "many units": lambda: changed_vrnn(lambda _: None, hidden_dim=gated.LARGEST + 1),
}


def doubled_combiner(model: Any) -> None:
    model.combiner.from_z = Doubled(3, 4).double()


def hooked_moves(model: Any) -> None:
    model.gated.register_forward_hook(lambda _module, _given, law: law)


def longer_emitter(model: Any) -> None:
    model.emitter.insert(1, nn.Hardtanh(-0.1, 0.1))


@pytest.mark.parametrize("change", [doubled_combiner, hooked_moves, longer_emitter])
def test_a_deep_markov_model_that_is_not_as_written_takes_its_laws(
    change: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = made("dmm")
    change(model)
    asked = calls(monkeypatch, DeepMarkovModel)
    found = filtered(model, x)
    assert asked == [False]
    monkeypatch.setattr(run, "guide_of", lambda *_: None)
    torch.testing.assert_close(found.log_marginal_likelihood, filtered(model, x).log_marginal_likelihood)


@pytest.mark.parametrize("name", OTHERS)
def test_models_that_are_not_as_written_take_their_laws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, x = OTHERS[name](), made("vrnn")[1]
    asked = calls(monkeypatch, VRNN)
    found = filtered(model, x)
    assert asked == [False]
    monkeypatch.setattr(run, "guide_of", lambda *_: None)
    torch.testing.assert_close(found.log_marginal_likelihood, filtered(model, x).log_marginal_likelihood)


@pytest.mark.parametrize(
    "options",
    [{"proposal": "bootstrap"}, {"mask": torch.arange(BATCH * STEPS).view(BATCH, STEPS) % 4 > 0}],
    ids=["bootstrap", "gaps"],
)
def test_what_is_not_the_guides_takes_the_laws(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made("dmm")
    asked = calls(monkeypatch, DeepMarkovModel)
    assert bool(filtered(model, x, **options).log_marginal_likelihood.isfinite().all())
    assert asked == []
