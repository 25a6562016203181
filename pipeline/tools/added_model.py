"""Adding an ONNX file to a model repository: golden events, checks, manifest, stage to paste."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from sluice.pipeline.core.errors import ConfigError, ModelError
from sluice.pipeline.core.schema import Array
from sluice.pipeline.inference.manifest import Manifest, Tensor
from sluice.pipeline.inference.repository import (
    read_model,
    repositories,
    require_plain_name,
    write_model,
)
from sluice.pipeline.inference.session import DEFAULT, open_verified_session
from sluice.pipeline.inference.signature import ExportedModel

from .golden_inputs import column_name, inputs_of, random_inputs

#: Size of the largest batch that a model is tried with.
_BATCH_EVENTS = 4096
#: Tolerance relative to the largest golden output, by precision.
_TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3, "int8": 5e-2}


class AddedModel(Struct, frozen=True, kw_only=True):
    """A model that was added to a repository.

    Attributes
    ----------
    folder
        Folder of its version.
    manifest
        Its manifest.
    stage
        Table of a graph file that runs it.
    notes
        Sentences on what is left out or slower than it could be.
    """

    folder: Path
    manifest: Manifest
    stage: str
    notes: tuple[str, ...]


def add_model(
    path: Path,
    data: Path | None = None,
    name: str | None = None,
    version: int | None = None,
    *,
    force: bool = False,
) -> AddedModel:
    """Write a model into the first folder of ``SLUICE_MODELS``, or else into ``./models``.

    Parameters
    ----------
    path
        ONNX file.
    data
        File with events for the golden inputs: anything that ``sluice replay`` reads, or arrays in
        ``.npz`` or ``.npy``. Random numbers if omitted.
    name, version
        Name and version; by default those of the file, and the next one.
    force
        Whether to replace a version that exists.

    Raises
    ------
    SluiceError
        If the file cannot be used, fails the checks of models, or the version exists.
    """
    name = name or re.sub(r"[^A-Za-z0-9.-]+", "-", path.stem).strip("-.") or "model"
    require_plain_name(name)
    root = _repository()
    version = version or _next_version(root / name)
    folder = root / name / str(version)
    if folder.exists() and not force:
        raise ConfigError(
            f"{folder}: expected a new version, got one that exists",
            hint="leave --version out for the next one, or replace it with --force",
        )
    model = ExportedModel(path)
    manifest, inputs, outputs = _golden(model, name, version, data)
    external = {location: path.parent / location for location in model.signature.file.external}
    with _draft(folder) as draft:
        written = write_model(
            draft, manifest, path.read_bytes(), inputs, outputs, external=external
        )
        verified = read_model(written.folder)
        open_verified_session(verified, DEFAULT, f"model {verified.label}", _BATCH_EVENTS).close()
    fixed = model.signature.file.fixed_batch
    slow = (f"it takes {fixed} event(s) a call: batches run in blocks of {fixed}",) if fixed else ()
    return AddedModel(
        folder=folder,
        manifest=written.manifest,
        stage=stage_table(manifest),
        notes=(*model.signature.notes, *slow),
    )


def _repository() -> Path:
    return repositories()[0] if os.environ.get("SLUICE_MODELS", "").strip(":") else Path("models")


def _next_version(folder: Path) -> int:
    found = folder.iterdir() if folder.is_dir() else iter(())
    return 1 + max((int(path.name) for path in found if path.name.isdigit()), default=0)


def _golden(
    model: ExportedModel, name: str, version: int, data: Path | None
) -> tuple[Manifest, dict[str, Array], dict[str, Array]]:
    """Return the manifest, and golden inputs and outputs: events whose outputs are finite."""
    wanted = model.signature.inputs
    inputs = random_inputs(wanted) if data is None else inputs_of(wanted, data)
    arrays, outputs = model.outputs_of(inputs)
    finite = np.logical_and.reduce(
        [np.isfinite(a.reshape(len(a), -1)).all(axis=1) for a in arrays.values()]
    )
    if not finite.any():
        raise ModelError(
            f"model {name}: expected finite outputs, got NaN or infinity for all events",
            hint="give events for which the model is defined: `--data FILE`",
        )
    inputs = {tensor: array[finite] for tensor, array in inputs.items()}
    arrays = {tensor: array[finite] for tensor, array in arrays.items()}
    file = model.signature.file
    precision = "fp32"
    if any("Quantize" in operator or operator.startswith("QLinear") for operator in file.operators):
        precision = "int8"
    elif any(array.dtype == np.float16 for array in (*inputs.values(), *arrays.values())):
        precision = "fp16"
    largest = max(float(np.abs(array.astype(np.float64)).max()) for array in arrays.values())
    manifest = Manifest(
        name=name, version=version, family="added", sha256="", precision=precision,
        opset=file.opsets.get("ai.onnx", 0), tolerance=_TOLERANCE[precision] * max(1.0, largest),
        inputs=tuple(Tensor(n, str(a.dtype), a.shape[1:]) for n, a in inputs.items()),
        outputs=outputs,
    )  # fmt: skip
    return manifest, inputs, arrays


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """Yield a repository whose only model becomes `folder` if no error is raised."""
    root = folder.parent.parent
    draft = root / f".adding-{os.getpid()}"
    try:
        draft.mkdir(parents=True)
        yield draft
        folder.parent.mkdir(exist_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        (draft / folder.parent.name / folder.name).rename(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot write there: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def stage_table(manifest: Manifest) -> str:
    """Return the table ``[[stage]]`` of a graph file that runs a model."""
    lines = [
        "[[stage]]",
        f'name = "{manifest.name}"',
        'use = "infer"',
        f'model = "{manifest.name}"',
    ]
    for key, tensors in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        named = {t.name: column_name(t.name) for t in tensors}
        if changed := {tensor: column for tensor, column in named.items() if tensor != column}:
            pairs = (
                f"{json.dumps(tensor)} = {json.dumps(column)}" for tensor, column in changed.items()
            )
            lines.append(f"{key} = {{ {', '.join(pairs)} }}")
        specs = (replace(t.column, name=named[t.name]) for t in tensors)
        does = "reads" if key == "inputs" else "adds"
        lines.append(f"# {does} {', '.join(f'{c.name} {c.spec}' for c in specs)}")
    return "\n".join(lines)
