"""Messages that break the protocol, sent to the port of the front ends."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable
from typing import Any

import zmq

from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.transport.codec import pack_schema
from sluice.pipeline.transport.front_end_messages import EventData
from sluice.pipeline.transport.protocol import Header, Kind, encode

from .stand import Stand

_RECORD = Schema((EVENT_ID, T_EVENT, Column("words", "uint32", (12,))))
#: Events that a message of `mismatch` claims to carry; its payload has another size.
_CLAIMED = 3


def garbage(stand: Stand, detail: dict[str, Any]) -> dict[str, Any]:
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
            for frames in KINDS[detail["what"]](draw, number):
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


KINDS: dict[str, Callable[[random.Random, int], list[list[bytes]]]] = {
    "noise": _noise, "version": _version, "early": _early, "huge": _huge, "mismatch": _mismatch,
}  # fmt: skip
