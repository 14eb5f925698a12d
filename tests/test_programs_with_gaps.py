"""The Pyro programs with missing observations."""

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import mcmc
from pgm_rnn.inference.registry import one_prior
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from tests import instances
from tests.instances import draw, make_hmm, make_model
from tests.missing import LENGTHS, MASKS, Mask, chain_log_prob, observed, reshaped, with_gaps


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ["dmm", "noisy-rnn"])
def test_both_renderings_have_the_density_of_what_was_observed(name: str, mask: Mask) -> None:
    model, data = make_model(name, Gaussian(2)), with_gaps(Gaussian(2), mask)
    z = model.sample(3, 5, seed=2).z
    assert z is not None
    fused: Any = poutine.trace(poutine.condition(model.model, data={"z": z})).get_trace(data)
    each = {f"z_{t + 1}": z[:, t] for t in range(5)}
    unrolled: Any = poutine.trace(poutine.condition(model.model, data=each)).get_trace(data, rendering="unrolled")
    wanted = model.log_prob(data, z).sum()
    for trace in (fused, unrolled):
        trace.compute_log_prob()
    torch.testing.assert_close(fused.log_prob_sum(), wanted)
    torch.testing.assert_close(unrolled.log_prob_sum(), wanted)
    assert unrolled.nodes["x_2"]["is_observed"]
    assert torch.equal(unrolled.nodes["x_2"]["log_prob"], torch.zeros(3))


def test_both_renderings_of_a_guide_have_the_density_of_all_states_missing_steps_included() -> None:
    model, data = make_model("dmm", Gaussian(2)), with_gaps(Gaussian(2), "entry")
    z = model.sample(3, 5, seed=2).z
    assert z is not None
    each, found = {f"z_{t + 1}": z[:, t] for t in range(5)}, []
    for values, rendering in (({"z": z}, "fused"), (each, "unrolled")):
        trace: Any = poutine.trace(poutine.condition(model.guide, data=values)).get_trace(data, rendering=rendering)
        found.append(trace.log_prob_sum())
    torch.testing.assert_close(*found)
    whole: Any = poutine.trace(poutine.condition(model.guide, data={"z": z})).get_trace(data.x, data.lengths)
    assert not torch.allclose(whole.log_prob_sum(), found[0])  # its features read what stands there


def test_a_mask_for_observations_that_are_to_be_drawn_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected no mask where x is to be drawn, got one"):
        make_hmm(Gaussian(2)).model(None, LENGTHS, rendering="unrolled", mask=observed(Gaussian(2), "step"))


@pytest.mark.parametrize("rendering", ["fused", "unrolled"])
def test_the_elbo_of_the_programs_with_enumeration_is_exact_with_gaps(rendering: str) -> None:
    model, data = make_hmm(Gaussian(2)), with_gaps(Gaussian(2), "entry")
    loss = instances.program_loss(model, data.x, data.lengths, mask=data.mask, rendering=rendering)
    torch.testing.assert_close(-loss.detach(), chain_log_prob(model, data).sum())


@pytest.mark.parametrize("name", ["hmm", "dmm"])
def test_draws_of_parameters_side_by_side_have_the_density_of_one_draw(name: str) -> None:
    model, data = make_model(name, Gaussian(2)), with_gaps(Gaussian(2), "entry")
    program, z = one_prior(model), model.sample(3, 5, seed=2).z
    [(parameter, law)] = program.priors.items()
    draws = law.sample((2,))
    states: dict[str, Any] = {} if model.exact else {"z": z}

    def density(value: Tensor) -> Tensor:
        given = poutine.condition(program, data={parameter: value, **states})
        trace: Any = poutine.trace(given).get_trace(data.x, data.lengths, mask=data.mask)
        trace.compute_log_prob()
        return trace.nodes["x"]["log_prob"].detach()

    together = density(draws[:, None])
    torch.testing.assert_close(together, torch.stack([density(value) for value in draws]))


def test_nuts_takes_a_mask_or_nan_alike() -> None:
    """The density that it sees is in the table of gaps."""
    model, data = make_hmm(Gaussian(2)), with_gaps(Gaussian(2), "entry")
    program = one_prior(model)
    found = mcmc.run(program, data.x, data.lengths, mask=data.mask, num_samples=5, num_warmup=5, progress=False)
    same = mcmc.run(
        program, data.x.where(data.mask, torch.nan), data.lengths, num_samples=5, num_warmup=5, progress=False
    )
    [(name, draws)] = found.samples.items()
    assert torch.equal(draws, same.samples[name])
    whole = mcmc.run(program, data.x, data.lengths, num_samples=5, num_warmup=5, progress=False)
    assert not torch.equal(draws, whole.samples[name])


class Noise(SequenceModel):
    """x_t ~ N(m, 1): neither states nor memory, and one law for all steps."""

    def __init__(self) -> None:
        super().__init__(Gaussian(2))
        self.m = nn.Parameter(torch.tensor([1.0, -1.0]))

    def emission(self, z: Any, h: Any) -> Any:
        return dist.Normal(self.m, 1.0).to_event(1)


@pytest.mark.parametrize("mask", [*MASKS, None])
def test_observations_without_states_or_memory_leave_out_what_is_missing(mask: Mask | None) -> None:
    data = Sequences(draw(Gaussian(2), 3, 5), LENGTHS) if mask is None else with_gaps(Gaussian(2), mask)
    model, there = Noise(), reshaped(data.mask, data.x).expand(3, 5, 2)
    wanted = dist.Normal(model.m, 1.0).log_prob(data.x).where(there, 0.0).sum((1, 2))
    torch.testing.assert_close(model.log_prob(data), wanted)
    for rendering in ("fused", "unrolled"):
        trace: Any = poutine.trace(model.model).get_trace(data, rendering=rendering)
        torch.testing.assert_close(trace.log_prob_sum(), wanted.sum())
