"""The compiled loop receives the same messages as `Socket.receive`, byte for byte."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.transport import record_receiver
from sluice.pipeline.transport.peer_table import PeerTable
from sluice.pipeline.transport.protocol import (
    EVENTS_LENGTH_WORD,
    MAX_EVENTS,
    Header,
    Kind,
    decode,
    encode,
)
from sluice.pipeline.transport.record_receiver import RecordReceiver, open_record_receiver
from sluice.pipeline.transport.socket import Socket

RECORD_BYTES = 12
FREE = 40
NAMES = (b"a", b"front-end-0", b"x" * 255)


def frames_of(kind, name, fault, events, expected):
    """Return the frames of a message with at most one fault."""
    first = expected.get(name, 0) + (fault == "gap")
    payload = np.random.default_rng(events).bytes(RECORD_BYTES * events)
    frames = encode(Header(kind, arg1=first, events=events), payload)
    if fault == "short header":
        frames[0] = frames[0][:-1]
    elif fault == "magic":
        frames[0] = b"ECLS" + frames[0][4:]
    elif fault == "length":
        frames[1] += b"?"
    elif fault == "no payload":
        del frames[1]
    elif fault == "more frames":
        frames.append(b"more")
    elif fault == "empty":
        frames = [b""]
    return frames


messages = st.lists(
    st.tuples(
        st.sampled_from([Kind.RAW, Kind.RAW, Kind.RAW, Kind.DATA, Kind.EOR]),
        st.sampled_from([*NAMES, b"unknown"]),
        st.sampled_from(
            [None, None, None, "gap", "short header", "magic", "length", "no payload",
             "more frames", "empty"]
        ),
        st.integers(0, 9),
    ),
    max_size=12,
)  # fmt: skip


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A ROUTER, and raw sockets that send to it, by name."""
    endpoint = f"ipc://{tmp_path_factory.mktemp('receiver')}/in"
    router = Socket(endpoint)
    context = zmq.Context()
    senders = {}
    for name in (*NAMES, b"unknown"):
        sender = context.socket(zmq.DEALER)
        sender.identity, sender.linger = name, 0
        sender.connect(endpoint)
        senders[name] = sender
    yield router, senders
    for sender in senders.values():
        sender.close()
    context.term()
    router.close()


def wait_for(router):
    deadline = time.monotonic() + 10
    while not router.poll(0.05):
        assert time.monotonic() < deadline


def plain(kind, name, fault, events, free):
    return (kind, fault) == (Kind.RAW, None) and name != b"unknown" and events <= free


def outcome(receive):
    """Return the sender of a message, and its header and payload or the error."""
    try:
        peer, header, payload = receive()
    except ProtocolError as error:
        return error.peer, error.message
    return peer, (header, [bytes(frame) for frame in payload])


def decoded(name, frames):
    """Return the message that `Socket.receive` would return."""
    return name, *decode(frames)


@given(sent=messages)
def test_plain_messages_are_appended_and_others_are_returned_whole(line, sent):
    router, senders = line
    peers = PeerTable(len(NAMES) + 1)
    rows = {name: peers.add(name, 0) for name in NAMES}
    receiver = RecordReceiver(router, Kind.RAW, RECORD_BYTES, peers)
    block, filled, expected = np.zeros(RECORD_BYTES * FREE, np.uint8), 0, dict.fromkeys(NAMES, 0)
    content = b""
    try:
        for kind, name, fault, events in sent:
            frames = frames_of(kind, name, fault, events, expected)
            senders[name].send_multipart(frames)
            wait_for(router)
            received = receiver.receive_records(block, filled, FREE - filled, 5)
            if plain(kind, name, fault, events, FREE - filled):
                assert received == (1, events, False)
                filled += events
                expected[name] += events
                content += frames[1]
            else:
                assert received == (0, 0, True)
                peer, found = outcome(receiver.next_other)
                assert (peer, found) == (name, outcome(partial(decoded, name, frames))[1])
            assert block.tobytes() == content.ljust(RECORD_BYTES * FREE, b"\0")
            assert {n: int(peers.expected[row]) for n, row in rows.items()} == expected
        assert receiver.receive_records(block, filled, FREE - filled, 5) == (0, 0, False)
    finally:
        receiver.close()


