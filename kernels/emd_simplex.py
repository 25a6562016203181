"""The transportation problem behind the Earth mover's distance, solved in exact arithmetic.

Masses and costs are rounded once to integers, finer than the rounding of float64 itself, so that
the simplex needs no tolerance. All supplies are then multiples of 128, and every node but one gets
a supply of 1 on top (Orden's perturbation): no flow of any tree is zero, each pivot lowers the
cost, so the simplex cannot cycle, and rounding to multiples of 128 takes the perturbation away
again. Trees whose flows stay positive under it are the strongly feasible ones.

Sources are nodes 0 to m - 1, sinks m to m + n - 1; at most 64, so that the nodes below each node
are the bits of one word.

References
----------
W. H. Cunningham, A network simplex method, Math. Program. 11 (1976) 105; A. Orden, The transhipment
problem, Manage. Sci. 2 (1956) 276; V. Srinivasan and G. L. Thompson, Benefit-cost analysis of
coding techniques for the primal transportation algorithm, J. ACM 20 (1973) 194 (pricing by rows).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.jit import inlined, kernel, reads, writes

MOST_CELLS = 64
"""Cells of the largest ground distance."""

_EQUAL_TOTALS = 1e-9
_HUGE, _FAR = np.int64(1 << 62), np.int64(1 << 61)

I64 = NDArray[np.int64]
U64 = np.uint64
F64 = NDArray[np.float64]
Nodes = NDArray[np.uint64]


class _Scratch(NamedTuple):
    """Work space of one thread: costs, then per cell, then per node."""

    cost: I64  # of each arc, rounded, times 64, plus the sink's number
    cell_cost: I64  # the same between cells, without sink numbers
    first: Nodes  # the nearer and nearer pairs of cells, farthest last
    second: Nodes
    mass: I64  # of each cell, perturbed, not yet placed
    node: Nodes  # of each cell
    cell: Nodes  # of each node
    parent: Nodes
    flow: I64  # between node and parent
    below: Nodes  # nodes of the subtree, itself included
    potential: I64  # times 64


@inlined
def _scratch(distance: F64) -> _Scratch:
    cells = distance.shape[0]
    pairs = cells * (cells - 1) // 2
    length = np.empty(pairs, np.float64)
    first, second = np.empty(pairs, np.uint64), np.empty(pairs, np.uint64)
    farthest = np.empty(cells, np.float64)
    for a in range(cells):
        farthest[a] = np.max(distance[a])
    at = 0
    for a in range(cells):
        for b in range(a):
            # Russell's order: far-off cells are served before they have only far partners left.
            length[at] = distance[a, b] - farthest[a] - farthest[b]
            first[at], second[at] = a, b
            at += 1
    order = np.argsort(length)
    # 2**48 leaves room for a path of 63 arcs and the six bits of a sink's number.
    _, exponent = math.frexp(np.max(distance))
    scale = math.ldexp(1.0, 48 - exponent)
    cell_cost = np.empty((cells, cells), np.int64)
    for a in range(cells):
        for b in range(cells):
            cell_cost[a, b] = np.int64(np.rint(distance[a, b] * scale)) << 6
    return _Scratch(
        np.empty((64, 64 + 8), np.int64),
        cell_cost,
        first[order],
        second[order],
        np.empty(64, np.int64),
        np.empty(64, np.uint64),
        np.empty(64, np.uint64),
        np.empty(64, np.uint64),
        np.empty(64, np.int64),
        np.empty(64, np.uint64),
        np.zeros(64 + 8, np.int64),
    )


@inlined
def _moved(p: F64, q: F64, row: int) -> tuple[float, float]:
    """Return the mass to be moved as seen from p and from q, NaN where there is no distance."""
    total_p = total_q = more = less = 0.0
    negative = False
    for k in range(p.shape[1]):
        total_p += p[row, k]
        total_q += q[row, k]
        negative |= p[row, k] < 0.0 or q[row, k] < 0.0
        d = p[row, k] - q[row, k]
        more += max(d, 0.0)
        less += max(-d, 0.0)
    # Written so that NaN and infinity fail.
    equal = abs(total_p - total_q) <= _EQUAL_TOTALS * min(total_p, total_q)
    if negative or not equal or not total_p > 0.0:
        return np.nan, np.nan
    return more, less


@inlined
def _round(
    p: F64, q: F64, row: int, more: float, less: float, s: _Scratch
) -> tuple[float, int, int]:
    """Set the masses; return their scale and the numbers of sources and of sinks."""
    _, exponent = math.frexp(more)
    # Masses below 2**-900 would need a scale beyond float64.
    scale = math.ldexp(1.0, min(53 - exponent, 950))
    sources = sinks = 0
    balance = np.int64(0)
    largest = 0
    for k in range(p.shape[1]):
        d = p[row, k] - q[row, k]
        # The totals differ by rounding; sharing that out makes them meet.
        d = d if d > 0.0 else d * (more / less)
        mass = np.int64(np.rint(d * scale))
        s.mass[k] = mass
        balance += mass
        sources += mass > 0
        sinks += mass < 0
        if abs(mass) > abs(s.mass[largest]):
            largest = k
    s.mass[largest] -= balance
    return scale, sources, sinks


@inlined
def _number(cells: int, sources: int, sinks: int, s: _Scratch) -> None:
    """Number the nodes, perturb their masses and gather their costs."""
    source, sink = 0, sources
    for k in range(cells):
        mass = s.mass[k]
        if mass != 0:
            node = source if mass > 0 else sink
            source += mass > 0
            sink += mass < 0
            s.node[k], s.cell[node] = np.uint64(node), np.uint64(k)
            s.mass[k] = (mass << 7) + 1
            s.below[node] = np.uint64(1) << np.uint64(node)
    s.mass[s.cell[sources]] -= sources + sinks
    for i in range(sources):
        for j in range(sinks):
            s.cost[i, j] = s.cell_cost[s.cell[i], s.cell[sources + j]] + j
        for j in range(sinks, sinks + 8):
            s.cost[i, j] = _FAR


@inlined
def _start(sources: int, sinks: int, s: _Scratch) -> None:
    """Build a tree by sending as much as possible along the shortest arcs first."""
    left = sources + sinks - 1
    order = np.empty(64, np.uint64)
    root = np.uint64(0)
    for at in range(s.first.size):
        a, b = s.first[at], s.second[at]
        mass_a, mass_b = s.mass[a], s.mass[b]
        if (mass_a ^ mass_b) >= 0 or mass_a == 0 or mass_b == 0:
            continue
        # The one that is used up hangs below the other, which will hang below its last partner.
        if abs(mass_a) > abs(mass_b):
            a, b, mass_a, mass_b = b, a, mass_b, mass_a
        s.mass[a], s.mass[b] = 0, mass_a + mass_b
        child, root = s.node[a], s.node[b]
        s.parent[child], s.flow[child] = root, abs(mass_a)
        s.below[root] |= s.below[child]
        left -= 1
        order[left] = child
        if left == 0:
            break
    s.parent[root], s.flow[root], s.potential[root] = root, 0, 0
    for at in range(sources + sinks - 1):
        child = np.int64(order[at])
        root = s.parent[order[at]]
        above = np.int64(root)
        if child < sources:
            s.potential[child] = s.potential[root] + _arc(child, above - sources, s)
        else:
            s.potential[child] = s.potential[root] - _arc(above, child - sources, s)


@inlined
def _arc(source: int, sink: int, s: _Scratch) -> int:
    return s.cost[source, sink] - sink


@inlined
def _best_of_row(source: int, sources: int, sinks: int, s: _Scratch) -> int:
    """Return the least reduced cost of a source's arcs, times 64, plus the sink's number."""
    row, potential = s.cost[source], s.potential[sources:]
    best = _HUGE
    for j in range(-(-sinks // 8) * 8):
        best = min(best, row[j] + potential[j])
    return best - s.potential[source]


@inlined
def _leaving(i: U64, j: U64, s: _Scratch) -> tuple[U64, U64, bool]:
    """Return the top of the cycle of arc i -> j, the node above which it opens, and its side."""
    one = np.uint64(1)
    bit_i, bit_j = one << i, one << j
    leave, least, with_i = i, _HUGE, True
    top = i
    # Nodes are source and sink in turn; flow decreases above a source here, above a sink there.
    while not s.below[top] & bit_j:
        if s.flow[top] < least:
            leave, least = top, s.flow[top]
        top = s.parent[top]
        if s.below[top] & bit_j:
            break
        top = s.parent[top]
    node = j
    while not s.below[node] & bit_i:
        if s.flow[node] < least:
            leave, least, with_i = node, s.flow[node], False
        node = s.parent[node]
        if s.below[node] & bit_i:
            break
        node = s.parent[node]
    return top, leave, with_i


@inlined
def _rehang(end: U64, other: U64, leave: U64, top: U64, s: _Scratch) -> None:
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


@inlined
def _pivot(i: U64, j: U64, reduced: int, s: _Scratch) -> None:
    """Let arc i -> j into the tree, given its reduced cost times 64."""
    top, leave, with_i = _leaving(i, j, s)
    moved = s.below[leave]
    if with_i:
        _rehang(i, j, leave, top, s)
    else:
        _rehang(j, i, leave, top, s)
        reduced = -reduced
    for k in range(MOST_CELLS):
        inside = np.int64((moved >> np.uint64(k)) & np.uint64(1))
        s.potential[k] += reduced & -inside


@inlined
def _optimise(sources: int, sinks: int, s: _Scratch) -> int:
    """Pivot until no arc has a negative reduced cost, each time on the best arc of a source."""
    pivots = clean = source = 0
    while clean < sources:
        best = _best_of_row(source, sources, sinks, s)
        if best < 0:
            # The cost is a multiple of 64, so the low bits are the sink's number.
            sink = best & 63
            _pivot(np.uint64(source), np.uint64(sources + sink), best - sink, s)
            pivots += 1
            clean = 0
        else:
            clean += 1
        source = source + 1 if source + 1 < sources else 0
    return pivots


@inlined
def _cost(distance: F64, scale: float, sources: int, nodes: int, s: _Scratch) -> float:
    total = 0.0
    for k in range(nodes):
        flow = (s.flow[k] + 64) >> 7
        near, far = s.cell[k], s.cell[s.parent[k]]
        total += flow * (distance[near, far] if k < sources else distance[far, near])
    return total / scale


@inlined
def _one(p: F64, q: F64, row: int, distance: F64, s: _Scratch) -> tuple[float, int, int]:
    """Return one distance and the numbers of sources and sinks."""
    more, less = _moved(p, q, row)
    if not (more > 0.0 and less > 0.0):
        return more * less, 0, 0
    scale, sources, sinks = _round(p, q, row, more, less, s)
    _number(p.shape[1], sources, sinks, s)
    _start(sources, sinks, s)
    _optimise(sources, sinks, s)
    return _cost(distance, scale, sources, sources + sinks, s), sources, sinks


@inlined
def _check(p: F64, q: F64, distance: F64, out: F64) -> None:
    if p.shape != q.shape or out.shape[0] != p.shape[0]:
        raise ValueError("emd: expected p (N, K), q (N, K) and out (N,)")
    if distance.shape != (p.shape[1], p.shape[1]) or not 1 <= p.shape[1] <= MOST_CELLS:
        raise ValueError("emd: expected a distance (K, K) of 1 to 64 cells")


@kernel((reads("f8", 2), reads("f8", 2), reads("f8", 2), writes("f8", 1)))
def emd(p: F64, q: F64, distance: F64, out: F64) -> None:
    """Find the exact Earth mover's distances of N pairs of distributions over K cells.

    Only the difference p - q is moved: in a metric, mass that two distributions share may stay.

    Parameters
    ----------
    p, q : float64 array, shape (N, K)
        Masses, in any unit; the totals of a pair are equal, up to a part in 10**9.
    distance : float64 array, shape (K, K)
        Ground distance, at most 64 cells; a metric (`emd.is_metric`), or the result is another.
    out : float64 array, shape (N,)
        Output: mass times distance, accurate to about 2**-45 of the mass times the largest
        distance. NaN where a mass is negative or not finite, where there is none, or where the
        totals differ.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    _check(p, q, distance, out)
    s = _scratch(distance)
    for row in range(out.size):
        out[row], _, _ = _one(p, q, row, distance, s)


