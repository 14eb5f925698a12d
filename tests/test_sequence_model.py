import inspect
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.sequence_model import SequenceModel
from tests.instances import LENGTHS, draw, gradients, make_hmm, make_rnn, ragged, spoiled
from tests.latent_toy import LatentToy


def values() -> tuple[Tensor, Tensor]:
    """Observations and latent states of a ragged batch."""
    return ragged(Gaussian()), ragged(Gaussian(), seed=1)


def expected_log_prob(toy: LatentToy, x: Tensor, z: Tensor) -> Tensor:
    rows = zip(x.tolist(), z.tolist(), LENGTHS.tolist(), strict=True)
    return torch.tensor([toy.log_prob_written_out(x_i[:n], z_i[:n]) for x_i, z_i, n in rows])


def test_the_joint_density_is_the_product_of_initial_transition_and_emission() -> None:
    toy, (x, z) = LatentToy(), values()
    torch.testing.assert_close(toy.log_prob(x, z, LENGTHS).detach(), expected_log_prob(toy, x, z))


def test_latent_states_in_the_padding_are_never_read() -> None:
    toy, (x, z) = LatentToy(), values()
    clean = toy.log_prob(x, z, LENGTHS)
    dirty = toy.log_prob(spoiled(x, LENGTHS, torch.nan), spoiled(z, LENGTHS, torch.nan), LENGTHS)
    assert torch.equal(clean, dirty)
    for a, b in zip(gradients(clean.sum(), toy).values(), gradients(dirty.sum(), toy).values(), strict=True):
        assert torch.equal(a, b)


def test_the_unrolled_program_has_the_joint_density() -> None:
    toy, (x, z) = LatentToy(), values()
    latents = {f"z_{t + 1}": z[:, t] for t in range(4)}
    program = poutine.condition(toy.model, data=latents)
    trace: Any = poutine.trace(program).get_trace(x, LENGTHS, rendering="unrolled")
    torch.testing.assert_close(trace.log_prob_sum().detach(), expected_log_prob(toy, x, z).sum())


def test_the_fused_program_has_the_same_density_with_all_latent_values_at_one_site() -> None:
    toy, (x, z) = LatentToy(), values()
    for memory in ("deterministic", "sampled"):
        guide: Any = poutine.trace(poutine.condition(toy.guide, data={"z": z})).get_trace(x, LENGTHS, memory=memory)
        program = poutine.replay(poutine.condition(toy.model, data={"z": z}), trace=guide)
        trace: Any = poutine.trace(program).get_trace(x, LENGTHS, memory=memory)
        torch.testing.assert_close(trace.log_prob_sum().detach(), expected_log_prob(toy, x, z).sum())


def test_draws_of_a_latent_model_have_states_and_a_finite_density() -> None:
    batch = LatentToy().sample(5, 4, seed=0)
    assert batch.z is not None
    assert batch.x.shape == batch.z.shape == (5, 4)
    assert LatentToy().log_prob(batch.x, batch.z).isfinite().all()


def test_draws_follow_the_law_and_not_another() -> None:
    limit, num = 5.0, 20_000  # standard errors, draws
    batch = LatentToy().sample(num, 2, seed=0)
    assert batch.z is not None
    x_1, z_1, z_2 = batch.x[:, 0], batch.z[:, 0], batch.z[:, 1]
    noise = z_2 - z_1 / 2 - torch.tanh(0.7 * torch.tensor(0.3) + z_1 + x_1)  # standard normal by definition
    assert abs(float(noise.mean())) * num**0.5 < limit
    assert abs(float(noise.square().mean()) - 1) * (num / 2) ** 0.5 < limit
    without_input = z_2 - z_1 / 2 - torch.tanh(0.7 * torch.tensor(0.3) + z_1)
    assert abs(float(without_input.square().mean()) - 1) * (num / 2) ** 0.5 > limit


def test_what_has_no_closed_form_is_an_error_in_one_sentence() -> None:
    toy, (x, z) = LatentToy(), values()
    with pytest.raises(ValueError, match=r"LatentToy has no exact likelihood; estimate it by smc\.filter or bound"):
        toy.log_marginal_likelihood(x, LENGTHS)
    with pytest.raises(ValueError, match="LatentToy has no exact likelihood"):
        toy.log_prob(x, None, LENGTHS)
    with pytest.raises(ValueError, match=r"LatentToy has no exact filter to forecast from; use smc\.forecast"):
        toy.forecast(x, 2)
    with pytest.raises(ValueError, match=r"needs p\(z_1 \| x_1\), which LatentToy does not have in closed form"):
        toy.log_prob(x, z, LENGTHS, first="condition")
    with pytest.raises(ValueError, match=r"needs p\(z_1 \| x_1\), which LatentToy does not have in closed form"):
        toy.model(x, LENGTHS, rendering="unrolled", first="condition")


