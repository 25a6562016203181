"""One simulated run: the real engine in virtual time, what is around it, and what must hold."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.engine.distributed import engine as engine_module
from sluice.pipeline.engine.distributed import remote_workers, supervisor
from sluice.pipeline.engine.distributed.engine import DistributedEngine
from sluice.pipeline.engine.model_swap import Swap
from sluice.pipeline.engine.workers import compute, link, sink
from sluice.pipeline.engine.workers.process_spec import ProcessSpec
from sluice.pipeline.engine.workers.router import Router
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.quarantine import Quarantine
from sluice.pipeline.run.state import State

from .disk import SimulatedDisk, TimedRunState
from .model import (
    BATCH_EVENTS,
    OUTPUTS,
    SimulatedChain,
    SimulatedSource,
    graph_of,
    processed,
    values_of,
)
from .network import Network, SimulatedSocket
from .swaps import SimulatedSwaps
from .virtual_time import VirtualTime

if TYPE_CHECKING:
    from .processes import LocalProcess, SimulatedProcess

#: Virtual time within which a run must end, s.
MAX_RUN_S = 1000.0
RUN = 5
#: Time within which ingest counts a change of the run's state, s.
_POLL_S = 0.06


class SimulatedForkServer:
    """Starts processes at once; a process that was requested is there at the next call.

    Attributes
    ----------
    requested
        Process that was requested and not taken; empty for none.
    crashes
        Always empty: it never exits.
    """

    def __init__(self) -> None:
        self.requested = ""
        self.crashes: list[str] = []

    def ensure_running(self) -> bool:
        """Return that it runs."""
        return True

    def spawn(self, *_: str) -> SimulatedForkServer:
        """Start a process."""
        return self

    def request(self, *_: str) -> None:
        """Start a process without waiting for it."""
        self.requested = "a process"

    def take_child(self) -> SimulatedForkServer | None:
        """Return the process that was requested."""
        child = self if self.requested else None
        self.requested = ""
        return child

    def cancel(self) -> None:
        """Give up the process that was requested."""
        self.requested = ""


class World:
    """A run in virtual time, with its processes, network and disk.

    Parameters
    ----------
    graph
        The graph.
    random
        Decides everything that chance decides.
    events, salt
        Events of the source, and what their values depend on.
    records
        Whether to record the messages between hosts.
    """

    def __init__(
        self, graph: Graph, random: Random, events: int, salt: int, *, records: bool = False
    ) -> None:
        self.graph, self.random, self.salt = graph, random, salt
        self.clock = VirtualTime()
        self.network = Network(self.clock, random, records=records)
        self.disk = SimulatedDisk(self.clock)
        self.swaps = SimulatedSwaps(self.clock, random)
        self.local: dict[str, LocalProcess] = {}
        self.remote: list[Any] = []
        self.events = events
        #: Events of batches that fail because they end remote workers.
        self.failed = 0
        #: Longest time that a process takes for one message, s.
        self.slowest_s = random.choice((0.002, 0.05, 0.5))
        self._process: SimulatedProcess | None = None
        self._source = SimulatedSource(events, salt)

    @contextlib.contextmanager
    def as_process(self, process: SimulatedProcess) -> Iterator[None]:
        """Let `process` be the one that opens sockets."""
        before, self._process = self._process, process
        try:
            yield
        finally:
            self._process = before

    def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Run the engine to its end, then check what must hold.

        Parameters
        ----------
        started
            Called when all local processes are ready: before, the exit of one ends the run.

        Raises
        ------
        AssertionError
            If it does not hold.
        """
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, self._simulated():
            context = self._context(Path(folder))
            engine = DistributedEngine(context)
            self.swaps.begin(context)
            self.clock.after(MAX_RUN_S, self._too_long)
            engine.start()
            context.control.transition(State.RUNNING)
            started()
            engine.run()
            self.check_slots(engine)
            self.check_models()
            engine.finish()
        self.check_end(context.accounting)
        self.check_paused(context)

    def check_pending(self, batches: int) -> None:
        """Check the number of results that the sink holds."""
        assert batches <= 64 * self.graph.config.graph.window

    def check_end(self, accounting: RunAccounting) -> None:
        """Check that each event was committed once, with the right content, and the ledger."""
        commits, ids, values = zip(*self.disk.records, strict=True)
        np.testing.assert_array_equal(np.concatenate(ids), np.arange(1, self.events + 1))
        versions = np.array(self.swaps.check(list(commits), self._segments))
        by_event = np.repeat(versions, BATCH_EVENTS, axis=0)[: self.events]
        expected = processed(values_of(np.concatenate(ids), self.salt), by_event.T)
        np.testing.assert_array_equal(np.concatenate(values), expected)
        report = accounting.snapshot()
        assert report.closed
        assert report.events["offered"] == self.events
        assert report.events["failed"] == self.failed
        assert report.events["accepted"] == self.events - self.failed
        assert report.in_flight == 0
        assert commits[-1].next == -(-self.events // BATCH_EVENTS)

    def check_paused(self, context: RunContext) -> None:
        """Check that the time in which the sink waited for space counts as paused, and no other."""
        control: Any = context.control
        paused_s = context.accounting.snapshot().seconds["paused"]
        assert abs(paused_s - control.paused_s) <= _POLL_S * control.changes
        assert control.changes % 2 == 0
        assert self.disk.refused or not control.changes

    def check_models(self) -> None:
        """Check the models of each local worker that has handled all its messages."""
        for process in self.local.values():
            worker = process.worker
            if worker is not None and process.settled and worker._preload is None:
                self.swaps.check_worker(worker._chain)  # type: ignore[arg-type]

    def check_slots(self, engine: DistributedEngine) -> None:
        """Check that each slot is free, or is one that a worker may still write; and the credit."""
        dispatcher = engine._dispatcher
        in_flight, slots = dispatcher.in_flight, dispatcher._slots
        held = [slot for todo in in_flight._assigned.values() for _, slot, _ in todo]
        free = [slot for kind in slots._free for slot in kind]
        taken = sorted(free + [slot for slot in held if slot is not None])
        assert taken == list(range(len(slots._slot_sizes)))
        assert not len(in_flight)
        for process in [*self.local.values(), *self.remote]:
            name, worker = process.name, process.worker
            if worker is None or process.exit_code is not None or name not in engine._sessions:
                continue
            if worker._ingest.session == engine._sessions[name]:
                asked = in_flight._asked.get(name, 0)
                assert in_flight._credit.get(name, 0) <= asked <= worker._asked_for, name

    @property
    def _segments(self) -> int:
        return max(1, len(self.graph.config.workers.chain))

    def _too_long(self) -> None:
        raise AssertionError(f"the run does not end: {MAX_RUN_S} s of virtual time have passed")

    def _context(self, folder: Path) -> RunContext:
        accounting = RunAccounting(self.graph, RUN, Quarantine(None, OUTPUTS))
        accounting.start(self.clock.monotonic_ns())
        control = TimedRunState(self.clock)
        control.transition(State.CONFIGURED)
        fork_server: Any = SimulatedForkServer()
        return RunContext(
            graph=self.graph, source=self._source, sink=SimpleNamespace(keep="all"),
            accounting=accounting, control=control, bor={"run": RUN}, run_directory=folder,
            fork_server=fork_server,
        )  # type: ignore[arg-type]  # fmt: skip

    def _open_socket(self, endpoint: str, identity: str, **_: Any) -> SimulatedSocket:
        assert self._process is not None
        return self._process.connect(endpoint, identity)

    def _open_results(self, spec: Any) -> Router:
        process, results = self._process, self.graph.config.workers.results
        assert process is not None
        near, far = process.bind(spec.sink_endpoint), process.bind(results)
        return Router(near, far)  # type: ignore[arg-type]

    def _open_router(self, context: RunContext) -> Router:
        near = self.network.bind(f"ipc://{context.run_directory}/ingest")
        far = self.network.bind(self.graph.config.workers.listen)
        return Router(near, far)  # type: ignore[arg-type]

    def _poller(self, sockets: list[SimulatedSocket]) -> Any:
        def poll(timeout_s: float) -> list[SimulatedSocket]:
            self.clock.advance(lambda: any(socket.readable for socket in sockets), timeout_s)
            return [socket for socket in sockets if socket.readable]

        return SimpleNamespace(poll=poll)

    @contextlib.contextmanager
    def _simulated(self) -> Iterator[None]:
        """Let the engine and its processes see this world instead of the real one."""
        from .processes import process_class

        meters: Any = lambda *_, **__: SimpleNamespace(rows=np.zeros(1))  # noqa: E731
        replaced = [
            (engine_module, "open_router", self._open_router),
            (engine_module, "Poller", self._poller),
            (supervisor, "Process", process_class(self)),
            (supervisor, "write_spec", lambda *_: ("", "")),
            (supervisor, "change_policy", lambda *_: None),
            (supervisor, "MeterBlock", meters),
            (remote_workers, "MeterBlock", meters),
            (RunAccounting, "add_meters", lambda *_: None),
            (RunAccounting, "add_remote_worker", lambda *_: None),
            (link, "MeterBlock", meters),
            (link, "Socket", self._open_socket),
            (sink, "open_result_socket", self._open_results),
            (compute, "build", lambda *_: SimpleNamespace(columns=(), keep="all")),
            (compute, "build_graph", lambda config, *_: graph_of(config)),
            (compute, "ModelPreload", self.swaps.preload),
            (Swap, "load", lambda swap: self.swaps.load(swap)),
            (compute, "Chain", SimulatedChain),
            (ProcessSpec, "is_orphaned", lambda _: False),
            (os, "sched_setaffinity", lambda *_: None),
            (gc, "freeze", lambda: None),
            (gc, "unfreeze", lambda: None),
        ]
        with ExitStack() as stack:
            for owner, name, value in replaced:
                stack.enter_context(mock.patch.object(owner, name, value))
            for name, module in list(sys.modules.items()):
                if name.startswith("sluice.pipeline.engine") and vars(module).get("time") is time:
                    stack.enter_context(mock.patch.object(module, "time", self.clock))
            yield
