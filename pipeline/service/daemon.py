"""The daemon: executes one run, or one after another, with HTTP control, signals and progress."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.core.errors import ConfigError, RunError, did_you_mean
from sluice.pipeline.core.log import set_context
from sluice.pipeline.engine.base import Engine, RunContext
from sluice.pipeline.engine.distributed.engine import DistributedEngine
from sluice.pipeline.engine.inline import InlineEngine
from sluice.pipeline.engine.model_swap import request_swap
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.state import RunState, State
from sluice.pipeline.sources.base import Source
from sluice.pipeline.system.cpu_scheduling import short_switch_interval
from sluice.pipeline.system.end_signals import on_end_signals
from sluice.pipeline.system.fork_server.client import ForkServer

from .auth import HttpAuth
from .run_log import RunLog
from .session import (
    RunOptions,
    finish_run,
    open_run,
    save_report,
    start_engine,
    validate,
)
from .status import POLL_S, DaemonStatus, ticker

_LOG = logging.getLogger("sluice.run")
ENGINES: dict[str, Callable[[RunContext], Engine]] = {
    "inline": InlineEngine,
    "distributed": DistributedEngine,
}

Progress = Callable[[RunState, RunAccounting, Source], None]
Announce = Callable[[str], None]
#: Maximum time for a model swap, s: 60 s for its preload, and time for a swap before it.
_SWAP_S = 90.0
#: Interval at which a daemon that waits for a command reports that it is alive, s.
_IDLE_S = 1.0
_NOT_WAITING = "this daemon runs once; `sluice run GRAPH --wait` makes one that waits for start"


class Daemon:
    """Runs of one graph, controlled by HTTP and by signals; a `RunController`.

    Parameters
    ----------
    load
        Reads the graph file; called at each configuration.
    options
        Options of the runs, from the command line.
    progress
        Called ten times a second from a thread during a run.
    announce
        Called with the HTTP address when HTTP is available.
    fork_server
        Fork server for all runs; if None, each run starts its own.

    Attributes
    ----------
    control
        State of the current run, or of the next one.
    accounting
        Accounting of the current or latest run; None before the first.
    """

    def __init__(
        self,
        load: Callable[[], GraphConfig],
        options: RunOptions,
        progress: Progress | None = None,
        announce: Announce | None = None,
        fork_server: ForkServer | None = None,
    ) -> None:
        if options.engine not in ENGINES:
            raise ConfigError(
                f"engine {options.engine!r}: no such engine", did_you_mean(options.engine, ENGINES)
            )
        self._load = load
        self._options = options
        self._progress = progress
        self._announce = announce
        self._fork_server = fork_server
        self._lock = threading.Lock()
        self._waits = self._idle = self._ending = False
        self._status = DaemonStatus(self._turns, lambda: self._ending)
        #: Filled from HTTP and from signals, whose handlers may take no lock.
        self._commands: SimpleQueue[str] = SimpleQueue()
        self._idle_turns = 0
        self._in_loop = threading.Event()
        self._context: RunContext | None = None
        self._serve_http: Callable[[], None] = lambda: None
        self.control = RunState()
        self.accounting: RunAccounting | None = None

    def run_once(self) -> dict[str, Any]:
        """Execute one run now and return its report; SluiceError if it could not start."""
        with ExitStack() as stack:
            self._open(stack)
            self._config = self._load()
            return self._run(stack, lambda: self._bind_http(stack))

    def serve(self, done: Callable[[dict[str, Any]], None]) -> None:
        """Execute a run at each `start`, until a signal ends the daemon.

        Parameters
        ----------
        done
            Called with the report of each run.
        """
        with ExitStack() as stack:
            self._open(stack)
            self._configure()
            self._bind_http(stack)
            self._serve_http()
            self._waits = self._idle = True
            self._status.ready(f"waits for start: graph {self._config.graph.name}")
            while self._next_command() == "start":
                report = self._run_on_command()
                if report is not None:
                    self._call_done(done, report)
                self._idle = True
        if self.control.cause:
            raise RunError(self.control.cause)

    @staticmethod
    def _call_done(done: Callable[[dict[str, Any]], None], report: dict[str, Any]) -> None:
        """Call `done`; a report that cannot be shown does not end the daemon."""
        try:
            done(report)
        except Exception as error:
            _LOG.error("cannot show the report: %s", error, exc_info=error)

    def _open(self, stack: ExitStack) -> None:
        """Handle signals, and report to systemd, until `stack` is closed."""
        stack.enter_context(self._signals())
        stack.enter_context(self._status.connected())

    def _turns(self) -> int | None:
        """Return a number that changes while the main thread's loop turns; None outside of one."""
        if self._in_loop.is_set() and self.accounting is not None:
            wall_s = self.accounting.snapshot().seconds["wall"]  # the engine's loop sets it
            return round(wall_s * 1e9)
        return self._idle_turns if self._idle else None

    def _next_command(self) -> str:
        """Wait for `start`, or for the signal that ends the daemon."""
        while True:
            try:
                return self._commands.get(timeout=_IDLE_S)
            except Empty:
                self._idle_turns += 1

    def _run_on_command(self) -> dict[str, Any] | None:
        """Execute one run; None if it could not start, then the run state has the cause."""
        try:
            if self.control.state is State.STOPPED:
                self._configure()
            with ExitStack() as stack:
                self._serve_http = lambda: None  # HTTP is served already
                return self._run(stack, lambda: None)
        except Exception as error:
            failure = RunError.of(error)
            _LOG.debug("the run could not start", exc_info=error)
            self.control.fail(str(failure))
            self._status.not_started(failure.message)
            return None

    def _run(self, stack: ExitStack, validated: Callable[[], None]) -> dict[str, Any]:
        """Execute one run; `validated` is called when everything is checked."""
        control = self.control
        context = open_run(
            self._config, self._options, control, stack, self._fork_server, validated
        )
        self._context, self.accounting = context, context.accounting
        self._serve_http()
        stack.callback(set_context, run=None)
        set_context(run=context.accounting.run)
        if control.state is State.INITIAL:
            control.transition(State.CONFIGURED)
        graph, run = self._config.graph.name, context.accounting.run
        self._status.state(control.state, graph, run, "starts its processes")
        log = RunLog(context.accounting, control)
        with closing(log), ticker(log.poll, POLL_S):
            engine = start_engine(ENGINES[self._options.engine], context, self._options)
            control.transition(State.RUNNING)
            self._status.state(control.state, graph, run, "takes events")
            self._status.ready()
            stack.enter_context(short_switch_interval())
            show = self._progress
            if show is not None:
                stack.enter_context(
                    ticker(lambda: show(control, context.accounting, context.source))
                )
            report = finish_run(context, engine, self._in_loop)
        save_report(context, report, self._options)
        self._status.ended(report)
        return report

    def _configure(self) -> None:
        config = self._load()
        validate(config)
        self._config, self.control = config, RunState()
        self.control.transition(State.CONFIGURED)
        self._status.state(self.control.state, config.graph.name)
        if (
            self._ending and not self.control.stopping
        ):  # the signal came before this run state was set
            self.control.request_stop()

    def _bind_http(self, stack: ExitStack) -> None:
        """Take the address of HTTP; `_serve_http` begins to serve there."""
        listen = self._options.http
        if listen is None:
            return
        from .serve_http import bind_http

        self._serve_http = bind_http(
            stack, self, HttpAuth(listen, self._config.http.token_file), self._announce
        )

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Install handlers of the signals that stop the run and end the daemon."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def request_end(_: int) -> None:
            self._ending = True
            self._commands.put("end")
            self.control.request_stop()

        with on_end_signals(request_end):
            yield

    def configure(self) -> None:
        """Read and check the graph file again, between runs."""
        with self._lock:
            self._require_idle("configure")
            self._configure()

    def start(self) -> None:
        """Start a run; returns before it takes events. Refused during a run."""
        with self._lock:
            self._require_idle("start")
            if self.control.state is State.ERROR:
                raise RunError(
                    f"run: cannot start in ERROR: {self.control.cause}",
                    hint="put it right, then configure",
                )
            self._idle = False
        self._commands.put("start")

    def stop(self, *, abort: bool) -> None:
        """Stop the run, with or without draining; returns before it has ended."""
        if self._idle:
            raise RunError(f"run: cannot stop while {self.control.state.value}: there is no run")
        if not self.control.stopping:
            self.control.request_stop()
        if abort:
            self.control.request_stop()

    def swap(self, stage: str, model: str) -> dict[str, Any]:
        """Swap the model of a stage; return the record of the swap once it begins."""
        control, context = self.control, self._context
        if (
            control.state not in (State.RUNNING, State.PAUSED)
            or control.stopping
            or context is None
        ):
            where = "draining" if control.stopping else control.state.value
            raise RunError(f"run: cannot swap a model while {where}")
        return request_swap(context, stage, model).wait(_SWAP_S)

    def _require_idle(self, action: str) -> None:
        if not self._idle:
            where = "starting" if self.control.state is State.CONFIGURED else "in a run"
            hint = None if self._waits else _NOT_WAITING
            raise RunError(f"run: cannot {action} while {where}", hint)
