"""What Pyro's own tools ask of a law of chains: products with densities, later steps given the first, states, batches.

The definitions are identities of densities: log p(x) + log g(x) = log u(x) + c, and p(x_{1:T}) = p(x_{1:t}) times the
density of the rest given x_{1:t}. Both determine the new law. States given observations are compared with all paths, or
with the joint normal law of all states and observations.
"""

import copy
import pickle
from itertools import product
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.contrib.forecast import util as forecasting
from pyro.infer import JitTrace_ELBO, Trace_ELBO
from pyro.infer.reparam import ConjugateReparam
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from pgm_rnn.distributions import DiscreteHMM, GaussianHMM
from pgm_rnn.distributions.normal import Normal as OurNormal
from tests.definitions import all_words, largest_z_score, path_probs

STEPS = 5
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    "shared": ((), (), (), ()),
    "per step": ((), (STEPS,), (STEPS,), ()),
    "moves per step": ((), (STEPS,), (), ()),
    "per chain": ((2,), (2, 1), (2, 1), (2,)),
    "per chain and step": ((2,), (2, STEPS), (2, STEPS), (2,)),
    "some shared": ((2,), (), (STEPS,), (2,)),
    "broadcast": ((4, 2), (2, 1), (), (4, 2)),
}
"""Leading axes of the initial law, of transitions and of observations, and the batch shape."""
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def normal(*batch: int, size: int) -> Any:
    root = torch.randn(*batch, size, size)
    return dist.MultivariateNormal(torch.randn(*batch, size), root @ root.mT + torch.eye(size))


def gaussian(shape: Any, **options: Any) -> GaussianHMM:
    first, moves, seen, _ = shape
    return GaussianHMM(
        normal(*first, size=2),
        torch.randn(*moves, 2, 2) / 2,
        normal(*moves, size=2),
        torch.randn(*seen, 2, 3),
        normal(*seen, size=3),
        **{"duration": STEPS, "initial_step": 0} | options,
    )


def discrete(shape: Any, law: Any = None, **options: Any) -> DiscreteHMM:
    first, moves, seen, _ = shape
    law = law or dist.Normal(torch.randn(*(seen or (1,)), 3), 1.0)
    return DiscreteHMM(
        torch.randn(*first, 3), torch.randn(*moves, 3, 3), law, **{"duration": STEPS, "initial_step": 0} | options
    )


def other_family(shape: Any, **options: Any) -> DiscreteHMM:
    return discrete(shape, dist.Laplace(torch.randn(*(shape[2] or (1,)), 3, 2), 1.0).to_event(1), **options)


MAKERS: dict[str, Any] = {
    "discrete": (discrete, ()),
    "discrete, of another family": (other_family, (2,)),
    "gaussian": (gaussian, (3,)),
}
every_law = pytest.mark.parametrize(("make", "event"), MAKERS.values(), ids=MAKERS)


# Products with another density.


DENSITIES: dict[str, Any] = {
    "independent": lambda y: dist.Normal(y, 0.7).to_event(2),
    "full": lambda y: dist.MultivariateNormal(y, normal(size=3).covariance_matrix).to_event(1),
    "torch's": lambda y: torch.distributions.Independent(torch.distributions.Normal(y, torch.rand_like(y) + 0.5), 2),
    "ours": lambda y: OurNormal(y, torch.tensor(0.3), event_dim=2),
}


@every_shape
@pytest.mark.parametrize("density", DENSITIES.values(), ids=DENSITIES)
def test_a_gaussian_law_times_a_density_is_a_gaussian_law_and_a_number(density: Any, shape: Any) -> None:
    law, other = gaussian(shape), density(torch.randn(*shape[3], STEPS, 3))
    updated, constant = law.conjugate_update(other)
    assert (updated.batch_shape, updated.event_shape) == (law.batch_shape, law.event_shape)
    assert constant.shape == law.batch_shape
    x = torch.randn(3, *shape[3], STEPS, 3)
    torch.testing.assert_close(updated.log_prob(x) + constant, law.log_prob(x) + other.log_prob(x))
    assert not torch.allclose(law.log_prob(x) + constant, law.log_prob(x) + other.log_prob(x))
    assert updated.rsample((2,)).shape == (2, *shape[3], STEPS, 3)
    assert updated.expand((6, *shape[3])).log_prob(x[0]).shape == (6, *shape[3])


