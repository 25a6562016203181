"""The exact Earth mover's distance: literal numbers, bad input, refusals."""

import math

import numpy as np
import pytest

from sluice.kernels.emd.exact import MAX_CELLS, emd, emd_dual, emd_pairs, is_metric
from sluice.kernels.wafer import DISTANCE

LINE = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))


@pytest.fixture
def pair():
    p, q = np.zeros((1, 4)), np.zeros((1, 4))
    p[0], q[0] = [3, 1, 0, 0], [0, 1, 1, 2]
    return p, q


def test_a_pair_by_hand(pair):
    p, q = pair
    out, dual = np.empty(1), np.empty((1, 4))
    emd(p, q, LINE, out)
    assert out[0] == 1 * 2 + 2 * 3
    emd_dual(p, q, LINE, out, dual)
    assert out[0] == 8
    np.testing.assert_array_equal(dual[0] - dual[0, 3], [3, 2, 1, 0])


def test_distance_between_two_cells_is_theirs():
    cells = np.eye(48)
    for cell in range(48):
        got = emd_pairs(np.repeat(cells[[cell]], 48, axis=0), cells)
        np.testing.assert_array_equal(got, DISTANCE[cell])


@pytest.mark.parametrize("cells", [1, 2, MAX_CELLS])
def test_smallest_and_largest_number_of_cells(cells):
    masses = np.eye(cells)
    circle = np.abs(np.subtract.outer(np.arange(float(cells)), np.arange(float(cells))))
    everywhere = np.full((cells, cells), 1 / cells)
    np.testing.assert_allclose(emd_pairs(masses, everywhere, circle), circle.mean(axis=1))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1e-3])
@pytest.mark.parametrize("totals", ["normalise", "refuse"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_bad_distribution_has_no_distance_and_spoils_no_other(pair, bad, totals, swapped):
    p, q = (np.repeat(masses, 3, axis=0) for masses in pair)
    p[1, 3] = bad
    got = emd_pairs(*((q, p) if swapped else (p, q)), LINE, totals)
    assert np.isnan(got[1])
    np.testing.assert_array_equal(got[[0, 2]], [2, 2] if totals == "normalise" else [8, 8])


def test_without_mass_there_is_no_distance(pair):
    p, _ = pair
    nothing = np.zeros_like(p)
    for masses in ((p, nothing), (nothing, p), (nothing, nothing)):
        assert np.isnan(emd_pairs(*masses, LINE)).all()
    assert np.isnan(emd_pairs(nothing, nothing, LINE, "refuse")).all()


def test_unequal_totals_are_normalised_or_refused_as_asked(pair):
    p, q = pair
    assert emd_pairs(p, 5 * q, LINE)[0] == pytest.approx(2, rel=1e-12)
    with pytest.raises(ValueError, match="pair 0: expected equal totals, got 4 and 20"):
        emd_pairs(p, 5 * q, LINE, "refuse")
    out = np.empty(1)
    emd(p, 5 * q, LINE, out)
    assert np.isnan(out[0])


def test_totals_that_differ_by_rounding_are_equal(pair):
    p, q = pair
    p[0, 0] += 1e-10
    assert emd_pairs(p, q, LINE, "refuse")[0] == pytest.approx(8, rel=1e-9)
    q[0] = p[0]
    q[0, 1] += 1e-10
    assert emd_pairs(p, q, LINE, "refuse")[0] == 0


def test_extreme_scales(pair):
    p, q = pair
    for scale in (1e-200, 1e200):
        assert emd_pairs(p * scale, q * scale, LINE, "refuse")[0] == pytest.approx(8 * scale)
        assert emd_pairs(p, q, LINE * scale, "refuse")[0] == pytest.approx(8 * scale)
    assert np.isnan(emd_pairs(p * 1e-300, q * 1e-300, LINE, "refuse")[0])


def test_threads_change_nothing():
    random = np.random.default_rng(1)
    p, q = random.random((2, 9000, 48)).astype(np.float32)
    np.testing.assert_array_equal(emd_pairs(p, q, threads=3), emd_pairs(p, q))


def test_no_pairs():
    assert emd_pairs(np.empty((0, 48)), np.empty((0, 48))).shape == (0,)


def test_the_wafer_has_a_metric():
    assert is_metric(DISTANCE)


@pytest.mark.parametrize(
    "distance",
    [
        np.array([[0.0, 1.0], [2.0, 0.0]]),
        np.array([[0.0, -1.0], [-1.0, 0.0]]),
        np.array([[0.5, 1.0], [1.0, 0.0]]),
        np.array([[0.0, math.nan], [math.nan, 0.0]]),
        np.array([[0.0, math.inf], [math.inf, 0.0]]),
        np.square(LINE),
        np.zeros((2, 3)),
        np.zeros(4),
    ],
)
def test_what_is_no_metric(distance):
    assert not is_metric(distance)
    with pytest.raises(ValueError, match="expected a metric"):
        emd_pairs(np.ones((1, 2)), np.ones((1, 2)), distance)


def test_wrong_calls_are_refused(pair):
    p, q = pair
    out = np.empty(1)
    with pytest.raises(ValueError, match="expected p"):
        emd(p, q[:, :3].copy(), LINE, out)
    with pytest.raises(ValueError, match="expected p"):
        emd(p, q, LINE, np.empty(2))
    with pytest.raises(ValueError, match="1 to 64 cells"):
        emd(p, q, np.zeros((3, 3)), out)
    with pytest.raises(ValueError, match="1 to 64 cells"):
        emd(np.ones((1, 65)), np.ones((1, 65)), np.zeros((65, 65)), out)
    for wrong in (-LINE, np.full((4, 4), math.inf), np.full((4, 4), math.nan), LINE * 1e-260):
        with pytest.raises(ValueError, match="finite and not negative"):
            emd(p, q, wrong, out)
    with pytest.raises(ValueError, match="expected dual"):
        emd_dual(p, q, LINE, out, np.empty((1, 3)))
    with pytest.raises(ValueError, match=r"got \(1, 4\) and \(1, 4\)"):
        emd_pairs(p, q)
    with pytest.raises(ValueError, match="got 'scale'"):
        emd_pairs(p, q, LINE, "scale")
    with pytest.raises(TypeError, match="No matching definition"):
        emd(p.astype(np.float32), q, LINE, out)
