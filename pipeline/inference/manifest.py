"""Manifests of models, and their validation."""

from __future__ import annotations

import hashlib

import numpy as np
from msgspec import Struct

from sluice.pipeline.core.errors import ModelError, did_you_mean
from sluice.pipeline.core.schema import Column

from .onnx_file import require_inside

_TENSOR = {"most": "max_items"}
#: Current names of keys that an earlier release wrote, by table of the manifest.
RENAMED_KEYS = {
    "inputs": _TENSOR,
    "outputs": _TENSOR,
    "batch": {"least": "min", "usual": "opt", "most": "max"},
}


class Tensor(Struct, frozen=True, forbid_unknown_fields=True):
    """An input or output of a model; `shape` is without the event axis."""

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    unit: str = "1"
    #: Names of the entries of the last axis, for use in the conditions of a menu.
    labels: tuple[str, ...] = ()
    #: Maximum length K of the lists of an input of shape (events, K, *shape); 0 for other tensors.
    max_items: int = 0
    #: Name of the input that this tensor is the mask of: (events, K), 1 for items, 0 for padding.
    mask: str = ""
    #: Name of the input that this tensor has the list lengths of: (events,), without padding.
    length: str = ""

    @property
    def companion_of(self) -> str:
        """Name of the list input from which a mask or length is computed; empty for columns."""
        return self.mask or self.length

    @property
    def axes(self) -> tuple[int | None, ...]:
        """Shape without the event axis; None for the items of a list."""
        return (None, *self.shape) if self.max_items or self.mask else self.shape

    @property
    def column(self) -> Column:
        """The column of this tensor in a batch."""
        return Column(self.name, self.dtype, self.axes, self.unit, self.labels, self.max_items)

    def matches(self, shape: tuple[int, ...], events: int) -> bool:
        """Whether an array of this shape holds `events` events, lists padded to any length."""
        wanted = (events, *self.axes)
        return len(shape) == len(wanted) and all(
            n is None or n == got for n, got in zip(wanted, shape, strict=True)
        )


class Preprocessing(Struct, frozen=True, forbid_unknown_fields=True):
    """The kernel that computes the inputs, in training and online."""

    kernel: str = ""


class BatchSizes(Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers of events that the engine of a GPU is built and tuned for."""

    min: int = 1
    opt: int = 1024
    max: int = 4096


class Training(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Provenance of the weights."""

    seed: int = 0
    dataset: str = ""
    dataset_sha256: str = ""
    events: int = 0
    #: Commit of the code that trained; of models older than this note, that which added the file.
    commit: str = ""
    recipe_sha256: str = ""


class PublishedResult(Struct, frozen=True, forbid_unknown_fields=True):
    """A published result, to compare with the measured metric."""

    #: Name of the metric in the manifest that it is compared with.
    metric: str
    value: float
    #: Data that it was measured on, where that differs from ours.
    note: str = ""


class ModelCard(Struct, frozen=True, forbid_unknown_fields=True):
    """Source and limits of a model's numbers, which are those of a simplified simulation."""

    #: Publication of the method and of the published numbers.
    reference: str = ""
    published: tuple[PublishedResult, ...] = ()
    #: Known limits of simulation, model and measurement, one sentence each.
    shortcomings: tuple[str, ...] = ()


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything known of one version of a model."""

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
    #: Further files that the model file refers to, its weights, with the hash of each.
    external: dict[str, str] = {}
    golden: str = "golden.npz"
    golden_sha256: str = ""
    #: File of the model as plain layers, for the backend of that name; empty if it has none.
    layers: str = ""
    layers_sha256: str = ""
    #: Maximum absolute difference from the golden outputs.
    tolerance: float = 1e-5
    #: Batch sizes of a GPU's engine; a larger batch is split.
    batch: BatchSizes = BatchSizes()
    preprocessing: Preprocessing = Preprocessing()
    training: Training = Training()
    #: Figures of the model file; ``X_error`` is the standard error of X, from the events' number.
    metrics: dict[str, float] = {}
    #: Means of figures over trainings of the same net, of which the file is the first; ``X_spread``
    #: is the standard deviation of X between them, ``seeds`` their number.
    trainings: dict[str, float] = {}
    card: ModelCard = ModelCard()

    @property
    def digest(self) -> str:
        """Hash of all that is computed: of the model file, and of the weights outside it."""
        if not self.external:
            return self.sha256
        hashes = [self.sha256, *(f"{name} {self.external[name]}" for name in sorted(self.external))]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def validate_manifest(manifest: Manifest, where: str) -> None:
    """Raise ModelError if a manifest contradicts itself.

    Raises
    ------
    ModelError
        The message has `where`, the tensor, what was expected and what was found.
    """
    for name in (manifest.file, manifest.golden, manifest.layers or "none", *manifest.external):
        require_inside(name, where)
    for tensor in (*manifest.inputs, *manifest.outputs):
        _require_numbers(tensor, where)
    _require_lists(manifest, where)
    _require_sizes(manifest.batch, where)


def _require_numbers(tensor: Tensor, where: str) -> None:
    try:  # a plain name: NumPy would evaluate "f4, f4" as it would a program
        numbers = tensor.dtype.isidentifier() and np.dtype(tensor.dtype).kind in "biuf"
    except (TypeError, ValueError):
        numbers = False
    if not numbers or any(n < 0 for n in tensor.shape):
        raise ModelError(
            f"{where}: tensor {tensor.name!r}: expected numbers, such as 'float32' of shape "
            f"[8, 8], got {tensor.dtype!r} of shape {list(tensor.shape)}"
        )


def _require_lists(manifest: Manifest, where: str) -> None:
    """Refuse masks and lengths of inputs without lists, and lists among the outputs."""
    lists = {tensor.name for tensor in manifest.inputs if tensor.max_items}
    for tensor in (*manifest.inputs, *manifest.outputs):
        at = f"{where}: tensor {tensor.name!r}"
        special = (tensor.max_items != 0) + bool(tensor.mask) + bool(tensor.length)
        if special and tensor in manifest.outputs:
            raise ModelError(f"{at}: expected `max_items`, `mask` and `length` of inputs only")
        if special > 1 or (tensor.companion_of and tensor.shape):
            raise ModelError(f"{at}: expected a list, or a mask or a length of numbers, got both")
        if tensor.companion_of and tensor.companion_of not in lists:
            raise ModelError(
                f"{at}: expected an input with `max_items`, got {tensor.companion_of!r}",
                did_you_mean(tensor.companion_of, lists),
            )
        if special and not 0 <= tensor.max_items == (
            tensor.column.item_limit if tensor.max_items else 0
        ):
            raise ModelError(f"{at}: max_items: expected few enough items, got {tensor.max_items}")


def _require_sizes(sizes: BatchSizes, where: str) -> None:
    if not 1 <= sizes.min <= sizes.opt <= sizes.max:
        raise ModelError(
            f"{where}: batch: expected 1 <= min <= opt <= max, got {sizes.min}, "
            f"{sizes.opt}, {sizes.max}"
        )
