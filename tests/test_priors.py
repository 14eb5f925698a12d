from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVGD, Predictive, RBFSteinKernel, RenyiELBO, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal, init_to_sample
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor

from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.rnn import RNN
from pgm_rnn.sequence_model import SequenceModel, StateLaw
from pgm_rnn.sequence_model.parameters import call_with
from pgm_rnn.sequence_model.priors import WithPriors
from tests.cases import every
from tests.instances import FAMILIES, LENGTHS, make_model, ragged, some_family

ROWS = dist.Dirichlet(torch.ones(2, 2, dtype=torch.float64))


def hmm() -> HMM:
    return HMM.random(2, 3, seed=0).double()


def joint_log_prob(program: WithPriors, x: Any, **values: Any) -> Any:
    trace: Any = poutine.trace(poutine.condition(program, data=values)).get_trace(x)
    return trace.log_prob_sum()


def test_the_program_is_the_prior_times_the_likelihood_of_the_model_with_these_parameters() -> None:
    model, rows = hmm(), torch.tensor([[0.9, 0.1], [0.4, 0.6]])
    program, x = WithPriors(model, {"transition_probs": ROWS}), model.sample(3, 5, seed=1).x
    other = HMM(model.initial_probs, rows, model.emission_probs)
    expected = dist.Dirichlet(torch.ones(2, 2)).log_prob(rows).sum() + other.log_prob(x).sum()
    torch.testing.assert_close(joint_log_prob(program, x, transition_probs=rows), expected)
    assert not torch.allclose(model.transition_probs, rows)


def test_gradients_reach_the_parameters_through_every_natural_name() -> None:
    model = LinearGaussianSSM.random(2, 2, seed=0).double()
    values = {name: value.detach().clone().requires_grad_() for name, value in model.moments().items()}
    raw = dict(model.unconstrained(name, value) for name, value in values.items())
    x = model.sample(3, 5, seed=1).x
    value = call_with(model, raw, model.log_prob, x).sum()
    torch.testing.assert_close(value, model.log_prob(x).sum())
    assert all(gradient.any() for gradient in torch.autograd.grad(value, list(values.values())))


def test_a_draw_of_the_parameters_makes_a_model() -> None:
    model, rows = hmm(), torch.tensor([[0.9, 0.1], [0.4, 0.6]])
    twin = WithPriors(model, {"transition_probs": ROWS}).model_at({"transition_probs": rows})
    assert isinstance(twin, HMM)
    torch.testing.assert_close(twin.transition_probs, rows, check_dtype=False)
    assert torch.equal(twin.initial_logits, model.initial_logits)


def test_any_parameter_of_a_network_may_have_a_prior() -> None:
    rnn = RNN("gru", num_symbols=3, hidden_dim=2)
    program = WithPriors(rnn, {"readout.bias": dist.Normal(torch.zeros(3), 1.0)})
    x = torch.randint(3, (4, 5))
    bias = torch.randn(3)
    expected = dist.Normal(torch.zeros(3), 1.0).log_prob(bias).sum()
    with torch.no_grad():
        twin = program.model_at({"readout.bias": bias})
    torch.testing.assert_close(joint_log_prob(program, x, **{"readout.bias": bias}), expected + twin.log_prob(x).sum())


# Draws of the parameters side by side.


def any_prior(model: SequenceModel) -> tuple[str, Any]:
    name, value = [(name, p.detach()) for name, p in model.named_parameters() if p.isfinite().all()][-1]
    return name, dist.Normal(value, 0.3)


def prior_that_counts(model: SequenceModel, x: Tensor, z: Tensor | None) -> tuple[str, Any]:
    """A prior of the last parameter on which the density depends: one behind a rectified layer need not count."""
    named = dict(model.named_parameters())
    density = model.log_prob(x, z, LENGTHS).sum()
    found = torch.autograd.grad(density, list(named.values()), materialize_grads=True)
    name = [name for name, grad in zip(named, found, strict=True) if bool((grad != 0).any())][-1]
    return name, dist.Normal(named[name].detach(), 0.3)


def site_log_probs(program: WithPriors, x: Tensor, options: dict[str, Any], **values: Tensor) -> dict[str, Tensor]:
    trace: Any = poutine.trace(poutine.condition(program, data=values)).get_trace(x, **options)
    trace.compute_log_prob()
    return {name: trace.nodes[name]["log_prob"].detach() for name in ("z", "x") if name in trace.nodes}


@pytest.mark.parametrize("first", ["model", "condition"])
@every("model")
@pytest.mark.parametrize("num", [3, 4])  # as many draws as sequences, and not
def test_draws_of_the_parameters_side_by_side_have_the_density_of_each_alone(num: int, name: str, first: Any) -> None:
    family = some_family(name)
    model, x = make_model(name, family, first=first), ragged(family)
    options: dict[str, Any] = {"lengths": LENGTHS}
    sampled = model.has_latent and not model.exact
    if sampled and first == "condition":
        pytest.skip("no p(z_1 | x_1)")
    z = torch.zeros(2, num)
    if sampled:
        law = StateLaw(model, x, LENGTHS, first)
        z = torch.stack([law.sample() for _ in range(2 * num)]).unflatten(0, (2, num))
    parameter, prior = prior_that_counts(model, x, z[0, 0] if sampled else None)
    program, draws = WithPriors(model, {parameter: prior}), prior.sample(torch.Size([2, num]))
    each = []
    for i, j in np.ndindex(2, num):
        state = {"z": z[i, j]} if sampled else {}
        each.append(site_log_probs(program, x, options, **{parameter: draws[i, j]}, **state))
    state = {"z": z} if sampled else {}
    with pyro.plate("outer", 2, dim=-3), pyro.plate("inner", num, dim=-2):
        together = site_log_probs(program, x, options, **{parameter: draws[:, :, None]}, **state)
    for site, found in together.items():
        assert found.shape == (2, num, len(x))
        torch.testing.assert_close(found, torch.stack([one[site] for one in each]).reshape(found.shape))
    assert float(together["x"].std(1).max()) > 1e-6  # the parameter counts


