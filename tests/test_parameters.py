"""The parameters that a model has now: a model may change its parts between two runs."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from pgm_rnn import WithPriors
from pgm_rnn.emissions import Gaussian
from pgm_rnn.models import VRNN
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.parameters import current_parameters


class Moved(SequenceModel):
    """z_t ~ N(W z_{t-1} + b, 1), x_t ~ N(z_t, exp(raw)^2)."""

    def __init__(self) -> None:
        super().__init__(Gaussian())
        self.drift, self.raw = nn.Linear(1, 1), nn.Parameter(torch.tensor(0.5))

    def initial(self, h: None) -> TorchDistribution:
        return dist.Normal(0.0, 1.0)

    def transition(self, z: Tensor, h: None) -> TorchDistribution:
        return dist.Normal(self.drift(z[..., None])[..., 0], 1.0)

    def emission(self, z: Tensor, h: None) -> TorchDistribution:
        return dist.Normal(z, self.raw.exp())


class Positive(nn.Module):
    """A weight in place of its number."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.abs()


def replace(model: Moved) -> None:
    model.drift = nn.Linear(1, 1)


def constrain(model: Moved) -> None:
    register_parametrization(model.drift, "weight", Positive())


def add(model: Moved) -> None:
    model.drift.register_parameter("other", nn.Parameter(torch.zeros(2)))


def fix(model: Moved) -> None:
    value = model.drift.bias.detach()
    del model.drift.bias
    model.drift.register_buffer("bias", value)


@pytest.mark.parametrize("change", [replace, constrain, add, fix])
def test_a_part_that_changes_between_two_runs_counts_in_the_second(change: Callable[[Moved], None]) -> None:
    model, x, z, raw = Moved(), torch.randn(2, 3), torch.randn(2, 3), torch.tensor(0.2)
    program = WithPriors(model, {"raw": dist.Normal(0.0, 1.0)})
    given = poutine.condition(program, data={"raw": raw, "z": z})
    for run in range(2):
        if run == 1:
            change(model)
        assert set(current_parameters(model)) == dict(model.named_parameters()).keys()
        found = torch.as_tensor(poutine.trace(given).get_trace(x).log_prob_sum())
        with torch.no_grad():
            expected = dist.Normal(0.0, 1.0).log_prob(raw) + dist.Normal(0.0, 1.0).log_prob(z[:, 0]).sum()
            moved = z[:, :-1] * model.drift.weight.squeeze() + model.drift.bias
            expected += dist.Normal(moved, 1.0).log_prob(z[:, 1:]).sum() + dist.Normal(z, raw.exp()).log_prob(x).sum()
        torch.testing.assert_close(found.detach(), expected)
        pyro.clear_param_store()


def test_they_are_named_as_torch_names_them_each_once() -> None:
    model = VRNN(obs_dim=2, latent_dim=2, hidden_dim=3)
    assert list(current_parameters(model).items()) == list(model.named_parameters())
    model.twice = model.encoder
    assert [*current_parameters(model)] == [name for name, _ in model.named_parameters()]