@pytest.mark.parametrize("shape", [(3,), (3, 5), (2, 4)])
def test_latent_states_of_another_shape_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected z of shape \(3, 4\) \+ latent shape, got"):
        LatentToy().log_prob(ragged(Gaussian()), torch.zeros(shape), LENGTHS)


def test_lengths_in_the_place_of_states_are_named() -> None:
    with pytest.raises(ValueError, match=r"latent shape, got \(3,\); lengths come after z, or as lengths="):
        LatentToy().log_prob(ragged(Gaussian()), LENGTHS)


def test_latent_states_that_are_no_tensor_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected z of shape \(3, 4\) \+ latent shape, got"):
        LatentToy().log_prob(ragged(Gaussian()), [[0.0]], LENGTHS)  # type: ignore[arg-type]


def test_a_model_without_memory_or_latent_state_says_so() -> None:
    hmm, rnn = make_hmm(Categorical(3)), make_rnn("gru", Categorical(3))
    symbol = torch.tensor(0)
    with pytest.raises(NotImplementedError, match="HMM has no memory"):
        hmm.recurrence(torch.zeros(1), symbol, symbol)
    with pytest.raises(NotImplementedError, match="RNN has no latent state"):
        rnn.initial(None)
    with pytest.raises(NotImplementedError, match="RNN has no latent state"):
        rnn.transition(symbol, None)


def test_the_interface_itself_cannot_be_instantiated() -> None:
    with pytest.raises(TypeError, match="abstract"):
        SequenceModel(Gaussian())  # type: ignore[abstract]


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (-1, 3), (2.0, 3)])
def test_draws_have_at_least_one_sequence_and_one_step(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"expected num_(sequences|steps) to be an integer of at least 1, got"):
        make_hmm(Categorical(3)).sample(*sizes)


@pytest.mark.parametrize(("num_steps", "num_samples"), [(0, None), (1, 0), (1.5, None), (1, -1)])
def test_forecasts_have_at_least_one_step_and_one_sample(num_steps: int, num_samples: int | None) -> None:
    with pytest.raises(ValueError, match=r"expected num_(samples|steps) to be an integer of at least 1, got"):
        make_hmm(Categorical(3)).forecast(draw(Categorical(3), 2, 3), num_steps, num_samples=num_samples)


def test_a_model_that_conditions_on_the_first_observation_cannot_draw_it() -> None:
    with pytest.raises(ValueError, match="got first='condition', which has no law of x_1 to draw from; use forecast"):
        make_rnn("gru", Categorical(3), first="condition").sample(2, 3)


def test_two_models_have_different_names_in_pyros_parameter_store() -> None:
    one, other = make_rnn("gru", Categorical(3)), make_rnn("gru", Categorical(3), seed=1)
    x = draw(Categorical(3), 2, 3)
    one.model(x)
    other.model(x)
    assert len(pyro.get_param_store()) == 2 * len(list(one.parameters()))


def test_module_local_parameters_stay_out_of_pyros_parameter_store() -> None:
    rnn = make_rnn("gru", Categorical(3))
    with pyro.settings.context(module_local_params=True):
        rnn.model(draw(Categorical(3), 2, 3))
    assert len(pyro.get_param_store()) == 0


def test_the_programs_return_the_observations() -> None:
    rnn, x = make_rnn("gru", Gaussian()), ragged(Gaussian())
    assert torch.equal(rnn.model(x), x)
    assert torch.equal(rnn.model(x, rendering="unrolled"), x)


def test_the_interface_is_small() -> None:
    own = {name for base in SequenceModel.__mro__[: SequenceModel.__mro__.index(nn.Module)] for name in vars(base)}
    public = {name for name in own if not name.startswith("_") and callable_or_property(name)}
    assert len(public) <= 19, sorted(public)


def callable_or_property(name: str) -> bool:
    found = inspect.getattr_static(SequenceModel, name)
    return callable(found) or isinstance(found, property | staticmethod | classmethod)
