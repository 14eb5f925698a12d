"""The cells that are linear in their state: their published properties, and the scan that unrolls them."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.kernels import diagonal
from pgm_rnn.models.cell import Cell
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.linear_cells import LRU, LinearCell
from pgm_rnn.models.markov_chain import MarkovChain
from pgm_rnn.models.recurrent_hmm import RecurrentHMM
from pgm_rnn.models.rnn import RNN
from tests.instances import LENGTHS, make_rnn, ragged, randomised

every_linear_cell = pytest.mark.parametrize("name", ["min-gru", "lru"])


def make(name: str, hidden_dim: int = 4, num_layers: int = 1, input_dim: int = 3) -> LinearCell:
    cell = randomised(CELLS[name](input_dim, hidden_dim, num_layers))
    assert isinstance(cell, LinearCell)
    return cell


def lru(hidden_dim: int = 4) -> LRU:
    (layer,) = make("lru", hidden_dim).layers
    assert isinstance(layer, LRU)
    return layer


@every_linear_cell
def test_a_step_is_affine_in_the_state(name: str) -> None:
    cell, x = make(name), torch.randn(3)
    one, other = torch.randn(4), torch.randn(4)
    mixed = cell.step(x, 0.3 * one + 0.7 * other)
    torch.testing.assert_close(mixed, 0.3 * cell.step(x, one) + 0.7 * cell.step(x, other))


@pytest.mark.parametrize("name", ["gru", "lstm", "elman"])
def test_a_step_of_the_other_cells_is_not(name: str) -> None:
    cell, x = randomised(CELLS[name](3, 4, 1)), torch.randn(3)
    one, other = torch.randn(cell.state_dim), torch.randn(cell.state_dim)
    mixed = cell.step(x, 0.3 * one + 0.7 * other)
    assert not torch.allclose(mixed, 0.3 * cell.step(x, one) + 0.7 * cell.step(x, other), atol=1e-4)


def test_the_state_of_a_min_gru_is_a_weighted_mean_of_its_candidates() -> None:
    cell, x, start = make("min-gru"), torch.randn(50, 2, 3), torch.randn(4)
    candidates = torch.cat([start.expand(1, 2, 4), cell.project(x).chunk(2, -1)[1]])
    h = cell.unroll(x, start)
    assert bool((h <= candidates.cummax(0).values + 1e-12).all())
    assert bool((h >= candidates.cummin(0).values - 1e-12).all())


def test_the_factors_of_an_lru_stay_inside_the_unit_circle_whatever_the_parameters() -> None:
    layer = randomised(lru(9), scale=3.0)
    assert bool((layer.eigenvalues.abs() < 1).all())
    assert layer.eigenvalues[-1].imag == 0  # the real unit of an odd number of entries
    assert bool((layer.eigenvalues[:-1].imag != 0).all())


def test_the_factors_of_a_fresh_lru_are_uniform_on_the_disc() -> None:
    """Orvieto et al., lemma 3.2: |lambda|^2 and the angle are uniform."""
    torch.manual_seed(0)
    factors = LRU(1, 20_000).eigenvalues.detach()
    for sample in (factors.abs().square(), factors.angle().remainder(2 * math.pi) / (2 * math.pi)):
        distance = (sample.sort().values - torch.linspace(0, 1, len(sample))).abs().max()
        assert float(distance) < 1.95 / math.sqrt(len(sample))  # Kolmogorov, one in a thousand
    distance = (factors.abs().sort().values - torch.linspace(0, 1, len(factors))).abs().max()
    assert float(distance) > 1.95 / math.sqrt(len(factors))  # the control: |lambda| itself is not


def test_gamma_keeps_the_size_of_white_noise() -> None:
    """With inputs of variance one in each part, E |h|^2 tends to 2 gamma^2 / (1 - |lambda|^2) = 2, whatever lambda."""
    layer, steps = LRU(2, 2), 200_000
    with torch.no_grad():
        layer.input.weight.copy_(torch.eye(2))
        layer.log_decay.fill_(math.log(-math.log(0.9)))
        a, b = layer.coefficients(layer.project(torch.randn(steps, 1, 2)))
        h = diagonal.diagonal_recurrence(a.expand(1, 1, 1), b, torch.zeros(1, 1, dtype=b.dtype))
    mean = float(h.abs().square()[100:].mean())
    # |h|^2 / 2 is exponential with mean one; its correlation after k steps is 0.81^k, so that T steps count as T / 9.5
    assert abs(mean - 2) < 5 * 2 / math.sqrt(steps / 9.5)
    assert abs(mean / (1 - 0.81) - 2) > 1  # the control: without gamma it is that much larger


@every_linear_cell
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("hidden_dim", [1, 2, 5])
def test_steps_are_the_whole_sequence(name: str, num_layers: int, hidden_dim: int) -> None:
    cell, x = make(name, hidden_dim, num_layers), torch.randn(300, 2, 3)
    start = torch.randn(2, cell.state_dim)
    torch.testing.assert_close(cell.unroll(x, start), Cell.unroll(cell, x, start), rtol=1e-10, atol=1e-10)


@every_linear_cell
def test_draws_one_step_at_a_time_have_the_likelihood_of_the_whole_pass(name: str) -> None:
    """x_t ~ N(m(h_t), s(h_t)^2) with the numbers of the steps, one by one, is log p(x) by one scan."""
    rnn = make_rnn(name, Gaussian(2))
    x = rnn.sample(3, 40, seed=0).x
    h: Tensor = rnn.initial_memory.expand(3, -1)  # type: ignore[union-attr]
    total = torch.zeros(3)
    for x_t in x.unbind(1):
        total = total + rnn.emission(None, h).log_prob(x_t)
        h = rnn.recurrence(h, None, x_t)
    torch.testing.assert_close(rnn.log_prob(x), total)


@every_linear_cell
def test_a_forecast_goes_on_where_the_whole_pass_ended(name: str) -> None:
    rnn, x = make_rnn(name, Categorical(3)), ragged(Categorical(3), LENGTHS)
    drawn = rnn.forecast(x, 1, lengths=LENGTHS, num_samples=20_000, seed=0).x[..., 0]
    for i, length in enumerate(LENGTHS.tolist()):
        past = x[i : i + 1, :length]
        words = torch.cat([past.expand(3, -1), torch.arange(3)[:, None]], 1)
        probs = (rnn.log_prob(words) - rnn.log_prob(past)).exp()
        shares = torch.stack([(drawn[:, i] == k).double().mean() for k in range(3)])
        errors = (probs * (1 - probs) / 20_000).sqrt()
        assert bool(((shares - probs).abs() < 5 * errors).all())


@every_linear_cell
def test_a_whole_sequence_is_one_recurrence_per_layer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    intact = diagonal.diagonal_recurrence

    def watched(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
        calls.append(len(b))
        return intact(a, b, start)

    monkeypatch.setattr("pgm_rnn.models.linear_cells.diagonal_recurrence", watched)
    x = torch.randint(3, (2, 50))
    RNN(name, num_symbols=3, hidden_dim=4, num_layers=3).log_prob(x)
    assert calls == [49] * 3
    RecurrentHMM(2, 3, 4, cell=name).log_prob(x)
    assert calls == [49] * 4


@every_linear_cell
def test_a_network_of_it_learns_to_repeat_what_it_saw(name: str) -> None:
    """x_t = x_{t-2}: two bits of twelve are free. A Markov chain sees x_{t-1} alone and knows none of the others."""
    torch.manual_seed(0)
    x = torch.randint(2, (64, 2)).repeat(1, 6)
    rnn = RNN(name, num_symbols=2, hidden_dim=16)
    optimizer = torch.optim.Adam(rnn.parameters(), 3e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = -rnn.log_prob(x).mean()
        loss.backward()
        optimizer.step()
    bits = loss.item() / math.log(2)
    chain = MarkovChain.from_counts(x, num_symbols=2)
    assert bits < 3
    assert -chain.log_prob(x).mean().item() / math.log(2) > 8


@every_linear_cell
def test_second_layers_are_not_linear_in_the_inputs(name: str) -> None:
    """Else more layers were no more than one."""
    cell = make(name, num_layers=2)
    x, start = torch.randn(6, 1, 3), torch.zeros(cell.state_dim)

    def output(inputs: Tensor) -> Tensor:
        return cell.unroll(inputs, start)[-1]

    zero = output(torch.zeros_like(x))
    assert not torch.allclose(output(2 * x) - zero, 2 * (output(x) - zero), atol=1e-4)


def test_one_layer_of_an_lru_is_linear_in_the_inputs() -> None:
    cell = make("lru")
    x, start = torch.randn(6, 1, 3), torch.zeros(cell.state_dim)
    torch.testing.assert_close(cell.unroll(2 * x, start), 2 * cell.unroll(x, start))


@every_linear_cell
def test_its_parameters_have_no_matrix_from_state_to_state(name: str) -> None:
    cell: Any = make(name, hidden_dim=7)
    shapes = {tuple(parameter.shape) for parameter in nn.Module.parameters(cell)}
    assert (7, 7) not in shapes
