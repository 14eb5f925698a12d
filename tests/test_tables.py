"""Models with finitely many states that give no tables: their laws, evaluated at all states, are exact."""

import itertools
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch import Tensor

from benchmarks import finite_memory
from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.inference import forward_backward, smc, svi
from pgm_rnn.models import HMM
from pgm_rnn.sequence_model import SequenceModel, state_laws
from pgm_rnn.sequence_model.state_laws import StateLaws
from pgm_rnn.sequence_model.tables import tables_of
from pgm_rnn.sequences import Sequences, as_sequences
from pgm_rnn.states import FiniteStates
from tests.instances import make_hmm
from tests.switching import Driven, SwitchingAR, log_joint

LENGTHS = torch.tensor([4, 1, 3])


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


def test_backward_simulation_has_these_posteriors_where_the_memory_reads_no_states(
    problem: tuple[SwitchingAR, Sequences],
) -> None:
    model, data = problem
    repeats, limit = 200, 4.5  # limit in standard errors
    with torch.no_grad():  # every state is likely enough for a hundred particles
        model.start.zero_()
        model.raw.zero_()
    many = data.repeated(repeats)
    paths = smc.smooth(model, many, num_particles=100, num_paths=20, method="backward", seed=0).paths
    found = torch.nn.functional.one_hot(paths, 3).double().mean(0).reshape(repeats, *data.x.shape[:2], 3)
    errors = found.std(0) / repeats**0.5
    exact, inside = forward_backward.smooth(model, data).smoothed_probs, data.mask
    assert bool(((found.mean(0) - exact).abs() < limit * errors + 1 / 100)[inside].all())
    filtered = forward_backward.filter(model, data).filtered_probs
    assert bool(((found.mean(0) - filtered).abs() > limit * errors + 1 / 100)[inside].any())  # the control


@pytest.mark.parametrize("memory", ["deterministic", "sampled"])
def test_both_renderings_sum_out_the_states_whatever_the_memory_is(
    problem: tuple[SwitchingAR, Sequences], memory: Any
) -> None:
    model, data = problem
    expected = -float(model.log_marginal_likelihood(data).detach().sum())
    fused = Trace_ELBO().loss(model.model, model.guide, data, memory=memory)
    unrolled = TraceEnum_ELBO(max_plate_nesting=1).loss(
        model.model, model.guide, data, rendering="unrolled", memory=memory
    )
    assert (fused, unrolled) == (pytest.approx(expected), pytest.approx(expected))


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
        TypeError, match=r"for forward_backward, Remembers has finite states and a memory that reads them; use smc"
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


class Network(Driven):
    """The driven model with a memory of its own that is trained, a bit of the input, and a start that reads h_1."""

    def __init__(self) -> None:
        super().__init__()
        del self.initial_memory
        self.initial_memory = torch.nn.Parameter(torch.randn(1))
        self.weight = torch.nn.Parameter(torch.randn(()))

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        return torch.tanh(self.weight * h.sum(-1, keepdim=True) + x)

    def initial(self, h: Tensor) -> TorchDistribution:
        return dist.Categorical(logits=self.start * h[..., :1])


def results(model: SequenceModel, data: Sequences) -> list[Tensor]:
    """What every engine makes of the tables: values, gradients, posteriors, paths and predictions."""
    values = [model.log_prob(data), model.log_prob(data, first="condition")]
    gradients = torch.autograd.grad(values[0].sum() - 0.5 * values[1].sum(), list(model.parameters()))
    smoothed, best = forward_backward.smooth(model, data), forward_backward.most_likely_states(model, data)
    paths = forward_backward.sample_states(model, data, num_samples=3, seed=0)
    u = None if model.input_dim is None else torch.ones(len(data.x), 2, 1)
    law = forward_backward.predict(model, data, future_inputs=None if u is None else u[:, :1])
    forecast = model.forecast(data, 2, seed=0, future_inputs=u)
    return [
        *(value.detach() for value in values),
        *gradients,
        smoothed.filtered_probs,
        smoothed.predicted_probs,
        smoothed.smoothed_probs,
        smoothed.pairwise_probs,
        best.states,
        best.log_prob,
        paths,
        law.log_prob(torch.zeros(1)),
        forecast.x,
    ]


