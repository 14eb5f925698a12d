"""Expectation-maximisation never lowers the likelihood, for finitely many states and for linear dynamics."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest
from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.claims.vidal_2024 import PAPER
from pgm_rnn.claims.vidal_2024.joint_normal import JointNormal, joint_rounding
from pgm_rnn.inference import em, forward_backward, kalman
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM

NUM_SEQUENCES, NUM_STEPS = 20, 5


class Instance(NamedTuple):
    """A model to fit, its data, and the functions that measure it.

    Attributes:
        model: the model, with parameters that are independent of the data.
        x: sequences of another model of its kind.
        log_likelihood: log likelihood of the data under the model's current parameters, by definition.
        filtered_step: an M-step, in place, after an E-step that sees x_{1:t} alone.
    """

    model: HMM | LinearGaussianSSM
    x: Tensor
    log_likelihood: Callable[[], float]
    filtered_step: Callable[[], None]


def hmm_instance(seed: int) -> Instance:
    """Three states, three symbols; the likelihood sums over all paths."""
    model = HMM.random(3, 3, seed=seed).double()
    x = HMM.random(3, 3, seed=seed + 1).double().sample(NUM_SEQUENCES, NUM_STEPS, seed=seed).x
    return Instance(model, x, lambda: path_sum(model, x), lambda: filtered_baum_welch(model, x))


def lds_instance(seed: int) -> Instance:
    """Two states, two outputs; the likelihood is that of the joint normal law."""
    model = LinearGaussianSSM.random(2, 2, seed=seed).double()
    x = LinearGaussianSSM.random(2, 2, seed=seed + 1).double().sample(NUM_SEQUENCES, NUM_STEPS, seed=seed).x

    def log_likelihood() -> float:
        return float(JointNormal(model.moments(), NUM_STEPS, None, len(x)).log_likelihood(x).sum())

    return Instance(model, x, log_likelihood, lambda: filtered_regression(model, x))


INSTANCES = {"hmm": hmm_instance, "lds": lds_instance}


def path_sum(model: HMM, x: Tensor) -> float:
    """sum_n log sum_z p(z_1) prod_t p(z_t | z_{t-1}) prod_t p(x_t | z_t) over every path z, nats."""
    paths = all_sequences(model.num_states, x.shape[1])
    prior = model.initial_probs[paths[:, 0]] * model.transition_probs[paths[:, :-1], paths[:, 1:]].prod(1)
    emitted = model.emission_probs[paths[None], x[:, None]].prod(-1)  # (batch, paths)
    return float((emitted @ prior).log().sum())


def filtered_baum_welch(model: HMM, x: Tensor) -> None:
    """Expected counts with p(z_t | x_{1:t}) in place of p(z_t | x_{1:T})."""
    filtered = forward_backward.filter(model, x).filtered_probs  # (batch, T, K)
    likelihood = model.emission_probs[:, x[:, 1:]].movedim(0, -1)  # (batch, T - 1, K)
    pairs = filtered[:, :-1, :, None] * model.transition_probs * likelihood[:, :, None]
    pairs = (pairs / pairs.sum((-2, -1), keepdim=True)).sum((0, 1))
    symbols = torch.nn.functional.one_hot(x, model.emission_probs.shape[1]).to(filtered)
    emitted = torch.einsum("btk,bts->ks", filtered, symbols)
    emission = emitted / emitted.sum(-1, keepdim=True)
    model.set_probs(filtered[:, 0].mean(0), pairs / pairs.sum(-1, keepdim=True), emission.log())


def filtered_regression(model: LinearGaussianSSM, x: Tensor) -> None:
    """The regression of x_t on z_t with filtered moments in place of smoothed ones."""
    result = kalman.filter(model, x)
    means = result.filtered_means
    second = (result.filtered_covs + means[..., None] * means[..., None, :]).sum((0, 1))
    products = torch.einsum("btm,btd->md", x, means)
    C = torch.linalg.solve(second, products.T).T
    R = torch.einsum("btm,btn->mn", x - means @ C.T, x) / (x.shape[0] * x.shape[1])
    model.set_moments({"emission_matrix": C, "emission_cov": (R + R.T) / 2})


class EmAscends(Claim):
    """The log likelihood by definition, after every iteration of the engine."""

    id = "em-ascends"
    source = f"{PAPER}, RNNs vs LDSs"
    statement = (
        "no iteration of EM lowers the likelihood, whether of a hidden Markov model or of a linear dynamical system"
    )
    quotation = "Parameter learning via EM algorithm"
    meaning = (
        "EM never lowers the likelihood, provided that its E-step looks at whole sequences. If the E-step looks at the "
        "past alone, it can."
    )
    hypotheses = "the E-step's posterior is that given the whole sequence, x_{1:T}"
    routes = (
        "the parameters after each of the engine's iterations and the log likelihood that it reports for them, "
        "against a sum over all paths of states, or the joint normal law of the observations"
    )
    control = "after 300 iterations, ten more whose E-step knows x_{1:t} only: the largest decrease"
    proof = (
        "Let q(z) = p(z | x_{1:T}; theta) and B(theta') = E_q [log p(x, z; theta') - log q(z)]. B(theta') <= log p(x; "
        "theta') for every theta', with equality at theta' = theta (`stochastic-bound`). The M-step chooses theta' "
        "with B(theta') >= B(theta), so log p(x; theta') >= B(theta') >= B(theta) = log p(x; theta). If q knows "
        "x_{1:t} only, B still bounds from below but does not touch at theta, and the last equality is lost."
    )

    num_iterations = 20
    num_climbing = 300
    num_filtered = 10

    @override
    def cases(self) -> Sequence[str]:
        return [name for name in INSTANCES for _ in range(2)]

    @property
    @override
    def tolerance(self) -> float:
        return NUM_SEQUENCES * joint_rounding(NUM_STEPS, latent_dim=2, obs_dim=2)

    @torch.no_grad()
    @override
    def residual(self, case: str, seed: int) -> float:
        instance = INSTANCES[case](seed)
        values, differences = [instance.log_likelihood()], []
        for _ in range(self.num_iterations):
            fit = em.fit(instance.model, instance.x, start="model", num_iterations=1, tolerance=0, progress=False)
            values.append(instance.log_likelihood())
            reported = fit.log_likelihoods.tolist()
            differences += [abs(a - b) for a, b in zip(reported, values[-2:], strict=True)]
        return largest([*differences, _largest_decrease(values)])

    @torch.no_grad()
    @override
    def control_residual(self, case: str, seed: int) -> float:
        instance = INSTANCES[case](seed)
        em.fit(instance.model, instance.x, start="model", num_iterations=self.num_climbing, tolerance=0, progress=False)
        values = [instance.log_likelihood()]
        for _ in range(self.num_filtered):
            instance.filtered_step()
            values.append(instance.log_likelihood())
        return _largest_decrease(values)


def _largest_decrease(values: list[float]) -> float:
    return largest(before - after for before, after in pairwise(values))
