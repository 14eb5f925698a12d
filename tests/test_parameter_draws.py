"""Draws of the parameters side by side: both renderings, each model, equal to each draw alone, and in one call."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoNormal, AutoStructured
from pyro.infer.inspect import get_dependencies, get_model_relations
from torch import Tensor, nn

from pgm_rnn.distributions import InverseWishart
from pgm_rnn.emissions import Emission, Gaussian
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.draws import Draws, Rows
from pgm_rnn.sequence_model.priors import WithPriors
from pgm_rnn.states import FiniteStates
from tests.cases import every
from tests.instances import LENGTHS, every_law, make_model, ragged, some_family
from tests.test_priors import any_prior

DRAW_BY_DRAW = {"particle-filter-rnn"}
"""Models whose code reads the values of tensors, and so cannot be mapped."""


def some_model(name: str, **options: Any) -> tuple[SequenceModel, Tensor]:
    family = some_family(name)
    return make_model(name, family, **options), ragged(family)


def sites(program: Any, x: Tensor, **options: Any) -> dict[str, Any]:
    trace: Any = poutine.trace(program).get_trace(x, LENGTHS, **options)
    trace.compute_log_prob()
    return {
        name: site for name, site in trace.nodes.items() if site["type"] == "sample" and name[:2] in ("z_", "x_", "h_")
    }


@pytest.mark.parametrize("first", ["model", "condition"])
@every("model")
def test_unrolled_draws_side_by_side_have_the_density_of_each_alone(name: str, first: Any) -> None:
    model, x = some_model(name, first=first)
    if first == "condition" and model.has_latent and not model.exact:
        pytest.skip("no p(z_1 | x_1)")
    parameter, prior = any_prior(model)
    program, draws = WithPriors(model, {parameter: prior}), prior.sample(torch.Size([2, 3]))
    with pyro.plate("outer", 2, dim=-3), pyro.plate("inner", 3, dim=-2):
        together = sites(poutine.condition(program, {parameter: draws[:, :, None]}), x, rendering="unrolled")
    states = {site: found["value"] for site, found in together.items() if site.startswith("z_")}
    differ = 0.0
    for index in ((0, 0), (0, 2), (1, 1)):
        own = {parameter: draws[index]} | {site: value[index] for site, value in states.items()}
        alone = sites(poutine.condition(program, own), x, rendering="unrolled")
        for site, found in together.items():
            expected = alone[site]["log_prob"]
            torch.testing.assert_close(found["log_prob"].expand(2, 3, len(x))[index], expected)
            if site.startswith("h_"):
                torch.testing.assert_close(
                    found["value"].expand(2, 3, *alone[site]["value"].shape)[index], alone[site]["value"]
                )
            differ = max(differ, float((found["log_prob"].detach().expand(2, 3, len(x)).std(1)).max()))
    assert differ > 1e-6  # the parameter counts


@pytest.fixture
def drawn_alone(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The indices of draws that were computed alone; the first one always is, to see what the laws look like."""
    found: set[int] = set()
    one_at_a_time = Draws._one

    def noted(draws: Draws, index: int, *rest: Any) -> Any:
        found.add(index)
        return one_at_a_time(draws, index, *rest)

    monkeypatch.setattr(Draws, "_one", noted)
    return found


def run_three_draws(model: SequenceModel, x: Tensor, rendering: Any) -> None:
    parameter, prior = any_prior(model)
    program = WithPriors(model, {parameter: prior})
    with pyro.plate("draws", 3, dim=-2):
        sites(poutine.condition(program, {parameter: prior.sample(torch.Size([3, 1]))}), x, rendering=rendering)


@every_law
def test_draws_are_computed_in_one_call(name: str, family: Emission, drawn_alone: set[int]) -> None:
    run_three_draws(make_model(name, family), ragged(family), "fused")
    assert drawn_alone == ({0, 1, 2} if name in DRAW_BY_DRAW else {0})


@every("model")
def test_unrolled_draws_are_computed_in_one_call(name: str, drawn_alone: set[int]) -> None:
    run_three_draws(*some_model(name), "unrolled")
    assert drawn_alone == ({0, 1, 2} if name in DRAW_BY_DRAW else {0})


