import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, EmissionTable, Gaussian, Poisson
from pgm_rnn.inference import forward_backward
from pgm_rnn.models.hmm import HMM
from tests.definitions import all_words, emission_log_probs, filtered_probs, marginal_prob, path_probs
from tests.instances import LENGTHS, assert_same, draw, every_family, gradients, make_hmm, ragged

INITIAL = torch.tensor([0.75, 0.25], dtype=torch.float64)
TRANSITION = torch.tensor([[0.5, 0.5], [0.0, 1.0]], dtype=torch.float64)
SYMBOLS = torch.tensor([[0.2, 0.3, 0.5], [0.0, 0.4, 0.6]], dtype=torch.float64)


def left_to_right() -> HMM:
    """State 1 cannot be left, and never emits symbol 0."""
    return HMM(INITIAL, TRANSITION, SYMBOLS)


def emission_of(hmm: HMM, x: Tensor) -> Tensor:
    """p(x_t | z_t = k) of one sequence, (T, K)."""
    return emission_log_probs(hmm.family, hmm.emission_table.params, x).exp()


def enumerated(hmm: HMM, x: Tensor) -> Tensor:
    return marginal_prob(hmm.initial_probs, hmm.transition_probs, emission_of(hmm, x)).log()


@pytest.mark.parametrize("num_states", [1, 2, 3])
@every_family
def test_the_log_marginal_is_the_sum_over_all_paths(family: Emission, num_states: int) -> None:
    hmm, x = make_hmm(family, num_states=num_states), ragged(family)
    expected = torch.stack([enumerated(hmm, row[:n]) for row, n in zip(x, LENGTHS.tolist(), strict=True)])
    torch.testing.assert_close(hmm.log_marginal_likelihood(x, LENGTHS), expected)
    torch.testing.assert_close(hmm.log_prob(x, lengths=LENGTHS), expected)


@every_family
def test_the_gradient_is_that_of_the_sum_over_all_paths(family: Emission) -> None:
    hmm, x = make_hmm(family), draw(family, 1, 4)
    actual = gradients(hmm.log_marginal_likelihood(x).sum(), hmm)
    assert_same(actual, gradients(enumerated(hmm, x[0]), hmm), rtol=1e-9, atol=1e-12)


@given(num_states=st.integers(1, 3), num_steps=st.integers(1, 4), seed=st.integers(0, 10_000))
def test_the_log_prob_of_a_path_is_its_factors(num_states: int, num_steps: int, seed: int) -> None:
    hmm = make_hmm(Categorical(3), num_states=num_states, seed=seed)
    x = draw(Categorical(3), 1, num_steps, seed=seed)
    table = path_probs(hmm.initial_probs, hmm.transition_probs, emission_of(hmm, x[0]))
    paths = torch.tensor(list(table))
    actual = hmm.log_prob(x.expand(len(paths), -1), paths)
    torch.testing.assert_close(actual, torch.stack(list(table.values())).log())
    torch.testing.assert_close(actual.logsumexp(0), hmm.log_marginal_likelihood(x)[0])


@every_family
def test_the_conditional_law_is_the_joint_without_the_first_observation(family: Emission) -> None:
    hmm, x = make_hmm(family), ragged(family)
    log_first = torch.stack([enumerated(hmm, row[:1]) for row in x])
    expected = hmm.log_marginal_likelihood(x, LENGTHS) - log_first
    torch.testing.assert_close(hmm.log_marginal_likelihood(x, LENGTHS, first="condition"), expected)
    z = torch.randint(2, (3, 4))
    joint = hmm.log_prob(x, z, LENGTHS) - log_first
    torch.testing.assert_close(hmm.log_prob(x, z, LENGTHS, first="condition"), joint)


@every_family
def test_the_first_state_given_the_first_observation_is_bayes_rule(family: Emission) -> None:
    hmm, x = make_hmm(family, num_states=3), draw(family, 4, 1)
    joint = hmm.initial_probs * torch.cat([emission_of(hmm, row) for row in x])
    probs = hmm.initial_given(None, x[:, 0]).probs
    torch.testing.assert_close(probs, joint / joint.sum(-1, keepdim=True))


