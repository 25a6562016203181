"""Exact Earth mover's distances: from distributions to a transportation problem and back.

Masses and costs are rounded once to integers, as finely as float64 has them, for the simplex in
`network_simplex`.

References
----------
L. V. Kantorovich and G. S. Rubinstein, Vestnik Leningrad Univ. 13 (1958) 52 (the distance is a
norm of p - q); E. J. Russell, Extension of Dantzig's algorithm to finding an initial near-optimal
basis for the transportation problem, Oper. Res. 17 (1969) 187.
"""

import math

import numpy as np

from sluice.kernels.compiler.jit import device_function, input_array, kernel, output_array

from .network_simplex import F64, FAR, MAX_CELLS, Nodes, Workspace, solve

_EQUAL_TOTALS = 1e-9
# Beyond these, scaling to integers would leave the range of float64.
_NO_MASS = 1e-240
_NO_DISTANCE = 1e-250


@device_function
def _scratch(distance: F64) -> Workspace:
    cells = distance.shape[0]
    # 2**48 leaves room for a path of 63 arcs and the six bits of a sink's number.
    _, exponent = math.frexp(np.max(distance))
    scale = math.ldexp(1.0, 48 - exponent)
    cell_cost = np.empty((cells, cells), np.int64)
    for a in range(cells):
        for b in range(cells):
            cell_cost[a, b] = np.int64(np.rint(distance[a, b] * scale)) << 6
    first, second = _order(distance)
    cost = np.empty((64, 64 + 8), np.int64)
    return Workspace(
        *(1.0 / (64.0 * scale), cost, cell_cost, first, second),
        *(np.empty(64, np.int64), np.empty(64, np.int64)),
        *(np.empty(64, np.uint64), np.empty(64, np.uint64), np.empty(64, np.uint64)),
        *(np.empty(64, np.int64), np.empty(64, np.uint64), np.zeros(64 + 8, np.int64)),
    )


@device_function
def _order(distance: F64) -> tuple[Nodes, Nodes]:
    """Return all pairs of cells in Russell's order.

    Far-off cells are served before they have only far partners left.
    """
    cells = distance.shape[0]
    pairs = cells * (cells - 1) // 2
    length = np.empty(pairs, np.float64)
    first, second = np.empty(pairs, np.uint64), np.empty(pairs, np.uint64)
    farthest = np.empty(cells, np.float64)
    at = 0
    for a in range(cells):
        farthest[a] = distance[a].max()
        for b in range(a):
            length[at] = distance[a, b] - farthest[a] - farthest[b]
            first[at], second[at] = a, b
            at += 1
    order = np.argsort(length)
    return first[order], second[order]


@device_function
def _moved(p: F64, q: F64, row: int) -> tuple[float, float]:
    """Return the mass to be moved, from p and from q; NaN where the distance is undefined."""
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
    if negative or not equal or not total_p > _NO_MASS:
        return np.nan, np.nan
    return more, less


@device_function
def _round(
    p: F64, q: F64, row: int, more: float, less: float, s: Workspace
) -> tuple[float, int, int]:
    """Set the masses; return their scale and the numbers of sources and of sinks."""
    _, exponent = math.frexp(more)
    scale = math.ldexp(1.0, 53 - exponent)
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


@device_function
def _number(cells: int, sources: int, sinks: int, s: Workspace) -> None:
    """Number the nodes, perturb their masses and gather their costs."""
    source, sink = 0, sources
    for k in range(cells):
        mass = s.mass[k]
        s.side[k] = np.sign(mass)
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
            s.cost[i, j] = FAR


@device_function
def _start(sources: int, sinks: int, s: Workspace) -> None:
    """Build a tree by sending as much as possible over one pair of cells after another."""
    left = sources + sinks - 1
    order = np.empty(64, np.uint64)
    root = np.uint64(0)
    for at in range(s.first.size):
        a, b = s.first[at], s.second[at]
        # One product instead of three comparisons, for a branch that is easily predicted.
        if s.side[a] * s.side[b] >= 0:
            continue
        # The one that is used up hangs below the other, which will hang below its last partner.
        if abs(s.mass[a]) > abs(s.mass[b]):
            a, b = b, a
        child, root = s.node[a], s.node[b]
        s.parent[child], s.flow[child] = root, abs(s.mass[a])
        s.below[root] |= s.below[child]
        s.mass[b] += s.mass[a]
        s.side[a] = 0
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


