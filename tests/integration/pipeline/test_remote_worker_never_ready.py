"""A worker of another host that joins and never becomes ready does not stay for ever."""

from __future__ import annotations

import threading
import time

from msgspec.structs import replace

from sluice.pipeline.config.graph_file import ComponentConfig, load_graph
from sluice.pipeline.engine.distributed import worker_pool
from sluice.pipeline.engine.workers.join import JoinRequest
from sluice.pipeline.run.run_numbers import UNNUMBERED
from sluice.pipeline.service.run_graph import run_graph
from sluice.pipeline.service.session import RunOptions
from sluice.pipeline.transport.protocol import Header, Kind, pack_json
from sluice.pipeline.transport.socket import Socket


def join_and_idle(endpoint, heard):
    """Join the run, say nothing more, and note the kinds of what comes until ERROR."""
    router = Socket(endpoint, "idler")
    deadline = time.monotonic() + 30
    try:
        router.send(Header(Kind.JOIN), pack_json(JoinRequest("idler", "here", 1, 1)))
        while Kind.ERROR not in heard and time.monotonic() < deadline:
            if router.poll(0.1) and (message := router.receive()) is not None:
                heard.append(Kind(message[1].kind))
    finally:
        router.close()


def test_a_worker_that_is_never_ready_is_disconnected(wafers, reserve_port, monkeypatch):
    listen, results = (f"tcp://127.0.0.1:{reserve_port()}" for _ in range(2))
    config = load_graph("hgcal")
    workers = replace(config.workers, listen=listen, results=results)
    config = replace(config, source=ComponentConfig("recording", "w", {"path": str(wafers)}),
                     sink=ComponentConfig("null", "null", {}), workers=workers)  # fmt: skip
    monkeypatch.setattr(worker_pool, "READY_TIMEOUT_S", 0.5)
    heard = []
    idler = threading.Thread(target=join_and_idle, args=(listen, heard))
    idler.start()
    try:
        report = run_graph(config, RunOptions(run=UNNUMBERED, rate_hz=4_000))
    finally:
        idler.join(40)
    assert report["closed"]
    assert report["remote_workers"] == 0
    # A worker that stays hears STOP at the end of the run.
    assert heard[0] == Kind.SPEC
    assert heard[-1] == Kind.ERROR
    assert report["seconds"]["wall"] > 4
