"""Manifests: what a model says of itself, and what it must say."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from sluice.pipeline.core.errors import ModelError, nearest
from sluice.pipeline.core.schema import Column


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


def hold(manifest: Manifest, where: str) -> None:
    """Refuse a manifest that contradicts itself.

    Raises
    ------
    ModelError
        Naming `where`, the tensor, what was expected and what is there.
    """
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
