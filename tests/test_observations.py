import pytest
import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, Poisson
from pgm_rnn.sequence_model.observations import check_observations
from tests.instances import LENGTHS, every_family, ragged, spoiled

LIKE = torch.zeros(1, dtype=torch.float64)


def checked(family: Emission, x: Tensor, lengths: Tensor | None = None) -> Tensor:
    return check_observations(family, x, lengths, LIKE)[0]


@every_family
def test_valid_observations_pass_with_zeros_in_their_padding(family: Emission) -> None:
    x = ragged(family)
    result, lengths = check_observations(family, x, LENGTHS, LIKE)
    assert torch.equal(result, spoiled(x, LENGTHS, 0))
    assert torch.equal(lengths, LENGTHS)


@every_family
def test_without_lengths_nothing_is_padding(family: Emission) -> None:
    result, lengths = check_observations(family, ragged(family), None, LIKE)
    assert torch.equal(result, ragged(family))
    assert lengths.tolist() == [4, 4, 4]


@every_family
def test_the_callers_tensor_is_not_written_to(family: Emission) -> None:
    x = ragged(family)
    before = x.clone()
    checked(family, x, LENGTHS)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_symbols_of_any_integer_dtype_become_int64(dtype: torch.dtype) -> None:
    assert checked(Categorical(3), torch.ones(1, 2, dtype=dtype)).dtype == torch.int64


@pytest.mark.parametrize("family", [Bernoulli(), Poisson(), Gaussian()])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float64])
def test_numbers_of_integer_dtypes_take_the_models_dtype(family: Emission, dtype: torch.dtype) -> None:
    assert checked(family, torch.ones(1, 2, dtype=dtype)).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bool, torch.complex128])
def test_symbols_of_another_dtype_are_an_error(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=rf"expected x of an integer dtype for symbols in 0..2, got {dtype}"):
        checked(Categorical(3), torch.ones(1, 2, dtype=dtype))


@pytest.mark.parametrize("family", [Bernoulli(), Gaussian(), Poisson()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_numbers_of_another_precision_take_the_models_dtype(family: Emission, dtype: torch.dtype) -> None:
    assert torch.equal(checked(family, torch.ones(1, 2, dtype=dtype)), torch.ones(1, 2, dtype=torch.float64))


def test_numbers_beyond_the_models_dtype_are_an_error_but_not_in_the_padding() -> None:
    x, single = torch.tensor([[1.0, 1e300]]), torch.zeros(1, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"expected x of size up to 3.4e\+38, .* torch.float32, got 1e\+300; rescale"):
        check_observations(Gaussian(), x, None, single)
    found, _ = check_observations(Gaussian(), x, torch.tensor([1]), single)
    assert found.tolist() == [[1.0, 0.0]]


def test_complex_numbers_are_an_error() -> None:
    with pytest.raises(TypeError, match=r"expected x as real numbers, got torch.complex128; use \.real"):
        checked(Gaussian(), torch.ones(1, 2, dtype=torch.complex128))


@pytest.mark.parametrize(
    ("family", "shape", "expected"),
    [
        (Categorical(3), (2, 3, 1), "batch, T"),
        (Gaussian(), (2, 3, 1), "batch, T"),
        (Gaussian(2), (2, 3), "batch, T, 2"),
        (Gaussian(2), (2, 3, 1), "batch, T, 2"),
        (Bernoulli(88), (2, 3, 87), "batch, T, 88"),
        (Poisson(2), (2, 3, 2, 1), "batch, T, 2"),
    ],
)
def test_events_of_another_shape_are_an_error(family: Emission, shape: tuple[int, ...], expected: str) -> None:
    dtype = torch.int64 if family.needs_integers else torch.float64
    with pytest.raises(ValueError, match=rf"expected x of shape \({expected}\), got \({str(shape)[1:-1]}\)"):
        checked(family, torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize(
    ("family", "value", "message"),
    [
        (Categorical(3), 3, "expected symbols in 0..2, got 3"),
        (Categorical(3), -1, "expected symbols in 0..2, got -1"),
        (Bernoulli(), 0.5, "expected bits 0 or 1, got 0.5"),
        (Bernoulli(), torch.nan, "expected bits 0 or 1, got nan"),
        (Gaussian(), torch.nan, "expected finite real numbers, got nan"),
        (Gaussian(), torch.inf, "expected finite real numbers, got inf"),
        (Poisson(), -1.0, "expected counts 0, 1, 2, ..., got -1.0"),
        (Poisson(), 1.5, "expected counts 0, 1, 2, ..., got 1.5"),
        (Poisson(), torch.inf, "expected counts 0, 1, 2, ..., got inf"),
        (Poisson(), torch.nan, "expected counts 0, 1, 2, ..., got nan"),
    ],
)
def test_a_value_outside_the_support_is_an_error_that_names_its_place(
    family: Emission, value: float, message: str
) -> None:
    x = ragged(family)
    x[2, 1] = value
    with pytest.raises(ValueError, match=f"{message} in sequence 2 at step 2"):
        checked(family, x, LENGTHS)


def test_one_bad_entry_of_a_vector_is_found() -> None:
    x = ragged(Gaussian(2))
    x[0, 3, 1] = torch.nan
    with pytest.raises(ValueError, match="got nan in sequence 0 at step 4"):
        checked(Gaussian(2), x, LENGTHS)


@every_family
def test_the_first_value_in_the_padding_may_be_anything_and_the_last_before_it_may_not(family: Emission) -> None:
    bad = -1 if family.needs_integers else torch.nan
    x = spoiled(ragged(family), LENGTHS, bad)
    checked(family, x, LENGTHS)
    with pytest.raises(ValueError, match="in sequence 1 at step 2"):
        checked(family, x, LENGTHS + torch.tensor([0, 1, 0]))


@every_family
def test_observations_on_another_device_are_an_error(family: Emission) -> None:
    with pytest.raises(ValueError, match="expected x on cpu, where the model is, got meta; move one of them"):
        checked(family, ragged(family).to("meta"))


def test_observations_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(TypeError, match="expected observations as a tensor"):
        checked(Gaussian(), "1.0")  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match="expected observations as numbers in one shape, got something else; read tables"
    ):
        checked(Gaussian(), [["a", "b"]])  # type: ignore[arg-type]


def test_lengths_are_checked_too() -> None:
    with pytest.raises(ValueError, match=r"expected lengths in 1..T = 1..4, got 5 at index 0"):
        checked(Gaussian(), ragged(Gaussian()), LENGTHS + 1)