@device_function
def _arc(source: int, sink: int, s: Workspace) -> int:
    return s.cost[source, sink] - sink


@device_function
def _cost(distance: F64, scale: float, sources: int, nodes: int, s: Workspace) -> float:
    total = 0.0
    for k in range(nodes):
        flow = ((s.flow[k] + 64) >> 7) / scale
        near, far = s.cell[k], s.cell[s.parent[k]]
        total += flow * (distance[near, far] if k < sources else distance[far, near])
    return total


@device_function
def _one(p: F64, q: F64, row: int, distance: F64, s: Workspace) -> tuple[float, int, int]:
    """Return one distance and the numbers of sources and sinks."""
    more, less = _moved(p, q, row)
    if not (more > 0.0 and less > 0.0):
        return more * less, 0, 0
    scale, sources, sinks = _round(p, q, row, more, less, s)
    # Where the totals differ by rounding, neither of the two is preferred.
    scale /= 0.5 + 0.5 * (less / more)
    _number(p.shape[1], sources, sinks, s)
    _start(sources, sinks, s)
    solve(sources, sinks, s)
    return _cost(distance, scale, sources, sources + sinks, s), sources, sinks


@device_function
def _check(p: F64, q: F64, distance: F64, out: F64) -> None:
    if p.shape != q.shape or out.shape[0] != p.shape[0]:
        raise ValueError("emd: expected p (N, K), q (N, K) and out (N,)")
    if distance.shape != (p.shape[1], p.shape[1]) or not 1 <= p.shape[1] <= MAX_CELLS:
        raise ValueError("emd: expected a distance (K, K) of 1 to 64 cells")
    largest = distance.max()
    if not (distance.min() >= 0.0 and largest < np.inf) or 0.0 < largest < _NO_DISTANCE:
        raise ValueError("emd: expected distances that are finite and not negative")


@kernel((input_array("f8", 2), input_array("f8", 2), input_array("f8", 2), output_array("f8", 1)))
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
        distance. NaN where a mass is negative or not finite, where there is none (less than
        1e-240), or where the totals differ.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a distance is negative or not finite.
    """
    _check(p, q, distance, out)
    s = _scratch(distance)
    for row in range(out.size):
        out[row], _, _ = _one(p, q, row, distance, s)


@kernel(
    (
        input_array("f8", 2),
        input_array("f8", 2),
        input_array("f8", 2),
        output_array("f8", 1),
        output_array("f8", 2),
    )
)
def emd_dual(p: F64, q: F64, distance: F64, out: F64, dual: F64) -> None:
    """Find the distances that `emd` finds, and for each pair a function that certifies it.

    Parameters
    ----------
    p, q, distance, out
        The arrays of `emd`: masses (N, K), ground distance (K, K), distances found (N,).
    dual : float64 array, shape (N, K)
        Output, in units of distance: f with abs(f[a] - f[b]) <= distance[a, b] for all cells and
        sum(f * (p - q)) = out (Kantorovich and Rubinstein). Also the gradient of the distance with
        respect to p - q, where there is one. Zero where nothing is moved, NaN where `out` is.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a distance is negative or not finite.
    """
    _check(p, q, distance, out)
    if dual.shape != p.shape:
        raise ValueError("emd_dual: expected dual (N, K)")
    s = _scratch(distance)
    for row in range(out.size):
        out[row], sources, sinks = _one(p, q, row, distance, s)
        if sources == 0:
            dual[row] = 0.0 * out[row]
            continue
        for k in range(p.shape[1]):
            # The upper envelope of the sinks' cones is 1-Lipschitz for the unrounded distance.
            smallest = np.inf
            for j in range(sources, sources + sinks):
                smallest = min(smallest, s.potential[j] * s.unit + distance[k, s.cell[j]])
            dual[row, k] = smallest