@kernel((reads("f8", 2), reads("f8", 2), reads("f8", 2), writes("f8", 1), writes("f8", 2)))
def emd_dual(p: F64, q: F64, distance: F64, out: F64, dual: F64) -> None:
    """Find what `emd` finds, and a function for each pair that certifies it.

    Parameters
    ----------
    p, q, distance, out
        As for `emd`.
    dual : float64 array, shape (N, K)
        Output, in units of distance: f with abs(f[a] - f[b]) <= distance[a, b] for all cells and
        sum(f * (p - q)) = out (Kantorovich and Rubinstein). Also the gradient of the distance with
        respect to p - q, where there is one. Zero where nothing is moved, NaN where `out` is.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    _check(p, q, distance, out)
    if dual.shape != p.shape:
        raise ValueError("emd_dual: expected dual (N, K)")
    s = _scratch(distance)
    _, exponent = math.frexp(np.max(distance))
    unit = math.ldexp(1.0, exponent - 54)
    for row in range(out.size):
        out[row], sources, sinks = _one(p, q, row, distance, s)
        if sources == 0:
            dual[row] = 0.0 * out[row]
            continue
        for k in range(p.shape[1]):
            # The upper envelope of the sinks' cones is 1-Lipschitz for the unrounded distance.
            least = np.inf
            for j in range(sources, sources + sinks):
                least = min(least, s.potential[j] * unit + distance[k, s.cell[j]])
            dual[row, k] = least
