"""A worker that joins a run on another host.

It requests to join, opens the models that the reply names, checks them, then processes batches.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from socket import gethostname

from sluice.pipeline.core.errors import ErrorRecord, ProtocolError, RunError, SluiceError
from sluice.pipeline.system.end_signals import on_end_signals
from sluice.pipeline.transport.curve_keys import ClientAuth
from sluice.pipeline.transport.protocol import Header, Kind, Session, pack_json, unpack_json
from sluice.pipeline.transport.socket import Socket, terminate

from .compute import ComputeWorker
from .ingest_socket import IngestSocket
from .join import JoinReply, JoinRequest, reachable_endpoint, refusal, tai_offset_ns
from .link import RemoteLink
from .process_spec import CoreSet, ProcessSpec

#: Interval at which a worker that waits for its reply checks for signals, s.
_POLL_S = 0.1
#: Batches that the worker asks for in advance: one in work and one in transfer.
_CREDIT = 2

Notify = Callable[[str], None]


def join_run(
    endpoint: str, keys: ClientAuth | None, name: str | None, timeout_s: float, notify: Notify
) -> None:
    """Work for the run at `endpoint` until it ends; SIGTERM, SIGHUP and SIGINT leave it.

    Parameters
    ----------
    endpoint
        Endpoint of ingest, ``workers.listen`` of the run.
    keys
        CURVE keys of the worker; None for a connection without encryption.
    name
        Name of the worker, unique in the run; host name and process id if None.
    timeout_s
        Time to wait for a reply, s.
    notify
        Called with a line of text when the worker joins and leaves.

    Raises
    ------
    SluiceError
        If ingest does not answer or is lost, or the models differ.
    """
    name = name or f"{gethostname()}-{os.getpid()}"
    started_ns = time.clock_gettime_ns(time.CLOCK_TAI)
    nonce = 1 + secrets.randbelow(2**32 - 1)
    # An identity that no other process has: none can get the messages for another.
    socket = Socket(endpoint, secrets.token_hex(), security=keys)
    ingest = IngestSocket(socket, Session(0, nonce))
    try:
        with _stop_on_signal() as leaving:
            request = JoinRequest(name, gethostname(), os.getpid(), started_ns)
            reply = _request_join(ingest, request, endpoint, timeout_s, leaving)
            if reply is not None:
                notify(f"joined run {reply.bor.get('run')} of graph {reply.config.graph.name!r}")
                _work(ingest, name, endpoint, keys, reply, leaving)
            notify("left" if leaving() else "the run has ended")
    finally:
        ingest.close()
        terminate()


def _work(
    ingest: IngestSocket, name: str, endpoint: str, keys: ClientAuth | None, reply: JoinReply,
    leaving: Callable[[], bool],
) -> None:  # fmt: skip
    spec = spec_of(reply, name, endpoint)
    ingest.session = Session(spec.run, spec.session)
    # CLOCK_MONOTONIC here minus CLOCK_MONOTONIC there, by way of CLOCK_TAI
    link = RemoteLink(spec, keys, reply.tai_offset_ns - tai_offset_ns(), reply.timeout_s)
    try:
        worker = ComputeWorker(spec, ingest, link)
        try:
            link.on_message()  # opening the models may take longer than the timeout
            worker.begin()
            while not leaving() and worker.step():
                pass
        finally:
            worker.close()
    except SluiceError as error:
        ingest.send(Header(Kind.ERROR), pack_json(ErrorRecord.of(error, name)))
        raise
    ingest.send(Header(Kind.STOP))  # the last heartbeat with the meters came before


def spec_of(reply: JoinReply, name: str, endpoint: str) -> ProcessSpec:
    """Return the start-up parameters of a worker that has joined.

    Parameters
    ----------
    reply
        Reply of ingest to the join request.
    name
        Name of the worker.
    endpoint
        Endpoint at which it reached ingest.
    """
    cores = tuple(sorted(os.sched_getaffinity(0)))
    return ProcessSpec(
        name=name, session=reply.session, config=reply.config, source=reply.source,
        ingest_endpoint=endpoint,
        sink_endpoint=reachable_endpoint(endpoint, reply.results),
        meters_path="", slots_path="", slot_count=0, bor=reply.bor,
        models=reply.models, epoch=reply.epoch, swap=reply.swap, credit=_CREDIT,
        parent_pid=os.getppid(), cores=CoreSet(cores, cores), segment=reply.segment,
    )  # fmt: skip


def _request_join(
    ingest: IngestSocket, request: JoinRequest, endpoint: str, timeout_s: float,
    leaving: Callable[[], bool],
) -> JoinReply | None:  # fmt: skip
    """Send a join request; return the reply, or None if a signal came first.

    Raises
    ------
    RunError
        If ingest refuses or does not answer, with its reason.
    """
    ingest.send(Header(Kind.JOIN), pack_json(request))
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if leaving():
            return None
        message = ingest.receive() if ingest.poll(_POLL_S) else None
        failure = ingest.last_failure
        if message is None and failure is not None and failure.final:
            raise RunError(f"{endpoint}: {failure.why}", failure.hint)
        if message is None:
            continue
        _, header, payload = message
        if header.kind == Kind.ERROR:
            raise RunError(f"{endpoint} refuses: {refusal(payload)}")
        if header.kind == Kind.SPEC:
            try:
                reply = unpack_json(payload, JoinReply, "SPEC")
                reply.check_clock()
                return reply
            except ProtocolError as error:
                raise RunError(
                    f"{endpoint}: {error.message}", "is the same version of sluice there?"
                ) from error
    raise RunError(
        f"{endpoint}: no answer in {timeout_s:g} s" + (f": {failure.why}" if failure else ""),
        failure.hint if failure else "is a run with workers.listen there?",
    )


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a signal to end has come."""
    asked: list[int] = []
    with on_end_signals(asked.append):
        yield lambda: bool(asked)
