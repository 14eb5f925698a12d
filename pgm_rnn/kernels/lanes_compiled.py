"""Vectors of eight numbers for compiled functions: one number of each of eight sequences, which run side by side.

A loop over few states is too short for vector instructions, and numba does not see that two arrays are distinct. These
values are LLVM's own vectors, so that each operation is one or two instructions. Arrays are flat, and offsets count
entries. The module is imported when it is first used.
"""

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, types
from numba.extending import models, register_model

LANES = 8
"""Number of sequences side by side: a register of AVX in single precision, two of them in double precision."""

_CONTRACT = ("contract",)


def intrinsic(function: Callable[..., Any]) -> Any:
    """numba's decorator, whose own type would keep the first argument, which callers do not give."""
    return extending.intrinsic(function)


class Vector(types.Type):
    """The type of eight numbers of a dtype."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _vector(kind.dtype))


def _vector(dtype: Any) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType(), LANES)


def _all(kind: ir.VectorType, number: float) -> ir.Constant:
    return ir.Constant(kind, [number] * LANES)


def _address(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [offset])


def _spread(builder: Any, number: Any) -> Any:
    """A number in every lane."""
    first = builder.insert_element(ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined), number, _lane(0))
    order = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, first, order)


def _lane(number: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), number)


def _load(builder: Any, address: Any) -> Any:
    """Eight numbers from an address, which need not be a multiple of their size."""
    number = address.type.pointee
    place = builder.bitcast(address, ir.VectorType(number, LANES).as_pointer())
    return builder.load(place, align=_bytes(number))


def _store(builder: Any, vector: Any, address: Any) -> None:
    place = builder.bitcast(address, vector.type.as_pointer())
    builder.store(vector, place, align=_bytes(vector.type.element))


def _bytes(number: Any) -> int:
    return 4 if isinstance(number, ir.FloatType) else 8


def _plus(builder: Any, offset: Any, number: int) -> Any:
    return builder.add(offset, ir.Constant(offset.type, number))


def _beginning(context: Any, builder: Any, array: Any, starts: Any, values: Any, lane: int) -> Any:
    """The address of array[starts[lane] + offset], values being these three."""
    whole = values[2].type
    start = builder.load(_address(context, builder, starts, values[1], ir.Constant(whole, lane)))
    return _address(context, builder, array, values[0], builder.add(start, values[2]))


@intrinsic
def splat(_: Any, number: Any) -> Any:
    """The number in every lane."""
    return Vector(number)(number), lambda context, builder, signature, values: _spread(builder, values[0])


@intrinsic
def load(_: Any, array: Any, offset: Any) -> Any:
    """array[offset : offset + 8]."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _load(builder, _address(context, builder, array, *values))

    return Vector(array.dtype)(array, offset), build


@intrinsic
def store(_: Any, array: Any, offset: Any, vector: Any) -> Any:
    """array[offset : offset + 8] = vector."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _store(builder, values[2], _address(context, builder, array, *values[:2]))
        return context.get_dummy_value()

    return types.void(array, offset, vector), build


@intrinsic
def gather(_: Any, array: Any, starts: Any, offset: Any) -> Any:
    """array[starts[l] + offset] in lane l."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vector = ir.Constant(_vector(array.dtype), ir.Undefined)
        for lane in range(LANES):
            number = builder.load(_beginning(context, builder, array, starts, values, lane))
            vector = builder.insert_element(vector, number, _lane(lane))
        return vector

    return Vector(array.dtype)(array, starts, offset), build


@intrinsic
def scatter(_: Any, array: Any, starts: Any, offset: Any, vector: Any) -> Any:
    """array[starts[l] + offset] = vector in lane l, the last lane first: of equal places, the first lane's counts."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        for lane in reversed(range(LANES)):
            number = builder.extract_element(values[3], _lane(lane))
            builder.store(number, _beginning(context, builder, array, starts, values[:3], lane))
        return context.get_dummy_value()

    return types.void(array, starts, offset, vector), build


@intrinsic
def gather_eight(_: Any, array: Any, starts: Any, offset: Any, target: Any, place: Any) -> Any:
    """array[starts[l] + offset + k] in lane l of the k-th of eight vectors of `target` from `place` on."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        addresses = [_beginning(context, builder, array, starts, values[:3], lane) for lane in range(LANES)]
        rows = [_load(builder, address) for address in addresses]
        for k, vector in enumerate(_transposed(builder, rows)):
            _store(builder, vector, _address(context, builder, target, values[3], _plus(builder, values[4], k * LANES)))
        return context.get_dummy_value()

    return types.void(array, starts, offset, target, place), build


