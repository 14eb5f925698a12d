"""Models with finitely many states that give no tables: their laws, evaluated at all states, are exact."""

import itertools

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.inference import forward_backward, smc, svi
from pgm_rnn.models import HMM
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.tables import tables_of
from pgm_rnn.sequences import Sequences, as_sequences
from pgm_rnn.states import FiniteStates
from tests.instances import make_hmm

LENGTHS = torch.tensor([4, 1, 3])


class SwitchingAR(SequenceModel):
    """x_t ~ N(a_z x_{t-1} + b_z, s_z^2), z a Markov chain."""

    def __init__(self, num_states: int = 3) -> None:
        super().__init__(Gaussian(1))
        self.states = FiniteStates(num_states)
        self.register_buffer("initial_memory", torch.zeros(1))
        self.start, self.moves = (
            nn.Parameter(torch.randn(num_states)),
            nn.Parameter(torch.randn(num_states, num_states)),
        )
        self.a, self.b, self.raw = (nn.Parameter(torch.randn(num_states, 1)) for _ in range(3))

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        return x

    def initial(self, h: Tensor) -> TorchDistribution:
        return dist.Categorical(logits=self.start)

    def transition(self, z: Tensor, h: Tensor) -> TorchDistribution:
        return dist.Categorical(logits=self.moves[z])

    def emission(self, z: Tensor, h: Tensor) -> TorchDistribution:
        return dist.Normal(self.a[z] * h + self.b[z], self.raw[z].exp()).to_event(1)


class Driven(SwitchingAR):
    """The same with transitions that read the last observation and an input, which stands beside the memory."""

    input_dim = 1

    def transition(self, z: Tensor, h: Tensor) -> TorchDistribution:
        drive = (h[..., :1] - h[..., 1:]) * torch.linspace(-1.0, 1.0, 3)
        return dist.Categorical(logits=self.moves[z] + drive)

    def emission(self, z: Tensor, h: Tensor) -> TorchDistribution:
        return super().emission(z, h[..., :1])


def log_joint(model: SequenceModel, x: Tensor, u: Tensor | None, path: tuple[int, ...]) -> Tensor:
    """log p(x, z) of one sequence and one path, step by step."""
    total, z = torch.zeros(()), torch.tensor(path)
    for t in range(len(path)):
        h = torch.zeros(1) if t == 0 else x[t - 1]
        h = h if u is None else torch.cat([h, u[t]])
        law = model.initial(h) if t == 0 else model.transition(z[t - 1], h)
        total = total + law.log_prob(z[t]) + model.emission(z[t], h).log_prob(x[t])
    return total


@pytest.fixture(params=["own memory", "inputs beside it"])
def problem(request: pytest.FixtureRequest) -> tuple[SwitchingAR, Sequences]:
    model = SwitchingAR() if request.param == "own memory" else Driven()
    u = None if model.input_dim is None else torch.randn(3, 4, 1)
    return model, Sequences(torch.randn(3, 4, 1), LENGTHS, inputs=u)


def test_the_likelihood_the_posterior_and_the_best_path_are_those_of_all_paths(
    problem: tuple[SwitchingAR, Sequences],
) -> None:
    model, data = problem
    assert model.exact
    likelihood = model.log_marginal_likelihood(data)
    smoothed, best = forward_backward.smooth(model, data), forward_backward.most_likely_states(model, data)
    torch.testing.assert_close(smoothed.log_marginal_likelihood, likelihood.detach())
    for i, length in enumerate(LENGTHS.tolist()):
        paths = list(itertools.product(range(3), repeat=length))
        u = None if data.inputs is None else data.inputs[i]
        joint = torch.stack([log_joint(model, data.x[i], u, path) for path in paths])
        torch.testing.assert_close(likelihood[i], joint.logsumexp(0))
        weights, states = joint.softmax(0).detach(), torch.tensor(paths)
        expected = torch.stack([weights @ (states == k).double() for k in range(3)], dim=-1)  # (length, 3)
        torch.testing.assert_close(smoothed.smoothed_probs[i, :length], expected)
        assert tuple(best.states[i, :length].tolist()) == paths[int(joint.argmax())]
        torch.testing.assert_close(best.log_prob[i], joint.max().detach())


