"""Take plain messages of records off a ZeroMQ socket: a loop over libzmq's own calls.

In Python a message of one event costs some 6 us, most of it objects that live as long; here it
costs what libzmq takes for its three frames.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.np.numpy_support import carray

from sluice.kernels.compiler.jit import (
    device_function,
    input_array,
    kernel,
    llvm_intrinsic,
    output_array,
    scalar,
)

#: Bytes of a message's header: magic, version, kind and 0; run, source; sequence number; first
#: event; events, length; two times; a word for the kind. docs/protocol.md has the layout.
HEADER_BYTES = 64
#: Bytes of the longest identity that a peer may have.
NAME_BYTES = 255
#: What `receive_records` calls, in the order of its `calls`.
CALLS = ("zmq_msg_recv", "zmq_msg_data", "zmq_msg_size", "zmq_msg_more")
#: What it tells, by place in `told`.
MESSAGES, EVENTS, HELD = range(3)

_NOW = 1  # ZMQ_DONTWAIT
_INT, _WORD = ir.IntType(32), ir.IntType(64)


@llvm_intrinsic
def _call_on(typing: Any, address: Any, message: Any) -> Any:
    """Call a function of libzmq that takes a message and returns a word."""

    def emit(_: Any, builder: Any, __: Any, values: Any) -> Any:
        function = ir.FunctionType(_WORD, [_WORD]).as_pointer()
        return builder.call(builder.inttoptr(values[0], function), [values[1]])

    return types.int64(types.int64, types.int64), emit


@llvm_intrinsic
def _receive(typing: Any, address: Any, message: Any, socket: Any) -> Any:
    """Call `zmq_msg_recv` without waiting; return what it returns, -1 if there is nothing."""

    def emit(_: Any, builder: Any, __: Any, values: Any) -> Any:
        function = ir.FunctionType(_INT, [_WORD, _WORD, _INT]).as_pointer()
        given = [values[1], values[2], ir.Constant(_INT, _NOW)]
        called = builder.call(builder.inttoptr(values[0], function), given)
        return builder.sext(called, _WORD)

    return types.int64(types.int64, types.int64, types.int64), emit


@llvm_intrinsic
def _pointer(typing: Any, address: Any) -> Any:
    """Make an address a pointer."""

    def emit(_: Any, builder: Any, __: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), emit


@device_function
def _find(name: Any, names: Any, sizes: Any) -> int:
    """Return the row of `names` that holds a name, -1 if none does."""
    for row in range(len(sizes)):
        if sizes[row] == len(name):
            same = True
            for place in range(len(name)):
                same &= names[row, place] == name[place]
            if same:
                return row
    return -1


@device_function
def _has_more(calls: Any, message: int) -> bool:
    return bool(_call_on(calls[3], message) & 0xFFFFFFFF)  # it returns an int


@kernel(
    (
        input_array("i8", 1),
        scalar("i8"),
        input_array("i8", 1),
        input_array("u1", 2),
        input_array("i8", 1),
        output_array("u8", 1),
        scalar("u8"),
        output_array("u1", 1),
        scalar("i8"),
        scalar("i8"),
        scalar("i8"),
        scalar("i8"),
        scalar("i8"),
        output_array("i8", 1),
    ),
    hold_gil=True,
)
def receive_records(
    calls: Any, socket: int, frames: Any, names: Any, sizes: Any, expected: Any, prefix: int,
    block: Any, record_bytes: int, first: int, room: int, most_events: int, most: int, told: Any,
) -> None:  # fmt: skip
    """Append the records of plain messages to a block, until another message comes or none.

    A message is plain if it has a header and one frame of records, a known peer sent it, it begins
    with the event that is expected of that peer, and there is room for it.

    Parameters
    ----------
    calls
        int64 (4,): addresses of the functions `CALLS`.
    socket
        Address of a ROUTER; nobody else uses it meanwhile.
    frames
        int64 (3,): addresses of initialised messages (``zmq_msg_t``), for peer, header, records.
    names, sizes
        uint8 (peers, 255) and int64 (peers,): identities of peers and their lengths, 0 where there
        is none.
    expected
        uint64 (peers,): number of the next event of each, counted on.
    prefix
        First 8 bytes of the header of a plain message.
    block
        uint8: the records' memory.
    record_bytes
        Of a record.
    first, room
        Record at which to begin, and how many there is room for.
    most_events
        Events that a message may have.
    most
        Messages to take.
    told
        int64 (3,), filled: plain messages taken, their events, and how many of `frames` hold the
        beginning of a message that is not plain; it may have more frames, still in the socket.
    """
    recv, data, size = calls[0], calls[1], calls[2]
    told[:] = 0
    for _ in range(most):
        if _receive(recv, frames[0], socket) < 0:
            return
        told[HELD] = 1
        if not _has_more(calls, frames[0]) or _receive(recv, frames[1], socket) < 0:
            return
        told[HELD] = 2
        if _call_on(size, frames[1]) != HEADER_BYTES or not _has_more(calls, frames[1]):
            return
        header = carray(_pointer(_call_on(data, frames[1])), 8, np.uint64)
        events = np.int64(header[4] & np.uint64(0xFFFFFFFF))
        length = np.int64(header[4] >> np.uint64(32))
        if header[0] != prefix or length != events * record_bytes:
            return
        if events > min(most_events, room - told[EVENTS]):
            return
        name = carray(_pointer(_call_on(data, frames[0])), _call_on(size, frames[0]), np.uint8)
        row = _find(name, names, sizes)
        if row < 0 or header[3] != expected[row]:
            return
        if _receive(recv, frames[2], socket) < 0:
            return
        told[HELD] = 3
        if _has_more(calls, frames[2]) or _call_on(size, frames[2]) != length:
            return
        start = (first + told[EVENTS]) * record_bytes
        records = carray(_pointer(_call_on(data, frames[2])), int(length), np.uint8)
        block[start : start + length] = records
        expected[row] += np.uint64(events)
        told[MESSAGES] += 1
        told[EVENTS] += events
        told[HELD] = 0
