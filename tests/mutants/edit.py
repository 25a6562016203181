"""A fault that is planted in a source file: one range of its bytes, replaced."""

from __future__ import annotations

import ast
import difflib
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, order=True)
class Edit:
    """One replacement in a source file.

    Parameters
    ----------
    line
        Line on which it begins, from 1.
    start, end
        Range of bytes that is replaced.
    new
        What comes there.
    operator
        Name of the kind of fault.
    """

    line: int
    start: int
    end: int
    new: str
    operator: str


class Source:
    """Text of a module and its syntax tree.

    Raises
    ------
    SyntaxError
        If the text is no Python.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)

    @cached_property
    def _encoded(self) -> bytes:
        return self.text.encode()

    @cached_property
    def _lines(self) -> list[str]:
        return [line.strip() for line in self.text.splitlines()]

    @cached_property
    def _line_starts(self) -> list[int]:
        starts = [0]
        for line in self._encoded.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        return starts

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Return the range of bytes of a node."""
        assert isinstance(node, ast.expr | ast.stmt | ast.arg | ast.keyword | ast.excepthandler)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._line_starts[node.lineno - 1] + node.col_offset
        return start, self._line_starts[node.end_lineno - 1] + node.end_col_offset

    def of(self, node: ast.AST) -> str:
        """Return the text of a node."""
        start, end = self.span(node)
        return self.slice(start, end)

    def slice(self, start: int, end: int) -> str:
        """Return the text of a range of bytes."""
        return self._encoded[start:end].decode()

    def line_at(self, offset: int) -> int:
        """Return the number of the line, from 1, on which a byte lies."""
        return self._encoded.count(b"\n", 0, offset) + 1

    def line(self, number: int) -> str:
        """Return a line, from 1, without white space around it."""
        return self._lines[number - 1]

    def place(self, number: int) -> tuple[str, int]:
        """Return a line, from 1, and how many lines above are the same."""
        line = self.line(number)
        return line, self._lines[: number - 1].count(line)

    def apply(self, edit: Edit) -> str:
        """Return the text with the fault."""
        encoded = self._encoded
        return (encoded[: edit.start] + edit.new.encode() + encoded[edit.end :]).decode()

    def changed_line(self, edit: Edit) -> tuple[str, str]:
        """Return the line on which the fault begins, without and with it, stripped."""
        after = self.apply(edit).splitlines()
        return self.line(edit.line), after[edit.line - 1].strip()

    def diff(self, edit: Edit, name: str) -> str:
        """Return the fault as a unified diff with one line of context."""
        lines = difflib.unified_diff(
            self.text.splitlines(), self.apply(edit).splitlines(), name, name, lineterm="", n=1
        )
        return "\n".join(lines)
