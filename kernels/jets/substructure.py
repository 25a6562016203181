"""Substructure of trimmed jets: ten observables of each, over ragged lists of candidates.

References
----------
J. Thaler, K. Van Tilburg, JHEP 03 (2011) 015 (N-subjettiness);
A. J. Larkoski, G. P. Salam, J. Thaler, JHEP 06 (2013) 108 (C2);
A. J. Larkoski, I. Moult, D. Neill, JHEP 12 (2014) 009 (D2);
ATLAS collaboration, JHEP 05 (2012) 128 (angularity, planar flow, kt splittings).
"""

import math

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import device_function, input_array, kernel, output_array, scalar

_TINY = 1e-12


@device_function
def _rapidity(px: float, py: float, pz: float, e: float) -> float:
    transverse = max(px * px + py * py, e * e - pz * pz)
    if transverse <= 0.0:
        return 0.0
    rapidity = 0.5 * math.log((e + abs(pz)) ** 2 / transverse)
    return rapidity if pz > 0.0 else -rapidity


@device_function
def _apart(rap: float, phi: float, other_rap: float, other_phi: float) -> float:
    dphi = abs(phi - other_phi)
    if dphi > math.pi:
        dphi = 2.0 * math.pi - dphi
    return math.hypot(rap - other_rap, dphi)


@device_function
def _mass2(px: float, py: float, pz: float, e: float) -> float:
    return max(e * e - px * px - py * py - pz * pz, 0.0)


@device_function
def _correlators(points: NDArray[np.float64], pairs: NDArray[np.float64], n: int) -> tuple[
    float, float, float]:  # fmt: skip
    """Return the sums over one, two and three candidates; points are pt, rapidity, azimuth.

    With A_ij = √(pt_i pt_j) ΔR_ij the triple sum is that of A_ij A_jk A_ki.
    """
    one = two = three = 0.0
    for i in range(n):
        one += points[0, i]
        for j in range(i):
            r = _apart(points[1, i], points[2, i], points[1, j], points[2, j])
            product = points[0, i] * points[0, j]
            two += product * r
            pairs[i, j] = math.sqrt(product) * r
    row = pairs[n]
    for i in range(n):
        row[:i] = 0.0
        for j in range(i):
            weight = pairs[i, j]
            for k in range(j):
                row[k] += weight * pairs[j, k]
        for k in range(i):
            three += pairs[i, k] * row[k]
    return one, two, three


@device_function
def _tau21(points: NDArray[np.float64], n: int, axes: NDArray[np.float64]) -> float:
    one = two = 0.0
    for i in range(n):
        pt, rap, phi = points[0, i], points[1, i], points[2, i]
        first = _apart(rap, phi, axes[1, 0], axes[1, 1])
        second = _apart(rap, phi, axes[2, 0], axes[2, 1])
        one += pt * _apart(rap, phi, axes[0, 0], axes[0, 1])
        two += pt * min(first, second)
    return two / one if one > _TINY else 0.0


@device_function
def _angularity(momenta: NDArray[np.float64], jet: NDArray[np.float64], radius: float) -> float:
    """Angularity with a = −2: wide jets of evenly shared energy have more of it."""
    total = 0.0
    size = math.sqrt(jet[0] ** 2 + jet[1] ** 2 + jet[2] ** 2)
    for i in range(momenta.shape[1]):
        px, py, pz, e = momenta[0, i], momenta[1, i], momenta[2, i], momenta[3, i]
        p = math.sqrt(px * px + py * py + pz * pz)
        if p > 0.0:
            cosine = (px * jet[0] + py * jet[1] + pz * jet[2]) / (p * size)
            theta = math.acos(min(1.0, max(-1.0, cosine))) * math.pi / (2.0 * radius)
            theta = min(theta, 0.5 * math.pi)
            total += e * math.sin(theta) ** -2 * (1.0 - math.cos(theta)) ** 3 if theta > 0 else 0.0
    mass = math.sqrt(_mass2(jet[0], jet[1], jet[2], jet[3]))
    return total / mass if mass > _TINY else 0.0


