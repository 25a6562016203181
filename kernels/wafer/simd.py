"""Building blocks of wafer kernels: the 48 cells of a wafer in three vectors, 16 latents in one."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from sluice.kernels.compiler.jit import llvm_intrinsic

from .geometry import ARRANGE_8X8

_F32, _F64, _I32, _I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)
_WIDTH = 16
_VECTOR = ir.VectorType(_F32, _WIDTH)
_ZERO = ir.Constant(_VECTOR, [0.0] * _WIDTH)

# Types of numba and LLVM carry no annotations.
Value = Any
_insert: Any = cgutils.get_or_insert_function


def _array(context: Value, builder: Value, kind: Value, value: Value) -> Value:
    return context.make_array(kind)(context, builder, value).data


def _load(builder: Value, base: Value, at: Value, offset: int = 0) -> Value:
    pointer = builder.gep(base, [builder.add(at, ir.Constant(_I64, offset))])
    loaded = builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()))
    loaded.align = 4
    return loaded


def _store(builder: Value, vector: Value, base: Value, at: Value, offset: int = 0) -> None:
    pointer = builder.gep(base, [builder.add(at, ir.Constant(_I64, offset))])
    stored = builder.store(vector, builder.bitcast(pointer, _VECTOR.as_pointer()))
    stored.align = 4


def _shuffle(builder: Value, a: Value, b: Value, lanes: list[int]) -> Value:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


def _spread(builder: Value, scalar: Value) -> Value:
    some = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(some, scalar, ir.Constant(_I32, 0))
    return _shuffle(builder, first, some, [0] * _WIDTH)


def _call(builder: Value, name: str, *vectors: Value) -> Value:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(vectors))
    function = _insert(builder.module, kind, f"llvm.{name}.v{_WIDTH}f32")
    return builder.call(function, vectors)


@llvm_intrinsic
def sum_of_cells(_: Value, charge: Value, at: Value) -> Value:
    """Return the float64 sum of ``charge[at:at + 48]``, always added in the same order."""
    signature = types.float64(charge, at)

    def emit(context: Value, builder: Value, signature: Value, values: Value) -> Value:
        base, at = _array(context, builder, signature.args[0], values[0]), values[1]
        wide = ir.VectorType(_F64, _WIDTH)
        a, b, c = (builder.fpext(_load(builder, base, at, n), wide) for n in (0, 16, 32))
        total = builder.fadd(builder.fadd(a, b), c)
        lanes = _WIDTH
        while lanes > 1:
            lanes //= 2
            low, high = list(range(lanes)), list(range(lanes, 2 * lanes))
            total = builder.fadd(
                _shuffle(builder, total, total, low), _shuffle(builder, total, total, high)
            )
        return builder.extract_element(total, ir.Constant(_I32, 0))

    return signature, emit


@llvm_intrinsic
def any_negative_cell(_: Value, charge: Value, at: Value) -> Value:
    """Return whether one of ``charge[at:at + 48]`` is below 0."""
    signature = types.boolean(charge, at)

    def emit(context: Value, builder: Value, signature: Value, values: Value) -> Value:
        base, at = _array(context, builder, signature.args[0], values[0]), values[1]
        a, b, c = (
            builder.fcmp_ordered("<", _load(builder, base, at, n), _ZERO) for n in (0, 16, 32)
        )
        bits = builder.bitcast(builder.or_(builder.or_(a, b), c), ir.IntType(_WIDTH))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(_WIDTH), 0))

    return signature, emit


@llvm_intrinsic
def arrange_cells(
    _: Value, charge: Value, at: Value, scale: Value, image: Value, to: Value
) -> Value:
    """Set ``image[to:to + 64]`` to ``charge[at:at + 48] * scale``, as `ARRANGE_8X8` says."""
    signature = types.void(charge, at, scale, image, to)

    def emit(context: Value, builder: Value, signature: Value, values: Value) -> Value:
        base = _array(context, builder, signature.args[0], values[0])
        image = _array(context, builder, signature.args[3], values[3])
        factor = _spread(builder, values[2])
        cells = [_load(builder, base, values[1], n) for n in (0, 16, 32)]
        scaled = [builder.fmul(vector, factor) for vector in cells]
        for block in range(4):
            _store(builder, _picked(builder, scaled, block), image, values[4], 16 * block)
        return context.get_dummy_value()

    return signature, emit


def _picked(builder: Value, cells: list[Value], block: int) -> Value:
    """Emit two rows of the image; they take from at most two vectors, or from one and zero."""
    flat = ARRANGE_8X8.ravel()[16 * block : 16 * block + 16]
    hidden = [row >= 4 and column >= 4 for row in (2 * block, 2 * block + 1) for column in range(8)]
    sources = sorted({int(cell) // 16 for cell, none in zip(flat, hidden, strict=True) if not none})
    vectors = [cells[source] for source in sources] + [_ZERO]
    lanes = []
    for cell, none in zip(flat, hidden, strict=True):
        source = 1 if none else sources.index(int(cell) // 16)
        lanes.append(16 * source + (0 if none else int(cell) % 16))
    return _shuffle(builder, vectors[0], vectors[1], lanes)


@llvm_intrinsic
def quantise(
    _: Value, latent: Value, at: Value, bits: Value, scale: Value, lsb: Value, latent_q: Value
) -> Value:
    """Quantise ``latent[at:at + 16]`` into `latent_q`; return the codes, four in an integer.

    The first of four codes is the highest; each has `bits` bits. Half rounds up, NaN becomes 0.
    """
    four: Any = types.UniTuple
    signature = four(types.uint64, 4)(latent, at, bits, scale, lsb, latent_q)

    def emit(context: Value, builder: Value, signature: Value, values: Value) -> Value:
        base = _array(context, builder, signature.args[0], values[0])
        target = _array(context, builder, signature.args[5], values[5])
        at, bits, scale, lsb = values[1:5]
        code = _codes(builder, _load(builder, base, at), scale, bits)
        _store(builder, builder.fmul(code, _spread(builder, lsb)), target, at)
        whole = builder.fptosi(code, ir.VectorType(_I32, _WIDTH))
        fours = _joined(builder, _joined(builder, whole, bits), builder.add(bits, bits))
        parts = [builder.extract_element(fours, ir.Constant(_I32, n)) for n in range(4)]
        return context.make_tuple(builder, signature.return_type, parts)

    return signature, emit


def _codes(builder: Value, latent: Value, scale: Value, bits: Value) -> Value:
    scaled = builder.fmul(latent, _spread(builder, scale))
    below = _call(builder, "floor", scaled)
    # Not floor(scaled + 0.5): in float32 that sum rounds the largest number below 0.5 up to 1.
    half = ir.Constant(_VECTOR, [0.5] * _WIDTH)
    up = builder.fcmp_ordered(">=", builder.fsub(scaled, below), half)
    above = builder.fadd(below, ir.Constant(_VECTOR, [1.0] * _WIDTH))
    one = ir.Constant(_I64, 1)
    largest = builder.uitofp(builder.sub(builder.shl(one, bits), one), _F32)
    rounded = _call(builder, "maxnum", builder.select(up, above, below), _ZERO)
    return _call(builder, "minnum", rounded, _spread(builder, largest))


def _joined(builder: Value, codes: Value, bits: Value) -> Value:
    """Emit neighbours joined into one integer of 64 bits: the first above the second."""
    count = codes.type.count // 2
    wide = ir.VectorType(_I64, count)
    first, second = (
        builder.zext(_shuffle(builder, codes, codes, list(range(n, 2 * count, 2))), wide)
        if codes.type.element != _I64
        else _shuffle(builder, codes, codes, list(range(n, 2 * count, 2)))
        for n in (0, 1)
    )
    some = ir.Constant(wide, ir.Undefined)
    start = builder.insert_element(some, bits, ir.Constant(_I32, 0))
    return builder.or_(builder.shl(first, _shuffle(builder, start, some, [0] * count)), second)
