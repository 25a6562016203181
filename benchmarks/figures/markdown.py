"""Markdown tables, and figures with their errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def rows(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    return [_row(head), _row(["---"] * len(head)), *map(_row, lines)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def figure(found: dict[str, Any], key: str, digits: int, of: str = "error") -> str:
    """Return a figure with what follows ±: ``<key>_error`` or another suffix; empty if missing."""
    if key not in found:
        return ""
    after = found.get(f"{key}_{of}")
    return f"{found[key]:.{digits}f}" + ("" if after is None else f" ± {after:.{digits}f}")