@every_shape
def test_the_product_and_its_gradients_are_pyros(shape: Any) -> None:
    first, moves, seen, batch = shape
    A, C = torch.randn(*moves, 2, 2) / 2, torch.randn(*seen, 2, 3)
    laws = normal(*first, size=2), normal(*moves, size=2), normal(*seen, size=3)
    y, x = torch.randn(*batch, STEPS, 3), torch.randn(*batch, STEPS, 3)
    leaves = [tensor.requires_grad_() for tensor in (A, C, y)]
    found = []
    arguments = (laws[0], A, laws[1], C, laws[2])
    ours, theirs = GaussianHMM(*arguments, None, STEPS, initial_step=0), dist.GaussianHMM(*arguments, None, STEPS)
    for law in (ours, theirs):
        updated, constant = law.conjugate_update(dist.Normal(y, 0.7).to_event(2))
        value = updated.log_prob(x).sum() + 2 * constant.sum()
        found.append((constant, *torch.autograd.grad(value, leaves)))
    for value, expected in zip(*found, strict=True):
        torch.testing.assert_close(value, expected)


def test_the_product_of_a_law_without_a_duration_has_the_densitys() -> None:
    other, x = dist.Normal(torch.randn(4, 3), 1.0).to_event(2), torch.randn(4, 3)
    updated, constant = (law := gaussian(SHAPES["shared"], duration=None)).conjugate_update(other)
    assert updated.duration == 4
    torch.testing.assert_close(updated.log_prob(x) + constant, law.log_prob(x) + other.log_prob(x))


def beta(*batch: int) -> Any:
    return dist.Beta(torch.rand(*batch) + 1, torch.rand(*batch) + 1)


FAMILIES: dict[str, Any] = {
    "normal": (lambda b: dist.Normal(torch.randn(b), torch.rand(b) + 0.5), 0),
    "vectors": (lambda b: dist.Normal(torch.randn(*b, 2), torch.rand(*b, 2) + 0.5).to_event(1), 1),
    "full vectors": (lambda b: normal(*b, size=2), 1),
    "categorical": (lambda b: dist.Categorical(logits=torch.randn(*b, 4)), 0),
    "beta": (lambda b: beta(*b), 0),
    "dirichlet": (lambda b: dist.Dirichlet(torch.rand(*b, 4) + 1), 1),
    "torch's gamma": (lambda b: torch.distributions.Gamma(torch.rand(b) + 1, torch.rand(b) + 1), 0),
}


@every_shape
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_discrete_law_times_a_density_is_a_discrete_law_and_a_number(family: Any, shape: Any) -> None:
    make, event_dim = family
    law = discrete(shape, make((*(shape[2] or (1,)), 3)))
    other = torch.distributions.Independent(make((*shape[3], STEPS)), 1)
    updated, constant = law.conjugate_update(other)
    assert (updated.batch_shape, updated.event_shape) == (law.batch_shape, law.event_shape)
    x = make((*shape[3], STEPS)).sample((3,))
    torch.testing.assert_close(updated.log_prob(x) + constant, law.log_prob(x) + other.log_prob(x))
    assert constant.shape == law.batch_shape
    assert updated.sample((2,)).shape == (2, *shape[3], *law.event_shape[:1], *x.shape[x.dim() - event_dim :])


def test_gradients_of_a_discrete_product_are_those_of_the_identity() -> None:
    loc, moves, x = torch.randn(3).requires_grad_(), torch.randn(3, 3).requires_grad_(), torch.randn(STEPS)
    law = DiscreteHMM(torch.zeros(3), moves, dist.Normal(loc, 1.0), duration=STEPS)
    other = dist.Normal(torch.randn(STEPS), 0.5).to_event(1)
    updated, constant = law.conjugate_update(other)
    sides = [updated.log_prob(x) + constant, law.log_prob(x)]
    for a, b in zip(*(torch.autograd.grad(s, (loc, moves), retain_graph=True) for s in sides), strict=True):
        torch.testing.assert_close(a, b)


def test_states_that_a_density_excludes_stay_impossible() -> None:
    stay = torch.tensor([[0.0, -torch.inf], [0.0, 0.0]])
    law = DiscreteHMM(torch.tensor([0.0, 0.0]), stay, dist.Categorical(logits=torch.eye(2).log()), duration=4)
    weights = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 3.0], [1.0, 0.0]])
    other = dist.Categorical(logits=weights.log()).to_event(1)
    updated, constant = law.conjugate_update(other)
    words = all_words(2, 4)
    torch.testing.assert_close(updated.log_prob(words).exp().sum(), torch.tensor(1.0))
    torch.testing.assert_close(updated.log_prob(words) + constant, law.log_prob(words) + other.log_prob(words))


