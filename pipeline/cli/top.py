"""``sluice top``: a daemon's run as a live page in the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .ctl import ADDRESS, Address

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sluice.pipeline.service.client import Status

_COLOURS = {"RUNNING": "green", "PAUSED": "yellow", "ERROR": "red"}
_CLASSES = ("accepted", "rejected", "prescaled", "shed", "invalid", "failed", "lost")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: sluice top --address 127.0.0.1:9464")(top)


def top(
    address: Address = ADDRESS,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between updates.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print the page once.")] = False,
) -> None:
    """Watch a run: state, rates, ledger, latency, stages, shadows; until Ctrl-C or its end."""
    from rich.console import Console
    from rich.live import Live

    from sluice.pipeline.service.client import Client, DaemonUnreachable

    client = Client(address)
    now, seen = client.status(), time.monotonic()
    if once:
        Console().print(render(now, now, 0.0))
        return
    with Live(render(now, now, 0.0), screen=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(every)
                before, then = now, seen
                now, seen = client.status(), time.monotonic()
                live.update(render(now, before, seen - then), refresh=True)
        except (KeyboardInterrupt, DaemonUnreachable):
            pass
    Console().print(render(now, now, 0.0))


def render(now: Status, before: Status, seconds: float) -> RenderableType:
    """Return the page of a status.

    Parameters
    ----------
    now, before
        Status of the daemon, and its status `seconds` earlier.
    """
    from rich.console import Group
    from rich.text import Text

    report = now["report"]
    head = Text(now["state"], style=_COLOURS.get(now["state"], "bold"))
    for who, why in now["holds"].items():
        head.append(f"  {who}: {why}", style="yellow")
    if now["cause"]:
        head.append(f"  {now['cause']}", style="red")
    if report is None:
        return Group(head, Text("no run yet"))
    head.append(f"  run {now['run']} · graph {report['graph']}", style="default")
    then = before["report"] if before["run"] == now["run"] and before["report"] else report
    parts: list[RenderableType] = [head, _ledger(report, then, seconds), _time(report)]
    parts.append(_stages(report, then, seconds))
    parts += [Text(line) for line in _warnings(report)]
    return Group(*parts)


def _ledger(report: dict[str, Any], then: dict[str, Any], seconds: float) -> RenderableType:
    from rich.table import Table

    table = Table("events", "total", "per second", box=None, padding=(0, 2))
    for name in ("offered", *_CLASSES):
        events, before = report["events"][name], then["events"][name]
        if events or name in ("offered", "accepted", "rejected"):
            rate = f"{(events - before) / seconds:,.0f}" if seconds else ""
            table.add_row(name, f"{events:,}", rate)
    return table


def _time(report: dict[str, Any]) -> RenderableType:
    from rich.text import Text

    latency, spent = report["latency_s"], report["seconds"]
    text = ", ".join(f"{q} {latency[q] * 1e3:.2f}" for q in ("p50", "p99", "p999", "max"))
    states = ", ".join(f"{s} {spent[s]:,.0f}" for s in ("live", "paused", "busy", "down"))
    return Text(f"latency [ms]: {text}\nseconds: {states} of {spent['wall']:,.0f}")


def _stages(report: dict[str, Any], then: dict[str, Any], seconds: float) -> RenderableType:
    from rich.table import Table

    table = Table("stage", "batches/s", "service p50 / p99 [ms]", "wait p99 [ms]", "model",
                  box=None, padding=(0, 2))  # fmt: skip
    for name, stage in report["stages"].items():
        before = then["stages"].get(name, stage)["batches"]
        rate = f"{(stage['batches'] - before) / seconds:,.1f}" if seconds else ""
        service, model = stage["service_s"], report["models"].get(name)
        table.add_row(
            name, rate, f"{service['p50'] * 1e3:.3f} / {service['p99'] * 1e3:.3f}",
            f"{stage['wait_s']['p99'] * 1e3:.3f}",
            f"{model['name']}@{model['version']}" if model else "",
        )  # fmt: skip
    return table


def _warnings(report: dict[str, Any]) -> Iterable[str]:
    """Yield restarts, swaps, shadows and protocol errors, a line each."""
    for worker, restarts in report["restarts"].items():
        yield f"{worker}: restarted {restarts} times"
    for swap in report["swaps"][-3:]:
        after = swap["to"]
        yield f"{swap['stage']}: {after['name']}@{after['version']} since batch {swap['seq']}"
    for name, shadow in report["shadows"].items():
        accepted = shadow["accepted"]
        off = f", off: {shadow['off']}" if shadow["off"] else ""
        yield (
            f"shadow {name}: gains {accepted['gained']:,}, loses {accepted['lost']:,} "
            f"of {shadow['seen']:,} events{off}"
        )
    if report["protocol_errors"]:
        yield f"{report['protocol_errors']:,} protocol errors"
