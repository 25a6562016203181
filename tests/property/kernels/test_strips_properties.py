"""Strips packed and unpacked, images, and vertices of straight tracks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    pack_strips,
    to_images,
)
from sluice.kernels.antihydrogen.vertex import find_vertices

#: The kernel finds a position among the outer strips by three operations of float32, each within a
#: part in 2**24; what is interpolated there differs by no more than the position.
POSITION = (3 * PHI_OUTER + 3) * 2.0**-24


def packed(bits):
    found = np.empty((len(bits), BYTES), np.uint8)
    pack_strips(np.ascontiguousarray(bits), found)
    return found


def seen(strips, images=to_images):
    n = len(strips)
    z, phi = np.empty((n, 2, Z), np.float32), np.empty((n, 2, PHI), np.float32)
    layers, status = np.empty(n, np.uint8), np.empty(n, np.uint8)
    bad = images(strips, z, phi, layers, status)
    return z, phi, layers, status, bad


def random_bits(seed, events, share):
    return (np.random.default_rng(seed).random((events, STRIPS)) < share).astype(np.uint8)


def test_packing_is_numpy_s_and_comes_back(implementation):
    kernels = implementation.kernels("antihydrogen.strips")

    def holds(seed, events, share):
        bits = random_bits(seed, events, share)
        strips = packed(bits)
        np.testing.assert_array_equal(strips, np.packbits(bits, axis=1))
        again = np.empty_like(bits)
        kernels.unpack_strips(strips, again)
        np.testing.assert_array_equal(again, bits)

    share = st.sampled_from([0, 0.02, 0.5, 1])
    implementation.check(holds, st.integers(0, 2**31), st.integers(0, 5), share, few=4)


def test_images_are_the_bits_and_numpy_s_interpolation(implementation):
    kernels = implementation.kernels("antihydrogen.strips")

    def holds(seed, share):
        bits = random_bits(seed, 4, share)
        z, phi, layers, status, _ = seen(packed(bits), kernels.to_images)
        views = [bits[:, VIEWS[k] : VIEWS[k + 1]] for k in range(4)]
        np.testing.assert_array_equal(z, np.stack([views[0], views[2]], 1))
        np.testing.assert_array_equal(phi[:, 0], views[1])
        at = (np.arange(PHI) + 0.5) * OUTER_MM / INNER_MM - 0.5
        for row, outer in zip(phi[:, 1], views[3], strict=True):
            expected = np.interp(at, np.arange(PHI_OUTER), outer)
            np.testing.assert_allclose(row, expected, rtol=0, atol=POSITION)
        hit = [view.any(1) for view in views]
        np.testing.assert_array_equal(layers, (hit[0] & hit[1]).astype(int) + (hit[2] & hit[3]))
        assert (status == FINE).all()

    implementation.check(holds, st.integers(0, 2**31), st.sampled_from([0.003, 0.02, 0.5]), few=4)


def test_bits_behind_the_last_strip_are_reported():
    strips = packed(random_bits(1, 3, 0.1))
    strips[1, -1] |= 1
    *_, status, bad = seen(strips)
    assert bad == 1
    assert status.tolist() == [FINE, PADDING, FINE]


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="1430"):
        pack_strips(np.zeros((1, 5), np.uint8), np.zeros((1, BYTES), np.uint8))
    with pytest.raises(ValueError, match="packed"):
        seen(np.zeros((2, 7), np.uint8))


def crossing(vertex, direction, radius):
    """Where a straight line leaves a cylinder."""
    (x, y, _), (u, v, _) = vertex, direction
    a, b, c = u * u + v * v, x * u + y * v, x * x + y * y - radius * radius
    return vertex + direction * (-b + np.sqrt(b * b - a * c)) / a


def strips_of(vertex, directions):
    """Strips, one a view, of noiseless straight tracks."""
    bits = np.zeros((1, STRIPS), np.uint8)
    for direction in directions:
        for layer, radius in enumerate((INNER_MM, OUTER_MM)):
            x, y, z = crossing(vertex, direction, radius)
            bits[0, VIEWS[2 * layer] + int(z)] = 1
            bits[0, VIEWS[2 * layer + 1] + int(np.arctan2(y, x) * radius)] = 1
    return bits


def found(bits):
    vertex, radius = np.empty((len(bits), 3), np.float32), np.empty(len(bits), np.float32)
    find_vertices(packed(bits), 8.0, vertex, radius)
    return vertex, radius


def way(angle, slope):
    return np.array([np.cos(angle), np.sin(angle), slope])


def test_two_straight_tracks_meet_where_they_begin():
    rng = np.random.default_rng(5)
    error = []
    for _ in range(200):
        vertex = np.array([0.0, rng.uniform(0, 40), rng.uniform(150, 250)])
        tracks = way(0.9 + rng.uniform(-0.2, 0.2), 0.3), way(2.2 + rng.uniform(-0.2, 0.2), -0.3)
        where, radius = found(strips_of(vertex, tracks))
        if radius[0] >= 0:
            error.append(np.linalg.norm(where[0] - vertex))
            assert radius[0] == pytest.approx(np.hypot(where[0, 0], where[0, 1]), rel=1e-5)
    # A strip is 1 mm, the lever between the layers 12 mm, the way to the vertex up to 80 mm.
    assert len(error) > 120
    assert np.median(error) < 6.0


def test_one_track_or_one_layer_makes_no_vertex():
    vertex = np.array([0.0, 10.0, 200.0])
    both = strips_of(vertex, (way(0.9, 0.3), way(2.2, -0.3)))
    inner = both.copy()
    inner[:, VIEWS[2] :] = 0
    single = strips_of(vertex, (way(0.9, 0.3),))
    for bits in (single, inner, np.zeros_like(both)):
        where, radius = found(bits)
        assert radius[0] == -1
        assert not where.any()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), share=st.sampled_from([0.01, 0.05, 0.5, 1.0]))
def test_crowded_events_end_and_stay_within_bounds(seed, share):
    where, radius = found(random_bits(seed, 2, share))
    assert np.isfinite(where).all()
    assert ((radius == -1) | ((radius >= 0) & (radius < 70))).all()
