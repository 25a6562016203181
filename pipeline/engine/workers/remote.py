"""A worker that joins a run of another host: asks what to run, proves its models, then works."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

from sluice.pipeline.core.errors import ErrorRecord, ProtocolError, RunError, SluiceError
from sluice.pipeline.transport.curve_keys import ClientAuth
from sluice.pipeline.transport.protocol import Header, Kind, pack_json, unpack_json
from sluice.pipeline.transport.run_messages import Credit, WorkerHello
from sluice.pipeline.transport.socket import Socket, terminate

from .compute import ComputeWorker
from .join import JoinReply, JoinRequest, reachable_endpoint, tai_ahead_ns
from .link import RemoteLink
from .process_spec import CoreSet, ProcessSpec

_LOOK_S = 0.1
#: Batches asked for ahead: one to work on, one to come meanwhile.
_CREDIT = 2

Notify = Callable[[str], None]


def join_run(
    endpoint: str, keys: ClientAuth | None, name: str | None, patience_s: float, say: Notify
) -> None:
    """Work for the run at `endpoint` until it ends; SIGTERM and SIGINT leave it.

    Parameters
    ----------
    endpoint
        ``workers.listen`` of the run.
    keys
        To show; None for a plain edge.
    name
        Unique among the workers of the run; made of host and process id unless given.
    patience_s
        How long to wait for a run that listens there.
    say
        Told what happens.

    Raises
    ------
    SluiceError
        If nobody answers, the models differ, or ingest vanishes.
    """
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    hub = Socket(endpoint, name, security=keys)
    try:
        with _stop_on_signal() as left:
            terms = _ask(hub, endpoint, patience_s, left)
            if terms is not None:
                say(f"joined run {terms.bor.get('run')} of graph {terms.config.graph.name!r}")
                _work(hub, name, endpoint, keys, terms, left)
            say("left" if left() else "the run has ended")
    finally:
        hub.close()
        terminate()


def _work(
    hub: Socket, name: str, endpoint: str, keys: ClientAuth | None, terms: JoinReply,
    left: Callable[[], bool],
) -> None:  # fmt: skip
    cores = tuple(sorted(os.sched_getaffinity(0)))
    spec = ProcessSpec(
        name=name, config=terms.config, source=terms.source, hub=endpoint,
        outlet=reachable_endpoint(endpoint, terms.results), meters="", slots="", slot_count=0,
        bor=terms.bor, models=terms.models, epoch=terms.epoch, swap=terms.swap, credit=_CREDIT,
        parent=os.getppid(), cores=CoreSet(cores, cores), segment=terms.segment,
    )  # fmt: skip
    # monotonic here - monotonic there, by way of TAI
    away = RemoteLink(spec, keys, terms.tai_ns - tai_ahead_ns(), terms.silence_s)
    try:
        worker = ComputeWorker(spec, hub, away)
        try:
            away.hear()  # making ready takes its time
            hub.send(WorkerHello(os.getpid()).to_header(), worker.service_s())
            hub.send(Credit(_CREDIT).to_header())
            while not left() and worker.step():
                pass
        finally:
            worker.close()
    except SluiceError as error:
        hub.send(Header(Kind.ERROR), pack_json(ErrorRecord.of(error, name)))
        raise
    hub.send(Header(Kind.STOP))  # our last meters came before


def _ask(
    hub: Socket, endpoint: str, patience_s: float, left: Callable[[], bool]
) -> JoinReply | None:
    """Return what to run, None if a signal came first; RunError says why it cannot."""
    hub.send(Header(Kind.JOIN), pack_json(JoinRequest(socket.gethostname(), os.getpid())))
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if left():
            return None
        message = hub.receive() if hub.poll(_LOOK_S) else None
        trouble = hub.last_failure
        if message is None and trouble is not None and trouble.final:
            raise RunError(f"{endpoint}: {trouble.why}", trouble.hint)
        if message is None:
            continue
        _, header, payload = message
        if header.kind == Kind.ERROR:
            why = unpack_json(payload, dict[str, str], "ERROR").get("message", "")
            raise RunError(f"{endpoint} refuses: {why}")
        if header.kind == Kind.SPEC:
            try:
                terms = unpack_json(payload, JoinReply, "SPEC")
                terms.check_clock()
                return terms
            except ProtocolError as error:
                raise RunError(
                    f"{endpoint}: {error.message}", "is the same version of sluice there?"
                ) from error
    raise RunError(
        f"{endpoint}: no answer in {patience_s:g} s" + (f": {trouble.why}" if trouble else ""),
        trouble.hint if trouble else "is a run with workers.listen there?",
    )


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether a signal has asked to leave."""
    asked: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {n: signal.signal(n, lambda number, _: asked.append(number)) for n in numbers}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
