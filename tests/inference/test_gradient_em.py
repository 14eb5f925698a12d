"""EM of models with finitely many states that have no M-step in closed form, or only a part of one."""

import itertools
from collections.abc import Collection

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.emissions import Categorical
from pgm_rnn.inference import em, svi
from pgm_rnn.inference.em import ascent
from pgm_rnn.inference.em.ascent import ascend
from pgm_rnn.inference.forward_backward import ImpossibleSequenceError
from pgm_rnn.models import HMM
from pgm_rnn.sequence_model import ClosedMStep, First, SequenceModel, state_laws
from pgm_rnn.sequence_model.expected import Expected, expect, expected_log_density
from pgm_rnn.sequence_model.tables import tables_of
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import FiniteStates
from tests.instances import every_first
from tests.switching import Driven, SwitchingAR, log_joint

LENGTHS = torch.tensor([4, 1, 3])
EPS = torch.finfo(torch.float64).eps


def small(model: SequenceModel) -> Sequences:
    u = None if model.input_dim is None else torch.randn(3, 4, 1)
    return Sequences(torch.randn(3, 4, 1), LENGTHS, inputs=u)


def drawn(num_sequences: int = 20, num_steps: int = 15) -> Sequences:
    """Two regimes that are easily told apart."""
    model = SwitchingAR(2)
    with torch.no_grad():
        model.moves.copy_(torch.tensor([[2.0, 0.0], [0.0, 2.0]]))
        model.a.copy_(torch.tensor([[0.9], [-0.5]]))
        model.b.copy_(torch.tensor([[0.0], [2.0]]))
        model.raw.fill_(-1.0)
    data = model.sample(num_sequences, num_steps, seed=0)
    return Sequences(data.x, torch.arange(num_sequences) % num_steps + 1)


def start(first: First = "model") -> SwitchingAR:
    torch.manual_seed(0)
    return SwitchingAR(2, first)


def log_likelihood(model: SequenceModel, data: Sequences) -> Tensor:
    return model.log_prob(data).sum().detach()


# The objective of the M-step.


@every_first
@pytest.mark.parametrize("make", [SwitchingAR, Driven])
def test_q_is_the_mean_of_the_log_joint_over_all_paths(make: type[SwitchingAR], first: First) -> None:
    model, other = make(), make()
    data = small(model)
    _, expected = expect(tables_of(model, data), data.lengths)
    found = expected_log_density(tables_of(other, data), expected, first)
    total = torch.zeros(())
    for i, length in enumerate(LENGTHS.tolist()):
        u = None if data.inputs is None else data.inputs[i]
        paths = list(itertools.product(range(3), repeat=length))
        weights = torch.stack([log_joint(model, data.x[i], u, path) for path in paths]).softmax(0)
        values = torch.stack([log_joint(other, data.x[i], u, path) for path in paths])
        total = total + weights @ values
        if first == "condition":
            total = total - other.log_prob(data.x[i : i + 1, :1], inputs=None if u is None else u[None, :1])[0]
    torch.testing.assert_close(found, total)


@every_first
@pytest.mark.parametrize("make", [SwitchingAR, Driven])
def test_its_gradient_at_the_present_parameters_is_that_of_the_likelihood_and_elsewhere_is_not(
    make: type[SwitchingAR], first: First
) -> None:
    """Fisher's identity."""
    model, other = make(), make()
    data, parameters = small(model), list(model.parameters())
    expected = torch.autograd.grad(model.log_prob(data, first=first).sum(), parameters)
    for posterior_of, equal in ((model, True), (other, False)):
        posterior = expect(tables_of(posterior_of, data), data.lengths)[1]
        q = expected_log_density(tables_of(model, data), posterior, first)
        found = torch.autograd.grad(q, parameters)
        same = [torch.allclose(a, b, rtol=1e-8, atol=1e-10) for a, b in zip(found, expected, strict=True)]
        assert all(same) == equal


# The fit.


