"""The recent mean of a monitor, and the band of a reference run around it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.metrics.reference_band import ReferenceBand, read_reference_bands
from sluice.pipeline.metrics.totals import monitor_totals


def totals(*batches):
    block = MeterBlock([], ["emd"])
    (meter,) = block.monitor_meters()
    for values in batches:
        meter.record(np.asarray(values, np.float32))
    return monitor_totals([block])["emd"]


def values(mean, n, seed):
    return np.random.default_rng(seed).normal(mean, 0.2, n).clip(0.01)


def test_recent_mean_begins_as_the_plain_mean():
    first, second = values(0.5, 40, 1), values(0.5, 60, 2)
    expected = np.concatenate([first, second]).mean()
    assert totals(first, second).recent == pytest.approx(expected, rel=2e-2)
    assert totals(first).recent == pytest.approx(first.mean(), rel=1e-6)


def test_recent_mean_follows_a_shift_that_the_mean_hardly_shows():
    old = [values(0.5, 500, seed) for seed in range(100)]
    new = [values(0.7, 500, seed) for seed in range(100, 108)]
    total = totals(*old, *new)
    assert total.sum / total.n == pytest.approx(0.515, abs=0.01)
    assert total.recent == pytest.approx(0.7, abs=0.03)


def test_std_is_that_of_the_values():
    sample = values(0.6, 20_000, 5)
    assert totals(sample).std == pytest.approx(sample.std(), rel=0.03)


def test_workers_are_averaged_and_silent_ones_left_out():
    blocks = [MeterBlock(["s"], ["emd"]) for _ in range(3)]
    for block, mean in zip(blocks[:2], (0.4, 0.6), strict=True):
        block.monitor_meters()[0].record(np.full(100, mean, np.float32))
    assert monitor_totals(blocks)["emd"].recent == pytest.approx(0.5)


def reference(tmp_path, **keys):
    path = tmp_path / "reference.json"
    path.write_text(json.dumps({"emd": {"mean": 0.5, "std": 0.2, "n": 1000, **keys}}))
    return path


def test_band_holds_a_like_run_and_not_another(tmp_path):
    band = read_reference_bands(reference(tmp_path), ["emd"])["emd"]
    assert band == pytest.approx((0.5 - 0.0447, 0.5 + 0.0447), abs=1e-3)
    assert not band.is_outside(totals(values(0.5, 2000, 3)))
    assert band.is_outside(totals(values(0.6, 2000, 3)))
    assert band.is_outside(totals(values(0.4, 2000, 3)))


def test_few_values_raise_no_alarm():
    assert not ReferenceBand(0.0, 0.1).is_outside(totals(values(0.5, 99, 1)))
    assert ReferenceBand(0.0, 0.1).is_outside(totals(values(0.5, 100, 1)))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"emd": {"mean": null, "std": null, "n": 0}}'])
def test_what_is_no_reference_is_refused(tmp_path, text):
    path = tmp_path / "reference.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="reference"):
        read_reference_bands(path, ["emd"])


def test_missing_reference_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_reference_bands(tmp_path / "nowhere.json", ["emd"])
