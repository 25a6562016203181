"""Deletion of statements: the fault of somebody who forgot one."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .edit import Source
from .scope import is_log_call


def delete_statements(source: Source, node: ast.AST) -> Iterator[tuple[int, int, str]]:
    """Yield the ranges of the statements of a block that can be left out, each with ``pass``."""
    for block in _blocks(node):
        for statement in block:
            if _can_be_forgotten(node, statement, block):
                yield *source.span(statement), "pass"


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list):
            yield block


def _can_be_forgotten(node: ast.AST, statement: ast.stmt, block: list[ast.stmt]) -> bool:
    """Whether the code still makes sense to its reader without a statement."""
    if isinstance(statement, ast.Expr):
        value = statement.value
        called = value.value if isinstance(value, ast.Await) else value
        return isinstance(called, ast.Call) and not is_log_call(called)
    if isinstance(statement, ast.Assign):
        if getattr(node, "name", "") == "__init__":  # an attribute that is absent shows at once
            return False
        return all(
            isinstance(target, ast.Attribute | ast.Subscript) for target in statement.targets
        )
    if isinstance(statement, ast.AugAssign | ast.Raise | ast.Delete):
        return True
    return isinstance(statement, ast.Return | ast.Continue | ast.Break) and _is_guard(node, block)


def _is_guard(node: ast.AST, block: list[ast.stmt]) -> bool:
    """Whether a block is that of a condition, after which the function goes on."""
    return isinstance(node, ast.If) and block is node.body
