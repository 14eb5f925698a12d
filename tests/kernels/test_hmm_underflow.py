"""Chains in which a belief may become smaller than any float, against a recursion in log space."""

import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import forward_backward
from pgm_rnn.kernels import hmm, hmm_forward, hmm_losses
from pgm_rnn.models import HMM

EPS = {dtype: torch.finfo(dtype).eps for dtype in (torch.float32, torch.float64)}
DTYPES = pytest.mark.parametrize("dtype", EPS, ids=["float32", "float64"])


@pytest.fixture(params=["compiled", "batched"], autouse=True)
def _backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hmm, "prefers_batched", lambda emission: request.param == "batched")


class LogSpace:
    """The recursions of one sequence in log space and float64, where nothing underflows: the definition."""

    def __init__(self, initial: Tensor, transition: Tensor, log_emission: Tensor) -> None:
        log_initial, log_emission = initial.double().log(), log_emission.double()
        steps = len(log_emission) - 1
        tables = transition.double().log().expand(steps, -1, -1) if transition.dim() == 2 else transition.double().log()
        ahead, back = [log_initial + log_emission[0]], [torch.zeros_like(log_initial)]
        for t in range(steps):
            ahead.append((ahead[-1][:, None] + tables[t]).logsumexp(0) + log_emission[t + 1])
        for t in reversed(range(steps)):
            back.append((tables[t] + (log_emission[t + 1] + back[-1])).logsumexp(1))
        forward, backward = torch.stack(ahead), torch.stack(back[::-1])
        self.value = forward[-1].logsumexp(0)
        self.filtered = forward.softmax(-1)
        self.smoothed = (forward + backward - self.value).exp()
        into = log_emission[1:, None] + backward[1:, None]
        self.pairs = (forward[:-1, :, None] + tables + into - self.value).exp()
        largest = max(float(nats[nats.isfinite()].abs().max()) for nats in (forward, backward))
        self.rounding = EPS[torch.float64] / 2 * largest * len(log_emission)
        """Of the reference itself: one rounding error a step, of sums of nats that are exponentiated."""


def random_rows(num_states: int, generator: torch.Generator) -> Tensor:
    return torch.rand(num_states, num_states, generator=generator, dtype=torch.float64) + 0.05


def chain(kind: str, num_states: int, seed: int) -> tuple[Tensor, Tensor]:
    """A chain whose transitions have zeros, or numbers near zero, in places."""
    generator = torch.Generator().manual_seed(seed)
    rows, at = random_rows(num_states, generator), torch.arange(num_states)
    ahead = at[None] - at[:, None]
    kept = {
        "left to right": (ahead >= 0),
        "one step right": (ahead >= 0) & (ahead <= 1),
        "blocks": (at[None] % 2) == (at[:, None] % 2),
        "permutation": torch.randperm(num_states, generator=generator)[:, None] == at,
        "ring": ahead % num_states <= 1,
        "birth and death": ahead.abs() <= 1,
        "sparse": (torch.rand(rows.shape, generator=generator) < 0.3) | (ahead == 0),
        "tiny": torch.ones_like(ahead, dtype=torch.bool),
        "dense": torch.ones_like(ahead, dtype=torch.bool),
    }[kind]
    if kind == "tiny":
        powers = 300 * torch.rand(rows.shape, generator=generator, dtype=torch.float64)
        rows = rows.where(torch.rand(rows.shape, generator=generator) < 0.5, 10.0**-powers)
    rows = rows.where(kept, 0.0)
    initial = rows.new_zeros(num_states).index_fill(0, at[:1], 1.0) if "right" in kind else rows.new_ones(num_states)
    return initial / initial.sum(), rows / rows.sum(-1, keepdim=True)


KINDS = [
    "left to right",
    "one step right",
    "blocks",
    "permutation",
    "ring",
    "birth and death",
    "sparse",
    "tiny",
    "dense",
]


def observations(num_states: int, scale: float, seed: int) -> Tensor:
    """log p(x_t | k) of two sequences: outliers, impossible ones, phases that favour one end of the states."""
    generator = torch.Generator().manual_seed(seed)
    log_emission = torch.randn(2, 50, num_states, generator=generator, dtype=torch.float64) * scale
    outlying = torch.rand(2, 50, 1, generator=generator) < 0.1
    phase = torch.tensor([-1.0, 1.0, -1.0, 1.0, -1.0], dtype=torch.float64).repeat_interleave(10)[:, None]
    log_emission = log_emission.where(~outlying, 20 * log_emission)
    log_emission += phase * torch.linspace(0, 3 * scale, num_states, dtype=torch.float64)
    impossible = torch.rand(log_emission.shape, generator=generator) < 0.03
    return log_emission.where(~impossible, -torch.inf)


