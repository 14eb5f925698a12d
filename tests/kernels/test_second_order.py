"""Second derivatives of exact likelihoods: finite differences, autograd through a naive loop, Hessians, AutoLaplace."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoLaplaceApproximation
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor

from pgm_rnn.distributions import InverseWishart
from pgm_rnn.kernels import hmm, kalman
from pgm_rnn.kernels.kalman import GaussianChain
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.sequence_model.parameters import call_with
from pgm_rnn.sequence_model.priors import WithPriors

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, in forward mode
LENGTHS = torch.tensor([3, 1, 2])
K, T = 3, 3
TABLES = {
    "shared": ((K,), (K, K)),
    "by step": ((K,), (T - 1, K, K)),
    "by sequence": ((3, K), (3, 1, K, K)),
    "by both": ((K,), (3, T - 1, K, K)),
}


def chain_of(key: str) -> list[Tensor]:
    tables = [torch.rand(shape).softmax(-1) for shape in TABLES[key]]
    return [tensor.requires_grad_() for tensor in (*tables, torch.randn(3, T, K))]


def in_log_space(initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor) -> Tensor:
    """A loop over the sequences and steps, with shared tables."""
    values = []
    for steps, length in zip(log_emission, lengths.tolist(), strict=True):
        score = initial.log() + steps[0]
        for step in steps[1:length]:
            score = (score[:, None] + transition.log()).logsumexp(0) + step
        values.append(score.logsumexp(0))
    return torch.stack(values)


@pytest.mark.parametrize("key", list(TABLES))
def test_second_derivatives_of_a_finite_chain_are_finite_differences(key: str) -> None:
    def value(initial: Tensor, transition: Tensor, log_emission: Tensor) -> Tensor:
        return hmm.log_marginal_likelihood(initial, transition, log_emission, LENGTHS)

    assert torch.autograd.gradgradcheck(value, chain_of(key))


def hessians(function: Callable[[Tensor], Tensor], at: Tensor) -> list[Tensor]:
    """The same Hessian by every way of torch."""
    return [
        torch.autograd.functional.hessian(function, at),
        torch.func.hessian(function)(at),
        torch.func.jacrev(torch.func.jacrev(function))(at),
        torch.func.jacfwd(torch.func.jacfwd(function))(at),
    ]


def test_hessians_of_a_finite_chain_are_those_of_a_loop_in_log_space() -> None:
    initial, transition, log_emission = (tensor.detach() for tensor in chain_of("shared"))

    def of(recursion: Any) -> Callable[[Tensor], Tensor]:
        def total(logits: Tensor) -> Tensor:
            value: Tensor = recursion(initial, logits.softmax(-1), log_emission, LENGTHS).sum()
            return value

        return total

    logits = transition.log()
    expected = torch.func.hessian(of(in_log_space))(logits)
    for found in hessians(of(hmm.log_marginal_likelihood), logits):
        torch.testing.assert_close(found, expected)
    assert float(expected.abs().max()) > 0.01


def test_the_gradient_is_the_same_whether_or_not_it_will_be_differentiated_again() -> None:
    initial, transition, log_emission = chain_of("shared")
    zeros = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    sparse = (transition.detach() * zeros).requires_grad_()  # rows need not sum to one
    spoiled = log_emission.detach().clone()
    spoiled[0, 2], spoiled[1, 1:] = -torch.inf, torch.nan  # an impossible sequence, and NaN in the padding
    tensors = [initial, sparse, spoiled.requires_grad_()]
    value = hmm.log_marginal_likelihood(tensors[0], tensors[1], tensors[2], LENGTHS)
    once = torch.autograd.grad(value[1:].sum(), tensors, retain_graph=True)
    for a, b in zip(once, torch.autograd.grad(value[1:].sum(), tensors, create_graph=True), strict=True):
        torch.testing.assert_close(a, b)
    assert value[0] == -torch.inf
    assert not torch.autograd.grad(value[0], tensors[2], create_graph=True)[0].any()


def test_a_belief_below_the_smallest_float_is_an_error_where_it_matters() -> None:
    # State 0 is left for good; at step 2 only its descendant explains x, with a belief of e^-2000.
    transition = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    log_emission = torch.tensor([[[-2000.0, 0.0], [0.0, -5000.0]]]).requires_grad_()
    value = hmm.log_marginal_likelihood(torch.full((2,), 0.5), transition, log_emission, torch.tensor([2]))
    with pytest.raises(RuntimeError, match=r"range of float64 for second derivatives, got .* in place of -2000"):
        torch.autograd.grad(value.sum(), log_emission, create_graph=True)


def symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.mT)


def gaussian(x: Tensor, *parts: Tensor, observed: Tensor | None = None) -> Tensor:
    m, P, A, Q, C, R, b = parts
    chain = GaussianChain(m, symmetric(P), A, symmetric(Q), C, symmetric(R), b)
    return kalman.log_marginal_likelihood(chain, x, LENGTHS, observed)


def gaussian_parts(singular: bool = False) -> list[Tensor]:
    model = LinearGaussianSSM.random(2, 2, seed=0).double()
    x, chain = model.sample(3, T, seed=1).x, model.chain()
    Q = chain.transition_cov.diagonal().diag() * torch.tensor([1.0, 0.0]) if singular else chain.transition_cov
    parts = [x, *chain[:3], Q, *chain[4:6], torch.randn(T - 1, 2)]
    return [part.detach().clone().requires_grad_() for part in parts]


@pytest.mark.slow
@pytest.mark.parametrize("singular", [False, True])
def test_second_derivatives_of_the_kalman_filter_are_finite_differences(singular: bool) -> None:
    parts = gaussian_parts(singular)
    torch.testing.assert_close(
        torch.autograd.grad(gaussian(*parts).sum(), parts),
        torch.autograd.grad(gaussian(*parts).sum(), parts, create_graph=True),
    )
    assert torch.autograd.gradgradcheck(gaussian, parts)


@pytest.mark.slow
def test_second_derivatives_with_missing_entries_are_finite_differences() -> None:
    observed = torch.rand(3, T, 2) < 0.7
    assert torch.autograd.gradgradcheck(lambda *parts: gaussian(*parts, observed=observed), gaussian_parts())


def test_hessians_of_the_kalman_filter_agree_and_belong_to_the_big_joint_normal() -> None:
    x, m, P, A, *rest = (part.detach() for part in gaussian_parts())

    def total(matrix: Tensor) -> Tensor:
        return gaussian(x, m, P, matrix, *rest).sum()

    first, *others = hessians(total, A)
    for found in others:
        torch.testing.assert_close(found, first)

    def by_definition(matrix: Tensor) -> Tensor:
        """The density of x_1, x_2, x_3 of the first sequence as one normal vector."""
        Q, C, R, b = rest
        means, covs = [m], [[symmetric(P)]]
        for t in range(1, T):
            means.append(matrix @ means[-1] + b[t - 1])
            row = [matrix @ block for block in covs[-1]]
            covs.append([*row, matrix @ covs[-1][-1] @ matrix.mT + symmetric(Q)])
        blocks = [[covs[s][t] if t <= s else covs[t][s].mT for t in range(T)] for s in range(T)]
        cov = torch.cat([torch.cat([C @ block @ C.mT for block in row], 1) for row in blocks])
        noise = torch.block_diag(*[symmetric(R)] * T)
        law = torch.distributions.MultivariateNormal(torch.cat([C @ mean for mean in means]), cov + noise)
        return law.log_prob(x[0].flatten())

    alone = torch.func.hessian(lambda matrix: gaussian(x, m, P, matrix, *rest)[0])(A)
    torch.testing.assert_close(alone, torch.func.hessian(by_definition)(A))


@pytest.mark.parametrize("kind", ["hmm", "lgssm"])
def test_the_laplace_approximation_inverts_the_hessian_of_the_program(kind: str) -> None:
    if kind == "hmm":
        model: Any = HMM.random(2, 3, seed=0).double()
        prior: Any = dist.Dirichlet(torch.full((2, 2), 3.0))
        name = "transition_probs"
    else:
        model, prior, name = (
            LinearGaussianSSM.random(2, 2, seed=0).double(),
            InverseWishart(6.0, torch.eye(2)),
            "transition_cov",
        )
    program, x = WithPriors(model, {name: prior}), model.sample(6, 5, seed=1).x
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    guide = AutoLaplaceApproximation(program)
    fit = SVI(program, guide, Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(20):
        fit.step(x)
    transform = torch.distributions.biject_to(prior.to_event(len(prior.batch_shape)).support)

    def minus_log_joint(free: Tensor) -> Tensor:
        value = transform(free.reshape(transform.inverse_shape(prior.batch_shape + prior.event_shape)))
        jacobian = transform.log_abs_det_jacobian(free.reshape(transform.inverse_shape(value.shape)), value).sum()
        likelihood = call_with(model, program.raw({name: value}), model.log_prob, x)
        return -(likelihood.sum() + prior.log_prob(value).sum() + jacobian)

    expected = torch.func.hessian(minus_log_joint)(guide.loc.detach())
    found = guide.laplace_approximation(x).get_posterior(x).covariance_matrix
    torch.testing.assert_close(found.inverse(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("mapped", ["initial", "transition", "log_emission", "all"])
@pytest.mark.parametrize("key", list(TABLES))
def test_finite_chains_under_vmap_are_the_chains_one_by_one(key: str, mapped: str) -> None:
    arguments = dict(zip(("initial", "transition", "log_emission"), chain_of(key), strict=True))
    axes = {name: 0 if mapped in (name, "all") else None for name in arguments}
    rows = {name: torch.stack([t, t.flip(-1)]) if axes[name] == 0 else t for name, t in arguments.items()}
    together = torch.func.vmap(partial(hmm.log_marginal_likelihood, lengths=LENGTHS), in_dims=tuple(axes.values()))
    found = together(*rows.values())
    each = [{name: t[i] if axes[name] == 0 else t for name, t in rows.items()} for i in range(2)]
    expected = torch.stack([hmm.log_marginal_likelihood(**row, lengths=LENGTHS) for row in each])
    torch.testing.assert_close(found, expected)
    weights, leaves = torch.randn(2, 3), list(arguments.values())
    for a, b in zip(
        *(torch.autograd.grad((weights * value).sum(), leaves) for value in (found, expected)), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("batch", [1, 3, 40])  # folded into the batch, and one after the other
@pytest.mark.parametrize("own", [False, True])
def test_linear_gaussian_chains_under_vmap_are_the_chains_one_by_one(batch: int, own: bool) -> None:
    model = LinearGaussianSSM.random(2, 2, seed=0).double()
    x, chain, lengths = model.sample(batch, T, seed=1).x, model.chain(), torch.randint(1, T + 1, (batch,))
    parts = [part.detach() for part in chain[:6]]
    if own:
        parts[0] = torch.randn(batch, 2)
    factors = torch.tensor([0.5, 1.0, 0.8], requires_grad=True)

    def value(factor: Tensor) -> Tensor:
        m, P, A, *rest = parts
        return kalman.log_marginal_likelihood(GaussianChain(m, P, factor * A, *rest), x, lengths)

    found, expected = torch.func.vmap(value)(factors), torch.stack([value(factor) for factor in factors])
    torch.testing.assert_close(found, expected)
    weights = torch.randn(3, batch)
    torch.testing.assert_close(
        *(torch.autograd.grad((weights * v).sum(), factors, retain_graph=True) for v in (found, expected))
    )
