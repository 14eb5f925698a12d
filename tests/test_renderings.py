"""One density, different sites: every rendering and every bound has the value and the gradient of `log_prob`."""

import warnings
from typing import Any

import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO, infer_discrete

from pgm_rnn.emissions import Categorical, Emission, Gaussian, Poisson
from pgm_rnn.models.hmm import HMM
from tests.definitions import all_words
from tests.instances import (
    LENGTHS,
    assert_same,
    draw,
    every_cell,
    every_exact_law,
    every_first,
    every_inexact_law,
    gradients,
    make_hmm,
    make_model,
    make_rnn,
    program_loss,
    ragged,
)

RENDERINGS = [("fused", "deterministic"), ("fused", "sampled"), ("unrolled", "deterministic"), ("unrolled", "sampled")]
every_rendering = pytest.mark.parametrize(("rendering", "memory"), RENDERINGS)


@every_first
@every_exact_law
def test_every_rendering_has_the_density_and_the_gradient_of_log_prob(name: str, family: Emission, first: Any) -> None:
    model, x = make_model(name, family), ragged(family)
    value = model.log_prob(x, lengths=LENGTHS, first=first).sum()
    expected = gradients(value, model)
    enumerable = not model.has_latent or isinstance(model, HMM)
    for rendering, memory in RENDERINGS if enumerable else RENDERINGS[:2]:
        loss = program_loss(model, x, LENGTHS, rendering=rendering, memory=memory, first=first)
        torch.testing.assert_close(-loss, value)
        assert_same(gradients(-loss, model), expected, rtol=1e-9, atol=1e-12)


@every_rendering
@every_cell
def test_stacked_layers_have_one_density_too(name: str, rendering: str, memory: str) -> None:
    rnn, x = make_rnn(name, Poisson(2), num_layers=2), ragged(Poisson(2))
    value = rnn.log_prob(x, lengths=LENGTHS).sum()
    loss = program_loss(rnn, x, LENGTHS, rendering=rendering, memory=memory)
    torch.testing.assert_close(-loss, value)
    assert_same(gradients(-loss, rnn), gradients(value, rnn), rtol=1e-9, atol=1e-12)


@every_rendering
@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
@pytest.mark.parametrize("options", [{}, {"num_particles": 3, "vectorize_particles": True, "max_plate_nesting": 1}])
@every_cell
def test_every_bound_and_every_number_of_particles_is_the_log_likelihood(
    name: str, options: dict[str, Any], elbo: Any, rendering: str, memory: str
) -> None:
    rnn, x = make_rnn(name, Gaussian(2), num_layers=2), ragged(Gaussian(2))
    value = rnn.log_prob(x, lengths=LENGTHS).sum()
    loss = elbo(**options).differentiable_loss(rnn.model, rnn.guide, x, LENGTHS, rendering=rendering, memory=memory)
    torch.testing.assert_close(-loss, value)
    assert_same(gradients(-loss, rnn), gradients(value, rnn), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
def test_the_fused_hmm_works_with_vectorised_particles(elbo: Any) -> None:
    hmm, x = make_hmm(Gaussian(2)), ragged(Gaussian(2))
    bound = elbo(num_particles=3, vectorize_particles=True, max_plate_nesting=1)
    loss = bound.differentiable_loss(hmm.model, hmm.guide, x, LENGTHS)
    torch.testing.assert_close(-loss, hmm.log_prob(x, lengths=LENGTHS).sum())


def test_enumeration_works_with_vectorised_particles() -> None:
    hmm, x = make_hmm(Gaussian(2)), ragged(Gaussian(2))
    bound = TraceEnum_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1)
    loss = bound.differentiable_loss(hmm.model, hmm.guide, x, LENGTHS, rendering="unrolled")
    torch.testing.assert_close(-loss, hmm.log_prob(x, lengths=LENGTHS).sum())


def test_pyros_most_likely_states_are_those_of_the_best_path() -> None:
    hmm, x = make_hmm(Categorical(3), num_states=3), draw(Categorical(3), 4, 4)
    paths = all_words(3, 4)
    decoded = infer_discrete(hmm.model, first_available_dim=-2, temperature=0)
    trace: Any = poutine.trace(decoded).get_trace(x, rendering="unrolled")
    states = torch.stack([trace.nodes[f"z_{t}"]["value"] for t in range(1, 5)], 1)
    scores = torch.stack([hmm.log_prob(row.expand(len(paths), -1), paths) for row in x])
    assert torch.equal(states, paths[scores.argmax(1)])


@every_first
def test_enumeration_reaches_beyond_25_steps(first: Any) -> None:
    family, lengths = Categorical(3), torch.tensor([30, 27])
    hmm, x = make_hmm(family), ragged(Categorical(3), torch.tensor([30, 27]))
    loss = program_loss(hmm, x, lengths, rendering="unrolled", first=first)
    torch.testing.assert_close(-loss, hmm.log_prob(x, lengths=lengths, first=first).sum())


def test_impossible_states_have_no_weight_in_either_rendering() -> None:
    hmm, x = make_hmm(Categorical(3)), draw(Categorical(3), 2, 4)
    with torch.no_grad():
        hmm.transition_logits[0, 1] = hmm.emission_table.params[0, 2] = -torch.inf
    losses = [program_loss(hmm, x, rendering=rendering) for rendering in ("fused", "unrolled")]
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("rendering", ["fused", "unrolled"])
@pytest.mark.parametrize("first", ["model", "condition"])
def test_a_float64_model_runs_where_float32_is_torchs_default(rendering: str, first: str) -> None:
    model = make_model("rnn-gru", Categorical(3))
    torch.set_default_dtype(torch.float32)
    x = torch.tensor([[0, 1, 2], [1, 1, 0]])
    for elbo in (Trace_ELBO(), TraceMeanField_ELBO(), TraceEnum_ELBO(max_plate_nesting=1)):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "TraceEnum_ELBO found no sample sites configured for enumeration")
            loss = elbo.loss(model.model, model.guide, x, rendering=rendering, first=first)
        exact = float(model.log_prob(x, first=first).sum().detach())  # type: ignore[arg-type]
        assert loss == pytest.approx(-exact, rel=1e-12)


@every_inexact_law
@pytest.mark.parametrize("part", ["model", "guide"])
def test_fused_and_unrolled_states_have_one_density_and_one_gradient(name: str, family: Emission, part: str) -> None:
    """The same states, as one site and as a site a step, under the model and under its guide."""
    model, x = make_model(name, family), ragged(family)
    drawn: Any = poutine.trace(model.guide).get_trace(x, LENGTHS).nodes["z"]["value"]
    latent, program = drawn.detach(), getattr(model, part)

    def density(rendering: str, values: dict[str, torch.Tensor]) -> torch.Tensor:
        trace: Any = poutine.trace(poutine.condition(program, values)).get_trace(x, LENGTHS, rendering=rendering)
        total: torch.Tensor = trace.log_prob_sum()
        return total

    fused = density("fused", {"z": latent})
    unrolled = density("unrolled", {f"z_{t + 1}": z for t, z in enumerate(latent.unbind(1))})
    torch.testing.assert_close(fused, unrolled)
    assert_same(gradients(fused, model), gradients(unrolled, model), rtol=1e-7, atol=1e-9)
    shifted = density("unrolled", {f"z_{t + 1}": z for t, z in enumerate(latent.roll(1, 0).unbind(1))})
    assert not torch.allclose(fused, shifted)
