import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Gaussian
from pgm_rnn.inference import svi
from pgm_rnn.models.deep_markov import DeepMarkovModel
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
