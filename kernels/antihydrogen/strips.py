"""The strips of a two-layer tracker: bits on the wire to the images that a net reads.

The tracker is two half-cylinders of Micromegas, each with strips along and across its axis. An
event is 1,430 bits: inner z 447, inner φ 246, outer z 447, outer φ 290; the first is the highest
bit of the first byte. Strips are 1 mm apart in all views, and the first φ strips of both layers are
at the same angle: that and the ratio of the radii, 1.15, are fitted to real events' clusters.

References
----------
P. Sadowski et al., J. Phys. Commun. 1 (2017) 025001.
"""

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import device_function, input_array, kernel, output_array

Z, PHI, PHI_OUTER = 447, 246, 290
#: First strip of each view, then the end of the last: inner z, inner φ, outer z, outer φ.
VIEWS = (0, Z, Z + PHI, 2 * Z + PHI, 2 * Z + PHI + PHI_OUTER)
STRIPS = VIEWS[-1]
#: Radii of the layers, mm; strips are 1 mm apart.
INNER_MM, OUTER_MM = 78.5, 90.3
BYTES = (STRIPS + 7) // 8
#: Status of an event: valid, or bits beyond the last strip are set.
FINE, PADDING = 0, 1


@device_function
def _bit(packed: NDArray[np.uint8], n: int, strip: int) -> int:
    return (int(np.int64(packed[n, strip >> 3])) >> (7 - (strip & 7))) & 1


@kernel((input_array("u1", 2), output_array("u1", 2)))
def pack_strips(bits: NDArray[np.uint8], packed: NDArray[np.uint8]) -> None:
    """Pack strips, one byte each, into bits.

    Parameters
    ----------
    bits : uint8 array, shape (N, 1430)
        A strip has fired where it is not 0.
    packed : uint8 array, shape (N, 179)
        Output; the last two bits are 0.
    """
    if bits.shape[1] != STRIPS or packed.shape != (bits.shape[0], BYTES):
        raise ValueError("pack_strips: expected bits (N, 1430) and packed (N, 179)")
    packed[:] = 0
    for n in range(bits.shape[0]):
        for strip in range(STRIPS):
            if bits[n, strip]:
                packed[n, strip >> 3] |= np.uint8(1 << (7 - (strip & 7)))


@kernel((input_array("u1", 2), output_array("u1", 2)))
def unpack_strips(packed: NDArray[np.uint8], bits: NDArray[np.uint8]) -> None:
    """Unpack bits into strips, 0 or 1, one byte each: the inverse of `pack_strips`."""
    if bits.shape[1] != STRIPS or packed.shape != (bits.shape[0], BYTES):
        raise ValueError("unpack_strips: expected packed (N, 179) and bits (N, 1430)")
    for n in range(bits.shape[0]):
        for strip in range(STRIPS):
            bits[n, strip] = _bit(packed, n, strip)


@kernel(
    (
        input_array("u1", 2),
        output_array("f4", 3),
        output_array("f4", 3),
        output_array("u1", 1),
        output_array("u1", 1),
    )
)
def to_images(
    packed: NDArray[np.uint8],
    z: NDArray[np.float32],
    phi: NDArray[np.float32],
    layers: NDArray[np.uint8],
    status: NDArray[np.uint8],
) -> int:
    """Unpack events into two images of two layers each; count the layers that were hit.

    The outer layer's 290 φ strips become 246 by linear interpolation between strip centres, at the
    angles of the inner layer's, so that an entry has one angle in both.

    Parameters
    ----------
    packed : uint8 array, shape (N, 179)
    z : float32 array, shape (N, 2, 447)
        Output, 0 or 1; inner layer first.
    phi : float32 array, shape (N, 2, 246)
        Output, 0 to 1; inner layer first.
    layers : uint8 array, shape (N,)
        Output, layers in which a strip of each view has fired.
    status : uint8 array, shape (N,)
        Output, `FINE` or `PADDING`.

    Returns
    -------
    int
        Number of events whose status is not `OK`.
    """
    events = packed.shape[0]
    if packed.shape[1] != BYTES or layers.shape[0] != events or status.shape[0] != events:
        raise ValueError("to_images: expected packed (N, 179), layers (N,) and status (N,)")
    if z.shape != (events, 2, Z) or phi.shape != (events, 2, PHI):
        raise ValueError("to_images: expected z (N, 2, 447) and phi (N, 2, 246)")
    scale = np.float32(OUTER_MM / INNER_MM)
    outer = np.empty(PHI_OUTER + 1, np.float32)
    outer[PHI_OUTER] = 0
    bad = 0
    for n in range(events):
        fired_z, fired_phi = np.zeros(2, np.bool_), np.zeros(2, np.bool_)
        for layer in range(2):
            start = VIEWS[2] * layer
            for k in range(Z):
                one = _bit(packed, n, start + k)
                z[n, layer, k] = one
                fired_z[layer] |= one == 1
        for k in range(PHI):
            one = _bit(packed, n, Z + k)
            phi[n, 0, k] = one
            fired_phi[0] |= one == 1
        for k in range(PHI_OUTER):
            one = _bit(packed, n, VIEWS[3] + k)
            outer[k] = one
            fired_phi[1] |= one == 1
        for k in range(PHI):
            at = (np.float32(k) + np.float32(0.5)) * scale - np.float32(0.5)
            low = min(int(at), PHI_OUTER - 1)
            share = at - np.float32(low)
            phi[n, 1, k] = outer[low] * (np.float32(1) - share) + outer[low + 1] * share
        layers[n] = int(fired_z[0] and fired_phi[0]) + int(fired_z[1] and fired_phi[1])
        status[n] = PADDING if packed[n, BYTES - 1] & 3 else FINE
        bad += status[n] != FINE
    return bad
