"""Starts, watches, restarts and ends the local processes of a run: workers and sink."""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path

from sluice.pipeline.config.durations import parse_duration
from sluice.pipeline.core.log import fields, limiter
from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.engine.model_epochs import ModelEpochs
from sluice.pipeline.engine.restart_policy import RestartPolicy
from sluice.pipeline.engine.workers.process_spec import (
    SLOTS_FILE,
    ProcessSpec,
    assign_cores,
    slot_count,
)
from sluice.pipeline.graph.segments import split
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.sources.paced import PacedSource
from sluice.pipeline.system.cpu_scheduling import change_policy
from sluice.pipeline.transport.protocol import Header, Kind

from .process import Process, start_fork_server, write_spec
from .sessions import Sessions

_LOG = logging.getLogger("sluice.engine")
SINK, FORK_SERVER = "sink", "fork_server"
#: Time within which a process must be ready, s.
READY_TIMEOUT_S = 120.0
#: Batches that a worker asks for in advance. In a live run one in work and one in transfer, so that
#: events wait in ingest, where a batch can still grow. In a replay enough to report several in one.
_LIVE_CREDIT, _REPLAY_CREDIT = 2, 8
#: Shortages of the host that may pass, and interval between two tries meanwhile, s.
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT)
_SHORTAGE_RETRY_S = 1.0
#: Time for processes to end when the run is complete, s.
_EXIT_TIMEOUT_S = 30.0
#: Time for processes to end when the run has failed, s.
_FAILED_EXIT_TIMEOUT_S = 2.0