@device_function
def _planar_flow(momenta: NDArray[np.float64], jet: NDArray[np.float64]) -> float:
    """4 det I / tr² I of I = Σ p⊥ p⊥ᵀ / E around the axis: 0 for a line, 1 for a disc."""
    pt = math.hypot(jet[0], jet[1])
    size = math.hypot(pt, jet[2])
    if pt <= _TINY:
        return 0.0
    ax, ay = -jet[1] / pt, jet[0] / pt
    bx, by, bz = -jet[2] * jet[0] / (pt * size), -jet[2] * jet[1] / (pt * size), pt / size
    aa = ab = bb = 0.0
    for i in range(momenta.shape[1]):
        px, py, pz, e = momenta[0, i], momenta[1, i], momenta[2, i], momenta[3, i]
        if e > 0.0:
            a, b = px * ax + py * ay, px * bx + py * by + pz * bz
            aa += a * a / e
            ab += a * b / e
            bb += b * b / e
    trace = aa + bb
    return 4.0 * (aa * bb - ab * ab) / (trace * trace) if trace > _TINY else 0.0


@device_function
def _min_eigenvalue(m: NDArray[np.float64]) -> float:
    """Return the smallest eigenvalue of a symmetric 3 × 3 matrix, by the trigonometric formula."""
    off = m[0, 1] ** 2 + m[0, 2] ** 2 + m[1, 2] ** 2
    q = (m[0, 0] + m[1, 1] + m[2, 2]) / 3.0
    a, b, c = m[0, 0] - q, m[1, 1] - q, m[2, 2] - q
    p = math.sqrt((a * a + b * b + c * c + 2.0 * off) / 6.0)
    if p <= _TINY:
        return q
    det = a * (b * c - m[1, 2] ** 2) - m[0, 1] * (m[0, 1] * c - m[1, 2] * m[0, 2])
    det += m[0, 2] * (m[0, 1] * m[1, 2] - b * m[0, 2])
    angle = math.acos(min(1.0, max(-1.0, det / (2.0 * p**3)))) / 3.0
    return q + 2.0 * p * math.cos(angle + 2.0 * math.pi / 3.0)


@device_function
def _at_rest(momenta: NDArray[np.float64], jet: NDArray[np.float64]) -> tuple[float, float]:
    """Return aplanarity and the ratio of Fox-Wolfram moments 2 and 0 in the jet's own frame."""
    mass = math.sqrt(_mass2(jet[0], jet[1], jet[2], jet[3]))
    if mass <= 1e-6 * jet[3]:
        return 0.0, 0.0
    squares, linear = np.zeros((3, 3)), np.zeros((3, 3))
    p = np.empty(3)
    total2 = total = 0.0
    for i in range(momenta.shape[1]):
        along = momenta[0, i] * jet[0] + momenta[1, i] * jet[1] + momenta[2, i] * jet[2]
        shift = (along / (jet[3] + mass) - momenta[3, i]) / mass
        for k in range(3):
            p[k] = momenta[k, i] + shift * jet[k]
        p2 = p[0] ** 2 + p[1] ** 2 + p[2] ** 2
        size = math.sqrt(p2)
        if size <= 0.0:
            continue
        total2 += p2
        total += size
        for k in range(3):
            for m in range(3):
                squares[k, m] += p[k] * p[m]
                linear[k, m] += p[k] * p[m] / size
    if total <= _TINY:
        return 0.0, 0.0
    norm = 0.0
    for k in range(3):
        for m in range(3):
            squares[k, m] /= total2
            norm += (linear[k, m] / total) ** 2
    return max(1.5 * _min_eigenvalue(squares), 0.0), 0.5 * (3.0 * norm - 1.0)


