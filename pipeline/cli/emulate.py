"""``sluice emulate``: an emulated front end of a detector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sluice.pipeline.core.errors import DataError

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
    from sluice.pipeline.tools.emulator.front_end import FrontEndEmulator, Sent
    from sluice.pipeline.transport import socket
    from sluice.pipeline.transport.curve_keys import load_client_auth

    from .common.progress import progress_bar

    security = load_client_auth(key, server_key)
    if security is None and not plain_tcp:
        require_local(to)
    events, schema = _events(family, recording, seed)
    total = max(1, round(rate * seconds))
    with progress_bar(total, quiet=as_json) as update:

        def show(sent: Sent) -> None:
            update(sent.events + sent.dropped + sent.suppressed, "")

        front_end = FrontEndEmulator(to, events, schema, security=security, first_id=first_id)
        try:
            sent = front_end.run(rate, total, per_message, show)
        finally:
            front_end.close()
            socket.terminate()
    if as_json:
        print_json(sent)
    else:
        Console().print(
            f"sent {sent.events:,} events in {sent.messages:,} messages, {sent.seconds:.2f} s; "
            f"dropped {sent.dropped:,}; suppressed {sent.suppressed:,}; "
            f"acknowledged {sent.acknowledged:,}"
        )


def _events(family: str, recording: Path | None, seed: int) -> Any:
    """Return the events to send, as one batch, and their columns."""
    from importlib.metadata import entry_points

    from sluice.pipeline.core.batch import concatenate
    from sluice.pipeline.core.schema import T_INGEST, Schema
    from sluice.pipeline.recording import Recording

    if recording is not None:
        reader = Recording(recording)
        batches = list(reader.batches())
        reader.close()
        if not batches:
            raise DataError(f"{recording}: expected events to send, got none")
        batch, schema = concatenate(batches), reader.schema
    else:
        (simulator,) = entry_points(group="sluice.simulators")
        batch, schema = simulator.load()(family, 65_536, seed)
    return batch, Schema(c for c in schema if c.name not in (T_INGEST.name, "truth"))
