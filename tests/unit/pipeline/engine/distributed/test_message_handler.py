"""What ingest does with the messages of its processes."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

from sluice.pipeline.core.batch import Outcome
from sluice.pipeline.core.errors import ErrorRecord, ProtocolError
from sluice.pipeline.engine.distributed.message_handler import MessageHandler
from sluice.pipeline.engine.model_swap import SwapReply
from sluice.pipeline.transport.batch_summary import BatchSummary, join_summaries, pack_summary
from sluice.pipeline.transport.protocol import Header, Kind, pack_json
from sluice.pipeline.transport.run_messages import CommitAck


@pytest.fixture
def parts():
    """What a handler tells: doubles that note their calls."""
    names = ("accounting", "sessions", "pool", "dispatcher", "sink", "swaps", "watchdog")
    parts = SimpleNamespace(**{name: Mock(name=name) for name in names})
    parts.sessions.sender.side_effect = lambda identity, _, remote: identity.decode()
    return parts


@pytest.fixture
def handler(parts):
    return MessageHandler(*vars(parts).values())


def message(name, header, *payload):
    return name.encode(), header, [memoryview(bytes(frame)) for frame in payload]


def summary(number):
    counts = np.full(len(Outcome), number, np.int64)
    return BatchSummary(counts.tobytes(), bytes(8 * 64), number, [], b"")


@pytest.mark.parametrize("new", [True, False])
def test_a_commit_is_progress_if_a_batch_of_it_is_new(handler, parts, new):
    parts.dispatcher.commit.return_value = new
    summaries = [summary(number) for number in (3, 4)]
    ack = CommitAck(7, 2).to_header()
    handler.handle(
        message("sink", ack, join_summaries([pack_summary(one) for one in summaries])), remote=False
    )
    parts.dispatcher.commit.assert_called_once_with(7, summaries)
    assert parts.watchdog.progress.call_count == new
    parts.pool.record_message.assert_called_once_with("sink")


def test_the_first_error_of_a_process_is_the_failure(handler):
    for text in ("first", "second"):
        record = ErrorRecord("compute-0", "RunError", text)
        handler.handle(message("compute-0", Header(Kind.ERROR), pack_json(record)), remote=False)
    assert handler.failure.message == "compute-0: first"


def test_a_reply_to_a_swap_goes_to_the_swap(handler, parts):
    reply = SwapReply(3)
    handler.handle(message("sink", Header(Kind.READY), pack_json(reply)), remote=False)
    parts.swaps.on_reply.assert_called_once_with("sink", reply)


@pytest.mark.parametrize(("name", "calls"), [("sink", 1), ("compute-0", 0)])
def test_only_the_sink_s_heartbeat_is_for_the_sink(handler, parts, name, calls):
    handler.handle(message(name, Header(Kind.HEARTBEAT)), remote=False)
    assert parts.sink.on_heartbeat.call_count == calls
    parts.pool.record_message.assert_called_once_with(name)


def test_a_kind_that_no_process_of_this_host_sends_does_nothing(handler, parts):
    with pytest.raises(ProtocolError, match="unexpected JOIN of 'compute-0'"):
        handler.handle(message("compute-0", Header(Kind.JOIN)), remote=False)
    parts.pool.record_message.assert_not_called()


def test_messages_of_other_hosts_go_to_the_pool(handler, parts):
    join, credit = message("far", Header(Kind.JOIN)), message("far", Header(Kind.CREDIT))
    handler.handle(join, remote=True)
    parts.sessions.sender.assert_not_called()  # it has no session yet
    parts.pool.on_join.assert_called_once_with(*join)
    handler.handle(credit, remote=True)
    parts.pool.on_remote_message.assert_called_once_with("far", credit[1], credit[2])
    parts.dispatcher.on_credit.assert_not_called()