@every_first
@pytest.mark.parametrize("kind", ["own memory", "inputs beside it"])
def test_no_iteration_lowers_the_likelihood(kind: str, first: First) -> None:
    data = drawn()
    model = start(first)
    if kind != "own memory":
        model = Driven(2, first)
        data = Sequences(data.x, data.lengths, inputs=torch.randn(20, 15, 1))
    before = log_likelihood(model, data)
    result = em.fit(model, data, num_iterations=8, tolerance=0.0, progress=False)
    values = result.log_likelihoods
    torch.testing.assert_close(values[0], before)
    assert float(values.diff().min()) > -64 * EPS * float(values.abs().max())
    assert float(values[-1] - values[0]) > 10
    torch.testing.assert_close(values[-1], log_likelihood(model, data))
    assert result.model is model


def test_it_ends_where_gradient_steps_on_the_likelihood_end() -> None:
    """The maximum that both reach from the same start, where the gradient is zero."""
    data, model, other = drawn(), start(), start()
    fitted = em.fit(model, data, num_iterations=100, tolerance=1e-8, progress=False)
    value = log_likelihood(model, data)
    gradient = torch.autograd.grad(model.log_prob(data).sum(), list(model.parameters()))
    assert fitted.stopped_by == "tolerance"
    assert max(float(g.abs().max()) for g in gradient) < 1e-2  # of a sum over 130 steps
    svi.fit(other, data, objective="mle", num_epochs=300, batch_size=20, learning_rate=0.05, progress=False)
    torch.testing.assert_close(log_likelihood(other, data), value, rtol=0.0, atol=0.05)
    assert float(log_likelihood(start(), data)) < float(value) - 10


def test_m_steps_that_reach_the_top_are_those_of_baum_welch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ascent, "NUM_ITERATIONS", 40)

    class ByItsLaws(SequenceModel):
        def __init__(self, hmm: HMM) -> None:
            super().__init__(Categorical(3))
            self.hmm, self.states = hmm, hmm.states

        def initial(self, h: None) -> TorchDistribution:
            return self.hmm.initial(h)

        def transition(self, z: Tensor, h: None) -> TorchDistribution:
            return self.hmm.transition(z, h)

        def emission(self, z: Tensor, h: None) -> TorchDistribution:
            return self.hmm.emission(z, h)

    hmm = HMM.random(2, 3, seed=1).double()
    x = HMM.random(2, 3, seed=2).double().sample(10, 6, seed=0).x
    twin = ByItsLaws(HMM(hmm.initial_probs.detach(), hmm.transition_probs.detach(), hmm.emission_probs.detach()))
    closed = em.fit(hmm, x, start="model", num_iterations=15, tolerance=0.0, progress=False)
    general = em.fit(twin, x, num_iterations=15, tolerance=0.0, progress=False)
    torch.testing.assert_close(general.log_likelihoods, closed.log_likelihoods, rtol=0.0, atol=1e-3)
    assert float(closed.log_likelihoods.diff()[-1]) > 2e-3  # it is still on its way


def test_an_hmm_given_its_first_observation_climbs_the_conditional_likelihood() -> None:
    x = HMM.random(2, 3, seed=2).double().sample(50, 4, seed=0).x
    drawn = HMM.random(2, 3, seed=1).double()
    hmm = HMM(drawn.initial_probs.detach(), drawn.transition_probs.detach(), drawn.emission_table, first="condition")
    before = log_likelihood(hmm, Sequences(x, torch.full((50,), 4)))
    values = em.fit(hmm, x, num_iterations=10, tolerance=0.0, progress=False).log_likelihoods
    torch.testing.assert_close(values[0], before)
    assert float(values.diff().min()) > -64 * EPS * float(values.abs().max())
    assert float(values[-1] - values[0]) > 1
    torch.testing.assert_close(values[-1], log_likelihood(hmm, Sequences(x, torch.full((50,), 4))))


