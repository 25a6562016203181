"""The model repository: manifests, and the refusal of models that lie about themselves."""

from __future__ import annotations

import hashlib
import os
import tomllib
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
from msgspec import Struct

from .batch import Array, Column
from .config import convert
from .errors import ConfigError, ModelError, nearest

MANIFEST = "manifest.toml"
_LAYERS = "layers.npz"


class Tensor(Struct, frozen=True, forbid_unknown_fields=True):
    """An input or output of a model; `shape` is without the event axis."""

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    unit: str = "1"
    #: Names of the entries of the last axis, for outputs that the menu reads.
    labels: tuple[str, ...] = ()
    #: Of an input: it takes lists of items of `shape`, (events, K, *shape) for any K up to this.
    most: int = 0
    #: Name of the input whose items this one marks: (events, K), 1 where an item is no padding.
    mask: str = ""
    #: Name of the input whose items this one counts: (events,), without padding.
    length: str = ""

    @property
    def of_list(self) -> str:
        """The input that this one is made of, if it is no column itself."""
        return self.mask or self.length

    @property
    def axes(self) -> tuple[int | None, ...]:
        """Shape without the event axis; None for the items of a list."""
        return (None, *self.shape) if self.most or self.mask else self.shape

    @property
    def column(self) -> Column:
        """The column that this tensor is in a batch."""
        return Column(self.name, self.dtype, self.axes, self.unit, self.labels, self.most)

    def fits(self, shape: tuple[int, ...], events: int) -> bool:
        """Whether an array of this shape holds so many events, lists padded to any length."""
        wanted = (events, *self.axes)
        return len(shape) == len(wanted) and all(
            n is None or n == got for n, got in zip(wanted, shape, strict=True)
        )


class Preprocessing(Struct, frozen=True, forbid_unknown_fields=True):
    """Which kernel made the inputs in training, and must make them online."""

    kernel: str = ""


class Sizes(Struct, frozen=True, forbid_unknown_fields=True):
    """How many events a model gets at once; engines of a GPU are built and tuned for these."""

    least: int = 1
    usual: int = 1024
    most: int = 4096


