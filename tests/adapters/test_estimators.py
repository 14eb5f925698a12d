"""The estimators pass scikit-learn's own checks, and compute what the definitions say."""

import subprocess
import sys
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm, poisson
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimators_fit_returns_self, parametrize_with_checks

from pgm_rnn.adapters import HMMEstimator, LinearGaussianEstimator
from pgm_rnn.adapters.estimator import EXPECTED_FAILED_CHECKS
from pgm_rnn.emissions import Gaussian, Joint, Mixture, Poisson

pytestmark = pytest.mark.filterwarnings("ignore::pgm_rnn.inference.em.EmWarning")
LENGTHS = [12, 8, 10]


def reals(num_features: int = 2) -> np.ndarray:
    """Two levels that last for a while, with noise."""
    generator = np.random.default_rng(0)
    levels = 4.0 * np.repeat(generator.integers(0, 2, 6), 5)
    return levels[:, None] + generator.normal(size=(30, num_features))


def counts() -> np.ndarray:
    return np.random.default_rng(1).poisson(np.repeat([2, 9, 2, 9, 2, 9], 5)[:, None]).astype(float)


def symbols() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 3, size=(30, 1)).astype(float)


# scikit-learn's checks.


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [
        HMMEstimator(num_iterations=5, random_state=0),
        LinearGaussianEstimator(num_iterations=3, random_state=0),
    ],
    expected_failed_checks=lambda estimator: EXPECTED_FAILED_CHECKS,
    xfail_strict=True,
)
def test_every_check_of_scikit_learn_passes_or_is_listed_with_a_reason(estimator: Any, check: Any) -> None:
    check(estimator)


class ReturnsNothing(HMMEstimator):
    def fit(self, X: Any, y: object = None, lengths: Any = None) -> Any:
        super().fit(X, y, lengths)


def test_the_checks_find_an_estimator_that_breaks_the_rules() -> None:
    with pytest.raises(AssertionError):
        check_estimators_fit_returns_self("ReturnsNothing", ReturnsNothing(num_iterations=2))


@pytest.mark.parametrize("emission", ["gaussian", "poisson", "categorical"])
def test_parameters_are_kept_cloned_and_searched(emission: str) -> None:
    X = {"gaussian": reals(), "poisson": counts(), "categorical": symbols()}[emission]
    estimator = HMMEstimator(emission=emission, num_symbols=3, num_iterations=3, random_state=0)
    copy = clone(estimator.set_params(num_states=3))
    assert copy.get_params() == estimator.get_params()
    assert not hasattr(copy, "model_")
    search = GridSearchCV(estimator, {"num_states": [1, 2]}, cv=2).fit(X)
    assert search.best_params_["num_states"] in (1, 2)
    assert estimator.fit(X, lengths=LENGTHS).predict(X, lengths=LENGTHS).shape == (30,)


# The HMM, by enumeration of all paths.


def densities(estimator: HMMEstimator, X: np.ndarray) -> np.ndarray:
    """p(x_t | z_t = k), (T, K), by scipy from the fitted parameters; 1 where x_t is missing."""
    law: Any = estimator.model_.emission(torch.arange(estimator.model_.num_states), None)
    if estimator.emission == "categorical":
        table = law.probs.detach().numpy()
        return np.array([np.ones(len(table)) if np.isnan(x) else table[:, int(x)] for x in X[:, 0]])
    if estimator.emission == "poisson":
        entries = poisson.pmf(np.nan_to_num(X)[:, None], law.base_dist.rate.detach().numpy())
    else:
        entries = norm.pdf(X[:, None], law.base_dist.loc.detach().numpy(), law.base_dist.scale.detach().numpy())
    return np.where(np.isnan(X)[:, None], 1.0, entries).prod(-1)


