"""A replay through a chain of workers, whose engine is killed and whose recording is resumed."""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import tomli_w

from sluice.pipeline.config.graph_file import load_graph

if TYPE_CHECKING:
    from .stand import Stand

_SLUICE = str(Path(sys.executable).with_name("sluice"))
#: Events a second; share of the soak's duration that they last.
_RATE_HZ = 500.0
_SHARE = 0.7
#: Longest time for the children of a killed engine to end, and for the first commit, s.
_CHILDREN_S = 15.0
_COMMIT_S = 120.0
#: Two segments: encode in one worker, decide in the next.
_SEGMENTS = (["unpack", "normalise", "encode"], ["pack", "tag", "menu"])
COLUMNS = ("event_id", "packed", "sum_q", "score", "decision", "outcome", "prescale")


class Replay:
    """The replay.

    Parameters
    ----------
    stand
        Its folder and environment are used.
    seconds
        Duration of the soak.
    """

    def __init__(self, stand: Stand, seconds: float) -> None:
        self._stand = stand
        self.events = int(_RATE_HZ * _SHARE * seconds)
        self.input, self.graph = stand.folder / "replay-input.arrows", stand.folder / "replay.toml"
        self.recording = stand.folder / "replay.arrows"
        self.report = stand.folder / "replay.json"
        count = str(self.events)
        stand.say("simulate", "wafers", "--events", count, "--seed", "2", "--out", str(self.input))
        self.graph.write_text(tomli_w.dumps(_graph()))
        self._engine = self._start()

    def _start(self, *options: str) -> psutil.Popen:
        return psutil.Popen(
            [_SLUICE, "replay", str(self.input), "--graph", str(self.graph), "--rate",
             str(_RATE_HZ), "--out", str(self.recording), "--report", str(self.report), *options],
            env=self._stand.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def kill_and_resume(self) -> dict[str, Any]:
        """Kill the engine alone, wait for its children to end, and resume the recording."""
        self._await_commit()
        if self._engine.poll() is not None:
            return {"replay": "has ended"}
        children = self._engine.children(recursive=True)
        self._engine.kill()
        self._engine.wait()
        begun = time.monotonic()
        _, alive = psutil.wait_procs(children, _CHILDREN_S)
        if alive:
            return {"skipped": f"children outlive their engine: {[p.pid for p in alive]}"}
        self._engine = self._start("--resume")
        return {"children": len(children), "gone_after_s": round(time.monotonic() - begun, 2)}

    def finish(self, timeout_s: float) -> int:
        """Wait for the end; return the exit code."""
        return int(self._engine.wait(timeout_s))

    def end(self) -> None:
        """Kill what still runs."""
        with suppress(psutil.Error):
            for process in [*self._engine.children(recursive=True), self._engine]:
                process.kill()

    def _await_commit(self) -> None:
        """Wait until the recording has a first batch: there is nothing to resume before."""
        deadline = time.monotonic() + _COMMIT_S
        while time.monotonic() < deadline and self._engine.poll() is None:
            if self.recording.exists() and self.recording.stat().st_size > 100_000:
                return
            time.sleep(0.1)


def _graph() -> dict[str, Any]:
    """Return the graph `hgcal` as a chain of two segments whose sink keeps every event."""
    graph = tomllib.loads(Path(load_graph("hgcal").origin).read_text())
    graph["graph"] |= {"batch_events": 256}
    graph["sink"] |= {"keep": "all", "columns": [*COLUMNS]}
    graph["workers"] = {"chain": [{"stages": stages} for stages in _SEGMENTS]}
    return graph
