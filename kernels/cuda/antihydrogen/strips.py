"""The strips of a two-layer tracker on a GPU: bits on the wire to the images that a net reads."""

from typing import Any

import numpy as np
from numba import cuda

from sluice.kernels.antihydrogen.strips import (
    BYTES,
    FINE,
    INNER_MM,
    OUTER_MM,
    PADDING,
    PHI,
    PHI_OUTER,
    STRIPS,
    VIEWS,
    Z,
)
from sluice.kernels.cuda import launch
from sluice.kernels.cuda.intrinsics import product, store4
from sluice.kernels.cuda.launch import DeviceArray, Stream

__all__ = ["to_images", "unpack_strips"]

_THREADS = launch.threads(256)
_EVENT = launch.threads(128)
_SCALE = np.float32(OUTER_MM / INNER_MM)
_OUTER_Z, _OUTER_PHI = VIEWS[2], VIEWS[3]


@launch.building_block
def _bit(packed: Any, first: Any, strip: Any) -> Any:
    return (np.uint32(packed[first + (strip >> 3)]) >> np.uint32(7 - (strip & 7))) & np.uint32(1)


@launch.kernel(
    "u1[], u1[], i8",
    threads=256,
    resident=8,
    traffic=launch.Traffic("event", BYTES, STRIPS),
)
def _unpack_strips(packed: Any, bits: Any, count: Any) -> None:
    at = 4 * cuda.grid(1)
    if at + 4 <= count:
        n, strip = at // STRIPS, at % STRIPS
        a = _bit(packed, BYTES * n, strip)
        b = _bit(packed, BYTES * n, strip + 1)
        # An event has an even number of strips, not a multiple of four.
        if strip + 2 == STRIPS:
            n, strip = n + 1, -2
        c = _bit(packed, BYTES * n, strip + 2)
        d = _bit(packed, BYTES * n, strip + 3)
        store4(bits, at, np.uint8(a), np.uint8(b), np.uint8(c), np.uint8(d))
    elif at < count:
        for last in range(at, count):
            bits[last] = _bit(packed, last // STRIPS * BYTES, last % STRIPS)


def unpack_strips(packed: DeviceArray, bits: DeviceArray, *, stream: Stream = 0) -> None:
    """Unpack bits into strips, one byte each, as
    `sluice.kernels.antihydrogen.strips.unpack_strips` does.

    A thread makes four strips: a warp writes 128 bytes in a row, from 16 or 17 in a row.
    """
    events = launch.shape(packed)[0]
    count = STRIPS * events
    _unpack_strips(
        -(-count // (4 * _THREADS)),
        stream,
        launch.flat("unpack_strips: packed", packed, "u1", (events, BYTES)),
        launch.flat("unpack_strips: bits", bits, "u1", (events, STRIPS)),
        count,
    )


@launch.building_block
def _outer(seen: Any, k: Any) -> Any:
    """Return the outer φ strips where the inner strip k looks, between two strips' centres."""
    # Fused with the subtraction, the product would look elsewhere than on the CPU.
    at = np.float32(product(np.float32(np.float32(k) + np.float32(0.5)), _SCALE) - np.float32(0.5))
    low = np.int64(at)
    if low >= PHI_OUTER:
        low = np.int64(PHI_OUTER - 1)
    share = np.float32(at - np.float32(low))
    left = np.float32(_bit(seen, 0, _OUTER_PHI + low))
    right = np.float32(0)
    if low + 1 < PHI_OUTER:
        right = np.float32(_bit(seen, 0, _OUTER_PHI + low + 1))
    return np.float32(product(left, np.float32(np.float32(1) - share)) + product(right, share))


@launch.kernel(
    "u1[], f4[], f4[], u1[], u1[]",
    threads=128,
    resident=16,
    traffic=launch.Traffic("event", BYTES, 8 * (Z + PHI) + 2),
)
def _images(packed: Any, z: Any, phi: Any, layers: Any, status: Any) -> None:
    seen = cuda.shared.array(BYTES, np.uint8)
    fired = cuda.shared.array(4, np.int32)
    me, n = cuda.threadIdx.x, cuda.blockIdx.x
    for at in range(me, BYTES, _EVENT):
        seen[at] = packed[BYTES * n + at]
    if me < 4:
        fired[me] = 0
    cuda.syncthreads()
    for at in range(me, 2 * Z, _EVENT):
        layer = at // Z
        one = _bit(seen, 0, at - Z * layer + _OUTER_Z * layer)
        z[2 * Z * n + at] = one
        if one:
            fired[2 * layer] = 1
    for k in range(me, PHI, _EVENT):
        one = _bit(seen, 0, Z + k)
        phi[2 * PHI * n + k] = one
        phi[2 * PHI * n + PHI + k] = _outer(seen, k)
        if one:
            fired[1] = 1
    for k in range(me, PHI_OUTER, _EVENT):
        if _bit(seen, 0, _OUTER_PHI + k):
            fired[3] = 1
    cuda.syncthreads()
    if me == 0:
        layers[n] = (fired[0] & fired[1]) + (fired[2] & fired[3])
        status[n] = PADDING if seen[BYTES - 1] & 3 else FINE


def to_images(
    packed: DeviceArray,
    z: DeviceArray,
    phi: DeviceArray,
    layers: DeviceArray,
    status: DeviceArray,
    *,
    stream: Stream = 0,
) -> None:
    """Unpack events into two images of two layers, as
    `sluice.kernels.antihydrogen.strips.to_images` does.

    It returns nothing: the caller counts the events that are not `OK` in `status`, on the device.

    A block takes an event. It reads the 179 bytes in a row into shared memory; its warps write 128
    bytes of an image in a row.
    """
    events = launch.shape(packed)[0]
    _images(
        events,
        stream,
        launch.flat("images: packed", packed, "u1", (events, BYTES)),
        launch.flat("images: z", z, "f4", (events, 2, Z)),
        launch.flat("images: phi", phi, "f4", (events, 2, PHI)),
        launch.flat("images: layers", layers, "u1", (events,)),
        launch.flat("images: status", status, "u1", (events,)),
    )
