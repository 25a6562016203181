"""Which faults are planted: each kind where it fits, and none in what does not run."""

from __future__ import annotations

from textwrap import dedent

import pytest

from .edit import Source
from .operators import OPERATORS, edits


def _mutated(text: str, *operators: str) -> list[str]:
    """Return all texts that these kinds of faults make of a text; all kinds if none is named."""
    source = Source(text)
    return [
        source.apply(edit) for edit in edits(source) if edit.operator in (operators or OPERATORS)
    ]


@pytest.mark.parametrize(
    ("operator", "text", "mutated"),
    [
        ("comparison", "a < b", ["a <= b", "a >= b"]),
        ("comparison", "a <= b", ["a < b", "a > b"]),
        ("comparison", "a is not None", ["a is None"]),
        ("comparison", "a not in b", ["a in b"]),
        ("comparison", "a < b <= c", ["a <= b <= c", "a >= b <= c", "a < b < c", "a < b > c"]),
        ("comparison", "(a) == (b)", ["(a) != (b)"]),
        ("arithmetic", "a + b", ["a - b"]),
        ("arithmetic", "a // b", ["a * b"]),
        ("arithmetic", "a += 1", ["a -= 1", "a = 1"]),
        ("arithmetic", "a << 2 | b", ["a >> 2 | b", "a << 2 & b"]),
        ("boolean", "a and b", ["a or b"]),
        ("boolean", "not a", ["a"]),
        ("boolean", "-a", ["a"]),
        ("boolean", "b if a else c", ["b if (not a) else c"]),
        ("constant", "a = 1", ["a = 0", "a = 2"]),
        ("constant", "a = 0", ["a = (-1)", "a = 1"]),
        ("constant", "a = 4096", ["a = 8192"]),
        ("constant", "a = True", ["a = False"]),
        ("constant", "a = 0.5", ["a = 1.0", "a = 1.5"]),
        ("loop", "for a in b: break", ["for a in (): break", "for a in b: continue"]),
        ("loop", "for a in range(b): c", ["for a in range(0): c"]),
        ("loop", "while a: continue", ["while False: continue", "while a: break"]),
        ("handler", "try: a\nexcept b: c", ["try: a\nexcept (): c"]),
        (
            "handler",
            "try: a\nexcept (b, c): d",
            ["try: a\nexcept (): d", "try: a\nexcept b: d", "try: a\nexcept c: d"],
        ),
        ("argument dropped", "a(b, c=d)", ["a(b)"]),
        ("argument dropped", "a(b=c, d=e)", ["a(d=e)", "a(b=c)"]),
        ("argument dropped", "max(a, b)", ["max(b)", "max(a)"]),
        ("argument dropped", "a(b, c)", []),
        ("arguments swapped", "a(b, c, 1)", ["a(c, b, 1)"]),
        ("arguments swapped", "a(b.c, b.d)", ["a(b.d, b.c)"]),
        ("arguments swapped", "isinstance(a, b)", []),
        ("opposite", "max(a, b)", ["min(a, b)"]),
        ("opposite", "a.any()", ["a.all()"]),
        ("opposite", "a[0]", ["a[-1]"]),
        ("opposite", "a[-1]", ["a[0]"]),
        ("opposite", "a.popleft()", ["a.pop()"]),
        ("opposite", "a(side='left')", ["a(side='right')"]),
        ("slice", "a[b:c]", ["a[b + 1:c]", "a[b:c - 1]"]),
        ("slice", "a[1:]", []),
        ("statement deleted", "a(b)\nc = d", ["pass\nc = d"]),
        ("statement deleted", "a.b = c\nd = e", ["pass\nd = e"]),
        ("statement deleted", "a[b] = c", ["pass"]),
        ("statement deleted", "a += 1", ["pass"]),
        ("statement deleted", "del a[b]", ["pass"]),
        ("statement deleted", "async def a():\n    await b()", ["async def a():\n    pass"]),
    ],
)
def test_a_fault_fits(operator: str, text: str, mutated: list[str]) -> None:
    assert sorted(_mutated(text, operator)) == sorted(mutated)


def test_every_kind_of_fault_is_shown_above() -> None:
    (mark,) = (mark for mark in test_a_fault_fits.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]
    assert {case[0] for case in mark.args[1]} == set(OPERATORS)


def test_guards_are_deleted_and_last_returns_are_not() -> None:
    text = dedent("""
        def a(b):
            if b:
                return c
            if d:
                raise E("text")
            return e
    """)
    assert _mutated(text, "statement deleted") == [
        text.replace("return c", "pass"),
        text.replace('raise E("text")', "pass"),
    ]


def test_the_text_of_an_error_is_left_alone() -> None:
    text = "raise ValueError(f'{a + 1} is more than {max(b, 2)}') from c(1)"
    assert _mutated(text) == ["pass"]


def test_an_attribute_that_a_constructor_sets_stays() -> None:
    text = "def __init__(self):\n    self.a = b\n    self.c()\n"
    assert _mutated(text, "statement deleted") == [text.replace("self.c()", "pass")]


@pytest.mark.parametrize(
    "text",
    [
        "'''Text with 1 and 2.'''",
        "a: int | None",
        "def a(b: list[int] = c) -> int | None: return b",
        "A = int | None",
        "A = Batch | Message",
        "_LOG.warning('late by %d', a - 1)",
        "self._log.info('%d', a + 1)",
        "warnings.warn('text', stacklevel=2)",
        "if TYPE_CHECKING:\n    a = 1",
        "def __repr__(self): return f(1)",
        "class A(Protocol):\n    b = 1",
        "@d(e=1)\ndef a(): return b",
        "__slots__ = (1,)",
        "_TIMEOUT_S, _RETRY_S = 5.0, 0.1",
        "assert a == 1",
        "a = f'{b + 1}'",
        "a = zip(b, strict=True)",
        "a = cast(B, c)",
    ],
)
def test_what_does_not_run_is_left_alone(text: str) -> None:
    assert _mutated(text) == []


def test_positions_count_bytes() -> None:
    """The syntax tree counts bytes, so letters of several bytes stand before the place."""
    source = Source("größe = 'µs' if a else 'ß'  # …\nb = größe + 1\n")
    changed = [source.changed_line(edit) for edit in edits(source) if edit.line == 2]
    assert changed == [("b = größe + 1", "b = größe - 1"), ("b = größe + 1", "b = größe + 0"),
                       ("b = größe + 1", "b = größe + 2")]  # fmt: skip


def test_a_diff_shows_the_fault() -> None:
    source = Source("a = b\nc = d + e\nf = g\nh = i\n")
    (edit,) = edits(source)
    assert source.diff(edit, "m.py").splitlines()[2:] == [
        "@@ -1,3 +1,3 @@", " a = b", "-c = d + e", "+c = d - e", " f = g",
    ]  # fmt: skip
