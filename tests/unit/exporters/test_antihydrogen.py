"""The antihydrogen toy is like the published events; its nets, shifts and metrics are right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.exporters.families.antihydrogen import LABELS, data, detector, metrics
from sluice.exporters.families.antihydrogen.simulate import simulate, strips
from sluice.exporters.families.base import get
from sluice.kernels.antihydrogen.strips import VIEWS, Z
from sluice.pipeline.core.errors import DataError

EVENTS = 12_000
#: Nothing but two straight prongs and more through a perfect detector.
CLEAN = {
    detector.FIELD: 1e-6, detector.THICKNESS: 0.0, detector.LAYER_THICKNESS: 0.0,
    detector.EFFICIENCY: 1.0, detector.VIEW_EFFICIENCY: 1.0, detector.TAIL: 0.0,
    detector.NOISE: 0.0, detector.PHOTONS: 0.0, detector.GAP: 0.0, detector.DIFFUSION: 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def sample():
    return data.simulated(EVENTS, 5)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), first=st.integers(0, 2**40))
def test_an_event_depends_on_seed_and_number_alone(seed, first):
    whole, part = simulate(40, seed, first), simulate(25, seed, first + 15)
    for name, column in part.items():
        np.testing.assert_array_equal(column, whole[name][15:])


def test_coverage_is_like_the_published(sample):
    shares = metrics.shares(sample)
    published = {"none": 0.20, "one_layer": 0.07, "two_layers": 0.48, "vertex": 0.25}
    for name, share in published.items():
        assert abs(shares[name] - share) < 0.04, name


def test_the_vertex_finding_is_as_good_as_the_published(sample):
    assert abs(metrics.baseline(sample)["auc_vertex"] - 0.76) < 0.03


def test_clusters_are_like_the_real_ones(sample):
    for view, table in metrics.clusters(sample).items():
        assert 1.6 < table["clusters"] < 2.1, view
        low, high = (3.0, 3.9) if view.endswith("_z") else (2.0, 2.6)
        assert low < table["width"] < high, view


def test_a_clean_track_fires_one_strip_a_view_where_it_passes():
    _, bits = strips(2_000, 9, toy=CLEAN)
    views = [bits[:, VIEWS[k] : VIEWS[k + 1]] for k in range(4)]
    single = np.flatnonzero([all(view[n].sum() == 1 for view in views) for n in range(len(bits))])
    assert len(single) > 300
    inner, outer = views[1][single].argmax(1), views[3][single].argmax(1)
    # Without a field a track from within 40 mm turns by less than asin(40/78.5) - asin(40/90.3);
    # in a few events one track hits the inner layer and another one the outer.
    turn = np.abs((inner + 0.5) / 78.5 - (outer + 0.5) / 90.3)
    assert np.quantile(turn, 0.97) < 0.075 + 2 / 78.5


def test_wall_and_axis_are_where_they_should_be():
    for label, low, high in ((detector.WALL, 30, 52), (detector.AXIS, 0, 25)):
        truth, bits = strips(6_000, 4, toy={**CLEAN, detector.CLOUD: 3.0})
        events = data.packed(bits[truth == label])
        _, radius = data.Annihilations(events, truth[truth == label]).coverage()
        assert low < np.median(radius[radius >= 0]) < high


def test_both_classes_come_alike(sample):
    assert abs(sample.truth.mean() - 0.5) < 0.02
    assert get("antihydrogen").labels == LABELS == ("axis", "wall")


@pytest.mark.modules("torch")
def test_a_shift_moves_strips_and_loses_those_that_leave():
    import torch

    from sluice.exporters.families.antihydrogen.train import shift_along_z

    z = torch.zeros(64, 2, Z)
    z[:, 0, 100], z[:, 1, 110] = 1, 1
    moved = shift_along_z(z, 7, 7)
    assert moved[:, 0].argmax(1).tolist() == [107] * 64
    assert moved[:, 1].argmax(1).tolist() == [117] * 64
    assert shift_along_z(z, -105, -105)[:, 0].sum() == 0
    assert shift_along_z(z, -105, -105)[:, 1].argmax(1).tolist() == [5] * 64
    many = shift_along_z(z, -50, 300)[:, 0].argmax(1) - 100
    assert many.min() >= -50
    assert many.max() <= 300
    assert len(set(many.tolist())) > 20


@pytest.mark.modules("torch")
def test_the_net_is_the_published_one():
    from sluice.exporters.families.antihydrogen.model import CHANNELS, TwoPaths

    weights = sum(one.numel() for one in TwoPaths().parameters())
    assert 180_000 < weights < 220_000
    assert CHANNELS == (8, 16, 32, 64, 128)


def test_files_of_another_form_are_refused(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("0 1 0\n1 0 0\n")
    with pytest.raises(DataError, match="1431 columns"):
        data.read(path)
    path.write_text("a b\n")
    with pytest.raises(DataError, match="cannot read"):
        data.read(path)


@pytest.mark.data(*(f"antihydrogen/{name}" for name in data.FILES))
def test_real_events_are_read_and_covered_alike(sample):
    held = [data.real(name) for name in data.FILES]
    real, hit = data.joined(held), sample.part(sample.images()[2] > 0)
    assert len(real) == 200
    got, toy = metrics.shares(real), metrics.shares(hit)
    for name in ("one_layer", "two_layers", "vertex"):
        assert abs(got[name] - toy[name]) < 0.15, name
    assert metrics.baseline(real)["auc_vertex"] > 0.65
