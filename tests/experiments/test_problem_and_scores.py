"""Problems and scores, from their definitions."""

import itertools

import pytest
import torch

from pgm_rnn.experiments.intertwining import KernelRidge, intertwining_residuals, step
from pgm_rnn.experiments.problem import Problem, make_problem
from pgm_rnn.experiments.scores import chance_agreement, divergence, state_scores
from pgm_rnn.experiments.settings import Settings, reproducible
from pgm_rnn.experiments.taggers import tagger_of
from pgm_rnn.models import HMM, Tagger
from pgm_rnn.sequences import Sequences

SETTINGS = Settings(num_states=(3,), num_sequences=(50,), num_test=120)


def belief_by_enumeration(hmm: HMM, x: torch.Tensor) -> torch.Tensor:
    """p(z_t | x_{1:t}) of the last step from every path of states."""
    masses = torch.zeros(hmm.num_states)
    for path in itertools.product(range(hmm.num_states), repeat=len(x)):
        mass = hmm.initial_probs[path[0]]
        for before, after in itertools.pairwise(path):
            mass = mass * hmm.transition_probs[before, after]
        for state, symbol in zip(path, x, strict=True):
            mass = mass * hmm.emission_probs[state, symbol]
        masses[path[-1]] += mass
    return masses / masses.sum()


def test_a_problem_is_a_function_of_its_settings() -> None:
    a, b, other = (make_problem(SETTINGS, 3, replicate) for replicate in (1, 1, 2))
    assert torch.equal(a.train.x, b.train.x)
    assert torch.equal(a.hmm.transition_probs, b.hmm.transition_probs)
    assert not torch.equal(a.hmm.transition_probs, other.hmm.transition_probs)
    assert (a.train.x.shape, a.test.x.shape) == ((50, 8), (120, 8))


def test_beliefs_are_those_of_all_paths() -> None:
    problem = make_problem(SETTINGS, 3, 0)
    for t in (1, 3, 5):
        torch.testing.assert_close(problem.beliefs[0, t - 1], belief_by_enumeration(problem.hmm, problem.test.x[0, :t]))


def test_the_forward_algorithm_scores_itself_as_perfect_agreement_and_no_divergence() -> None:
    problem = make_problem(SETTINGS, 3, 0)
    score = state_scores(problem, problem.beliefs)
    assert (score["agreement"], score["different"], score["agreement_all"]) == (1.0, 0, 1.0)
    assert score["kl"] == pytest.approx(0.0, abs=1e-15)
    assert score["accuracy"] == score["forward_accuracy"]
    assert score["expected_accuracy"] == pytest.approx(score["forward_expected_accuracy"])


def test_scores_are_counted_by_hand() -> None:
    hmm = HMM.random(2, 3, seed=0)
    x = torch.zeros(1, 4, dtype=torch.long)
    problem = Problem(
        0, hmm, Sequences(x, torch.tensor([4])), Sequences(x, torch.tensor([4]), torch.tensor([[0, 1, 1, 0]]))
    )
    problem.__dict__["beliefs"] = torch.tensor([[[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.51, 0.49]]])
    predicted = torch.tensor([[[0.6, 0.4], [0.2, 0.8], [0.4, 0.6], [0.1, 0.9]]])
    score = state_scores(problem, predicted)
    assert score["accuracy"] == 3 / 4  # states 0, 1, 1, 0; predictions 0, 1, 1, 1
    assert score["forward_accuracy"] == 3 / 4  # predictions 0, 0, 1, 0
    assert (score["agreement"], score["different"]) == (2 / 4, 2)
    assert score["expected_accuracy"] == pytest.approx((0.9 + 0.2 + 0.7 + 0.49) / 4)
    assert score["near_ties"] == 1 / 4  # log(51 / 49) = 0.04
    assert score["near_ties_among_different"] == 1 / 2
    assert score["chance"] == 1 / 2
    assert score["chance_agreement"] == pytest.approx(1 / 4 * 3 / 4 + 3 / 4 * 1 / 4)


def test_expected_accuracy_is_largest_for_the_forward_algorithm() -> None:
    problem = make_problem(SETTINGS, 3, 0)
    random_laws = torch.rand(10, *problem.beliefs.shape)
    for law in random_laws:
        score = state_scores(problem, law / law.sum(-1, keepdim=True))
        assert float(score["expected_accuracy"]) < float(score["forward_expected_accuracy"])


def test_divergence_is_that_of_torch_and_zero_probabilities_cost_nothing() -> None:
    p, q = torch.rand(5, 4), torch.rand(5, 4)
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    expected = torch.distributions.kl_divergence(torch.distributions.Categorical(p), torch.distributions.Categorical(q))
    torch.testing.assert_close(divergence(p, q.log()), expected)
    p, q = torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])
    assert float(divergence(p, q.log())) == 0.0


def test_chance_agreement_of_constant_predictors_is_certain() -> None:
    always, half = torch.zeros(10, dtype=torch.long), torch.arange(10) % 2
    assert chance_agreement(always, always, 3) == 1.0
    assert chance_agreement(always, half, 3) == pytest.approx(0.5)


def test_the_residual_of_c2_is_zero_where_phi_exists_and_not_where_the_cell_forgets_what_it_is_given() -> None:
    # With one symbol ever seen a belief is a function of time alone, and so is any network's hidden state.
    with reproducible():
        settings = Settings(num_symbols=1, num_states=(2,), num_sequences=(5,), num_test=100)
        exact = intertwining_residuals(Tagger("elman", 1, 2, 3), make_problem(settings, 2, 0))
        # With three symbols a network that counts its symbols does not follow the beliefs.
        problem = make_problem(SETTINGS, 3, 0)
        other = intertwining_residuals(counting(3, 3), problem)
    assert exact.c2 < 1e-4
    assert other.c2 > 1e-2


def counting(hidden_dim: int, num_symbols: int) -> Tagger:
    """A network whose recurrence keeps what it has and adds a little for each symbol."""
    return tagger_of(
        {
            "W": 0.05 * torch.randn(1, hidden_dim, num_symbols),
            "U": 1.05 * torch.eye(hidden_dim)[None],
            "b": torch.zeros(1, hidden_dim),
            "V": torch.randn(1, 3, hidden_dim),
            "c": torch.zeros(1, 3),
            "h_0": torch.zeros(1, hidden_dim),
        }
    )


def test_a_step_is_that_of_the_paper() -> None:
    network = Tagger("elman", 3, 2, 4).float()
    x, h = torch.tensor([0, 2, 1]), torch.randn(3, 4)
    w, u, *biases = (value.double() for value in network.cell.parameters())
    expected = torch.tanh(w.T[x] + h @ u.T + sum(biases))
    torch.testing.assert_close(step(network, h, x), expected)


def test_kernel_regression_passes_through_a_smooth_map() -> None:
    inputs = torch.rand(200, 2)
    fitted = KernelRidge(inputs, inputs.square())(torch.tensor([[0.5, 0.5], [0.3, 0.7]]))
    torch.testing.assert_close(fitted, torch.tensor([[0.25, 0.25], [0.09, 0.49]]), rtol=0, atol=5e-3)
