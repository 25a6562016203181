"""What a training leaves beside its checkpoints: what it was trained on, and by which recipe."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.inference.manifest import Training

from .loop import METRICS

R = TypeVar("R")
FILE = "training.json"


class Provenance(msgspec.Struct, Generic[R], frozen=True):
    """What `FILE` says; `R` is the family's recipe."""

    training: Training
    recipe: R


def claim_folder(folder: Path, note: Provenance[R], *, resume: bool) -> None:
    """Make `folder` that of one training: never some nets of this and some of an earlier one.

    A training that is resumed by newer code keeps the commit at which it began.

    Raises
    ------
    ConfigError
        If it is to be resumed, and holds another one.
    """
    said = msgspec.json.format(msgspec.json.encode(note))
    path = folder / FILE
    if not resume:
        for stale in (*folder.glob("*.pt"), folder / METRICS):
            stale.unlink(missing_ok=True)
    elif path.exists():
        if _without_commit(path.read_bytes()) != _without_commit(said):
            raise _another(folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(said)


def _without_commit(said: bytes) -> Any:
    """Return what a note says but for the commit; None if it is no note."""
    try:
        note = msgspec.json.decode(said)
        return note | {"training": note["training"] | {"commit": ""}}
    except (msgspec.DecodeError, TypeError, KeyError):
        return None


def code_version() -> str:
    """Return the commit of the checkout that this code is in, with ``-dirty`` if it was changed.

    Returns
    -------
    str
        40 hex digits and the suffix; empty if the code is in no checkout.
    """
    file = Path(__file__).resolve()
    if not _git(file.parent, "ls-files", file.name):  # some other project's checkout
        return ""
    return _git(file.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*")


def _git(folder: Path, *arguments: str) -> str:
    """Return what git says in a folder; nothing if it is no checkout, or there is no git."""
    command = ("git", "-C", str(folder), *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def require_same_training(folder: Path, recipe: R, kind: type[Provenance[R]], family: str) -> None:
    """Refuse to resume in a folder of another recipe; to be asked before dear events are made.

    Raises
    ------
    ConfigError
        If `folder` holds a training by another recipe, or what it left cannot be read.
    """
    if (folder / FILE).exists() and read(folder, kind, family).recipe != recipe:
        raise _another(folder)


def read(checkpoints: Path, kind: type[Provenance[R]], family: str) -> Provenance[R]:
    """Return what the training of a family left beside its checkpoints.

    Raises
    ------
    ConfigError
        If it is missing, broken or of another shape.
    """
    path = checkpoints / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ConfigError(
            f"checkpoints {checkpoints}: {FILE} is missing", f"`sluice train {family}` writes it"
        ) from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}") from error


def _another(folder: Path) -> ConfigError:
    return ConfigError(
        f"checkpoints {folder}: made with another recipe, seed or simulation",
        "train without --resume, or into another folder",
    )