@pytest.mark.parametrize("make", [SwitchingAR, Driven, Network])
@pytest.mark.parametrize("sequences", [0.1, 1, 2])  # at a time; of a part of one, some steps
def test_blocks_of_steps_and_groups_of_sequences_change_nothing(
    make: type[SwitchingAR], sequences: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make()
    u = None if model.input_dim is None else torch.randn(3, 4, 1)
    data = Sequences(torch.randn(3, 4, 1), LENGTHS, inputs=u)
    expected = results(model, data)
    monkeypatch.setattr(state_laws, "LARGEST", int(sequences * 4 * 3 * (1 if u is None else 4 * 3)))
    assert len(StateLaws(model, data).groups()) == (2 if sequences == 2 else 3)
    for found, whole in zip(results(model, data), expected, strict=True):
        torch.testing.assert_close(found, whole)


def test_no_table_of_a_large_problem_exists_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """No law that is asked for is larger than the limit, and all of them together are asked for."""
    model, largest = Driven(), 240
    asked: list[int] = []
    transition = model.transition

    def counted(z: Tensor, h: Tensor) -> TorchDistribution:
        law = transition(z, h)
        asked.append(law.batch_shape.numel() * 3)
        return law

    monkeypatch.setattr(state_laws, "LARGEST", largest)
    monkeypatch.setattr(model, "transition", counted)
    data = Sequences(torch.randn(6, 20, 1), torch.full((6,), 20), inputs=torch.randn(6, 20, 1))
    model.log_prob(data).sum().backward()
    assert max(asked) <= largest
    assert sum(asked) >= 2 * 6 * 19 * 9  # a second time in the backward pass


def test_parameters_put_in_place_for_a_call_are_those_of_its_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = SwitchingAR(), Sequences(torch.randn(3, 4, 1), LENGTHS)
    a = torch.randn(3, 1, requires_grad=True)

    def value() -> Tensor:
        return torch.func.functional_call(_Likelihood(model), {"model.a": 2 * a}, (data,))

    (expected,) = torch.autograd.grad(value(), a)
    monkeypatch.setattr(state_laws, "LARGEST", 10)
    (found,) = torch.autograd.grad(value(), a)
    torch.testing.assert_close(found, expected)


class _Likelihood(torch.nn.Module):
    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, data: Sequences) -> Tensor:
        return self.model.log_prob(data).sum()


def test_a_law_that_only_repeats_itself_is_one_table() -> None:
    class Expanded(SwitchingAR):
        def transition(self, z: Tensor, h: Tensor) -> TorchDistribution:
            return super().transition(z, h).expand(torch.broadcast_shapes(z.shape, h.shape[:-1]))

    data = Sequences(torch.randn(3, 4, 1), LENGTHS)
    model = Expanded()
    assert tables_of(model, data).transition.shape == (3, 3)
    torch.testing.assert_close(tables_of(model, data).transition, model.moves.softmax(-1))


def test_inputs_that_all_sequences_share_make_one_row_of_tables() -> None:
    class OfTheClock(SwitchingAR):
        input_dim = 1
        initial_memory = None

        def __init__(self) -> None:
            SequenceModel.__init__(self, Gaussian(1))
            self.states = FiniteStates(2)
            self.moves, self.b = torch.nn.Parameter(torch.randn(2, 2)), torch.nn.Parameter(torch.randn(2, 1))

        def initial(self, h: Tensor) -> TorchDistribution:
            return dist.Categorical(logits=self.moves[0] * h)

        def transition(self, z: Tensor, h: Tensor) -> TorchDistribution:
            return dist.Categorical(logits=self.moves[z] * h)

        def emission(self, z: Tensor, h: Tensor) -> TorchDistribution:
            return dist.Normal(self.b[z], 1.0).to_event(1)

    model, x, clock = OfTheClock(), torch.randn(3, 4, 1), torch.arange(4.0)[None, :, None]
    shared = Sequences(x, LENGTHS, inputs=clock.expand(3, 4, 1))
    apart = Sequences(x, LENGTHS, inputs=clock.repeat(3, 1, 1))
    assert tables_of(model, shared).transition.shape == (1, 3, 2, 2)
    assert tables_of(model, apart).transition.shape == (3, 3, 2, 2)
    values = [model.log_prob(data) for data in (shared, apart)]
    torch.testing.assert_close(*values)
    gradients = [torch.autograd.grad(value.sum(), list(model.parameters())) for value in values]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_move_of_probability_zero_stays_impossible_if_a_law_is_given_by_probabilities() -> None:
    """torch takes logarithms of probabilities that it has moved away from zero."""

    class LeftToRight(SwitchingAR):
        def initial(self, h: Tensor) -> TorchDistribution:
            return dist.Categorical(probs=torch.tensor([1.0, 0.0, 0.0]))

        def transition(self, z: Tensor, h: Tensor) -> TorchDistribution:
            return dist.Categorical(probs=torch.eye(3)[z])

    model, x = LeftToRight(), 1e3 * torch.ones(1, 2, 1)
    with torch.no_grad():
        model.a.zero_()
        model.b.copy_(torch.tensor([[0.0], [1e3], [1e3]]))
        model.raw.zero_()
    expected = 2 * dist.Normal(0.0, 1.0).log_prob(torch.tensor(1e3))
    torch.testing.assert_close(model.log_prob(x), expected[None])
    assert forward_backward.most_likely_states(model, x).states.tolist() == [[0, 0]]


