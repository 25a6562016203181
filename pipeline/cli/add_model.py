"""``sluice add-model``: an ONNX file into a model repository."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: sluice add-model classifier.onnx --data events.npz")(add_model)


def add_model(
    file: Annotated[Path, typer.Argument(help="ONNX file; weights outside it lie beside it.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Events for the golden inputs: .npz, .npy, or what replay reads."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name; that of the file by default.")] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="Version; the next one by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a version that exists.")] = False,
) -> None:
    """Add a model that another program exported, checked as a run does; print its stage."""
    from sluice.pipeline.tools.added_model import add_model

    added = add_model(file, data, name, version, force=force)
    typer.echo(f"added {added.folder}")
    for note in added.notes:
        typer.echo(f"note: {note}")
    if not os.environ.get("SLUICE_MODELS", "").strip(":"):
        typer.echo(f"for runs to find it: export SLUICE_MODELS={added.folder.parents[1]}")
    typer.echo(f"\n{added.stage}")
