from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pgm_rnn.models.cell import Cell
from pgm_rnn.models.cells import CELLS, DeepTransitionCell, StackedCell
from tests.definitions import next_layers, to_layers, to_state
from tests.instances import assert_same, every_cell, gradients, randomised

INPUT_DIM, HIDDEN_DIM = 3, 4
every_depth = pytest.mark.parametrize("num_layers", [1, 2, 3])


def make(name: str, num_layers: int = 1) -> Cell:
    return randomised(CELLS[name](INPUT_DIM, HIDDEN_DIM, num_layers))


def outputs(cell: Cell, x: Tensor, start: Tensor, unroll: Callable[..., Tensor] | None = None) -> Tensor:
    """Hidden vectors after each input, batch first."""
    unroll = unroll or type(cell).unroll
    return unroll(cell, x.transpose(0, 1), start)[1:].transpose(0, 1)


def state_of(cell: Cell, *batch: int) -> Tensor:
    return torch.randn(*batch, cell.state_dim)


@every_depth
@every_cell
def test_a_step_follows_the_equations(name: str, num_layers: int) -> None:
    cell, x = make(name, num_layers), torch.randn(5, INPUT_DIM)
    h = state_of(cell, 5)
    expected = to_state(name, next_layers(name, cell, x, to_layers(cell, h)))
    torch.testing.assert_close(cell.step(x, h), expected)


@pytest.mark.parametrize("name", ["elman", "elman-relu", "gru", "lstm"])
def test_a_step_is_that_of_torchs_own_cell(name: str) -> None:
    reference: Any = {
        "elman": nn.RNNCell(INPUT_DIM, HIDDEN_DIM),
        "elman-relu": nn.RNNCell(INPUT_DIM, HIDDEN_DIM, nonlinearity="relu"),
        "gru": nn.GRUCell(INPUT_DIM, HIDDEN_DIM),
        "lstm": nn.LSTMCell(INPUT_DIM, HIDDEN_DIM),
    }[name]
    cell = make(name)
    reference.load_state_dict({k: cell.state_dict()[f"network.{k}_l0"] for k in reference.state_dict()})
    x, h = torch.randn(5, INPUT_DIM), state_of(cell, 5)
    expected = torch.cat(reference(x, h.chunk(2, dim=-1)), dim=-1) if name == "lstm" else reference(x, h)
    torch.testing.assert_close(cell.step(x, h), expected)


@every_depth
@every_cell
def test_outputs_are_the_steps_in_a_loop(name: str, num_layers: int) -> None:
    cell, x = make(name, num_layers), torch.randn(2, 5, INPUT_DIM)
    start = state_of(cell)
    h, expected = start.expand(2, -1), []
    for t in range(5):
        h = cell.step(x[:, t], h)
        expected.append(h[:, :HIDDEN_DIM])
    torch.testing.assert_close(outputs(cell, x, start), torch.stack(expected, 1))


@every_depth
@every_cell
def test_outputs_and_steps_have_the_same_gradients(name: str, num_layers: int) -> None:
    cell, x, weights = make(name, num_layers), torch.randn(2, 5, INPUT_DIM), torch.randn(2, 5, HIDDEN_DIM)
    start = state_of(cell)
    fused = gradients((outputs(cell, x, start) * weights).sum(), cell)
    looped = gradients((outputs(cell, x, start, Cell.unroll) * weights).sum(), cell)
    assert_same(fused, looped, rtol=1e-10, atol=1e-12)


@every_depth
@every_cell
def test_gradients_reach_the_initial_state_and_the_inputs(name: str, num_layers: int) -> None:
    cell = make(name, num_layers)
    x, start = torch.randn(2, 3, INPUT_DIM, requires_grad=True), state_of(cell).requires_grad_()
    weights = torch.randn(2, 3, HIDDEN_DIM)
    fused = torch.autograd.grad((outputs(cell, x, start) * weights).sum(), (x, start))
    looped = torch.autograd.grad((outputs(cell, x, start, Cell.unroll) * weights).sum(), (x, start))
    for actual, expected in zip(fused, looped, strict=True):
        torch.testing.assert_close(actual, expected)
        assert bool(actual.any())


