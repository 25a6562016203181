"""Which run number and which files a run gets where others have written, and what it replaces."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

import pytest

from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.schema import EVENT_ID, Schema
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.run.run_numbers import RunNumbers
from sluice.pipeline.run.run_outputs import RunOutputs
from sluice.pipeline.sinks.recording import RecordingSink

REPORT = {"run": 1, "graph": "g", "events": {}, "closed": True}


def outputs(
    folder, *, out="run-{run:06d}.arrows", report=None, quarantine=None, force=False, **sink
):
    options = RecordingSink.Options(columns=("event_id",), path=str(folder / out), **sink)
    return RunOutputs(
        sink=RecordingSink("out", options),
        report=None if report is None else folder / report,
        quarantine=None if quarantine is None else folder / quarantine,
        force=force,
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def record(path):
    RecordingWriter(path, Schema((EVENT_ID,)), {"run": 1}).close()
    return path.read_bytes()


def test_daemons_with_states_of_their_own_share_the_numbers_of_a_folder(tmp_path):
    here = tmp_path / "here"
    found = [outputs(here).claim(RunNumbers(tmp_path / state), None) for state in "abac"]
    assert [run for run, _ in found] == [1, 2, 3, 4]
    assert [file.path for _, (file,) in found] == [
        here / f"run-{n:06d}.arrows" for n in (1, 2, 3, 4)
    ]
    assert names(here) == [file.path.name for _, (file,) in found]


def test_claims_at_the_same_time_are_different(tmp_path):
    found, go = [], threading.Barrier(8)

    def claim(state):
        go.wait()
        found.append(outputs(tmp_path / "here").claim(RunNumbers(tmp_path / state), None)[0])

    threads = [threading.Thread(target=claim, args=(f"state-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8


@pytest.mark.parametrize("other", ["report-1.json", "refused-1.arrows", "run-000001.arrows"])
def test_a_number_with_any_output_is_passed_over(tmp_path, other):
    (tmp_path / other).write_text("of somebody")
    claimed, _ = outputs(
        tmp_path, report="report-{run}.json", quarantine="refused-{run}.arrows", force=True
    ).claim(RunNumbers(tmp_path / "state"), None)
    assert claimed == 2
    assert (tmp_path / other).read_text() == "of somebody"


def test_a_given_number_is_refused_where_its_files_are(tmp_path):
    (tmp_path / "run-000007.arrows").write_text("of somebody")
    with pytest.raises(ConfigError, match=r"run-000007\.arrows: exists already"):
        outputs(tmp_path).claim(RunNumbers(tmp_path / "state"), 7)
    assert not (tmp_path / "state").exists()


def test_only_recordings_are_replaced_and_their_other_links_keep_the_content(tmp_path):
    path, link = tmp_path / "o.arrows", tmp_path / "link.arrows"
    before = record(path)
    link.hardlink_to(path)
    with pytest.raises(ConfigError, match="exists already"):
        outputs(tmp_path, out="o.arrows").claim(RunNumbers(tmp_path / "state"), None)
    _, (created,) = outputs(tmp_path, out="o.arrows", force=True).claim(
        RunNumbers(tmp_path / "state"), None
    )
    assert path.read_bytes() == b""
    created.undo()  # as after a start that was refused
    assert names(tmp_path) == ["link.arrows", "o.arrows", "state"]
    assert path.read_bytes() == before
    _, (created,) = outputs(tmp_path, out="o.arrows", force=True).claim(
        RunNumbers(tmp_path / "state"), None
    )
    created.keep()
    assert names(tmp_path) == ["link.arrows", "o.arrows", "state"]
    assert (path.read_bytes(), link.read_bytes()) == (b"", before)
    path.write_text("notes")
    with pytest.raises(ConfigError, match="expected a recording to replace"):
        outputs(tmp_path, out="o.arrows", force=True).claim(RunNumbers(tmp_path / "state"), None)
    assert path.read_text() == "notes"


def test_every_file_of_a_rotated_recording_counts(tmp_path):
    rotated = {"out": "o.arrows", "rotate_bytes": 1000}
    before = record(tmp_path / "o-0003.arrows")  # its metadata name no part: not of this recording
    (tmp_path / "o-0002.arrows").write_text("unreadable, so it may be one")
    with pytest.raises(ConfigError, match=r"o-0002\.arrows: exists already"):
        outputs(tmp_path, **rotated).claim(RunNumbers(tmp_path / "state"), None)
    with pytest.raises(ConfigError, match=r"o-0002\.arrows: expected a recording"):
        outputs(tmp_path, force=True, **rotated).claim(RunNumbers(tmp_path / "state"), None)
    (tmp_path / "o-0002.arrows").unlink()
    outputs(tmp_path, **rotated).claim(RunNumbers(tmp_path / "state"), None)
    assert (tmp_path / "o.arrows").read_bytes() == b""
    assert (tmp_path / "o-0003.arrows").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "replaced"),
    [(json.dumps(REPORT), True), ("", True), ('{"run": 1}', False), ("[1]", False), ("{", False)],
)
def test_only_a_report_is_replaced_by_a_report(tmp_path, content, replaced):
    (tmp_path / "r.json").write_text(content)
    mine = outputs(tmp_path, report="r.json", force=True)
    if replaced:
        mine.require_replaceable(1)
        return
    with pytest.raises(ConfigError, match="expected a run report to replace"):
        mine.require_replaceable(1)


@pytest.mark.parametrize("kind", ["folder", "FIFO", "symbolic link", "socket"])
def test_what_is_no_file_is_refused(tmp_path, kind):
    path = tmp_path / "o.arrows"
    with socket.socket(socket.AF_UNIX) as bound:
        make = {"folder": path.mkdir, "FIFO": lambda: os.mkfifo(path),
                "symbolic link": lambda: path.symlink_to(tmp_path / "nowhere"),
                "socket": lambda: bound.bind(str(path))}  # fmt: skip
        make[kind]()
        with pytest.raises(ConfigError, match=f"expected a file to write, got a {kind}"):
            outputs(tmp_path, out="o.arrows", force=True).claim(RunNumbers(tmp_path / "s"), None)
    assert not (tmp_path / "nowhere").exists()


def test_a_character_device_is_left_alone(tmp_path):
    sink = outputs(Path("/dev"), out="null")
    assert sink.claim(RunNumbers(tmp_path / "state"), None) == (1, [])
