"""``sluice worker``: compute for a run of another host."""

from __future__ import annotations

from typing import Annotated

import typer

from .common.options import Key, LogJson, LogLevel, PlainTcp, ServerKey


def register(app: typer.Typer) -> None:
    """Add the command of this module, under its name of an earlier release too."""
    app.command(
        epilog="Example: sluice worker tcp://daq7:5561 --key me.secret --server-key daq7.public"
    )(worker)
    app.command("work", hidden=True)(worker)


def worker(
    to: Annotated[str, typer.Argument(help="Endpoint of the run: `workers.listen` of its graph.")],
    name: Annotated[
        str | None,
        typer.Option(help="Name, unique in the run; host and process id if omitted."),
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0.1, help="Seconds to wait for a run that listens there.")
    ] = 60,
    key: Key = None,
    server_key: ServerKey = None,
    plain_tcp: PlainTcp = False,
    log_level: LogLevel = None,
    log_json: LogJson = False,
) -> None:
    """Join a run of another host as a compute worker, until it ends or SIGTERM."""
    from sluice.pipeline.core.endpoints import require_local
    from sluice.pipeline.engine.workers.remote import join_run
    from sluice.pipeline.system.log import LogLevel as Level
    from sluice.pipeline.system.log import configure
    from sluice.pipeline.transport.curve_keys import load_client_auth

    configure(log_level or Level.INFO, name or "worker", as_json=log_json)
    keys = load_client_auth(key, server_key)
    if keys is None and not plain_tcp:
        require_local(to)
    join_run(to, keys, name, patience, lambda text: typer.echo(text, err=True))