def test_the_gradient_is_that_of_the_sum_over_all_paths(problem: tuple[SwitchingAR, Sequences]) -> None:
    model, data = problem
    one = data.select(slice(0, 1))
    u = None if one.inputs is None else one.inputs[0]
    paths = itertools.product(range(3), repeat=4)
    written_out = torch.stack([log_joint(model, one.x[0], u, path) for path in paths]).logsumexp(0)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(written_out, parameters)
    found = torch.autograd.grad(model.log_prob(one).sum(), parameters)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_particle_filter_agrees_and_one_of_another_model_does_not() -> None:
    model = SwitchingAR()
    x = torch.randn(1, 6, 1).expand(400, 6, 1)
    exact = float(model.log_marginal_likelihood(x[:1]).detach())
    for other, right in ((model, True), (SwitchingAR(), False)):
        ratios = (smc.filter(other, x, num_particles=50, seed=0).log_marginal_likelihood - exact).exp()
        score = float((ratios.mean() - 1) / (ratios.std() / 20))
        assert (abs(score) < 4.5) == right


def test_gradient_steps_go_up_and_transitions_that_do_not_differ_are_one_table() -> None:
    model, driven = SwitchingAR(), Driven()
    data = model.sample(20, 10, seed=0)
    before = float(svi.evaluate(model, data).nats_per_step)
    fitted = svi.fit(model, data, num_epochs=5, learning_rate=0.05, progress=False)
    assert fitted.objective == "mle"
    assert float(svi.evaluate(model, data).nats_per_step) < before
    assert tables_of(model, as_sequences(data)).transition.shape == (3, 3)
    with_inputs = Sequences(data.x, data.lengths, inputs=torch.zeros(20, 10, 1))
    assert tables_of(driven, with_inputs).transition.shape == (20, 9, 3, 3)


def test_an_hmm_has_the_same_tables_by_its_laws() -> None:
    hmm = make_hmm(Categorical(3))
    data = hmm.sample(3, 5, seed=0)

    class ByItsLaws(SequenceModel):
        states = FiniteStates(2)
        initial, transition, emission = hmm.initial, hmm.transition, hmm.emission

    for given, evaluated in zip(tables_of(hmm, data), tables_of(ByItsLaws(Categorical(3)), data), strict=True):
        torch.testing.assert_close(given, evaluated)


def test_a_memory_that_reads_the_state_is_not_exact() -> None:
    class Remembers(SwitchingAR):
        memory_reads_state = True

        def recurrence(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:  # type: ignore[override]
            return x + z[..., None]

    model, x = Remembers(), torch.randn(2, 3, 1)
    assert not model.exact
    with pytest.raises(ValueError, match="Remembers has no exact likelihood"):
        model.log_marginal_likelihood(x)
    with pytest.raises(
        TypeError, match=r"forward_backward needs .*, Remembers has finite states and a memory that reads them; smc"
    ):
        forward_backward.filter(model, x)
    assert smc.filter(model, x, num_particles=5, seed=0).log_marginal_likelihood.isfinite().all()


def test_a_conditional_likelihood_is_the_joint_over_the_first(
    problem: tuple[SwitchingAR, Sequences],
) -> None:
    model, data = problem
    u = None if data.inputs is None else data.inputs[:, :1]
    expected = model.log_prob(data) - model.log_prob(data.x[:, :1], inputs=u)
    torch.testing.assert_close(model.log_prob(data, first="condition"), expected)


def test_an_impossible_sequence_has_conditional_likelihood_zero_and_gradients_without_nan() -> None:
    hmm = HMM(torch.tensor([1.0, 0.0]), torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    x = torch.tensor([[1, 1], [0, 1], [0, 0]])  # x_1 is impossible, x_2 given x_1 is, neither
    value = hmm.log_prob(x, first="condition")
    assert value.tolist() == [-torch.inf, -torch.inf, 0.0]
    value[2:].sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in hmm.parameters())


def test_a_forecast_goes_on_from_the_last_state_and_the_last_observation() -> None:
    """States that stay and tell themselves apart by their growth: what follows is known."""
    model = SwitchingAR(2)
    with torch.no_grad():
        model.start.zero_()
        model.moves.copy_(torch.eye(2).log())
        model.a[:, 0], model.b[:], model.raw[:] = torch.tensor([1.0, 2.0]), 0.1, -12.0
    x = torch.tensor([[0.1, 0.3, 0.7], [0.1, 0.2, 0.3]])[..., None]  # x_t = a x_{t-1} + 0.1 with a = 2, then a = 1
    ahead = model.forecast(x, 2, seed=0)
    assert ahead.z is not None
    assert ahead.z.tolist() == [[1, 1], [0, 0]]
    torch.testing.assert_close(ahead.x[..., 0], torch.tensor([[1.5, 3.1], [0.4, 0.5]]), rtol=0.0, atol=1e-3)
