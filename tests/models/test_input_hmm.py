"""Chains driven by inputs or by a network: sums over paths, closed forms, dynamax, and what must not matter."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, FullGaussian, Gaussian, Poisson
from pgm_rnn.inference import em, forward_backward, mcmc, smc
from pgm_rnn.models import HMM, InputHMM, RecurrentHMM
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.criteria import num_free_parameters
from pgm_rnn.sequence_model.parameters import call_with
from pgm_rnn.sequences import Sequences

K, D, STEPS = 3, 2, 5


def by_paths(model: SequenceModel, x: Tensor, h: Tensor) -> Tensor:
    """log of the sum over all paths, from the model's laws at single values of z and h, for one sequence."""
    terms = []
    for path in itertools.product(range(K), repeat=len(x)):
        z = torch.tensor(path)
        total = model.initial(h[0]).log_prob(z[0]) + model.emission(z[0], h[0]).log_prob(x[0])
        for t in range(1, len(x)):
            total = total + model.transition(z[t - 1], h[t]).log_prob(z[t])
            total = total + model.emission(z[t], h[t]).log_prob(x[t])
        terms.append(total)
    return torch.stack(terms).logsumexp(0)


EXAMPLES: dict[str, tuple[Any, Tensor]] = {
    "symbols": (Categorical(4), torch.tensor([[0, 3, 3, 1, 2]])),
    "bits": (Bernoulli(2), torch.tensor([[[0, 1], [1, 1], [0, 0], [1, 0], [0, 1]]]).double()),
    "counts": (Poisson(), torch.tensor([[0.0, 4, 2, 1, 7]]).double()),
    "real": (Gaussian(), torch.tensor([[0.1, -2, 1, 0.5, 3]]).double()),
    "vectors": (FullGaussian(2), torch.tensor([[[0.1, 1], [-2, 0], [1, 1], [0.5, 2], [3, 0]]]).double()),
}
every_example = pytest.mark.parametrize(("family", "x"), EXAMPLES.values(), ids=EXAMPLES)


@every_example
@pytest.mark.parametrize("drives", ["both", "transition", "emission"])
@torch.no_grad()
def test_the_likelihood_given_inputs_is_the_sum_over_all_paths(family: Any, x: Tensor, drives: Any) -> None:
    model, u = InputHMM.random(K, D, emission=family, drives=drives, seed=0), torch.randn(1, STEPS, D)
    torch.testing.assert_close(model.log_prob(x, inputs=u)[0], by_paths(model, x[0], u[0]))
    assert float(model.log_prob(x, inputs=-u)[0]) != pytest.approx(float(model.log_prob(x, inputs=u)[0]), abs=1e-3)
    same = {name for name, weight in model.named_buffers() if name.endswith("_weight")}
    assert same == {"both": set(), "transition": {"emission_weight"}}.get(
        drives, {"initial_weight", "transition_weight"}
    )


@every_example
@pytest.mark.parametrize("drives", ["both", "transition", "emission"])
def test_free_parameters_are_the_directions_that_change_a_law(family: Any, x: Tensor, drives: Any) -> None:
    """Their number is the rank of the derivative of all laws, at several inputs, by all parameters."""
    model, u = InputHMM.random(K, D, emission=family, drives=drives, seed=0), torch.randn(6, D)
    values = torch.cat([x, x.flip(1)], 1)[0, :, None, None]  # (10, 1, 1, ...)
    every = torch.arange(K)

    def laws(parameters: dict[str, Tensor]) -> Tensor:
        def now(*_: Any) -> Tensor:
            starts = model.initial(u).logits.log_softmax(-1)
            moves = model.transition(every[:, None], u).logits.log_softmax(-1)
            seen = model.emission(every[:, None], u).log_prob(values)
            return torch.cat([part.flatten() for part in (starts, moves, seen)])

        return call_with(model, parameters, now)

    slopes = torch.func.jacrev(laws)({name: value.detach() for name, value in model.named_parameters()})
    rank = torch.linalg.matrix_rank(torch.cat([part.flatten(1) for part in slopes.values()], 1), rtol=1e-9)
    assert num_free_parameters(model) == int(rank)
    assert int(rank) < sum(part.numel() for part in model.parameters())  # a control: rows of logits have one too many


