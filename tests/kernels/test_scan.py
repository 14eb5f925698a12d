"""The associative scan against a loop, for operations that commute and that do not; the number of its calls."""

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch

from pgm_rnn.kernels.scan import Elements, associative_scan, with_identities
from pgm_rnn.sequences import length_mask

LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 1000)
K, B = 3, 2


def matmul(earlier: Elements, later: Elements) -> Elements:
    return (earlier[0] @ later[0],)


def log_matmul(earlier: Elements, later: Elements) -> Elements:
    return ((earlier[0][..., :, :, None] + later[0][..., None, :, :]).logsumexp(-2),)


def affine(earlier: Elements, later: Elements) -> Elements:
    """z -> A z + b after z -> A' z + b'."""
    return later[0] @ earlier[0], (later[0] @ earlier[1][..., None])[..., 0] + later[1]


def first(earlier: Elements, later: Elements) -> Elements:
    return (earlier[0] + 0 * later[0],)


def maximum(earlier: Elements, later: Elements) -> Elements:
    return (torch.maximum(earlier[0], later[0]),)


def instance(name: str, num_steps: int) -> tuple[Callable[[Elements, Elements], Elements], Elements]:
    """An operation and elements (T, B, ...) whose products neither vanish nor overflow."""
    generator = torch.Generator().manual_seed(num_steps)
    square = torch.randn(num_steps, B, K, K, generator=generator, dtype=torch.float64)
    turned = torch.linalg.qr(square).Q
    vector = torch.randn(num_steps, B, K, generator=generator, dtype=torch.float64)
    return {
        "matmul": (matmul, (turned,)),
        "log-matmul": (log_matmul, (square,)),
        "affine": (affine, (turned, vector)),
        "first": (first, (vector,)),
        "maximum": (maximum, (vector,)),
    }[name]


def by_loop(
    operator: Callable[[Elements, Elements], Elements], elements: Elements, reverse: bool = False
) -> list[Elements]:
    """Prefixes or suffixes (time first), one combination per step."""
    steps = list(zip(*(part.unbind(0) for part in elements), strict=True))
    found = [steps[-1] if reverse else steps[0]]
    for step in steps[-2::-1] if reverse else steps[1:]:
        found.append(operator(step, found[-1]) if reverse else operator(found[-1], step))
    return found[::-1] if reverse else found


def assert_equal(found: Elements, expected: list[Elements], rtol: float = 1e-10) -> None:
    for i, part in enumerate(found):
        torch.testing.assert_close(part, torch.stack([step[i] for step in expected]), rtol=rtol, atol=rtol)


every_operation = pytest.mark.parametrize("name", ["matmul", "log-matmul", "affine", "first", "maximum"])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("num_steps", LENGTHS)
@every_operation
def test_prefixes_and_suffixes_are_those_of_a_loop(name: str, num_steps: int, reverse: bool) -> None:
    operator, elements = instance(name, num_steps)
    assert_equal(associative_scan(operator, elements, reverse=reverse), by_loop(operator, elements, reverse))


@every_operation
def test_an_operation_that_does_not_commute_keeps_its_order(name: str) -> None:
    operator, elements = instance(name, 9)
    turned = associative_scan(lambda e, f: operator(f, e), elements)
    expected = [step[0] for step in by_loop(operator, elements)]
    same = torch.allclose(turned[0], torch.stack(expected))
    assert same == (name == "maximum")


def test_an_operation_that_is_not_associative_has_no_scan() -> None:
    """The control: the same comparison fails where the hypothesis does."""
    elements = (torch.rand(9, B),)

    def mean(earlier: Elements, later: Elements) -> Elements:
        return ((earlier[0] + later[0]) / 2,)

    (found,) = associative_scan(mean, elements)
    expected = torch.stack([step[0] for step in by_loop(mean, elements)])
    assert float((found - expected).abs().max()) > 0.01


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_time_may_stand_on_any_axis(dim: int) -> None:
    elements = (torch.randn(5, 6, 7),)
    (found,) = associative_scan(lambda e, f: (e[0] + f[0],), elements, dim)
    torch.testing.assert_close(found, elements[0].cumsum(dim))


@pytest.mark.parametrize("num_steps", [1, 2, 3, 6])
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_are_those_of_finite_differences(num_steps: int, reverse: bool) -> None:
    operator, elements = instance("affine", num_steps)
    leaves = tuple(part.clone().requires_grad_() for part in elements)
    assert torch.autograd.gradcheck(lambda *parts: associative_scan(operator, parts, reverse=reverse), leaves)
    assert torch.autograd.gradgradcheck(lambda *parts: associative_scan(operator, parts, reverse=reverse), leaves)


