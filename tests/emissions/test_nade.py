from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, EmissionTable, NadeBits
from pgm_rnn.emissions.nade import NadeHead
from pgm_rnn.inference import svi
from pgm_rnn.kernels import nade
from pgm_rnn.models.belief_rnn import BeliefRNN
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.rnn import RNN
from pgm_rnn.sequence_model import SequenceModel
from tests.definitions import all_words, largest_z_score, logistic, word_index
from tests.instances import draw, randomised

WORDS = all_words(2, 4).double()
FAMILY = NadeBits(4, 5)
FEATURES = torch.tensor([[0.3, -1.0, 2.0], [1.0, 0.0, 0.0]], dtype=torch.float64)


def head(seed: int = 0) -> NadeHead:
    return randomised(FAMILY.head(3), seed=seed, scale=1.0)


def written_out(bias: Tensor, start: Tensor, x: Tensor, W: Tensor, V: Tensor) -> Tensor:
    """log p(x) of one vector of bits, entry by entry."""
    total = torch.zeros(())
    for i in range(len(x)):
        a = start + sum((W[j] * x[j] for j in range(i)), torch.zeros(len(start)))
        p = logistic(bias[i] + V[i] @ logistic(a))
        total = total + (x[i] * p + (1 - x[i]) * (1 - p)).log()
    return total


def test_the_log_prob_is_the_product_of_its_conditionals() -> None:
    module = head()
    params = FEATURES @ module.weight.T + module.bias
    for row, law_params in enumerate(params):
        bias, start = law_params.split([4, 5])
        expected = [written_out(bias, start, x, module.from_bits, module.to_logits) for x in WORDS]
        actual = module(FEATURES[row]).log_prob(WORDS)
        torch.testing.assert_close(actual, torch.stack(expected))


def test_the_probabilities_of_all_vectors_sum_to_one() -> None:
    law = head()(FEATURES)
    torch.testing.assert_close(law.log_prob(WORDS[:, None]).exp().sum(0), torch.ones(2))


def test_draws_have_the_laws_frequencies_and_not_those_of_independent_bits() -> None:
    module = head()
    with torch.no_grad():
        module.from_bits.mul_(5)
    law = module(FEATURES[0])
    drawn = word_index(law.sample((20_000,)).long(), 2)
    probs = law.log_prob(WORDS).exp().detach()
    assert largest_z_score(drawn, probs) < 5
    ones = probs @ WORDS  # the same chance of every bit
    independent = torch.where(WORDS == 1, ones, 1 - ones).prod(-1)
    assert largest_z_score(drawn, independent) > 5


def test_without_the_shared_weights_bits_are_independent_and_with_them_they_are_not() -> None:
    module = head()
    for factor, independent in ((0.0, True), (1.0, False)):
        with torch.no_grad():
            module.from_bits.mul_(factor)
        probs = module(FEATURES[0]).log_prob(WORDS).exp()
        ones = probs @ WORDS
        product = torch.where(WORDS == 1, ones, 1 - ones).prod(-1)
        assert torch.allclose(probs, product, rtol=1e-12) == independent
        module = head()


def test_without_the_shared_weights_the_law_is_bernoulli() -> None:
    module = head()
    with torch.no_grad():
        module.from_bits.zero_()
    bias, start = (FEATURES @ module.weight.T + module.bias).split([4, 5], dim=-1)
    expected = Bernoulli(4).distribution(bias + logistic(start) @ module.to_logits.T)
    x = draw(FAMILY, 2)
    torch.testing.assert_close(module(FEATURES).log_prob(x), expected.log_prob(x))


@pytest.mark.parametrize(("rows", "n", "hidden_dim"), [(3, 4, 5), (1, 1, 1), (2, 9, 1)])
def test_the_gradient_of_the_logits_is_their_slope(rows: int, n: int, hidden_dim: int) -> None:
    shapes = [(rows, n), (rows, hidden_dim), (n, hidden_dim), (n, hidden_dim)]
    bias, start, W, V = (torch.randn(shape, requires_grad=True) for shape in shapes)
    x = torch.randint(2, (rows, n)).double()
    assert torch.autograd.gradcheck(nade.logits, (bias, start, x, W, V))


def test_the_gradient_in_single_precision_loses_no_digits_over_many_bits() -> None:
    family = NadeBits(88, 16)
    module, x, features = randomised(family.head(3)), draw(family, 50), torch.randn(50, 3)
    expected = torch.autograd.grad(module(features).log_prob(x).sum(), list(module.parameters()))
    single = module.float()
    found = torch.autograd.grad(single(features.float()).log_prob(x.float()).sum(), list(single.parameters()))
    for one, other in zip(found, expected, strict=True):
        assert float((one.double() - other).abs().max()) < 1e-4 * float(other.abs().max())


def test_values_and_laws_broadcast() -> None:
    law = head()(FEATURES)
    assert (law.batch_shape, law.event_shape) == ((2,), (4,))
    assert law.log_prob(WORDS[:, None]).shape == (16, 2)
    assert law.expand([3, 2]).log_prob(WORDS[:2]).shape == (3, 2)
    assert law.sample((7, 3)).shape == (7, 3, 2, 4)
    assert not law.sample().requires_grad


def test_a_network_learns_bits_that_are_equal_which_independent_bits_cannot() -> None:
    x = torch.randint(2, (64, 2, 1)).double().expand(-1, -1, 3).contiguous()  # log 2 nats a step
    nats = {}
    for family in (NadeBits(3, 4), Bernoulli(3)):
        torch.manual_seed(0)
        rnn = RNN("elman", emission=family, hidden_dim=2)
        svi.fit(rnn, x, num_epochs=100, batch_size=64, learning_rate=0.1, progress=False)
        nats[family] = svi.evaluate(rnn, x).nats_per_step
    assert nats[NadeBits(3, 4)] < 0.8
    assert nats[Bernoulli(3)] > 2.0  # 3 log 2 at best


@pytest.mark.parametrize("make", [HMM.random, BeliefRNN.random])
def test_models_with_a_law_for_each_state_refuse_it_and_name_another(
    make: Callable[..., SequenceModel],
) -> None:
    with pytest.raises(TypeError, match=r"whose laws share no weights.*, got NadeBits\(.*\); use a network"):
        make(num_states=2, emission=FAMILY)
    with pytest.raises(TypeError, match="use a network such as RNN"):
        EmissionTable(FAMILY, torch.zeros(2, FAMILY.num_params))
    with pytest.raises(TypeError, match=r"make its laws by family\.head"):
        FAMILY.distribution(torch.zeros(FAMILY.num_params))


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (2.0, 1)])
def test_sizes_are_positive_integers(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="to be an integer of at least 1"):
        NadeBits(*sizes)
