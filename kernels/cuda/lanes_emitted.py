"""Instructions of a GPU for kernels: vector loads and stores, bit patterns, sums over a warp."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic
from numba.cuda.typing import signature

_ALL = 0xFFFFFFFF
_LANES = ir.IntType(32)

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


@cuda.jit(device=True, inline="always")
def least_of_warp(number: float) -> tuple[float, int]:
    """Return the least number of the 32 lanes and a lane that has it, the same one in all lanes."""
    least = number
    for apart in (16, 8, 4, 2, 1):
        least = min(least, cuda.shfl_xor_sync(_ALL, least, apart))
    return least, cuda.ffs(cuda.ballot_sync(_ALL, number == least)) - 1


@cuda.jit(device=True, inline="always")
def ballot(yes: bool) -> int:
    """Return for which of the 32 lanes `yes` holds, a bit each."""
    return cuda.ballot_sync(_ALL, yes)


@cuda.jit(device=True, inline="always")
def any_of_16(yes: bool) -> bool:
    """Return whether `yes` holds for one of the 16 lanes of this half of the warp."""
    return (cuda.ballot_sync(_ALL, yes) >> (cuda.laneid & 16)) & 0xFFFF != 0


@cuda.jit(device=True, inline="always")
def lowest_bit(bits: int) -> int:
    """Return the place of the lowest bit that is set in a uint64, which is not 0."""
    return cuda.popc(~bits & (bits - np.uint64(1)))


@cuda.jit(device=True, inline="always")
def sync_warp() -> None:
    """Wait for the other lanes of the warp; they see what was written before."""
    cuda.syncwarp()