def by_enumeration(estimator: HMMEstimator, X: np.ndarray) -> tuple[float, np.ndarray, tuple[int, ...]]:
    """log p(X), p(z_t = k | X), and the most likely path."""
    model = estimator.model_
    start, moves = model.initial_probs.detach().numpy(), model.transition_probs.detach().numpy()
    given = densities(estimator, X)
    paths = list(product(range(len(start)), repeat=len(X)))
    weights = []
    for path in paths:
        chain = start[path[0]] * np.prod([moves[i, j] for i, j in pairwise(path)])
        weights.append(chain * np.prod([given[t, k] for t, k in enumerate(path)]))
    total = np.sum(weights)
    posterior = np.zeros((len(X), len(start)))
    for path, weight in zip(paths, weights, strict=True):
        posterior[np.arange(len(X)), path] += weight / total
    return float(np.log(total)), posterior, paths[int(np.argmax(weights))]


DATA = {"gaussian": reals(), "poisson": counts(), "categorical": symbols()}


@pytest.mark.parametrize("emission", DATA)
@pytest.mark.parametrize("missing", [False, True])
def test_an_hmm_scores_and_decodes_as_the_enumeration_of_all_paths(emission: str, missing: bool) -> None:
    X = DATA[emission]
    estimator = HMMEstimator(2, emission=emission, num_iterations=4, random_state=0).fit(X, lengths=LENGTHS)
    shown = X[12:20].copy()
    if missing:
        shown[3] = np.nan
    log_prob, posterior, path = by_enumeration(estimator, shown)
    assert estimator.score(shown) == pytest.approx(log_prob, rel=1e-9)
    np.testing.assert_allclose(estimator.predict_proba(shown), posterior, atol=1e-9)
    assert tuple(estimator.predict(shown)) == path


def test_sequences_are_independent_and_rows_of_one_sequence_are_not() -> None:
    X = reals()
    estimator = HMMEstimator(2, num_iterations=4, random_state=0).fit(X, lengths=LENGTHS)
    parts = np.split(X, np.cumsum(LENGTHS)[:-1])
    whole = estimator.score(X, lengths=LENGTHS)
    assert whole == pytest.approx(sum(map(estimator.score, parts)), rel=1e-12)
    assert abs(whole - estimator.score(X)) > 1e-3
    np.testing.assert_allclose(
        estimator.predict_proba(X, lengths=LENGTHS), np.concatenate([estimator.predict_proba(part) for part in parts])
    )


def test_a_fit_raises_the_score_and_says_whether_it_converged() -> None:
    X = reals()
    short, long = (HMMEstimator(2, num_iterations=n, tolerance=1e-4, random_state=0).fit(X) for n in (1, 200))
    assert short.score(X) < long.score(X)
    assert (short.num_iterations_, short.converged_, long.converged_) == (1, False, True)


# The state-space model, by the joint normal law of all observations.


def joint(estimator: LinearGaussianEstimator, num_steps: int) -> tuple[np.ndarray, ...]:
    """Mean and covariance of (x_1, ..., x_T), mean of the states, and Cov[z, x], all flat."""
    model = estimator.model_
    names = "initial_mean initial_cov transition_matrix transition_cov emission_matrix emission_cov"
    m, P, A, Q, C, R = (getattr(model, name).detach().numpy() for name in names.split())
    means, covs = [m], [P]
    for _ in range(num_steps - 1):
        means.append(A @ means[-1])
        covs.append(A @ covs[-1] @ A.T + Q)
    states = np.block(
        [
            [
                np.linalg.matrix_power(A, i - j) @ covs[j] if i >= j else covs[i] @ np.linalg.matrix_power(A, j - i).T
                for j in range(num_steps)
            ]
            for i in range(num_steps)
        ]
    )
    to_x = np.kron(np.eye(num_steps), C)
    mean = np.concatenate(means)
    return to_x @ mean, to_x @ states @ to_x.T + np.kron(np.eye(num_steps), R), mean, states @ to_x.T, states


