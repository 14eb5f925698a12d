"""Models as Pyro's own modules, with random attributes in place of parameters."""

from collections.abc import Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam, PyroSample
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import mcmc
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.vrnn import VRNN
from pgm_rnn.sequence_model.priors import WithPriors

TABLES = (
    torch.tensor([0.6, 0.4]),
    torch.tensor([[0.9, 0.1], [0.3, 0.7]]),
    torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]),
)
ROWS = dist.Dirichlet(torch.ones(2, 2)).to_event(1)
LOGITS = dist.Normal(torch.zeros(2), 1.0).to_event(1)
X = torch.tensor([[0, 2, 1, 1], [2, 2, 0, 1]])


@pytest.fixture(autouse=True)
def _an_empty_store() -> Iterator[None]:
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


PYRO: Any = PyroModule  # its types are made by subscription, which type checkers do not follow


def a_chain(**attributes: Any) -> Any:
    hmm = PYRO[HMM](*(table.double() for table in TABLES))
    for name, value in attributes.items():
        setattr(hmm, name, value)
    return hmm


@pytest.mark.parametrize("rendering", ["fused", "unrolled"])
@pytest.mark.parametrize("called", [True, False])
def test_random_attributes_are_sites_with_the_density_of_priors(called: bool, rendering: Any) -> None:
    hmm = a_chain(transition_probs=PyroSample(ROWS), initial_logits=PyroSample(lambda self: LOGITS))
    trace: Any = poutine.trace(hmm if called else hmm.model).get_trace(X, rendering=rendering)
    priors = {"transition_probs": ROWS, "initial_logits": LOGITS}
    values = {
        name: site["value"] for name, site in trace.nodes.items() if site["type"] == "sample" and name[0] not in "_s"
    }
    program = WithPriors(HMM(*(table.double() for table in TABLES)), priors)
    expected: Any = poutine.trace(poutine.condition(program, data=values)).get_trace(X, rendering=rendering)
    torch.testing.assert_close(trace.log_prob_sum(), expected.log_prob_sum())
    assert priors.keys() <= trace.nodes.keys()
    assert torch.equal(
        hmm.transition_logits.softmax(-1), TABLES[1].double().log().softmax(-1)
    )  # the model is as it was


