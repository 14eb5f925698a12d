"""Chains of discrete states beside hmmlearn, dynamax and statsmodels, and Hamilton's estimates in statsmodels."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgm_rnn.emissions import FullGaussian, Gaussian
from pgm_rnn.inference import em
from pgm_rnn.models import HMM, AutoregressiveHMM, BeliefRNN, FactorialHMM, InputHMM, MarkovChain, SwitchingMeanAR
from pgm_rnn.sequence_model import SequenceModel
from tools.published.data import GNP_WORDS, SYMBOL_WORDS, column, growth, symbols
from tools.published.problem import FIT, SAME, Number, Peer, Problem


def doubles(values: list[Any]) -> Tensor:
    """Numbers in float64."""
    return torch.tensor(values, dtype=torch.float64)


START, MOVES, OTHER_MOVES = doubles([0.5, 0.5]), doubles([[0.75, 0.25], [0.1, 0.9]]), doubles([[0.6, 0.4], [0.3, 0.7]])
MEANS, SCALES, SLOPES = doubles([-0.4, 1.2]), doubles([0.9, 0.8]), doubles([0.3, -0.2])
TABLE, LEVELS = doubles([[0.8, 0.2], [0.3, 0.7]]), doubles([-0.5, 0.6, 0.9, 1.8])
HAMILTON: dict[str, Any] = {
    "transition_probs": [[0.754671, 0.245329], [0.095915, 0.904085]],
    "means": [-0.358811, 1.163517],
    "coefficients": [0.013486, -0.057521, -0.246983, -0.212923],
    "scales": [0.769],
}
"""Hamilton's model of order 4 at its maximum, as statsmodels and Stata print it."""


def value_of(model: SequenceModel, x: Tensor, inputs: Tensor | None = None) -> Number:
    """log p(x) of one series."""
    with torch.no_grad():
        return Number(float(model.log_marginal_likelihood(x, inputs=inputs).sum()))


def hidden() -> HMM:
    """Two regimes of growth."""
    return HMM(START, MOVES, Gaussian(1).table(loc=MEANS[:, None], scale=SCALES[:, None]))


def product() -> FactorialHMM:
    """Two chains of two states, one normal law for each of their four combinations."""
    law = Gaussian(1).table(loc=LEVELS[:, None], scale=torch.ones_like(LEVELS)[:, None])
    return FactorialHMM([START, START], [MOVES, OTHER_MOVES], law)


def autoregressive() -> AutoregressiveHMM:
    """x_t = a_z x_{t-1} + s_z e_t, given x_1, with the stationary law of the first state."""
    noise = Gaussian(1).table(loc=torch.zeros_like(SCALES)[:, None], scale=SCALES[:, None])
    stationary = doubles([0.1, 0.25]) / 0.35
    return AutoregressiveHMM(stationary, MOVES, noise, SLOPES[:, None, None, None], first="condition")


def switching() -> SwitchingMeanAR:
    """Hamilton's model at the printed maximum."""
    values: dict[str, Any] = {name: doubles(value) for name, value in HAMILTON.items()}
    return SwitchingMeanAR(**values, first="condition")


def driven() -> InputHMM:
    """x_t ~ N(m_z + a_z u_t, s_z^2)."""
    law = FullGaussian(1).table(loc=MEANS[:, None], cov=SCALES.square()[:, None, None])
    model = InputHMM(START, MOVES, law, input_dim=1, drives="emission").double()
    with torch.no_grad():
        model.emission_weight.copy_(SLOPES[:, None, None])
    return model


def before() -> Tensor:
    """The growth of the quarter before, zero for the first, (1, 135, 1)."""
    return torch.nn.functional.pad(growth(), (0, 0, 1, 0))[:, :-1]


def fitted() -> Number:
    """The maximum that EM reaches from the two regimes."""
    found = em.fit(hidden(), growth(), start="model", num_iterations=2000, tolerance=1e-12, progress=False)
    return Number(float(found.log_likelihood))


def theirs_normal(**options: Any) -> Any:
    """hmmlearn's model with the parameters of `hidden`."""
    from hmmlearn import hmm

    peer = hmm.GaussianHMM(2, covariance_type="diag", init_params="", **options)
    peer.startprob_, peer.transmat_ = START.numpy(), MOVES.numpy()
    peer.means_, peer.covars_ = MEANS.numpy()[:, None], SCALES.square().numpy()[:, None]
    return peer