def estimate(elbo: Any, num: int, vectorize: bool, program: Any, guide: Any, x: Tensor) -> float:
    pyro.set_rng_seed(3)
    made = elbo(num_particles=num, vectorize_particles=vectorize, max_plate_nesting=1)
    return float(made.loss(program, guide, x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hmm", "lgssm", "rnn-gru", "vrnn", "dmm", "noisy-rnn"])
@pytest.mark.parametrize("elbo", [Trace_ELBO, RenyiELBO])
def test_vectorised_particles_give_the_bound_of_particles_one_at_a_time(name: str, elbo: Any) -> None:
    family = some_family(name)
    model, x = make_model(name, family), ragged(family)
    parameter, prior = any_prior(model)
    program = WithPriors(model, {parameter: prior})
    # a guide without noise gives every particle the same parameters, so that its bound is that of one of them
    guide = AutoDelta(program)
    guide(x)
    single, several = (estimate(elbo, num, num > 1, program, guide, x) for num in (1, 3))
    assert several == pytest.approx(single, rel=1e-9)
    wide = AutoNormal(program, init_scale=0.01)
    wide(x)
    one_at_a_time, together = (estimate(elbo, 200, vectorize, program, wide, x) for vectorize in (False, True))
    assert together == pytest.approx(one_at_a_time, rel=0.05, abs=0.5)
    pyro.clear_param_store()
    spoiled_by = abs(estimate(elbo, 1, False, program, AutoDelta(program, init_loc_fn=init_to_sample), x) - single)
    assert spoiled_by > 0.01


@pytest.mark.parametrize("name", ["hmm", "rnn-gru"])
def test_parallel_prediction_and_stein_descent_score_each_draw(name: str) -> None:
    model, x = make_model(name, FAMILIES["symbols"]), ragged(FAMILIES["symbols"])
    parameter, prior = any_prior(model)
    program, draws = WithPriors(model, {parameter: prior}), prior.sample(torch.Size([3]))
    each = torch.stack([site_log_probs(program, x, {}, **{parameter: draw})["x"] for draw in draws])
    for given in (draws, draws[:, None]):  # as of `Posterior.samples`, and as of a guide that is drawn from in parallel
        together = Predictive(program, {parameter: given}, parallel=True).get_vectorized_trace(x)
        torch.testing.assert_close(together.nodes["x"]["fn"].log_prob(x).detach(), each)  # the trace's own is masked
    descent = SVGD(program, RBFSteinKernel(), Adam({"lr": 0.1}), num_particles=4, max_plate_nesting=1)
    for _ in range(3):
        descent.step(x)
    assert bool(descent.get_named_particles()[parameter].isfinite().all())


def test_parameters_that_do_not_vary_with_a_plate_are_repeated_over_it() -> None:
    model, x = hmm(), torch.tensor([[0, 1, 2], [2, 2, 1]])
    start = dist.Dirichlet(torch.ones(2, dtype=torch.float64))
    program = WithPriors(model, {"transition_probs": ROWS, "initial_probs": start})
    rows, first = ROWS.sample(torch.Size([3])), start.sample(torch.Size([2]))
    with pyro.plate("outer", 2, dim=-3), pyro.plate("inner", 3, dim=-2):
        both = site_log_probs(program, x, {}, transition_probs=rows[:, None], initial_probs=first[:, None, None])["x"]
        shared = site_log_probs(program, x, {}, transition_probs=rows[:, None], initial_probs=first[0])["x"]
    for i, j in np.ndindex(2, 3):
        alone = site_log_probs(program, x, {}, transition_probs=rows[j], initial_probs=first[i])["x"]
        torch.testing.assert_close(both[i, j], alone)
        assert torch.equal(shared[i, j], both[0, j])


def test_draws_side_by_side_that_have_no_density_of_their_own_are_errors() -> None:
    model = hmm()
    x, program = model.sample(3, 5, seed=1).x, WithPriors(model, {"transition_probs": ROWS})
    draws = ROWS.sample(torch.Size([3]))
    with (
        pytest.raises(ValueError, match=r"expected memory='deterministic' .* got 'sampled'; use rendering='unrolled'"),
        pyro.plate("p", 3, dim=-2),
    ):
        site_log_probs(program, x, {"memory": "sampled"}, transition_probs=draws[:, None])
    vrnn, y = make_model("vrnn", FAMILIES["reals"]), ragged(FAMILIES["reals"])
    with pytest.raises(ValueError, match=r"expected one draw of the states .* vectorize_particles=False, Predictive"):
        Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1).loss(vrnn.model, vrnn.guide, y)


@pytest.mark.parametrize(
    ("make", "priors", "error", "message"),
    [
        (hmm, {}, ValueError, "expected at least one prior, got none"),
        (hmm, {"transitions": ROWS}, ValueError, "expected the parameter to be one of initial_probs, "),
        (hmm, {"transition_probs": dist.Dirichlet(torch.ones(3))}, ValueError, r"that gives \(2, 2\), got \(3,\)"),
        (torch.nn.Identity, {"weight": ROWS}, TypeError, "expected a SequenceModel, such as HMM, got Identity"),
    ],
)
def test_priors_that_do_not_fit_are_errors(make: Any, priors: Any, error: type[Exception], message: str) -> None:
    model: SequenceModel = make()
    with pytest.raises(error, match=message):
        WithPriors(model, priors)
