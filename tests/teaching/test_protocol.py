"""Values between processes: all kinds come back as they were sent, and nothing else is accepted."""

import io
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pgm_rnn.teaching.protocol import DTYPES, ProtocolError, decode, encode, receive, send

PLAIN = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=9)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
SHAPED = st.sampled_from(DTYPES).flatmap(lambda name: arrays.arrays(name, arrays.array_shapes(min_dims=0, min_side=0)))


def sent(value: Any) -> Any:
    stream = io.BytesIO()
    send(stream, {"value": encode(value)})
    stream.seek(0)
    message = receive(stream)
    assert message is not None
    assert receive(stream) is None
    return decode(message["value"])


@given(VALUES)
def test_plain_values_come_back(value: Any) -> None:
    assert sent(value) == value


@given(SHAPED)
def test_arrays_come_back_with_their_dtype_and_shape(value: Any) -> None:
    back = sent(value)
    assert (back.dtype, back.shape) == (value.dtype, value.shape)
    np.testing.assert_array_equal(back, value)


def test_tensors_tuples_and_numbers_of_numpy_come_back_as_arrays_lists_and_numbers() -> None:
    back = sent((torch.tensor([1.0, 2.0], requires_grad=True), np.float64(3), (True, np.int8(4))))
    np.testing.assert_array_equal(back[0], [1.0, 2.0])
    assert back[1:] == [3.0, [True, 4]]
    assert np.isnan(sent(float("nan")))


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j, np.array([object()]), np.array(["text"]), lambda: 0, b"bytes"])
def test_other_values_are_refused_by_the_sender(value: Any) -> None:
    with pytest.raises(TypeError, match="expected "):
        encode(value)


@pytest.mark.parametrize(
    "value",
    [
        {"array": ["object", [1], "AAAA"]},
        {"array": ["float64", [2], "AAAAAAAAAAA="]},
        {"array": ["float64", [-1], "AAAAAAAAAAA="]},
        {"array": ["float64", [True], "AAAAAAAAAAA="]},
        {"array": ["uint8", [1 << 62, 1 << 62], ""]},
        {"array": 4},
        {"array": ["float64"]},
        {"dict": [1]},
        {"code": "print()"},
    ],
)
def test_what_no_sender_makes_is_refused_by_the_receiver(value: Any) -> None:
    with pytest.raises(ProtocolError, match="expected"):
        decode(value)


@pytest.mark.parametrize(
    "content",
    [
        b"\x00",
        (1 << 40).to_bytes(8, "big"),
        (5).to_bytes(8, "big") + b"hello",
        (4).to_bytes(8, "big") + b"[{}]",
        len(deep := b"[" * 100_000).to_bytes(8, "big") + deep,
        len(blob := pickle.dumps({"value": 1})).to_bytes(8, "big") + blob,
    ],
    ids=["short", "huge", "text", "list", "deep", "pickle"],
)
def test_what_is_no_message_is_refused(content: bytes) -> None:
    with pytest.raises(ProtocolError, match="expected"):
        receive(io.BytesIO(content))


def test_the_end_of_a_stream_in_a_message_is_the_end() -> None:
    whole = io.BytesIO()
    send(whole, {"value": 1})
    assert receive(io.BytesIO(whole.getvalue()[:-1])) is None
    assert json.loads(whole.getvalue()[8:]) == {"value": 1}


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="expected at most 32,000,000 bytes"):
        send(io.BytesIO(), {"value": "a" * 32_000_001})