def test_one_call_receives_many_messages_up_to_a_limit(line):
    router, senders = line
    peers = PeerTable(1)
    peers.add(b"a", 100)
    receiver = RecordReceiver(router, Kind.RAW, RECORD_BYTES, peers)
    block = np.zeros(RECORD_BYTES * FREE, np.uint8)
    for event in range(100, 130):
        header = Header(Kind.RAW, arg1=event, events=1)
        senders[b"a"].send_multipart(encode(header, bytes([event]) * RECORD_BYTES))
    filled = 0
    deadline = time.monotonic() + 10
    while filled < 30 and time.monotonic() < deadline:
        received = receiver.receive_records(block, filled, FREE - filled, 7)
        assert received.messages == received.events <= 7
        assert not received.another
        filled += received.events
    assert block.reshape(-1, RECORD_BYTES)[:30, 0].tolist() == list(range(100, 130))
    assert peers.expected[0] == 130
    receiver.close()


def test_a_dropped_peer_is_unknown_and_its_row_is_free(line):
    router, senders = line
    peers = PeerTable(1)
    peers.drop(peers.add(b"a", 0))
    assert peers.add(b"front-end-0", 0) == 0
    receiver = RecordReceiver(router, Kind.RAW, RECORD_BYTES, peers)
    senders[b"a"].send_multipart(encode(Header(Kind.RAW, events=1), bytes(RECORD_BYTES)))
    wait_for(router)
    assert receiver.receive_records(np.zeros(RECORD_BYTES, np.uint8), 0, 1, 1) == (0, 0, True)
    assert receiver.next_other()[0] == b"a"
    receiver.close()


def test_a_message_of_more_events_than_the_protocol_allows_is_not_plain(line):
    router, senders = line
    peers = PeerTable(1)
    peers.add(b"a", 0)
    receiver = RecordReceiver(router, Kind.RAW, 1, peers)
    events = MAX_EVENTS + 1
    words = np.frombuffer(encode(Header(Kind.RAW))[0], np.uint64).copy()
    words[EVENTS_LENGTH_WORD] = events | events << 32
    senders[b"a"].send_multipart([words.tobytes(), bytes(events)])
    wait_for(router)
    assert receiver.receive_records(np.zeros(2 * events, np.uint8), 0, 2 * events, 1) == (
        0,
        0,
        True,
    )
    with pytest.raises(ProtocolError, match=f"at most {MAX_EVENTS} events"):
        receiver.next_other()
    receiver.close()


@pytest.fixture
def fresh_self_test():
    record_receiver._passes_self_test.cache_clear()
    yield
    record_receiver._passes_self_test.cache_clear()


def test_the_self_test_passes_and_a_receiver_is_opened(line, fresh_self_test, caplog):
    receiver = open_record_receiver(line[0], Kind.RAW, RECORD_BYTES, PeerTable(1))
    assert isinstance(receiver, RecordReceiver)
    assert caplog.records == []
    receiver.close()


def test_the_environment_turns_the_compiled_loop_off(line, monkeypatch, fresh_self_test):
    monkeypatch.setenv("SLUICE_COMPILED_RECEIVE", "0")
    monkeypatch.setattr(record_receiver, "check_compiled_loop", lambda: pytest.fail("was run"))
    assert open_record_receiver(line[0], Kind.RAW, RECORD_BYTES, PeerTable(1)) is None


@pytest.mark.parametrize("place", ["ARG1_WORD", "EVENTS_LENGTH_WORD", "HEADER_BYTES"])
def test_the_self_test_finds_a_wrong_layout_and_reports_it_once(
    line, monkeypatch, fresh_self_test, caplog, place
):
    monkeypatch.setattr(record_receiver, place, getattr(record_receiver, place) - 1)
    for _ in range(2):
        assert open_record_receiver(line[0], Kind.RAW, RECORD_BYTES, PeerTable(1)) is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "messages are received one by one: expected Received" in record.getMessage()


def test_a_missing_binding_is_reported_too(line, monkeypatch, fresh_self_test, caplog):
    monkeypatch.setattr(record_receiver, "_BINDING", "zmq.no_such_module")
    record_receiver._load_library.cache_clear()
    assert open_record_receiver(line[0], Kind.RAW, RECORD_BYTES, PeerTable(1)) is None
    assert "No module named 'zmq.no_such_module'" in caplog.text
    record_receiver._load_library.cache_clear()