def test_a_law_with_an_axis_too_many_is_an_error_that_names_the_method() -> None:
    class Wrong(SwitchingAR):
        def transition(self, z: Tensor, h: Tensor) -> TorchDistribution:
            return dist.Categorical(logits=self.moves[z] + 0 * h[..., None])

    with pytest.raises(ValueError, match=r"expected transition of Wrong at step 2 to broadcast over"):
        Wrong().log_prob(torch.randn(2, 3, 1))


def test_a_prediction_is_the_ratio_of_likelihoods_with_one_more_step(problem: tuple[SwitchingAR, Sequences]) -> None:
    model, data = problem
    u = data.inputs
    ahead = {} if u is None else {"future_inputs": torch.randn(3, 1, 1)}
    law = forward_backward.predict(model, data, **ahead)
    assert law.batch_shape == (3, 4)
    for i, length in enumerate(LENGTHS.tolist()):
        for t in range(1, length + 1):
            x_next, inputs = torch.randn(1), None
            longer = torch.cat([data.x[i, :t], x_next[None]])[None]
            if u is not None:
                inputs = torch.cat([u[i, :t], ahead["future_inputs"][i] if t == length else u[i, t : t + 1]])[None]
            whole = model.log_prob(longer, inputs=inputs)
            before = model.log_prob(longer[:, :t], inputs=None if inputs is None else inputs[:, :t])
            torch.testing.assert_close(law.log_prob(x_next)[i, t - 1], (whole - before)[0].detach())


def test_a_prediction_without_the_next_inputs_is_an_error() -> None:
    x = torch.randn(3, 4, 1)
    with pytest.raises(ValueError, match=r"expected future_inputs of shape \(3, 1, 1\), the inputs of the step after"):
        forward_backward.predict(Driven(), x, inputs=torch.randn(3, 4, 1))
    with pytest.raises(ValueError, match="expected no future_inputs, because the model takes none"):
        forward_backward.predict(SwitchingAR(), x, future_inputs=torch.randn(3, 1, 1))


def test_a_memory_that_reads_every_observation_refuses_gaps_in_its_posterior_too() -> None:
    mask = torch.tensor([[True, False, True]])
    with pytest.raises(ValueError, match="the memory of SwitchingAR reads every observation"):
        forward_backward.filter(SwitchingAR(), torch.randn(1, 3, 1), mask=mask)


@pytest.mark.nightly
@pytest.mark.slow
def test_value_and_gradient_of_a_large_driven_chain_take_less_than_two_gigabytes() -> None:
    """64 states, 32 sequences of 1000 steps: whole tables and what autograd keeps of them would take more."""
    assert finite_memory.measured("float32").megabytes * 1e6 < finite_memory.LIMIT


