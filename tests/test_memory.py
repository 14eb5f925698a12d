from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor

from pgm_rnn.distributions.normal import Normal
from pgm_rnn.emissions import Bernoulli, Gaussian
from pgm_rnn.models.vrnn import VRNN
from pgm_rnn.sequence_model import SequenceModel, StateLaw, memory_of
from pgm_rnn.sequence_model.memory import Inputs, Recurrence, WithInputs
from pgm_rnn.sequence_model.parameters import Snapshot
from pgm_rnn.sequences import Sequences
from tests.instances import LENGTHS, make_model, ragged
from tests.latent_toy import LatentToy


def drawn() -> tuple[VRNN, Tensor, StateLaw, Tensor]:
    model, x = make_model("vrnn", Gaussian(2)), ragged(Gaussian(2))
    assert isinstance(model, VRNN)
    law = StateLaw(model, x, LENGTHS, "model", guide=True)
    return model, x, law, law.rsample()


def test_a_draw_brings_its_memory_and_its_density_and_a_copy_does_not() -> None:
    model, x, law, z = drawn()
    kept = law.way.to(Snapshot(model), x, z)
    assert kept is not None
    assert kept.h is not None
    assert kept.log_probs is not None
    torch.testing.assert_close(kept.h, memory_of(model).unroll(x, z))
    torch.testing.assert_close(law.log_prob(z), law.log_prob(z.clone()))
    assert law.way.to(Snapshot(model), x, z.clone()) is None


def test_observations_count_by_their_values() -> None:
    model, x, law, z = drawn()
    assert law.way.to(Snapshot(model), x.clone(), z) is not None
    assert law.way.to(Snapshot(model), x + 1, z) is None


@pytest.mark.parametrize("change", ["parameter", "state", "gradients", "model"])
def test_what_has_changed_is_computed_anew(change: str) -> None:
    model, x, law, z = drawn()
    assert law.way.to(Snapshot(model), x, z) is not None
    if change == "parameter":
        with torch.no_grad():
            next(model.hidden.parameters()).add_(1.0)
    if change == "state":
        z.detach().add_(1.0)  # in place, behind the draw's back
    if change == "model":
        model = VRNN(latent_dim=2, hidden_dim=3, emission=Gaussian(2))
    with torch.set_grad_enabled(change != "gradients"):
        assert law.way.to(Snapshot(model), x, z) is None


