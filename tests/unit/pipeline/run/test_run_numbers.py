"""Run numbers: never twice, whoever asks, whatever was asked for, whatever broke."""

from __future__ import annotations

import json
import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.run.run_numbers import (
    MAX_RUN_NUMBER,
    UNNUMBERED,
    RunNumbers,
    expand_run_number,
    state_folder,
)


def test_numbers_count_up_from_one_and_go_on_after_one_that_was_requested(tmp_path):
    numbers = RunNumbers(tmp_path / "new" / "state")
    assert [numbers.allocate() for _ in range(3)] == [1, 2, 3]
    assert numbers.allocate(100) == 100
    assert numbers.allocate(50) == 50
    assert RunNumbers(tmp_path / "new" / "state").allocate() == 101


def test_a_number_is_given_once(tmp_path):
    numbers = RunNumbers(tmp_path)
    numbers.allocate(7)
    numbers.allocate()
    for used in (7, 8):
        with pytest.raises(ConfigError, match=f"run {used}: expected a number .* never used"):
            numbers.allocate(used)
    assert numbers.allocate() == 9


def test_a_trial_leaves_no_trace(tmp_path):
    numbers = RunNumbers(tmp_path)
    assert [numbers.allocate(0), numbers.allocate(0)] == [0, 0]
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.one_of(st.none(), st.integers(1, 12)), max_size=30))
def test_any_requests_keep_the_file_small_and_the_numbers_apart(tmp_path_factory, requested):
    folder = tmp_path_factory.mktemp("numbers")
    got = []
    for number in requested:
        try:
            got.append(RunNumbers(folder).allocate(number))
        except ConfigError:
            assert number in got
    assert len(got) == len(set(got))
    if got:
        ranges = json.loads((folder / "runs.json").read_bytes())["given"]
        assert {n for first, last in ranges for n in range(first, last + 1)} == set(got)
        assert all(a[1] + 1 < b[0] for a, b in pairwise(ranges))


def test_the_last_number_has_no_successor(tmp_path):
    numbers = RunNumbers(tmp_path)
    numbers.allocate(MAX_RUN_NUMBER)
    with pytest.raises(ConfigError, match="there is no next one"):
        numbers.allocate()
    assert numbers.allocate(1) == 1


@pytest.mark.parametrize("damage", [b"", b"{", b'{"given": [[1]]}', b'{"gven": []}', b"\xff\xfe"])
def test_a_damaged_file_is_named_and_left_alone(tmp_path, damage):
    (tmp_path / "runs.json").write_bytes(damage)
    with pytest.raises(ConfigError, match=r"runs\.json"):
        RunNumbers(tmp_path).allocate()
    assert (tmp_path / "runs.json").read_bytes() == damage


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot use the state folder") as refused:
        RunNumbers(tmp_path / "file" / "state").allocate()
    assert "SLUICE_STATE" in str(refused.value)


def test_a_crash_before_the_file_is_replaced_changes_nothing(tmp_path):
    RunNumbers(tmp_path).allocate()
    (tmp_path / "runs.new").write_bytes(b'{"given": [[1,')  # torn: the writer died here
    assert RunNumbers(tmp_path).allocate() == 2


def test_where_the_state_folder_is(monkeypatch, tmp_path):
    monkeypatch.setenv("SLUICE_STATE", "/from/the/environment")
    assert str(state_folder("/from/the/graph")) == "/from/the/graph"
    assert str(state_folder("")) == "/from/the/environment"
    monkeypatch.delenv("SLUICE_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder("") == tmp_path / "sluice"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder("") == tmp_path / ".local" / "state" / "sluice"


def test_paths_with_the_run_number(tmp_path):
    assert expand_run_number(tmp_path / "r-{run}.json", 5) == tmp_path / "r-5.json"
    assert expand_run_number(None, 5) is None
    with pytest.raises(ConfigError, match="braces only around run"):
        expand_run_number(tmp_path / "r-{number}.json", 5)


def test_a_number_is_checked_without_being_taken(tmp_path):
    numbers = RunNumbers(tmp_path)
    numbers.allocate(7)
    with pytest.raises(ConfigError, match="run 7: expected a number that was never used"):
        numbers.require_free(7)
    for free in (8, None, UNNUMBERED):
        numbers.require_free(free)
    assert numbers.allocate(8) == 8


def test_the_largest_number_fits_the_header_of_a_message(tmp_path):
    numbers = RunNumbers(tmp_path)
    assert numbers.allocate(2**32 - 1) == 4_294_967_295
    with pytest.raises(ConfigError, match="run numbers: 4294967295 was used, there is no next one"):
        numbers.allocate()


def test_no_descriptor_stays_open(tmp_path):
    numbers = RunNumbers(tmp_path)
    numbers.allocate()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        numbers.allocate()
    assert len(os.listdir("/proc/self/fd")) == before
