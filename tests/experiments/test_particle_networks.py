"""Trainable particle filters: what they are before training, and whose gradient they have."""

import itertools

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution

from pgm_rnn.experiments.particle_networks import Gradient, Objective, ParticleNetworks, Trace, step_losses, surrogate
from pgm_rnn.inference import forward_backward, smc
from pgm_rnn.models import HMM
from pgm_rnn.particles.noise import SeededNoise

pytestmark = pytest.mark.slow

K, S, T, M = 2, 2, 3, 2


class Guided(HMM):
    """An HMM whose guide is a network's proposal: its features are the symbols."""

    networks: ParticleNetworks

    def encode(
        self, x: torch.Tensor, lengths: torch.Tensor | None = None, inputs: torch.Tensor | None = None
    ) -> torch.Tensor:
        return x[..., None]

    def proposal(
        self, z: torch.Tensor | None, h: torch.Tensor | None, features: torch.Tensor | None
    ) -> TorchDistribution:
        assert features is not None
        tables, x = self.networks.tables(), features[..., 0]
        logits = tables.first_proposal[0, x] if z is None else tables.proposal[0, x.expand(z.shape), z]
        return dist.Categorical(logits=logits)


def same_uniforms(seed: int, num_particles: int, batch: int, num_steps: int) -> tuple[SeededNoise, torch.Tensor]:
    """A filter's noise, and the uniforms of a network that are the same numbers."""
    noise = SeededNoise(seed, num_particles, 1, "multinomial")
    steps = [noise(t) for t in range(1, num_steps + 1)]
    both = torch.stack([torch.stack([step.states[..., 0], step.resampling]) for step in steps])  # (T, 2, N, 1)
    return noise, both[:, :, :, None, None].expand(-1, -1, -1, 1, 1, batch)


def random_networks(*, share: float = 0.5, learn_model: bool = False) -> ParticleNetworks:
    """Filters of random tables, proposals and readout."""
    logits = (torch.randn(1, K), torch.randn(1, K, K), torch.randn(1, K, S))
    networks = ParticleNetworks(*logits, torch.randn(1, K, K), share=share, learn_model=learn_model)
    torch.nn.init.normal_(networks.delta)
    torch.nn.init.normal_(networks.first_delta)
    return networks


@pytest.mark.parametrize("num_particles", [1, 7])
def test_an_untrained_network_is_the_bootstrap_filter(num_particles: int) -> None:
    hmm = HMM.random(5, 10, seed=0)
    x = hmm.sample(6, 8, seed=1).x
    noise, uniforms = same_uniforms(3, num_particles, 6, 8)
    options = {"resampling": "multinomial", "ess_threshold": 1.0, "noise": noise}
    expected = smc.filter(hmm, x, num_particles=num_particles, keep="all", **options)  # type: ignore[arg-type]
    assert expected.history is not None
    trace = ParticleNetworks.of([hmm], share=1.0).run(x[None], uniforms)
    torch.testing.assert_close(trace.log_normalizers[:, 0, 0].mT, expected.log_normalizers)
    held = torch.nn.functional.one_hot(expected.history.z, 5) * expected.history.log_weights.exp()[..., None]
    torch.testing.assert_close(trace.particles[:, 0, 0], held.sum(1))
    changed = ParticleNetworks.of([hmm], share=1.0)
    torch.nn.init.normal_(changed.delta)
    other = changed.run(x[None], uniforms)
    assert not torch.allclose(other.log_normalizers, trace.log_normalizers)


def test_a_network_is_the_guided_filter_of_its_proposal() -> None:
    drawn = HMM.random(4, 3, seed=0).requires_grad_(False)
    hmm = Guided(drawn.initial_probs, drawn.transition_probs, drawn.emission_probs)
    hmm.networks = ParticleNetworks.of([hmm], share=1.0)
    hmm.networks.set_optimal_proposal()
    x = hmm.sample(5, 6, seed=1).x
    noise, uniforms = same_uniforms(2, 8, 5, 6)
    expected = smc.filter(hmm, x, num_particles=8, resampling="multinomial", ess_threshold=1.0, noise=noise)
    trace = hmm.networks.run(x[None], uniforms)
    torch.testing.assert_close(trace.log_normalizers[:, 0, 0].mT, expected.log_normalizers)


def test_the_optimal_proposal_is_the_law_of_a_state_given_the_last_and_the_symbol() -> None:
    hmm = HMM.random(3, 4, seed=0)
    networks = ParticleNetworks.of([hmm])
    networks.set_optimal_proposal()
    joint = hmm.transition_probs[None] * hmm.emission_probs.mT[:, None]  # (S, K, K)
    torch.testing.assert_close(networks.tables().proposal[0].exp(), joint / joint.sum(-1, keepdim=True))
    first = hmm.initial_probs * hmm.emission_probs.mT
    torch.testing.assert_close(networks.tables().first_proposal[0].exp(), first / first.sum(-1, keepdim=True))