@every_example
@torch.no_grad()
def test_without_weights_it_is_the_plain_chain(family: Any, x: Tensor) -> None:
    hmm = HMM.random(K, emission=family, seed=1)
    model = InputHMM(hmm.initial_probs, hmm.transition_probs, hmm.emission_table, D)
    u = torch.randn(1, STEPS, D)
    torch.testing.assert_close(model.log_prob(x, inputs=u), hmm.log_prob(x))
    found = forward_backward.smooth(model, x, inputs=u).smoothed_probs
    torch.testing.assert_close(found, forward_backward.smooth(hmm, x).smoothed_probs)


@torch.no_grad()
def test_engines_take_the_inputs() -> None:
    model = InputHMM.random(2, D, emission=Gaussian(), seed=0)
    u = torch.randn(3, 20, D)
    batch = model.sample(3, 20, inputs=u, seed=1)
    exact = model.log_marginal_likelihood(batch)
    estimate = smc.filter(model, batch, num_particles=4000, seed=0).log_marginal_likelihood
    torch.testing.assert_close(estimate, exact, atol=0.2, rtol=0.0)
    ahead = model.forecast(batch, 4, num_samples=7, future_inputs=torch.randn(3, 4, D), seed=0)
    assert ahead.x.shape == (7, 3, 4)
    with pytest.raises(ValueError, match="inputs"):
        model.log_prob(batch.x)


# Estimates.


def regression_data(num_states: int) -> tuple[Sequences, Tensor]:
    truth = InputHMM.random(num_states, D, emission=Gaussian(2), seed=3)
    u = torch.randn(5, 40, D)
    return truth.sample(5, 40, inputs=u, seed=4), u


def test_with_one_state_em_is_least_squares() -> None:
    data, u = regression_data(1)
    model = InputHMM.random(1, D, emission=Gaussian(2), seed=8)
    em.fit(model, data, num_iterations=3, progress=False)
    rows = np.concatenate([np.ones((200, 1)), u.reshape(200, D).numpy()], axis=1)
    targets = data.x.reshape(200, 2).numpy()
    solution, *_ = np.linalg.lstsq(rows, targets, rcond=None)
    law = model.emission_laws(torch.tensor(0))
    np.testing.assert_allclose(law.mean.detach(), solution[0], rtol=1e-8)
    np.testing.assert_allclose(model.emission_weight.detach()[0], solution[1:].T, rtol=1e-8)
    np.testing.assert_allclose(law.stddev.detach(), (targets - rows @ solution).std(0), rtol=1e-8)


@pytest.mark.parametrize("family", [Gaussian(2), Bernoulli(1), Categorical(3)], ids=str)
def test_em_climbs_and_finds_more_than_a_chain_without_inputs(family: Any) -> None:
    truth = InputHMM.random(2, 1, emission=family, seed=5)
    with torch.no_grad():
        truth.emission_weight.mul_(4)
    u = torch.randn(8, 40, 1)
    data = truth.sample(8, 40, inputs=u, seed=6)
    model = InputHMM.random(2, 1, emission=family, seed=7)
    fit = em.fit(model, data, num_iterations=25, progress=False)
    assert float(fit.log_likelihoods.diff().min()) > -1e-6
    plain = HMM.random(2, emission=family, seed=7)
    without = em.fit(plain, Sequences(data.x, data.lengths), num_iterations=25, progress=False)
    assert float(fit.log_likelihood) > float(without.log_likelihood) + 20


