"""One run from configuration to report: source, graph, engine, HTTP, signals."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry

from . import transport
from .account import Account
from .config import GraphConfig, seconds
from .engine import Engine, Plan
from .engine.distributed import DistributedEngine
from .engine.inline import InlineEngine
from .errors import ConfigError, RunError, SluiceError, nearest
from .exposition import RunCollector
from .graph import build_graph
from .numbering import RunNumbers, in_run, state_folder
from .parts import build
from .quarantine import Quarantine
from .reference import read_bands
from .sinks import Sink
from .sources import Source
from .sources.paced import Paced
from .state import Control, State
from .web import WebServer, application

ENGINES: dict[str, Callable[[Plan], Engine]] = {
    "inline": InlineEngine,
    "distributed": DistributedEngine,
}
#: While every worker is busy, a paced event waits for company at most this share of the budget.
_HOLD_SHARE = 0.25


class Wishes(Struct, frozen=True):
    """What the command line asks of a run beside its graph.

    Attributes
    ----------
    run
        The run number; None for the next one, `TRIAL` for one that is not remembered.
    engine
        ``inline`` or ``distributed``.
    rate_hz
        Slow the source down to this many events a second.
    http
        Serve HTTP there (``host:port``), None for not at all.
    quarantine
        Where refused events go, ``{run}`` stands for the run number; None only counts them.
    reference
        Report of a reference run: monitors that leave its bands raise an alarm.
    """

    run: int | None
    engine: str = "distributed"
    rate_hz: float | None = None
    http: str | None = None
    quarantine: Path | None = None
    reference: Path | None = None


Progress = Callable[[Control, Account, Source, str | None], None]


def execute(
    config: GraphConfig, wishes: Wishes, progress: Progress | None = None
) -> dict[str, Any]:
    """Run a graph to its end and return the report; SIGTERM and SIGINT drain and end it.

    Parameters
    ----------
    config
        The graph, with source and sink as they shall be.
    wishes
        What the command line asks.
    progress
        Called ten times a second from a thread, with the HTTP address or None.

    Returns
    -------
    dict
        The report; ``error`` in it names the first cause if the run ended in ERROR.

    Raises
    ------
    SluiceError
        If the run could not even start.
    """
    if wishes.engine not in ENGINES:
        raise ConfigError(
            f"engine {wishes.engine!r}: no such engine", nearest(wishes.engine, ENGINES)
        )
    control = Control()
    with ExitStack() as stack:
        stack.callback(transport.terminate)
        stack.enter_context(_signals(control))
        source: Source = build("source", config.source, config.origin)
        source.open()
        stack.callback(source.close)
        if wishes.rate_hz:
            budget_s = seconds(config.graph.latency_budget, "graph.latency_budget")
            source = Paced(source, wishes.rate_hz, _HOLD_SHARE * budget_s)
        runtime = _runtime_folder()
        stack.callback(shutil.rmtree, runtime, ignore_errors=True)
        plan = _plan(config, wishes, source, control, runtime)
        stack.callback(plan.account.quarantine.close)
        control.go(State.CONFIGURED)
        address = _serve(plan, wishes, stack)
        engine = ENGINES[wishes.engine](plan)
        engine.start()
        control.go(State.RUNNING)
        if progress is not None:
            stack.enter_context(_ticker(lambda: progress(control, plan.account, source, address)))
        return _conclude(plan, engine)


def _plan(
    config: GraphConfig, wishes: Wishes, source: Source, control: Control, runtime: Path
) -> Plan:
    sink: Sink = build("sink", config.sink, config.origin)
    graph = build_graph(config, source.schema, sink.columns)
    run = RunNumbers(state_folder(config.run.state)).claim(wishes.run)
    quarantine = Quarantine(in_run(wishes.quarantine, run), graph.inputs)
    judge = graph.judge()
    bor = {
        "run": run,
        "graph": config.graph.name,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "models": graph.models(),
        "paths": graph.paths(),
        "menu": judge.menu_info() if judge else None,
        "config": msgspec.to_builtins(config),
    }
    account = Account(graph, run, quarantine)
    if wishes.reference is not None:
        account.bands = read_bands(wishes.reference, [part.name for part in config.monitors])
    return Plan(graph, source, sink, account, control, bor, runtime)


def _serve(plan: Plan, wishes: Wishes, stack: ExitStack) -> str | None:
    if wishes.http is None:
        return None
    registry = CollectorRegistry()
    registry.register(RunCollector(plan.account))
    server = WebServer(
        wishes.http, application(plan.control, registry, plan.account.report)
    )  # fmt: skip
    stack.callback(server.close)
    server.start()
    return server.address


def _conclude(plan: Plan, engine: Engine) -> dict[str, Any]:
    """Run the engine and make the report, whatever happens."""
    control, written = plan.control, {}
    hint = None
    plan.account.ledger.start(time.monotonic_ns())
    try:
        engine.run()
    except SluiceError as error:
        control.fail(error.message)
        hint = error.hint
    except BaseException:
        engine.finish()
        raise
    try:
        written = engine.finish()
    except SluiceError as error:
        control.fail(error.message)
        hint = hint or error.hint
    if control.state is not State.ERROR:
        control.go(State.STOPPED)
    report = plan.account.report()
    if not report["closed"]:
        control.fail(f"the ledger does not close: {report['events']}")
    report |= {"state": control.state.value, "error": control.cause, "hint": hint,
               "output": written, "damage": plan.source.damage}  # fmt: skip
    return report


def check_report(report: dict[str, Any]) -> None:
    """Raise RunError if the run ended in ERROR."""
    if report["error"]:
        raise RunError(report["error"], report["hint"])


@contextmanager
def _signals(control: Control) -> Iterator[None]:
    """Let SIGTERM and SIGINT ask the run to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(_: int, __: FrameType | None) -> None:
        control.ask_to_stop()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def _runtime_folder() -> Path:
    """Make the run's folder for sockets and meters, in memory where the system has such a place."""
    shared = Path("/dev/shm")  # noqa: S108
    parent = shared if os.access(shared, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="sluice-", dir=parent))
