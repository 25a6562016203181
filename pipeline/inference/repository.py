"""The model repository: find, read, check and write models."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tomllib
import zipfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
from msgspec import Struct

from sluice.pipeline.config.strict import strict_convert
from sluice.pipeline.core.errors import ConfigError, ModelError, did_you_mean
from sluice.pipeline.core.schema import Array

from .manifest import RENAMED_KEYS, Manifest, validate_manifest
from .onnx_file import read_onnx_file

MANIFEST = "manifest.toml"
#: Names of models; those that begin with a dot or an underscore are hidden folders.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LAYERS = "layers.npz"


class Model(Struct, frozen=True):
    """A version of a model: its manifest and its folder."""

    manifest: Manifest
    folder: Path

    @property
    def path(self) -> Path:
        """The model file."""
        return self.folder / self.manifest.file

    @property
    def label(self) -> str:
        """Name and version, as messages print them."""
        return f"{self.manifest.name}/{self.manifest.version}"

    def golden(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return the golden inputs and outputs by tensor name.

        Raises
        ------
        ModelError
            If the file is missing, is not the one of the manifest, or lacks a tensor.
        """
        arrays = self._arrays(self.manifest.golden, self.manifest.golden_sha256)
        try:
            inputs = {t.name: arrays[f"in_{t.name}"] for t in self.manifest.inputs}
            outputs = {t.name: arrays[f"out_{t.name}"] for t in self.manifest.outputs}
        except KeyError as error:
            raise ModelError(
                f"model {self.label}: {self.manifest.golden}: cannot read: {error}"
            ) from error
        return inputs, outputs

    def layers(self) -> dict[str, Array]:
        """Return the arrays of the layers file; docs/reference/models.md names them.

        Raises
        ------
        ModelError
            If the model has none, or the file is not the one of the manifest.
        """
        if not self.manifest.layers:
            raise ModelError(
                f"model {self.label}: has no layers file: it is more than plain layers",
                hint="use backend 'onnxruntime:cpu' for it",
            )
        return self._arrays(self.manifest.layers, self.manifest.layers_sha256)

    def _arrays(self, file: str, sha: str) -> dict[str, Array]:
        path = self.folder / file
        _verify(path, sha, self.label)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
            raise ModelError(f"model {self.label}: {path.name}: cannot read: {error}") from error


#: Models that shipped under another name before.
_RENAMED = {"antihydrogen-still": "antihydrogen-unshifted"}


def repositories() -> list[Path]:
    """Return the folders to search for models: those in ``SLUICE_MODELS``, then the shipped one.

    Raises
    ------
    ModelError
        If ``SLUICE_MODELS`` names something that is no folder.
    """
    own = [Path(text) for text in os.environ.get("SLUICE_MODELS", "").split(os.pathsep) if text]
    for path in own:
        if not path.is_dir():
            raise ModelError(f"SLUICE_MODELS: expected folders, got {str(path)!r}")
    return [*own, Path(str(files("sluice.models")))]


def find_model(name: str, version: int | None = None) -> Model:
    """Return a model by name, its newest version unless one is given, with its hash checked.

    Raises
    ------
    ModelError
        If `name` is a path, there is no such model, its manifest is missing or invalid, or the
        hash of a file differs from the manifest.
    """
    require_plain_name(name)
    found = [path for root in repositories() for path in (root / name,) if path.is_dir()]
    if not found:
        known = {path.name for root in repositories() for path in _folders(root)}
        renamed = f"it is called {_RENAMED[name]!r} now" if name in _RENAMED else ""
        raise ModelError(
            f"model {name!r}: not in the repository",
            hint=renamed or did_you_mean(name, known) or "`sluice models` lists what is there",
        )
    versions = sorted(int(p.name) for p in found[0].iterdir() if p.is_dir() and p.name.isdigit())
    chosen = versions[-1] if version is None and versions else version
    if chosen not in versions:
        raise ModelError(f"model {name!r}: expected a version of {versions}, got {version}")
    return read_model(found[0] / str(chosen))


def require_plain_name(name: str) -> None:
    """Raise ModelError if the name of a model could lead out of a repository.

    Examples
    --------
    >>> require_plain_name("wafer-tagger")
    """
    if not _NAME.fullmatch(name):
        raise ModelError(
            f"model {name!r}: expected the name of a model, of letters, digits, '.', '_' and '-', "
            "got a path or other characters",
            hint="models are found by name in the folders of SLUICE_MODELS; "
            "`sluice models` lists them",
        )


