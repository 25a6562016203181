"""Send mass along shortest paths: the transportation problem of one pair, solved by a warp.

The side with more cells, sources or sinks, is the rows; the other one, at most 32 cells, the
columns, a lane each. Row after row is emptied: Dijkstra's method finds the nearest column that has
capacity, through columns that have none and rows that feed those, on costs reduced by prices. Every
step moves a whole number, so that it ends.

References
----------
J. Edmonds and R. M. Karp, Theoretical improvements in algorithmic efficiency for network flow
problems, J. ACM 19 (1972) 248; R. Jonker and A. Volgenant, A shortest augmenting path algorithm
for dense and sparse linear assignment problems, Computing 38 (1987) 325.
"""

from typing import Any, NamedTuple

import numpy as np

from sluice.kernels.cuda import launch
from sluice.kernels.cuda.intrinsics import lowest_bit, min_of_warp, sync_warp
from sluice.kernels.cuda.launch import WARP

_FAR = np.inf
_ONE = np.uint64(1)


class Network(NamedTuple):
    """A pair in shared memory: of rows, then of columns. Masses are whole numbers."""

    flow: Any  # float64 (rows * columns,)
    left: Any  # mass that each row has left
    cell: Any
    price: Any
    way: Any  # length of the path to the row, in the current search
    via: Any  # the column through which it was reached
    capacity: Any  # that each column has left
    column_cell: Any
    reached_from: Any  # the row from which the column was reached
    fed_by: Any  # rows with a flow into the column, a bit each


@launch.building_block
def _reduced(row: Any, column: Any, price: Any, step: Any, distance: Any, s: Network) -> Any:
    """Return the reduced cost of an arc; infinite where it is NaN."""
    cost = distance[s.cell[row] * step + column] - s.price[row] - price
    return cost if cost < _FAR else _FAR


@launch.building_block
def _search(
    row: Any, columns: Any, lane: Any, price: Any, at: Any, step: Any, distance: Any, s: Network
) -> Any:
    """Find the nearest column that has capacity left, by Dijkstra's method from `row`.

    Returns the column (-1 if there is none), the length of the path to it, the length of the path
    to this lane's column, whether that column was visited, and the visited rows, a bit each.
    """
    way, passed, rows = _FAR, lane >= columns, _ONE << np.uint64(row)
    if not passed:
        way = _reduced(row, at, price, step, distance, s)
        s.reached_from[lane] = row
    if lane == 0:
        s.way[row] = 0.0
    while True:
        best, column = min_of_warp(_FAR if passed else way)
        if not best < _FAR:
            return -1, best, way, passed, rows
        if s.capacity[column] > 0:
            return column, best, way, passed, rows
        passed |= lane == column
        found = s.fed_by[column] & ~rows
        rows |= found
        while found != 0:
            i = lowest_bit(found)
            found &= found - _ONE
            if lane == 0:
                s.way[i], s.via[i] = best, column
            if not passed:
                longer = best + _reduced(i, at, price, step, distance, s)
                if longer < way:
                    way = longer
                    s.reached_from[lane] = i


@launch.building_block
def _amount(row: Any, columns: Any, end: Any, s: Network) -> Any:
    """Return the mass that the path to a column can carry."""
    amount = min(s.left[row], s.capacity[end])
    column, i = end, s.reached_from[end]
    while i != row:
        column = s.via[i]
        amount = min(amount, s.flow[i * columns + column])
        i = s.reached_from[column]
    return amount


@launch.building_block
def _augment(row: Any, columns: Any, end: Any, amount: Any, s: Network) -> None:
    """Send an amount along the path to a column."""
    s.left[row] -= amount
    s.capacity[end] -= amount
    column, i = end, np.int64(-1)
    while i != row:
        i = np.int64(s.reached_from[column])
        bit = _ONE << np.uint64(i)
        s.flow[i * columns + column] += amount
        s.fed_by[column] |= bit
        if i != row:
            column = s.via[i]
            s.flow[i * columns + column] -= amount
            if s.flow[i * columns + column] == 0:
                s.fed_by[column] &= ~bit


@launch.building_block
def send(
    rows: Any, columns: Any, lane: Any, along: Any, across: Any, distance: Any, s: Network
) -> Any:
    """Empty all rows; return whether that was possible.

    The arc of a row and a column is `along` times the row's cell, `across` times the column's.
    """
    price = 0.0
    at = s.column_cell[lane] * across if lane < columns else 0
    for row in range(rows):
        while s.left[row] > 0:
            end, best, way, passed, seen = _search(
                row, columns, lane, price, at, along, distance, s
            )
            if end < 0:
                return False
            sync_warp()
            for i in range(lane, rows, WARP):
                if (seen >> np.uint64(i)) & _ONE:
                    s.price[i] += best - s.way[i]
            if passed and lane < columns:
                price -= best - way
            amount = _amount(row, columns, end, s)
            sync_warp()
            if lane == 0:
                _augment(row, columns, end, amount, s)
            sync_warp()
    return True