class Switching(SequenceModel):
    """x_t ~ N(a_z x_{t-1}, s_z^2) with laws that check their parameters, as a reader would write it."""

    def __init__(self) -> None:
        super().__init__(Gaussian(1))
        self.states = FiniteStates(2)
        self.register_buffer("initial_memory", torch.zeros(1))
        self.start, self.moves = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.randn(2, 2))
        self.a, self.raw = nn.Parameter(torch.randn(2, 1)), nn.Parameter(torch.randn(2, 1))

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        return x

    def initial(self, h: Tensor) -> Any:
        return dist.Categorical(logits=self.start, validate_args=True)

    def transition(self, z: Tensor, h: Tensor) -> Any:
        return dist.Categorical(logits=self.moves[z])

    def emission(self, z: Tensor, h: Tensor) -> Any:
        return dist.Normal(self.a[z] * h, self.raw[z].exp()).to_event(1)


@pytest.mark.parametrize("rendering", ["fused", "unrolled"])
def test_a_model_of_ones_own_is_computed_in_one_call(rendering: Any, drawn_alone: set[int]) -> None:
    model, x = Switching().double(), torch.randn(3, 4, 1)
    program, draws = WithPriors(model, {"a": dist.Normal(torch.zeros(2, 1), 1.0)}), torch.randn(3, 2, 1)
    with pyro.plate("draws", 3, dim=-2):
        trace: Any = trace_of(program, {"a": draws[:, None]}, x, rendering)
        trace.compute_log_prob()
    assert drawn_alone == {0}
    if rendering == "fused":
        expected = torch.stack([program.model_at({"a": draw}).log_prob(x) for draw in draws])
        torch.testing.assert_close(trace.nodes["x"]["log_prob"], expected)


@pytest.mark.parametrize("name", ["hmm", "lgssm", "rnn-gru", "vrnn", "dmm", "noisy-rnn"])
@pytest.mark.parametrize("rendering", ["fused", "unrolled"])
def test_gradients_of_draws_side_by_side_are_those_of_each_alone(name: str, rendering: Any) -> None:
    model, x = some_model(name)
    parameter, prior = any_prior(model)
    program, draws = WithPriors(model, {parameter: prior}), prior.sample(torch.Size([3])).requires_grad_()
    with pyro.plate("draws", 3, dim=-2):
        drawn = trace_of(program, {parameter: draws[:, None]}, x, rendering).nodes
        states = {site: found["value"].detach() for site, found in drawn.items() if site == "z" or site[:2] == "z_"}
        together = trace_of(program, {parameter: draws[:, None], **states}, x, rendering).log_prob_sum()
    rows = [{parameter: draw} | {site: value[i] for site, value in states.items()} for i, draw in enumerate(draws)]
    each = torch.stack([trace_of(program, row, x, rendering).log_prob_sum() for row in rows]).sum()
    torch.testing.assert_close(together, each)
    (found,), (expected,) = (torch.autograd.grad(value, draws) for value in (together, each))
    torch.testing.assert_close(found, expected)


def trace_of(program: Any, values: dict[str, Tensor], x: Tensor, rendering: Any) -> Any:
    return poutine.trace(poutine.condition(program, values)).get_trace(x, rendering=rendering)


def test_natural_parameters_may_be_drawn_side_by_side() -> None:
    model = LinearGaussianSSM.random(2, 2, seed=0).double()
    x, law = model.sample(3, 4, seed=1).x, InverseWishart(5.0, torch.eye(2))
    program, draws = WithPriors(model, {"transition_cov": law}), law.sample((4,))
    with pyro.plate("draws", 4, dim=-2):
        together: Any = poutine.trace(poutine.condition(program, {"transition_cov": draws[:, None]})).get_trace(x)
    found = together.nodes["x"]["fn"].log_prob(x)
    torch.testing.assert_close(
        found, torch.stack([program.model_at({"transition_cov": cov}).log_prob(x) for cov in draws])
    )


def test_inputs_are_shared_by_all_draws() -> None:
    model = LinearGaussianSSM.random(2, 2, input_dim=1, seed=0).double()
    x, inputs = torch.randn(3, 4, 2), torch.randn(3, 4, 1)
    draws = 0.3 * torch.randn(3, 2, 2)
    program = WithPriors(model, {"transition_matrix": dist.Normal(torch.zeros(2, 2), 1.0)})
    expected = torch.stack([program.model_at({"transition_matrix": draw}).log_prob(x, inputs=inputs) for draw in draws])
    with pyro.plate("draws", 3, dim=-2):
        conditioned = poutine.condition(program, {"transition_matrix": draws[:, None]})
        fused: Any = poutine.trace(conditioned).get_trace(x, inputs=inputs)
        unrolled: Any = poutine.trace(conditioned).get_trace(x, inputs=inputs, rendering="unrolled")
    torch.testing.assert_close(fused.nodes["x"]["fn"].log_prob(x), expected)
    assert unrolled.nodes["z_2"]["value"].shape == (3, 3, 2)