class Supervisor:
    """The local processes of one run.

    Parameters
    ----------
    context
        The run.
    epochs
        Models with which a process starts.
    sessions
        Opened for each process that is started.
    token_secret
        Secret of the tokens of batches, for the sink.
    """

    def __init__(
        self, context: RunContext, epochs: ModelEpochs, sessions: Sessions, token_secret: bytes
    ) -> None:
        self._epochs, self._sessions = epochs, sessions
        self._token_secret = token_secret.hex()
        config = context.graph.config
        self._context = context
        self._endpoint = ""
        self._processes: dict[str, Process] = {}
        window_s = parse_duration(config.workers.restart_window, "workers.restart_window")
        self._restarts = RestartPolicy(config.workers.restarts, window_s)
        #: Processes that have exited, and the time of their restart, s of CLOCK_MONOTONIC.
        self._restart_at_s: dict[str, float] = {}
        #: Role and start-up parameters of the process that the fork server starts now.
        self._starting: tuple[str, ProcessSpec] | None = None
        self._metered: set[str] = set()
        self._cores = os.sched_getaffinity(0)
        live = context.source.socket is not None
        self._worker_cores, self._other_cores = assign_cores(
            self._cores, len(config.workers.segment_of_worker), live=live
        )
        self._credit = _LIVE_CREDIT if live else _REPLAY_CREDIT
        self._batch_scheduling = not live and not isinstance(context.source, PacedSource)

    def __contains__(self, name: str) -> bool:
        return name in self._processes

    def __getitem__(self, name: str) -> Process:
        return self._processes[name]

    def start(self, endpoint: str) -> None:
        """Start sink and workers, which connect to ingest at `endpoint`."""
        self._endpoint = endpoint
        self._fork_server = self._context.fork_server or start_fork_server(
            self._context.graph.config
        )
        if self._batch_scheduling:
            change_policy(os.SCHED_OTHER, os.SCHED_BATCH)
        resumed = self._context.resumed
        self._spawn("sink", SINK, resumed.next if resumed else None)
        for index, segment in enumerate(self._context.graph.config.workers.segment_of_worker):
            self._spawn("compute", f"compute-{index}", segment=segment)

    @property
    def not_ready(self) -> list[str]:
        """Names of the processes that are not ready yet."""
        return [process.name for process in self._processes.values() if not process.ready]

    @property
    def exited(self) -> list[Process]:
        """Processes that have exited and are not scheduled for a restart yet."""
        return [
            p
            for p in self._processes.values()
            if p.exit_code is not None and p.name not in self._restart_at_s
        ]

    @property
    def ready_segments(self) -> list[int]:
        """Segments of the compute workers that are ready."""
        workers = [p for p in self._processes.values() if p.role == "compute"]
        return [p.spec.segment for p in workers if p.ready]

    @property
    def names(self) -> list[str] | None:
        """Names of all processes, sink and workers; None while any of them is not ready."""
        workers = self._processes.values()
        return [p.name for p in workers] if all(p.ready for p in workers) else None

    def on_ready(self, name: str) -> None:
        """Record that a process is ready; add its meters to the accounting."""
        self._take_started()  # its HELLO may be read before the fork server's answer
        process = self._processes[name]
        process.ready = True
        if process.role == "compute" and name not in self._metered:
            self._metered.add(name)
            graph = split(self._context.graph)[process.spec.segment]
            path, shadows = Path(process.spec.meters_path), graph.shadow_names()
            block = MeterBlock(*graph.meter_names(), path, create=False, shadows=shadows)
            self._context.accounting.add_meters(block)

    def release_worker_cores(self) -> None:
        """Move this process off the cores reserved for the workers."""
        os.sched_setaffinity(0, self._other_cores.main)

    def on_exit(self, process: Process, *, suspect: bool = False) -> None:
        """Schedule the restart of an exited process, after a delay that grows with each restart.

        Parameters
        ----------
        process
            The process.
        suspect
            Whether it had a batch with which another worker has exited before: the batch, not the
            worker, is the likely cause.

        Raises
        ------
        RunError
            If no restarts are left.
        """
        process.ready = False
        now = time.monotonic()
        self._restart_at_s[process.name] = now + self._restarts.delay_s(
            process.name, process.exit_description, now, suspect=suspect
        )

    def restart_due(self, first_seq: int) -> None:
        """Restart the processes whose delay is over; kill those that did not get ready in time.

        It does not wait for the fork server: a process that is requested now is running at a later
        call.

        Parameters
        ----------
        first_seq
            Number of the first batch that the sink may not have committed.

        Raises
        ------
        RunError
            If the fork server has exited and no restarts are left.
        """
        now = time.monotonic()
        self._take_started()
        can_fork = self._fork_server.ensure_running() and self._starting is None
        due = next((name for name, at_s in self._restart_at_s.items() if at_s <= now), None)
        if can_fork and due is not None:
            self._request_restart(due, first_seq, now)
        for process in self._processes.values():
            if not process.ready and now - process.started_s > READY_TIMEOUT_S:
                process.end()

        while self._fork_server.crashes:
            crash = self._fork_server.crashes.pop()
            _LOG.warning("%s; it was replaced", crash, extra=fields("fork-server-restarted"))
            self._restarts.delay_s(FORK_SERVER, crash, now)
            self._context.accounting.record_restart(FORK_SERVER)

    def _request_restart(self, name: str, first_seq: int, now: float) -> None:
        """Ask the fork server for a process; try again later if descriptors or memory are short."""
        process = self._processes[name]
        spec = self._spec(process.role, name, first_seq, process.spec.segment)
        try:
            request = write_spec(process.role, spec, self._context.run_directory)
        except OSError as error:
            if error.errno not in _SHORTAGES:
                raise
            self._restart_at_s[name] = now + _SHORTAGE_RETRY_S
            text = "restart of {worker} waits: {reason}"
            limiter.warn(_LOG, "restart-delayed", text, worker=name, reason=error.strerror)
            return
        self._starting = process.role, spec
        self._fork_server.request(*request)

    def _take_started(self) -> None:
        """Take the process that the fork server was asked to start, if it has."""
        if self._starting is None:
            return
        child = self._fork_server.take_child()
        role, spec = self._starting
        if child is not None:
            del self._restart_at_s[spec.name]
            restarts = self._context.accounting.record_restart(spec.name)
            self._processes[spec.name] = Process(role, spec, child)
            self._processes[spec.name].log_restart(restarts)
        if not self._fork_server.requested:  # it has exited if there is no child: ask the next one
            self._starting = None

    def end(self, *, failed: bool) -> None:
        """Send STOP to every process; kill those that do not end in time."""
        os.sched_setaffinity(0, self._cores)
        if self._batch_scheduling:
            change_policy(os.SCHED_BATCH, os.SCHED_OTHER)
        self._fork_server.cancel()
        for name in self._processes:
            self._sessions.send(name, Header(Kind.STOP))
        deadline = time.monotonic() + (_FAILED_EXIT_TIMEOUT_S if failed else _EXIT_TIMEOUT_S)
        for process in self._processes.values():
            process.wait(max(0.0, deadline - time.monotonic()) if process.ready else 0.0)
            process.end()
        if self._context.fork_server is None:
            self._fork_server.close()

    def _spawn(self, role: str, name: str, first_seq: int | None = None, segment: int = 0) -> None:
        """Start a process and wait until it runs."""
        spec = self._spec(role, name, first_seq, segment)
        child = self._fork_server.spawn(*write_spec(role, spec, self._context.run_directory))
        self._processes[name] = Process(role, spec, child)

    def _spec(self, role: str, name: str, first_seq: int | None, segment: int) -> ProcessSpec:
        context = self._context
        cores = (
            self._worker_cores[int(name.rpartition("-")[2])]
            if role == "compute"
            else self._other_cores
        )
        # A restarted process goes on counting in the same file.
        meters = context.run_directory / f"{name}.meters"
        epochs = self._epochs
        return ProcessSpec(
            name=name, session=self._sessions.open(name).number, config=epochs.config,
            source=tuple(context.source.schema),
            ingest_endpoint=self._endpoint,
            sink_endpoint=f"ipc://{context.run_directory}/results",
            meters_path=str(meters), slots_path=str(context.run_directory / SLOTS_FILE),
            slot_count=slot_count(context.graph.config), bor=context.bor, models=epochs.models,
            epoch=epochs.epoch, swap=epochs.latest, parent_pid=os.getpid(), cores=cores,
            credit=self._credit, first_seq=first_seq, activated_swaps=epochs.activated,
            segment=segment, batch_scheduling=self._batch_scheduling,
            token_secret=self._token_secret if role == "sink" else "",
        )  # fmt: skip
