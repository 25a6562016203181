"""A network simplex in exact arithmetic, for the problem of `transport_problem`.

Masses and costs are integers, so that nothing needs a tolerance. Masses are multiples of 128, and
every node but one is given 1 on top (Orden's perturbation): no flow of any tree is zero, each pivot
lowers the cost, so the simplex cannot cycle, and rounding to multiples of 128 takes the
perturbation away again. Trees whose flows stay positive under it are the strongly feasible ones.

Sources are nodes 0 to m - 1, sinks m to m + n - 1; at most 64, so that the nodes below each node
are the bits of one word.

References
----------
A. Orden, The transhipment problem, Manage. Sci. 2 (1956) 276; W. H. Cunningham, A network simplex
method, Math. Program. 11 (1976) 105.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import device_function

MAX_CELLS = 64
"""Cells of the largest ground distance."""
FAR = np.int64(1 << 61)
"""More than any cost, for the columns that fill a row of costs up."""

_HUGE = np.int64(1 << 62)

I64 = NDArray[np.int64]
U64 = np.uint64
F64 = NDArray[np.float64]
Nodes = NDArray[np.uint64]


class Workspace(NamedTuple):
    """Working memory of one thread: costs, arrays over cells, arrays over nodes."""

    unit: float  # distance of a cost of 1
    cost: I64  # of each arc, rounded, times 64, plus the sink's number
    cell_cost: I64  # the same between cells, without sink numbers
    first: Nodes  # pairs of cells, in the order of the first tree
    second: Nodes
    mass: I64  # of each cell, perturbed, not yet placed
    side: I64  # of each cell: 1 for p, -1 for q, 0 for neither or used up
    node: Nodes  # of each cell
    cell: Nodes  # of each node
    parent: Nodes
    flow: I64  # between node and parent
    below: Nodes  # nodes of the subtree, itself included
    potential: I64  # times 64


@device_function
def _best_of_row(source: int, sources: int, sinks: int, s: Workspace) -> int:
    """Return the smallest reduced cost of a source's arcs, times 64, plus the sink's number."""
    row, potential = s.cost[source], s.potential[sources:]
    best = _HUGE
    for j in range(-(-sinks // 8) * 8):
        best = min(best, row[j] + potential[j])
    return best - s.potential[source]


@device_function
def _leaving(i: U64, j: U64, s: Workspace) -> tuple[U64, U64, bool]:
    """Return the top of the cycle of arc i -> j, the node above which it opens, and its side."""
    one = np.uint64(1)
    bit_i, bit_j = one << i, one << j
    leave, min_flow, with_i = i, _HUGE, True
    top = i
    # Nodes are source and sink in turn; flow decreases above a source here, above a sink there.
    while not s.below[top] & bit_j:
        if s.flow[top] < min_flow:
            leave, min_flow = top, s.flow[top]
        top = s.parent[top]
        if s.below[top] & bit_j:
            break
        top = s.parent[top]
    node = j
    while not s.below[node] & bit_i:
        if s.flow[node] < min_flow:
            leave, min_flow, with_i = node, s.flow[node], False
        node = s.parent[node]
        if s.below[node] & bit_i:
            break
        node = s.parent[node]
    return top, leave, with_i


@device_function
def _rehang(end: U64, other: U64, leave: U64, top: U64, s: Workspace) -> None:
    """Hang the subtree of `leave` below `other` by its node `end`, flows updated along the way."""
    moved, amount = s.below[leave], s.flow[leave]
    change = -amount
    node = other
    while node != top:
        s.flow[node] += change
        s.below[node] |= moved
        change, node = -change, s.parent[node]
    node, above, kept, change = end, other, np.uint64(0), -amount
    while True:
        up, flow, below = s.parent[node], s.flow[node] + change, s.below[node]
        s.parent[node], s.flow[node], s.below[node] = above, amount, moved & ~kept
        above, amount, kept, change = node, flow, below, -change
        if node == leave:
            break
        node = up
    node = up
    while node != top:
        s.flow[node] += change
        s.below[node] &= ~moved
        change, node = -change, s.parent[node]


@device_function
def _pivot(i: U64, j: U64, reduced: int, s: Workspace) -> None:
    """Let arc i -> j into the tree, given its reduced cost times 64."""
    top, leave, with_i = _leaving(i, j, s)
    moved = s.below[leave]
    if with_i:
        _rehang(i, j, leave, top, s)
    else:
        _rehang(j, i, leave, top, s)
        reduced = -reduced
    for k in range(MAX_CELLS):
        inside = np.int64((moved >> np.uint64(k)) & np.uint64(1))
        s.potential[k] += reduced & -inside


@device_function
def solve(sources: int, sinks: int, s: Workspace) -> None:
    """Pivot on the arc of the most negative reduced cost until there is none."""
    while True:
        best, source = np.int64(0), 0
        for i in range(sources):
            packed = _best_of_row(i, sources, sinks, s)
            if packed < best:
                best, source = packed, i
        if best == 0:
            return
        # A cost is a multiple of 64, so the low bits are the sink's number.
        sink = best & 63
        _pivot(np.uint64(source), np.uint64(sources + sink), best - sink, s)