def hmmlearn_fit() -> Number:
    """hmmlearn's EM from the same start, without its priors."""
    free = {"covars_prior": 0, "covars_weight": 0, "min_covar": 0, "n_iter": 2000, "tol": 1e-12}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Number(float(theirs_normal(**free).fit(column(growth())).score(column(growth()))))


def hmmlearn_product() -> Number:
    """hmmlearn's chain over the four combinations, the last chain fastest."""
    from hmmlearn import hmm

    peer = hmm.GaussianHMM(4, covariance_type="diag", init_params="")
    peer.startprob_, peer.transmat_ = np.full(4, 0.25), np.kron(MOVES.numpy(), OTHER_MOVES.numpy())
    peer.means_, peer.covars_ = LEVELS.numpy()[:, None], np.ones((4, 1))
    return Number(float(peer.score(column(growth()))))


def hmmlearn_symbols(table: Tensor) -> Number:
    """hmmlearn's chain that emits symbols."""
    from hmmlearn import hmm

    peer = hmm.CategoricalHMM(2, init_params="")
    peer.startprob_, peer.transmat_, peer.emissionprob_ = START.numpy(), MOVES.numpy(), table.numpy()
    with np.errstate(divide="ignore"):
        return Number(float(peer.score(column(symbols()))))


def in_double(run: Callable[[Any], float]) -> Number:
    """A number of jax in double precision."""
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        return Number(float(run(jax)))
    finally:
        jax.config.update("jax_enable_x64", before)


def dynamax_normal() -> Number:
    """dynamax's model with the parameters of `hidden`."""

    def run(jax: Any) -> float:
        from dynamax import hidden_markov_model

        peer, array = hidden_markov_model.GaussianHMM(2, 1), jax.numpy.asarray
        params, _ = peer.initialize(
            initial_probs=array(START.numpy()),
            transition_matrix=array(MOVES.numpy()),
            emission_means=array(MEANS.numpy()[:, None]),
            emission_covariances=array(SCALES.square().numpy()[:, None, None]),
        )
        return float(peer.marginal_log_prob(params, array(column(growth()))))

    return in_double(run)


def dynamax_driven() -> Number:
    """dynamax's model with the parameters of `driven`."""

    def run(jax: Any) -> float:
        from dynamax import hidden_markov_model

        peer, array = hidden_markov_model.LinearRegressionHMM(2, 1, 1), jax.numpy.asarray
        params, _ = peer.initialize(
            initial_probs=array(START.numpy()),
            transition_matrix=array(MOVES.numpy()),
            emission_weights=array(SLOPES.numpy()[:, None, None]),
            emission_biases=array(MEANS.numpy()[:, None]),
            emission_covariances=array(SCALES.square().numpy()[:, None, None]),
        )
        return float(peer.marginal_log_prob(params, array(column(growth())), inputs=array(column(before()))))

    return in_double(run)


def statsmodels_regimes(order: int, values: dict[str, float], **options: Any) -> Number:
    """statsmodels' log likelihood of growth at given parameters."""
    from statsmodels.tsa.regime_switching.markov_autoregression import MarkovAutoregression

    peer = MarkovAutoregression(column(growth())[:, 0], k_regimes=2, order=order, **options)
    return Number(float(peer.loglike(np.array([values[name] for name in peer.param_names]))))


def statsmodels_autoregressive() -> Number:
    """`autoregressive` in statsmodels."""
    values = {f"p[{k}->0]": float(MOVES[k, 0]) for k in range(2)}
    values |= {f"sigma2[{k}]": float(SCALES[k]) ** 2 for k in range(2)}
    values |= {f"ar.L1[{k}]": float(SLOPES[k]) for k in range(2)}
    return statsmodels_regimes(1, values, trend="n", switching_ar=True, switching_variance=True)


def statsmodels_switching() -> Number:
    """`switching` in statsmodels."""
    p, means = HAMILTON["transition_probs"], HAMILTON["means"]
    values = {"p[0->0]": p[0][0], "p[1->0]": p[1][0], "const[0]": means[0], "const[1]": means[1]}
    values |= {f"ar.L{i + 1}": a for i, a in enumerate(HAMILTON["coefficients"])} | {
        "sigma2": HAMILTON["scales"][0] ** 2
    }
    return statsmodels_regimes(4, values, switching_ar=False)