@every_family
def test_filtered_probabilities_are_the_sum_over_all_paths(family: Emission) -> None:
    hmm, x = make_hmm(family, num_states=3), ragged(family)
    result = forward_backward.filter(hmm, x, LENGTHS)
    for row, n, actual in zip(x, LENGTHS.tolist(), result.filtered_probs, strict=True):
        expected = filtered_probs(hmm.initial_probs, hmm.transition_probs, emission_of(hmm, row[:n]))
        torch.testing.assert_close(actual[:n], expected)


def test_the_tables_are_what_was_given() -> None:
    hmm = left_to_right()
    torch.testing.assert_close(hmm.initial_probs, INITIAL)
    torch.testing.assert_close(hmm.transition_probs, TRANSITION)
    torch.testing.assert_close(hmm.emission_probs, SYMBOLS)
    assert hmm.num_states == 2


def test_an_impossible_sequence_has_log_probability_minus_infinity() -> None:
    hmm = HMM(torch.tensor([0.0, 1.0]), TRANSITION, SYMBOLS)
    x = torch.tensor([[1, 2, 0], [1, 2, 1]])
    assert hmm.log_marginal_likelihood(x)[0] == -torch.inf
    assert hmm.log_marginal_likelihood(x).isfinite().tolist() == [False, True]
    assert hmm.log_prob(x, torch.ones_like(x))[0] == -torch.inf
    # the impossible symbol in the padding is none
    assert hmm.log_marginal_likelihood(x, torch.tensor([2, 3])).isfinite().all()


def test_zero_probabilities_stay_zero_and_leave_the_gradients_finite() -> None:
    hmm = left_to_right()
    optimizer = torch.optim.Adam(hmm.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (-hmm.log_marginal_likelihood(torch.tensor([[0, 1, 2, 2], [1, 1, 0, 2]])).sum()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in hmm.parameters())
        optimizer.step()
    assert hmm.transition_probs[1].tolist() == [0, 1]
    assert hmm.emission_probs[1, 0] == 0


def test_an_outlier_of_a_left_to_right_model_is_unlikely_and_not_impossible() -> None:
    emission = Gaussian().table(loc=torch.tensor([0.0, 50.0]), scale=torch.ones(2))
    hmm = HMM(torch.tensor([0.0, 1.0]), TRANSITION, emission)  # state 0 is never reached
    outlier = torch.tensor([[0.0]])
    expected = torch.distributions.Normal(50.0, 1.0).log_prob(outlier[:, 0])
    torch.testing.assert_close(hmm.log_marginal_likelihood(outlier), expected)


@every_family
def test_emission_log_probs_are_those_of_every_state(family: Emission) -> None:
    hmm, x = make_hmm(family, num_states=3), draw(family, 2, 4)
    expected = torch.stack([emission_of(hmm, row).log() for row in x])
    torch.testing.assert_close(hmm.emission_log_probs(x), expected)


def test_random_rows_are_uniform_on_the_simplex() -> None:
    limit, num = 5.0, 1_000  # standard errors, rows
    rows = HMM.random(num_states=num, num_symbols=3, seed=0).emission_probs.detach()
    mean, variance = 1 / 3, 2 / 36  # moments of an entry of Dirichlet(1, 1, 1)
    assert abs(float(rows[:, 0].mean()) - mean) < limit * (variance / num) ** 0.5
    spread = (rows[:, 0] - mean).square()
    assert abs(float(spread.mean()) - variance) < limit * float(spread.std()) / num**0.5
    normalised = torch.rand(num, 3)  # another law on the simplex
    control = ((normalised / normalised.sum(-1, keepdim=True))[:, 0] - mean).square()
    assert abs(float(control.mean()) - variance) > limit * float(control.std()) / num**0.5


@pytest.mark.parametrize("emission", [Bernoulli(2), Gaussian(), Poisson()])
def test_random_models_are_reproducible(emission: Emission) -> None:
    states = [HMM.random(3, emission=emission, seed=seed).state_dict() for seed in (0, 0, 1)]
    assert_same(states[0], states[1])
    assert not torch.equal(states[0]["initial_logits"], states[2]["initial_logits"])


def test_single_precision_stays_single_precision() -> None:
    hmm, x = left_to_right(), torch.tensor([[0, 1, 2]])
    exact, single = hmm.log_marginal_likelihood(x), left_to_right().float().log_marginal_likelihood(x)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-6, atol=1e-6)