@intrinsic
def scatter_eight(_: Any, array: Any, starts: Any, offset: Any, source: Any, place: Any) -> Any:
    """The reverse of `gather_eight`, the last lane first, as in `scatter`."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        columns = []
        for k in range(LANES):
            address = _address(context, builder, source, values[3], _plus(builder, values[4], k * LANES))
            columns.append(_load(builder, address))
        for lane, vector in reversed(list(enumerate(_transposed(builder, columns)))):
            _store(builder, vector, _beginning(context, builder, array, starts, values[:3], lane))
        return context.get_dummy_value()

    return types.void(array, starts, offset, source, place), build


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Eight vectors of which the k-th holds the k-th numbers of eight rows: halves of pairs change places thrice."""
    pairs = [part for k in range(0, LANES, 2) for part in _exchanged(builder, rows[k], rows[k + 1], _BY_ONE)]
    fours = [part for k in (0, 1, 4, 5) for part in _exchanged(builder, pairs[k], pairs[k + 2], _BY_TWO)]
    found = [_exchanged(builder, fours[k], fours[k + 4], _BY_FOUR) for k in range(4)]
    return [first for first, _ in found] + [second for _, second in found]


_BY_ONE = [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]
_BY_TWO = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
_BY_FOUR = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]


def _exchanged(builder: Any, a: Any, b: Any, orders: tuple[list[int], list[int]]) -> list[Any]:
    kind = ir.VectorType(ir.IntType(32), LANES)
    return [builder.shuffle_vector(a, b, ir.Constant(kind, order)) for order in orders]


@intrinsic
def add(_: Any, a: Any, b: Any) -> Any:
    """a + b."""
    return a(a, b), lambda context, builder, signature, values: builder.fadd(*values)


@intrinsic
def subtract(_: Any, a: Any, b: Any) -> Any:
    """a - b."""
    return a(a, b), lambda context, builder, signature, values: builder.fsub(*values)


@intrinsic
def multiply(_: Any, a: Any, b: Any) -> Any:
    """a b."""
    return a(a, b), lambda context, builder, signature, values: builder.fmul(*values, flags=_CONTRACT)


