import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pgm_rnn.emissions import Gaussian
from pgm_rnn.legend import Column, Legend
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequences import Sequences, as_sequences, length_mask, pad
from tests.instances import make_model

THREE = pad([torch.tensor([1, 2, 3]), torch.tensor([4]), torch.tensor([5, 6])])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_padding_keeps_every_observation_and_its_place(lengths: list[int]) -> None:
    originals = [torch.randn(length, 2) for length in lengths]
    batch = pad(originals)
    assert batch.x.shape == (len(lengths), max(lengths), 2)
    assert batch.lengths.tolist() == lengths
    for row, original in zip(batch.x, originals, strict=True):
        assert torch.equal(row[: len(original)], original)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_the_mask_is_true_exactly_up_to_each_length(lengths: list[int]) -> None:
    expected = [[t <= length for t in range(1, 8)] for length in lengths]
    assert length_mask(torch.tensor(lengths), 7).tolist() == expected


def test_a_batch_knows_its_mask_and_its_number_of_steps() -> None:
    assert THREE.mask.tolist() == [[True, True, True], [True, False, False], [True, True, False]]
    assert THREE.num_steps == 6


def test_padding_keeps_the_dtype_and_lengths_are_int64() -> None:
    batch = pad([torch.zeros(2, dtype=torch.uint8), torch.zeros(1, dtype=torch.uint8)])
    assert batch.x.dtype == torch.uint8
    assert batch.lengths.dtype == torch.int64


def test_selection_takes_rows_in_order_and_cuts_to_the_longest() -> None:
    states = torch.arange(9).reshape(3, 3)
    chosen = Sequences(THREE.x, THREE.lengths, states).select(torch.tensor([2, 1]))
    assert chosen.x.tolist() == [[5, 6], [4, 0]]
    assert chosen.lengths.tolist() == [2, 1]
    assert chosen.z is not None
    assert chosen.z.tolist() == [[6, 7], [3, 4]]


def test_selection_without_states_has_no_states() -> None:
    assert THREE.select(torch.tensor([0])).z is None


def test_a_batch_moves_to_another_device_as_a_whole() -> None:
    moved = Sequences(THREE.x, THREE.lengths, THREE.x).to("meta")
    assert moved.z is not None
    assert {moved.x.device.type, moved.lengths.device.type, moved.z.device.type} == {"meta"}
    assert THREE.to("cpu").z is None


def test_without_lengths_every_sequence_has_all_steps() -> None:
    batch = as_sequences(torch.zeros(2, 5))
    assert batch.lengths.tolist() == [5, 5]
    assert batch.lengths.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_lengths_of_any_integer_dtype_become_int64(dtype: torch.dtype) -> None:
    batch = as_sequences(torch.zeros(2, 5), torch.tensor([5, 1], dtype=dtype))
    assert batch.lengths.tolist() == [5, 1]
    assert batch.lengths.dtype == torch.int64


def test_a_checked_batch_is_what_was_given() -> None:
    batch = as_sequences(THREE)
    assert torch.equal(batch.x, THREE.x)
    assert torch.equal(batch.lengths, THREE.lengths)


def test_a_batch_brings_its_own_lengths() -> None:
    with pytest.raises(ValueError, match="expected lengths in one place, got them in Sequences and as an argument"):
        as_sequences(THREE, THREE.lengths)


@pytest.mark.parametrize("data", [{1: 2}, None, "abc"])
def test_observations_that_are_no_numbers_are_an_error(data: object) -> None:
    with pytest.raises(TypeError, match=f"expected observations as a tensor .*, got {type(data).__name__}"):
        as_sequences(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(), (5,), (0, 5), (5, 0), (0, 0, 2)])
def test_observations_without_sequences_or_steps_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one sequence and one step, got shape"):
        as_sequences(torch.zeros(shape))


@pytest.mark.parametrize(
    ("lengths", "got"),
    [
        (torch.tensor([1.0, 2.0], dtype=torch.float64), "torch.float64"),
        (torch.tensor([True, True]), "torch.bool"),
        ([1.0, 2.0], "torch.float64"),
        (2, "int"),
    ],
)
def test_lengths_that_are_no_integer_tensor_are_an_error(lengths: Tensor, got: str) -> None:
    with pytest.raises(TypeError, match=f"expected lengths as a tensor of integers, got {got}"):
        as_sequences(torch.zeros(2, 5), lengths)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1)])
