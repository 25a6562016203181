"""What holds for all tests: where profiles are made, and when a skip is decided."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]


def _calls(tree: ast.AST, function: str = "") -> Iterator[tuple[str, str]]:
    """Yield the calls ``a.b()`` of a module: the function in which each stands, and its name."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef) else function
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            yield inside, f"{called.value.id}.{called.attr}"
        yield from _calls(node, inside)


def _where(*names: str) -> set[str]:
    """Return the functions of all files below this folder that call one of the names."""
    found = set()
    for path in _TESTS.rglob("*.py"):
        text = path.read_text()
        if any(name in text for name in names):
            for function, name in _calls(ast.parse(text)):
                if name in names:
                    found.add(f"{path.relative_to(_TESTS).as_posix()}: {function}")
    return found


def test_profiles_of_hypothesis_are_made_in_one_place() -> None:
    """Else the settings of a test depend on what was collected before it."""
    assert _where("settings.register_profile", "settings.load_profile") == {"conftest.py: "}


def test_a_skip_is_decided_before_a_test_begins() -> None:
    """By a marker or as a module is imported: a skip in a body leaves what was started running."""
    found = {where for where in _where("pytest.skip", "pytest.importorskip") if where[-2:] != ": "}
    assert not found
