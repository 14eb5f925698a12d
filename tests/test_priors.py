from typing import Any

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.rnn import RNN
from pgm_rnn.parameters import call_with
from pgm_rnn.priors import WithPriors
from pgm_rnn.sequence_model import SequenceModel

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


@pytest.mark.parametrize(
    ("make", "priors", "error", "message"),
    [
        (hmm, {}, ValueError, "expected at least one prior, got none"),
        (hmm, {"transitions": ROWS}, ValueError, "expected the parameter to be one of initial_logits, "),
        (hmm, {"transition_probs": dist.Dirichlet(torch.ones(3))}, ValueError, r"that gives \(2, 2\), got \(3,\)"),
        (torch.nn.Identity, {"weight": ROWS}, TypeError, "expected a SequenceModel, such as HMM, got Identity"),
    ],
)
def test_priors_that_do_not_fit_are_errors(make: Any, priors: Any, error: type[Exception], message: str) -> None:
    model: SequenceModel = make()
    with pytest.raises(error, match=message):
        WithPriors(model, priors)