def test_both_readings_tend_to_the_forward_algorithm_at_the_monte_carlo_rate() -> None:
    hmm = HMM.random(3, 4, seed=0)
    networks = ParticleNetworks.of([hmm])
    torch.nn.init.normal_(networks.delta)
    x = hmm.sample(20, 5, seed=1).x
    exact = forward_backward.filter(hmm, x).filtered_probs.movedim(0, 1)[:, None, None]  # (T, 1, 1, B, K)

    def errors(num_particles: int) -> list[float]:
        trace = networks.run(x[None], torch.rand(5, 2, num_particles, 4, 1, 20))
        torch.testing.assert_close(trace.ahead[0], exact[0].expand_as(trace.ahead[0]))
        return [float((law[1:] - exact[1:]).square().mean().sqrt()) for law in (trace.particles, trace.ahead)]

    with torch.no_grad():
        few, many = errors(100), errors(2500)
        assert all(3.5 < a / b < 7 for a, b in zip(few, many, strict=True))  # sqrt(25) = 5, from 320 laws each
        networks.emission.add_(torch.randn_like(networks.emission))
        exact[0] = networks.run(x[None], torch.rand(5, 2, 1, 1, 1, 20)).ahead[0, 0]
        assert all(a > 3 * b for a, b in zip(errors(2500), many, strict=True))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_estimate_of_the_likelihood_is_unbiased_for_any_proposal(share: float) -> None:
    hmm = HMM.random(3, 4, seed=0)
    networks = ParticleNetworks.of([hmm], share=share)
    torch.nn.init.normal_(networks.delta)
    x, runs = hmm.sample(1, 5, seed=1).x, 40_000
    exact = float(hmm.log_marginal_likelihood(x).exp().detach())

    def deviation(trace: Trace) -> float:
        estimates = trace.log_normalizers.sum(0).exp().flatten()
        return abs(float(estimates.mean()) - exact) / float(estimates.std() / runs**0.5)

    with torch.no_grad():
        assert deviation(networks.run(x[None], torch.rand(5, 2, 4, runs, 1, 1))) < 5
        networks.transition.add_(torch.randn_like(networks.transition))  # another model's likelihood
        assert deviation(networks.run(x[None], torch.rand(5, 2, 4, runs, 1, 1))) > 5


def exact_gradient(networks: ParticleNetworks, x: torch.Tensor, z: torch.Tensor, objective: Objective) -> torch.Tensor:
    """The gradient of the expected loss of a filter, two particles and three steps, summed over every outcome."""
    tables = networks.tables()
    pairs = list(itertools.product(range(2), repeat=2))
    outcomes = list(itertools.product(pairs, pairs, pairs, pairs, pairs))  # z_1, a_1, z_2, a_2, z_3
    states = torch.tensor([[o[0], o[2], o[4]] for o in outcomes])  # (outcomes, T, M)
    came_from = torch.tensor([[o[1], o[3]] for o in outcomes])
    probability = torch.ones(len(outcomes))
    loss = torch.zeros(len(outcomes))
    weights = torch.full((len(outcomes), M), 1 / M)
    before = weights  # of the states, before x_t: not used at the first step
    for t in range(T):
        now = states[:, t]
        if t == 0:
            moved = tables.initial[0].exp().expand(len(outcomes), K)
            log_move, log_proposed = tables.initial[0, now], tables.first_proposal[0, x[t], now]
            left = weights
        else:
            held = torch.stack([(weights * (before == k)).sum(-1) for k in range(K)], -1)
            moved = held @ tables.transition[0].exp()
            drawn_by = networks.share * weights + (1 - networks.share) / M
            a = came_from[:, t - 1]
            probability = probability * drawn_by.gather(1, a).prod(-1)
            left = (weights / (M * drawn_by)).gather(1, a)
            parents = before.gather(1, a)
            log_move, log_proposed = tables.transition[0, parents, now], tables.proposal[0, x[t], parents, now]
        probability = probability * log_proposed.sum(-1).exp()
        unnormalised = left * (log_move + tables.emission[0, now, x[t]] - log_proposed).exp()
        ahead = moved * tables.emission[0, :, x[t]].exp()
        weights, before = unnormalised / unnormalised.sum(-1, keepdim=True), now
        if objective == "likelihood":
            loss = loss - unnormalised.sum(-1).log()
        elif objective == "ahead":
            loss = loss - (ahead / ahead.sum(-1, keepdim=True))[:, z[t]].log()
        else:
            assert networks.readout is not None
            loss = loss - (weights * networks.readout[0].softmax(-1)[now, z[t]]).sum(-1).log()
    torch.testing.assert_close(probability.sum(), torch.tensor(1.0))
    return flat_gradient((probability * loss).sum(), networks)