DYNAMAX: dict[str, tuple[Any, Any, Any]] = {
    "linear": (FullGaussian(2), lambda peers: peers.LinearRegressionHMM(K, D, 2), lambda weight: weight),
    "logistic": (Bernoulli(), lambda peers: peers.LogisticRegressionHMM(K, D), lambda weight: weight[:, 0]),
    "categorical": (Categorical(4), lambda peers: peers.CategoricalRegressionHMM(K, 4, D), lambda weight: weight),
}
"""Family, dynamax's class, and the weights in its order, of each of its hidden Markov models with regressions."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", DYNAMAX)
def test_dynamax_finds_the_same_likelihood(kind: str) -> None:
    peers = pytest.importorskip("dynamax.hidden_markov_model")
    jax = pytest.importorskip("jax")
    family, make, arranged = DYNAMAX[kind]
    model, u = InputHMM.random(K, D, emission=family, drives="emission", seed=0), torch.randn(1, 30, D)
    x = model.sample(1, 30, inputs=u, seed=1).x
    peer = make(peers)
    params, _ = peer.initialize(jax.random.PRNGKey(0))

    def array(tensor: Tensor) -> Any:
        return jax.numpy.asarray(tensor.detach().numpy())

    if kind == "linear":
        laws = model.emission_laws(torch.arange(K))
        own = {"biases": array(laws.mean), "covs": array(laws.covariance_matrix)}
    else:
        own = {"biases": array(arranged(model.emission_laws.params))}
    params = params._replace(
        initial=params.initial._replace(probs=array(model.initial_logits.softmax(-1))),
        transitions=params.transitions._replace(transition_matrix=array(model.transition_logits.softmax(-1))),
        emissions=params.emissions._replace(weights=array(arranged(model.emission_weight)), **own),
    )
    expected = float(peer.marginal_log_prob(params, array(x[0]), inputs=array(u[0])))
    assert float(model.log_prob(x, inputs=u).detach()) == pytest.approx(expected, rel=1e-4)  # jax in single precision
    assert float(model.log_prob(x, inputs=-u).detach()) != pytest.approx(expected, rel=1e-3)


# A chain that a network drives.


@every_example
@pytest.mark.parametrize("reads", ["transition", "emission", "both"])
@torch.no_grad()
def test_a_network_in_the_laws_is_summed_over_all_paths(family: Any, x: Tensor, reads: Any) -> None:
    torch.manual_seed(0)
    model = RecurrentHMM(K, emission=family, hidden_dim=4, reads=reads)
    assert model.initial_memory is not None
    h: list[Tensor] = [model.initial_memory]
    for t in range(STEPS - 1):
        h.append(model.recurrence(h[-1], None, x[0, t]))
    torch.testing.assert_close(model.log_prob(x)[0], by_paths(model, x[0], torch.stack(h)))
    for name, weight in model.named_parameters():
        if name.endswith("_weight"):
            weight.zero_()
    plain = HMM(model.initial_logits.softmax(-1), model.transition_logits.softmax(-1), model.emission_laws)
    torch.testing.assert_close(model.log_prob(x), plain.log_prob(x))  # without the network's weights


def test_what_does_not_fit_is_one_sentence() -> None:
    table = Gaussian().table(loc=torch.zeros(2), scale=torch.ones(2))
    start, moves = torch.ones(2) / 2, torch.ones(2, 2) / 2
    with pytest.raises(ValueError, match="input_dim"):
        InputHMM(start, moves, table, 0)
    with pytest.raises(ValueError, match="expected drives to be one of"):
        InputHMM(start, moves, table, 1, drives="all")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected one law per state as emission"):
        InputHMM(start, moves, Gaussian(), 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected reads to be one of"):
        RecurrentHMM(2, 3, reads="all")  # type: ignore[arg-type]


def test_nuts_takes_the_weights() -> None:
    import pyro.distributions as dist

    from pgm_rnn import WithPriors

    model, u = InputHMM.random(2, 1, emission=Bernoulli(), drives="emission", seed=0), torch.randn(2, 10, 1)
    data = model.sample(2, 10, inputs=u, seed=1)
    priors = {"emission_weight": dist.Normal(torch.zeros(2, 1, 1), 1.0).to_event(3)}
    found = mcmc.run(WithPriors(model, priors), data, num_samples=4, num_warmup=4, progress=False, seed=0)
    assert found.means["emission_weight"].shape == (2, 1, 1)