@every_depth
@every_cell
def test_a_step_takes_any_batch_shape_and_broadcasts_particles(name: str, num_layers: int) -> None:
    cell, x = make(name, num_layers), torch.randn(5, INPUT_DIM)
    particles = state_of(cell, 7, 5)
    result = cell.step(x, particles)
    assert result.shape == (7, 5, cell.state_dim)
    torch.testing.assert_close(result[3], cell.step(x, particles[3]))
    assert cell.step(x[0], particles[0, 0]).shape == (cell.state_dim,)


@every_depth
@every_cell
def test_sizes_are_what_was_asked_for(name: str, num_layers: int) -> None:
    cell = make(name, num_layers)
    assert (cell.input_dim, cell.hidden_dim) == (INPUT_DIM, HIDDEN_DIM)
    width = {"lstm": 2 * num_layers, "deep-transition": 1}.get(name, num_layers)
    assert cell.state_dim == width * HIDDEN_DIM


@every_depth
@pytest.mark.parametrize("name", ["elman", "elman-sigmoid", "gru", "lstm"])
def test_the_state_holds_the_top_layer_first(name: str, num_layers: int) -> None:
    cell, x = make(name, num_layers), torch.randn(INPUT_DIM)
    assert isinstance(cell, StackedCell)
    state = cell.step(x, state_of(cell))
    hidden, memory = cell.layers(state)
    assert len(hidden) == len(memory) == num_layers
    assert torch.equal(hidden[-1], state[:HIDDEN_DIM])
    assert torch.equal(hidden[0], state[(num_layers - 1) * HIDDEN_DIM : num_layers * HIDDEN_DIM])
    if memory[0] is not None:
        assert torch.equal(memory[0], state[-HIDDEN_DIM:])
    else:
        assert name != "lstm"


@pytest.mark.parametrize("name", ["elman", "gru", "lstm"])
def test_the_input_enters_at_the_bottom_layer(name: str) -> None:
    cell = make(name, num_layers=3)
    assert isinstance(cell, StackedCell)
    with torch.no_grad():
        dict(cell.named_parameters())["network.weight_ih_l1"].zero_()  # the layers above see nothing of x
    h = state_of(cell)
    one, other = (cell.layers(cell.step(torch.randn(INPUT_DIM), h))[0] for _ in range(2))
    assert not torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert torch.equal(one[2], other[2])


def test_the_layers_of_a_deep_transition_have_one_bias_each() -> None:
    cell = make("deep-transition", num_layers=3)
    assert isinstance(cell, DeepTransitionCell)
    biases = [name for name, _ in cell.named_parameters() if name.endswith("bias")]
    assert biases == ["input.bias", "recurrent.1.bias", "recurrent.2.bias"]


@pytest.mark.parametrize("batch", [1, 2])
@every_cell
def test_one_step_and_one_sequence_are_enough(name: str, batch: int) -> None:
    cell, x = make(name), torch.randn(batch, 1, INPUT_DIM)
    start = state_of(cell)
    expected = cell.step(x[:, 0], start.expand(batch, -1))[:, None, :HIDDEN_DIM]
    torch.testing.assert_close(outputs(cell, x, start), expected)


@pytest.mark.parametrize("num_steps", [0, 1, 4])
@every_depth
@every_cell
def test_unrolling_begins_with_the_state_it_is_given(name: str, num_layers: int, num_steps: int) -> None:
    cell, start = make(name, num_layers), torch.randn(CELLS[name](INPUT_DIM, HIDDEN_DIM, num_layers).state_dim)
    hidden = cell.unroll(torch.randn(num_steps, 2, INPUT_DIM), start)
    assert hidden.shape == (num_steps + 1, 2, HIDDEN_DIM)
    assert torch.equal(hidden[0], start[:HIDDEN_DIM].expand(2, -1))
