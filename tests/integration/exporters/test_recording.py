"""Simulated recordings: the same file in any number of processes, and after a cut."""

from dataclasses import replace

import pytest

from sluice.exporters.families.base import get
from sluice.exporters.simulation.record import record
from sluice.pipeline.core.errors import ConfigError

EVENTS, SEED = 1_000, 4


@pytest.fixture
def family():
    return replace(get("wafers"), block_events=150)


@pytest.fixture
def whole(family, tmp_path):
    path = tmp_path / "whole.arrows"
    record(family, EVENTS, SEED, path)
    return path


def test_processes_make_the_same_file(family, whole, tmp_path):
    path = tmp_path / "side-by-side.arrows"
    record(family, EVENTS, SEED, path, processes=2)
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_a_file_that_was_cut_short_is_completed(family, whole, tmp_path, share):
    data = whole.read_bytes()
    path = tmp_path / "cut.arrows"
    path.write_bytes(data[: int(share * len(data))])
    record(family, EVENTS, SEED, path, resume=True)
    assert path.read_bytes() == data


def test_other_events_are_not_gone_on_with(family, whole):
    with pytest.raises(ConfigError, match="cannot go on"):
        record(family, EVENTS, SEED + 1, whole, resume=True)
