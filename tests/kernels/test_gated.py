"""The compiled GRU layer against the equations written out with torch's operations."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pgm_rnn.kernels import gated
from pgm_rnn.models.networks import GRU

SIZES = [(1, 1, 1), (5, 3, 4), (7, 17, 9), (4, 8, 11), (20, 20, 32), (3, 9, 160)]


def written_out(from_x: Tensor, start: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """One step after the other, one gate after the other."""
    h, found = start, []
    for a in from_x:
        b = h @ matrix.mT + bias
        (a_r, a_s, a_n), (b_r, b_s, b_n) = a.chunk(3, -1), b.chunk(3, -1)
        r, s = 1 / (1 + (-a_r - b_r).exp()), 1 / (1 + (-a_s - b_s).exp())
        h = s * h + (1 - s) * (a_n + r * b_n).tanh()
        found.append(h)
    return torch.stack(found)


def arguments(steps: int, batch: int, size: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    shapes = (steps, batch, 3 * size), (batch, size), (3 * size, size), (3 * size,)
    scales = 1.0, 1.0, size**-0.5, 1.0
    return [
        (scale * torch.randn(shape, dtype=dtype)).requires_grad_() for shape, scale in zip(shapes, scales, strict=True)
    ]


def values_and_gradients(function: Callable[..., Tensor], given: list[Tensor]) -> list[Tensor]:
    found = function(*given)
    torch.manual_seed(1)
    return [found, *torch.autograd.grad(found, given, torch.randn_like(found))]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-5)])
@pytest.mark.parametrize(("steps", "batch", "size"), SIZES)
def test_values_and_gradients_are_those_of_the_equations(
    steps: int, batch: int, size: int, dtype: torch.dtype, tolerance: float
) -> None:
    given = arguments(steps, batch, size, dtype)
    found, expected = (values_and_gradients(function, given) for function in (gated.gru, written_out))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.detach().abs().max()))


def test_gates_that_are_shut_or_open_have_finite_gradients() -> None:
    given = arguments(3, 2, 4)
    with torch.no_grad():
        given[0].mul_(1e4)
    found = values_and_gradients(gated.gru, given)
    assert all(bool(part.isfinite().all()) for part in found)
    limit = written_out(given[0].detach().clamp(-300, 300), *given[1:])  # beyond, exp has no number
    torch.testing.assert_close(found[0], limit)


def test_second_derivatives_are_those_of_the_equations() -> None:
    given = arguments(3, 2, 3)
    assert torch.autograd.gradgradcheck(gated.gru, tuple(given))


def test_a_damaged_gate_is_told_apart() -> None:
    given = arguments(4, 3, 5)

    def damaged(from_x: Tensor, start: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        return written_out(from_x.roll(matrix.shape[1], -1), start, matrix, bias)

    found, expected = (values_and_gradients(function, given) for function in (gated.gru, damaged))
    assert float((found[0] - expected[0]).detach().abs().max()) > 1e-3


@pytest.mark.parametrize("threads", [1, 2])
def test_results_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    given = arguments(6, 30, 8, torch.float32)
    torch.set_num_threads(threads)
    found = values_and_gradients(gated.gru, given)
    torch.set_num_threads(1)
    for one, other in zip(found, values_and_gradients(gated.gru, given), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)  # sums over steps are torch's own
    assert torch.equal(found[0], gated.gru(*given))


LENGTHS = torch.tensor([5, 1, 3, 9, 9, 2, 7, 4, 4, 1, 8])


def one_by_one(lengths: Tensor, backwards: bool, from_x: Tensor, start: Tensor, *weights: Tensor) -> Tensor:
    """Each sequence by itself, a step after the other."""
    found = []
    for part, h in zip(from_x.split(lengths.tolist()), start, strict=True):
        along = part.flip(0) if backwards else part
        after = written_out(along[:, None], h[None], *weights)[:, 0]
        found.append(after.flip(0) if backwards else after)
    return torch.cat(found)


def packed_arguments(size: int, lengths: Tensor, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    from_x, start, *weights = arguments(1, int(lengths.sum()), size, dtype)
    first = start.detach()[: len(lengths)].requires_grad_()
    return [from_x.detach()[0].requires_grad_(), first, *weights]


def packed(lengths: Tensor, backwards: bool) -> Callable[..., Tensor]:
    return partial(gated.packed_gru, lengths=lengths, backwards=backwards)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("size", [1, 5, 9, 32])
@pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS[:3], LENGTHS[1:2], torch.full((8,), 4)], ids=len)
def test_packed_sequences_are_those_one_by_one(lengths: Tensor, size: int, backwards: bool) -> None:
    given = packed_arguments(size, lengths)
    found = values_and_gradients(packed(lengths, backwards), given)
    expected = values_and_gradients(partial(one_by_one, lengths, backwards), given)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    if len(lengths) > 1 and size > 1:
        control = one_by_one(lengths, not backwards, *given)
        assert float((found[0] - control).detach().abs().max()) > 1e-3


def test_what_a_short_sequence_would_write_beyond_its_end_is_not_seen() -> None:
    """Numbers of its neighbours, however large, change neither it nor its gradient."""
    given = packed_arguments(4, LENGTHS, torch.float32)
    found = values_and_gradients(packed(LENGTHS, backwards=True), given)
    with torch.no_grad():
        given[0][:5].mul_(1e30)
    other = values_and_gradients(packed(LENGTHS, backwards=True), given)
    assert torch.equal(found[0][5:], other[0][5:])
    assert torch.equal(found[1][5:], other[1][5:])
    assert not torch.equal(found[0][:5], other[0][:5])


def test_lengths_that_change_before_the_gradient_is_taken_do_not_matter() -> None:
    given, lengths = packed_arguments(4, LENGTHS), LENGTHS.clone()
    expected = values_and_gradients(packed(LENGTHS, backwards=True), given)
    found = gated.packed_gru(given[0], given[1], given[2], given[3], lengths, backwards=True)
    lengths.fill_(9)
    torch.manual_seed(1)
    for one, other in zip(torch.autograd.grad(found, given, torch.randn_like(found)), expected[1:], strict=True):
        torch.testing.assert_close(one, other)


def test_packed_second_derivatives_are_those_of_the_equations() -> None:
    lengths = torch.tensor([3, 1, 2])
    given = tuple(packed_arguments(2, lengths))
    assert torch.autograd.gradgradcheck(packed(lengths, backwards=True), given)


@pytest.mark.parametrize("threads", [1, 2])
def test_packed_results_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    lengths = LENGTHS.repeat(4)
    given = packed_arguments(8, lengths, torch.float32)
    torch.set_num_threads(threads)
    found = packed(lengths, backwards=False)(*given)
    torch.set_num_threads(1)
    assert torch.equal(found, packed(lengths, backwards=False)(*given))


def test_wide_packed_layers_are_left_to_torch() -> None:
    lengths = torch.tensor([2, 1])
    given = packed_arguments(gated.LARGEST + 1, lengths)
    found = packed(lengths, backwards=True)(*given)
    torch.testing.assert_close(found, one_by_one(lengths, True, *given))


def test_lengths_must_add_to_the_rows() -> None:
    given = packed_arguments(4, LENGTHS)
    with pytest.raises(ValueError, match="expected lengths that add to 53 rows, got 52"):
        packed(torch.cat([LENGTHS[:-1], torch.tensor([7])]), backwards=True)(*given)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_packed_network_is_torchs(num_layers: int, backwards: bool) -> None:
    network = GRU(5, 7, num_layers)
    x = torch.randn(int(LENGTHS.sum()), 5)
    found = network.packed(x, LENGTHS, backwards=backwards)
    assert found is not None
    for part, after in zip(x.split(LENGTHS.tolist()), found.split(LENGTHS.tolist()), strict=True):
        expected = nn.GRU.forward(network, part.flip(0) if backwards else part)[0]
        torch.testing.assert_close(after, expected.flip(0) if backwards else expected)


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("with_start", [True, False])
def test_the_network_is_torchs(num_layers: int, with_start: bool) -> None:
    ours, theirs = GRU(5, 7, num_layers), nn.GRU(5, 7, num_layers)
    theirs.load_state_dict(ours.state_dict())
    x, start = torch.randn(6, 4, 5), torch.randn(num_layers, 4, 7) if with_start else None
    for one, other in zip(ours(x, start), theirs(x, start), strict=True):
        torch.testing.assert_close(one, other)
    for network in (ours, theirs):
        network(x, start)[0].square().sum().backward()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_what_does_not_suit_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    intact = gated._GRU.apply

    def noted(*given: Any) -> Any:
        calls.append(given)
        return intact(*given)

    monkeypatch.setattr(gated._GRU, "apply", noted)
    network, x = GRU(3, 4), torch.randn(5, 2, 3)
    network(x)
    assert len(calls) == 1
    wide = GRU(3, gated.LARGEST + 1)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]))
    assert wide(x)[0].shape == (5, 2, gated.LARGEST + 1)
    assert network(packed)[0].data.shape == (8, 4)
    assert GRU(3, 4, bidirectional=True)(x)[0].shape == (5, 2, 8)
    lengths = torch.tensor([3, 2])
    network.register_forward_hook(lambda _module, _given, found: found)
    for other in (wide, GRU(3, 4, bidirectional=True), network):
        assert other.packed(x[:, 0], lengths, backwards=True) is None
    assert len(calls) == 1