def test_conjugate_reparametrisation_gives_the_marginal_likelihood_from_one_draw() -> None:
    law, data = gaussian(SHAPES["shared"]), torch.randn(STEPS, 3)
    likelihood = dist.Normal(data, 0.5).to_event(2)

    def program() -> None:
        z = pyro.sample("z", law)
        pyro.sample("x", dist.Normal(z, 0.5).to_event(2), obs=data)

    simple = pyro.poutine.reparam(program, {"z": ConjugateReparam(likelihood)})
    found = [pyro.poutine.trace(simple).get_trace().log_prob_sum() for _ in range(2)]
    noisier = law._changed(
        (),
        STEPS,
        None,
        law.chain._replace(emission_cov=law.chain.emission_cov + 0.25 * torch.eye(3)),
        law.observation_shift,
    )
    for value in found:
        torch.testing.assert_close(value, noisier.log_prob(data))


# Later steps given the first.


@every_law
@every_shape
@pytest.mark.parametrize("initial_step", [0, 1])
def test_the_rest_given_the_first_steps_is_the_joint_over_their_density(
    make: Any, event: tuple[int, ...], shape: Any, initial_step: int
) -> None:
    if initial_step == 1:
        shape = tuple(tuple(STEPS - 1 if n == STEPS and i == 1 else n for n in axes) for i, axes in enumerate(shape))
    law = make(shape, initial_step=initial_step)
    x = torch.randn(3, *shape[3], STEPS, *event)
    axis, log_density, of_rest = -1 - len(event), torch.zeros(()), law
    for t in range(1, STEPS):
        first, next_one, rest = x.narrow(axis, 0, t), x.narrow(axis, t - 1, 1), x.narrow(axis, t, STEPS - t)
        log_density = log_density + step_density(of_rest, next_one)  # log p(x_{1:t})
        of_rest = law.prefix_condition(first)
        assert of_rest.batch_shape == (3, *shape[3])
        assert of_rest.event_shape == (STEPS - t, *event)
        assert of_rest.sample((2,)).shape == (2, 3, *shape[3], STEPS - t, *event)
        torch.testing.assert_close(of_rest.log_prob(rest) + log_density, law.log_prob(x))
        assert not torch.allclose(law.prefix_condition(first + 1.0).log_prob(rest), of_rest.log_prob(rest))


def step_density(law: Any, x: Tensor) -> Tensor:
    """log density of the first step of a law, from its parameters alone."""
    if isinstance(law, DiscreteHMM):
        steps = law.observation_dist.batch_shape[-2:-1].numel()
        own = len(law.event_shape)
        spread = x.expand(*x.shape[: x.dim() - own], steps, *x.shape[x.dim() - own + 1 :])
        emission = law.observation_dist.log_prob(spread.unsqueeze(-own))[..., 0, :]
        return (law.initial_probs.log() + emission).logsumexp(-1)
    chain = law.chain
    C, R, shift = (
        chain.emission_matrix[..., 0, :, :],
        chain.emission_cov[..., 0, :, :],
        law.observation_shift[..., 0, :],
    )
    mean = (C @ chain.initial_mean[..., None])[..., 0] + shift
    return dist.MultivariateNormal(mean, C @ chain.initial_cov @ C.mT + R).log_prob(x[..., 0, :])


@every_law
def test_gradients_of_a_forecasts_density_are_those_of_the_joint_less_the_first_steps(make: Any, event: Any) -> None:
    law, x = make(SHAPES["per step"]), torch.randn(STEPS, *event).requires_grad_()
    name = "initial_probs" if isinstance(law, DiscreteHMM) else "observation_shift"
    setattr(law, name, getattr(law, name).clone().requires_grad_())
    rest = law.prefix_condition(x[:3]).log_prob(x[3:])
    found = torch.autograd.grad(rest, (x, getattr(law, name)))
    left = law.log_prob(x) - sum(
        step_density(law.prefix_condition(x[:t]) if t else law, x[t : t + 1]) for t in range(3)
    )
    for a, b in zip(found, torch.autograd.grad(left, (x, getattr(law, name))), strict=True):
        torch.testing.assert_close(a, b)


