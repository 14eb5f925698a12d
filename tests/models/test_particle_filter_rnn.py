import math
from typing import Any

import networkx as nx
import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor

from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.graph import read_graph
from pgm_rnn.inference import smc
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.noisy_rnn import NoisyRNN
from pgm_rnn.models.particle_filter_rnn import ParticleFilterRNN
from pgm_rnn.particles.noise import SeededNoise, Uniforms
from pgm_rnn.sequence_model import SequenceModel, memory_of
from tests.instances import gradients, make_hmm, make_model, make_rnn
from tests.latent_toy import LatentToy

MODELS: dict[str, SequenceModel] = {
    "hmm": HMM.random(3, 4, seed=0).double(),
    "lgssm": LinearGaussianSSM.random(2, 2, seed=0).double(),
    "noisy-rnn": NoisyRNN.random(2, 2, feedback=True, seed=0).double(),
    "with memory": LatentToy().double(),
}
NUM_PARTICLES = 30
every_latent_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
every_scheme = pytest.mark.parametrize("resampling", ["multinomial", "stratified", "systematic", "residual"])


def engine(rnn: ParticleFilterRNN, x: Tensor, **options: Any) -> smc.Filtered:
    """The particle filter at the network's uniforms."""
    given: dict[str, Any] = {
        "num_particles": rnn.num_particles,
        "resampling": rnn.options.resampling,
        "ess_threshold": rnn.options.ess_threshold,
        "noise": rnn.noise,
    }
    return smc.filter(rnn.of, x, proposal="bootstrap", keep="all", **given | options)


def walk(rnn: ParticleFilterRNN, x: Tensor) -> tuple[Tensor, Tensor]:
    """Particles (T, N, B, *latent) and log p(x_t | x_{1:t-1}) (T, B) of the network, step by step."""
    h, particles, terms = rnn.initial_memory.expand(len(x), -1), [], []
    for x_t in x.unbind(1):
        particles.append(rnn.particles(h)[0])
        terms.append(rnn.emission(None, h).log_prob(x_t))
        h = rnn.recurrence(h, None, x_t)
    return torch.stack(particles), torch.stack(terms)


@pytest.mark.parametrize("ess_threshold", [0.0, 0.5, 1.0])
@every_scheme
@every_latent_model
def test_it_is_the_engines_run_to_the_last_bit(model: SequenceModel, resampling: str, ess_threshold: float) -> None:
    x = model.sample(3, 6, seed=1).x
    rnn = ParticleFilterRNN(model, NUM_PARTICLES, seed=2, resampling=resampling, ess_threshold=ess_threshold)
    particles, terms = walk(rnn, x)
    expected = engine(rnn, x)
    assert expected.history is not None
    assert torch.equal(particles, expected.history.z)
    assert torch.equal(terms.mT.detach(), expected.log_normalizers)
    torch.testing.assert_close(rnn.log_prob(x).detach(), expected.log_marginal_likelihood, rtol=1e-13, atol=1e-12)


@every_latent_model
def test_other_uniforms_are_another_run(model: SequenceModel) -> None:
    x = model.sample(3, 6, seed=1).x
    rnn, other = (ParticleFilterRNN(model, NUM_PARTICLES, seed=seed) for seed in (2, 3))
    assert not torch.equal(rnn.log_prob(x), other.log_prob(x))
    assert not torch.equal(engine(rnn, x).particles, engine(rnn, x, noise=other.noise).particles)


def test_its_graph_is_a_recurrent_networks_and_not_a_hidden_markov_models() -> None:
    filter_network = ParticleFilterRNN(make_hmm(Categorical(3)), 5)
    figure_4, figure_3 = read_graph(filter_network, 4), read_graph(make_rnn("elman", Categorical(3)), 4)
    assert nx.utils.graphs_equal(figure_4, figure_3)
    assert nx.is_isomorphic(figure_4, figure_3)
    assert not nx.is_isomorphic(read_graph(make_hmm(Categorical(3)), 4), figure_3)


@every_latent_model
def test_the_gradient_is_that_of_the_function_where_ancestors_stay(model: SequenceModel) -> None:
    x = model.sample(2, 4, seed=1).x
    rnn = ParticleFilterRNN(model, 20, seed=0, resampling="systematic", ess_threshold=0.5)
    found_gradients = gradients(rnn.log_prob(x).sum(), model)
    for name, parameter in model.named_parameters():
        direction, step = torch.randn_like(parameter).nan_to_num(), 1e-7
        kept = parameter.data.clone()
        values = []
        for sign in (1, -1):
            parameter.data = kept + sign * step * direction
            values.append(float(rnn.log_prob(x).sum().detach()))
        parameter.data = kept
        slope = (values[0] - values[1]) / (2 * step)
        found = float((found_gradients[name] * direction).sum())
        assert found == pytest.approx(slope, rel=1e-4, abs=1e-5)  # rounding 1e-14 over the step, times T