class Training(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the weights come from."""

    seed: int = 0
    dataset: str = ""
    dataset_sha256: str = ""
    events: int = 0
    commit: str = ""
    recipe_sha256: str = ""


class Published(Struct, frozen=True, forbid_unknown_fields=True):
    """A number from the literature, to stand beside ours."""

    #: Which of the manifest's metrics it stands beside.
    metric: str
    value: float
    #: What it was measured on, where that differs from ours.
    note: str = ""


class Card(Struct, frozen=True, forbid_unknown_fields=True):
    """What a reader needs to judge a model's numbers: they are a toy's, and reproduce nothing."""

    #: Where the method and the published numbers come from.
    reference: str = ""
    published: tuple[Published, ...] = ()
    #: Where simulation, net or measurement fall short.
    shortcomings: tuple[str, ...] = ()


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """All that is known of one version of one model."""

    name: str
    version: int
    family: str
    sha256: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    description: str = ""
    file: str = "model.onnx"
    opset: int = 0
    precision: str = "fp32"
    golden: str = "golden.npz"
    golden_sha256: str = ""
    #: The same net as plain layers, for the backend of that name; empty where it is more than that.
    layers: str = ""
    layers_sha256: str = ""
    #: Greatest allowed absolute difference from the golden outputs.
    tolerance: float = 1e-5
    #: What a GPU's engine takes; a larger batch goes in pieces.
    batch: Sizes = Sizes()
    preprocessing: Preprocessing = Preprocessing()
    training: Training = Training()
    #: Those called ``X_spread`` are the standard deviation of X between trainings.
    metrics: dict[str, float] = {}
    card: Card = Card()


class Model(Struct, frozen=True):
    """A manifest and the folder it was read from."""

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


def repositories() -> list[Path]:
    """Return the folders searched for models: ``SLUICE_MODELS`` (a path list), then the shipped.

    Raises
    ------
    ModelError
        If ``SLUICE_MODELS`` names something that is no folder.
    """
    own = [Path(part) for part in os.environ.get("SLUICE_MODELS", "").split(os.pathsep) if part]
    for path in own:
        if not path.is_dir():
            raise ModelError(f"SLUICE_MODELS: expected folders, got {str(path)!r}")
    return [*own, Path(str(files("sluice.models")))]


def find_model(name: str, version: int | None = None) -> Model:
    """Return a model by name, its newest version unless one is given, with its hash checked.

    Raises
    ------
    ModelError
        If there is none, its manifest is missing or wrong, or the file's hash is another.
    """
    found = [path for root in repositories() for path in (root / name,) if path.is_dir()]
    if not found:
        known = {path.name for root in repositories() for path in _folders(root)}
        raise ModelError(
            f"model {name!r}: not in the repository",
            hint=nearest(name, known) or "`sluice models` lists what is there",
        )
    versions = sorted(int(p.name) for p in found[0].iterdir() if p.is_dir() and p.name.isdigit())
    chosen = versions[-1] if version is None and versions else version
    if chosen not in versions:
        raise ModelError(f"model {name!r}: expected a version of {versions}, got {version}")
    return read_model(found[0] / str(chosen))


def find_labelled(label: str) -> Model:
    """Return the model that ``name`` or ``name@version`` stands for; see `find_model`."""
    name, at, version = label.partition("@")
    if at and not version.isdigit():
        raise ModelError(f"model {label!r}: expected NAME or NAME@VERSION, such as wafer-tagger@2")
    return find_model(name, int(version) if at else None)


def read_model(folder: Path) -> Model:
    """Return the model in `folder`, manifest parsed and hash checked; see `find_model`."""
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
        model = Model(convert(tables, Manifest, str(path)), folder)
    except ConfigError as error:
        raise ModelError(error.message, error.hint) from error
    for tensor in (*model.manifest.inputs, *model.manifest.outputs):
        _require_numbers(tensor, str(path))
    _require_lists(model.manifest, str(path))
    _require_sizes(model.manifest.batch, str(path))
    _verify(model.path, model.manifest.sha256, model.label)
    return model


def all_models() -> list[Path]:
    """Return the folder of every version of every model, sorted by name and version."""
    versions = [v for root in repositories() for model in _folders(root) for v in _folders(model)]
    return sorted(versions, key=lambda path: (path.parent.name, path.name))


def find_models_of(family: str) -> list[Model]:
    """Return the newest version of every model of a family, by name; see `find_model`."""
    names = sorted({folder.parent.name for folder in all_models()})
    return [model for model in map(find_model, names) if model.manifest.family == family]


def write_model(
    root: Path,
    manifest: Manifest,
    onnx: bytes,
    inputs: dict[str, Array],
    outputs: dict[str, Array],
    layers: dict[str, Array] | None = None,
) -> Model:
    """Write ``root/<name>/<version>/{model.onnx, manifest.toml, golden.npz}`` with their hashes.

    Parameters
    ----------
    root
        The repository.
    manifest
        Everything but the hashes, which are filled in here.
    onnx
        The serialised model.
    inputs, outputs
        The golden arrays by tensor name.
    layers
        Arrays of the layers file, if there shall be one.
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
    manifest = msgspec.structs.replace(
        manifest,
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
            hint="the file is not the one its manifest speaks of; export it again",
        )


def _require_numbers(tensor: Tensor, where: str) -> None:
    try:
        numbers = np.dtype(tensor.dtype).kind in "biuf"
    except (TypeError, ValueError):
        numbers = False
    if not numbers or any(n < 0 for n in tensor.shape):
        raise ModelError(
            f"{where}: tensor {tensor.name!r}: expected numbers, such as 'float32' of shape "
            f"[8, 8], got {tensor.dtype!r} of shape {list(tensor.shape)}"
        )


def _require_lists(manifest: Manifest, where: str) -> None:
    """Refuse masks and lengths of what is no list, and lists among the outputs."""
    lists = {tensor.name for tensor in manifest.inputs if tensor.most}
    for tensor in (*manifest.inputs, *manifest.outputs):
        at = f"{where}: tensor {tensor.name!r}"
        special = (tensor.most != 0) + bool(tensor.mask) + bool(tensor.length)
        if special and tensor in manifest.outputs:
            raise ModelError(f"{at}: expected `most`, `mask` and `length` of inputs only")
        if special > 1 or (tensor.of_list and tensor.shape):
            raise ModelError(f"{at}: expected a list, or a mask or a length of numbers, got both")
        if tensor.of_list and tensor.of_list not in lists:
            raise ModelError(
                f"{at}: expected an input with `most`, got {tensor.of_list!r}",
                nearest(tensor.of_list, lists),
            )
        if special and not 0 <= tensor.most == (tensor.column.most_items if tensor.most else 0):
            raise ModelError(f"{at}: most: expected few enough items, got {tensor.most}")


def _require_sizes(sizes: Sizes, where: str) -> None:
    if not 1 <= sizes.least <= sizes.usual <= sizes.most:
        raise ModelError(
            f"{where}: batch: expected 1 <= least <= usual <= most, got {sizes.least}, "
            f"{sizes.usual}, {sizes.most}"
        )


def _folders(root: Path) -> list[Path]:
    hidden = (".", "_")
    return [p for p in root.iterdir() if p.is_dir() and not p.name.startswith(hidden)]