def test_the_law_over_all_sequences_sums_to_one() -> None:
    total = left_to_right().log_marginal_likelihood(all_words(3, 4)).detach().exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("initial", "transition", "emission", "message"),
    [
        (INITIAL[None], TRANSITION, SYMBOLS, r"expected initial_probs of shape \(any\), got \(1, 2\)"),
        (INITIAL, TRANSITION[:1], SYMBOLS, r"expected transition_probs of shape \(2, 2\), got \(1, 2\)"),
        (INITIAL, TRANSITION, SYMBOLS[:1], r"expected emission of shape \(2, any\), got \(1, 3\)"),
        (INITIAL * 2, TRANSITION, SYMBOLS, "expected each row of initial_probs to sum to one, got a sum of 2 in row 0"),
        (
            INITIAL,
            TRANSITION.T,
            SYMBOLS,
            "expected each row of transition_probs to sum to one, got a sum of 0.5 in row 0",
        ),
        (
            INITIAL,
            TRANSITION,
            SYMBOLS[:, :2],
            "expected each row of emission to sum to one, got a sum of 0.4 in row 1|row 0",
        ),
        (INITIAL - 1, TRANSITION, SYMBOLS, "expected initial_probs to be non-negative numbers, got -0.75"),
        (INITIAL, TRANSITION * torch.nan, SYMBOLS, "expected transition_probs to be non-negative numbers, got nan"),
        (INITIAL.long(), TRANSITION, SYMBOLS, "expected initial_probs as a floating-point tensor that is not empty"),
    ],
)
def test_tables_that_are_no_laws_are_errors(
    initial: Tensor, transition: Tensor, emission: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        HMM(initial, transition, emission)


def test_an_emission_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected an emission for 2 states, got one for 3"):
        HMM(INITIAL, TRANSITION, EmissionTable(Gaussian(), torch.zeros(3, 2)))
    with pytest.raises(TypeError, match=r"expected one law per state, got the family Gaussian.*Gaussian\(...\).table"):
        HMM(INITIAL, TRANSITION, Gaussian())  # type: ignore[arg-type]


def test_exactly_one_of_num_symbols_and_emission_is_needed() -> None:
    with pytest.raises(ValueError, match="expected exactly one of num_symbols and emission"):
        HMM.random(3)
    with pytest.raises(ValueError, match="expected exactly one of num_symbols and emission"):
        HMM.random(3, 4, emission=Gaussian())
    with pytest.raises(ValueError, match="expected num_states to be an integer of at least 1, got 0"):
        HMM.random(0, 4)


def test_a_table_of_symbols_is_asked_of_symbols_only() -> None:
    with pytest.raises(ValueError, match=r"expected an HMM of symbols for emission_probs, got Gaussian\(size=None\)"):
        _ = make_hmm(Gaussian()).emission_probs


def test_states_are_integers() -> None:
    with pytest.raises(TypeError, match=r"expected states z as integers, got torch.float64"):
        make_hmm(Categorical(3)).log_prob(draw(Categorical(3), 3, 4), torch.zeros(3, 4))


@pytest.mark.parametrize("shape", [(3,), (3, 5), (4,), (4, 3)])
def test_states_have_the_shape_of_the_observations(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected z of shape \(3, 4\) \+ latent shape, got"):
        make_hmm(Categorical(3)).log_prob(draw(Categorical(3), 3, 4), torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("state", [-1, 2])
def test_states_outside_the_model_are_an_error_unless_they_are_padding(state: int) -> None:
    hmm, x = make_hmm(Categorical(3)), ragged(Categorical(3))
    z = torch.zeros(3, 4, dtype=torch.int64)
    z[1, 1] = state
    assert hmm.log_prob(x, z, LENGTHS).isfinite().all()
    with pytest.raises(ValueError, match=r"expected states in 0..1, got"):
        hmm.log_prob(x, z)


def test_a_forecast_from_an_impossible_past_is_an_error() -> None:
    hmm = HMM(torch.tensor([0.0, 1.0]), TRANSITION, SYMBOLS)
    with pytest.raises(
        ValueError, match="expected observations of positive probability, got probability 0 for sequence 1"
    ):
        hmm.forecast(torch.tensor([[1, 1], [1, 0]]), num_steps=2)
