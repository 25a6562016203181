"""Jets against FastJet, against sums written out, and against shapes known in closed form."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sluice.kernels.jets import observables

Floats = NDArray[np.float64]
#: Step of η and φ of which float32 has all multiples up to 16.
GRID = 2.0**-20
#: Of an observable: to float32 once, and sums of float64 in another order.
ROUNDING = 2.0**-23
COLUMN = {name: index for index, name in enumerate(observables.OBSERVABLES)}


def observe(*events: Floats) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Observables, kinematics and status of events given as (C, 3) arrays of pt, eta, phi."""
    flat = np.concatenate([*events, np.empty((0, 3))]).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum([len(event) for event in events])]).astype(np.int64)
    found = np.empty((len(events), 10), np.float32)
    kinematics = np.empty((len(events), 4), np.float32)
    status = np.empty(len(events), np.uint8)
    columns = (np.ascontiguousarray(flat[:, k]) for k in range(3))
    observables.measure_substructure(offsets, *columns, found, kinematics, status)
    return found, kinematics, status


def one(event: Floats) -> dict[str, float]:
    values = observe(event)[0][0]
    return {name: float(values[index]) for name, index in COLUMN.items()}


def shower(rng: np.random.Generator, size: int) -> Floats:
    """A hard core of two prongs with soft wide radiation, and an event around it."""
    pt = rng.exponential(8.0, size) + 0.5
    pt[:2] += rng.uniform(60.0, 300.0, 2)
    eta, phi = rng.normal(0.3, 0.35, size), rng.normal(3.0, 0.35, size)
    far = size // 4
    eta[-far:], phi[-far:] = rng.uniform(-2.5, 2.5, far), rng.uniform(-math.pi, math.pi, far)
    phi = (phi + math.pi) % (2.0 * math.pi) - math.pi
    return np.stack([pt, eta, phi], -1).astype(np.float32).astype(np.float64)


def momenta(event: Floats) -> Floats:
    pt, eta, phi = event.T
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], -1)


class Oracle:
    """The same jet by FastJet."""

    def __init__(self, event: Floats) -> None:
        import fastjet

        points = [fastjet.PseudoJet(*map(float, p)) for p in momenta(event)]
        self._held = [fastjet.ClusterSequence(points, self._kind("antikt_algorithm", 1.0))]
        jet = max(self._held[0].inclusive_jets(), key=lambda one: one.pt())
        members = list(jet.constituents())
        self._held.append(fastjet.ClusterSequence(members, self._kind("kt_algorithm", 0.2)))
        subjets = self._held[1].inclusive_jets()
        kept = [one for one in subjets if one.pt() > 0.05 * jet.pt()]
        self.members = [point for one in kept for point in one.constituents()]
        self._held.append(fastjet.ClusterSequence(self.members, self._kind("kt_algorithm", 1000.0)))
        self.jet = self._held[2].exclusive_jets(1)[0]
        self.pair = list(self._held[2].exclusive_jets(2)) if len(self.members) > 1 else []

    @staticmethod
    def _kind(name: str, radius: float) -> object:
        import fastjet

        return fastjet.JetDefinition(getattr(fastjet, name), radius)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.modules("fastjet")
def test_agrees_with_fastjet(seed: int) -> None:
    rng = np.random.default_rng(seed)
    event = shower(rng, int(rng.integers(8, 200)))
    oracle = Oracle(event)
    found, kinematics, _ = observe(event)
    expected = [oracle.jet.pt(), oracle.jet.eta(), oracle.jet.phi_std(), oracle.jet.m()]
    np.testing.assert_allclose(kinematics[0], expected, rtol=2e-5, atol=2e-4)
    first, second = oracle.pair
    apart = first.delta_R(second)
    split = min(first.pt(), second.pt()) * apart
    values = {
        "kt_dr": apart,
        "split12": split,
        "zcut12": split**2 / (split**2 + (first + second).m2()),
        "tau21": sum(p.pt() * min(p.delta_R(first), p.delta_R(second)) for p in oracle.members)
        / sum(p.pt() * p.delta_R(oracle.jet) for p in oracle.members),
    }
    for name, value in values.items():
        assert found[0, COLUMN[name]] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.modules("fastjet")
def test_energy_correlators_are_the_sums_over_pairs_and_triples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    members = Oracle(shower(rng, 40)).members
    one_point = sum(p.pt() for p in members)
    two = sum(p.pt() * q.pt() * p.delta_R(q) for p, q in combinations(members, 2))
    three = sum(
        p.pt() * q.pt() * r.pt() * p.delta_R(q) * q.delta_R(r) * r.delta_R(p)
        for p, q, r in combinations(members, 3)
    )
    values = one(shower(np.random.default_rng(seed), 40))
    assert values["c2"] == pytest.approx(three * one_point / two**2, rel=1e-5)
    assert values["d2"] == pytest.approx(three * one_point**3 / two**3, rel=1e-5)


def in_frame(directions: Floats, energy: float, boost: float) -> Floats:
    """Massless momenta seen from a frame in which their sum moves along x with gamma `boost`."""
    beta = math.sqrt(1.0 - 1.0 / boost**2)
    e = np.full(len(directions), energy)
    p = directions * energy
    px = boost * (p[:, 0] + beta * e)
    pt = np.hypot(px, p[:, 1])
    return np.stack([pt, np.arcsinh(p[:, 2] / pt), np.arctan2(p[:, 1], px)], -1)