def test_a_prefix_of_a_prefix_is_the_longer_prefix() -> None:
    for make, event in MAKERS.values():
        law, x = make(SHAPES["per chain and step"]), torch.randn(2, STEPS, *event)
        axis = -1 - len(event)
        twice = law.prefix_condition(x.narrow(axis, 0, 1)).prefix_condition(x.narrow(axis, 1, 2))
        once, rest = law.prefix_condition(x.narrow(axis, 0, 3)), x.narrow(axis, 3, 2)
        torch.testing.assert_close(twice.log_prob(rest), once.log_prob(rest))


@every_law
def test_lengths_go_on_after_a_prefix(make: Any, event: Any) -> None:
    shape, x = SHAPES["per chain"], torch.randn(2, STEPS, *event)
    ragged, full = make(shape, lengths=torch.tensor([3, 5])), None
    axis = -1 - len(event)
    rest = ragged.prefix_condition(x.narrow(axis, 0, 2))
    assert rest.lengths is not None
    assert rest.lengths.tolist() == [1, 3]
    full = ragged.expand(ragged.batch_shape)
    full.lengths = torch.tensor([2, 2])
    expected = ragged.log_prob(x) - full.log_prob(x)
    torch.testing.assert_close(rest.log_prob(x.narrow(axis, 2, STEPS - 2)), expected)
    with pytest.raises(
        ValueError, match="expected sequences of more than the 3 steps of the data for prefix_condition, got"
    ):
        ragged.prefix_condition(x.narrow(axis, 0, 3))


# States given observations.


def test_draws_of_discrete_states_have_the_probabilities_of_paths() -> None:
    limit, num = 5.0, 20_000  # standard errors, draws
    law, x = discrete(SHAPES["per step"]), torch.randn(STEPS)
    emission = law.observation_dist.log_prob(x[:, None]).exp()
    first, moves = law.initial_probs, law.transition_probs
    weights = torch.tensor(
        [
            float(first[path[0]] * emission[0, path[0]])
            * float(
                torch.stack([moves[t, path[t], path[t + 1]] * emission[t + 1, path[t + 1]] for t in range(4)]).prod()
            )
            for path in product(range(3), repeat=STEPS)
        ]
    )
    paths = law.rsample_posterior(x, (num,))
    assert paths.shape == (num, STEPS)
    index = (paths * 3 ** torch.arange(STEPS - 1, -1, -1)).sum(-1)
    assert largest_z_score(index, weights / weights.sum()) < limit
    assert largest_z_score(index, torch.full((3**STEPS,), 3.0**-STEPS)) > limit


def test_homogeneous_paths_are_those_of_the_textbook() -> None:
    law, x = discrete(SHAPES["shared"], initial_step=1), torch.randn(STEPS)
    table = path_probs(law.initial_probs, law.transition_probs[0], law.observation_dist.log_prob(x[:, None]).exp())
    probs = torch.stack(list(table.values()))
    torch.testing.assert_close(law.log_prob(x).exp(), probs.sum())
    index = (law.rsample_posterior(x, (20_000,)) * 3 ** torch.arange(STEPS - 1, -1, -1)).sum(-1)
    assert largest_z_score(index, probs / probs.sum()) < 5.0  # standard errors


