"""Conditions mean what Python means; what is no condition is refused as configuration."""

from __future__ import annotations

import ast
import contextlib
import math
import warnings

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.schema import Column, Schema
from sluice.pipeline.stages.menu_expression import MenuExpression

LABELS = ("electromagnetic", "hadronic", "pileup")
SCHEMA = Schema(
    (
        Column("score", "float32", (3,), labels=LABELS),
        Column("total", "float32"),
        Column("hits", "uint8"),
        Column("offset", "int64"),
        Column("image", "float32", (8, 8)),
    )
)
EVENTS = 17
OPERANDS = {
    **{f"score.{label}": (lambda row, i=i: row["score"][i]) for i, label in enumerate(LABELS)},
    **{f"score[{i}]": (lambda row, i=i: row["score"][i]) for i in range(3)},
    "total": lambda row: row["total"],
    "hits": lambda row: row["hits"],
    "offset": lambda row: row["offset"],
}
# Exact in float32, so that Python's comparison in double precision is the same.
BOUNDS = st.one_of(
    st.integers(-300, 300),
    st.integers(-1200, 1200).map(lambda n: n / 4),
    st.sampled_from([2**24, -(2**40), 0.0, -0.0]),
)


@st.composite
def batches(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    score = rng.integers(-8, 8, (EVENTS, 3)).astype(np.float32) / 4
    total = rng.integers(-1200, 1200, EVENTS).astype(np.float32) / 4
    total[rng.integers(0, EVENTS)] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0]))
    columns = {
        "score": score,
        "total": total,
        "hits": rng.integers(0, 256, EVENTS).astype(np.uint8),
        "offset": rng.integers(-400, 400, EVENTS),
        "image": np.zeros((EVENTS, 8, 8), np.float32),
    }
    return EventBatch(columns, EVENTS)


COMPARISONS = st.builds(
    lambda term, operator, bound: f"{term} {operator} {bound!r}",
    st.sampled_from(sorted(OPERANDS)),
    st.sampled_from([">", ">=", "<", "<=", "==", "!="]),
    BOUNDS,
)
CONDITIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda t: f"({t[0]}) {t[1]} ({t[2]})"
        ),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        inner.map(lambda text: f"not ({text})"),
    ),
    max_leaves=8,
)


def mask_of(condition, batch):
    mask = np.empty(batch.events, np.bool_)
    condition(batch, mask)
    return mask


def oracle(text, batch):
    """Evaluate the text event by event with Python itself, and with Kleene's logic where NaN is."""
    for label, index in ((label, i) for i, label in enumerate(LABELS)):
        text = text.replace(f"score.{label}", f"score[{index}]")
    tree = ast.parse(text, mode="eval").body
    rows = [
        {name: array[i].tolist() for name, array in batch.columns.items()} for i in range(EVENTS)
    ]
    return [truth(tree, row) is True for row in rows]


def truth(node, row):
    """Return whether a condition holds; None if a NaN leaves it open."""
    if isinstance(node, ast.BoolOp):
        decisive = isinstance(node.op, ast.Or)
        values = [truth(value, row) for value in node.values]
        if decisive in values:
            return decisive
        return None if None in values else not decisive
    if isinstance(node, ast.UnaryOp):
        value = truth(node.operand, row)
        return None if value is None else not value
    if math.isnan(eval(ast.unparse(node.left), {}, row)):
        return None
    return bool(eval(ast.unparse(node), {}, row))


@given(CONDITIONS, batches())
def test_conditions_mean_what_python_means(text, batch):
    condition = MenuExpression(text, SCHEMA, "here")
    assert mask_of(condition, batch).tolist() == oracle(text, batch)


@given(CONDITIONS)
def test_columns_are_those_that_are_named(text):
    used = {column.name for column in MenuExpression(text, SCHEMA, "here").columns}
    assert used == {name for name in SCHEMA.names if name in text}


NUMBERS = st.one_of(
    st.floats(allow_nan=False).map(repr), st.integers(-(10**40), 10**40).map(repr),
    st.integers(0, 10**6).map(hex), st.sampled_from(["1e400", "-1e400", "1e300", "0x" + "f" * 300]),
)  # fmt: skip


@given(st.sampled_from(sorted(OPERANDS)), st.sampled_from([">", "<", "=="]), NUMBERS, batches())
def test_any_number_is_compared_or_refused_without_a_warning(term, operator, number, batch):
    try:
        condition = MenuExpression(f"{term} {operator} {number}", SCHEMA, "here")
    except ConfigError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask_of(condition, batch)


@given(st.text(max_size=40) | st.text("score.ahdtl[]()<>=!0123 and or not", max_size=60))
@example("total > {[]: 1}")
@example("not " * 5000 + "total > 1")
@example("(" * 300 + "total > 1" + ")" * 300)
@example("total > " + "-" * 3000 + "1")
@example("total > 1" + " and total > 1" * 3000)
@example("\x00")
@example("total > '\ud800'")
def test_any_text_is_a_condition_or_refused(text):
    blank = {c.name: np.zeros_like(c.empty(3)) for c in SCHEMA}
    with warnings.catch_warnings(), contextlib.suppress(ConfigError):
        warnings.simplefilter("ignore")  # Python's own about strange literals
        mask_of(MenuExpression(text, SCHEMA, "here"), EventBatch(blank, 3))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not an expression"),
        ("total >", "not an expression"),
        ("total", "expected `column > number`"),
        ("total + 1 > 2", "expected a column"),
        ("1 < total < 2", "expected `column > number`"),
        ("total > offset", "expected a number"),
        ("total > True", "expected a number"),
        ("total > 'a'", "expected a number"),
        ("total > 1j", "expected a number"),
        ("totl > 1", "did you mean 'total'?"),
        ("score > 1", "score is float32[3]: name one entry, such as score.electromagnetic"),
        ("score.hadron > 1", "did you mean 'hadronic'?"),
        ("score[3] > 1", "entries 0 to 2"),
        ("score[-1] > 1", "entries 0 to 2"),
        ("score[0.5] > 1", "entries 0 to 2"),
        ("total.x > 1", "total"),
        ("image > 1", "image is float32[8,8]"),
        ("image[0] > 1", "image is float32[8,8]"),
        ("__import__('os').system('true') > 1", "expected a column"),
        ("(lambda: 1)() > 1", "expected a column"),
        ("total in (1, 2)", "expected `column > number`"),
        ("total is 1", "expected `column > number`"),
        ("(total := 1) > 1", "expected a column"),
    ],
)
def test_refusals_say_what_is_wrong(text, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        with pytest.raises(ConfigError) as caught:
            MenuExpression(text, SCHEMA, "path 'x'")
    assert words in str(caught.value)
    assert "path 'x'" in str(caught.value)
