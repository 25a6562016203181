"""Traditional vertex finding in the two-layer tracker: clusters, straight tracks, nearest approach.

A cluster is a run of strips.
A track is a cluster of each of the four views; two tracks that share none make a vertex where
they pass each other most closely. Strips do not say which φ belongs to which z: all combinations
are tried, and the closest pair wins.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import device_function, input_array, kernel, output_array, scalar

from .strips import BYTES, INNER_MM, OUTER_MM, VIEWS

#: Limits on clusters per view and on tracks per event; further ones are ignored.
CLUSTERS, TRACKS = 12, 160
#: Largest difference between a track's hits in both layers: of the angle, rad, and of z, mm.
MAX_TURN_RAD, MAX_SLOPE_MM = 0.35, 45.0
#: Largest distance between the two tracks of a vertex, mm.
MAX_DISTANCE_MM = 8.0
#: Largest distance of a vertex from the axis, mm.
MAX_RADIUS_MM = 70.0


@device_function
def _clusters(packed: NDArray[np.uint8], n: int, view: int, found: NDArray[np.float64]) -> int:
    count, begin = 0, -1
    for strip in range(VIEWS[view], VIEWS[view + 1] + 1):
        fired = False
        if strip < VIEWS[view + 1]:
            fired = (int(np.int64(packed[n, strip >> 3])) >> (7 - (strip & 7))) & 1 == 1
        if fired and begin < 0:
            begin = strip
        elif not fired and begin >= 0:
            if count < found.shape[0]:
                found[count] = 0.5 * (begin + strip) - VIEWS[view]
                count += 1
            begin = -1
    return count


@device_function
def _nearest(
    one: NDArray[np.float64], other: NDArray[np.float64], middle: NDArray[np.float64]
) -> float:
    """Return the distance of two lines, each (point, direction); put the point between them."""
    ab = aa = bb = aw = bw = 0.0
    for k in range(3):
        w = one[k] - other[k]
        aa += one[3 + k] * one[3 + k]
        bb += other[3 + k] * other[3 + k]
        ab += one[3 + k] * other[3 + k]
        aw += one[3 + k] * w
        bw += other[3 + k] * w
    below = aa * bb - ab * ab
    if below < 1e-6 * aa * bb:
        return 1e9
    s, t = (ab * bw - bb * aw) / below, (aa * bw - ab * aw) / below
    apart = 0.0
    for k in range(3):
        here, there = one[k] + s * one[3 + k], other[k] + t * other[3 + k]
        middle[k] = 0.5 * (here + there)
        apart += (here - there) ** 2
    return math.sqrt(apart)


@device_function
def _tracks(
    found: NDArray[np.float64],
    count: NDArray[np.int64],
    lines: NDArray[np.float64],
    made_of: NDArray[np.int64],
) -> int:
    tracks = 0
    for b in range(count[1]):
        inner = found[1, b] / INNER_MM
        for d in range(count[3]):
            outer = found[3, d] / OUTER_MM
            if abs(inner - outer) > MAX_TURN_RAD:
                continue
            x, y = INNER_MM * math.cos(inner), INNER_MM * math.sin(inner)
            for a in range(count[0]):
                for c in range(count[2]):
                    if abs(found[0, a] - found[2, c]) > MAX_SLOPE_MM or tracks == lines.shape[0]:
                        continue
                    line, made = lines[tracks], made_of[tracks]
                    line[0], line[1], line[2] = x, y, found[0, a]
                    line[3] = OUTER_MM * math.cos(outer) - x
                    line[4] = OUTER_MM * math.sin(outer) - y
                    line[5] = found[2, c] - found[0, a]
                    made[0], made[1], made[2], made[3] = a, b, c, d
                    tracks += 1
    return tracks


@kernel((input_array("u1", 2), scalar("f8"), output_array("f4", 2), output_array("f4", 1)))
def find_vertices(
    packed: NDArray[np.uint8],
    max_distance_mm: float,
    vertex: NDArray[np.float32],
    radius: NDArray[np.float32],
) -> None:
    """Find the vertex of each event.

    Parameters
    ----------
    packed : uint8 array, shape (N, 179)
        Strips, as bits.
    max_distance_mm : float
        Two tracks that pass each other at a greater distance make no vertex.
    vertex : float32 array, shape (N, 3)
        Output, x, y, z in mm; 0 where there is none.
    radius : float32 array, shape (N,)
        Output, distance of the vertex from the axis in mm; -1 where there is none.
    """
    events = packed.shape[0]
    if packed.shape[1] != BYTES or vertex.shape != (events, 3) or radius.shape[0] != events:
        raise ValueError("find_vertices: expected packed (N, 179), vertex (N, 3), radius (N,)")
    found = np.empty((4, CLUSTERS), np.float64)
    count = np.empty(4, np.int64)
    lines = np.empty((TRACKS, 6), np.float64)
    made_of = np.empty((TRACKS, 4), np.int64)
    middle = np.empty(3, np.float64)
    for n in range(events):
        vertex[n] = 0
        radius[n] = -1
        for view in range(4):
            count[view] = _clusters(packed, n, view, found[view])
        tracks = _tracks(found, count, lines, made_of)
        best = max_distance_mm
        for i in range(tracks):
            for j in range(i):
                shared = False
                for view in range(4):
                    shared |= made_of[i, view] == made_of[j, view]
                if shared:
                    continue
                apart = _nearest(lines[i], lines[j], middle)
                r = math.hypot(middle[0], middle[1])
                if apart < best and r < MAX_RADIUS_MM:
                    best = apart
                    radius[n] = r
                    for k in range(3):
                        vertex[n, k] = middle[k]