def joint(law: GaussianHMM) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and covariance of all states, and the matrix and covariance that lead from them to all observations."""
    chain, D, M = law.chain, law.hidden_dim, law.obs_dim
    at = lambda p, t: p[t % len(p)]  # noqa: E731
    mean, cov = torch.zeros(STEPS * D), torch.zeros(STEPS * D, STEPS * D)
    matrix, noise = torch.zeros(STEPS * M, STEPS * D), torch.zeros(STEPS * M, STEPS * M)
    m, P = chain.initial_mean, chain.initial_cov
    for t in range(STEPS):
        here = slice(t * D, (t + 1) * D)
        if t:
            A, b = at(chain.transition_matrix, t - 1), at(chain.state_offset, t - 1)
            m, P = A @ m + b, A @ P @ A.mT + at(chain.transition_cov, t - 1)
            cov[here, : t * D] = A @ cov[(t - 1) * D : t * D, : t * D]
            cov[: t * D, here] = cov[here, : t * D].mT
        mean[here], cov[here, here] = m, P
        out = slice(t * M, (t + 1) * M)
        matrix[out, here], noise[out, out] = at(chain.emission_matrix, t), at(chain.emission_cov, t)
    return mean, cov, matrix, noise


@pytest.mark.parametrize("name", ["shared", "per step", "moves per step"])
def test_draws_of_gaussian_states_have_the_moments_of_the_joint_normal_law(name: str) -> None:
    limit, num = 5.0, 20_000  # standard errors, draws
    law, x = gaussian(SHAPES[name]), torch.randn(STEPS, 3)
    mean, cov, matrix, noise = joint(law)
    gain = cov @ matrix.mT @ torch.linalg.inv(matrix @ cov @ matrix.mT + noise)
    expected = mean + gain @ ((x - law.observation_shift).flatten() - matrix @ mean)
    spread = cov - gain @ matrix @ cov
    paths = law.rsample_posterior(x, (num,))
    assert paths.shape == (num, STEPS, 2)
    error = (paths.flatten(1).mean(0) - expected) / (spread.diagonal() / num).sqrt()
    assert float(error.abs().max()) < limit
    prior = (paths.flatten(1).mean(0) - mean) / (spread.diagonal() / num).sqrt()
    assert float(prior.abs().max()) > limit
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(spread), (paths.flatten(1) - expected).mT, upper=False)
    second = white @ white.mT / num
    variances = torch.ones_like(second) + torch.eye(len(second))  # of products of standard normal numbers
    assert float(((second - torch.eye(len(second))) / (variances / num).sqrt()).abs().max()) < limit


def test_draws_of_states_and_the_last_states_moments_follow_their_parameters_twice() -> None:
    law, x = gaussian(SHAPES["per step"]), torch.randn(STEPS, 3)

    def drawn(A: Tensor, C: Tensor, x: Tensor) -> Tensor:
        torch.manual_seed(1)
        chain = law.chain._replace(transition_matrix=A, emission_matrix=C)
        changed = law._changed((), STEPS, None, chain, law.observation_shift)
        last = changed.filter(x)
        return (
            changed.rsample_posterior(x).sum(-1) + last.mean.sum(-1, keepdim=True) * last.covariance_matrix[..., :1, 0]
        )

    inputs = tuple(t.clone().requires_grad_() for t in (law.chain.transition_matrix, law.chain.emission_matrix, x))
    assert gradcheck(drawn, inputs, fast_mode=True)
    assert gradgradcheck(drawn, inputs, fast_mode=True)


@every_law
@every_shape
def test_the_last_state_is_the_same_with_and_without_gradients(make: Any, event: Any, shape: Any) -> None:
    law, x = make(shape), torch.randn(3, *shape[3], STEPS, *event)
    moments = ("probs",) if isinstance(law, DiscreteHMM) else ("mean", "covariance_matrix")
    with_gradients = law.filter(x.clone().requires_grad_())
    for moment in moments:
        value = getattr(with_gradients, moment)
        assert value.requires_grad or moment == "covariance_matrix"  # which no observation changes
        torch.testing.assert_close(value, getattr(law.filter(x), moment))
    if shape[3]:
        ragged = law.expand(law.batch_shape)
        ragged.lengths = (torch.arange(law.batch_shape.numel()) % STEPS + 1).reshape(shape[3])
        for moment in moments:
            value = getattr(ragged.filter(x.clone().requires_grad_()), moment)
            torch.testing.assert_close(value, getattr(ragged.filter(x), moment))


@every_law
def test_padding_says_nothing_of_the_states(make: Any, event: Any) -> None:
    law, x = make(SHAPES["per chain"], lengths=torch.tensor([2, 4])), torch.randn(2, STEPS, *event)
    spoiled = x.clone()
    spoiled[0, 2:], spoiled[1, 4:] = 50.0, 50.0
    draws = []
    for value in (x, spoiled):
        torch.manual_seed(3)
        draws.append(law.rsample_posterior(value, (4,)))
    torch.testing.assert_close(draws[0], draws[1])


# Other batch shapes.


@every_law
@every_shape
def test_chains_in_another_batch_shape_keep_their_order(make: Any, event: Any, shape: Any) -> None:
    law, x = make(shape), torch.randn(*shape[3], STEPS, *event)
    for new in ((*shape[3], 1), (1, *shape[3]), tuple(reversed(shape[3]))):
        same, value = law.reshape_batch(new), x.reshape(*new, STEPS, *event)
        assert (same.batch_shape, same.event_shape) == (new, law.event_shape)
        torch.testing.assert_close(same.log_prob(value), law.log_prob(x).reshape(new))
        assert same.sample((2,)).shape == (2, *new, STEPS, *event)
        back = forecasting.reshape_batch(same, shape[3])
        assert type(back) is type(law)
        torch.testing.assert_close(back.log_prob(x), law.log_prob(x))
    repeated = law.reshape_batch((*shape[3], 1)).expand((2, *shape[3], 3))
    assert repeated.sample((2,)).shape == (2, 2, *shape[3], 3, STEPS, *event)
    torch.testing.assert_close(
        repeated.log_prob(x.unsqueeze(-2 - len(event))), law.log_prob(x)[..., None].expand(repeated.batch_shape)
    )
    if shape[3]:
        with pytest.raises(ValueError, match="expected reshape_batch to keep the number of chains of batch shape"):
            law.reshape_batch((*shape[3], 2))


def test_draws_of_repeated_chains_are_independent_and_each_chain_has_its_law() -> None:
    loc = torch.tensor([-30.0, 30.0])[:, None, None].expand(2, 1, 2)
    law = DiscreteHMM(torch.zeros(2), torch.zeros(2, 2), dist.Normal(loc, 1.0), duration=3)
    drawn = law.reshape_batch((2, 1)).expand((2, 4)).sample((5,))
    assert (drawn > 0).flatten(2).all(-1).tolist() == [[False, True]] * 5
    assert bool((drawn[:, 0] < 0).all())
    assert len(drawn.unique()) == drawn.numel()


@every_law
def test_lengths_follow_their_chains(make: Any, event: Any) -> None:
    law, x = make(SHAPES["per chain"], lengths=torch.tensor([2, 4])), torch.randn(2, STEPS, *event)
    torch.testing.assert_close(law.reshape_batch((2, 1)).log_prob(x[:, None])[:, 0], law.log_prob(x))


# Subclasses, copies, validation, tracing.


class MyDiscrete(DiscreteHMM):
    """A reader's own."""