def test_a_part_of_a_tensor_may_be_random_and_the_rest_is_learnt() -> None:
    table = Gaussian().table(loc=torch.tensor([-1.0, 1.0]), scale=torch.tensor([1.0, 1.0]))
    hmm = PYRO[HMM](TABLES[0], TABLES[1], table).double()
    hmm.loc = PyroSample(dist.Normal(torch.zeros(2), 3.0).to_event(1))
    x, before = torch.randn(3, 5), hmm.emission_table.params.detach().clone()
    fit = SVI(hmm, AutoNormal(hmm), Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(3):
        fit.step(x)
    now = hmm.emission_table.params.detach()
    assert torch.equal(now[:, 0], before[:, 0])
    assert not torch.equal(now[:, 1], before[:, 1])


def test_other_parameters_are_pyro_parameters_and_learn() -> None:
    hmm = a_chain(transition_probs=PyroSample(ROWS))
    before = {name: parameter.detach().clone() for name, parameter in hmm.named_parameters()}
    fit = SVI(hmm, AutoNormal(hmm), Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(2):
        fit.step(X)
    changed = {name for name, parameter in hmm.named_parameters() if not torch.equal(parameter.detach(), before[name])}
    assert changed == {"initial_logits", "emission_table.params"}
    assert {"initial_logits", "AutoNormal.locs.transition_probs"} <= set(pyro.get_param_store())


def test_a_constrained_parameter_is_one_of_pyros() -> None:
    hmm = a_chain(transition_probs=PyroParam(TABLES[1].double(), dist.constraints.simplex))
    plain = HMM(*(table.double() for table in TABLES))
    trace: Any = poutine.trace(hmm).get_trace(X)
    torch.testing.assert_close(trace.log_prob_sum(), plain.log_prob(X).sum())
    assert trace.nodes["transition_probs"]["type"] == "param"


def test_names_are_those_of_the_modules_around() -> None:
    class Root(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.chain = a_chain(transition_probs=PyroSample(ROWS))

        def forward(self, x: Tensor) -> Any:
            return self.chain.model(x)

    trace: Any = poutine.trace(Root()).get_trace(X)
    assert "chain.transition_probs" in trace.nodes


def test_random_attributes_may_be_drawn_side_by_side() -> None:
    hmm = a_chain(transition_probs=PyroSample(ROWS))
    guide = AutoNormal(hmm, init_scale=0.01)
    guide(X)
    for elbo, options in ((Trace_ELBO, {}), (TraceEnum_ELBO, {"rendering": "unrolled"})):
        losses = []
        for vectorize in (False, True):
            pyro.set_rng_seed(0)
            made = elbo(num_particles=100, vectorize_particles=vectorize, max_plate_nesting=1)
            losses.append(made.loss(hmm, guide, X, **options))
        assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_natural_attribute_is_read_as_every_random_one() -> None:
    hmm = a_chain(transition_probs=PyroSample(ROWS))
    assert not torch.equal(hmm.transition_probs, hmm.transition_probs)  # outside of a program, a draw at each reading
    torch.testing.assert_close(hmm.initial_probs, TABLES[0].double())

    class Root(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.chain = hmm

        def forward(self, x: Tensor) -> Any:
            self.chain.model(x)
            return self.chain.transition_probs

    trace: Any = poutine.trace(Root()).get_trace(X)
    assert torch.equal(trace.nodes["_RETURN"]["value"], trace.nodes["chain.transition_probs"]["value"])


def test_nuts_takes_a_module() -> None:
    hmm = a_chain(transition_probs=PyroSample(ROWS))
    hmm(X)  # outside of NUTS first, which decides how Pyro keeps its parameters
    result = mcmc.run(hmm.model, X, num_samples=3, num_warmup=3, progress=False)
    assert result.samples["transition_probs"].shape == (1, 3, 2, 2)


def test_models_with_a_guide_and_with_gaussian_states_are_modules_too() -> None:
    vrnn = PYRO[VRNN](obs_dim=2, latent_dim=1, hidden_dim=2).double()
    x = torch.randint(2, (3, 4, 2)).double()
    plain: Any = poutine.trace(vrnn.guide).get_trace(x)
    assert plain.nodes["z"]["value"].shape == (3, 4, 1)
    parts = (torch.zeros(2), torch.eye(2), 0.5 * torch.eye(2), torch.eye(2), torch.eye(2), torch.eye(2))
    lds = PYRO[LinearGaussianSSM](*parts)
    lds.transition_scale = PyroSample(dist.HalfNormal(torch.ones(2)).to_event(1))
    trace: Any = poutine.trace(lds).get_trace(torch.randn(3, 4, 2))
    assert bool(trace.log_prob_sum().isfinite())
    assert "transition_scale" in trace.nodes


def test_a_misspelt_random_attribute_is_an_error() -> None:
    hmm = a_chain(transition_prob=PyroSample(ROWS))
    with pytest.raises(
        ValueError, match="a parameter of PyroHMM as a random attribute, got 'transition_prob'; did you"
    ):
        hmm(X)


def test_a_model_of_ones_own_may_have_random_attributes_of_its_own() -> None:
    class Shifted(HMM, PyroModule):  # type: ignore[metaclass]
        def __init__(self) -> None:
            table = Gaussian().table(loc=torch.tensor([-1.0, 1.0]), scale=torch.tensor([1.0, 1.0]))
            super().__init__(TABLES[0].double(), TABLES[1].double(), table)
            self.drift = PyroSample(dist.Normal(0.0, 1.0))

        def emission_log_probs(self, x: Tensor) -> Tensor:
            drift: Any = self.drift
            return self.emission_table.log_probs(x - drift)

    x, model = torch.randn(3, 5), Shifted()
    trace: Any = poutine.trace(model).get_trace(x)
    drift = trace.nodes["drift"]["value"]
    plain = HMM(TABLES[0].double(), TABLES[1].double(), model.emission_table)
    expected = plain.log_prob(x - drift).sum() + dist.Normal(0.0, 1.0).log_prob(drift)
    torch.testing.assert_close(trace.log_prob_sum(), expected)
