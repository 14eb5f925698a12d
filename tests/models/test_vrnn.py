import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgm_rnn.distributions.normal import Normal
from pgm_rnn.emissions import Bernoulli, Categorical, Gaussian
from pgm_rnn.inference import smc, svi
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.vrnn import VRNN
from pgm_rnn.sequence_model import StateLaw
from tests.instances import LENGTHS, assert_same, gradients, ragged, randomised

every_cell = pytest.mark.parametrize("cell", CELLS)


def vrnn(cell: str = "gru", seed: int = 0) -> VRNN:
    torch.manual_seed(seed)
    return randomised(VRNN(latent_dim=2, hidden_dim=3, feature_dim=4, emission=Gaussian(2), cell=cell), seed)


def parts(network: Any) -> Any:
    """The modules of a network in their order."""
    return list(network)


def normal_log_prob(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return (-(((x - loc) / scale) ** 2) / 2 - scale.log() - math.log(2 * math.pi) / 2).sum(-1)


def halves(raw: Tensor) -> tuple[Tensor, Tensor]:
    loc, raw_scale = raw.chunk(2, -1)
    return loc, F.softplus(raw_scale)


@every_cell
def test_its_density_is_the_notes_written_out_step_by_step(cell: str) -> None:
    model, x, z = vrnn(cell), torch.randn(3, 4, 2), torch.randn(3, 4, 2)
    state, total = model.initial_memory.expand(3, -1), torch.zeros(3)
    weight, bias = model.hidden.cell.project(torch.eye(4)), model.hidden.cell.project(torch.zeros(4))
    for t in range(4):
        h = state[:, :3]
        phi_z = model.phi_z(z[:, t])
        prior = halves(parts(model.prior)[1].linear(parts(model.prior)[0](h)))
        decoder = parts(model.decoder)[0](torch.cat([phi_z, h], -1))
        emission = halves(decoder @ parts(model.decoder)[1].weight.T + parts(model.decoder)[1].bias)
        total = total + normal_log_prob(z[:, t], *prior) + normal_log_prob(x[:, t], *emission)
        phi_x = model.phi_x(x[:, t])
        joint = torch.cat([(weight - bias).T, model.hidden.from_z.weight], -1) @ torch.cat([phi_x, phi_z], -1).T
        state = model.hidden.cell.advance(joint.T + bias, state)
    torch.testing.assert_close(model.log_prob(x, z), total)


@pytest.mark.parametrize("cell", [name for name in CELLS if name not in ("deep-transition", "min-gru", "lru")])
def test_its_own_loop_draws_what_the_steps_draw(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = vrnn(cell), ragged(Gaussian(2))

    def draw() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        torch.manual_seed(3)
        law = StateLaw(model, x, LENGTHS, "model", guide=True)
        z = law.rsample()
        value = law.log_prob(z)
        return z, value, gradients(value.sum() + z.square().sum(), model)

    drawn, value, slopes = draw()
    monkeypatch.setattr(VRNN, "draw_guide", lambda *_: None)
    monkeypatch.setattr(torch, "randn", in_order_of_steps(3, 4, 2))
    expected, expected_value, expected_slopes = draw()
    torch.testing.assert_close(drawn, expected)
    torch.testing.assert_close(value, expected_value)
    assert_same(slopes, expected_slopes, rtol=1e-8, atol=1e-10)


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def doubled(module: nn.Module) -> None:
    """A hook that doubles what a module returns, or the mean of the law that it returns."""

    def twice(_module: Any, _given: Any, found: Any) -> Any:
        return 2 * found if isinstance(found, Tensor) else Normal(2 * found.loc, found.scale, event_dim=1)

    module.register_forward_hook(twice)


def with_tanh(model: VRNN) -> None:
    model.encoder.activation = torch.tanh


def deeper(model: VRNN) -> None:
    model.phi_z.linear.append(nn.Linear(4, 4))


def with_another_map_of_h(model: VRNN) -> None:
    model.encoder.from_h = Doubled(3, 3, bias=False)


def with_another_map_of_z(model: VRNN) -> None:
    model.hidden.from_z = Doubled(4, model.hidden.cell.projected_dim, bias=False)


def with_a_forward_of_its_own(model: VRNN) -> None:
    intact = model.hidden.forward
    model.hidden.forward = lambda from_x, phi_z, h: 2 * intact(from_x, phi_z, h)  # type: ignore[method-assign]


CHANGES: dict[str, Callable[[VRNN], None]] = {
    "features of a state": lambda model: doubled(model.phi_z),
    "the encoder": lambda model: doubled(model.encoder),
    "the encoder's head": lambda model: doubled(model.encoder.head),
    "the memory": lambda model: doubled(model.hidden),
    "the activation": with_tanh,
    "one layer more": deeper,
    "what the encoder reads of h": with_another_map_of_h,
    "what the memory reads of z": with_another_map_of_z,
    "a forward of its own": with_a_forward_of_its_own,
}


@pytest.mark.parametrize("cell", ["gru", "lstm", "elman"])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_networks_draw_what_they_say(change: str, cell: str) -> None:
    """The density that a draw brings along is that of its states under the networks as they are now."""
    model, x = vrnn(cell), ragged(Gaussian(2))

    def drawn() -> tuple[Tensor, Tensor]:
        torch.manual_seed(3)
        law = StateLaw(model, x, LENGTHS, "model", guide=True)
        z = law.rsample()
        torch.testing.assert_close(law.log_prob(z), law.log_prob(z.clone()))
        return z, law.log_prob(z)

    before = drawn()
    CHANGES[change](model)
    after = drawn()
    assert float((after[0] - before[0]).detach().abs().max()) > 1e-3


def in_order_of_steps(batch: int, num_steps: int, size: int):  # type: ignore[no-untyped-def]
    """`torch.randn` that hands out the columns of the noise of a whole draw."""
    noise: list[Tensor] = []
    intact = torch.randn

    def randn(*shape: object, **options: object) -> Tensor:
        if not noise:
            noise.extend(intact(batch, num_steps, size).unbind(1))
        return noise.pop(0)

    return randn


@every_cell
def test_a_state_without_noise_makes_it_a_recurrent_network(cell: str) -> None:
    """z_t is then a function of h_t, and its likelihood is that of the network with this function in place."""
    model = vrnn(cell)
    head = parts(model.prior)[1].linear
    with torch.no_grad():
        head.weight[2:] = 0.0
        head.bias[2:] = -30.0  # a standard deviation of 1e-13
    x = model.sample(3, 5, seed=1).x
    result = smc.filter(model, x, num_particles=4, proposal="bootstrap", seed=0)
    h, total = model.initial_memory.expand(3, -1), torch.zeros(3)
    for t in range(5):
        z = model.prior(h[:, :3]).loc
        total = total + model.emission(z, h).log_prob(x[:, t])
        h = model.recurrence(h, z, x[:, t])
    torch.testing.assert_close(result.log_marginal_likelihood, total.detach(), rtol=1e-9, atol=1e-9)
    noisy = smc.filter(vrnn(cell), x, num_particles=4, proposal="bootstrap", seed=0).log_marginal_likelihood
    assert float((noisy - total.detach()).abs().max()) > 1e-3


def linear_vrnn() -> VRNN:
    """All networks linear, all scales constant: h, z and x are jointly normal."""
    torch.manual_seed(0)
    model = VRNN(
        latent_dim=1, hidden_dim=2, emission=Gaussian(1), cell="elman-linear", activation="identity", feature_dim=2
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape))
        for head, size in (
            (parts(model.prior)[1].linear, 1),
            (model.encoder.head.linear, 1),
            (parts(model.decoder)[1], 1),
        ):
            head.weight[size:] = 0.0
    return model


def joint_normal(model: VRNN, x: Tensor) -> Tensor:
    """log p(x_{1:T}) of the linear model: x is an affine function of independent normal noise."""
    num_steps = x.shape[1]

    def path(noise: Tensor) -> Tensor:
        h, found = model.initial_memory.expand(1, -1), []
        for t in range(num_steps):
            prior = model.prior(h[:, :2])
            z = prior.loc + prior.scale * noise[t, 0]
            law = model.decoder(torch.cat([model.phi_z(z), h[:, :2]], -1)).base_dist
            x_t = law.loc + law.scale * noise[t, 1]
            h = model.recurrence(h, z, x_t)
            found.append(x_t[0, 0])
        return torch.stack(found)

    zero = torch.zeros(num_steps, 2)
    matrix = torch.autograd.functional.jacobian(path, zero).reshape(num_steps, -1)
    law = torch.distributions.MultivariateNormal(path(zero), matrix @ matrix.T)
    return law.log_prob(x[..., 0])


@pytest.mark.slow
def test_with_linear_networks_the_bound_meets_the_exact_value_as_particles_grow() -> None:
    model = linear_vrnn()
    x = model.sample(8, 4, seed=1).x
    exact = joint_normal(model, x).detach()
    gaps = []
    for num_particles in (10, 1_000, 100_000):
        bound = smc.log_marginal_likelihood(model, x, num_particles=num_particles, resample="never", seed=0).detach()
        gaps.append(float((exact - bound).mean()))
    assert abs(gaps[2]) < 0.02
    assert gaps[0] > gaps[1] > gaps[2]


def test_its_emission_may_be_of_any_family_and_its_sizes_are_checked() -> None:
    model = VRNN(latent_dim=2, hidden_dim=3, emission=Categorical(5))
    assert model.sample(2, 3, seed=0).x.dtype == torch.int64
    assert VRNN(4).family == Bernoulli(4)
    with pytest.raises(ValueError, match="expected exactly one of obs_dim and emission, such as obs_dim=88"):
        VRNN()
    with pytest.raises(TypeError, match=r"expected a family such as Bernoulli\(88\) as emission, got int"):
        VRNN(emission=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected cell to be one of elman, .*; did you mean 'gru'"):
        VRNN(4, cell="gruu")
    with pytest.raises(ValueError, match="expected latent_dim"):
        VRNN(4, latent_dim=0)


def test_bounds_of_an_untrained_model_are_in_their_order() -> None:
    """ELBO < IWAE_16 < FIVO_16, by more than 4.5 of their Monte Carlo errors; no bound is above itself by as much."""
    torch.manual_seed(0)
    model = VRNN(12, latent_dim=4, hidden_dim=8)
    x = torch.randint(2, (40, 30, 12)).double()
    elbo, iwae, fivo = (
        svi.evaluate(model, x, bound=bound, num_particles=16, seed=0) for bound in ("elbo", "iwae", "fivo")
    )
    for looser, tighter in ((elbo, iwae), (iwae, fivo)):
        error = math.hypot(looser.monte_carlo_error, tighter.monte_carlo_error)
        assert looser.nats_per_step - tighter.nats_per_step > 4.5 * error
    again = svi.evaluate(model, x, bound="iwae", num_particles=16, seed=1)
    error = math.hypot(again.monte_carlo_error, iwae.monte_carlo_error)
    assert abs(again.nats_per_step - iwae.nats_per_step) < 4.5 * error


def test_symbols_enter_in_the_models_own_dtype() -> None:
    model = VRNN(latent_dim=1, hidden_dim=2, emission=Categorical(3)).double()
    torch.set_default_dtype(torch.float32)
    x = torch.tensor([[0, 2, 1], [1, 1, 0]])
    assert svi.evaluate(model, x, num_particles=2).log_likelihoods.dtype == torch.float64
