"""The report's file, and the descriptors that are kept for the end of a run."""

from __future__ import annotations

import errno
import json
import os

import pytest

from sluice.pipeline.core.errors import RunError
from sluice.pipeline.service import run_report
from sluice.pipeline.service.run_report import DescriptorReserve, write_report


def _open_descriptors():
    return set(os.listdir("/proc/self/fd"))


def test_descriptors_are_given_back_by_halves():
    before = len(_open_descriptors())
    reserve = DescriptorReserve()
    assert len(_open_descriptors()) == before + 16
    reserve.release(half=True)
    assert len(_open_descriptors()) == before + 8
    reserve.release(half=True)
    assert len(_open_descriptors()) == before + 8
    reserve.release()
    assert len(_open_descriptors()) == before


class Clock:
    """A clock on which sleeping is the only thing that takes time."""

    def __init__(self):
        self.now_s = 1000.0

    def monotonic(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(run_report, "time", clock)
    return clock


@pytest.fixture
def no_descriptors(monkeypatch, clock):
    """Return a function that lets writes fail for some seconds, with an error number."""
    write = run_report.write_whole

    def fail(seconds, number):
        began_s = clock.now_s

        def write_whole(path, content, *, replace):
            if clock.now_s < began_s + seconds:
                raise OSError(number, os.strerror(number))
            write(path, content, replace=replace)

        monkeypatch.setattr(run_report, "write_whole", write_whole)

    return fail


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_report_waits_for_a_descriptor(tmp_path, no_descriptors, clock, number):
    no_descriptors(3.0, number)
    write_report({"run": 7, "events": 5}, tmp_path / "report-{run}.json", replace=False)
    assert json.loads((tmp_path / "report-7.json").read_text()) == {"run": 7, "events": 5}
    assert clock.now_s == pytest.approx(1003.0, abs=0.2)  # two intervals between tries


def test_a_report_does_not_wait_for_ever(tmp_path, no_descriptors, clock):
    no_descriptors(3600.0, errno.EMFILE)
    with pytest.raises(RunError, match=r"report: cannot write .*report.json: Too many open files"):
        write_report({"run": 7}, tmp_path / "report.json", replace=False)
    assert 1005.0 <= clock.now_s <= 1006.0


def test_another_error_is_no_reason_to_wait(tmp_path, no_descriptors, clock):
    no_descriptors(3600.0, errno.ENOSPC)
    with pytest.raises(RunError, match="No space left on device"):
        write_report({"run": 7}, tmp_path / "report.json", replace=False)
    assert clock.now_s == 1000.0


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_report({"run": 7}, None, replace=True)
    assert list(tmp_path.iterdir()) == []
