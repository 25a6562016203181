"""Instructions of a GPU for kernels: vector loads and stores, bit patterns, sums over a warp."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic
from numba.cuda.typing import signature

from .sorting_network import comparators

_ALL = 0xFFFFFFFF
_SIGN = np.int64(-(1 << 63))
_LANES, _WIDE = ir.IntType(32), ir.IntType(64)

# Types of numba and LLVM carry no annotations.
Value = Any


def _pointer(context: Value, builder: Value, kind: Value, array: Value, at: Value) -> Value:
    """Emit the address of four elements as that of a vector; return the vector's type too."""
    data = context.make_array(kind)(context, builder, array).data
    element = context.get_data_type(kind.dtype)
    vector = ir.VectorType(element, 4)
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer()), vector


@intrinsic
def load4(_: Value, array: Value, at: Value) -> Value:
    """Return elements `at` to `at` + 3 by one load; `at` is a multiple of 4."""
    made = signature(types.UniTuple(array.dtype, 4), array, types.int64)

    def emit(context: Value, builder: Value, made: Value, values: Value) -> Value:
        pointer, _vector = _pointer(context, builder, made.args[0], *values)
        loaded = builder.load(pointer)
        loaded.align = 4 * made.args[0].dtype.bitwidth // 8
        parts = [builder.extract_element(loaded, ir.Constant(_LANES, n)) for n in range(4)]
        return cgutils.pack_array(builder, parts)

    return made, emit


@intrinsic
def store4(_: Value, array: Value, at: Value, a: Value, b: Value, c: Value, d: Value) -> Value:
    """Set elements `at` to `at` + 3 by one store; `at` is a multiple of 4."""
    made = signature(types.void, array, types.int64, *4 * [array.dtype])

    def emit(context: Value, builder: Value, made: Value, values: Value) -> Value:
        pointer, vector = _pointer(context, builder, made.args[0], *values[:2])
        four = ir.Constant(vector, ir.Undefined)
        for n, part in enumerate(values[2:]):
            four = builder.insert_element(four, part, ir.Constant(_LANES, n))
        stored = builder.store(four, pointer)
        stored.align = 4 * made.args[0].dtype.bitwidth // 8
        return context.get_dummy_value()

    return made, emit


def _pattern(source: Value, target: Value) -> Any:
    @intrinsic
    def cast(_: Value, number: Value) -> Value:
        def emit(context: Value, builder: Value, made: Value, values: Value) -> Value:
            return builder.bitcast(values[0], context.get_value_type(target))

        return signature(target, source), emit

    return cast


bits_of = _pattern(types.float32, types.uint32)
"""Return the bit pattern of a float32."""
float_of = _pattern(types.uint32, types.float32)
"""Return the float32 of a bit pattern."""
bits_of_double = _pattern(types.float64, types.int64)
"""Return the bit pattern of a float64."""
double_of = _pattern(types.int64, types.float64)
"""Return the float64 of a bit pattern."""


@intrinsic
def product(_: Value, a: Value, b: Value) -> Value:
    """Return the rounded product of two float32, never fused with an addition."""

    def emit(context: Value, builder: Value, made: Value, values: Value) -> Value:
        single = ir.FloatType()
        kind = ir.FunctionType(single, (single, single))
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.nvvm.mul.rn.f")
        return builder.call(function, values)

    return signature(types.float32, types.float32, types.float32), emit


@intrinsic
def nth_of_48(_: Value, array: Value, first: Value, n: Value) -> Value:
    """Return the element that `n` of the 48 from `first` on are not larger than."""
    made = signature(types.float32, array, types.int64, types.int64)

    def emit(context: Value, builder: Value, made: Value, values: Value) -> Value:
        data = context.make_array(made.args[0])(context, builder, values[0]).data
        places = [builder.add(values[1], ir.Constant(_WIDE, k)) for k in range(48)]
        sorted_ = [builder.load(builder.gep(data, [place])) for place in places]
        single = ir.FloatType()
        kind = ir.FunctionType(single, (single, single))
        smaller, larger = (
            cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}num.f32")
            for name in ("min", "max")
        )
        for i, j in comparators(48):
            pair = sorted_[i], sorted_[j]
            sorted_[i], sorted_[j] = builder.call(smaller, pair), builder.call(larger, pair)
        found = sorted_[0]
        for k in range(1, 48):
            here = builder.icmp_signed("==", values[2], ir.Constant(_WIDE, k))
            found = builder.select(here, sorted_[k], found)
        return found

    return made, emit


@cuda.jit(device=True, inline="always")
def sum_of_16(number: float) -> float:
    """Return the sum over the 16 lanes of this half of the warp, the two halves of each added."""
    for apart in (8, 4, 2, 1):
        number += cuda.shfl_xor_sync(_ALL, number, apart)
    return number


@cuda.jit(device=True, inline="always")
def sum_of_warp(number: float) -> float:
    """Return the sum over the 32 lanes of the warp."""
    for apart in (16, 8, 4, 2, 1):
        number += cuda.shfl_xor_sync(_ALL, number, apart)
    return number


@intrinsic
def _min_pattern(_: Value, pattern: Value) -> Value:
    """Return the smallest uint32 of the 32 lanes."""

    def emit(context: Value, builder: Value, made: Value, values: Value) -> Value:
        kind = ir.FunctionType(_LANES, [_LANES, _LANES])
        text = "redux.sync.min.u32 $0, $1, $2;"
        everyone = ir.Constant(_LANES, _ALL)
        minimum = builder.asm(kind, text, "=r,r,r", (values[0], everyone), side_effect=True)
        # All lanes come to one and the same instruction: no copy of it may go into a branch.
        minimum.attributes.add("convergent")
        return minimum

    return signature(types.uint32, types.uint32), emit


@cuda.jit(device=True, inline="always")
def min_of_warp(number: float) -> tuple[float, int]:
    """Return the smallest number of the 32 lanes, and a lane that has it: the same in all lanes."""
    # Integers that sort as the floats do: the hardware finds the smallest integer of a warp.
    bits = bits_of_double(number)
    key = np.uint64(bits ^ ((bits >> 63) | _SIGN))
    high, low = np.uint32(key >> np.uint64(32)), np.uint32(key & np.uint64(_ALL))
    first = _min_pattern(high)
    second = _min_pattern(low if high == first else np.uint32(_ALL))
    lane = cuda.ffs(cuda.ballot_sync(_ALL, high == first and low == second)) - 1
    minimum = np.int64((np.uint64(first) << np.uint64(32)) | np.uint64(second))
    return double_of(minimum ^ (~(minimum >> 63) | _SIGN)), lane


@cuda.jit(device=True, inline="always")
def ballot(yes: bool) -> int:
    """Return the lanes, of 32, for which `yes` holds, a bit each."""
    return cuda.ballot_sync(_ALL, yes)


@cuda.jit(device=True, inline="always")
def any_of_16(yes: bool) -> bool:
    """Return whether `yes` holds for one of the 16 lanes of this half of the warp."""
    return (cuda.ballot_sync(_ALL, yes) >> (cuda.laneid & 16)) & 0xFFFF != 0


@cuda.jit(device=True, inline="always")
def lowest_bit(bits: int) -> int:
    """Return the index of the lowest set bit of a uint64 that is not 0."""
    return cuda.popc(~bits & (bits - np.uint64(1)))


@cuda.jit(device=True, inline="always")
def sync_warp() -> None:
    """Wait for the other lanes of the warp; they see what was written before."""
    cuda.syncwarp()