def test_a_state_space_model_scores_and_smooths_as_the_joint_normal_law() -> None:
    X = reals().cumsum(0)
    estimator = LinearGaussianEstimator(2, num_iterations=4).fit(X, lengths=LENGTHS)
    shown = X[:5]
    mean, cov, prior, cross, states = joint(estimator, 5)
    assert estimator.score(shown) == pytest.approx(multivariate_normal.logpdf(shown.ravel(), mean, cov), rel=1e-8)
    gain = np.linalg.solve(cov, cross.T).T
    expected = (prior + gain @ (shown.ravel() - mean)).reshape(5, 2)
    np.testing.assert_allclose(estimator.predict(shown), expected, rtol=1e-6, atol=1e-6)
    left = states - gain @ cross.T
    blocks = [left[2 * t : 2 * t + 2, 2 * t : 2 * t + 2] for t in range(5)]
    np.testing.assert_allclose(estimator.predict_covariances(shown), blocks, rtol=1e-6, atol=1e-6)
    assert abs(estimator.score(shown) - multivariate_normal.logpdf(shown.ravel(), mean, 1.1 * cov)) > 1e-2


# Criteria, draws and errors.


@pytest.mark.parametrize(
    ("estimator", "X", "free"),
    [
        (HMMEstimator(3, num_iterations=2, random_state=0), reals(2), 2 + 3 * 2 + 3 * 4),
        (HMMEstimator(2, emission="poisson", num_iterations=2, random_state=0), counts(), 1 + 2 + 2),
        (HMMEstimator(2, emission="categorical", num_iterations=2, random_state=0), symbols(), 1 + 2 + 2 * 2),
        (LinearGaussianEstimator(2, num_iterations=2), reals(3), 4 + 3 + 6 + 6 + 2 + 3),
        (LinearGaussianEstimator(3, num_iterations=2), reals(3), 9 + 6 + 9 + 6),
    ],
)
def test_criteria_count_free_parameters(estimator: Any, X: np.ndarray, free: int) -> None:
    """The last one has no more sequences than dimensions, so that p(z_1) is not fitted."""
    estimator.fit(X, lengths=LENGTHS)
    score = estimator.score(X, lengths=LENGTHS)
    assert estimator.num_free_parameters() == free
    assert estimator.aic(X, lengths=LENGTHS) == pytest.approx(2 * free - 2 * score)
    assert estimator.bic(X, lengths=LENGTHS) == pytest.approx(free * np.log(30) - 2 * score)


@pytest.mark.parametrize("estimator", [HMMEstimator(2), LinearGaussianEstimator(1)])
def test_draws_follow_their_seed(estimator: Any) -> None:
    estimator.set_params(num_iterations=2, random_state=0).fit(reals())
    first, again, other = (estimator.sample(7, random_state=seed) for seed in (1, 1, 2))
    assert first[0].shape == (7, 2)
    assert len(first[1]) == 7
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.allclose(first[0], other[0])
    assert estimator.sample()[0].shape == (1, 2)


