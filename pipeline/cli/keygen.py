"""``sluice keygen``: CURVE keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: sluice keygen keys/front-end-7")(keygen)


def keygen(
    name: Annotated[
        Path, typer.Argument(help="Path without suffix: NAME.secret and NAME.public are written.")
    ],
) -> None:
    """Make a pair of CURVE keys for connections between hosts."""
    from sluice.pipeline.transport.curve_keys import new_keys, write_keys

    secret, public = write_keys(name, new_keys())
    typer.echo(
        f"{secret}: secret, stays on this host\n{public}: public, for the peers of {name.name}"
    )
