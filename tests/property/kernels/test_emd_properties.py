"""The exact Earth mover's distance against POT, its dual, and the axioms of a norm."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sluice.kernels.emd.exact import emd, emd_dual, emd_pairs, is_metric
from sluice.kernels.wafer import DISTANCE

ot = pytest.importorskip("ot")

#: What `emd` promises: error by mass and by largest distance.
ACCURACY = 2.0**-45
WHOLE = st.integers(0, 6).map(float)
SPARSE = st.sampled_from([0.0, 0.0, 0.0, 0.0, 1.0, 3.0])
REAL = st.floats(0, 1e6, allow_subnormal=False).map(lambda mass: mass if mass > 1e-6 else 0.0)
MASSES = st.sampled_from([WHOLE, SPARSE, REAL])


def distributions(cells):
    return MASSES.flatmap(lambda element: hnp.arrays(np.float64, cells, elements=element))


def single(cells):
    return st.builds(
        lambda cell, mass: np.eye(cells)[cell] * mass,
        st.integers(0, cells - 1),
        st.floats(1e-3, 1e3),
    )


@st.composite
def metrics(draw, cells):
    """Euclidean distances of points of a small lattice (ties, coincidences) or of the plane."""
    axis = st.sampled_from(
        [st.integers(0, 3).map(float), st.integers(-9999, 9999).map(lambda n: n / 1000)]
    )
    points = draw(hnp.arrays(np.float64, (cells, 2), elements=draw(axis)))
    order = draw(st.sampled_from([1, 2, np.inf]))
    return np.linalg.norm(points[:, None] - points[None], ord=order, axis=2)


@st.composite
def problems(draw, max_size=64):
    if max_size >= 48 and draw(st.booleans()):
        distance = np.array(DISTANCE)
    else:
        distance = draw(metrics(draw(st.integers(1, max_size))))
    cells = len(distance)
    p, q = (draw(distributions(cells) | single(cells)) for _ in "pq")
    assume(p.any() and q.any())
    return p / p.sum(), q / q.sum(), distance


def solve(p, q, distance, kernel=emd):
    out = np.empty(1)
    kernel(p[None], q[None], distance, out)
    return float(out[0])


def rounding(distance):
    """Return the error that a distance between two distributions of mass 1 may have."""
    return ACCURACY * distance.max()


def max_cells(implementation):
    """Return how many cells are not too many for the simulator."""
    return 9 if implementation.simulated else 64


def certify(p, q, distance):
    out, dual = np.empty(1), np.empty((1, len(p)))
    emd_dual(p[None], q[None], distance, out, dual)
    return float(out[0]), dual[0]


def pot(p, q, distance):
    return float(ot.emd2(p, q, distance, numItermax=1_000_000))


def test_emd_is_that_of_pot(implementation):
    kernel = implementation.kernels("emd.exact").emd

    @example((np.eye(48)[0], np.eye(48)[47], np.array(DISTANCE)))
    @example((np.eye(48)[3], np.eye(48)[3], np.array(DISTANCE)))
    def holds(problem):
        p, q, distance = problem
        assert abs(solve(p, q, distance, kernel) - pot(p, q, distance)) <= rounding(distance)

    implementation.check(holds, problems(max_cells(implementation)), few=12)


@given(problems())
def test_the_dual_certifies_the_value(problem):
    p, q, distance = problem
    value, dual = certify(p, q, distance)
    assert value == solve(p, q, distance)
    assert abs((dual * (p - q)).sum() - value) <= rounding(distance)
    steps = np.abs(dual[:, None] - dual[None])
    # Each is a sum of at most 64 distances, rounded once: within 128 parts of 2**53.
    assert (steps <= distance + rounding(distance)).all()


def test_whole_masses_on_a_line_are_exact(implementation):
    kernel, cells = implementation.kernels("emd.exact").emd, min(48, max_cells(implementation))

    def holds(p, random):
        # On a line the distance is the area between the two cumulative sums.
        q = np.array(random.sample(list(p), len(p)))
        assume(p.any())
        distance = np.abs(np.subtract.outer(np.arange(cells * 1.0), np.arange(cells * 1.0)))
        assert solve(p, q, distance, kernel) == np.abs(np.cumsum(p - q)).sum()

    masses = hnp.arrays(np.float64, cells, elements=WHOLE)
    implementation.check(holds, masses, st.randoms(use_true_random=False))


@given(problems())
def test_identical_distributions_are_at_zero_exactly(problem):
    p, _, distance = problem
    value, dual = certify(p, p, distance)
    assert value == 0
    assert not dual.any()


def test_symmetric_and_homogeneous(implementation):
    kernel = implementation.kernels("emd.exact").emd

    def holds(problem, power):
        p, q, distance = problem
        value = solve(p, q, distance, kernel)
        assert abs(solve(q, p, distance, kernel) - value) <= 2 * rounding(distance)
        scale = 2.0**power
        assert solve(p * scale, q * scale, distance, kernel) == value * scale
        assert solve(p, q, distance * scale, kernel) == value * scale

    implementation.check(holds, problems(max_cells(implementation)), st.integers(-60, 60))


@given(st.data())
def test_triangle_inequality_and_a_common_part_that_cancels(data):
    parts = [data.draw(distributions(48)) for _ in range(3)]
    assume(all(part.any() for part in parts))
    p, q, r = (part / part.sum() for part in parts)
    distance = np.array(DISTANCE)
    direct = solve(p, r, distance)
    detour = solve(p, q, distance) + solve(q, r, distance)
    assert direct <= detour + 3 * rounding(distance)
    # Masses of 2, and one of 1.
    assert abs(solve(p + q, r + q, distance) - direct) <= 3 * rounding(distance)


def test_a_small_move_costs_its_mass_times_its_way(implementation):
    kernel = implementation.kernels("emd.exact").emd

    def holds(start, end, share):
        p = np.full(48, 2.0)
        q = p.copy()
        q[start] -= share
        q[end] += share
        # What 2 + share loses to rounding is not moved, and a few products are rounded.
        slack = (2.0**-52 + share * 2.0**-50) * DISTANCE[start, end]
        expected = pytest.approx((p[start] - q[start]) * DISTANCE[start, end], rel=0, abs=slack)
        if start != end:
            assert solve(p, q, np.array(DISTANCE), kernel) == expected

    implementation.check(holds, st.integers(0, 47), st.integers(0, 47), st.floats(1e-6, 1.0))


@given(hnp.arrays(np.float32, (3, 48), elements=st.floats(0, 1e4, width=32)), st.integers(1, 3))
def test_pairs_are_normalised_whatever_their_type(charge, threads):
    assume((charge.sum(axis=1) > 0).all())
    other = np.roll(charge, 1, axis=0)
    got = emd_pairs(charge, other, threads=threads)
    for value, a, b in zip(got, charge.astype(np.float64), other.astype(np.float64), strict=True):
        expected = pot(a / a.sum(), b / b.sum(), np.array(DISTANCE))
        assert abs(value - expected) <= rounding(DISTANCE)


@given(st.data())
def test_norms_are_metrics_and_a_long_way_round_is_found(data):
    distance = data.draw(metrics(data.draw(st.integers(3, 12))))
    assert is_metric(distance)
    a, b, c = data.draw(st.permutations(range(len(distance))))[:3]
    longer = distance[a, c] + distance[c, b] + 0.1 * distance.max()
    assume(distance.max() > 0)
    distance[a, b] = distance[b, a] = longer
    assert not is_metric(distance)
