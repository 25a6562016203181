"""A compiled loop that receives plain messages of packed records with libzmq's own functions.

In Python a message of one event costs some 6 us, mostly for objects that exist only for that
message; here it costs the time that libzmq needs for its three frames.
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

#: The functions of libzmq that `receive_records` calls, in the order of its argument `calls`.
FUNCTIONS = ("zmq_msg_recv", "zmq_msg_data", "zmq_msg_size", "zmq_msg_more")
#: Places in the argument `out` of `receive_records`.
MESSAGES, EVENTS, HELD_FRAMES = range(3)

_DONTWAIT = 1  # ZMQ_DONTWAIT of zmq.h
_INT, _WORD = ir.IntType(32), ir.IntType(64)


@llvm_intrinsic
def _call_on(typing: Any, address: Any, message: Any) -> Any:
    """Call a function of libzmq that has a message as its argument and returns 64 bits."""

    def emit(_: Any, builder: Any, __: Any, values: Any) -> Any:
        function = ir.FunctionType(_WORD, [_WORD]).as_pointer()
        return builder.call(builder.inttoptr(values[0], function), [values[1]])

    return types.int64(types.int64, types.int64), emit


@llvm_intrinsic
def _receive(typing: Any, address: Any, message: Any, socket: Any) -> Any:
    """Call `zmq_msg_recv` without waiting; return what it returns, -1 if there is nothing."""

    def emit(_: Any, builder: Any, __: Any, values: Any) -> Any:
        function = ir.FunctionType(_INT, [_WORD, _WORD, _INT]).as_pointer()
        arguments = [values[1], values[2], ir.Constant(_INT, _DONTWAIT)]
        called = builder.call(builder.inttoptr(values[0], function), arguments)
        return builder.sext(called, _WORD)

    return types.int64(types.int64, types.int64, types.int64), emit


@llvm_intrinsic
def _pointer(typing: Any, address: Any) -> Any:
    """Return an address as a pointer."""

    def emit(_: Any, builder: Any, __: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), emit


@device_function
def _find(name: Any, names: Any, sizes: Any) -> int:
    """Return the row of `names` that holds a name, or -1."""
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
    return bool(_call_on(calls[3], message) & 0xFFFFFFFF)  # the function returns 32 bits


@kernel(
    (
        input_array("i8", 1),
        scalar("i8"),
        input_array("i8", 1),
        input_array("u1", 2),
        input_array("i8", 1),
        output_array("u8", 1),
        scalar("u8"),
        input_array("i8", 1),
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
    layout: Any, block: Any, record_bytes: int, first: int, free_records: int, max_events: int,
    max_messages: int, out: Any,
) -> None:  # fmt: skip
    """Append the records of plain messages to a block, until there is none or another message.

    A message is plain if it has a header and one frame of records, its sender is in `names`, its
    first event is the one expected of that sender, and its records fit into the block.

    Parameters
    ----------
    calls
        int64 (4,): addresses of the `FUNCTIONS`.
    socket
        Address of a ROUTER that no other thread uses during the call.
    frames
        int64 (3,): addresses of initialised messages (``zmq_msg_t``): peer, header, records.
    names, sizes
        uint8 (peers, 255) and int64 (peers,): identities of peers and their lengths in bytes; 0
        where a row is free.
    expected
        uint64 (peers,): number of the next event of each peer; increased by the events received.
    prefix
        First 8 bytes of the header of a plain message.
    layout
        int64 (3,): size of the header in bytes, and the places of two fields in it, read as uint64:
        `ARG1_WORD`, which has the number of the first event, and `EVENTS_LENGTH_WORD`. An argument,
        because numba's cache does not notice when a constant of another module changes.
    block
        uint8: memory of the records.
    record_bytes
        Size of a record, bytes.
    first, free_records
        Record of the block at which to begin, and how many there is space for from there.
    max_events
        Largest number of events in a message.
    max_messages
        Largest number of messages to receive.
    out
        int64 (3,), filled: plain messages received, their events, and how many of `frames` hold the
        beginning of a message that is not plain; the rest of it is still in the socket.
    """
    recv, data, size = calls[0], calls[1], calls[2]
    header_bytes, arg1_word, events_length_word = layout[0], layout[1], layout[2]
    out[:] = 0
    for _ in range(max_messages):
        if _receive(recv, frames[0], socket) < 0:
            return
        out[HELD_FRAMES] = 1
        if not _has_more(calls, frames[0]) or _receive(recv, frames[1], socket) < 0:
            return
        out[HELD_FRAMES] = 2
        if _call_on(size, frames[1]) != header_bytes or not _has_more(calls, frames[1]):
            return
        header = carray(_pointer(_call_on(data, frames[1])), header_bytes // 8, np.uint64)
        events = np.int64(header[events_length_word] & np.uint64(0xFFFFFFFF))
        length = np.int64(header[events_length_word] >> np.uint64(32))
        if header[0] != prefix or length != events * record_bytes:
            return
        if events > min(max_events, free_records - out[EVENTS]):
            return
        name = carray(_pointer(_call_on(data, frames[0])), _call_on(size, frames[0]), np.uint8)
        row = _find(name, names, sizes)
        if row < 0 or header[arg1_word] != expected[row]:
            return
        if _receive(recv, frames[2], socket) < 0:
            return
        out[HELD_FRAMES] = 3
        if _has_more(calls, frames[2]) or _call_on(size, frames[2]) != length:
            return
        start = (first + out[EVENTS]) * record_bytes
        records = carray(_pointer(_call_on(data, frames[2])), int(length), np.uint8)
        block[start : start + length] = records
        expected[row] += np.uint64(events)
        out[MESSAGES] += 1
        out[EVENTS] += events
        out[HELD_FRAMES] = 0
