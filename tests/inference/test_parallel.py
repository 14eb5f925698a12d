"""Engines that scan over time: parallel=True has the numbers of the recursions, and says where there is no scan."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pgm_rnn.inference import forward_backward, kalman
from pgm_rnn.kernels import hmm_scan, kalman_scan
from pgm_rnn.models import HMM, HSMM, AutoregressiveHMM, FactorialHMM, InputHMM, LinearGaussianSSM, NoisyRNN
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from tests.own_models import SwitchingAR

LENGTHS = torch.tensor([9, 1, 4, 7])
CHAINS: dict[str, SequenceModel] = {
    "hmm": HMM.random(3, 4, seed=0),
    "autoregressive": AutoregressiveHMM.random(2, 2, seed=0),
    "with inputs": InputHMM.random(2, 2, 3, seed=0),
    "a reader's own": SwitchingAR(),
}
every_chain = pytest.mark.parametrize("model", CHAINS.values(), ids=CHAINS)
FILTERED = ("log_normalizers", "log_marginal_likelihood", "filtered_probs", "predicted_probs")


def given(model: SequenceModel) -> Sequences:
    """Ragged data in double precision, with inputs where the model has some."""
    model.double()
    inputs = None if model.input_dim is None else torch.randn(4, 9, model.input_dim)
    return model.sample(4, 9, inputs=inputs, seed=1)._replace(z=None, lengths=LENGTHS)


@every_chain
def test_a_finite_chain_has_the_numbers_of_the_recursions(model: Any) -> None:
    data = given(model)
    found, expected = (forward_backward.smooth(model, data, parallel=way) for way in (True, False))
    for name in (*FILTERED, "smoothed_probs", "pairwise_probs"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    assert torch.equal(found.sample_states(20, seed=0), expected.sample_states(20, seed=0))
    filtered = forward_backward.filter(model, data, parallel=True)
    torch.testing.assert_close(filtered.filtered_probs, expected.filtered_probs)
    best, known = (forward_backward.most_likely_states(model, data, parallel=way) for way in (True, False))
    assert torch.equal(best.states, known.states)
    torch.testing.assert_close(best.log_prob, known.log_prob)


@pytest.mark.parametrize("gaps", [False, True])
def test_a_linear_gaussian_chain_has_the_numbers_of_the_recursions(gaps: bool) -> None:
    model = LinearGaussianSSM.random(2, 3, input_dim=2, seed=0)
    data = given(model)
    mask = torch.rand(data.x.shape) < 0.7 if gaps else None
    found, expected = (kalman.smooth(model, data, mask=mask, parallel=way) for way in (True, False))
    for name in ("log_normalizers", "filtered_means", "filtered_covs", "predicted_means", "predicted_covs"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    for name in ("smoothed_means", "smoothed_covs", "pairwise_covs"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    torch.testing.assert_close(found.sample_states(7, seed=0), expected.sample_states(7, seed=0))
    drawn = [kalman.sample_states(model, data, mask=mask, num_samples=7, seed=0, parallel=way) for way in (True, False)]
    torch.testing.assert_close(*drawn)


def test_the_scans_are_called_when_asked_for_and_not_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for module, name in (
        (hmm_scan, "filter"),
        (hmm_scan, "backward"),
        (kalman_scan, "filtered"),
        (kalman_scan, "smooth"),
    ):
        intact = getattr(module, name)

        def noted(*arguments: Any, intact: Any = intact, name: str = name) -> Any:
            calls.append(name)
            return intact(*arguments)

        monkeypatch.setattr(module, name, noted)
    hmm, lgssm = CHAINS["hmm"].double(), LinearGaussianSSM.random(2, 2, seed=0).double()
    for way in (None, False, True):
        _ = forward_backward.smooth(hmm, given(hmm), parallel=way).smoothed_probs
        _ = kalman.smooth(lgssm, given(lgssm), parallel=way).smoothed_means
        assert calls == (["filter", "backward", "filtered", "smooth"] if way else [])


def level() -> LinearGaussianSSM:
    one = torch.eye(1)
    return LinearGaussianSSM(torch.zeros(1), one, one, one, one, one, diffuse=torch.ones(1, dtype=torch.bool))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: forward_backward.filter(HSMM.random(2, 3, 4, seed=0), x, parallel=True),
            "expected one chain of finitely many states for parallel=True, got semi-Markov states of HSMM",
        ),
        (
            lambda x: forward_backward.most_likely_states(FactorialHMM.random(2, 2, 3, seed=0), x, parallel=True),
            "got several chains of FactorialHMM",
        ),
        (
            lambda x: kalman.filter(level(), x[..., None].double(), parallel=True),
            "expected a proper law of the first state for parallel=True, got a diffuse start; leave it out",
        ),
        (
            lambda x: kalman.smooth(
                NoisyRNN.random(2, 2, seed=0), x[..., None].expand(-1, -1, 2).float(), method="extended", parallel=True
            ),
            "expected method='exact' for parallel=True, got 'extended', which linearises at each filtered mean",
        ),
    ],
    ids=["segments", "product", "diffuse", "linearised"],
)
def test_a_model_without_a_scan_says_so(call: Any, message: str) -> None:
    x: Tensor = torch.tensor([[0, 1, 2, 1]])
    with pytest.raises(ValueError, match=message):
        call(x)
