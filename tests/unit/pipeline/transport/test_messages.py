"""Messages come back from their headers, and no other module knows where their fields lie."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.transport import front_end_messages, run_messages
from sluice.pipeline.transport.front_end_messages import (
    BeginOfRun,
    Busy,
    EndOfRun,
    EventAck,
    EventData,
)
from sluice.pipeline.transport.protocol import (
    MAX_EVENTS,
    VERSION,
    Header,
    Kind,
    Session,
    decode,
    encode,
)
from sluice.pipeline.transport.run_messages import (
    CommitAck,
    Credit,
    Data,
    DiskFull,
    Result,
    SinkHeartbeat,
    SinkHello,
    WorkerHello,
)

ROOT = Path(__file__).parents[4]
U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
NS = st.integers(-(2**63), 2**63 - 1)
EVENTS = st.integers(0, MAX_EVENTS)
RUNGS = st.integers(0, 255)
SLOTS = st.none() | st.integers(0, 2**64 - 2)
MESSAGES = st.one_of(
    st.builds(BeginOfRun, U64, U32),
    st.builds(EndOfRun, U64, U32),
    st.builds(EventData, st.sampled_from([3, 4]), U32, U64, U64, EVENTS, st.just(0)),
    st.builds(EventAck, U64, U64),
    st.builds(Busy, st.booleans()),
    st.builds(Data, U64, EVENTS, SLOTS, RUNGS, U32, U64, NS),
    st.builds(Result, U64, EVENTS, SLOTS, RUNGS, U32, EVENTS, U64, NS),
    st.builds(Credit, U64, U64, EVENTS, U64),
    st.builds(CommitAck, U64, U64),
    st.builds(WorkerHello, U64),
    st.builds(SinkHello, U64),
    st.builds(DiskFull, st.booleans()),
    st.builds(SinkHeartbeat, U64),
)


@given(MESSAGES)
def test_messages_come_back_from_the_wire(message):
    header, _ = decode(encode(message.to_header()))
    assert type(message).from_header(header) == message


@pytest.mark.parametrize(
    ("message", "kind"),
    [(BeginOfRun(1), Kind.BOR), (EndOfRun(1), Kind.EOR), (EventData(Kind.RAW), Kind.RAW),
     (EventAck(1), Kind.ACK), (Busy(True), Kind.BUSY), (Data(), Kind.DATA),
     (Result(), Kind.RESULT), (Credit(1), Kind.CREDIT), (CommitAck(1, 2), Kind.ACK),
     (WorkerHello(1), Kind.HELLO), (SinkHello(1), Kind.HELLO), (DiskFull(True), Kind.DISK_FULL),
     (SinkHeartbeat(1), Kind.HEARTBEAT)],
)  # fmt: skip
def test_each_message_has_its_kind(message, kind):
    assert message.to_header().kind == kind


def test_every_message_class_is_in_the_round_trip():
    classes = {
        item for module in (front_end_messages, run_messages) for item in vars(module).values()
        if isinstance(item, type) and item.__module__ == module.__name__
    }  # fmt: skip
    assert classes == {
        BeginOfRun, EndOfRun, EventData, EventAck, Busy, Data, Result, Credit, CommitAck,
        WorkerHello, SinkHello, DiskFull, SinkHeartbeat,
    }  # fmt: skip


def test_the_payload_length_comes_with_received_events():
    header, _ = decode(encode(EventData(Kind.RAW, events=2).to_header(), b"12345678"))
    assert EventData.from_header(header).length == 8


def test_a_message_without_a_slot_differs_from_one_in_the_first_slot():
    assert Data(slot=None).to_header() != Data(slot=0).to_header()
    assert Result(slot=None).to_header() != Result(slot=0).to_header()


@given(MESSAGES, U32, U32)
def test_a_message_of_a_session_differs_from_others_in_the_session_only(message, run, number):
    header, session = message.to_header(), Session(run, number)
    assert header.of(session) == header._replace(run=run, source=number)
    assert header.of(session).session == session
    assert header.of(session).is_of(session)
    assert not header.of(session).is_of(Session(run, number ^ 1))
    assert not header.of(session).is_of(Session(run ^ 1, number))


@pytest.mark.parametrize("version", [1, 2])
def test_a_peer_of_an_earlier_version_is_refused_with_both_versions(version):
    header = bytearray(encode(Header(Kind.HELLO))[0])
    header[4] = version
    with pytest.raises(ProtocolError, match=f"version {VERSION}, got {version}") as caught:
        decode([bytes(header)])
    assert "same major version" in str(caught.value.hint)


def _touches_arguments(node: ast.AST) -> bool:
    """Whether a node reads `Header.arg1` or `arg2`, or fills them."""
    if isinstance(node, ast.Attribute):
        return node.attr in ("arg1", "arg2")
    if isinstance(node, ast.keyword):
        return node.arg in ("arg1", "arg2")
    called = getattr(node, "func", None)
    name = getattr(called, "id", getattr(called, "attr", ""))
    return isinstance(node, ast.Call) and name == "Header" and len(node.args) > 4


FILES = sorted(
    path for folder in ("pipeline", "exporters", "benchmarks", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if "transport" not in path.relative_to(ROOT).parts
    and path.name != "test_protocol.py"  # which compares the header with its specification
)  # fmt: skip


def test_only_messages_know_where_fields_lie():
    assert len(FILES) > 300
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for text in [path.read_text()]
        if "arg1" in text or "arg2" in text or "Header(" in text
        for node in ast.walk(ast.parse(text))
        if _touches_arguments(node)
    ]
    assert found == []


@pytest.mark.parametrize(
    "text", ["header.arg1", "h.arg2", "Header(4, arg1=2)", "protocol.Header(4, 0, 0, 0, 7)"]
)
def test_the_search_finds_what_it_looks_for(text):
    assert any(_touches_arguments(node) for node in ast.walk(ast.parse(text)))
