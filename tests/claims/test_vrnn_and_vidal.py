"""What the claims on the variational network, on filters and on gradients are computed with, and what they notice."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.claims import CLAIMS
from pgm_rnn.claims.vidal_2024.bidirectional import Posteriors
from pgm_rnn.claims.vidal_2024.joint_normal import JointNormal
from pgm_rnn.claims.vrnn_2019.objective import guided_quadrature
from pgm_rnn.claims.vrnn_2019.written_out import CELLS, WrittenOut, normal_kl, random_vrnn
from pgm_rnn.inference import forward_backward
from pgm_rnn.inference.kalman import linearised_filter
from pgm_rnn.kernels import gates
from pgm_rnn.models import cells
from pgm_rnn.models.bidirectional_rnn import BidirectionalRNN
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.noisy_rnn import NoisyRNN
from pgm_rnn.models.rnn import RNN
from pgm_rnn.models.vrnn import VRNN


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("seed", range(4))
def test_the_grid_integrates_every_prior_to_one(cell: str, seed: int) -> None:
    vrnn = random_vrnn(cell, seed)
    grid, gap = WrittenOut(vrnn).grid()
    law = vrnn.prior(10 * torch.randn(50, 3))
    mass = (law.expand([len(grid), 50]).log_prob(grid[:, None, None]).exp() * gap).sum(0)
    torch.testing.assert_close(mass, torch.ones(50), rtol=0, atol=1e-14)


def test_the_divergence_of_normal_laws_is_torchs() -> None:
    q, p = ((torch.randn(5), torch.rand(5) + 0.1) for _ in range(2))
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(*q), torch.distributions.Normal(*p))
    torch.testing.assert_close(normal_kl(q, p), expected)


def test_the_guides_quadrature_finds_the_likelihood_that_a_fine_grid_finds() -> None:
    net, x = WrittenOut(random_vrnn("gru", 0)), torch.tensor([[[0.0]], [[1.0]]])
    ends, gap = net.grid()[0], net.grid()[1] / 8  # the decoder is not as smooth as the prior
    grid = torch.arange(float(ends[0]), float(ends[-1]), gap)
    terms = net.terms(x.repeat_interleave(len(grid), dim=0), grid.repeat(2)[:, None, None])
    expected = ((terms.prior + terms.decoder).exp().reshape(2, -1).sum(1) * gap).log()
    log_likelihood, bound = guided_quadrature(net, x, num_points=200)
    torch.testing.assert_close(log_likelihood, expected, rtol=0, atol=1e-4)  # but for tails of the prior
    assert bool((bound < log_likelihood).all())


def test_one_step_of_the_joint_normal_law_is_bayes_rule() -> None:
    one = torch.ones(1, 1)
    moments = {"initial_mean": torch.zeros(1), "initial_cov": 4 * one, "transition_matrix": one}
    moments |= {"transition_cov": one, "emission_matrix": one, "emission_cov": one}
    law, x = JointNormal(moments, 1, None, 1), torch.tensor([[[5.0]]])
    posterior = law.given(x, [1])
    assert float(posterior.means) == pytest.approx(4.0)
    assert float(posterior.covs) == pytest.approx(0.8)
    assert float(law.log_likelihood(x)) == pytest.approx(-0.5 * (5 + math.log(2 * math.pi * 5)))


def test_the_posteriors_of_all_words_are_the_engines() -> None:
    hmm = HMM.random(2, 2, seed=0)
    with torch.no_grad():
        posteriors = Posteriors(hmm)
    result = forward_backward.smooth(hmm, posteriors.words)
    torch.testing.assert_close(posteriors.smoothed, result.smoothed_probs)
    torch.testing.assert_close(posteriors.filtered, result.filtered_probs)
    assert float(posteriors.probs.sum()) == pytest.approx(1, abs=1e-14)


VRNN_PRIOR = VRNN.transition
RNN_RECURRENCE, UPDATE = RNN.recurrence, linearised_filter._update
LINEAR_CHAIN, HIDDEN = LinearGaussianSSM.chain, BidirectionalRNN.hidden


def _standard_prior(self: VRNN, z: Tensor | None, h: Tensor | None) -> Any:
    assert h is not None
    return VRNN_PRIOR(self, z, torch.zeros_like(h))


def _forgetful_advance(self: VRNN, h: Tensor, z: Tensor | None, read: Tensor) -> Tensor:
    return self.hidden(read, torch.zeros_like(self.phi_z(z)), h)


def _transposed_chain(self: LinearGaussianSSM, inputs: Tensor | None = None) -> Any:
    chain = LINEAR_CHAIN(self, inputs)
    return chain._replace(transition_matrix=chain.transition_matrix.mT)


def _transposed_mean(self: NoisyRNN, z: Tensor, h: Tensor | None = None) -> Tensor:
    return torch.tanh(z @ self.transition_matrix + (0 if h is None else h @ self.input_matrix.mT))  # type: ignore[union-attr]


def _wrong_sign(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    log_normalizer, mean, cov = UPDATE(*arguments)
    return log_normalizer, -mean, cov


def _forward_only(self: BidirectionalRNN, x: Tensor, lengths: Tensor) -> Tensor:
    both = HIDDEN(self, x, lengths)
    return torch.cat([both.chunk(2, dim=-1)[0], torch.zeros_like(both.chunk(2, dim=-1)[1])], dim=-1)


def _detached_memory(self: RNN, h: Tensor, z: None, x: Tensor) -> Tensor:
    return RNN_RECURRENCE(self, h.detach(), z, x) + 0 * h


def _truncated(self: RNN, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
    h = [self.initial_memory.expand(len(x), -1)]  # type: ignore[union-attr]
    for x_t in x[:, :-1].unbind(1):
        h.append(RNN_RECURRENCE(self, h[-1].detach(), None, x_t))
    return torch.stack(h, dim=1)


def _exchanged_gates(from_x: Tensor, from_h: Tensor, h: Tensor) -> Tensor:
    return 2 * h - GRU(from_x, from_h, h)


def _exchanged_lstm(from_both: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = from_both.chunk(4, dim=-1)
    return LSTM(torch.cat([f, i, g, o], dim=-1), c)


GRU, LSTM = gates.gru, gates.lstm

DAMAGES: dict[str, tuple[str, Any, str, Any]] = {
    "a prior that does not read the memory": ("vrnn-factorisation", VRNN, "transition", _standard_prior),
    "a memory that does not read the state": ("vrnn-factorisation", VRNN, "advance", _forgetful_advance),
    "a bound with another prior": ("vrnn-objective", VRNN, "transition", _standard_prior),
    "a limit with another memory": ("vrnn-limits", VRNN, "advance", _forgetful_advance),
    "a transposed transition": ("kalman-is-exact", LinearGaussianSSM, "chain", _transposed_chain),
    "a transposed network": ("extended-kalman-jacobians", NoisyRNN, "transition_mean", _transposed_mean),
    "a transposed network in its limit": ("noisy-rnn-limit", NoisyRNN, "transition_mean", _transposed_mean),
    "a wrong sign": ("extended-kalman", linearised_filter, "_update", _wrong_sign),
    "a gradient cut off": ("parameter-tying", RNN, "unroll_memory", _truncated),
    "a gradient without memory": ("vanishing-gradient", RNN, "recurrence", _detached_memory),
    "no isometry": ("orthogonal-initialisation", RNN, "recurrence", _detached_memory),
    "gates of a GRU exchanged": ("gru-reset", cells, "gru", _exchanged_gates),
    "gates of an LSTM exchanged": ("gate-equations", cells, "lstm", _exchanged_lstm),
    "a derivative of other gates": ("lstm-highway", cells, "lstm", _exchanged_lstm),
    "a network that looks back only": ("bidirectional-is-smoothing", BidirectionalRNN, "hidden", _forward_only),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, owner, attribute, damaged = DAMAGES[damage]
    monkeypatch.setattr(owner, attribute, damaged)
    claim = CLAIMS[name]
    assert any(not claim.residual(case, seed=0) <= claim.tolerance for case in claim.cases())
