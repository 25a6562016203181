"""Muons go straight through strips and bars; annihilations leave from within; clocks are right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sluice.exporters.families.antihydrogen import detector
from sluice.exporters.families.base import get
from sluice.exporters.families.cosmics import simulate as toy
from sluice.kernels.antihydrogen.hodoscope import (
    AROUND,
    BARS,
    LATEST_NS,
    STEP_NS,
    time_since_first_hit,
)
from sluice.kernels.antihydrogen.strips import VIEWS
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.detectors.antihydrogen import Hodoscope


@pytest.fixture(scope="module")
def sample():
    return get("cosmics").block(4_000, 3, 0)


@pytest.fixture
def exact(monkeypatch):
    """Bars that see all, at once and without noise."""
    for name, value in (("EFFICIENCY", 1.0), ("RESOLUTION_NS", 0.0), ("NOISE", 0.0)):
        monkeypatch.setattr(toy, name, value)


def muon(way, at=(0.0, 0.0, toy.MIDDLE_MM)):
    """A muon's two tracks, (1, 2, 8)."""
    tracks = np.zeros((1, 2, detector.COLUMNS))
    tracks[0, :, :3] = at
    tracks[0, :, 3:6] = np.outer((1, -1), way)
    tracks[0, :, detector.SLOWNESS] = np.array((1, -1)) / detector.LIGHT
    return tracks


def test_a_muon_from_above_fires_four_bars_from_top_to_bottom(exact):
    way = np.array((0.05, -1.0, 0.0)) / np.hypot(0.05, 1.0)
    counts = toy.clocks(muon(way), np.random.default_rng(1))[0]
    top, bottom = AROUND // 4, 3 * AROUND // 4
    fired = np.flatnonzero(counts)
    assert [bar % AROUND for bar in fired] == [top, bottom] * 2
    order = fired[np.argsort(counts[fired])]
    assert order.tolist() == [AROUND + top, top, bottom, AROUND + bottom]
    flight = (counts[fired].max() - counts[fired].min()) * STEP_NS
    assert flight == pytest.approx(350.0 / detector.LIGHT, abs=STEP_NS)


def test_a_muon_fires_the_strips_that_it_crosses(monkeypatch):
    quiet = toy.TOY.copy()
    quiet[[detector.NOISE, detector.TAIL, detector.DIFFUSION]] = 0.0
    quiet[[detector.EFFICIENCY, detector.VIEW_EFFICIENCY]] = 1.0
    bits = np.empty((1, 1430), np.uint8)
    detector.deposit_hits(5, 0, quiet, muon((0.0, -1.0, 0.0), (0.0, 0.0, 200.5)), bits)
    views = [np.flatnonzero(bits[0, VIEWS[k] : VIEWS[k + 1]]) for k in range(4)]
    # Once a layer, for the lower half has none; a quarter of a turn from the first φ strip.
    assert [view.tolist() for view in (views[0], views[2])] == [[200], [200]]
    for view, radius in ((views[1], 78.5), (views[3], 90.3)):
        assert view.tolist() == [int(np.pi / 2 * radius)]


def test_tracks_that_miss_the_bars_or_are_none_fire_nothing(exact):
    far = muon((0.0, -1.0, 0.0), (300.0, 0.0, toy.MIDDLE_MM))
    beside = muon((0.0, -1.0, 0.0), (0.0, 0.0, toy.MIDDLE_MM + 300))
    for tracks in (far, beside, np.zeros((3, 4, detector.COLUMNS))):
        assert not toy.clocks(tracks, np.random.default_rng(1)).any()


def test_muons_come_by_the_square_of_the_cosine():
    down = -toy.straight(40_000, np.random.default_rng(2))[:, 0, 4]
    assert (down > 0).all()
    # The mean of cos θ is 3/4 where its density goes with cos² θ.
    assert down.mean() == pytest.approx(0.75, abs=0.005)


def test_every_readout_has_a_bar_of_each_ring_and_both_kinds_come_alike(sample):
    rings = sample["bars"].reshape(-1, 2, AROUND).any(axis=2)
    assert rings.all()
    assert abs(sample["truth"].mean() - 0.5) < 0.03
    fired = (sample["bars"] > 0).sum(axis=1)
    assert fired[sample["truth"] == 1].mean() > fired[sample["truth"] == 0].mean() + 1
    assert sample["bars"].max() * STEP_NS <= toy.WINDOW_NS


def test_annihilations_in_it_are_the_antihydrogen_family_s():
    truth, bits = np.empty(200, np.uint8), np.empty((200, 1430), np.uint8)
    others = np.empty_like(bits)
    tracks = np.empty((200, 24, detector.COLUMNS))
    detector.simulate_annihilations(4, 0, toy.TOY, truth, bits, tracks)
    detector.simulate_annihilations(
        4, 0, toy.TOY, truth, others, np.empty((200, 0, detector.COLUMNS))
    )
    np.testing.assert_array_equal(bits, others)
    held = tracks[tracks[..., detector.SLOWNESS] > 0]
    assert len(held) > 200
    assert (np.hypot(held[:, 0], held[:, 1]) >= 90.3).all()
    np.testing.assert_allclose(np.linalg.norm(held[:, 3:6], axis=1), 1.0, atol=1e-6)
    assert (held[:, detector.SLOWNESS] >= 1 / detector.LIGHT).all()


@given(arrays(np.uint16, (5, BARS), elements=st.sampled_from([0, 0, 1, 7, 90, 1_000, 65_535])))
def test_what_a_net_sees_is_the_time_after_the_first_bar(counts):
    seen = np.full((5, 2, BARS), -1, np.float32)
    time_since_first_hit(counts, seen)
    for event, (fired, late) in zip(counts.tolist(), seen.tolist(), strict=True):
        first = min([count for count in event if count], default=0)
        assert fired == [float(count > 0) for count in event]
        times = [np.float32(n - first) * np.float32(STEP_NS) if n else 0.0 for n in event]
        assert late == [min(float(time), LATEST_NS) for time in times]


def test_the_stage_adds_what_the_kernel_gives(sample):
    stage = Hodoscope("hodoscope", Hodoscope.Options())
    stage.open(64)
    batch = EventBatch({"bars": sample["bars"][:50]}, 50, 0)
    expected = np.empty((50, 2, BARS), np.float32)
    time_since_first_hit(sample["bars"][:50], expected)
    np.testing.assert_array_equal(stage.process(batch)["hodoscope"], expected)
