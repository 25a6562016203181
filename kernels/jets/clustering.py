"""Jets in ragged lists of candidates: the leading jet, trimmed, and its last kt splitting.

Plain N² sequential recombination with nearest neighbours, four-momenta added (E scheme); made for
tens to hundreds of candidates, correct for any number. Distances are in rapidity and azimuth.

References
----------
M. Cacciari, G. P. Salam, G. Soyez, JHEP 04 (2008) 063 (anti-kt);
D. Krohn, J. Thaler, L.-T. Wang, JHEP 02 (2010) 084 (trimming).
"""

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import device_function, input_array, kernel, output_array, scalar

#: Status of an event's candidates: valid; a value is not finite; a momentum is below zero.
SOUND, NOT_FINITE, NEGATIVE = 0, 1, 2

# Rows of the table of pseudo-jets: momentum, position, power of pT², distance² to the nearest.
_PX, _PY, _PZ, _E, _RAP, _PHI, _POWER, _NEAREST = range(8)
# Rows of the table of links: nearest neighbour, first and last candidate, next candidate.
_NEIGHBOUR, _HEAD, _TAIL, _NEXT = range(4)
# Squared radius of a clustering that goes on until one is left.
_ALL = 1e6


@device_function
def _place(table: NDArray[np.float64], i: int, power: int) -> None:
    px, py, pz, e = table[_PX, i], table[_PY, i], table[_PZ, i], table[_E, i]
    pt2 = px * px + py * py
    transverse = max(pt2, e * e - pz * pz)
    if transverse > 0.0:
        rapidity = 0.5 * np.log((e + abs(pz)) ** 2 / transverse)
        table[_RAP, i] = rapidity if pz > 0.0 else -rapidity
    else:
        table[_RAP, i] = 0.0
    table[_PHI, i] = np.arctan2(py, px)
    if power < 0:
        table[_POWER, i] = 1.0 / pt2 if pt2 > 0.0 else 1e300
    else:
        table[_POWER, i] = pt2


@device_function
def _distance(table: NDArray[np.float64], i: int, j: int) -> float:
    dphi = abs(table[_PHI, i] - table[_PHI, j])
    if dphi > np.pi:
        dphi = 2.0 * np.pi - dphi
    drap = table[_RAP, i] - table[_RAP, j]
    return float(drap * drap + dphi * dphi)


@device_function
def _look(table: NDArray[np.float64], links: NDArray[np.int64], i: int, n: int, r2: float) -> None:
    """Find the nearest neighbour of pseudo-jet `i` among `n`."""
    nearest, best = -1, r2
    for j in range(n):
        if j != i:
            distance = _distance(table, i, j)
            if distance < best:
                nearest, best = j, distance
    links[_NEIGHBOUR, i] = nearest
    table[_NEAREST, i] = best


@device_function
def _next_step(
    table: NDArray[np.float64], links: NDArray[np.int64], n: int, r2: float
) -> tuple[int, int]:
    best, found = np.inf, 0
    for i in range(n):
        power, j = table[_POWER, i], links[_NEIGHBOUR, i]
        if j >= 0:
            power = min(power, table[_POWER, j])
        measure = power * table[_NEAREST, i]
        if measure < best:
            best, found = measure, i
    return found, links[_NEIGHBOUR, found]


@device_function
def _move(table: NDArray[np.float64], links: NDArray[np.int64], to: int, of: int) -> None:
    for row in range(8):
        table[row, to] = table[row, of]
    for row in range(3):
        links[row, to] = links[row, of]


@device_function
def _cluster(
    table: NDArray[np.float64],
    links: NDArray[np.int64],
    n: int,
    r2: float,
    power: int,
    jets: NDArray[np.float64],
    heads: NDArray[np.int64],
    pair: NDArray[np.float64],
) -> int:
    """Cluster the first `n` columns of the table; return the number of jets.

    `jets` (4, cap) gets their momenta, `heads` the first candidate of each, and `pair` (8,) the
    momenta of the last two that merged.
    """
    for i in range(n):
        _place(table, i, power)
    for i in range(n):
        _look(table, links, i, n, r2)
    found = 0
    while n:
        a, b = _next_step(table, links, n, r2)
        if b < 0:
            for row in range(4):
                jets[row, found] = table[row, a]
            heads[found] = links[_HEAD, a]
            found += 1
            gone = a
        else:
            if b < a:
                a, b = b, a
            for row in range(4):
                pair[row], pair[4 + row] = table[row, a], table[row, b]
                table[row, a] += table[row, b]
            links[_NEXT, links[_TAIL, a]] = links[_HEAD, b]
            links[_TAIL, a] = links[_TAIL, b]
            _place(table, a, power)
            gone = b
        n -= 1
        _move(table, links, gone, n)
        merged = a if b >= 0 else -1
        _relink(table, links, n, r2, merged, gone)
    return found


@device_function
def _relink(
    table: NDArray[np.float64], links: NDArray[np.int64], n: int, r2: float, merged: int, gone: int
) -> None:
    """Update the neighbours after a merge: one pseudo-jet changed, one gave its row to the last."""
    for i in range(n):
        near = links[_NEIGHBOUR, i]
        if near == gone or (near == merged and near >= 0) or i == merged:
            _look(table, links, i, n, r2)
            continue
        if near == n:
            links[_NEIGHBOUR, i] = gone
        if merged >= 0:
            distance = _distance(table, i, merged)
            if distance < table[_NEAREST, i]:
                table[_NEAREST, i], links[_NEIGHBOUR, i] = distance, merged