class MyGaussian(GaussianHMM):
    """A reader's own, with another constructor."""

    def __init__(self, first: Any, A: Tensor, move: Any, C: Tensor, noise: Any) -> None:
        super().__init__(first, A, move, C, noise, duration=STEPS)


def test_a_subclass_stays_one_and_a_copy_is_the_same_law() -> None:
    like = dist.Normal(torch.zeros(STEPS, 3), 1.0).to_event(2)
    mine = MyGaussian(normal(size=2), torch.eye(2), normal(size=2), torch.randn(2, 3), normal(size=3))
    other = MyDiscrete(torch.zeros(2), torch.zeros(2, 2), dist.Normal(torch.tensor([0.0, 1.0]), 1.0), duration=STEPS)
    of_one = dist.Normal(torch.zeros(STEPS), 1.0).to_event(1)
    for law, x, density in ((mine, torch.randn(STEPS, 3), like), (other, torch.randn(STEPS), of_one)):
        changed = (
            law.expand((2,)),
            law.reshape_batch((1,)),
            law.prefix_condition(x[:2]),
            law.conjugate_update(density)[0],
        )
        assert {type(one) for one in changed} == {type(law)}
        assert law().shape == law.event_shape  # as any law in a program
        for same in (pickle.loads(pickle.dumps(law)), copy.deepcopy(law)):
            torch.testing.assert_close(same.log_prob(x), law.log_prob(x))


def test_a_value_with_nan_is_an_error_unless_validation_is_off() -> None:
    law, x = gaussian(SHAPES["shared"]), torch.zeros(2, STEPS, 3)
    x[1, 3, 2] = torch.nan
    with pytest.raises(
        ValueError, match=r"expected a value without NaN, got NaN at index \(1, 3, 2\); for missing observations"
    ):
        law.log_prob(x)
    assert law.log_prob(x.nan_to_num()).isfinite().all()
    with pyro.validation_enabled(False):
        assert law.log_prob(x).isnan().tolist() == [False, True]
    unchecked = gaussian(SHAPES["shared"], validate_args=False)
    assert unchecked.expand((2,)).log_prob(x).isnan().tolist() == [False, True]


tracing = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


