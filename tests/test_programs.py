from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, Poisson
from tests.instances import (
    LENGTHS,
    draw,
    every_law,
    every_model,
    every_model_of_symbols,
    make_hmm,
    make_model,
    make_rnn,
    ragged,
)

every_rendering = pytest.mark.parametrize("rendering", ["fused", "unrolled"])


def trace_of(program: Any, *args: Any, **options: Any) -> Any:
    trace = poutine.trace(program).get_trace(*args, **options)
    trace.compute_log_prob()
    return trace


def sites(trace: Any) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Batch and event shape of every site that is not a parameter or a plate."""
    shapes = {}
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and name != "sequences":
            shapes[name] = (tuple(site["fn"].batch_shape), tuple(site["fn"].event_shape))
    return shapes


# The sites.


def test_the_unrolled_rnn_has_one_site_a_variable_and_step() -> None:
    rnn, x = make_rnn("gru", Gaussian(2)), ragged(Gaussian(2))
    expected: dict[str, object] = {}
    for t in range(1, 5):
        expected |= {f"h_{t}": ((3,), (3,)), f"x_{t}": ((3,), (2,))}
    for memory in ("deterministic", "sampled"):
        assert sites(trace_of(rnn.model, x, LENGTHS, rendering="unrolled", memory=memory)) == expected


def test_the_unrolled_hmm_has_one_site_a_variable_and_step() -> None:
    hmm, x = make_hmm(Gaussian(2)), ragged(Gaussian(2))
    expected: dict[str, object] = {}
    for t in range(1, 5):
        expected |= {f"z_{t}": ((3,), ()), f"x_{t}": ((3,), (2,))}
    trace = trace_of(hmm.model, x, LENGTHS, rendering="unrolled")
    assert sites(trace) == expected
    assert {trace.nodes[f"z_{t}"]["infer"]["enumerate"] for t in range(1, 5)} == {"parallel"}


def test_the_fused_renderings_have_one_site_a_variable() -> None:
    rnn, hmm, x = make_rnn("lstm", Gaussian(2)), make_hmm(Gaussian(2)), ragged(Gaussian(2))
    assert sites(trace_of(rnn.model, x, LENGTHS)) == {"h": ((3,), (4, 3)), "x": ((3,), (4, 2))}
    assert sites(trace_of(hmm.model, x, LENGTHS)) == {"x": ((3,), (4, 2))}


@every_rendering
def test_the_guide_supplies_the_sampled_memory_and_nothing_else(rendering: str) -> None:
    rnn, x = make_rnn("lstm", Gaussian(2)), ragged(Gaussian(2))
    model = sites(trace_of(rnn.model, x, LENGTHS, rendering=rendering, memory="sampled"))
    guide = sites(trace_of(rnn.guide, x, LENGTHS, rendering=rendering, memory="sampled"))
    assert guide == {name: shapes for name, shapes in model.items() if name.startswith("h")}
    assert sites(trace_of(rnn.guide, x, LENGTHS, rendering=rendering)) == {}
    assert sites(trace_of(make_hmm(Gaussian(2)).guide, x, LENGTHS, rendering=rendering, memory="sampled")) == {}


@every_rendering
def test_a_hidden_state_that_is_not_the_recurrences_is_impossible(rendering: str) -> None:
    rnn, x = make_rnn("gru", Gaussian()), draw(Gaussian(), 3, 4)
    guide = trace_of(rnn.guide, x, rendering=rendering, memory="sampled")
    site = "h" if rendering == "fused" else "h_3"
    for error, possible in ((0.0, True), (1e-9, False)):
        moved = poutine.condition(rnn.model, data={site: guide.nodes[site]["value"] + error})
        trace = trace_of(poutine.replay(moved, trace=guide), x, rendering=rendering, memory="sampled")
        assert bool(trace.log_prob_sum().isfinite()) == possible


def test_a_first_observation_that_is_conditioned_on_is_a_deterministic_site() -> None:
    rnn, x = make_rnn("gru", Gaussian()), draw(Gaussian(), 3, 4)
    trace = trace_of(rnn.model, x, rendering="unrolled", first="condition")
    assert trace.nodes["x_1"]["infer"]["_deterministic"]
    assert torch.equal(trace.nodes["x_1"]["value"], x[:, 0])
    assert bool(trace.nodes["x_1"]["log_prob_sum"] == 0)


@every_model
def test_steps_behind_a_sequences_length_are_masked(name: str) -> None:
    model, x = make_model(name, Poisson()), ragged(Poisson())
    trace = trace_of(model.model, x, LENGTHS, rendering="unrolled")
    for t in range(4):
        for site in (f"x_{t + 1}", f"z_{t + 1}"):
            if site in trace.nodes:
                beyond = t >= LENGTHS
                assert not trace.nodes[site]["log_prob"][beyond].any()
                assert trace.nodes[site]["log_prob"][~beyond].all()


# Drawing.


@every_law
def test_the_unrolled_program_draws_what_it_is_not_given(name: str, family: Emission) -> None:
    model = make_model(name, family)
    x = model.model(None, LENGTHS, rendering="unrolled")
    assert x.shape == (3, 4, *family.event_shape)
    model.check(x, LENGTHS)


@every_model_of_symbols
def test_a_drawn_trace_has_the_density_of_what_it_drew(name: str) -> None:
    model = make_model(name, Categorical(3))
    trace = trace_of(model.model, None, LENGTHS, rendering="unrolled")
    x = torch.stack([trace.nodes[f"x_{t}"]["value"] for t in range(1, 5)], 1)
    z = torch.stack([trace.nodes[f"z_{t}"]["value"] for t in range(1, 5)], 1) if model.has_latent else None
    torch.testing.assert_close(trace.log_prob_sum(), model.log_prob(x, z, LENGTHS).sum())


@pytest.mark.parametrize("options", [{}, {"rendering": "unrolled", "first": "condition"}])
def test_only_the_joint_unrolled_program_can_draw(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="only rendering='unrolled' with first='model' can draw them"):
        make_rnn("gru", Gaussian()).model(None, LENGTHS, **options)


def test_a_draw_needs_lengths() -> None:
    with pytest.raises(ValueError, match=r"expected lengths \(batch,\) where x is to be drawn, got None"):
        make_rnn("gru", Gaussian()).model(rendering="unrolled")


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        (torch.tensor([3, 0]), ValueError, "expected lengths .*got 0 at index 1"),
        (torch.tensor([0]), ValueError, "expected lengths .*got 0 at index 0"),
        (torch.tensor([2.0]), TypeError, "expected lengths as a tensor of integers, got torch.float"),
        ([3], TypeError, "expected lengths as a tensor of integers, got list"),
        (torch.ones(2, 2, dtype=torch.int64), ValueError, "expected lengths of shape"),
    ],
)
def test_the_lengths_of_a_draw_are_checked(lengths: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_rnn("gru", Gaussian()).model(None, lengths, rendering="unrolled")


# Bad options.


def test_a_guide_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="give x, on which the guide depends"):
        make_rnn("gru", Gaussian()).guide(None, LENGTHS, rendering="unrolled", memory="sampled")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rendering": "unroled"}, "expected rendering to be one of fused, unrolled, got 'unroled'; did you mean 'un"),
        ({"memory": "delta"}, "expected memory to be one of deterministic, sampled, got 'delta'"),
        ({"first": "joint"}, "expected first to be one of model, condition, got 'joint'"),
    ],
)
@pytest.mark.parametrize("program", ["model", "guide"])
@pytest.mark.parametrize("name", ["rnn-gru", "hmm"])
def test_an_unknown_option_is_an_error(name: str, program: str, options: dict[str, Any], message: str) -> None:
    model = make_model(name, Gaussian())
    with pytest.raises(ValueError, match=message):
        getattr(model, program)(ragged(Gaussian()), LENGTHS, **options)


@every_rendering
def test_observations_are_checked(rendering: Any) -> None:
    rnn = make_rnn("gru", Bernoulli())
    with pytest.raises(ValueError, match=r"expected bits 0 or 1, got 0.5 in sequence 0 at step 1"):
        rnn.model(torch.full((1, 2), 0.5), rendering=rendering)
    with pytest.raises(ValueError, match=r"expected bits 0 or 1, got 0.5 in sequence 0 at step 1"):
        rnn.guide(torch.full((1, 2), 0.5), rendering=rendering, memory="sampled")


@every_rendering
def test_a_program_does_not_touch_pyros_parameters_of_others(rendering: Any) -> None:
    pyro.param("mine", torch.tensor(1.0))
    rnn = make_rnn("gru", Gaussian())
    rnn.model(ragged(Gaussian()), LENGTHS, rendering=rendering)
    names = {name for name, _ in rnn.named_parameters()}
    assert set(pyro.get_param_store()) == {"mine"} | {f"{rnn.site_prefix}$$${name}" for name in names}
