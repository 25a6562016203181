"""One peer and its client, started, measured and ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systems import HERE, IN_FLIGHT, PEERS, RATES, Peer

_STOP_S = 10.0


def free_port() -> int:
    """Return a port that is free; the two above it are most likely free too."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def served(command: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a session of its own, and end all of it."""
    with log.open("wb") as said, subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        start_new_session=True, cwd=log.parent,
    ) as server:  # fmt: skip
        try:
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(_STOP_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Folders:
    """Folders of a measurement; `work` is its own, beside the events."""

    environment: Path
    work: Path
    model: Path


def measure(
    name: str, size: int, folders: Folders, warm_s: float, seconds: float
) -> list[dict[str, Any]]:
    """Start a peer for messages of one size, measure, end it."""
    peer, port = PEERS[name], free_port()
    folders.work.mkdir()
    graph, log = folders.work / "graph.toml", folders.work / "server.log"
    if peer.column:
        graph.write_text(peer.graph(port, folders.work / "reply"))
    words = {"folder": folders.environment, "servers": HERE / "servers", "port": port}
    command = [part.format(graph=graph, **words) for part in peer.command.split()]
    task = _task(peer, port, size, warm_s, seconds)
    allowed_s = 240 + len(task["loops"]) * (warm_s + seconds + 10)
    python = sys.executable if not peer.package else folders.environment / "bin" / "python"
    env = _variables(peer, port, size, folders)
    with served(command, env, log) as server, subprocess.Popen(
        [python, HERE / "client.py", json.dumps(task)], env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as client:  # fmt: skip
        try:
            said, complained = _finish(client, server, allowed_s)
        finally:
            client.kill()
    if client.returncode:
        raise RuntimeError(
            f"client: {complained.strip()[-500:]}; server: "
            f"{log.read_text(errors='replace').strip()[-2000:]}"
        )
    return [json.loads(line) for line in said.splitlines()]


def _finish(
    client: subprocess.Popen[str], server: subprocess.Popen[bytes], allowed_s: float
) -> tuple[str, str]:
    """Wait for the client, but not for one whose server has ended."""
    deadline = time.monotonic() + allowed_s
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return client.communicate(timeout=1.0)
        if server.poll() is not None:
            break
    client.kill()
    return client.communicate()


def _variables(peer: Peer, port: int, size: int, folders: Folders) -> dict[str, str]:
    return {
        **os.environ, "PEER_MODEL": str(folders.model), "PEER_PORT": str(port),
        "PEER_SIZE": str(size), "PEER_TOGETHER": str(peer.together[size]),
        "PEER_EVENTS": str(folders.work.parent), "PEER_REPLY": str(folders.work / "reply"),
        "PEER_COLUMN": peer.column, "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{HERE / 'servers'}{os.pathsep}{folders.work.parent}",
        "PYTRITON_HOME": str(folders.work), "SLUICE_STATE": str(folders.work),
    }  # fmt: skip


def _task(peer: Peer, port: int, size: int, warm_s: float, seconds: float) -> dict[str, Any]:
    """Return the task of the client."""
    loops: list[dict[str, Any]] = [{"in_flight": messages} for messages in IN_FLIGHT[size]]
    loops.append({"in_flight": max(IN_FLIGHT[size]), "rate_hz": RATES[size]})
    return {
        "peer": peer.link, "port": port, "events_per_message": size, "loops": loops,
        "warm_s": warm_s, "seconds": seconds, "afresh": peer.link not in ("pvapy", "sluice"),
    }  # fmt: skip