@device_function
def _fill(
    table: NDArray[np.float64], links: NDArray[np.int64], momenta: NDArray[np.float64], n: int
) -> None:
    for i in range(n):
        for row in range(4):
            table[row, i] = momenta[row, i]
        links[_HEAD, i], links[_TAIL, i], links[_NEXT, i] = i, i, -1


@device_function
def _check(pt: NDArray[np.float32], eta: NDArray[np.float32], phi: NDArray[np.float32]) -> int:
    for i in range(pt.size):
        if not (np.isfinite(pt[i]) and np.isfinite(eta[i]) and np.isfinite(phi[i])):
            return 1
        if pt[i] < 0.0:
            return 2
    return 0


@device_function
def _massless(
    pt: NDArray[np.float32], eta: NDArray[np.float32], phi: NDArray[np.float32],
    momenta: NDArray[np.float64],
) -> None:  # fmt: skip
    for i in range(pt.size):
        p, rise, turn = np.float64(pt[i]), np.float64(eta[i]), np.float64(phi[i])
        momenta[0, i], momenta[1, i] = p * np.cos(turn), p * np.sin(turn)
        momenta[2, i], momenta[3, i] = p * np.sinh(rise), p * np.cosh(rise)


@device_function
def _hardest(jets: NDArray[np.float64], found: int) -> int:
    best, at = -1.0, 0
    for i in range(found):
        pt2 = jets[0, i] ** 2 + jets[1, i] ** 2
        if pt2 > best:
            best, at = pt2, i
    return at


@device_function
def _gather(
    links: NDArray[np.int64], head: int, momenta: NDArray[np.float64],
    kept: NDArray[np.float64], start: int,
) -> int:  # fmt: skip
    """Copy a jet's candidates behind `start`; return the new end."""
    while head >= 0:
        for row in range(4):
            kept[row, start] = momenta[row, head]
        start += 1
        head = links[_NEXT, head]
    return start


@kernel(
    (
        input_array("i8", 1), input_array("f4", 1), input_array("f4", 1), input_array("f4", 1),
        scalar("f8"), scalar("f8"), scalar("f8"),
        output_array("i8", 1), output_array("f8", 2), output_array("f8", 2), output_array("u1", 1),
    )
)  # fmt: skip
def leading_jets(
    offsets: NDArray[np.int64],
    pt: NDArray[np.float32],
    eta: NDArray[np.float32],
    phi: NDArray[np.float32],
    radius: float,
    subjet: float,
    share: float,
    kept_offsets: NDArray[np.int64],
    kept: NDArray[np.float64],
    summary: NDArray[np.float64],
    status: NDArray[np.uint8],
) -> None:
    """Find and trim the hardest anti-kt jet of each event.

    Parameters
    ----------
    offsets : int64 array, shape (N + 1,)
        Index of each event's first candidate, then the end of the last event.
    pt, eta, phi : float32 arrays, shape (C,)
        Massless candidates: transverse momentum (GeV), pseudorapidity, azimuth.
    radius, subjet, share : float
        Radius of the jets; of the kt subjets; least share of the jet's transverse momentum that a
        subjet keeps its candidates with.
    kept_offsets : int64 array, shape (N + 1,)
        Output: where each jet's trimmed candidates begin, and the end.
    kept : float64 array, shape (4, C)
        Output: px, py, pz, E of the trimmed candidates, GeV.
    summary : float64 array, shape (N, 12)
        Output: px, py, pz, E of the jet before trimming, then of the two kt subjets that its
        trimmed candidates make last; zeros where there are none.
    status : uint8 array, shape (N,)
        Output: `SOUND`, `NOT_FINITE` or `NEGATIVE`; all else is zero for unsound events.
    """
    events = offsets.size - 1
    longest = 1
    for n in range(events):
        longest = max(longest, offsets[n + 1] - offsets[n])
    table, links = np.empty((8, longest)), np.empty((4, longest), np.int64)
    momenta, members, jets = np.empty((4, longest)), np.empty((4, longest)), np.empty((4, longest))
    heads, pair = np.empty(longest, np.int64), np.zeros(8)
    kept_offsets[0] = 0
    for n in range(events):
        low, high = offsets[n], offsets[n + 1]
        kept_offsets[n + 1] = kept_offsets[n]
        summary[n] = 0.0
        status[n] = _check(pt[low:high], eta[low:high], phi[low:high])
        if status[n] != 0 or high == low:
            continue
        _massless(pt[low:high], eta[low:high], phi[low:high], momenta)
        _fill(table, links, momenta, high - low)
        found = _cluster(table, links, high - low, radius * radius, -1, jets, heads, pair)
        best = _hardest(jets, found)
        summary[n, :4] = jets[:, best]
        count = _gather(links, heads[best], momenta, members, 0)
        min_pt2 = share * share * (jets[0, best] ** 2 + jets[1, best] ** 2)
        _fill(table, links, members, count)
        found = _cluster(table, links, count, subjet * subjet, 1, jets, heads, pair)
        end = kept_offsets[n]
        for i in range(found):
            if jets[0, i] ** 2 + jets[1, i] ** 2 > min_pt2:
                end = _gather(links, heads[i], members, kept, end)
        kept_offsets[n + 1] = end
        pair[:] = 0.0
        _fill(table, links, kept[:, kept_offsets[n] :], end - kept_offsets[n])
        _cluster(table, links, end - kept_offsets[n], _ALL, 1, jets, heads, pair)
        summary[n, 4:] = pair
