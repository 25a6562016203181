"""How each kind of fault is injected. Each returns what really happened, for the report."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import psutil
import zmq

from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.transport.codec import pack_schema
from sluice.pipeline.transport.front_end_messages import EventData
from sluice.pipeline.transport.protocol import Header, Kind, encode

from .stand import Stand

_RECORD = Schema((EVENT_ID, T_EVENT, Column("words", "uint32", (12,))))
#: Events that a message of `mismatch` claims to carry; its payload has another size.
_CLAIMED = 3
#: How long a process may take to be there, and its successor after its exit.
_PRESENT_S = _KILLED_S = 30.0
_NONE = "there was no such process"
_TAGGERS = ("wafer-tagger", "wafer-tagger-half")

Detail = dict[str, Any]


def kill_worker(stand: Stand, detail: Detail) -> Detail:
    """Kill a worker; another takes its batches."""
    return _kill(stand, detail["worker"])


def kill_sink(stand: Stand, _: Detail) -> Detail:
    """Kill the sink; its successor goes on behind the last whole batch."""
    return _kill(stand, "sink")


def kill_fork_server(stand: Stand, _: Detail) -> Detail:
    """Kill what processes come from; nobody else ends, and another takes its place."""
    return _kill(stand, "fork-server")


def stall_sink(stand: Stand, detail: Detail) -> Detail:
    """Stop the sink for a while: nothing is committed, the window fills, the backlog grows."""
    return _stall(stand, "sink", detail["seconds"])


def stall_worker(stand: Stand, detail: Detail) -> Detail:
    """Stop a worker for a while: its batches wait."""
    return _stall(stand, "compute-0", detail["seconds"])


def full_disk(stand: Stand, detail: Detail) -> Detail:
    """Let the sink's file grow no further for a while, as if the disk were full."""
    sink = _find(stand, "sink")
    if sink is None:
        return {"skipped": _NONE}
    _, hard = sink.rlimit(psutil.RLIMIT_FSIZE)
    size = stand.parts()[-1].stat().st_size
    sink.rlimit(psutil.RLIMIT_FSIZE, (size, hard))
    time.sleep(detail["seconds"])
    sink.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))
    return {"bytes": size}


def burst(stand: Stand, detail: Detail) -> Detail:
    """Send ten times as much for a while, from another front end."""
    stand.send(stand.rate_hz * (detail["times"] - 1), detail["seconds"])
    time.sleep(detail["seconds"])
    return {}


def pause(stand: Stand, detail: Detail) -> Detail:
    """Pause the run and resume it."""
    paused = stand.control("pause")
    time.sleep(detail["seconds"])
    deadline = time.monotonic() + _PRESENT_S
    while (resumed := stand.control("resume")) != "done" and time.monotonic() < deadline:
        time.sleep(0.5)  # something else may hold the run for a moment yet
    return {"pause": paused, "resume": resumed}


def swap(stand: Stand, _: Detail) -> Detail:
    """Swap the tagger for the other one, while the run goes on."""
    now = json.loads(stand.page("/status")[1])["report"]["models"]["tag"]["name"]
    other = next(model for model in _TAGGERS if model != now)
    return {"from": now, "to": other, "said": stand.control("swap", "tag", other)}


def garbage(stand: Stand, detail: Detail) -> Detail:
    """Send what is no message of the protocol, or one whose payload is not what its header says."""
    draw = random.Random(detail["seed"])
    if detail["what"] == "tcp":
        for _ in range(detail["messages"]):
            with socket.create_connection(("127.0.0.1", stand.port), timeout=5) as connection:
                connection.sendall(draw.randbytes(draw.randint(1, 2000)))
        return {}
    peer = zmq.Context.instance().socket(zmq.DEALER)
    peer.setsockopt(zmq.IDENTITY, f"soak-{detail['seed']}".encode())
    peer.setsockopt(zmq.LINGER, 2000)
    try:
        peer.connect(stand.endpoint)
        for number in range(detail["messages"]):
            for frames in _GARBAGE[detail["what"]](draw, number):
                peer.send_multipart(frames)
    finally:
        peer.close()
    claimed = _CLAIMED * detail["messages"] if detail["what"] == "mismatch" else 0
    stand.claimed_events += claimed
    return {"claimed_events": claimed}


def _noise(draw: random.Random, _: int) -> list[list[bytes]]:
    return [[draw.randbytes(draw.randint(0, 2000)) for _ in range(draw.randint(1, 4))]]


def _version(draw: random.Random, _: int) -> list[list[bytes]]:
    """Return a sound header but for its version or kind."""
    header = bytearray(encode(Header(Kind.RAW, events=1))[0])
    header[draw.choice([4, 5])] = draw.randint(100, 255)
    return [[bytes(header)]]


def _early(draw: random.Random, number: int) -> list[list[bytes]]:
    """Return events before any BOR."""
    payload = draw.randbytes(64)
    return [encode(EventData(Kind.RAW, 0, number, number, 1).to_header(), payload)]


def _huge(draw: random.Random, _: int) -> list[list[bytes]]:
    """Return a header that promises more than may be."""
    header = bytearray(encode(Header(Kind.RAW, events=1))[0])
    struct.pack_into("<II", header, 32, draw.randrange(2**20 + 1, 2**32), 2**32 - 1)
    return [[bytes(header), b"x"]]


def _mismatch(draw: random.Random, number: int) -> list[list[bytes]]:
    """Return a right BOR at first, then messages whose payload is not what the header says."""
    header = EventData(Kind.RAW, 0, number, number * _CLAIMED, _CLAIMED).to_header()
    message = encode(header, draw.randbytes(draw.randint(0, 50)))
    opening = [encode(Header(Kind.BOR), pack_schema(_RECORD))] if number == 0 else []
    return [*opening, message]


_GARBAGE: dict[str, Callable[[random.Random, int], list[list[bytes]]]] = {
    "noise": _noise, "version": _version, "early": _early, "huge": _huge, "mismatch": _mismatch,
}  # fmt: skip

FAULTS: dict[str, Callable[[Stand, Detail], Detail]] = {
    "kill worker": kill_worker,
    "kill sink": kill_sink,
    "kill fork server": kill_fork_server,
    "stall sink": stall_sink,
    "stall worker": stall_worker,
    "full disk": full_disk,
    "burst": burst,
    "pause": pause,
    "swap": swap,
    "garbage": garbage,
}


def _find(stand: Stand, name: str) -> psutil.Process | None:
    """Return a process of the run; wait for it where it is about to be started again."""
    deadline = time.monotonic() + _PRESENT_S
    while (process := stand.processes().get(name)) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def _kill(stand: Stand, name: str) -> Detail:
    process = _find(stand, name)
    if process is None:
        return {"skipped": _NONE}
    process.kill()
    begun = time.monotonic()
    while time.monotonic() - begun < _KILLED_S:
        successor = stand.processes().get(name)
        if successor is not None and successor.pid != process.pid:
            return {"pid": process.pid, "successor_after_s": round(time.monotonic() - begun, 2)}
        time.sleep(0.05)
    return {"pid": process.pid, "skipped": f"no successor in {_KILLED_S:g} s"}


def _stall(stand: Stand, name: str, seconds: float) -> Detail:
    process = _find(stand, name)
    if process is None:
        return {"skipped": _NONE}
    os.kill(process.pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    return {"pid": process.pid}