@intrinsic
def multiply_add(_: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, with one rounding where the processor can."""
    return a(a, b, c), lambda context, builder, signature, values: _multiply_add(builder, *values)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=_CONTRACT), c, flags=_CONTRACT)


@intrinsic
def inverse_or_zero(_: Any, a: Any) -> Any:
    """1 / a, and 0 where a is 0."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (value,) = values
        zero = _all(value.type, 0.0)
        found = builder.fdiv(_all(value.type, 1.0), value)
        return builder.select(builder.fcmp_ordered("==", value, zero), zero, found)

    return a(a), build


@intrinsic
def larger(_: Any, a: Any, b: Any) -> Any:
    """b where b > a, else a: a NaN in b is passed over."""
    return a(a, b), lambda context, builder, signature, values: builder.select(
        builder.fcmp_ordered(">", values[1], values[0]), values[1], values[0]
    )


@intrinsic
def finite_or_zero(_: Any, a: Any) -> Any:
    """0 where a is infinite or NaN, else a."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (value,) = values
        zero = _all(value.type, 0.0)
        finite = builder.fcmp_ordered("==", builder.fsub(value, value), zero)
        return builder.select(finite, value, zero)

    return a(a), build


@intrinsic
def capped(_: Any, a: Any, bound: Any) -> Any:
    """The nearest number in -bound..bound; NaN stays."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        value, largest = values[0], _spread(builder, values[1])
        value = builder.select(builder.fcmp_ordered(">", value, largest), largest, value)
        smallest = builder.fneg(largest)
        return builder.select(builder.fcmp_ordered("<", value, smallest), smallest, value)

    return a(a, a.dtype), build


@intrinsic
def where_before(_: Any, t: Any, ends: Any, a: Any, b: Any) -> Any:
    """a in the lanes where t < ends[l], else b."""
    return a(t, ends, a, b), lambda context, builder, signature, values: _where("<", context, builder, ends, values)


@intrinsic
def where_at(_: Any, t: Any, ends: Any, a: Any, b: Any) -> Any:
    """a in the lanes where t == ends[l], else b."""
    return a(t, ends, a, b), lambda context, builder, signature, values: _where("==", context, builder, ends, values)


def _where(comparison: str, context: Any, builder: Any, kind: Any, values: Any) -> Any:
    t, ends, a, b = values
    numbers = _load(builder, _address(context, builder, kind, ends, ir.Constant(t.type, 0)))
    condition = builder.icmp_signed(comparison, _spread(builder, t), numbers)
    return builder.select(condition, a, b)


@intrinsic
def where_larger(_: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """c in the lanes where a > b, else d."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *values[:2]), *values[2:])

    return a(a, b, c, d), build


@intrinsic
def any_outside(_: Any, a: Any, low: Any, high: Any) -> Any:
    """Whether low <= a <= high fails in some lane; NaN counts as outside."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, low, high = values[0], *(_spread(builder, value) for value in values[1:])
        inside = builder.and_(builder.fcmp_ordered(">=", a, low), builder.fcmp_ordered("<=", a, high))
        bits = builder.bitcast(inside, ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 2**LANES - 1))

    return types.boolean(a, a.dtype, a.dtype), build


@intrinsic
def in_double(_: Any, a: Any) -> Any:
    """The same numbers in double precision."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return values[0] if a.dtype.bitwidth == 64 else builder.fpext(values[0], _vector(types.float64))

    return Vector(types.float64)(a), build


@intrinsic
def exponential(_: Any, a: Any) -> Any:
    """exp(a), 0 where it is no normal number: 2^n exp(r), a = n log 2 + r, by Taylor's series of exp(r)."""
    degree, digits, bias, exact = (7, 23, 127, 15) if a.dtype.bitwidth == 32 else (13, 52, 1023, 40)
    high = round(math.log(2) * 2**exact) / 2**exact  # its product with a whole number n is exact
    low = math.log(2) - high

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (given,), kind = values, values[0].type
        whole = ir.VectorType(ir.IntType(a.dtype.bitwidth), LANES)
        magic = _all(kind, 1.5 * 2.0**digits)  # adding it rounds to a whole number
        number = builder.fmul(given, _all(kind, 1 / math.log(2)))
        largest, smallest = _all(kind, 1.0 * bias), _all(kind, 1.0 - bias)
        number = builder.select(builder.fcmp_ordered("<", number, largest), number, largest)  # NaN, too
        number = builder.select(builder.fcmp_ordered(">", number, smallest), number, smallest)
        number = builder.fsub(builder.fadd(number, magic), magic)
        rest = _multiply_add(builder, number, _all(kind, -high), given)
        rest = _multiply_add(builder, number, _all(kind, -low), rest)
        found = _all(kind, 1 / math.factorial(degree))
        for power in reversed(range(degree)):
            found = _multiply_add(builder, found, rest, _all(kind, 1 / math.factorial(power)))
        bits = builder.shl(
            builder.add(builder.fptosi(number, whole), ir.Constant(whole, [bias] * LANES)),
            ir.Constant(whole, [digits] * LANES),
        )
        found = builder.fmul(found, builder.bitcast(bits, kind))
        return builder.select(
            builder.fcmp_ordered("<", given, _all(kind, math.log(2) * (1 - bias))), _all(kind, 0.0), found
        )

    return a(a), build


@intrinsic
def log_of_one_plus(_: Any, a: Any) -> Any:
    """log(1 + a) for 0 <= a <= 1: 2 artanh(w), w = a / (2 + a) <= 1/3, by the series of artanh."""
    terms = 8 if a.dtype.bitwidth == 32 else 17

    return a(a), lambda context, builder, signature, values: _log_of_one_plus(builder, values[0], terms)


def _log_of_one_plus(builder: Any, given: Any, terms: int) -> Any:
    kind = given.type
    w = builder.fdiv(given, builder.fadd(given, _all(kind, 2.0)))
    square, found = builder.fmul(w, w), _all(kind, 2 / (2 * terms - 1))
    for k in reversed(range(terms - 1)):
        found = _multiply_add(builder, found, square, _all(kind, 2 / (2 * k + 1)))
    return builder.fmul(found, w)


@intrinsic
def logarithm(_: Any, a: Any) -> Any:
    """log(a) of positive normal numbers: n log 2 + log(m), a = 2^n m with m in [2/3, 4/3), by the series of artanh."""
    terms, digits, bias = (8, 23, 127) if a.dtype.bitwidth == 32 else (17, 52, 1023)

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind, whole = values[0].type, ir.VectorType(ir.IntType(a.dtype.bitwidth), LANES)

        def constant(number: int) -> ir.Constant:
            return ir.Constant(whole, [number] * LANES)

        bits = builder.bitcast(values[0], whole)
        below = int(2**digits / 3)  # a number from 4/3 on has the exponent of the next power of two
        exponent = builder.sub(
            builder.lshr(builder.add(bits, constant(2**digits - 1 - below)), constant(digits)), constant(bias)
        )
        rest = builder.fsub(
            builder.bitcast(builder.sub(bits, builder.shl(exponent, constant(digits))), kind), _all(kind, 1.0)
        )
        return builder.fadd(
            builder.fmul(builder.sitofp(exponent, kind), _all(kind, math.log(2))),
            _log_of_one_plus(builder, rest, terms),
        )

    return a(a), build