@pytest.mark.parametrize("largest", [1, 100])
def test_groups_of_sequences_change_nothing(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Sequences(drawn(4, 6).x, torch.tensor([6, 2, 1, 6]), inputs=torch.randn(4, 6, 1))
    fits = []
    for entries in (state_laws.LARGEST, largest):
        monkeypatch.setattr(state_laws, "LARGEST", entries)
        torch.manual_seed(1)
        model = Driven(2)
        fits.append((em.fit(model, data, num_iterations=2, tolerance=0.0, progress=False), model))
    torch.testing.assert_close(fits[0][0].log_likelihoods, fits[1][0].log_likelihoods)
    for a, b in zip(fits[0][1].parameters(), fits[1][1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)  # the line search may differ by rounding


# Options.


def test_frozen_parameters_stay_bit_for_bit_however_they_are_frozen() -> None:
    data, model = drawn(), start()
    model.raw.requires_grad_(False)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    em.fit(model, data, num_iterations=2, frozen=["a"], progress=False)
    same = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert same == {"a", "raw"}
    assert not model.raw.requires_grad
    assert model.a.requires_grad


def test_a_part_of_an_hmm_that_needs_no_gradient_stays() -> None:
    hmm = HMM.random(2, 3, seed=1).double()
    x = HMM.random(2, 3, seed=2).double().sample(20, 10, seed=0).x
    hmm.transition_logits.requires_grad_(False)
    before = {name: parameter.detach().clone() for name, parameter in hmm.named_parameters()}
    em.fit(hmm, x, num_iterations=3, start="model", progress=False)
    same = {name for name, parameter in hmm.named_parameters() if torch.equal(parameter, before[name])}
    assert same == {"transition_logits"}


def test_restarts_disturb_the_start_and_the_best_one_is_kept() -> None:
    """Equal states are a saddle point, which only a disturbed start leaves."""

    def symmetric() -> SwitchingAR:
        model = SwitchingAR(2)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        return model

    data, alone, several = drawn(), symmetric(), symmetric()
    em.fit(alone, data, num_iterations=10, progress=False)
    result = em.fit(several, data, num_restarts=3, num_iterations=10, seed=1, progress=False)
    again = em.fit(symmetric(), data, num_restarts=3, num_iterations=10, seed=1, progress=False)
    assert result.restarts.log_likelihoods.shape == (3,)
    assert result.restarts.chosen == int(result.restarts.log_likelihoods.argmax()) > 0
    assert torch.equal(result.log_likelihoods, again.log_likelihoods)
    torch.testing.assert_close(result.restarts.log_likelihoods[0], log_likelihood(alone, data))
    torch.testing.assert_close(result.log_likelihood, log_likelihood(several, data))
    assert float(result.log_likelihood) > float(log_likelihood(alone, data)) + 10


def test_validation_data_choose_among_starts() -> None:
    data, valid, model = drawn(), drawn(5, 10), start()
    result = em.fit(model, data, valid=valid, num_restarts=2, num_iterations=3, progress=False)
    assert result.restarts.valid_log_likelihoods is not None
    assert result.restarts.chosen == int(result.restarts.valid_log_likelihoods.argmax())
    torch.testing.assert_close(
        result.restarts.valid_log_likelihoods[result.restarts.chosen], log_likelihood(model, valid)
    )


REFUSED = {
    "start": ({"start": "data"}, "expected start='model' for a SwitchingAR, whose M-step takes gradient steps"),
    "pseudo_count": ({"pseudo_count": 1.0}, "expected no pseudo_count for a SwitchingAR"),
    "pseudo_observations": ({"pseudo_observations": 1.0}, "expected no pseudo_observations for a SwitchingAR"),
    "min_scale": ({"min_scale": 0.1}, "expected no min_scale for a SwitchingAR"),
    "frozen": ({"frozen": ["emission"]}, "expected frozen"),
    "all frozen": ({"frozen": ["start", "moves", "a", "b", "raw"]}, "expected at least one part left to fit"),
    "inputs": ({"inputs": torch.zeros(20, 15, 1)}, "expected no inputs, because the model takes none"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_an_option_without_a_meaning_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        em.fit(start(), drawn(), progress=False, **options)  # type: ignore[arg-type]


def test_a_model_without_a_free_parameter_is_an_error() -> None:
    with pytest.raises(
        ValueError,
        match="expected at least one parameter to fit, got a SwitchingAR in which every one has requires_grad=",
    ):
        em.fit(start().requires_grad_(False), drawn(), progress=False)


def test_a_memory_that_reads_the_states_is_refused() -> None:
    class Remembers(SwitchingAR):
        memory_reads_state = True

    has = "finite states and a memory that reads them"
    with pytest.raises(
        TypeError, match=rf"expected a model with finite or .* for em, Remembers has {has}; use smc or svi"
    ):
        em.fit(Remembers(), torch.randn(2, 3, 1), progress=False)


def test_impossible_observations_are_a_named_error() -> None:
    class OneSymbol(SequenceModel):
        def __init__(self) -> None:
            super().__init__(Categorical(2))
            self.states, self.start = FiniteStates(2), nn.Parameter(torch.zeros(2))

        def initial(self, h: None) -> TorchDistribution:
            return dist.Categorical(logits=self.start)

        def transition(self, z: Tensor, h: None) -> TorchDistribution:
            return dist.Categorical(logits=self.start)

        def emission(self, z: Tensor, h: None) -> TorchDistribution:
            return dist.Categorical(logits=torch.tensor([0.0, -torch.inf]))

    with pytest.raises(ImpossibleSequenceError, match="probability zero for sequence 1 from step 2 on; start from"):
        em.fit(OneSymbol(), torch.tensor([[0, 0], [0, 1]]), progress=False)


def test_a_fit_that_fails_leaves_the_model_as_it_was() -> None:
    model = start()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(ValueError, match="expected"):
        em.fit(model, drawn(), num_iterations=0, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


# A part in closed form.


class PartlyClosed(ClosedMStep, SwitchingAR):
    """p(z_1) and the transitions by counting; the regressions by gradient steps."""

    calls = 0

    def maximise(self, data: Sequences, expected: Expected) -> Collection[str]:
        assert len(data.x) == len(expected.states)
        type(self).calls += 1
        self.start.data.copy_(expected.first.sum(0).log())
        self.moves.data.copy_(expected.moves.log())
        self.raw.data.zero_()  # frozen below: it is put back
        return ["start", "moves"]


def test_a_model_sets_what_it_can_and_the_rest_takes_gradient_steps() -> None:
    data, PartlyClosed.calls = drawn(), 0
    torch.manual_seed(0)
    closed, general = PartlyClosed(2), start()
    closed.raw.requires_grad_(False)
    general.raw.requires_grad_(False)
    raw = closed.raw.detach().clone()
    fits = [em.fit(model, data, num_iterations=100, tolerance=1e-8, progress=False) for model in (closed, general)]
    assert PartlyClosed.calls > 0
    assert torch.equal(closed.raw, raw)
    torch.testing.assert_close(fits[0].log_likelihood, fits[1].log_likelihood, rtol=0.0, atol=1e-3)
    values = fits[0].log_likelihoods
    assert float(values.diff().min()) > -64 * EPS * float(values.abs().max())


def test_a_closed_m_step_that_lowers_q_is_undone() -> None:
    class Wrong(PartlyClosed):
        def maximise(self, data: Sequences, expected: Expected) -> Collection[str]:
            self.moves.data.copy_(100 * torch.randn(2, 2))
            return ["moves"]

    torch.manual_seed(0)
    model, data = Wrong(2), drawn()
    values = em.fit(model, data, num_iterations=5, tolerance=0.0, progress=False).log_likelihoods
    assert float(values.diff().min()) > -64 * EPS * float(values.abs().max())
    assert float(values[-1] - values[0]) > 10


# The ascent.


def test_an_ascent_reaches_the_top_of_a_parabola_and_stays_there() -> None:
    place = nn.Parameter(torch.tensor([3.0, -2.0]))
    gain = ascend([place], lambda: -(place**2 * torch.tensor([1.0, 100.0])).sum(), 1.0)
    assert gain == pytest.approx(409.0)
    torch.testing.assert_close(place.detach(), torch.zeros(2), rtol=0.0, atol=1e-8)
    assert 0 <= ascend([place], lambda: -(place**2).sum(), 1.0) < 1e-12


def test_an_ascent_never_ends_lower_even_where_values_are_no_numbers() -> None:
    place = nn.Parameter(torch.tensor(0.5))

    def value() -> Tensor:
        return 1e6 * place.where(place < 0.6, torch.nan)

    assert ascend([place], value, 1.0) > 0
    assert 0.5 < float(place.detach()) < 0.6