def _likelihood(
    name: str,
    model: str,
    data: str,
    peer: Peer,
    ours: Callable[[], Number],
    test: str,
    *,
    kind: str = SAME,
    within: float = 1e-7,
) -> Problem:
    return Problem(name, model, data, "log likelihood", kind, peer, ours, within, f"tests/{test}")


_HMMLEARN = "emissions/test_hmmlearn.py::test_the_likelihood_of_an_hmm_of_mixtures_is_theirs"
CHAINS = (
    _likelihood(
        "markov-chain-hmmlearn",
        "markov-chain",
        SYMBOL_WORDS,
        Peer("hmmlearn", "CategoricalHMM.score, each state its symbol", lambda: hmmlearn_symbols(torch.eye(2))),
        lambda: value_of(MarkovChain(START, MOVES), symbols()),
        "models/test_markov_chain.py::test_it_is_the_hidden_markov_model_that_shows_its_states",
    ),
    _likelihood(
        "hmm-hmmlearn",
        "hmm",
        GNP_WORDS,
        Peer("hmmlearn", "GaussianHMM.score", lambda: Number(float(theirs_normal().score(column(growth()))))),
        lambda: value_of(hidden(), growth()),
        _HMMLEARN,
    ),
    _likelihood(
        "hmm-dynamax",
        "hmm",
        GNP_WORDS,
        Peer("dynamax", "GaussianHMM.marginal_log_prob", dynamax_normal),
        lambda: value_of(hidden(), growth()),
        "test_guides.py::test_their_side_of_each_pair_prints_the_same",
    ),
    _likelihood(
        "hmm-hmmlearn-fit",
        "hmm",
        GNP_WORDS,
        Peer("hmmlearn", "GaussianHMM.fit from the same start, without its priors", hmmlearn_fit),
        fitted,
        "emissions/test_hmmlearn.py::test_the_likelihood_and_a_step_of_em_are_theirs",
        kind=FIT,
        within=1e-6,
    ),
    _likelihood(
        "factorial-hmm-hmmlearn",
        "factorial-hmm",
        GNP_WORDS,
        Peer("hmmlearn", "GaussianHMM.score over the four combinations", hmmlearn_product),
        lambda: value_of(product(), growth()),
        "models/test_factorial_hmm.py::test_the_likelihood_is_the_sum_over_all_paths",
    ),
    _likelihood(
        "autoregressive-hmm-statsmodels",
        "autoregressive-hmm",
        GNP_WORDS,
        Peer("statsmodels", "MarkovAutoregression(switching_ar=True).loglike", statsmodels_autoregressive),
        lambda: value_of(autoregressive(), growth()),
        "models/test_autoregressive_hmm.py::test_statsmodels_finds_the_same_likelihood",
    ),
    _likelihood(
        "switching-mean-ar-statsmodels",
        "switching-mean-ar",
        GNP_WORDS,
        Peer("statsmodels", "MarkovAutoregression(order=4).loglike", statsmodels_switching),
        lambda: value_of(switching(), growth()[..., 0]),
        "models/test_switching_mean_ar.py::test_statsmodels_finds_the_same_likelihood_and_regimes",
    ),
    _likelihood(
        "input-hmm-dynamax",
        "input-hmm",
        f"{GNP_WORDS}, given the quarter before",
        Peer("dynamax", "LinearRegressionHMM.marginal_log_prob", dynamax_driven),
        lambda: value_of(driven(), growth(), before()),
        "models/test_input_hmm.py::test_dynamax_finds_the_same_likelihood",
    ),
    _likelihood(
        "belief-rnn-hmmlearn",
        "belief-rnn",
        SYMBOL_WORDS,
        Peer("hmmlearn", "CategoricalHMM.score", lambda: hmmlearn_symbols(TABLE)),
        lambda: value_of(BeliefRNN(HMM(START, MOVES, TABLE)), symbols()),
        "models/test_belief_rnn.py::test_it_has_the_hmms_likelihood_and_its_gradient",
    ),
)
"""Comparisons of chains."""