def test_two_prongs() -> None:
    values = one(np.array([[300.0, 0.1, 1.0], [200.0, -0.2, 1.4]]))
    assert values["tau21"] == values["c2"] == values["d2"] == 0.0
    assert values["kt_dr"] == pytest.approx(0.5, rel=1e-6)
    assert values["split12"] == pytest.approx(100.0, rel=1e-6)
    mass2 = 2.0 * 300.0 * 200.0 * (math.cosh(0.3) - math.cos(0.4))
    assert values["zcut12"] == pytest.approx(1e4 / (1e4 + mass2), rel=1e-5)
    assert values["planar_flow"] == pytest.approx(0.0, abs=1e-6)
    assert values["fox_wolfram_20"] == pytest.approx(1.0, abs=1e-5)
    assert values["aplanarity"] == pytest.approx(0.0, abs=1e-6)


def test_a_ring_is_a_disc_to_planar_flow() -> None:
    angle = 2.0 * math.pi * np.arange(12) / 12
    ring = np.stack([np.zeros(12), np.cos(angle), np.sin(angle)], -1)
    values = one(in_frame(ring, 40.0, 5.0))
    assert values["planar_flow"] == pytest.approx(1.0, rel=1e-4)
    # In its own frame it is flat: no aplanarity, and a quarter of a line's second moment.
    assert values["aplanarity"] == pytest.approx(0.0, abs=1e-5)
    assert values["fox_wolfram_20"] == pytest.approx(0.25, rel=1e-3)


def test_an_octahedron_is_isotropic_at_rest() -> None:
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    # Turned, so that none flies against the boost.
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    values = one(in_frame(axes @ turn, 30.0, 4.0))
    assert values["aplanarity"] == pytest.approx(0.5, rel=2e-3)
    assert values["fox_wolfram_20"] == pytest.approx(0.0, abs=2e-3)


def test_angularity_of_two_equal_prongs() -> None:
    half, energy = 0.3, 200.0
    event = np.array([[energy, 0.0, half], [energy, 0.0, -half]])
    theta = half * math.pi / 2.0
    mass = 2.0 * energy * math.sin(half)
    expected = 2.0 * energy * math.sin(theta) ** -2 * (1.0 - math.cos(theta)) ** 3 / mass
    assert one(event)["angularity"] == pytest.approx(expected, rel=1e-5)


def on_a_grid(event: Floats) -> Floats:
    """Round η and φ, so that float32 takes them moved by whole steps without rounding them."""
    event[:, 1:] = np.round(np.clip(event[:, 1:], -3.0, 3.0) / GRID) * GRID
    return event


@given(
    st.integers(0, 2**32), st.integers(4, 120), st.integers(-(2**20), 2**20),
    st.integers(-(2**20), 2**20), st.booleans(),
)  # fmt: skip
def test_moving_mirroring_and_mixing_changes_nothing(
    seed: int, size: int, along: int, around: int, mirrored: bool
) -> None:
    rng = np.random.default_rng(seed)
    event = on_a_grid(shower(rng, size))
    moved = event[rng.permutation(size)] + [0.0, along * GRID, around * GRID]
    moved[:, 1:] *= -1.0 if mirrored else 1.0
    before, after = one(event), one(moved)
    for name in ("tau21", "c2", "d2", "kt_dr", "split12", "zcut12", "fox_wolfram_20"):
        assert after[name] == pytest.approx(before[name], rel=ROUNDING, abs=1e-12), name


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(0, 2**32))
def test_a_jet_does_not_depend_on_its_batch(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    events = [shower(rng, size) if size >= 4 else np.empty((0, 3)) for size in sizes]
    together, kinematics, status = observe(*events)
    assert not status.any()
    for n, event in enumerate(events):
        alone, own, _ = observe(event)
        np.testing.assert_array_equal(alone[0], together[n])
        np.testing.assert_array_equal(own[0], kinematics[n])


def test_unsound_events_are_marked_and_spoil_no_other() -> None:
    good = shower(np.random.default_rng(1), 30)
    endless, negative = good.copy(), good.copy()
    endless[3, 1], negative[2, 0] = np.nan, -1.0
    found, kinematics, status = observe(good, endless, np.empty((0, 3)), negative, good)
    assert status.tolist() == [
        observables.SOUND,
        observables.NOT_FINITE,
        observables.SOUND,
        observables.NEGATIVE,
        observables.SOUND,
    ]
    assert not found[1:4].any()
    assert not kinematics[1:4].any()
    np.testing.assert_array_equal(found[0], found[4])


@pytest.mark.parametrize("event", [[[0.0, 0.0, 0.0]], [[50.0, 9.0, 3.0]], [[50.0, 0.0, 0.0]] * 3])
def test_degenerate_jets_give_numbers(event: list[list[float]]) -> None:
    found, kinematics, status = observe(np.array(event))
    assert np.isfinite(found).all()
    assert np.isfinite(kinematics).all()
    assert not status.any()
