"""What cannot be printed loses nothing: reports are written, exit codes say how the run ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.integration.conftest import SLUICE

#: Redirections of a shell, by what they make of the standard streams.
STREAMS = {
    "full disk": ">/dev/full 2>/dev/full",
    "closed": "<&- >&- 2>&-",
    "no reader": "> >(exec true) 2> >(exec true)",
}


def shell(redirection, *arguments, folder, **env):
    command = f'sleep 0.2; exec "$0" "$@" {redirection}'
    return subprocess.run(
        ["bash", "-c", command, str(SLUICE), *map(str, arguments)],
        cwd=folder, env={**os.environ, **env}, capture_output=True, timeout=100, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("streams", "engine"),
    [("full disk", "inline"), ("no reader", "inline"), ("closed", "distributed")],
)
def test_a_run_whose_text_cannot_be_written(streams, engine, wafers, tmp_path, load_report):
    done = shell(
        STREAMS[streams], "replay", wafers, "--graph", "hgcal", "--engine", engine, "--out",
        "o.arrows", "--report", "r.json", folder=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    report = load_report(tmp_path / "r.json")
    assert (report["state"], report["events"]["offered"]) == ("STOPPED", 20_000)
    assert report["output"]["events"] == report["events"]["accepted"]


def test_a_locale_without_the_characters_of_the_summary(wafers, tmp_path, load_report):
    done = shell(
        "", "replay", wafers, "--graph", "hgcal", "--engine", "inline", "--out", "ö.arrows",
        "--report", "é.json", folder=tmp_path, LC_ALL="C", PYTHONIOENCODING="ascii",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert rb"run 1 \xb7 graph hgcal" in done.stdout
    assert load_report(tmp_path / "é.json")["closed"]


@pytest.mark.parametrize(
    ("redirection", "code", "words"),
    [(">/dev/full", 1, b"standard output: cannot write: No space left"), (">&-", 0, b"")],
)
def test_a_command_whose_text_is_its_result(redirection, code, words, tmp_path):
    done = shell(redirection, "--version", folder=tmp_path)
    assert done.returncode == code
    assert words in done.stderr


def test_the_standard_descriptors_are_never_taken_by_other_files(tmp_path):
    program = (
        "import os, sys, json\n"
        "from sluice.pipeline.system.standard_streams import protect_standard_streams\n"
        "protect_standard_streams()\n"
        "opened = os.open('file', os.O_CREAT | os.O_WRONLY)\n"
        "print('lost')\n"
        "sys.stderr.write('lost')\n"
        "names = [os.readlink(f'/proc/self/fd/{n}') for n in range(3)]\n"
        "os.write(opened, json.dumps(names).encode())\n"
    )
    command = 'exec "$0" -c "$1" <&- >&- 2>&-'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, program], cwd=tmp_path, check=False
    )
    assert done.returncode == 0
    assert json.loads((tmp_path / "file").read_text()) == [os.devnull] * 3
