"""The command that makes keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: sluice keygen keys/front-end-7")(keygen)


def keygen(
    name: Annotated[Path, typer.Argument(help="Where to: NAME.secret and NAME.public.")],
) -> None:
    """Make a pair of CURVE keys for an edge that others on the network can reach."""
    from sluice.pipeline.transport.curve_keys import write_keys
    from sluice.pipeline.transport.socket import new_keys

    secret, public = write_keys(name, new_keys())
    typer.echo(f"{secret}: stays here\n{public}: give it to those who shall know {name.name}")