def every_case(kind: str, dtype: torch.dtype) -> list[tuple[Tensor, Tensor, Tensor]]:
    cases = []
    for seed, (num_states, scale) in enumerate([(2, 1.0), (2, 30.0), (5, 3.0), (5, 100.0), (9, 1.0), (9, 400.0)]):
        initial, transition = (table.to(dtype) for table in chain(kind, num_states, seed))
        cases.append((initial, transition, observations(num_states, scale, seed).to(dtype)))
    return cases


LENGTHS = torch.tensor([50, 23])


@DTYPES
@pytest.mark.parametrize("kind", KINDS)
def test_every_result_is_that_of_a_recursion_in_log_space(kind: str, dtype: torch.dtype) -> None:
    for initial, transition, log_emission in every_case(kind, dtype):
        tensors = [tensor.clone().requires_grad_() for tensor in (initial, transition, log_emission)]
        values = hmm.log_marginal_likelihood(tensors[0], tensors[1], tensors[2], LENGTHS)
        result = hmm.forward(initial, transition, log_emission, LENGTHS)
        backward = hmm.backward(transition, LENGTHS, result)
        pairs = hmm.pairwise_probs(transition, result, backward.future)
        weights = values.detach().isfinite().to(dtype)
        gradients = torch.autograd.grad(values, tensors, weights)
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
        _, counts, _ = hmm.expected_pairs(transition, LENGTHS, result, weights)
        expected_counts = torch.zeros_like(transition, dtype=torch.float64)
        for b, length in enumerate(LENGTHS.tolist()):
            exact = LogSpace(initial, transition, log_emission[b, :length])
            if not exact.value.isfinite():
                assert values[b] == result.log_normalizers[b].sum() == -torch.inf
                continue
            bound = 4 * EPS[dtype] * length
            size = 1 + float(log_emission[b][log_emission[b].isfinite()].abs().max()) * length
            assert abs(float(values[b].detach()) - float(exact.value)) < bound * size
            tolerance = bound + 4 * exact.rounding
            assert float((result.filtered[b, :length] - exact.filtered).abs().max()) < tolerance
            assert float((backward.smoothed[b, :length] - exact.smoothed).abs().max()) < tolerance
            assert float((pairs[b, : length - 1] - exact.pairs).abs().max()) < tolerance
            assert float((gradients[2][b, :length] - exact.smoothed).abs().max()) < tolerance
            expected_counts += exact.pairs.sum(0)
        error = (counts - expected_counts).abs() / (1 + expected_counts)
        assert float(error.max()) < 4 * EPS[dtype] * 50 + 4 * exact.rounding
        normal = transition > 1e6 * torch.finfo(dtype).tiny
        error = (gradients[1] * transition - expected_counts).abs() / (1 + expected_counts)
        assert float(error[normal].max()) < 4 * EPS[dtype] * 50 + 4 * exact.rounding


