"""The crew of the distributed engine, workers and sink: started, watched, restarted, ended."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from sluice.pipeline.config.durations import parse_duration
from sluice.pipeline.core.log import fields
from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.engine.model_epochs import ModelEpochs
from sluice.pipeline.engine.workers.process_spec import SLOTS, ProcessSpec, assign_cores, slot_count
from sluice.pipeline.engine.workers.router import Router
from sluice.pipeline.graph.segments import split
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.sources.paced import PacedSource
from sluice.pipeline.system.cpu_scheduling import change_policy
from sluice.pipeline.transport.protocol import Header, Kind

from .process import Process, start_fork_server
from .restart_policy import RestartPolicy

_LOG = logging.getLogger("sluice.engine")
SINK, NURSERY = "sink", "nursery"
#: How long a process may take to get ready.
READY_S = 120.0
#: Batches that a worker asks for ahead: in a live run one to work on and one to come meanwhile, so
#: that events wait where others can join them; in a replay enough to ask for several at once.
_LIVE_CREDIT, _REPLAY_CREDIT = 2, 8
_FINISH_S = 30.0
#: How long processes may take to end once the run has failed.
_BROKEN_S = 2.0


class Supervisor:
    """The processes of one run.

    Parameters
    ----------
    plan
        The run.
    epochs
        With which models a worker begins.
    """

    def __init__(self, plan: RunContext, epochs: ModelEpochs) -> None:
        self._epochs = epochs
        config = plan.graph.config
        self._plan = plan
        self._hub = ""
        self._processes: dict[str, Process] = {}
        window_s = parse_duration(config.workers.restart_window, "workers.restart_window")
        self._restarts = RestartPolicy(config.workers.restarts, window_s)
        #: Dead processes that wait to be started again, and when that is due.
        self._due: dict[str, float] = {}
        self._metered: set[str] = set()
        self._cores = os.sched_getaffinity(0)
        live = plan.source.socket is not None
        self._crew, self._others = assign_cores(
            self._cores, len(config.workers.segment_of_worker), live=live
        )
        self._credit = _LIVE_CREDIT if live else _REPLAY_CREDIT
        self._hurried = not live and not isinstance(plan.source, PacedSource)

    def __contains__(self, name: str) -> bool:
        return name in self._processes

    def __getitem__(self, name: str) -> Process:
        return self._processes[name]

    def start(self, hub: str) -> None:
        """Start sink and workers, which connect to the endpoint `hub`."""
        self._hub = hub
        self._nursery = self._plan.nursery or start_fork_server(self._plan.graph.config)
        if self._hurried:
            change_policy(os.SCHED_OTHER, os.SCHED_BATCH)
        resumed = self._plan.resumed
        self._spawn("sink", SINK, resumed.next if resumed else None)
        for index, segment in enumerate(self._plan.graph.config.workers.segment_of_worker):
            self._spawn("compute", f"compute-{index}", segment=segment)

    @property
    def not_ready(self) -> list[str]:
        """Names of the processes that are not ready yet."""
        return [process.name for process in self._processes.values() if not process.ready]

    @property
    def exited(self) -> list[Process]:
        """The processes that have ended and do not wait for a restart yet."""
        return [
            p
            for p in self._processes.values()
            if p.exit_code is not None and p.name not in self._due
        ]

    @property
    def ready(self) -> list[int]:
        """The segments of the compute workers that are ready."""
        crew = [p for p in self._processes.values() if p.role == "compute"]
        return [p.spec.segment for p in crew if p.ready]

    @property
    def names(self) -> list[str] | None:
        """Names of all processes, sink and workers; None while any of them is not ready."""
        crew = self._processes.values()
        return [p.name for p in crew] if all(p.ready for p in crew) else None

    def welcome(self, name: str) -> None:
        """Note that a process is ready."""
        process = self._processes[name]
        process.ready = True
        if process.role == "compute" and name not in self._metered:
            self._metered.add(name)
            graph = split(self._plan.graph)[process.spec.segment]
            path, shadows = Path(process.spec.meters), graph.shadow_names()
            block = MeterBlock(*graph.meter_names(), path, create=False, shadows=shadows)
            self._plan.account.add_meters(block)

    def release_worker_cores(self) -> None:
        """Leave the workers' cores to them."""
        os.sched_setaffinity(0, self._others.main)

    def on_exit(self, process: Process) -> None:
        """Let a dead process be started again, after a wait that grows from death to death.

        Raises
        ------
        RunError
            If no restarts are left.
        """
        process.ready = False
        now = time.monotonic()
        self._due[process.name] = now + self._restarts.delay_s(process.name, process.death, now)

    def restart_due(self, since: int) -> None:
        """Start the dead processes whose wait is over; the sink has committed all before `since`.

        A process that never gets ready is killed, which is a death like any other.

        Raises
        ------
        RunError
            If the nursery has died, and no restarts are left.
        """
        now = time.monotonic()
        bears = self._nursery.ensure_running()
        for name in [name for name, due in self._due.items() if bears and due <= now]:
            del self._due[name]
            restarts = self._plan.account.record_restart(name)
            process = self._processes[name]
            self._spawn(process.role, name, since, process.spec.segment)
            self._processes[name].log_restart(restarts)
        for process in self._processes.values():
            if not process.ready and now - process.born_s > READY_S:
                process.end()

        while self._nursery.crashes:
            crash = self._nursery.crashes.pop()
            _LOG.warning("%s; it was replaced", crash, extra=fields("fork-server-restarted"))
            self._restarts.delay_s(NURSERY, crash, now)
            self._plan.account.record_restart(NURSERY)

    def end(self, hub: Router, *, failed: bool) -> None:
        """Tell every process to stop; kill those that do not."""
        os.sched_setaffinity(0, self._cores)
        if self._hurried:
            change_policy(os.SCHED_BATCH, os.SCHED_OTHER)
        for name in self._processes:
            hub.send(Header(Kind.STOP), to=name.encode())
        deadline = time.monotonic() + (_BROKEN_S if failed else _FINISH_S)
        for process in self._processes.values():
            process.wait(max(0.0, deadline - time.monotonic()) if process.ready else 0.0)
            process.end()
        if self._plan.nursery is None:
            self._nursery.close()

    def _spawn(self, role: str, name: str, since: int | None = None, segment: int = 0) -> None:
        plan = self._plan
        cores = self._crew[int(name.rpartition("-")[2])] if role == "compute" else self._others
        meters = plan.runtime / f"{name}.meters"  # a successor goes on counting there
        epochs = self._epochs
        spec = ProcessSpec(
            name, epochs.config, tuple(plan.source.schema), self._hub,
            f"ipc://{plan.runtime}/outlet", str(meters), str(plan.runtime / SLOTS),
            slot_count(plan.graph.config), plan.bor,
            epochs.models, epochs.epoch, epochs.last, os.getpid(), cores,
            self._credit, since, epochs.begun, segment, self._hurried,
        )  # fmt: skip
        self._processes[name] = Process(role, spec, plan.runtime, self._nursery)