def test_observations_outside_the_support_stay_errors_in_what_follows_from_a_law() -> None:
    law = DiscreteHMM(torch.zeros(2), torch.zeros(2, 2), dist.Bernoulli(torch.rand(2, 1, 2)), duration=STEPS)
    x, other = torch.ones(2, STEPS), dist.Bernoulli(torch.rand(STEPS)).to_event(1)
    for changed in (law.reshape_batch((2, 1)), law.conjugate_update(other)[0], law.prefix_condition(x[:, :1])):
        value = torch.ones(changed.shape())
        assert changed.log_prob(value).isfinite().all()
        with pytest.raises(ValueError, match="to be within the support"):
            changed.log_prob(2 * value)


@tracing
@pytest.mark.parametrize("with_gradient", [False, True])
@every_law
def test_a_traced_density_is_computed_again_for_other_numbers(make: Any, event: Any, with_gradient: bool) -> None:
    law = make(SHAPES["shared"])

    def density(x: Tensor) -> Tensor:
        return law.log_prob(x)

    x, other = torch.randn(STEPS, *event), torch.randn(STEPS, *event)
    for value in (x, other):
        value.requires_grad_(with_gradient)
    traced = torch.jit.trace(density, (x,), check_trace=False)
    torch.testing.assert_close(traced(other), law.log_prob(other))
    assert float(traced(other).detach()) != pytest.approx(float(law.log_prob(x).detach()))
    if with_gradient:
        found, expected = (torch.autograd.grad(f(other), other) for f in (traced, law.log_prob))
        torch.testing.assert_close(found, expected)


@tracing
@every_law
def test_pyros_compiled_elbo_is_the_one_that_is_not(make: Any, event: Any) -> None:
    law, start, compiled = make(SHAPES["shared"]), torch.randn(event), JitTrace_ELBO(ignore_jit_warnings=True)

    def model(x: Tensor) -> None:
        pyro.sample("x", law, obs=x - pyro.param("shift", start))

    def guide(x: Tensor) -> None:
        return None

    for x in torch.randn(2, STEPS, *event):  # compiled with the first
        found = []
        for elbo in (compiled, Trace_ELBO()):
            loss, shift = elbo.loss_and_grads(model, guide, x), pyro.param("shift").unconstrained()  # type: ignore[attr-defined]
            found.append((loss, shift.grad))
            shift.grad = None
        assert found[0][0] == pytest.approx(found[1][0])
        torch.testing.assert_close(found[0][1], found[1][1])


# Errors.


@every_law
def test_what_does_not_fit_is_an_error_of_one_sentence(make: Any, event: Any) -> None:
    law, free = make(SHAPES["shared"]), make(SHAPES["shared"], duration=None)
    x = torch.zeros(STEPS, *event)
    one = dist.Normal(0.0, 1.0)
    with pytest.raises(ValueError, match="expected a law with a duration for prefix_condition, got one without"):
        free.prefix_condition(x)
    for data in (x, x[:0], torch.zeros(())):
        with pytest.raises(ValueError, match=r"expected data of t steps for prefix_condition, 0 < t < 5, whose shape"):
            law.prefix_condition(data)
    steps = len(law.event_shape)
    with pytest.raises(ValueError, match=r"expected a law of event shape \(5,.*\) for conjugate_update, got \(4"):
        law.conjugate_update(one.expand([4, *event]).to_event(steps))
    with pytest.raises(ValueError, match=r"expected a law of event shape \(T,.*\) for conjugate_update, got \(\)"):
        free.conjugate_update(one)
    with pytest.raises(ValueError, match="expected a law without lengths for conjugate_update, got one with"):
        make(SHAPES["per chain"], lengths=torch.tensor([2, 4])).conjugate_update(
            one.expand([5, *event]).to_event(steps)
        )
    with pytest.raises(TypeError, match="Laplace"):
        law.conjugate_update(dist.Laplace(0.0, 1.0).expand([5, *event]).to_event(steps))


def test_an_impossible_value_has_no_states() -> None:
    stay = torch.eye(2).log()
    law = DiscreteHMM(torch.zeros(2), stay, dist.Categorical(logits=stay), duration=3)
    for method in (law.rsample_posterior, law.filter):
        with pytest.raises(ValueError, match="expected a value of positive probability, got one of probability zero"):
            method(torch.tensor([0, 1, 0]))
    with pytest.raises(ValueError, match="expected a value of positive probability, got one of probability zero"):
        law.prefix_condition(torch.tensor([0, 1]))
