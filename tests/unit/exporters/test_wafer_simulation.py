"""The wafer simulator: reproducible, independent of chunks, and like what was measured."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.exporters.families.base import get
from sluice.exporters.families.wafers import LABELS, data, measured_files
from sluice.exporters.families.wafers.simulation.wafers import CROSSING_NS, charges, simulate
from sluice.kernels.wafer import unpack

EVENTS = 20_000


@pytest.fixture(scope="module")
def sample():
    return charges(EVENTS, seed=5)


@settings(max_examples=25)
@given(
    events=st.integers(0, 300),
    seed=st.integers(0, 2**31),
    block=st.integers(1, 400),
    first=st.integers(0, 2**40),
)
def test_an_event_depends_on_seed_and_number_alone(events, seed, block, first):
    whole = simulate(events, seed)
    family = replace(get("wafers"), block_events=block)
    parts = [family.block(count, seed, start) for count, start in family.spans(events)]
    for name, column in whole.items():
        joined = np.concatenate([part[name] for part in parts]) if parts else column[:0]
        np.testing.assert_array_equal(joined, column)
    np.testing.assert_array_equal(
        charges(events, seed, first)[1][1:], charges(max(0, events - 1), seed, first + 1)[1]
    )


def test_columns_are_those_of_the_schema():
    columns = simulate(4_000, seed=2)
    schema = get("wafers").schema
    assert tuple(columns) == schema.names
    for column in schema:
        assert columns[column.name].dtype == column.dtype
        assert columns[column.name].shape == (4_000, *column.shape)
    assert (np.diff(columns["t_event"]) == CROSSING_NS).all()
    header = columns["words"] >> 28
    assert (header[[0, 3564]] == 0x9).all()
    assert (np.delete(header, [0, 3564], axis=0) == 0xA).all()


def test_no_events_give_empty_columns():
    columns = simulate(0, seed=1)
    assert columns["words"].shape == (0, 12)
    assert columns["words"].dtype == np.uint32


def test_words_hold_the_charge_to_the_chip_s_precision(sample):
    charge = sample[1][:2_000]
    decoded = np.empty(charge.shape, np.float32)
    unpack(simulate(2_000, seed=5)["words"], decoded)
    assert np.all(np.abs(decoded - charge) <= np.maximum(4, charge / 16))


def test_seeds_differ():
    assert not np.array_equal(charges(100, seed=1)[1], charges(100, seed=2)[1])


@pytest.mark.parametrize(
    ("label", "share", "occupancy", "median_sum"),
    [
        ("electromagnetic", (0.23, 0.27), (8, 14), (700, 1700)),
        ("hadronic", (0.23, 0.27), (9, 16), (400, 1000)),
        ("pileup", (0.47, 0.53), (15, 23), (350, 750)),
    ],
)
def test_occupancy_and_charge_are_plausible(sample, label, share, occupancy, median_sum):
    truth, charge = sample
    chosen = charge[truth == LABELS.index(label)]
    assert share[0] < len(chosen) / EVENTS < share[1]
    assert occupancy[0] < (chosen > 0).sum(1).mean() < occupancy[1]
    assert median_sum[0] < np.median(chosen.sum(1)) < median_sum[1]


def test_electromagnetic_showers_are_narrower_than_hadronic(sample):
    truth, charge = sample
    held = charge[charge.any(1)]
    narrow = held.max(1) / held.sum(1)
    kind = truth[charge.any(1)]
    assert np.median(narrow[kind == 0]) > 1.4 * np.median(narrow[kind == 1])


def test_every_cell_is_hit_alike(sample):
    hits = (sample[1] > 0).mean(0)
    assert hits.max() < 1.4 * hits.min()


@pytest.mark.data("calq/CALQ_output.csv")
def test_pileup_is_like_the_measured_file(sample):
    measured = measured_files.measured("CALQ_output.csv")
    assert measured is not None
    truth, charge = sample
    simulated = data.wafers(charge[truth == LABELS.index("pileup")])
    for quantile in (0.25, 0.5, 0.75):
        for count in (lambda w: (w.charge > 0).sum(1), lambda w: w.total):
            ratio = np.quantile(count(simulated), quantile) / np.quantile(count(measured), quantile)
            assert 0.6 < ratio < 1.6
