import inspect

import pytest
import torch
from torch import Tensor

from pgm_rnn.checks import by_keyword, check_choice, check_counts, check_frozen, check_probs


def test_what_is_right_passes() -> None:
    check_choice("cell", "gru", ("gru", "lstm"))
    check_counts(num_steps=1, num_states=10**6)
    check_probs("probs", torch.tensor([[0.0, 1.0], [0.25, 0.75]]), (None, 2))
    check_probs("probs", torch.tensor([1.0]), (1,))


@pytest.mark.parametrize("num_values", [2, 1_000, 100_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_are_normalised_in_their_dtype_pass(dtype: torch.dtype, num_values: int) -> None:
    probs = torch.rand(3, num_values, dtype=dtype)
    check_probs("probs", probs / probs.sum(-1, keepdim=True), (3, None))


@pytest.mark.parametrize(("value", "hint"), [("lsmt", "lstm"), ("GRU", "gru")])
def test_a_near_miss_gets_a_hint(value: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"expected cell to be one of gru, lstm, got '{value}'; did you mean '{hint}'"):
        check_choice("cell", value, ("gru", "lstm"))


@pytest.mark.parametrize("value", ["quaternion", "", None, 3])
def test_a_value_that_is_like_no_choice_gets_no_hint(value: str) -> None:
    with pytest.raises(ValueError, match=f"expected cell to be one of gru, lstm, got {value!r}$"):
        check_choice("cell", value, ("gru", "lstm"))


@pytest.mark.parametrize("value", [0, -3, 1.0, True, "2", None])
def test_a_count_is_a_positive_integer(value: int) -> None:
    with pytest.raises(ValueError, match=f"expected num_steps to be an integer of at least 1, got {value!r}"):
        check_counts(num_states=2, num_steps=value)


@pytest.mark.parametrize("shape", [(2,), (3, 3), (2, 2, 2), ()])
def test_probabilities_have_the_shape_that_was_asked_for(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected transition of shape \(2, any\), got"):
        check_probs("transition", torch.ones(shape), (2, None))


@pytest.mark.parametrize("probs", [torch.tensor([0, 1]), torch.ones(0), torch.ones(2, dtype=torch.complex128)])
def test_probabilities_are_floating_point_and_not_empty(probs: Tensor) -> None:
    with pytest.raises(ValueError, match="expected initial as a floating-point tensor that is not empty, got"):
        check_probs("initial", probs, (None,))


@pytest.mark.parametrize(("low", "shown"), [(-0.5, "-0.5"), (-1e-12, "-1e-12"), (torch.nan, "nan")])
def test_negative_probabilities_and_nan_are_errors(low: float, shown: str) -> None:
    with pytest.raises(ValueError, match=f"expected initial to be non-negative numbers, got {shown}"):
        check_probs("initial", torch.tensor([1.0, low]), (2,))


def test_probabilities_that_are_trained_get_the_same_errors() -> None:
    with pytest.raises(ValueError, match=r"to sum to one, got a sum of 1.5 in row 0"):
        check_probs("initial", torch.tensor([0.5, 1.0], requires_grad=True), (2,))
    with pytest.raises(ValueError, match=r"to be non-negative numbers, got -0.5"):
        check_probs("initial", torch.tensor([-0.5, 1.5], requires_grad=True), (2,))


def test_a_row_that_does_not_sum_to_one_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"expected each row of transition to sum to one, got a sum of 0.9 in row 1; normalise"
    ):
        check_probs("transition", torch.tensor([[0.5, 0.5], [0.5, 0.4]]), (2, 2))


@pytest.mark.parametrize("total", [1 - 1e-5, 1 + 1e-5, torch.inf])
def test_a_small_error_of_the_sum_is_an_error(total: float) -> None:
    with pytest.raises(ValueError, match=r"to sum to one, got a sum of .* in row 0"):
        check_probs("initial", torch.tensor([total]), (1,))


def test_what_a_fit_leaves_alone_is_some_of_the_parts_and_not_all() -> None:
    assert check_frozen(["a"], ("a", "b")) == {"a"}
    assert check_frozen((), ("a", "b")) == frozenset()
    with pytest.raises(TypeError, match="expected frozen as a collection of names, got 'a'; use frozen="):
        check_frozen("a", ("a", "b"))
    with pytest.raises(ValueError, match="expected frozen to be one of alpha, beta, got 'alhpa'; did you mean 'alpha'"):
        check_frozen(["alhpa"], ("alpha", "beta"))
    with pytest.raises(
        ValueError, match="expected at least one part left to fit, got all of a, b in frozen; leave one out"
    ):
        check_frozen(["b", "a"], ("a", "b"))


def test_too_many_positional_arguments_are_an_error_that_spells_them() -> None:
    @by_keyword
    def run(model: str, x: int, lengths: int | None = None, *, num_particles: int = 3, seed: int = 0) -> int:
        """Double."""
        return 2 * num_particles

    assert run("hmm", 1, num_particles=5) == 10
    assert run.__doc__ == "Double."
    assert list(inspect.signature(run).parameters) == ["model", "x", "lengths", "num_particles", "seed"]
    message = r"at most 3 arguments of run by position, got 5; write num_particles=\.\.\., seed=\.\.\."
    with pytest.raises(TypeError, match=message):
        run("hmm", 1, None, 5, 1)  # type: ignore[call-arg]
