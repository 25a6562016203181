"""Building blocks of kernels that keep one event in each lane of a vector register.

The compiler vectorises loops over arrays; it does not keep a tile of sums in registers through a
loop of unknown length, nor transpose a block by shuffles. These blocks say so in LLVM's terms. A
*tile* is an array of rows of `TILE` numbers: one quantity a row, one event a lane.
"""

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils

from .jit import llvm_intrinsic

#: Numbers in a vector register of this machine.
LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8
_VECTORS = 2
#: Events of a tile.
TILE = LANES * _VECTORS
#: Outputs that `dot` computes at a time: with `_VECTORS`, as many sums as hide the adders' latency.
OUTPUTS = 8

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_F32, LANES)
_ANY = ir.Constant(_VECTOR, ir.Undefined)
_ZERO = ir.Constant(_VECTOR, [0.0] * LANES)

# Types of numba and LLVM carry no annotations.
Value = Any
_insert: Any = cgutils.get_or_insert_function


class _Code:
    """Emits LLVM instructions of one intrinsic; pointers count in items."""

    def __init__(self, context: Value, builder: Value, signature: Value, values: Value) -> None:
        self.builder = builder
        self.values = [
            context.make_array(kind)(context, builder, value).data
            if isinstance(kind, types.Array)
            else value
            for kind, value in zip(signature.args, values, strict=True)
        ]

    def at(self, base: Value, *offsets: Value) -> Value:
        total: Value = _number(0)
        for offset in offsets:
            total = self.builder.add(total, _number(offset) if isinstance(offset, int) else offset)
        return self.builder.gep(base, [total])

    def load(self, pointer: Value) -> Value:
        loaded = self.builder.load(self.builder.bitcast(pointer, _VECTOR.as_pointer()))
        loaded.align = 4
        return loaded

    def store(self, vector: Value, pointer: Value) -> None:
        stored = self.builder.store(vector, self.builder.bitcast(pointer, _VECTOR.as_pointer()))
        stored.align = 4

    def spread(self, scalar: Value) -> Value:
        first = self.builder.insert_element(_ANY, scalar, ir.Constant(_I32, 0))
        return self.shuffle(first, _ANY, [0] * LANES)

    def shuffle(self, a: Value, b: Value, lanes: list[int]) -> Value:
        mask = ir.Constant(ir.VectorType(_I32, LANES), lanes)
        return self.builder.shuffle_vector(a, b, mask)

    def call(self, name: str, *vectors: Value) -> Value:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(vectors))
        function = _insert(self.builder.module, kind, f"llvm.{name}.v{LANES}f32")
        return self.builder.call(function, vectors)

    def transposed(self, rows: list[Value]) -> list[Value]:
        """Swap lanes and rows of a square block: of each pair of rows 1, 2, 4, ... apart."""
        step = 1
        while step < LANES:
            even = [n if not n & step else LANES + n - step for n in range(LANES)]
            odd = [n + step if not n & step else LANES + n for n in range(LANES)]
            for r in (r for r in range(LANES) if not r & step):
                a, b = rows[r], rows[r + step]
                rows[r], rows[r + step] = self.shuffle(a, b, even), self.shuffle(a, b, odd)
            step *= 2
        return rows


def _number(value: int) -> Value:
    return ir.Constant(_I64, value)


@llvm_intrinsic
def dot(
    _: Value, source: Value, index: Value, first: Value, count: Value, numbers: Value,
    start: Value, target: Value, row: Value, relu: Value, cut: Value,
) -> Value:  # fmt: skip
    """Set rows ``row`` to ``row + 8`` of tile `target` to weighted sums of rows of tile `source`.

    The rows are ``index[first:first + count]``, `count` at least 1. From ``numbers[start]`` on lie
    8 biases, then 8 weights for each row. Negative sums become 0 where `relu`, fractions are cut
    where `cut`.
    """
    signature = types.void(
        source, index, first, count, numbers, start, target, row, relu, cut
    )  # fmt: skip

    def emit(context: Value, builder: Value, signature: Value, values: Value) -> Value:
        code = _Code(context, builder, signature, values)
        _, _, _, _, numbers, start, target, row, relu, cut = code.values
        sums = [
            code.spread(builder.load(code.at(numbers, start, output))) for output in range(OUTPUTS)
        ]
        width = _number(TILE)
        base = builder.mul(row, width)
        for place, vector in enumerate(_sums_of_products(code, sums)):
            positive = builder.select(relu, code.call("maxnum", vector, _ZERO), vector)
            whole = builder.select(cut, code.call("trunc", positive), positive)
            code.store(whole, code.at(target, base, place * LANES))
        return context.get_dummy_value()

    return signature, emit


