"""Conditions of trigger paths: comparisons of columns with numbers, joined by and, or, not."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError, did_you_mean
from sluice.pipeline.core.schema import Array, Column, Schema

#: Function of a batch and a mask, bool (N,), that sets the mask where events fulfil a condition.
FillMask = Callable[[EventBatch, Array], object]
Evaluate = Callable[[EventBatch], Array]

_COMPARE: dict[type[ast.cmpop], np.ufunc] = {
    ast.Gt: np.greater, ast.GtE: np.greater_equal, ast.Lt: np.less,
    ast.LtE: np.less_equal, ast.Eq: np.equal, ast.NotEq: np.not_equal,
}  # fmt: skip
_INVERSE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Lt: ast.GtE,
    ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}  # fmt: skip
_JOIN: dict[type[ast.boolop], np.ufunc] = {
    ast.And: np.logical_and, ast.Or: np.logical_or,
}  # fmt: skip


class MenuExpression:
    """A condition bound to the columns of a schema; call it with a batch and a mask to fill.

    Parameters
    ----------
    text
        The condition, such as ``score.electromagnetic > 0.9 and charge_sum >= 350``. A label or an
        index in brackets selects an entry of a column's last axis. NaN fulfils no comparison, nor
        its opposite behind `not`.
    available
        Columns that the condition may use.
    where
        Names of stage and path, for error messages.

    Attributes
    ----------
    columns
        Columns that the condition reads, in the order of its text.

    Raises
    ------
    ConfigError
        If the text is not a condition, or names a column or label that is not there.

    Examples
    --------
    >>> schema = Schema((Column("score", "float32", (2,), labels=("signal", "background")),))
    >>> hot = MenuExpression("score.signal > 0.5", schema, "here")
    >>> mask = np.empty(2, bool)
    >>> hot(EventBatch({"score": np.array([[0.9, 0.1], [0.2, 0.8]], "f4")}, 2), mask)
    >>> mask.tolist()
    [True, False]
    """

    def __init__(self, text: str, available: Schema, where: str) -> None:
        self._where = f"{where}: {text!r}"
        self._available = available
        self.columns: list[Column] = []
        try:
            tree = ast.parse(text, mode="eval")
            self._fill = self._logic(tree.body, negated=False)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise self._refuse(f"not an expression: {error}") from error

    def __call__(self, batch: EventBatch, mask: Array) -> None:
        """Fill `mask`, bool (N,), with whether each event fulfils the condition."""
        self._fill(batch, mask)

    def _logic(self, node: ast.expr, *, negated: bool) -> FillMask:
        """Return what fills a mask; `not` is moved to the comparisons, which NaN never fulfils."""
        if isinstance(node, ast.BoolOp):
            join = _JOIN[type(node.op)]
            if negated:
                join = _JOIN[ast.Or if isinstance(node.op, ast.And) else ast.And]
            first, *rest = [self._logic(value, negated=negated) for value in node.values]

            def joined(batch: EventBatch, mask: Array) -> None:
                first(batch, mask)
                term = np.empty_like(mask)
                for other in rest:
                    other(batch, term)
                    join(mask, term, out=mask)

            return joined
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self._logic(node.operand, negated=not negated)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
            kind = _INVERSE[type(node.ops[0])] if negated else type(node.ops[0])
            compare, value = _COMPARE[kind], self._value(node.left)
            column = self.columns[-1]
            bound = self._bound(column, self._number(node.comparators[0]))
            if kind is ast.NotEq and np.dtype(column.dtype).kind == "f":
                return lambda batch, mask: _differs(value(batch), bound, mask)
            return lambda batch, mask: compare(value(batch), bound, out=mask)
        raise self._refuse(f"expected `column > number`, got {ast.unparse(node)!r}")

    def _value(self, node: ast.expr) -> Evaluate:
        if isinstance(node, ast.Name):
            name = self._column(node, ()).name
            return lambda batch: batch[name]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            column = self._column(node.value, (1,))
            if node.attr not in column.labels:
                raise self._refuse(
                    f"{column.name} has no label {node.attr!r}",
                    did_you_mean(node.attr, column.labels),
                )
            return self._entry(column, column.labels.index(node.attr))
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            column = self._column(node.value, (1,))
            index = self._number(node.slice)
            if not 0 <= index < column.item_shape[0] or index != int(index):
                raise self._refuse(f"{column.name} has entries 0 to {column.item_shape[0] - 1}")
            return self._entry(column, int(index))
        raise self._refuse(f"expected a column, got {ast.unparse(node)!r}")

    def _entry(self, column: Column, index: int) -> Evaluate:
        return lambda batch: batch[column.name][:, index]

    def _column(self, node: ast.Name, ranks: tuple[int, ...]) -> Column:
        if node.id not in self._available:
            raise self._refuse(
                f"no column {node.id!r} here", did_you_mean(node.id, self._available.names)
            )
        column = self._available[node.id]
        if column.ragged:
            raise self._refuse(f"{column.name} is {column.spec}: expected one value an event")
        if len(column.shape) not in (ranks or (0,)):
            raise self._refuse(
                f"{column.name} is {column.spec}: name one entry"
                + (f", such as {column.name}.{column.labels[0]}" if column.labels else "")
            )
        self.columns.append(column)
        return column

    def _number(self, node: ast.expr) -> float:
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError):
            value = None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refuse(f"expected a number, got {ast.unparse(node)!r}")
        return value

    def _bound(self, column: Column, number: float) -> Any:
        """Return the number in the column's dtype, so that NumPy compares without a conversion."""
        if np.dtype(column.dtype).kind != "f":
            return number
        try:
            with np.errstate(over="ignore"):
                return np.dtype(column.dtype).type(float(number))
        except OverflowError as error:
            raise self._refuse(f"{number} is beyond any float") from error

    def _refuse(self, problem: str, hint: str | None = None) -> ConfigError:
        return ConfigError(f"{self._where}: {problem}", hint)


def _differs(values: Array, bound: Any, mask: Array) -> None:
    """Fill `mask` with whether each value is a number other than `bound`; NaN is none."""
    np.not_equal(values, bound, out=mask)
    np.logical_and(mask, values == values, out=mask)
