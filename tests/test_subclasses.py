"""Subclasses of models: what follows from the methods that a class has, wherever in its bases they are defined."""

import math

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import forward_backward, smc
from pgm_rnn.models import HMM, RNN, VRNN, DeepMarkovModel, LinearGaussianSSM
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.states import States


class Drifts:
    """Laws of a state and a guide, in a class that is no model."""

    def initial(self, h: None) -> TorchDistribution:
        return dist.Normal(0.0, 1.0)

    def transition(self, z: Tensor, h: None) -> TorchDistribution:
        return dist.Normal(z, 1.0)

    def proposal(self, z: Tensor | None, h: None, features: None) -> TorchDistribution:
        return dist.Normal(torch.zeros(()) if z is None else z, 2.0)


class Drifting(Drifts, SequenceModel):
    """Laws from a base beside `SequenceModel`."""

    def emission(self, z: Tensor, h: None) -> TorchDistribution:
        return dist.Normal(z, 0.5)


def test_laws_of_a_base_that_is_no_model_count_as_the_model_s_own() -> None:
    model = Drifting(Gaussian())
    assert model.states == States()
    assert model.has_proposal
    batch = model.sample(3, 4, seed=0)
    assert batch.z is not None
    own = smc.filter(model, batch.x, num_particles=50, seed=0)
    bootstrap = smc.filter(model, batch.x, num_particles=50, seed=0, proposal="bootstrap")
    assert not torch.equal(own.particles, bootstrap.particles)


def test_a_class_may_say_that_it_has_no_latent_state() -> None:
    class Still(Drifting):
        states = None

        def emission(self, z: Tensor | None, h: None) -> TorchDistribution:
            return dist.Normal(0.0, 1.0)

    x = torch.randn(2, 3)
    assert torch.equal(Still(Gaussian()).log_prob(x), dist.Normal(0.0, 1.0).log_prob(x).sum(-1))


@pytest.mark.parametrize(
    ("base", "law", "stands_for_it"),
    [
        (HMM, "initial", "initial_probs"),
        (HMM, "transition", "transition_probs"),
        (HMM, "emission", "emission_log_probs"),
        (RNN, "recurrence", "unroll_memory"),
        (VRNN, "recurrence", "advance"),
        (VRNN, "proposal", "draw_guide"),
        (DeepMarkovModel, "transition", "state_log_probs"),
        (LinearGaussianSSM, "emission", "chain"),
    ],
)
def test_a_law_is_not_replaced_under_a_method_that_computes_with_the_old_one(
    base: type[SequenceModel], law: str, stands_for_it: str
) -> None:
    with pytest.raises(
        TypeError, match=rf"expected Mine to define {stands_for_it} as well as {law}, got .* from \w+, which"
    ):
        type("Mine", (base,), {law: lambda self, *arguments: None})


class Sticky(HMM):
    """An HMM that is more likely to stay, by both of the ways in which engines ask for transitions."""

    @property
    def transition_probs(self) -> Tensor:
        return (self.transition_logits + torch.eye(self.num_states)).softmax(-1)

    def transition(self, z: Tensor, h: None) -> TorchDistribution:
        return dist.Categorical(probs=self.transition_probs[z])


def test_a_law_is_replaced_together_with_the_method_that_stands_for_it() -> None:
    hmm = HMM.random(3, 4, seed=0)
    model, x = Sticky(hmm.initial_probs, hmm.transition_probs, hmm.emission_probs), hmm.sample(2, 2, seed=0).x
    states = torch.cartesian_prod(*[torch.arange(model.num_states)] * 2)
    paths = torch.stack([model.log_prob(x, z.expand(2, 2)) for z in states]).logsumexp(0)
    torch.testing.assert_close(forward_backward.filter(model, x).log_marginal_likelihood, paths.detach())
    assert not torch.allclose(hmm.log_prob(x), model.log_prob(x))


class Walking(VRNN):
    """A VRNN whose prior also reads the state before."""

    def initial(self, h: Tensor) -> TorchDistribution:
        return super().transition(None, h)

    def transition(self, z: Tensor | None, h: Tensor) -> TorchDistribution:
        assert z is not None
        law = super().transition(None, h)
        return dist.Normal(law.mean + z, 1.0).to_event(1)


def test_states_of_a_subclass_may_read_the_state_before() -> None:
    model, x, z = Walking(obs_dim=2, latent_dim=3, hidden_dim=4), torch.rand(2, 3, 2).round(), torch.randn(2, 3, 3)
    assert model.transition_reads_state
    h, expected = model.initial_memory.expand(2, -1), torch.zeros(2)
    for t in range(3):
        law = model.initial(h) if t == 0 else model.transition(z[:, t - 1], h)
        expected = expected + law.log_prob(z[:, t]) + model.emission(z[:, t], h).log_prob(x[:, t])
        h = model.recurrence(h, z[:, t], x[:, t])
    torch.testing.assert_close(model.log_prob(x, z), expected)


class Echoing(SequenceModel):
    """x_t ~ N(a x_{t-1}, 1), with the memory before x_1 named by the class."""

    initial_memory: Tensor | None = torch.zeros(1)

    def __init__(self) -> None:
        super().__init__(Gaussian())
        self.a = nn.Parameter(torch.tensor(0.5))

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        return x[..., None]

    def emission(self, z: None, h: Tensor) -> TorchDistribution:
        return dist.Normal(self.a * h[..., 0], 1.0)


def test_a_memory_that_a_class_names_follows_the_instance() -> None:
    class Trained(Echoing):
        def __init__(self) -> None:
            super().__init__()
            self.initial_memory = nn.Parameter(torch.ones(1))

    for dtype in (torch.float32, torch.float64):
        x = torch.randn(2, 3, dtype=dtype)
        models = [Echoing().to(dtype), Trained().to(dtype), Echoing().to(dtype)]
        assert [model.log_prob(x).dtype for model in models] == [dtype] * 3
        assert [None if (h := model.initial_memory) is None else h.dtype for model in models] == [dtype] * 3
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
        expected = (-((x - before / 2) ** 2) / 2 - math.log(2 * math.pi) / 2).sum(-1)
        torch.testing.assert_close(models[0].log_prob(x), expected)
    assert [name for name, _ in Trained().named_parameters()] == ["a", "initial_memory"]


def test_a_subclass_gives_a_memory_to_a_model_without_one() -> None:
    class Without(Echoing):
        initial_memory = None

    class Again(Without):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("initial_memory", torch.ones(2))

    memories = [model.initial_memory for model in (Without(), Again(), Echoing())]
    assert [None if h is None else len(h) for h in memories] == [None, 2, 1]