def test_enumeration_sums_the_states_out_in_each_draw() -> None:
    model = HMM.random(2, 3, seed=0).double()
    x, law = model.sample(3, 4, seed=1).x, dist.Dirichlet(torch.ones(2, 2).double()).to_event(1)
    program = WithPriors(model, {"transition_probs": law})
    guide = AutoNormal(program, init_scale=0.5)
    guide(x)
    bounds = []
    kinds: list[tuple[Any, str]] = [(Trace_ELBO, "fused"), (TraceEnum_ELBO, "unrolled")]
    for kind, rendering in kinds:
        pyro.set_rng_seed(0)
        elbo = kind(num_particles=5, vectorize_particles=True, max_plate_nesting=1)
        bounds.append(elbo.loss(program, guide, x, rendering=rendering))
    assert bounds[1] == pytest.approx(bounds[0], rel=1e-9)


def test_observations_are_drawn_under_each_draw_of_the_parameters() -> None:
    table = Gaussian().table(loc=torch.zeros(1), scale=torch.full((1,), 0.01))
    model = HMM(torch.ones(1), torch.ones(1, 1), table)
    program = WithPriors(model, {"loc": dist.Normal(torch.zeros(1), 100.0)})
    given = {"loc": torch.tensor([[-50.0], [0.0], [50.0]])}
    drawn = Predictive(program, given, parallel=True)(None, torch.tensor([3, 3]), rendering="unrolled")
    assert drawn["x_2"].shape == (3, 2)
    assert float((drawn["x_2"] - given["loc"]).abs().max()) < 1


def test_a_value_under_draws_goes_to_each_draw_and_back() -> None:
    draws = Draws(HMM.random(2, 3, seed=0), {"initial_logits": torch.zeros(6, 2)}, torch.Size([2, 3]))
    value = torch.randn(4, 2, 3, 5, 7)  # two axes of its own, one of enumeration
    rows = draws.rows(value, 2)
    assert isinstance(rows.value, Tensor)
    assert rows.value.shape == (6, 4, 5, 7)
    torch.testing.assert_close(draws.arranged(rows.value, 2), value)
    assert draws.rows(value[:, :1, :1], 2).axis is None  # the same for all draws
    assert draws.rows(torch.randn(5, 7), 2).at(3).shape == (5, 7)  # type: ignore[union-attr]
    assert draws.rows(None, 2) == Rows(None)


@pytest.mark.parametrize("name", ["hmm", "lgssm"])
@pytest.mark.parametrize("rendering", ["fused", "unrolled"])
def test_the_graph_of_a_program_has_its_parameters(name: str, rendering: Any) -> None:
    model, x = some_model(name)
    parameter = {"hmm": "transition_probs", "lgssm": "transition_cov"}[name]
    law: Any = dist.Dirichlet(torch.ones(2, 2)) if name == "hmm" else InverseWishart(5.0, torch.eye(2))
    program = WithPriors(model, {parameter: law})
    found: Any = get_dependencies(program, (x,), {"rendering": rendering})["prior_dependencies"]
    children = {site for site, parents in found.items() if parameter in parents and site != parameter}
    assert children == ({"x"} if rendering == "fused" else {f"z_{t}" for t in range(2, x.shape[1] + 1)})
    relations = get_model_relations(program, (x,), {"rendering": rendering})
    assert parameter in relations["sample_sample"]


def test_a_picture_of_a_program_has_its_parameters() -> None:
    pytest.importorskip("graphviz")
    model, x = some_model("hmm")
    program = WithPriors(model, {"transition_probs": dist.Dirichlet(torch.ones(2, 2))})
    assert "transition_probs -> x" in pyro.render_model(program, (x,)).source


@pytest.mark.parametrize("name", ["hmm", "lgssm", "vrnn"])
def test_structured_guides_take_a_program(name: str) -> None:
    pyro.clear_param_store()
    model, x = some_model(name)
    parameter, prior = any_prior(model)
    program = WithPriors(model, {parameter: prior})
    guide = AutoStructured(program, conditionals="mvn", dependencies="linear")
    guide(x)
    trace: Any = poutine.trace(guide).get_trace(x)
    replayed: Any = poutine.trace(poutine.replay(program, trace=trace)).get_trace(x)
    assert bool(replayed.log_prob_sum().isfinite())
    assert trace.nodes[parameter]["value"].shape == prior.event_shape + prior.batch_shape