def _sums_of_products(code: _Code, biases: list[Value]) -> list[Value]:
    """Emit the loop of `dot`; all sums stay in registers. Return them, output after output."""
    builder = code.builder
    source, index, first, count, numbers, start = code.values[:6]
    before, loop = builder.block, builder.append_basic_block("dot")
    after = builder.append_basic_block("dot.end")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(_I64)
    k.add_incoming(_number(0), before)
    sums = [builder.phi(_VECTOR) for _ in biases for _ in range(_VECTORS)]
    for place, total in enumerate(sums):
        total.add_incoming(biases[place // _VECTORS], before)
    row = builder.zext(builder.load(code.at(index, first, k)), _I64)
    base = builder.mul(row, _number(TILE))
    events = [code.load(code.at(source, base, v * LANES)) for v in range(_VECTORS)]
    weights = builder.mul(builder.add(k, _number(1)), _number(OUTPUTS))
    added = []
    for output in range(OUTPUTS):
        weight = code.spread(builder.load(code.at(numbers, start, weights, output)))
        added += [
            code.call("fma", weight, events[v], sums[output * _VECTORS + v])
            for v in range(_VECTORS)
        ]
    following = builder.add(k, _number(1))
    k.add_incoming(following, loop)
    for total, vector in zip(sums, added, strict=True):
        total.add_incoming(vector, loop)
    builder.cbranch(builder.icmp_unsigned("<", following, count), loop, after)
    builder.position_at_end(after)
    return added


@llvm_intrinsic
def to_tile(
    _: Value, flat: Value, first: Value, stride: Value, tile: Value, row: Value, lane: Value,
    scale: Value, cut: Value,
) -> Value:  # fmt: skip
    """Copy `LANES` numbers of each of `LANES` events into a tile, times `scale`.

    Event n has its numbers at ``flat[first + n * stride]``; they become lane ``lane + n`` of as
    many rows, from `row` on. Fractions are cut where `cut`.
    """
    signature = types.void(flat, first, stride, tile, row, lane, scale, cut)

    def emit(context: Value, builder: Value, signature: Value, values: Value) -> Value:
        code = _Code(context, builder, signature, values)
        flat, first, stride, tile, row, lane, scale, cut = code.values
        rows = [
            code.load(code.at(flat, first, builder.mul(stride, _number(n)))) for n in range(LANES)
        ]
        factor = code.spread(scale)
        base = builder.add(builder.mul(row, _number(TILE)), lane)
        for n, vector in enumerate(code.transposed(rows)):
            scaled = builder.fmul(vector, factor)
            whole = builder.select(cut, code.call("trunc", scaled), scaled)
            code.store(whole, code.at(tile, base, n * TILE))
        return context.get_dummy_value()

    return signature, emit


@llvm_intrinsic
def from_tile(
    _: Value, tile: Value, rows: Value, at: Value, lane: Value, flat: Value, first: Value,
    stride: Value,
) -> Value:  # fmt: skip
    """Copy `LANES` rows of a tile, ``rows[at]`` and following, out to `LANES` events.

    Lane ``lane + n`` becomes ``flat[first + n * stride]`` and following.
    """
    signature = types.void(tile, rows, at, lane, flat, first, stride)

    def emit(context: Value, builder: Value, signature: Value, values: Value) -> Value:
        code = _Code(context, builder, signature, values)
        tile, rows, at, lane, flat, first, stride = code.values
        width = _number(TILE)
        picked = []
        for n in range(LANES):
            base = builder.mul(builder.load(code.at(rows, at, n)), width)
            picked.append(code.load(code.at(tile, base, lane)))
        for n, vector in enumerate(code.transposed(picked)):
            code.store(vector, code.at(flat, first, builder.mul(stride, _number(n))))
        return context.get_dummy_value()

    return signature, emit