@pytest.mark.parametrize("dim", [0, 1])
def test_ragged_sequences_end_with_identities(dim: int) -> None:
    operator, elements = instance("affine", 6)
    lengths, identity = torch.tensor([6, 3]), (torch.eye(K), torch.zeros(K))
    spoiled = tuple(part.clone() for part in elements)
    for part in spoiled:
        part[3:, 1] = torch.nan
    given = tuple(part if dim == 0 else part.transpose(0, 1) for part in spoiled)
    padded = with_identities(given, identity, lengths, dim)
    padded = tuple(part if dim == 0 else part.transpose(0, 1) for part in padded)
    whole = associative_scan(operator, padded)
    backwards = associative_scan(operator, padded, reverse=True)
    alone = tuple(part[:3] for part in elements)
    assert_equal(tuple(part[:3, 1] for part in whole), [tuple(p[1] for p in s) for s in by_loop(operator, alone)])
    expected = by_loop(operator, alone, reverse=True)
    assert_equal(tuple(part[:3, 1] for part in backwards), [tuple(p[1] for p in s) for s in expected])
    for part in whole:
        torch.testing.assert_close(part[3:, 1], part[2:3, 1].expand_as(part[3:, 1]))
    assert_equal(tuple(part[:, 0] for part in whole), [tuple(p[0] for p in s) for s in by_loop(operator, elements)])
    assert int(length_mask(lengths, 6).sum()) == 9


def counted(num_steps: int) -> Counter[str]:
    """Calls of the operator, and combinations of two elements, in a scan of T steps."""
    found: Counter[str] = Counter()

    def add(earlier: Elements, later: Elements) -> Elements:
        found.update(calls=1, combinations=len(later[0]))
        return (earlier[0] + later[0],)

    associative_scan(add, (torch.ones(num_steps),))
    return found


@pytest.mark.parametrize("num_steps", [1, 2, 3, 10, 1000, 1024, 1025, 4096])
def test_its_depth_grows_with_log_t_and_its_work_with_t(num_steps: int) -> None:
    found = counted(num_steps)
    assert found["calls"] <= 2 * math.ceil(math.log2(num_steps)) if num_steps > 1 else not found["calls"]
    assert found["combinations"] <= 2 * num_steps


def test_twice_as_many_steps_are_two_more_calls() -> None:
    assert [counted(2 * n)["calls"] - counted(n)["calls"] for n in (64, 1024, 4096)] == [2, 2, 2]


def test_what_does_not_fit_is_one_sentence() -> None:
    def add(earlier: Elements, later: Elements) -> Elements:
        return (earlier[0] + later[0],)

    def shorter(earlier: Elements, later: Elements) -> Elements:
        return ((earlier[0] + later[0]).sum(-1),)

    x = torch.ones(4, 3)
    with pytest.raises(
        ValueError, match=r"expected parts with one number of steps, at least 1, on axis 0, got \[3, 4\]"
    ):
        associative_scan(add, (x, x[:3]))
    with pytest.raises(ValueError, match=r"at least 1, on axis 0, got \[0\]"):
        associative_scan(add, (x[:0],))
    with pytest.raises(ValueError, match=r"at least 1, on axis 0, got \[\]"):
        associative_scan(add, ())
    with pytest.raises(ValueError, match=r"expected dim counted from the front, in 0..1, got -1"):
        associative_scan(add, (x,), -1)
    with pytest.raises(TypeError, match="expected elements as a tuple of tensors, got float among them"):
        associative_scan(add, (x, 1.0))  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"expected the operator to return parts of shapes \[\(2, 3\)\].* got \[\(2,\)\]"
    ):
        associative_scan(shorter, (x,))
    with pytest.raises(ValueError, match=r"expected dim to be 0 or 1, .* got 2"):
        with_identities((x[..., None],), (torch.zeros(()),), torch.tensor([1]), 2)


def test_it_is_the_operation_of_a_documented_example() -> None:
    (sums,) = associative_scan(lambda s, e: (s[0] + e[0],), (torch.tensor([1, 2, 3, 4]),))
    assert sums.tolist() == [1, 3, 6, 10]


def test_a_table_of_log_probabilities_may_hold_log_zero() -> None:
    tables = torch.tensor([[[0.0, -torch.inf], [-torch.inf, 0.0]]]).expand(8, 2, 2)

    def best(earlier: Elements, later: Elements) -> Elements:
        return ((earlier[0][..., :, :, None] + later[0][..., None, :, :]).amax(-2),)

    (found,) = associative_scan(best, (tables,))
    assert torch.equal(found, tables)


def test_elements_are_left_as_they_are() -> None:
    x = torch.arange(6.0)
    associative_scan(lambda s, e: (s[0] + e[0],), (x,), reverse=True)
    assert x.tolist() == [0, 1, 2, 3, 4, 5]
