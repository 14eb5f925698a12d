import math

import networkx as nx
import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Categorical, Emission, Gaussian
from pgm_rnn.graph import read_graph
from pgm_rnn.inference import forward_backward
from pgm_rnn.models.belief_rnn import BeliefRNN
from pgm_rnn.models.hmm import HMM
from pgm_rnn.sequence_model import memory_of
from tests.definitions import all_words
from tests.instances import LENGTHS, assert_same, every_family, every_first, gradients, make_hmm, make_rnn, ragged

every_units = pytest.mark.parametrize("units", ["probs", "log-odds"])


@every_first
@every_units
@every_family
def test_it_has_the_hmms_likelihood_and_its_gradient(family: Emission, units: str, first: str) -> None:
    hmm, x = make_hmm(family, num_states=3), ragged(family)
    rnn = BeliefRNN(hmm, units=units)  # type: ignore[arg-type]
    value = rnn.log_prob(x, lengths=LENGTHS, first=first)  # type: ignore[arg-type]
    expected = hmm.log_prob(x, lengths=LENGTHS, first=first)  # type: ignore[arg-type]
    torch.testing.assert_close(value, expected)
    assert_same(gradients(value.sum(), hmm), gradients(expected.sum(), hmm), rtol=1e-7, atol=1e-10)


def test_another_hmm_has_another_law() -> None:
    words = all_words(3, 3)
    rnn, other = BeliefRNN(make_hmm(Categorical(3))), make_hmm(Categorical(3), seed=1)
    assert float((rnn.log_prob(words) - other.log_prob(words)).abs().max().detach()) > 0.1


def two_kinds(dtype: torch.dtype) -> tuple[HMM, Tensor]:
    """Sequences of two kinds, and one that looks like the second kind for six steps and is of the first."""
    table = Gaussian().table(torch.tensor([4.0, -4.0], dtype=dtype), torch.ones(2, dtype=dtype))
    x = torch.tensor([[-6.0] * 6 + [6.0] * 12], dtype=dtype)
    return HMM(torch.full((2,), 0.5, dtype=dtype), torch.eye(2, dtype=dtype), table), x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_odds_hold_beliefs_that_no_float_holds(dtype: torch.dtype) -> None:
    hmm, x = two_kinds(dtype)
    log_densities = hmm.emission_log_probs(x)[0].sum(0) - math.log(2.0)  # the closed form: no state is ever left
    value = BeliefRNN(hmm, units="log-odds").log_prob(x)
    torch.testing.assert_close(value, log_densities.logsumexp(0)[None])


def test_probabilities_cannot_hold_them() -> None:
    # The negative control, as the module says: 288 nats are too many for float32.
    hmm, x = two_kinds(torch.float32)
    with pytest.warns(UserWarning, match=r"beliefs in the range of torch.float32, got log p = .* use units='log-odds'"):
        value = BeliefRNN(hmm).log_prob(x)
    assert float((value - hmm.log_prob(x)).detach()) < -100


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_odds_of_a_chain_that_reaches_its_states_late_have_finite_gradients(dtype: torch.dtype) -> None:
    transition = torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.9, 0.1], [0.0, 0.0, 1.0]], dtype=dtype)
    table = Gaussian().table(torch.tensor([0.0, 2.0, 4.0], dtype=dtype), torch.ones(3, dtype=dtype))
    hmm = HMM(torch.tensor([1.0, 0.0, 0.0], dtype=dtype), transition, table)
    x = torch.tensor([[0.0, 2.0, 4.0, 4.0]], dtype=dtype)
    value, expected = BeliefRNN(hmm, units="log-odds").log_prob(x), hmm.log_prob(x)
    torch.testing.assert_close(value, expected)
    assert_same(gradients(value.sum(), hmm), gradients(expected.sum(), hmm), rtol=1e-4, atol=1e-4)


def test_log_odds_of_an_impossible_state_are_an_error_and_not_a_number() -> None:
    hmm = HMM(torch.full((2,), 0.5), torch.eye(2), torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    with pytest.raises(ValueError, match="expected state 0, the reference of the log-odds, to be possible"):
        BeliefRNN(hmm, units="log-odds").log_prob(torch.tensor([[1, 0, 1]]))


@every_units
def test_an_impossible_symbol_has_probability_zero(units: str) -> None:
    hmm = HMM(torch.full((2,), 0.5), torch.full((2, 2), 0.5), torch.tensor([[0.5, 0.5, 0.0]] * 2))
    value = BeliefRNN(hmm, units=units).log_prob(torch.tensor([[0, 2], [0, 1]]))  # type: ignore[arg-type]
    assert value.isinf().tolist() == [True, False]


@every_units
def test_its_hidden_state_is_the_predicted_law_of_the_hmms_state(units: str) -> None:
    hmm, x = make_hmm(Gaussian(2), num_states=3), ragged(Gaussian(2))
    rnn = BeliefRNN(hmm, units=units)  # type: ignore[arg-type]
    h = memory_of(rnn).unroll(x)
    assert h is not None
    predicted = forward_backward.filter(hmm, x).predicted_probs
    torch.testing.assert_close(rnn.belief(h).detach(), predicted)
    assert not torch.allclose(rnn.belief(h), forward_backward.filter(hmm, x).filtered_probs)


def test_two_states_need_one_hidden_unit() -> None:
    rnn = BeliefRNN.random(2, 3, units="log-odds", seed=0)
    assert rnn.initial_memory.shape == (1,)
    words = all_words(3, 4)
    torch.testing.assert_close(rnn.double().log_prob(words), rnn.hmm.log_prob(words))


@every_units
def test_its_graph_is_a_recurrent_networks(units: str) -> None:
    belief, rnn = BeliefRNN.random(2, 3, units=units, seed=0), make_rnn("gru", Categorical(3))  # type: ignore[arg-type]
    graphs = [read_graph(model, 4) for model in (belief.double(), rnn)]
    assert nx.utils.graphs_equal(*graphs)
    assert not nx.utils.graphs_equal(read_graph(make_hmm(Categorical(3)), 4), graphs[1])


def test_what_is_no_hmm_is_an_error() -> None:
    with pytest.raises(TypeError, match="expected an HMM, got RNN"):
        BeliefRNN(make_rnn("gru", Categorical(3)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected units to be one of probs, log-odds, got 'logodds'; did you mean"):
        BeliefRNN(HMM.random(2, 3), units="logodds")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected at least two states for units='log-odds', got one"):
        BeliefRNN(HMM.random(1, 3), units="log-odds")
