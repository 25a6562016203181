"""Commands that control a daemon: ctl status, configure, start, pause, resume, stop, swap."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common.output import print_json

if TYPE_CHECKING:
    from sluice.pipeline.service.client import Client, Status

Address = Annotated[
    str, typer.Option(envvar="SLUICE_ADDRESS", help="HTTP address of the daemon, HOST:PORT.")
]
_Token = Annotated[
    Path | None,
    typer.Option(envvar="SLUICE_TOKEN_FILE", help="File whose first line is the token."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print the daemon's answer as JSON.")]
_Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds to wait at most.")]
ADDRESS = "127.0.0.1:9464"

ctl = typer.Typer(
    help="Control a daemon over HTTP: configure, start, pause, resume, stop, swap, status.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    ctl.command(epilog="Example: sluice ctl status")(status)
    ctl.command(epilog="Example: sluice ctl configure")(configure)
    ctl.command(epilog="Example: sluice ctl start")(start)
    ctl.command(epilog="Example: sluice ctl pause")(pause)
    ctl.command(epilog="Example: sluice ctl resume")(resume)
    ctl.command(epilog="Example: sluice ctl stop --timeout 60")(stop)
    ctl.command(epilog="Example: sluice ctl swap tag wafer-tagger@2")(swap)
    app.add_typer(ctl, name="ctl")


def status(address: Address = ADDRESS, token_file: _Token = None, as_json: _Json = False) -> None:
    """Show the state of the run."""
    _print_status(_client(address, token_file).status(), as_json=as_json)


def configure(
    address: Address = ADDRESS, token_file: _Token = None, as_json: _Json = False
) -> None:
    """Let a waiting daemon read its graph file again; also ends the state ERROR."""
    _print_status(_client(address, token_file).post("configure", timeout_s=60), as_json=as_json)


def start(
    address: Address = ADDRESS,
    token_file: _Token = None,
    timeout: _Timeout = 180,
    as_json: _Json = False,
) -> None:
    """Start the next run of a waiting daemon; returns when the run takes events."""
    client = _client(address, token_file)
    before = client.post("start")["run"]

    def begun(now: Status) -> bool:
        # A short run may be over before the first poll.
        over = now["state"] == "STOPPED" and now["run"] != before
        return over or now["state"] in ("RUNNING", "PAUSED")

    _print_status(client.wait_until(begun, timeout), as_json=as_json)


def pause(address: Address = ADDRESS, token_file: _Token = None, as_json: _Json = False) -> None:
    """Stop reading from the source until resume; batches in flight are completed."""
    _print_status(_client(address, token_file).post("pause"), as_json=as_json)


def resume(address: Address = ADDRESS, token_file: _Token = None, as_json: _Json = False) -> None:
    """Read from the source again after pause."""
    _print_status(_client(address, token_file).post("resume"), as_json=as_json)


def stop(
    address: Address = ADDRESS,
    token_file: _Token = None,
    abort: Annotated[
        bool, typer.Option("--abort", help="Do not drain: events in flight count as failed.")
    ] = False,
    timeout: _Timeout = 180,
    as_json: _Json = False,
) -> None:
    """End the run; returns when it is drained and closed."""
    from sluice.pipeline.service.client import DaemonUnreachable

    client = _client(address, token_file)
    last = client.post("stop", abort="1" if abort else "0")
    try:
        last = client.wait_until(lambda now: now["state"] == "STOPPED", timeout)
    except DaemonUnreachable:  # a daemon that does not wait ends with its run
        last |= {"state": "STOPPED", "ended": True}
    _print_status(last, as_json=as_json)


def swap(
    stage: Annotated[str, typer.Argument(help="Name of the stage in the graph.")],
    model: Annotated[str, typer.Argument(help="NAME for the newest version, or NAME@VERSION.")],
    address: Address = ADDRESS,
    token_file: _Token = None,
    as_json: _Json = False,
) -> None:
    """Give a stage another model while the run goes on; the answer says from which batch."""
    client = _client(address, token_file)
    now = client.post("swap", timeout_s=120, stage=stage, model=model)
    if as_json:
        _print_status(now, as_json=True)
        return
    done = now["done"]
    before, after = (f"{done[way]['name']}@{done[way]['version']}" for way in ("from", "to"))
    typer.echo(f"epoch {done['epoch']} · {stage}: {before} → {after} from batch {done['seq']} on")


def _client(address: str, token_file: Path | None) -> Client:
    from sluice.pipeline.service.client import Client

    return Client(address, token_file)


def _print_status(now: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(now)
        return
    words = [now["state"]]
    if now["run"] is not None:
        words.append(f"run {now['run']}")
    if now.get("report"):
        events = now["report"]["events"]
        words.append(f"{events['offered']:,} events, {events['accepted']:,} accepted")
    words += [f"{who}: {why}" for who, why in now["holds"].items()]
    if now["cause"]:
        words.append(now["cause"])
    if now.get("ended"):
        words.append("the daemon has ended")
    typer.echo(" · ".join(words))