def test_lengths_are_one_a_sequence(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected lengths of shape \(2,\), one per sequence, got"):
        as_sequences(torch.zeros(2, 5), torch.ones(shape, dtype=torch.int64))


@pytest.mark.parametrize("length", [0, -1, 6])
def test_lengths_outside_the_steps_are_an_error_that_names_the_place(length: int) -> None:
    with pytest.raises(ValueError, match=f"expected lengths in 1..T = 1..5, got {length} at index 1"):
        as_sequences(torch.zeros(2, 5), torch.tensor([5, length]))


def test_lengths_are_on_the_device_of_the_observations() -> None:
    with pytest.raises(ValueError, match="expected lengths on cpu, where x is, got meta"):
        as_sequences(torch.zeros(2, 5), torch.tensor([1, 2], device="meta"))


def test_no_sequence_cannot_be_padded() -> None:
    with pytest.raises(ValueError, match="expected at least one sequence, got none"):
        pad([])


@pytest.mark.parametrize("empty", [torch.zeros(0), torch.tensor(1.0)])
def test_an_empty_sequence_cannot_be_padded(empty: Tensor) -> None:
    with pytest.raises(ValueError, match="expected sequences of at least one step, got an empty one at index 1"):
        pad([torch.zeros(2), empty])


@pytest.mark.parametrize("other", [torch.zeros(2, 3), torch.zeros(2), torch.zeros(2, 4, dtype=torch.int64)])
def test_sequences_of_different_events_cannot_be_padded(other: Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"expected events of shape \(4,\) and dtype torch.float64 as in sequence 0, got .* at index 1"
    ):
        pad([torch.zeros(2, 4, dtype=torch.float64), other])


def test_a_mask_is_cut_to_the_lengths_before_it_is_counted() -> None:
    """One entry of the padding is True and one within the lengths is False: as many as without gaps."""
    x, lengths = torch.zeros(2, 3), torch.tensor([2, 3])
    batch = Sequences(x, lengths, mask=torch.tensor([[True, True, True], [False, True, True]]))
    assert batch.observed is not None
    assert batch.mask.tolist() == [[True, True, False], [False, True, True]]
    assert Sequences(x, lengths, mask=torch.ones(2, 3, dtype=torch.bool)).observed is None
    assert Sequences(x[..., None].expand(2, 3, 4), lengths, mask=torch.ones(2, 3, 4, dtype=torch.bool)).observed is None
    with pytest.raises(ValueError, match=r"expected mask of shape \(2, 3\)"):
        as_sequences(Sequences(x, lengths, mask=torch.ones(2, 2, dtype=torch.bool)))


def labelled() -> Sequences:
    legend = Legend(
        (Column("flow", unit="m3/s"), Column("gate", "symbol", words=("open", "shut"))),
        sequence="river",
        ids=("Nile", "Rhine"),
        time="day",
        times=(np.arange(3), np.arange(2)),
        rows=(np.array([0, 2, 4]), np.array([1, 3])),
    )
    return Sequences(torch.randn(2, 3, 2), torch.tensor([3, 2]), legend=legend)


def test_a_legend_follows_its_sequences() -> None:
    data = labelled()
    chosen = data.select(torch.tensor([1])).legend
    assert chosen is not None
    assert chosen.ids == ("Rhine",)
    assert chosen.rows[0].tolist() == [1, 3]
    twice, same = data.repeated(2).legend, as_sequences(data, mask=torch.ones(2, 3, dtype=torch.bool)).legend
    assert twice is not None
    assert twice.ids == ("Nile", "Rhine", "Nile", "Rhine")
    assert same == data.legend == data.to("cpu").legend
    assert twice.steps(slice(1, 3)).times[1].tolist() == [1]
    assert [column.title for column in twice.columns] == ["flow (m3/s)", "gate"]


def test_a_legend_is_shown_in_a_line() -> None:
    assert str(labelled().legend) == (
        "Legend(2 columns: 'flow (m3/s)' real, 'gate' symbol of 2 words, sequence 'river', 2 ids: 'Nile', 'Rhine', "
        "time 'day', from 0 to 2, ..., rows)"
    )
    words = tuple(f"word {number}" for number in range(20_000))
    columns = tuple(Column(f"column {number}", "symbol", words=words) for number in range(88))
    legend = Legend(columns, ids=tuple(range(1000)), times=(np.arange(0),) * 1000)
    assert repr(legend.columns[0]) == (
        "Column('column 0', symbol, 20000 words: 'word 0', 'word 1', 'word 2', 'word 3', ...)"
    )
    shown = ", ".join(f"'column {number}' symbol of 20000 words" for number in range(4))
    assert repr(legend) == f"Legend(88 columns: {shown}, ..., 1000 ids: 0, 1, 2, 3, ...)"
    assert repr(Legend((Column("x"),))) == "Legend(1 column: 'x' real)"


def test_the_checked_batch_of_a_model_keeps_the_legend() -> None:
    data = labelled()
    assert checked(make_model("lgssm", Gaussian(2)), data).legend == data.legend
