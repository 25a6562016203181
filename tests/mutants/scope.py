"""Which parts of a module are mutated: no types, texts, log records or representations."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log", "warn"}
_LOG_NAMES = {"_LOG", "LOG", "log", "_log", "logger", "warnings", "logging"}
#: Functions that describe an object to a reader.
_DESCRIPTIONS = {"__repr__", "__str__", "__rich__"}
#: Names of a module or class that only tools and type checkers read.
_DECLARATIONS = {"__all__", "__slots__", "__match_args__"}
_TYPE_FUNCTIONS = {"cast", "TypeVar", "ParamSpec", "NewType", "assert_never", "overload"}


def mutable_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree in which a fault makes a difference to what the code does."""
    yield tree
    for child in _children(tree):
        if not _left_out(child):
            yield from mutable_nodes(child)


def is_log_call(node: ast.AST) -> bool:
    """Whether a node is a call that writes a log record or a warning."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    owner = node.func.value
    name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    return node.func.attr in _LOG_METHODS and name in _LOG_NAMES


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the child nodes without annotations, decorators and base classes."""
    skipped: set[str] = set()
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        skipped = {"returns", "decorator_list"}
    elif isinstance(node, ast.ClassDef):
        skipped = {"decorator_list", "bases", "keywords"}
    elif isinstance(node, ast.AnnAssign | ast.arg):
        skipped = {"annotation"}
    elif isinstance(node, ast.Raise):
        skipped = {"exc", "cause"}
    for name, value in ast.iter_fields(node):
        if name not in skipped:
            yield from (part for part in (value if isinstance(value, list) else [value])
                        if isinstance(part, ast.AST))  # fmt: skip


def _left_out(node: ast.AST) -> bool:
    if isinstance(node, ast.FunctionDef):
        return node.name in _DESCRIPTIONS
    if isinstance(node, ast.If):
        return getattr(node.test, "id", "") == "TYPE_CHECKING"
    if isinstance(node, ast.ClassDef):
        return any(getattr(base, "id", "") == "Protocol" for base in node.bases)
    if isinstance(node, ast.Assign):
        return all(_is_left_out(target) for target in node.targets)
    if isinstance(node, ast.Call):
        return is_log_call(node) or getattr(node.func, "id", "") in _TYPE_FUNCTIONS
    if isinstance(node, ast.keyword):
        return node.arg == "strict"  # of `zip`: an assertion
    if isinstance(node, ast.Assert | ast.Import | ast.ImportFrom | ast.JoinedStr):
        return True
    return _is_union_of_types(node)


def _is_left_out(target: ast.expr) -> bool:
    """Whether what is assigned is a declaration, or how long to wait: no test measures that."""
    if isinstance(target, ast.Tuple):
        return all(_is_left_out(one) for one in target.elts)
    name = getattr(target, "id", "")
    return name in _DECLARATIONS or (name.isupper() and name.endswith(("_S", "_MS")))


def _is_union_of_types(node: ast.AST) -> bool:
    """Whether a node is ``A | None`` or ``int | str`` outside an annotation."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.BitOr):
        return False
    return any(_names_a_type(side) for side in (node.left, node.right))


def _names_a_type(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.Subscript):
        return _names_a_type(node.value)
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    builtin = {"int", "str", "float", "bool", "bytes", "list", "dict", "tuple", "set", "type"}
    return name in builtin or (name[:1].isupper() and not name.isupper())
