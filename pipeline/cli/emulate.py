"""``sluice emulate``: an emulated front end of a detector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common.options import Json, Key, PlainTcp, ServerKey
from .common.output import print_json


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: sluice emulate wafers --rate 20000 --seconds 60")(emulate)


def emulate(
    family: Annotated[
        str, typer.Argument(help="Model family whose simulated events are sent.")
    ] = "wafers",
    to: Annotated[str, typer.Option(help="Endpoint of the run.")] = "tcp://127.0.0.1:5560",
    rate: Annotated[float, typer.Option(min=0.001, help="Events per second.")] = 20_000,
    seconds: Annotated[float, typer.Option(min=0.001, help="Duration, s.")] = 10,
    per_message: Annotated[int, typer.Option(min=1, help="Events per message.")] = 1,
    recording: Annotated[
        Path | None, typer.Option("--from", help="Send the events of this recording instead.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 1,
    first_id: Annotated[int, typer.Option(min=0, help="Id of the first event.")] = 0,
    key: Key = None,
    server_key: ServerKey = None,
    plain_tcp: PlainTcp = False,
    as_json: Json = False,
) -> None:
    """Send events to a running graph at a fixed rate, as a front end of the detector does."""
    from rich.console import Console

    from sluice.pipeline.core.endpoints import require_local
    from sluice.pipeline.tools.emulator import run
    from sluice.pipeline.transport.curve_keys import load_client_auth

    from .common.progress import progress_bar

    security = load_client_auth(key, server_key)
    if security is None and not plain_tcp:
        require_local(to)
    events, schema = run.load_events(family, recording, seed)
    total = max(1, round(rate * seconds))
    with progress_bar(total, quiet=as_json) as update:
        sent = run.emulate(
            to, events, schema, rate, total, per_message, first_id, security,
            lambda so_far: update(so_far.due, ""),
        )  # fmt: skip
    if as_json:
        print_json(sent)
    else:
        Console().print(
            f"sent {sent.events:,} events in {sent.messages:,} messages, {sent.seconds:.2f} s; "
            f"dropped {sent.dropped:,}; suppressed {sent.suppressed:,}; "
            f"acknowledged {sent.acknowledged:,}"
        )