@pytest.mark.parametrize(
    ("estimator", "X", "lengths", "message"),
    [
        (HMMEstimator(), reals(), [10, 10], r"expected lengths as positive integers that add up to n_samples = 30"),
        (HMMEstimator(), reals(), [30, 0], "expected lengths as positive integers"),
        (HMMEstimator(), reals(), [15.0, 15.0], "expected lengths as positive integers"),
        (HMMEstimator(num_states=0), reals(), None, "expected num_states to be an integer of at least 1, got 0"),
        (HMMEstimator(emission="normal"), reals(), None, "expected emission to be one of .*gaussian"),
        (HMMEstimator(emission="categorical"), reals(), None, "expected one feature of symbols 0, 1, 2, ..., for|expe"),
        (HMMEstimator(emission="poisson"), reals(), None, "expected counts 0, 1, 2, ..."),
        (LinearGaussianEstimator(latent_dim=0), reals(), None, "expected latent_dim to be an integer of at least 1"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    estimator: Any, X: np.ndarray, lengths: list[int] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, lengths=lengths)


def test_without_scikit_learn_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['sklearn'] = None; import pgm_rnn.adapters"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = "ModuleNotFoundError: expected scikit-learn for pgm_rnn.adapters, got none; pip install 'pgm-rnn[sklearn]'"
    assert done.stderr.splitlines()[-1] == last


OTHERS: dict[str, Any] = {
    "full-gaussian": reals(),
    "spherical-gaussian": reals(),
    "tied-gaussian": reals(),
    "tied-full-gaussian": reals(),
    "student-t": reals(),
    "gaussian-mixture": reals(),
    "full-gaussian-mixture": reals(),
    "gamma": np.exp(reals()),
    "beta": 1 / (1 + np.exp(-reals())),
    "von-mises": np.arctan2(np.sin(reals()), np.cos(reals())),
    "bernoulli": (reals() > 1).astype(float),
    "negative-binomial": counts(),
    "zero-inflated-poisson": counts(),
    "zero-inflated-negative-binomial": counts(),
    "poisson-mixture": counts(),
}
FREE = {
    "full-gaussian": 2 * 5,
    "spherical-gaussian": 2 * 3,
    "tied-gaussian": 2 * 2 + 2,
    "tied-full-gaussian": 2 * 2 + 3,
    "student-t": 2 * 6,
    "gaussian-mixture": 2 * (1 + 2 * 4),
    "full-gaussian-mixture": 2 * (1 + 2 * 5),
    "gamma": 2 * 4,
    "beta": 2 * 4,
    "von-mises": 2 * 4,
    "bernoulli": 2 * 2,
    "negative-binomial": 2 * 2,
    "zero-inflated-poisson": 2 * 2,
    "zero-inflated-negative-binomial": 2 * 3,
    "poisson-mixture": 2 * (1 + 2),
}


@pytest.mark.parametrize("emission", OTHERS)
def test_every_other_family_is_fitted_cloned_scored_and_drawn(emission: str) -> None:
    X = OTHERS[emission]
    estimator = clone(HMMEstimator(2, emission=emission, num_iterations=4, random_state=0)).fit(X, lengths=LENGTHS)
    model, shown = estimator.model_, X[12:20]
    given = model.emission_table.log_probs(torch.as_tensor(shown)).exp().detach().numpy()
    start, moves = model.initial_probs.detach().numpy(), model.transition_probs.detach().numpy()
    total = 0.0
    for path in product(range(2), repeat=len(shown)):
        chain = start[path[0]] * np.prod([moves[i, j] for i, j in pairwise(path)])
        total += chain * np.prod([given[t, k] for t, k in enumerate(path)])
    assert estimator.score(shown) == pytest.approx(np.log(total), rel=1e-9)
    single = HMMEstimator(2, emission=emission, num_iterations=1, random_state=0).fit(X, lengths=LENGTHS)
    assert estimator.score(X, lengths=LENGTHS) > single.score(X, lengths=LENGTHS)
    assert estimator.num_free_parameters() == 1 + 2 + FREE[emission]
    drawn, states = estimator.sample(20, random_state=1)
    assert drawn.shape == (20, X.shape[1])
    assert estimator.score(drawn) > -np.inf
    assert set(states) <= {0, 1}


def test_families_themselves_and_numbers_of_components_are_taken() -> None:
    X = np.concatenate([reals(1), counts()], axis=1)
    family = Joint([Mixture(Gaussian(), 2), Mixture(Poisson(), 2)])
    estimator = clone(HMMEstimator(2, emission=family, num_iterations=3, random_state=0)).fit(X, lengths=LENGTHS)
    assert estimator.model_.family == family
    assert estimator.num_free_parameters() == 1 + 2 + 2 * (1 + 4) + 2 * (1 + 2)
    mixed = HMMEstimator(2, emission="gaussian-mixture", num_components=3, num_iterations=2, random_state=0).fit(
        reals()
    )
    assert mixed.model_.family == Mixture(Gaussian(2), 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"emission": "normal"}, "expected emission to be one of .*gaussian"),
        ({"emission": Gaussian(3)}, "expected emission as a family of vectors of 2 features, as X has, got Gaussian"),
        ({"emission": Gaussian()}, r"vectors of 2 features, as X has, got Gaussian.* of shape \(\)"),
        ({"emission": "gaussian", "num_components": 2}, "expected num_components only with the name of a mixture"),
        ({"emission": "gaussian-mixture", "num_components": 0}, "num_components"),
        ({"emission": "gamma"}, "expected finite positive numbers, got -"),
    ],
)
def test_emissions_that_do_not_fit_are_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HMMEstimator(2, **options).fit(reals())
