import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission
from pgm_rnn.inference.em.random_starts import COMMON, OWN, PSEUDO_COUNT, Start, random_starts
from pgm_rnn.models.hmm import HMM
from tests.definitions import largest_z_score
from tests.instances import draw, every_estimated_family

NUM_STATES = 3


def like(family: Emission, num_states: int = NUM_STATES) -> Start:
    hmm = HMM.random(num_states, emission=family, seed=0).double()
    return Start(hmm.initial_probs.detach(), hmm.transition_probs.detach(), hmm.emission_table)


def flat(start: Start) -> Tensor:
    return torch.cat([start.initial, start.transition.flatten(), start.emission.params.detach().flatten()])


@every_estimated_family
def test_every_observation_is_possible_from_every_start(family: Emission) -> None:
    x = draw(family, 1, 40)[0]
    for start in random_starts(like(family), x, 5, seed=0):
        assert start.emission.log_probs(x).isfinite().all()
        assert bool((start.initial > 0).all())
        assert bool((start.transition > 0).all())
        torch.testing.assert_close(start.transition.sum(-1), torch.ones(NUM_STATES))


@every_estimated_family
def test_states_and_starts_differ(family: Emission) -> None:
    one, other = random_starts(like(family), draw(family, 1, 40)[0], 2, seed=0)
    assert not torch.equal(one.transition[0], one.transition[1])
    assert not torch.equal(one.transition, other.transition)
    assert not torch.equal(one.initial, other.initial)


def test_a_state_lies_near_one_random_observation_of_bits() -> None:
    x = draw(Bernoulli(8), 1, 50)[0]
    (start,) = random_starts(like(Bernoulli(8)), x, 1, seed=0)
    near = (OWN * x + COMMON * x.mean(0) + PSEUDO_COUNT) / (OWN + COMMON + 2 * PSEUDO_COUNT)
    distance = (start.emission.params.detach().sigmoid()[:, None] - near).abs().amax(-1)  # (K, N)
    assert float(distance.amin(-1).max()) < 1e-12
    assert float(distance.amax(-1).min()) > 0.5  # the other observations are not as near


def test_more_starts_keep_the_first_ones() -> None:
    family = Categorical(3)
    few, many = (random_starts(like(family), draw(family, 1, 40)[0], n, seed=4) for n in (2, 5))
    for a, b in zip(few, many[:2], strict=True):
        assert torch.equal(flat(a), flat(b))


def test_a_seed_gives_the_same_starts_and_leaves_the_global_state() -> None:
    family = Categorical(3)
    x, state = draw(family, 1, 40)[0], torch.get_rng_state()
    first, second, other = (flat(random_starts(like(family), x, 1, seed=seed)[0]) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_zeros_of_the_chain_stay_zero() -> None:
    family = Categorical(3)
    initial, transition = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1]])
    (start,) = random_starts(Start(initial, transition, like(family).emission), draw(family, 1, 9)[0], 1, seed=0)
    assert torch.equal(start.initial, initial)
    assert torch.equal(start.transition > 0, transition > 0)


def test_rows_are_uniform_on_the_simplex_and_their_squares_are_not() -> None:
    starts = random_starts(like(Categorical(3), num_states=2), draw(Categorical(3), 1, 9)[0], 500, seed=0)
    first = torch.cat([start.transition[:, 0] for start in starts])  # uniform on [0, 1] if the row is Dirichlet(1)
    quarters = torch.full((4,), 0.25)
    assert largest_z_score((first * 4).long(), quarters) < 5
    assert largest_z_score((first.square() * 4).long(), quarters) > 5


def test_a_family_without_a_closed_form_is_an_error() -> None:
    start = like(Categorical(3))
    start.emission.family = object()  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"closed form.*fit it by svi\.fit"):
        random_starts(start, torch.zeros(4), 1, seed=0)