@DTYPES
def test_without_the_test_for_losses_states_are_lost(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    # The negative control: the ordinary recursion alone is wrong on these chains.
    initial, transition, lengths = torch.full((2,), 0.5, dtype=dtype), torch.eye(2, dtype=dtype), torch.tensor([30])
    log_emission = torch.zeros(1, 30, 2, dtype=dtype)
    log_emission[0, :10, 0], log_emission[0, 10:, 1] = -100.0, -150.0  # nats: the first state wins at the end
    exact = LogSpace(initial, transition, log_emission[0]).value
    right = hmm.log_marginal_likelihood(initial, transition, log_emission, lengths)
    monkeypatch.setattr(hmm_forward, "is_dense", lambda initial, transition: True)
    wrong = hmm.log_marginal_likelihood(initial, transition, log_emission, lengths)
    assert abs(float(right) / float(exact) - 1) < 30 * EPS[dtype]
    assert not abs(float(wrong) / float(exact) - 1) < 0.5


def test_a_state_that_comes_back_in_the_middle_is_filtered_rightly() -> None:
    # Three phases: the block that wins at the end hides that the other one had won in the middle.
    log_emission = torch.zeros(1, 30, 2)
    log_emission[0, :10, 0], log_emission[0, 10:20, 1], log_emission[0, 20:, 0] = -30.0, -45.0, -200.0
    log_emission[0, 20:, 1], log_emission[0, 20:, 0] = -200.0, 0.0
    initial, transition = torch.full((2,), 0.5), torch.eye(2)
    exact = LogSpace(initial, transition, log_emission[0])
    assert float(exact.filtered[9, 1]) > 0.999 > 0.001 > float(exact.filtered[25, 1])
    result = hmm.forward(initial, transition, log_emission, torch.tensor([30]))
    torch.testing.assert_close(result.filtered[0].double(), exact.filtered, rtol=0, atol=1e-5)


@DTYPES
def test_tables_that_vary_over_sequences_and_steps_lose_nothing(dtype: torch.dtype) -> None:
    kinds = ("blocks", "one step right", "left to right")
    for axes in ("per sequence", "per step", "per step and sequence"):
        tables = torch.stack([torch.stack([chain(kind, 4, seed)[1] for seed in range(49)]) for kind in kinds[:2]])
        transition = {"per sequence": tables[:, :1], "per step": tables[0], "per step and sequence": tables}[axes]
        transition = transition.to(dtype).requires_grad_()
        log_emission = observations(4, 40.0, seed=5).to(dtype).clamp(min=-1e4)
        initial = torch.full((4,), 0.25, dtype=dtype)
        value = hmm.log_marginal_likelihood(initial, transition, log_emission, LENGTHS)
        (gradient,) = torch.autograd.grad(value.sum(), transition)
        counts = torch.zeros_like(transition, dtype=torch.float64)
        for b, length in enumerate(LENGTHS.tolist()):
            own = (transition[b] if transition.dim() == 4 else transition).detach().expand(49, 4, 4)
            exact = LogSpace(initial, own[: length - 1], log_emission[b, :length])
            assert float(value[b].detach()) == pytest.approx(float(exact.value), rel=50 * EPS[dtype])
            into = counts[b] if transition.dim() == 4 else counts
            if into.shape[0] == 1:
                into += exact.pairs.sum(0)
            else:
                into[: length - 1] += exact.pairs
        torch.testing.assert_close(
            (gradient * transition).double(), counts, rtol=0, atol=200 * EPS[dtype] * 50 + 4 * exact.rounding
        )


@pytest.mark.slow
@DTYPES
def test_the_best_path_is_never_likelier_than_all_paths_and_draws_stay_in_the_support(dtype: torch.dtype) -> None:
    for kind in KINDS:
        for initial, transition, log_emission in every_case(kind, dtype):
            value = hmm.log_marginal_likelihood(initial, transition, log_emission, LENGTHS)
            _, best = hmm.most_likely_states(initial.log(), transition.log(), log_emission, LENGTHS)
            assert bool((value >= best - 100 * EPS[dtype] * best.abs().where(best.isfinite(), 0.0)).all())
            result = hmm.forward(initial, transition, log_emission, LENGTHS)
            possible = value.isfinite()
            states = hmm.sample_states(transition, LENGTHS, result, torch.rand(20, 2, 50, dtype=dtype))
            moves = transition[states[..., :-1], states[..., 1:]] > 0
            starts = initial[states[..., 0]] > 0
            emitted = log_emission.expand(20, -1, -1, -1).gather(-1, states[..., None])[..., 0] > -torch.inf
            inside = torch.arange(50) < LENGTHS[:, None]
            assert bool((moves | ~inside[:, 1:])[:, possible].all())
            assert bool(starts[:, possible].all())
            assert bool((emitted | ~inside)[:, possible].all())
            smoothed = hmm.backward(transition, LENGTHS, result).smoothed
            totals = smoothed.sum(-1)[possible]
            torch.testing.assert_close(totals, inside[possible].to(dtype), rtol=0, atol=1e3 * EPS[dtype])


@DTYPES
def test_draws_have_the_smoothed_frequencies_where_beliefs_are_below_every_float(dtype: torch.dtype) -> None:
    # Two blocks: the first falls behind by 2000 nats, and comes back to within one.
    log_emission = torch.zeros(1, 20, 2, dtype=dtype)
    log_emission[0, :10, 0], log_emission[0, 10:, 1], log_emission[0, 19, 1] = -200.0, -200.0, -199.0
    initial, transition, lengths = torch.full((2,), 0.5, dtype=dtype), torch.eye(2, dtype=dtype), torch.tensor([20])
    result = hmm.forward(initial, transition, log_emission, lengths)
    states = hmm.sample_states(transition, lengths, result, torch.rand(4000, 1, 20, dtype=dtype))
    assert bool((states == states[..., :1]).all())
    expected = LogSpace(initial, transition, log_emission[0]).smoothed[0, 1]
    assert 0.5 < float(expected) < 0.9
    standard_error = float((expected * (1 - expected) / 4000).sqrt())
    frequency = float(states[:, 0, 0].double().mean())
    assert abs(frequency - float(expected)) < 4 * standard_error
    assert abs(frequency - 0.5) > 4 * standard_error


@DTYPES
def test_many_states_lose_nothing(dtype: torch.dtype) -> None:
    initial, transition = (table.to(dtype) for table in chain("blocks", 1024, seed=0))
    log_emission = torch.zeros(8, 12, 1024, dtype=dtype)
    log_emission[:, :6, ::2], log_emission[:, 6:, 1::2] = -300.0, -400.0
    value = hmm.log_marginal_likelihood(initial, transition, log_emission, torch.full((8,), 12))
    exact = LogSpace(initial, transition, log_emission[0]).value
    torch.testing.assert_close(value, exact.to(dtype).expand(8), rtol=20 * EPS[dtype], atol=0)


@DTYPES
def test_gradients_at_a_zero_of_the_initial_law_stay_finite_over_sequences(dtype: torch.dtype) -> None:
    # The true ones are infinite; a softmax multiplies them by zero, and must find zero.
    logits = torch.tensor([0.0, -torch.inf], dtype=dtype, requires_grad=True)
    transition = torch.tensor([[0.9, 0.1], [0.0, 1.0]], dtype=dtype)
    log_emission = torch.zeros(3, 5, 2, dtype=dtype)
    log_emission[:, 0, 0] = -900.0
    log_emission.requires_grad_()
    value = hmm.log_marginal_likelihood(logits.softmax(-1), transition, log_emission, torch.full((3,), 5))
    gradient, smoothed = torch.autograd.grad(value.sum(), (logits, log_emission))
    torch.testing.assert_close(value.detach(), torch.full((3,), -900.0, dtype=dtype))
    torch.testing.assert_close(gradient, torch.zeros(2, dtype=dtype), rtol=0, atol=10 * EPS[dtype])
    assert bool(smoothed.isfinite().all())


@DTYPES
@pytest.mark.parametrize("weight", [1.0, -3.0])
def test_gradients_of_a_loss_are_finite_where_an_unreachable_state_fits_ever_better(
    dtype: torch.dtype, weight: float
) -> None:
    # Backward numbers of the state that no path leads to grow by 5 nats a step, and overflow with either sign.
    initial = torch.tensor([1.0, 0.0], dtype=dtype, requires_grad=True)
    transition = torch.eye(2, dtype=dtype, requires_grad=True)
    log_emission = torch.tensor([-5.0, 0.0], dtype=dtype).expand(3, 400, 2).clone().requires_grad_()
    value = hmm.log_marginal_likelihood(initial, transition, log_emission, torch.tensor([400, 400, 7]))
    gradients = torch.autograd.grad(weight * value.sum(), (initial, transition, log_emission))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    torch.testing.assert_close(gradients[1][0, 0], torch.tensor(weight * (399 + 399 + 6), dtype=dtype))
    torch.testing.assert_close(gradients[2].sum((0, 1)), torch.tensor([weight * 807, 0.0], dtype=dtype))


@DTYPES
def test_pairs_of_chains_side_by_side_are_those_of_the_chains_one_by_one(dtype: torch.dtype) -> None:
    tables = torch.stack([chain(kind, 4, seed=2)[1] for kind in ("blocks", "left to right")])[:, None].to(dtype)
    initial, lengths = torch.full((4,), 0.25, dtype=dtype), LENGTHS.repeat_interleave(2)
    log_emission = observations(4, 60.0, seed=2).to(dtype).clamp(min=-1e4).repeat_interleave(2, 0)
    result = hmm.forward(initial, tables, log_emission, lengths)
    pairs = hmm.pairwise_probs(tables, result, hmm.backward(tables, lengths, result).future)
    for b, length in enumerate(lengths.tolist()):
        exact = LogSpace(initial, tables[b % 2, 0], log_emission[b, :length])
        tolerance = 4 * EPS[dtype] * length + 4 * exact.rounding
        torch.testing.assert_close(pairs[b, : length - 1].double(), exact.pairs, rtol=0, atol=tolerance)


def test_ordinary_sequences_of_sparse_chains_take_the_ordinary_recursion() -> None:
    initial, transition = chain("birth and death", 6, seed=0)
    log_emission = torch.randn(50, 40, 6, dtype=torch.float64)
    result = hmm.forward(initial, transition, log_emission, torch.full((50,), 40))
    assert result.wide is None
    assert not result.parts


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_chain_is_dense_from_a_least_probability_on(factor: float) -> None:
    least = hmm_losses.LEAST_TRANSITION[torch.float32] * factor
    initial = torch.tensor([1.0, 0.0], dtype=torch.float32)
    transition = torch.tensor([[1.0, least], [0.5, 0.5]], dtype=torch.float32)
    assert hmm_losses.is_dense(initial, transition) == (factor > 1)


@DTYPES
def test_a_long_absorbing_chain_is_right_and_has_gradients(dtype: torch.dtype) -> None:
    # State 0 is left for good, at any time: closed form for emissions that do not depend on the state.
    initial = torch.tensor([1.0, 0.0], dtype=dtype)
    transition = torch.tensor([[0.5, 0.5], [0.0, 1.0]], dtype=dtype, requires_grad=True)
    log_emission = torch.zeros(1, 5000, 2, dtype=dtype)
    value = hmm.log_marginal_likelihood(initial, transition, log_emission, torch.tensor([5000]))
    (gradient,) = torch.autograd.grad(value, transition)
    # sum_t p(z_t = 0) = 2 visits of state 0 on average: one stays, one leaves; then state 1 for good
    counts = torch.tensor([[1.0, 1.0], [0.0, 5000 - 3.0]], dtype=dtype)
    torch.testing.assert_close(gradient * transition, counts, rtol=1e3 * EPS[dtype], atol=1e-4)
    assert abs(float(value.detach())) < 5000 * EPS[dtype]


@pytest.mark.parametrize("size", [1e10, 1e30, 1e300])
def test_log_densities_of_any_size_are_summed(size: float) -> None:
    initial, transition, lengths = torch.full((2,), 0.5), torch.eye(2), torch.tensor([3])
    log_emission = torch.tensor([[[0.0, -size], [-3 * size, 0.0], [0.0, -1.0]]])
    result = hmm.forward(initial, transition, log_emission, lengths)
    exact = LogSpace(initial, transition, log_emission[0])
    torch.testing.assert_close(result.log_normalizers.sum(), exact.value, rtol=4e-16, atol=0)
    torch.testing.assert_close(result.filtered[0], torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    assert hmm.backward(transition, lengths, result).smoothed[0].tolist() == [[0.0, 1.0]] * 3


def test_an_outlier_in_a_model_is_above_the_best_path() -> None:
    emission = Gaussian().table(torch.tensor([0.0, 20.0]), torch.ones(2))
    model = HMM(torch.tensor([1.0, 0.0]), torch.tensor([[0.9, 0.1], [0.0, 1.0]]), emission)
    x = torch.tensor([[0.0] * 10 + [20.0] + [0.0] * 20])
    value = forward_backward.filter(model, x).log_marginal_likelihood
    best = forward_backward.most_likely_states(model, x).log_prob
    log_emission = model.emission_log_probs(x).detach()[0]
    exact = LogSpace(model.initial_probs.detach(), model.transition_probs.detach(), log_emission).value
    torch.testing.assert_close(value.double(), exact[None], rtol=1e-6, atol=0)
    assert float(value) > float(best)


def test_best_paths_of_long_sequences_in_single_precision_are_those_of_double_precision() -> None:
    model = HMM.random(num_states=5, num_symbols=10, seed=0)
    x = model.sample(40, 3000, seed=1).x.reshape(1, -1)
    single = forward_backward.most_likely_states(model.float(), x)
    double = forward_backward.most_likely_states(model.double(), x)
    assert torch.equal(single.states, double.states)
    assert abs(float(single.log_prob) / float(double.log_prob) - 1) < EPS[torch.float32]
