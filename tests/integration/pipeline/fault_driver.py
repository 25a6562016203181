"""Runs a replay again and again, each time with another file call that fails; a program.

It imports Sluice once and forks a process for each replay, which takes a tenth of the time of a new
interpreter. Started with the compiled `file_faults.c` as LD_PRELOAD, and with the arguments
FOLDER INPUT GRAPH ENGINE ERROR STRIDE, of which the last is the step from one call to the next.
ERROR is the number of the error, or ``before`` or ``after`` to kill the process that makes the
call; for ``after`` only calls of ``write`` count. Writes a line of JSON for each replay.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from sluice.pipeline.cli import main as sluice
from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.errors import SluiceError
from sluice.pipeline.engine.distributed.process import start_fork_server
from sluice.pipeline.service import daemon, run_report
from sluice.pipeline.tools import input_source, validation

#: Larger than the number of file calls of any replay here.
_MANY = 300
_PRELOADED = (daemon, run_report, input_source, validation, start_fork_server)


def run(arguments: Sequence[str], log: Path, fault: dict[str, str]) -> int:
    """Run a command in a fork of this process; return its exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 70
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ |= fault
        sys.argv = ["sluice", *arguments]
        sluice()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def main() -> None:
    """Replay with the first, the second, … call failing, until there are not so many calls."""
    folder, source, graph, engine, error, stride = sys.argv[1:]
    load_graph(graph)
    for number in range(1, _MANY, int(stride)):
        here = Path(folder) / str(number)
        here.mkdir()
        replay = ["replay", source, "--graph", graph, "--engine", engine, "--out",
                  f"{here}/o.arrows", "--report", f"{here}/r.json"]  # fmt: skip
        count, log = Path(f"{folder}/count-{number}"), Path(f"{folder}/log-{number}")
        fault = {"FAULT_FOLDER": f"{here}/", "FAULT_COUNT": str(count), "FAULT_AT": str(number),
                 **_kind(error)}  # fmt: skip
        code = run(replay, log, fault)
        calls = int(count.read_text() or 0) if count.exists() else 0
        said = log.read_text()
        reported = (here / "r.json").exists()
        (here / "o.first").write_bytes(_content(here))
        again = [*replay, "--resume"]
        second = run(again, log, {"FAULT_AT": "0"}) if code else 0
        if second:  # what there is has no begin-of-run record yet
            second = run([*replay, "--force"], log, {"FAULT_AT": "0"})
        sys.stdout.write(json.dumps({"number": number, "code": code, "calls": calls, "said": said,
                                     "reported": reported, "again": second}) + "\n")  # fmt: skip
        sys.stdout.flush()
        if calls < number:
            return


def _kind(error: str) -> dict[str, str]:
    """Return the environment of a kind of fault."""
    if error.isdigit():
        return {"FAULT_ERRNO": error}
    return {"FAULT_KILL": error} | ({"FAULT_CALLS": "write"} if error == "after" else {})


def _content(folder: Path) -> bytes:
    path = folder / "o.arrows"
    return path.read_bytes() if path.exists() else b""


if __name__ == "__main__":
    try:
        main()
    except SluiceError as failure:
        sys.exit(str(failure))