def count_steps(model: VRNN, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    steps: list[int] = []
    advance = model.advance

    def counted(h: Tensor, z: Tensor, read: Tensor) -> Tensor:
        steps.append(1)
        return advance(h, z, read)

    monkeypatch.setattr(model, "advance", counted)
    return steps


@pytest.mark.parametrize("changed", [False, True])
def test_a_replayed_program_takes_the_memory_of_the_guide_unless_a_parameter_has_changed(
    monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    model, x, _, _ = drawn()
    steps = count_steps(model, monkeypatch)
    with pyro.settings.context(module_local_params=True):
        guide = poutine.trace(model.guide).get_trace(x, LENGTHS)
        if changed:
            with torch.no_grad():
                next(model.hidden.parameters()).add_(1.0)
        model_trace = poutine.trace(poutine.replay(model.model, trace=guide)).get_trace(x, LENGTHS)
        model_trace.compute_log_prob()
    assert len(steps) == (2 * (x.shape[1] - 1) if changed else 0)  # once for the site "h", once for the density of z
    z = guide.nodes["z"]["value"]
    torch.testing.assert_close(model_trace.nodes["h"]["value"], memory_of(model).unroll(model.check(x, LENGTHS)[0], z))
    torch.testing.assert_close(model_trace.log_prob_sum(), model.log_prob(x, z, LENGTHS).sum())


def test_a_second_pass_backwards_over_a_detached_draw_is_possible() -> None:
    model, x, _, z = drawn()
    parameter = next(model.decoder.parameters())
    model.log_prob(x, z.detach(), LENGTHS).sum().backward()
    assert parameter.grad is not None
    once = parameter.grad.clone()
    model.log_prob(x, z.detach(), LENGTHS).sum().backward()
    torch.testing.assert_close(parameter.grad, 2 * once)


class Driven(LatentToy):
    """The toy with inputs beside its memory: h = (memory, u), and the laws read both."""

    input_dim = 1

    def recurrence(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        return super().recurrence(h[..., :1], z, x) + h[..., 1:]


def test_inputs_stand_beside_a_memory() -> None:
    """h_t = (memory_t, u_t), where memory_t sees u_{t-1}: number by number."""
    model, u = Driven(), torch.tensor([[[0.5], [-1.0], [2.0]]])
    x, z = torch.tensor([[0.3, -0.2, 0.1]]), torch.tensor([[1.0, 0.4, -0.6]])
    memory = memory_of(model)
    assert isinstance(memory, WithInputs)
    assert model.initial_memory is not None
    h, expected = float(model.initial_memory.detach()[0]), []
    for t in range(3):
        if t > 0:
            h = float(torch.tanh(model.a.detach() * h + z[0, t - 1] + x[0, t - 1])) + float(u[0, t - 1])
        expected.append([h, float(u[0, t])])
    torch.testing.assert_close(memory.unroll(x, z, u), torch.tensor([expected]))
    batch = Sequences(x, torch.tensor([3]), z, u)
    for data in (batch, model.sample(1, 3, inputs=u, seed=0)):
        assert data.z is not None
        each = {f"z_{t + 1}": data.z[:, t] for t in range(3)}
        given: Any = data._replace(z=None)
        unrolled: Any = poutine.trace(poutine.condition(model.model, each)).get_trace(given, rendering="unrolled")
        fused: Any = poutine.trace(poutine.condition(model.model, {"z": data.z})).get_trace(given)
        assert unrolled.nodes["h_2"]["value"].shape == (1, 1)
        assert fused.nodes["h"]["value"].shape == (1, 3, 1)
        for trace in (unrolled, fused):
            torch.testing.assert_close(trace.log_prob_sum(), model.log_prob(data).sum())


@pytest.mark.parametrize("rendering", ["fused", "unrolled"])
def test_a_guide_samples_the_memory_beside_inputs(rendering: str) -> None:
    model, x, u = Driven(), torch.randn(2, 3), torch.randn(2, 3, 1)
    options: Any = {"inputs": u, "rendering": rendering, "memory": "sampled"}
    guide: Any = poutine.trace(model.guide).get_trace(x, **options)
    traced: Any = poutine.trace(poutine.replay(model.model, trace=guide)).get_trace(x, **options)
    names = {"h"} if rendering == "fused" else {"h_1", "h_2", "h_3"}
    assert names <= set(guide.nodes)
    assert all(traced.nodes[name]["value"] is guide.nodes[name]["value"] for name in names)
    z = (
        guide.nodes["z"]["value"]
        if rendering == "fused"
        else torch.stack([guide.nodes[f"z_{t}"]["value"] for t in (1, 2, 3)], 1)
    )
    torch.testing.assert_close(traced.log_prob_sum(), model.log_prob(x, z, inputs=u).sum())


def test_every_memory_goes_step_by_step_as_it_unrolls() -> None:
    for name in ("rnn-gru", "markov-chain", "belief-rnn", "multi-particle-rnn"):
        model = make_model(name, Bernoulli(2) if name == "markov-chain" else Gaussian(2))
        x = ragged(model.family)
        whole, read = memory_of(model).step_by_step(x), memory_of(model).unroll(x)
        assert isinstance(memory_of(model), Recurrence)
        torch.testing.assert_close(model.emission(None, whole).log_prob(x), model.emission(None, read).log_prob(x))


def test_a_model_with_inputs_alone_has_them_as_its_memory() -> None:
    model = make_model("lgssm", Gaussian(2), input_dim=3)
    assert isinstance(memory_of(model), Inputs)
    u = torch.randn(2, 4, 3)
    assert memory_of(model).unroll(torch.zeros(2, 4, 2), None, u) is u


class Recurring(SequenceModel):
    """h_t = f(h_{t-1}, x_{t-1}) for a function f that a test chooses."""

    def __init__(self, f: Callable[[Any, Tensor], Tensor], input_dim: int | None = None) -> None:
        super().__init__(Gaussian(2))
        self.f, self.input_dim, self.calls = f, input_dim, 0
        self.register_buffer("initial_memory", torch.tensor([0.5, -0.5]))

    def recurrence(self, h: Any, z: Any, x: Tensor) -> Tensor:
        self.calls += 1
        return self.f(h, x)

    def emission(self, z: Any, h: Any) -> Normal:
        return Normal(h[..., :2], torch.ones(2), event_dim=1)


READS: dict[str, tuple[Callable[[Any, Tensor], Tensor], bool]] = {
    "x": (lambda h, x: x.tanh(), False),
    "the size of h": (lambda h, x: x.expand((*h.shape[:-1], 2)), False),
    "h and x": (lambda h, x: h[..., :2] / 2 + x, True),
    "x and h": (lambda h, x: x + h[..., :2] / 2, True),
    "h in a comparison": (lambda h, x: torch.where(h[..., :2] > 0, x, -x), True),
    "h in place of x": (lambda h, x: h[..., :2].clone(), True),
    "h by torch": (lambda h, x: torch.add(x, torch.tanh(h)[..., :2]), True),
    "sizes of one step": (lambda h, x: x.reshape(3, 2), True),
}


@pytest.mark.parametrize("input_dim", [None, 1])
@pytest.mark.parametrize("reads", READS)
def test_a_recurrence_that_reads_x_alone_is_called_once_for_all_steps(reads: str, input_dim: int | None) -> None:
    f, in_a_loop = READS[reads]
    model, x = Recurring(f, input_dim), torch.randn(3, 4, 2)
    inputs = None if input_dim is None else torch.randn(3, 4, input_dim)
    memory = memory_of(model)
    expected = memory.step_by_step(x, None, inputs)
    model.calls = 0
    torch.testing.assert_close(memory.unroll(x, None, inputs), expected)
    assert model.calls == (4 if in_a_loop else 1)


def test_a_recurrence_that_reads_z_is_stepped() -> None:
    model, x, z = Recurring(lambda h, x: x), torch.randn(3, 4, 2), torch.randn(3, 4)
    model.recurrence = lambda h, z, x: x + z[..., None]  # type: ignore[method-assign]
    model.memory_reads_state = True
    expected = torch.cat([torch.tensor([0.5, -0.5]).expand(3, 1, 2), (x + z[..., None])[:, :-1]], dim=1)
    torch.testing.assert_close(memory_of(model).unroll(x, z), expected)


def test_an_error_of_a_recurrence_is_that_of_a_step() -> None:
    def fails(h: Any, x: Tensor) -> Tensor:
        raise KeyError(tuple(x.shape))

    with pytest.raises(KeyError, match=r"\(3, 2\)"):
        memory_of(Recurring(fails)).unroll(torch.randn(3, 4, 2))
