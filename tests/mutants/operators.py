"""Kinds of faults: each takes a node of a syntax tree and yields what may be written instead."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from .edit import Edit, Source
from .scope import mutable_nodes
from .statements import delete_statements

_COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<=", ">="), ast.LtE: ("<", ">"), ast.Gt: (">=", "<="), ast.GtE: (">", "<"),
    ast.Eq: ("!=",), ast.NotEq: ("==",), ast.Is: ("is not",), ast.IsNot: ("is",),
    ast.In: ("not in",), ast.NotIn: ("in",),
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "//",
    ast.Pow: "*", ast.LShift: ">>", ast.RShift: "<<", ast.BitAnd: "|", ast.BitOr: "&",
    ast.BitXor: "|",
}  # fmt: skip
_OPPOSITES = {
    "min": "max", "any": "all", "minimum": "maximum", "fmin": "fmax", "argmin": "argmax",
    "nanmin": "nanmax", "floor": "ceil", "popleft": "pop", "appendleft": "append",
    "logical_and": "logical_or",
}  # fmt: skip
_OPPOSITES |= {new: old for old, new in _OPPOSITES.items() if old not in ("popleft", "appendleft")}
_SIDES = {"left": "right", "right": "left"}
#: Functions whose arguments are of different types.
_FIXED_ORDER = {"isinstance", "issubclass", "getattr", "hasattr", "setattr"}
#: Numbers up to here change by one, larger ones are doubled.
_SMALL = 20

#: Ranges of bytes with what comes there instead.
_Found = Iterator[tuple[int, int, str]]
_Operator = Callable[[Source, ast.AST], _Found]


def edits(source: Source) -> list[Edit]:
    """Return all faults that may be planted in a module, in the order of its text.

    A few of them are no Python: a ``break`` outside a loop, say.
    """
    found = set()
    for node in mutable_nodes(source.tree):
        for name, operator in OPERATORS.items():
            for start, end, new in operator(source, node):
                found.add(Edit(source.line_at(start), start, end, new, name))
    return sorted(found)


def _between(source: Source, left: ast.AST, right: ast.AST, old: str, new: str) -> _Found:
    """Replace an operator that stands between two nodes."""
    start, end = source.span(left)[1], source.span(right)[0]
    at = source.slice(start, end).find(old)
    if at >= 0:
        yield start + at, start + at + len(old), new


def _comparison(source: Source, node: ast.AST) -> _Found:
    if not isinstance(node, ast.Compare):
        return
    sides = [node.left, *node.comparators]
    for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
        old = _text_of(operator)
        for new in _COMPARISONS[type(operator)]:
            yield from _between(source, left, right, old, new)


def _text_of(operator: ast.cmpop | ast.operator) -> str:
    """Return how an operator is written."""
    if isinstance(operator, ast.cmpop):
        example: ast.expr = ast.Compare(ast.Name("a"), [operator], [ast.Name("b")])
    else:
        example = ast.BinOp(ast.Name("a"), operator, ast.Name("b"))
    return ast.unparse(example)[2:-2]


def _arithmetic(source: Source, node: ast.AST) -> _Found:
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        if isinstance(node.left, ast.Constant) and isinstance(node.left.value, str | bytes):
            return
        new = _ARITHMETIC[type(node.op)]
        yield from _between(source, node.left, node.right, _text_of(node.op), new)
    elif isinstance(node, ast.AugAssign) and type(node.op) in _ARITHMETIC:
        old = _text_of(node.op) + "="
        for new in (_ARITHMETIC[type(node.op)] + "=", "="):
            yield from _between(source, node.target, node.value, old, new)


def _boolean(source: Source, node: ast.AST) -> _Found:
    if isinstance(node, ast.BoolOp):
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from _between(source, left, right, old, new)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield *source.span(node), source.of(node.operand)
    elif isinstance(node, ast.If | ast.IfExp) and isinstance(
        node.test, ast.Name | ast.Attribute | ast.Call
    ):
        yield *source.span(node.test), f"(not {source.of(node.test)})"


def _constant(source: Source, node: ast.AST) -> _Found:
    if not isinstance(node, ast.Constant) or isinstance(node.value, str | bytes):
        return
    if isinstance(node.value, bool):
        yield *source.span(node), str(not node.value)
    elif isinstance(node.value, int):
        # One more or less of a large limit is no fault that anybody would see.
        small = node.value <= _SMALL
        for new in (node.value + 1, node.value - 1) if small else (2 * node.value,):
            yield *source.span(node), str(new) if new >= 0 else f"({new})"
    elif isinstance(node.value, float):
        yield *source.span(node), repr(node.value + 1.0)
        yield *source.span(node), repr(node.value * 2.0 if node.value else -1.0)


def _loop(source: Source, node: ast.AST) -> _Found:
    if isinstance(node, ast.Break):
        yield *source.span(node), "continue"
    elif isinstance(node, ast.Continue):
        yield *source.span(node), "break"
    elif isinstance(node, ast.For):
        ranged = isinstance(node.iter, ast.Call) and "range" in source.of(node.iter.func)
        empty = f"{source.of(node.iter.func)}(0)" if ranged else "()"  # type: ignore[attr-defined]
        yield *source.span(node.iter), empty
    elif isinstance(node, ast.While):
        yield *source.span(node.test), "False"


def _handler(source: Source, node: ast.AST) -> _Found:
    if not isinstance(node, ast.ExceptHandler) or node.type is None:
        return
    yield *source.span(node.type), "()"
    if isinstance(node.type, ast.Tuple) and len(node.type.elts) > 1:
        for kept in node.type.elts:
            yield *source.span(node.type), source.of(kept)


def _argument(source: Source, node: ast.AST) -> _Found:
    """Drop a keyword, or one value of several of `min`, `max` and `suppress`."""
    if not isinstance(node, ast.Call):
        return
    several = _name(source, node) in ("min", "max", "suppress") and len(node.args) > 1
    parts: list[ast.AST] = [*node.args, *node.keywords]
    for index, part in enumerate(parts):
        if several or (isinstance(part, ast.keyword) and part.arg not in (None, "strict")):
            start, end = source.span(part)
            if index:
                yield source.span(parts[index - 1])[1], end, ""
            else:
                yield start, source.span(parts[1])[0] if parts[1:] else end, ""


def _name(source: Source, node: ast.Call) -> str:
    """Return the last part of the name of a function that is called."""
    return source.of(node.func).rpartition(".")[2]


def _swap(source: Source, node: ast.AST) -> _Found:
    """Swap two neighbouring arguments that are written alike: two names, or two attributes."""
    if not isinstance(node, ast.Call) or _name(source, node) in _FIXED_ORDER:
        return
    for left, right in zip(node.args, node.args[1:], strict=False):
        alike = type(left) is type(right) and isinstance(left, ast.Name | ast.Attribute)
        if alike and source.of(left) != source.of(right):
            start, end = source.span(left)[0], source.span(right)[1]
            between = source.slice(source.span(left)[1], source.span(right)[0])
            yield start, end, source.of(right) + between + source.of(left)


def _opposite(source: Source, node: ast.AST) -> _Found:
    if isinstance(node, ast.Call):
        end, name = source.span(node.func)[1], _name(source, node)
        if name in _OPPOSITES:
            yield end - len(name.encode()), end, _OPPOSITES[name]
    elif isinstance(node, ast.keyword) and node.arg == "side":
        value = getattr(node.value, "value", None)
        if value in _SIDES:
            yield *source.span(node.value), repr(_SIDES[value])
    elif isinstance(node, ast.Subscript) and source.of(node.slice) in ("0", "-1"):
        yield *source.span(node.slice), "-1" if source.of(node.slice) == "0" else "0"


def _slice(source: Source, node: ast.AST) -> _Found:
    """Make a slice one shorter at its begin or its end."""
    if not isinstance(node, ast.Slice):
        return
    if node.lower is not None and not isinstance(node.lower, ast.Constant):
        yield *source.span(node.lower), f"{source.of(node.lower)} + 1"
    if node.upper is not None and not isinstance(node.upper, ast.Constant):
        yield *source.span(node.upper), f"{source.of(node.upper)} - 1"


#: Name of each kind of fault, and what finds where it fits.
OPERATORS: dict[str, _Operator] = {
    "comparison": _comparison,
    "arithmetic": _arithmetic,
    "boolean": _boolean,
    "constant": _constant,
    "loop": _loop,
    "handler": _handler,
    "argument dropped": _argument,
    "arguments swapped": _swap,
    "opposite": _opposite,
    "slice": _slice,
    "statement deleted": delete_statements,
}
