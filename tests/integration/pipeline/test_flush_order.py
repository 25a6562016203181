"""The order of writes and flushes, by recorded system calls: what names data comes after the data.

A power failure keeps what was flushed, and any part of the rest. So a name or a record that leads
to data is written when the data is on the disk, and a folder is flushed after a name in it is new.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.output_files import write_whole
from sluice.pipeline.core.schema import EVENT_ID, Schema
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.run.run_numbers import RunNumbers
from sluice.pipeline.sinks.recording import RecordingSink

folder = Path(sys.argv[1])
for name, rotate_bytes in (("whole", 0), ("parts", 900)):
    options = RecordingSink.Options(
        columns=("event_id",), path=f"{folder}/{name}/o.arrows", compression="none",
        fsync="10 min", rotate_bytes=rotate_bytes,
    )
    sink = RecordingSink("out", options)
    sink.open(Schema((EVENT_ID,)), {"run": 1})
    for seq in range(3):
        ids = np.arange(100, dtype=np.uint64)
        commit = CommitRecord(next=seq + 1, events_by_batch=[100], kept=[100])
        sink.write(EventBatch({"event_id": ids}, 100, seq), commit)
    sink.close({"run": 1})
RunNumbers(folder / "state").allocate(None, lambda _: False)
write_whole(folder / "report" / "r.json", b"{}", replace=True)
"""
FLUSHES = ("fsync", "fdatasync")


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """Return the calls of the program below a folder, in order: name, path in the folder."""
    folder = tmp_path_factory.mktemp("calls")
    library, log, files = (folder / name for name in ("faults.so", "log", "files"))
    source = Path(__file__).with_name("file_faults.c")
    build = ["gcc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(build, check=True, timeout=60)
    env = {"LD_PRELOAD": str(library), "FAULT_FOLDER": str(files), "FAULT_LOG": str(log)}
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(files)], env=os.environ | env, check=True, timeout=60
    )
    found = [line.split(" ", 1) for line in log.read_text().splitlines()]
    return [(call, os.path.relpath(path, files)) for call, path in found]


class Calls(list):
    """Calls from a place on, with the next place at which one is found."""

    def after(self, path, *names):
        """Return the calls after the next one of these names on a path."""
        for place, call in enumerate(self):
            if call[1] == path and call[0] in names:
                return Calls(self[place + 1 :])
        pytest.fail(f"expected {names} of {path} in {self}")

    def of(self, path, *names):
        return [call for call in self if call[1] == path and call[0] in names]

    def until(self, rest):
        """Return the calls before those that `rest` begins with."""
        return Calls(self[: len(self) - len(rest)])


@pytest.mark.programs("gcc")
def test_the_end_of_a_file_is_written_after_its_data_is_flushed(calls):
    file = "whole/o.arrows"
    opened = Calls(calls).after(file, "open")
    named = opened.after("whole", "fsync")
    data = named.after(file, "write")
    flushed = data.after(file, *FLUSHES)
    ended = flushed.after(file, "write")
    last = ended.after(file, *FLUSHES)
    assert not last.of(file, "write")  # nothing is written that is not flushed
    assert len(data.until(flushed).of(file, "write")) >= 2  # the batches


def parts(calls):
    """Return the paths of the parts as they were opened; all but the first are renamed later."""
    return [path for call, path in calls if call == "open" and path.startswith("parts/")]


@pytest.mark.programs("gcc")
@pytest.mark.parametrize("number", [2, 3])
def test_a_part_names_the_next_when_its_beginning_is_flushed(calls, number):
    unfinished = parts(calls)[number - 1]
    before, part = (path.removesuffix(".new") for path in parts(calls)[number - 2 : number])
    opened = Calls(calls).after(unfinished, "open")
    flushed = opened.after(unfinished, *FLUSHES)
    assert opened.until(flushed).of(unfinished, "write")
    assert not opened.until(flushed).of(before, "write")
    named = flushed.after(before, "write")
    ended = named.after(before, *FLUSHES)
    renamed = ended.after(unfinished, "rename")
    safe = renamed.after("parts", "fsync")
    assert not renamed.until(safe).of(part, "write")
    assert safe.of(part, "write")
    assert not ended.of(before, "write")


@pytest.mark.programs("gcc")
def test_the_folder_of_the_first_part_is_flushed_before_a_batch_is_written(calls):
    first, second, _ = parts(calls)
    opened = Calls(calls).after(first, "open")
    named = opened.after("parts", "fsync")
    assert not opened.until(named).of(second, "open")
    assert named.of(first, "write")


@pytest.mark.programs("gcc")
def test_a_run_number_is_on_the_disk_before_it_is_used(calls):
    written = Calls(calls).after("state/runs.new", "write")
    flushed = written.after("state/runs.new", *FLUSHES)
    renamed = flushed.after("state/runs.new", "rename")
    renamed.after("state", "fsync")


@pytest.mark.programs("gcc")
def test_a_report_has_its_name_when_it_is_on_the_disk(calls):
    (new,) = {path for _, path in calls if path.startswith("report/.r.json")}
    Calls(calls).after(new, "write").after(new, *FLUSHES).after(new, "rename")