@pytest.mark.slow
@torch.no_grad()
def test_with_many_particles_it_has_the_models_likelihood_and_its_exponential_is_unbiased() -> None:
    model = MODELS["lgssm"]
    x = model.sample(1, 3, seed=1).x
    exact = float(model.log_marginal_likelihood(x))
    close = float(ParticleFilterRNN(model, 20_000, seed=0).log_prob(x))
    assert close == pytest.approx(exact, abs=0.1)  # 4.5 standard deviations of about 0.02
    logs = torch.stack([ParticleFilterRNN(model, 10, seed=s).log_prob(x)[0] - exact for s in range(400)])
    assert abs(float(logs.exp().mean()) - 1) < 4.5 * float(logs.exp().std()) / 20
    assert float(logs.mean()) < -3 * float(logs.std()) / 20  # its logarithm is a lower bound


def test_sequences_at_different_steps_meet_the_uniforms_of_their_own() -> None:
    model = MODELS["hmm"]
    rnn, x = ParticleFilterRNN(model, 8), model.sample(2, 4, seed=1).x
    h = memory_of(rnn).unroll(x)
    assert h is not None
    both = rnn.recurrence(torch.stack([h[0, 1], h[1, 3]]), None, torch.stack([x[0, 1], x[1, 3]]))
    alone = [rnn.recurrence(h[b, t][None], None, x[b, t][None])[0] for b, t in ((0, 1), (1, 3))]
    assert torch.equal(both, torch.stack(alone))
    assert both[:, -1].tolist() == [3.0, 5.0]


def test_an_observation_that_no_particle_explains_is_impossible_and_the_others_are_unharmed() -> None:
    table = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    hmm = HMM(torch.tensor([0.5, 0.5]), torch.eye(2), table)
    rnn = ParticleFilterRNN(hmm, 5)
    value = rnn.log_prob(torch.tensor([[0, 2, 1], [0, 1, 1]])).detach()
    assert float(value[0]) == -math.inf
    assert float(value[1]) == pytest.approx(3 * math.log(0.5))


def test_pyros_svi_trains_it() -> None:
    pyro.clear_param_store()
    hmm = HMM.random(2, 3, seed=0).double()
    rnn, x = ParticleFilterRNN(hmm, 50, ess_threshold=0.0), HMM.random(2, 3, seed=5).double().sample(30, 5, seed=1).x
    svi = SVI(rnn.model, rnn.guide, Adam({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step(x) for _ in range(15)]
    assert losses[-1] < losses[0]


def test_given_uniforms_of_a_systematic_filter_are_one_a_sequence() -> None:
    uniforms = SeededNoise(0, 7, 2, "systematic")(3)
    assert isinstance(uniforms, Uniforms)
    assert (uniforms.states.shape, uniforms.resampling.shape) == ((7, 1, 2), (1, 1))
    again = SeededNoise(0, 7, 2, "systematic")(3)
    assert torch.equal(uniforms.states, again.states)
    assert not torch.equal(uniforms.states, SeededNoise(0, 7, 2, "systematic")(4).states)


def test_what_has_no_states_to_invert_is_an_error() -> None:
    with pytest.raises(TypeError, match="expected a model with latent states, got RNN, which has none"):
        ParticleFilterRNN(make_rnn("gru", Categorical(3)))
    with pytest.raises(
        ValueError, match=r"expected resampling to be one of multinomial, .*; did you mean 'systematic'"
    ):
        ParticleFilterRNN(MODELS["hmm"], resampling="systmatic")
    with pytest.raises(ValueError, match="got 'soft'"):
        ParticleFilterRNN(MODELS["hmm"], resampling="soft")
    with pytest.raises(ValueError, match="expected num_particles"):
        ParticleFilterRNN(MODELS["hmm"], 0)
    with pytest.raises(ValueError, match="expected a model with input_dim=None"):
        ParticleFilterRNN(make_model("lgssm", Gaussian(2), input_dim=1))
    with pytest.raises(TypeError, match="expected the particle filter of an HMM, got the filter of LatentToy"):
        _ = ParticleFilterRNN(MODELS["with memory"], 5).recipe