def find_model_by_label(label: str) -> Model:
    """Return the model of a label ``name`` or ``name@version``, its hash checked."""
    name, at, version = label.partition("@")
    if at and not version.isdigit():
        raise ModelError(f"model {label!r}: expected NAME or NAME@VERSION, such as wafer-tagger@2")
    return find_model(name, int(version) if at else None)


def read_model(folder: Path) -> Model:
    """Return the model in `folder`, its manifest parsed and its hash checked."""
    path = folder / MANIFEST
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"model {folder.parent.name}/{folder.name}: {MANIFEST} is missing",
            hint="`sluice export FAMILY` writes the model, its manifest and its golden outputs",
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"{path}: cannot read: {error}") from error
    try:
        model = Model(strict_convert(tables, Manifest, str(path), RENAMED_KEYS), folder)
    except ConfigError as error:
        raise ModelError(error.message, error.hint) from error
    validate_manifest(model.manifest, str(path))
    _require_folder(model)
    _verify(model.path, model.manifest.sha256, model.label)
    _verify_external(model)
    return model


def _require_folder(model: Model) -> None:
    """Raise ModelError unless a model lies in the folder of its name and version."""
    version, name = model.folder.name, model.folder.parent.name
    if (model.manifest.name, str(model.manifest.version)) != (name, version):
        raise ModelError(
            f"{model.folder / MANIFEST}: expected the name and version of its folder, "
            f"{name}/{version}, got {model.label}"
        )


def _verify_external(model: Model) -> None:
    """Check the files with weights that the model file refers to; each must be in the manifest."""
    known = model.manifest.external
    for name in read_onnx_file(model.path, model.label).external:
        if name not in known:
            raise ModelError(
                f"model {model.label}: {model.path.name} has weights in {name!r}, whose hash is "
                "not in the manifest",
                hint="`sluice add-model` writes the manifest with the hash of every file",
            )
    for name, digest in known.items():
        _verify(model.folder / name, digest, model.label)


def all_models() -> list[Path]:
    """Return the folder of every version of every model, sorted by name and version."""
    versions = [v for root in repositories() for model in _folders(root) for v in _folders(model)]
    return sorted(versions, key=lambda path: (path.parent.name, path.name))


def find_family_models(family: str) -> list[Model]:
    """Return the newest version of every model of a family, sorted by name."""
    names = sorted({folder.parent.name for folder in all_models()})
    return [model for model in map(find_model, names) if model.manifest.family == family]


def write_model(
    root: Path,
    manifest: Manifest,
    onnx: bytes,
    inputs: dict[str, Array],
    outputs: dict[str, Array],
    layers: dict[str, Array] | None = None,
    external: Mapping[str, Path] | None = None,
) -> Model:
    """Write ``root/<name>/<version>/{model.onnx, manifest.toml, golden.npz}`` with their hashes.

    Parameters
    ----------
    root
        The repository.
    manifest
        Manifest; its hashes are filled in.
    onnx
        The serialised model.
    inputs, outputs
        The golden arrays by tensor name.
    layers
        Arrays of the layers file; None to write none.
    external
        Files with weights outside the model file, to copy, by their location in its folder.
    """
    folder = root / manifest.name / str(manifest.version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / manifest.file).write_bytes(onnx)
    arrays: dict[str, Any] = {f"in_{name}": array for name, array in inputs.items()}
    arrays |= {f"out_{name}": array for name, array in outputs.items()}
    np.savez_compressed(folder / manifest.golden, **arrays)
    if layers is not None:
        np.savez_compressed(folder / _LAYERS, **cast("dict[str, Any]", layers))
        manifest = msgspec.structs.replace(
            manifest, layers=_LAYERS, layers_sha256=sha256(folder / _LAYERS)
        )
    for location, source in (external or {}).items():
        (folder / location).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / location)
    manifest = msgspec.structs.replace(
        manifest,
        external={name: sha256(folder / name) for name in external or manifest.external},
        sha256=sha256(folder / manifest.file),
        golden_sha256=sha256(folder / manifest.golden),
    )
    (folder / MANIFEST).write_bytes(msgspec.toml.encode(manifest))
    return Model(manifest, folder)


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(path: Path, expected: str, label: str) -> None:
    try:
        got = sha256(path)
    except OSError as error:
        raise ModelError(f"model {label}: {path.name}: {error.strerror}") from error
    if got != expected:
        raise ModelError(
            f"model {label}: {path.name}: expected sha256 {expected[:16]}…, got {got[:16]}…",
            hint="the file is not the one of its manifest; export it again",
        )


def _folders(root: Path) -> list[Path]:
    hidden = (".", "_")
    return [p for p in root.iterdir() if p.is_dir() and not p.name.startswith(hidden)]
