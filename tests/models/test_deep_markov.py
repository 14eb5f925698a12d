import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgm_rnn.emissions import Bernoulli, Categorical, Gaussian
from pgm_rnn.inference import svi
from pgm_rnn.models.deep_markov import DeepMarkovModel
from pgm_rnn.models.networks import GRU
from pgm_rnn.sequence_model import StateLaw
from tests.instances import LENGTHS, assert_same, gradients, ragged, randomised


def dmm(seed: int = 0) -> DeepMarkovModel:
    torch.manual_seed(seed)
    return randomised(DeepMarkovModel(latent_dim=2, hidden_dim=4, guide_dim=3, emission=Gaussian(2)), seed)


def normal_log_prob(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return (-(((x - loc) / scale) ** 2) / 2 - scale.log() - math.log(2 * math.pi) / 2).sum(-1)


def gated(model: DeepMarkovModel, z: Tensor) -> tuple[Tensor, Tensor]:
    """The transition's mean and scale, written out."""
    part: Any = model.gated
    gate = torch.sigmoid(part.gate(torch.relu(part.gate_hidden(z))))
    proposed = part.proposed(torch.relu(part.proposed_hidden(z)))
    return (1 - gate) * part.linear(z) + gate * proposed, F.softplus(part.raw_scale(torch.relu(proposed)))


def test_its_density_is_the_paper_written_out_step_by_step() -> None:
    model, x, z = dmm(), torch.randn(3, 4, 2), torch.randn(3, 4, 2)
    layers, head = list(model.emitter)
    before, total = model.z_0.expand(3, -1), torch.zeros(3)
    for t in range(4):
        raw: Any = F.linear(layers(z[:, t]), head.weight, head.bias)  # type: ignore[arg-type]
        total = total + normal_log_prob(z[:, t], *gated(model, before))
        total = total + normal_log_prob(x[:, t], raw[:, :2], F.softplus(raw[:, 2:]))
        before = z[:, t]
    torch.testing.assert_close(model.log_prob(x, z), total)


def test_the_guide_reads_from_the_end_of_each_sequence_and_nothing_behind_it() -> None:
    model, x = dmm(), ragged(Gaussian(2))
    features = model.encode(x, LENGTHS)
    for i, length in enumerate(LENGTHS.tolist()):
        alone = model.encode(x[i : i + 1, :length], LENGTHS[i : i + 1])
        torch.testing.assert_close(features[i, :length], alone[0])
    changed = x.clone()
    changed[0, 3] += 1.0  # the last step of the first sequence
    assert not torch.allclose(model.encode(changed, LENGTHS)[0, 0], features[0, 0])
    network, h = model.backward_network, torch.zeros(1, 1, 3)
    for t in reversed(range(4)):
        _, h = network(x[:1, t][None], h)
        torch.testing.assert_close(features[0, t], h[0, 0] / 2)


def test_its_own_loop_draws_from_its_proposal() -> None:
    """The draw's density, kept from the loop, is that of the proposal evaluated at every state."""
    model, x = dmm(), ragged(Gaussian(2))

    def slopes(copied: bool) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        torch.manual_seed(3)
        law = StateLaw(model, x, LENGTHS, "model", guide=True)
        z = law.rsample()
        value = law.log_prob(z.clone() if copied else z)  # a copy brings nothing with it
        return z, value, gradients(value.sum() + z.square().sum(), model)

    z, kept, found = slopes(copied=False)
    _, again, expected = slopes(copied=True)
    torch.testing.assert_close(kept, again)
    assert_same(found, expected, rtol=1e-8, atol=1e-10)
    features = model.encode(x, LENGTHS)
    direct = torch.zeros(3)
    for t in range(4):
        proposal = model.proposal(None if t == 0 else z[:, t - 1], None, features[:, t])
        direct = direct + proposal.log_prob(z[:, t]).where(t < LENGTHS, 0.0)
    torch.testing.assert_close(kept, direct)


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def with_another_map(model: DeepMarkovModel) -> None:
    model.combiner.from_z = Doubled(2, 3)


def with_a_hook_on_the_combiner(model: DeepMarkovModel) -> None:
    model.combiner.register_forward_hook(lambda _module, _given, found: (2 * found[0], found[1]))


def with_a_hook_on_its_map(model: DeepMarkovModel) -> None:
    model.combiner.from_z.register_forward_hook(lambda _module, _given, found: 2 * found)


@pytest.mark.parametrize("change", [with_another_map, with_a_hook_on_the_combiner, with_a_hook_on_its_map])
def test_changed_networks_draw_what_they_say(change: Callable[[DeepMarkovModel], None]) -> None:
    """The density that a draw brings along is that of its states under the networks as they are now."""
    model, x = dmm(), ragged(Gaussian(2))

    def drawn() -> Tensor:
        torch.manual_seed(3)
        law = StateLaw(model, x, LENGTHS, "model", guide=True)
        z = law.rsample()
        torch.testing.assert_close(law.log_prob(z), law.log_prob(z.clone()))
        return z

    before = drawn()
    change(model)
    assert float((drawn() - before).detach().abs().max()) > 1e-3


class Halved(GRU):
    """Another network under the same name."""

    def forward(self, x: Any, start: Tensor | None = None) -> tuple[Any, Tensor]:
        found, last = super().forward(x, start)
        return found / 2, last


def test_a_network_of_ones_own_reads_the_future_as_it_says() -> None:
    model, x = dmm(), ragged(Gaussian(2))
    expected = model.encode(x, LENGTHS) / 2
    intact = model.backward_network
    halved = Halved(2, 3)
    halved.load_state_dict(intact.state_dict())
    model.backward_network = halved
    inside = torch.arange(x.shape[1]) < LENGTHS[:, None]
    torch.testing.assert_close(model.encode(x, LENGTHS)[inside], expected[inside])
    model.backward_network = intact
    intact.forward = lambda x, start=None: Halved.forward(halved, x, start)  # type: ignore[method-assign]
    torch.testing.assert_close(model.encode(x, LENGTHS)[inside], expected[inside])


def test_hooks_of_the_network_run() -> None:
    model, x = dmm(), ragged(Gaussian(2))
    calls: list[str] = []
    model.backward_network.register_forward_hook(lambda *_: calls.append("forward"))
    model.backward_network.register_full_backward_hook(lambda *_: calls.append("backward"))
    model.encode(x.requires_grad_(), LENGTHS).sum().backward()
    assert calls == ["forward", "backward"]


def test_lengths_may_have_any_integers() -> None:
    model, x = dmm(), ragged(Gaussian(2))
    torch.testing.assert_close(model.encode(x, LENGTHS.int()), model.encode(x, LENGTHS))


def test_draws_of_the_loop_have_the_proposals_moments() -> None:
    model = dmm()
    x = torch.randn(1, 2, 2).expand(20_000, -1, -1)
    lengths = torch.full((20_000,), 2)
    with torch.no_grad():
        z = StateLaw(model, x, lengths, "model", guide=True).rsample()
        first = model.proposal(None, None, model.encode(x[:1], lengths[:1])[:, 0])
    scores = (z[:, 0].mean(0) - first.loc[0]).abs() / (first.scale[0] / 20_000**0.5)
    assert float(scores.max()) < 4.5
    assert float((z[:, 1].mean(0) - first.loc[0]).abs().max()) > 0.05


def test_its_sizes_are_checked() -> None:
    assert DeepMarkovModel(4).family == Bernoulli(4)
    with pytest.raises(ValueError, match="expected exactly one of obs_dim and emission, such as obs_dim=88"):
        DeepMarkovModel()
    with pytest.raises(ValueError, match="expected guide_dim"):
        DeepMarkovModel(4, guide_dim=0)


def test_symbols_enter_in_the_models_own_dtype() -> None:
    model = DeepMarkovModel(latent_dim=1, hidden_dim=2, emission=Categorical(3)).double()
    torch.set_default_dtype(torch.float32)
    x = torch.tensor([[0, 2, 1], [1, 1, 0]])
    assert svi.evaluate(model, x, num_particles=2).log_likelihoods.dtype == torch.float64
