import pyro
import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Categorical, Emission, Gaussian
from pgm_rnn.sequence_model import First
from pgm_rnn.sequence_model.sequence_law import SequenceLaw
from tests.definitions import all_words, emission_log_probs, largest_z_score, marginal_prob, word_index
from tests.instances import LENGTHS, every_family, every_first, make_hmm, ragged, spoiled


def by_enumeration(family: Emission, x: Tensor, lengths: Tensor, first: First) -> Tensor:
    hmm = make_hmm(family)
    values = []
    for row, length in zip(x, lengths.tolist(), strict=True):
        emission = emission_log_probs(family, hmm.emission_table.params, row[:length]).exp()
        value = marginal_prob(hmm.initial_probs, hmm.transition_probs, emission).log()
        if first == "condition":
            value = value - marginal_prob(hmm.initial_probs, hmm.transition_probs, emission[:1]).log()
        values.append(value)
    return torch.stack(values)


@every_first
@every_family
def test_the_log_prob_is_the_sum_over_all_paths(family: Emission, first: First) -> None:
    x = ragged(family)
    law = SequenceLaw(make_hmm(family), LENGTHS, 4, first)
    torch.testing.assert_close(law.log_prob(x), by_enumeration(family, x, LENGTHS, first))


@every_family
def test_time_is_inside_the_event(family: Emission) -> None:
    law = SequenceLaw(make_hmm(family), LENGTHS, 4, "model")
    assert law.batch_shape == (3,)
    assert law.event_shape == (4, *family.event_shape)
    assert law.sample().shape == (3, 4, *family.event_shape)
    assert law.sample((5, 2)).shape == (5, 2, 3, 4, *family.event_shape)


def test_padding_does_not_count() -> None:
    law = SequenceLaw(make_hmm(Gaussian()), LENGTHS, 4, "model")
    x = ragged(Gaussian())
    assert torch.equal(law.log_prob(spoiled(x, LENGTHS, torch.nan)), law.log_prob(x))


def test_expansion_over_particles_repeats_the_log_prob() -> None:
    law = SequenceLaw(make_hmm(Gaussian()), LENGTHS, 4, "model")
    x = ragged(Gaussian())
    assert torch.equal(law.expand([5, 3]).log_prob(x), law.log_prob(x).expand(5, 3))


def test_draws_follow_the_law_and_not_another() -> None:
    limit, num = 5.0, 20_000  # standard errors, draws
    hmm = make_hmm(Categorical(2))
    words = all_words(2, 3)
    drawn = word_index(SequenceLaw(hmm, torch.full((num,), 3), 3, "model").sample(), 2)
    assert largest_z_score(drawn, hmm.log_prob(words).exp().detach()) < limit
    assert largest_z_score(drawn, make_hmm(Categorical(2), seed=1).log_prob(words).exp().detach()) > limit


def test_it_is_a_distribution_of_a_pyro_program() -> None:
    hmm, x = make_hmm(Categorical(3)), ragged(Categorical(3))

    def program() -> None:
        with pyro.plate("sequences", 3):
            pyro.sample("x", SequenceLaw(hmm, LENGTHS, 4, "model"), obs=x)

    trace = pyro.poutine.trace(program).get_trace()
    torch.testing.assert_close(trace.log_prob_sum(), hmm.log_prob(x, lengths=LENGTHS).sum())


def test_a_law_that_conditions_on_the_first_observation_cannot_draw_it() -> None:
    hmm = make_hmm(Categorical(3), first="condition")
    with pytest.raises(ValueError, match="no law of x_1 to draw from"):
        SequenceLaw(hmm, LENGTHS, 4, "condition").sample()