@pytest.mark.parametrize("gaps", ["none", "steps", "entries"])
@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("num_states", [3, 17])
def test_normal_densities_in_one_pass_are_those_of_the_law(
    num_states: int, scalar: bool, gaps: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loc, scale = torch.randn(num_states, 2, requires_grad=True), torch.rand(num_states, requires_grad=True)
    x, h = (torch.randn(3, 4), torch.randn(3, 4, 1)) if scalar else (torch.randn(3, 4, 2), torch.randn(3, 4, 2))
    observed = {"none": None, "steps": torch.rand(3, 4) < 0.5, "entries": torch.rand(x.shape) < 0.5}[gaps]

    def emission(z: Tensor, h: Any) -> TorchDistribution:
        if scalar:
            return dist.Normal(loc[z, 0] * h[..., 0], scale[z].exp())
        return dist.Normal(loc[z] + h, scale[z, None].exp()).to_event(1)

    found = []
    for large in (2**40, 1):
        monkeypatch.setattr(state_laws, "_LARGE", large)
        value = state_laws.densities_at_states(emission, num_states, x, observed, h)
        found.append((value, *torch.autograd.grad(value.sin().sum(), (loc, scale))))
    torch.testing.assert_close(*found)


class Mixed(SwitchingAR):
    """Each observation is one of two normal laws in each state, of which the second has a scale of its own."""

    second = 1.0

    def emission(self, z: Any, h: Any) -> TorchDistribution:
        loc = torch.stack([self.a[z] * h, self.b[z] + 0 * h], dim=-1)
        scale = torch.tensor([1.0, self.second], dtype=loc.dtype)
        weights = dist.Categorical(logits=torch.zeros_like(loc))
        return dist.MixtureSameFamily(weights, dist.Normal(loc, scale)).to_event(1)


def invalid(parameter: str, value: float) -> SwitchingAR:
    """A model of which one number is no parameter of a normal law."""

    class Wrong(SwitchingAR):
        def emission(self, z: Any, h: Any) -> TorchDistribution:
            law = {"loc": self.a[z] * h + self.b[z], "scale": self.raw[z].exp() + 0 * h}
            law[parameter] = law[parameter].masked_fill((z == 1)[..., None] & (h > 2), value)
            return dist.Normal(**law).to_event(1)

    return Wrong()


@pytest.mark.parametrize(
    ("parameter", "value"), [("scale", 0.0), ("scale", -1.0), ("scale", torch.nan), ("loc", torch.nan)]
)
@pytest.mark.parametrize("num_steps", [10, 5000])  # the second is evaluated by the compiled pass
def test_a_parameter_that_no_normal_law_has_is_an_error_in_tables_of_every_size(
    parameter: str, value: float, num_steps: int
) -> None:
    x = torch.randn(4, num_steps, 1)
    x[2, 5] = 3.0  # what h is then makes one state at one step invalid
    with pytest.raises(ValueError, match=rf"(?s)parameter {parameter} .*constraint"):
        invalid(parameter, value).log_prob(x)
    assert bool(invalid(parameter, value).log_prob(x.clamp(max=2.0)).isfinite().all())  # the control


def test_what_is_not_checked_is_a_normal_law_alone_and_for_no_longer_than_its_table() -> None:
    x = torch.randn(4, 50, 1)
    with pyro.validation_enabled(False):
        assert bool(invalid("scale", -1.0).log_prob(x + 3).isnan().any())
    with pytest.raises(ValueError, match="parameter scale"):
        dist.Normal(0.0, -1.0)
    assert dist.Normal._validate_args == torch.distributions.Distribution._validate_args
    model = Mixed()
    assert bool(model.log_prob(x).isfinite().all())
    model.second = -1.0
    with pytest.raises(ValueError, match="parameter scale"):
        model.log_prob(x)


@pytest.mark.parametrize("num_states", [3, 40])
def test_the_gradient_of_a_scale_that_is_the_same_at_all_steps_is_that_of_one_that_is_repeated(num_states: int) -> None:
    x, h = torch.randn(6, 200, 2), torch.randn(6, 200, 2)
    loc = torch.randn(num_states, 2, requires_grad=True)
    raw = torch.randn(num_states, 2, requires_grad=True)

    def density(scale_of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        def emission(z: Tensor, h: Tensor) -> TorchDistribution:
            return dist.Normal(loc[z] * h, scale_of(raw[z], h)).to_event(1)

        return state_laws.densities_at_states(emission, num_states, x, None, h)

    weights = torch.randn(6, 200, num_states)
    forms: list[Callable[[Tensor, Tensor], Tensor]] = [
        lambda raw, h: raw.exp() + 0 * h,  # the definition: one number for each step
        lambda raw, h: raw.exp(),
        lambda raw, h: raw.exp().expand(torch.broadcast_shapes(raw.shape, h.shape)),
    ]
    expected, *others = [torch.autograd.grad((density(form) * weights).sum(), (loc, raw)) for form in forms]
    for found in others:
        torch.testing.assert_close(found, expected)
    expanded = forms[2]  # what was detached stays so
    value = (density(lambda raw, h: expanded(raw, h).detach()) * weights).sum()
    assert torch.autograd.grad(value, raw, allow_unused=True)[0] is None