def flat_gradient(loss: torch.Tensor, networks: ParticleNetworks) -> torch.Tensor:
    parameters = list(networks.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat(
        [torch.zeros(p.numel()) if g is None else g.flatten() for p, g in zip(parameters, found, strict=True)]
    )


def deviations(
    networks: ParticleNetworks, x: torch.Tensor, z: torch.Tensor, objective: Objective, gradient: Gradient
) -> torch.Tensor:
    """How many standard errors the mean gradient of many runs is from the exact one, for each parameter."""
    count, batch = 40, 2000
    expected = exact_gradient(networks, x, z, objective)
    drawn = []
    for _ in range(count):
        trace = networks.run(x.expand(1, batch, T), torch.rand(T, 2, M, 2, 1, batch), gradient)
        drawn.append(flat_gradient(surrogate(trace, objective, z.expand(1, batch, T)), networks))
    every = torch.stack(drawn)
    errors = every.std(0) / count**0.5
    off = (every.mean(0) - expected).abs()
    return (off / errors).where(errors > 1e-12, torch.where(off > 1e-9, torch.inf, 0.0))


@pytest.mark.parametrize("objective", ["likelihood", "ahead", "particles"])
def test_the_full_gradient_is_that_of_the_expected_loss_and_the_weights_alone_are_not(objective: Objective) -> None:
    networks = random_networks(learn_model=True)
    x, z = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1])
    # |t| with 39 degrees of freedom exceeds 6 with probability 5e-7; there are 26 parameters
    assert float(deviations(networks, x, z, objective, "full").max()) < 6
    assert float(deviations(networks, x, z, objective, "weights").max()) > 12
    if objective != "likelihood":  # whose bias is small without the ancestors' scores
        assert float(deviations(networks, x, z, objective, "states").max()) > 6


def test_losses_are_those_of_their_laws() -> None:
    networks = random_networks()
    x, z = torch.randint(S, (1, 4, T)), torch.randint(K, (1, 4, T))
    trace = networks.run(x, torch.rand(T, 2, 3, 2, 1, 4))
    for objective, law in (("ahead", trace.ahead), ("particles", trace.particles)):
        found = step_losses(trace, objective, z)  # type: ignore[arg-type]
        assert found[2, 1, 0, 3] == -law[2, 1, 0, 3, z[0, 3, 2]].log()
        torch.testing.assert_close(law.sum(-1), torch.ones(law.shape[:-1]))
    with pytest.raises(ValueError, match="expected true states for the objective 'ahead', got none; give z"):
        step_losses(trace, "ahead")


def test_filters_side_by_side_do_not_mix() -> None:
    hmms = [HMM.random(3, 4, seed=seed) for seed in range(3)]
    networks = ParticleNetworks.of(hmms)
    torch.nn.init.normal_(networks.delta)
    x, uniforms = torch.randint(4, (3, 5, 6)), torch.rand(6, 2, 4, 2, 3, 5)
    together = networks.run(x, uniforms)
    alone = networks.only(1).run(x[1:2], uniforms[..., 1:2, :])
    for one, every in zip(alone, together, strict=True):
        torch.testing.assert_close(one[:, :, 0], every[:, :, 1])


def test_a_state_of_probability_zero_is_never_proposed() -> None:
    networks = random_networks()
    with torch.no_grad():
        networks.delta[..., -1] = -torch.inf
        networks.first_delta[..., -1] = -torch.inf
    trace = networks.run(torch.randint(S, (1, 50, T)), torch.rand(T, 2, M, 2, 1, 50).clamp(min=0.999))
    networks.readout = None
    trace = networks.run(torch.randint(S, (1, 50, T)), torch.rand(T, 2, M, 2, 1, 50))
    assert torch.equal(trace.particles[..., -1], torch.zeros(T, 2, 1, 50))


def test_bad_input_is_one_clear_sentence() -> None:
    tables = torch.zeros(1, 2), torch.zeros(1, 2, 2), torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match=r"expected share in \(0, 1\], got 0"):
        ParticleNetworks(*tables, share=0)
    with pytest.raises(ValueError, match=r"expected transition and emission logits of shapes .*\(1, 2, 2\).*got"):
        ParticleNetworks(tables[0], torch.zeros(1, 3, 3), tables[2])
    certain = HMM(torch.tensor([1.0, 0.0]), torch.full((2, 2), 0.5), torch.full((2, 3), 1 / 3))
    with pytest.raises(ValueError, match="expected HMMs of positive probabilities, got one that is zero"):
        ParticleNetworks.of([certain])
    with pytest.raises(ValueError, match="gradient"):
        ParticleNetworks(*tables).run(torch.zeros(1, 1, 1, dtype=torch.long), torch.rand(1, 2, 1, 1, 1, 1), "none")  # type: ignore[arg-type]
