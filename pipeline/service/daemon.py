"""The process around runs: one run, or one after the other; HTTP, signals, progress."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import Any

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.core.errors import ConfigError, RunError, SluiceError, did_you_mean
from sluice.pipeline.engine.base import Engine, RunContext
from sluice.pipeline.engine.distributed.engine import DistributedEngine
from sluice.pipeline.engine.inline import InlineEngine
from sluice.pipeline.engine.model_swap import request_swap
from sluice.pipeline.gpu.nvml import start_sampler
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.state import RunState, State
from sluice.pipeline.sources.base import Source
from sluice.pipeline.system.cpu_scheduling import short_switch_interval
from sluice.pipeline.system.fork_server.client import ForkServer
from sluice.pipeline.transport import socket

from .auth import HttpAuth
from .session import RunOptions, finish_run, open_run, validate

ENGINES: dict[str, Callable[[RunContext], Engine]] = {
    "inline": InlineEngine,
    "distributed": DistributedEngine,
}

Progress = Callable[[RunState, RunAccounting, Source], None]
Announce = Callable[[str], None]
#: How long somebody waits for a swap at most.
_SWAP_S = 90.0
_NOT_WAITING = "this daemon runs once; `sluice run GRAPH --wait` makes one that waits for start"


class Daemon:
    """Runs of one graph, and what HTTP and signals may do to them; see `web.Desk`.

    Parameters
    ----------
    load
        Reads the graph file, again at each configuration.
    wishes
        What the command line asks.
    progress
        Called ten times a second from a thread while a run lasts.
    announce
        Called with the HTTP address once it is served.
    nursery
        Where processes come from; each run has its own unless given.
    """

    def __init__(
        self,
        load: Callable[[], GraphConfig],
        wishes: RunOptions,
        progress: Progress | None = None,
        announce: Announce | None = None,
        nursery: ForkServer | None = None,
    ) -> None:
        if wishes.engine not in ENGINES:
            raise ConfigError(
                f"engine {wishes.engine!r}: no such engine", did_you_mean(wishes.engine, ENGINES)
            )
        self._load = load
        self._wishes = wishes
        self._progress = progress
        self._announce = announce
        self._nursery = nursery
        self._lock = threading.Lock()
        self._waits = self._idle = self._ending = False
        #: Filled from HTTP and from signals, whose handlers may take no lock.
        self._commands: SimpleQueue[str] = SimpleQueue()
        self._plan: RunContext | None = None
        self.control = RunState()
        self.account: RunAccounting | None = None

    def run_once(self) -> dict[str, Any]:
        """Make one run at once and return its report; SluiceError if it could not even start."""
        with ExitStack() as stack:
            stack.callback(socket.terminate)
            stack.enter_context(self._signals())
            self._config = self._load()
            return self._run(stack, lambda: self._serve(stack))

    def serve(self, done: Callable[[dict[str, Any]], None]) -> None:
        """Make a run at each `start`, until a signal ends the daemon.

        Parameters
        ----------
        done
            Takes the report of each run.
        """
        with ExitStack() as stack:
            stack.callback(socket.terminate)
            stack.enter_context(self._signals())
            self._configure()
            self._serve(stack)
            self._waits = self._idle = True
            while self._commands.get() == "start":
                report = self._run_once()
                if report is not None:
                    done(report)
                self._idle = True
        if self.control.cause:
            raise RunError(self.control.cause)

    def _run_once(self) -> dict[str, Any] | None:
        """Make one run; None if it could not start, which its control then says."""
        try:
            if self.control.state is State.STOPPED:
                self._configure()
            with ExitStack() as stack:
                return self._run(stack, lambda: None)
        except SluiceError as error:
            self.control.fail(str(error))
            return None

    def _run(self, stack: ExitStack, planned: Callable[[], None]) -> dict[str, Any]:
        control = self.control
        plan = open_run(self._config, self._wishes, control, stack, self._nursery)
        self._plan, self.account = plan, plan.account
        if control.state is State.INITIAL:
            control.transition(State.CONFIGURED)
        planned()
        engine = ENGINES[self._wishes.engine](plan)
        engine.start()
        control.transition(State.RUNNING)
        stack.enter_context(short_switch_interval())
        show = self._progress
        if show is not None:
            stack.enter_context(_ticker(lambda: show(control, plan.account, plan.source)))
        return finish_run(plan, engine)

    def _configure(self) -> None:
        config = self._load()
        validate(config)
        self._config, self.control = config, RunState()
        self.control.transition(State.CONFIGURED)
        if self._ending and not self.control.stopping:  # the signal met the control before
            self.control.request_stop()

    def _serve(self, stack: ExitStack) -> None:
        listen = self._wishes.http
        if listen is None:
            return
        from prometheus_client import CollectorRegistry

        from .http import WebServer, application
        from .prometheus import RunCollector
        from .prometheus_gpu import GpuCollector

        access = HttpAuth(listen, self._config.http.token_file)
        registry = CollectorRegistry()
        registry.register(RunCollector(lambda: (self.account, self.control)))
        gpus = start_sampler()
        if gpus is not None:
            stack.callback(gpus.close)
            registry.register(GpuCollector(gpus.samples))
        server = WebServer(access, application(self, registry, access))
        stack.callback(server.close)
        server.start()
        if self._announce is not None:
            self._announce(server.address)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT ask the run to stop, and the daemon to end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(_: int, __: FrameType | None) -> None:
            self._ending = True
            self._commands.put("end")
            self.control.request_stop()

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def configure(self) -> None:
        """Read and check the graph file anew, between runs; see `web.Desk`."""
        with self._lock:
            self._require_idle("configure")
            self._configure()

    def start(self) -> None:
        """Begin a run, between runs; see `web.Desk`."""
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
        """Drain and end the run, or end it without draining; see `web.Desk`."""
        if self._idle:
            raise RunError(f"run: cannot stop while {self.control.state.value}: there is no run")
        if not self.control.stopping:
            self.control.request_stop()
        if abort:
            self.control.request_stop()

    def swap(self, stage: str, model: str) -> dict[str, Any]:
        """Let a stage judge with another model; see `web.Desk`."""
        control, plan = self.control, self._plan
        if control.state not in (State.RUNNING, State.PAUSED) or control.stopping or plan is None:
            where = "draining" if control.stopping else control.state.value
            raise RunError(f"run: cannot swap a model while {where}")
        return request_swap(plan, stage, model).wait(_SWAP_S)

    def _require_idle(self, action: str) -> None:
        if not self._idle:
            where = "starting" if self.control.state is State.CONFIGURED else "in a run"
            hint = None if self._waits else _NOT_WAITING
            raise RunError(f"run: cannot {action} while {where}", hint)


def run_graph(
    config: GraphConfig,
    wishes: RunOptions,
    progress: Progress | None = None,
    announce: Announce | None = None,
    nursery: ForkServer | None = None,
) -> dict[str, Any]:
    """Run a graph to its end and return the report; SIGTERM and SIGINT drain and end it.

    Parameters
    ----------
    config
        The graph, with source and sink as they shall be.
    wishes
        What the command line asks.
    progress, announce, nursery
        As for `Daemon`.

    Returns
    -------
    dict
        The report; ``error`` in it names the first cause if the run ended in ERROR.

    Raises
    ------
    SluiceError
        If the run could not even start.
    """
    return Daemon(lambda: config, wishes, progress, announce, nursery).run_once()


def raise_on_error(report: dict[str, Any]) -> None:
    """Raise RunError if the run ended in ERROR."""
    if report["error"]:
        raise RunError(report["error"], report["hint"])


@contextmanager
def _ticker(tick: Callable[[], None], period_s: float = 0.1) -> Iterator[None]:
    """Call `tick` from a thread every `period_s`, and once at the end."""
    done = threading.Event()

    def loop() -> None:
        while not done.wait(period_s):
            tick()

    thread = threading.Thread(target=loop, name="sluice-progress")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        tick()