@device_function
def _splitting(pair: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return distance, √d12 (GeV) and zcut12 of the last kt merging."""
    first, second = math.hypot(pair[0], pair[1]), math.hypot(pair[4], pair[5])
    if second <= 0.0 or first <= 0.0:
        return 0.0, 0.0, 0.0
    r = _apart(
        _rapidity(pair[0], pair[1], pair[2], pair[3]), math.atan2(pair[1], pair[0]),
        _rapidity(pair[4], pair[5], pair[6], pair[7]), math.atan2(pair[5], pair[4]),
    )  # fmt: skip
    split = min(first, second) * r
    mass2 = _mass2(pair[0] + pair[4], pair[1] + pair[5], pair[2] + pair[6], pair[3] + pair[7])
    return r, split, split * split / (split * split + mass2) if split > 0.0 else 0.0


@device_function
def _axes(jet: NDArray[np.float64], pair: NDArray[np.float64], axes: NDArray[np.float64]) -> None:
    axes[0, 0], axes[0, 1] = _rapidity(jet[0], jet[1], jet[2], jet[3]), math.atan2(jet[1], jet[0])
    for k in range(2):
        px, py, pz, e = pair[4 * k], pair[4 * k + 1], pair[4 * k + 2], pair[4 * k + 3]
        axes[k + 1, 0], axes[k + 1, 1] = _rapidity(px, py, pz, e), math.atan2(py, px)


@device_function
def _place(momenta: NDArray[np.float64], points: NDArray[np.float64]) -> None:
    for i in range(momenta.shape[1]):
        px, py, pz, e = momenta[0, i], momenta[1, i], momenta[2, i], momenta[3, i]
        points[0, i] = math.hypot(px, py)
        points[1, i], points[2, i] = _rapidity(px, py, pz, e), math.atan2(py, px)


@device_function
def _write_kinematics(jet: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    pt = math.hypot(jet[0], jet[1])
    out[0], out[1] = pt, math.asinh(jet[2] / pt) if pt > 0.0 else 0.0
    out[2], out[3] = math.atan2(jet[1], jet[0]), math.sqrt(_mass2(jet[0], jet[1], jet[2], jet[3]))


@kernel(
    (
        input_array("i8", 1), input_array("f8", 2), input_array("f8", 2), scalar("f8"),
        output_array("f4", 2), output_array("f4", 2),
    )
)  # fmt: skip
def substructure(
    offsets: NDArray[np.int64],
    momenta: NDArray[np.float64],
    summary: NDArray[np.float64],
    radius: float,
    observables: NDArray[np.float32],
    kinematics: NDArray[np.float32],
) -> None:
    """Measure the substructure of jets that `leading_jets` found and trimmed.

    Parameters
    ----------
    offsets : int64 array, shape (N + 1,)
        Index of each jet's first candidate, then the end of the last jet.
    momenta : float64 array, shape (4, C)
        px, py, pz and E of the candidates, GeV.
    summary : float64 array, shape (N, 12)
        Summary of each jet that `leading_jets` wrote.
    radius : float
        Radius of the jets in η and φ.
    observables : float32 array, shape (N, 10)
        Output, in the order of `OBSERVABLES`; zeros for jets without candidates. The splitting
        scale is in GeV, all others are dimensionless.
    kinematics : float32 array, shape (N, 4)
        Output: transverse momentum (GeV), pseudorapidity, azimuth and mass (GeV) after trimming.
    """
    longest = 0
    for n in range(offsets.size - 1):
        longest = max(longest, offsets[n + 1] - offsets[n])
    pairs, points = np.empty((longest + 1, longest + 1)), np.empty((3, longest))
    jet, axes = np.zeros(4), np.zeros((3, 2))
    for n in range(offsets.size - 1):
        low, high = offsets[n], offsets[n + 1]
        observables[n] = 0.0
        kinematics[n] = 0.0
        if high == low:
            continue
        own, pair = momenta[:, low:high], summary[n, 4:]
        for row in range(4):
            jet[row] = own[row].sum()
        _place(own, points)
        _write_kinematics(jet, kinematics[n])
        _axes(jet, pair, axes)
        one, two, three = _correlators(points, pairs, high - low)
        if high - low > 1:
            observables[n, 0] = _tau21(points, high - low, axes)
        if two > _TINY:
            observables[n, 1] = three * one / two**2
            observables[n, 2] = three * (one / two) ** 3
        observables[n, 3] = _angularity(own, jet, radius)
        observables[n, 4], observables[n, 5] = _at_rest(own, jet)
        observables[n, 6], observables[n, 8], observables[n, 9] = _splitting(pair)
        observables[n, 7] = _planar_flow(own, jet)
