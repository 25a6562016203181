"""Golden inputs of a model that is added: events of a file, or random ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from keyword import iskeyword
from pathlib import Path

import numpy as np

from sluice.pipeline.config.graph_file import parse_graph
from sluice.pipeline.config.plugins import build
from sluice.pipeline.core.errors import ConfigError, ModelError
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import DECISION_RECORD_COLUMNS, RESERVED, Array
from sluice.pipeline.inference.onnx_file import Shape
from sluice.pipeline.sources.base import Source

from .input_source import source_for

#: Dtype and item shape of each input, by name.
Inputs = Mapping[str, tuple[str, Shape]]
#: Number of golden events, and the seed of random ones.
_EVENTS, _SEED = 32, 1
#: Values of random inputs of integers: from 0 to before this.
_INTEGERS = 2
#: Names of columns that no tensor can have.
_TAKEN = {column.name for column in (*RESERVED, *DECISION_RECORD_COLUMNS)}
_READS_ANYTHING = """
[graph]
name = "data"
[source]
use = "recording"
path = ""
[sink]
use = "null"
"""


def random_inputs(wanted: Inputs) -> dict[str, Array]:
    """Return random events, the same at each call: normal numbers, or integers of 0 and 1.

    Raises
    ------
    ModelError
        If the shape of an input is not known.
    """
    random = np.random.default_rng(_SEED)
    inputs: dict[str, Array] = {}
    for name, (dtype, shape) in wanted.items():
        if shape is None or None in shape:
            raise ModelError(
                f"input {name!r}: expected a fixed shape of one event, got {_shown(shape)}",
                hint="give events, whose shape is taken: `--data FILE`",
            )
        size = (_EVENTS, *(n for n in shape if n is not None))
        floats = np.dtype(dtype).kind == "f"
        values = random.standard_normal(size) if floats else random.integers(0, _INTEGERS, size)
        inputs[name] = values.astype(dtype)
    return inputs


def inputs_of(wanted: Inputs, path: Path) -> dict[str, Array]:
    """Return the inputs of the first events of a file, in the shapes of the model.

    Raises
    ------
    SluiceError
        If the file cannot be read, lacks a column or has one of another shape.
    """
    columns = _columns(path, list(wanted))
    inputs: dict[str, Array] = {}
    for name, (dtype, shape) in wanted.items():
        array = columns.get(name, columns.get(column_name(name)))
        if array is None:
            raise ConfigError(
                f"{path}: expected a column {column_name(name)!r}, got {', '.join(columns)}"
            )
        if isinstance(array, Ragged):
            raise ConfigError(f"{path}: column {name!r}: expected items of one shape, got lists")
        inputs[name] = _shaped(array, shape, f"{path}: column {name!r}").astype(dtype)
    lengths = {len(array) for array in inputs.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ConfigError(f"{path}: expected as many events in each column, got {sorted(lengths)}")
    return inputs


def _shaped(array: Array, shape: Shape, where: str) -> Array:
    """Return the first events with the item shape of a model; items of its size are reshaped."""
    if np.dtype(array.dtype).kind not in "biuf" or array.ndim == 0:
        raise ConfigError(
            f"{where}: expected numbers with an axis of events, "
            f"got {array.dtype} of shape {list(array.shape)}"
        )
    array = array[:_EVENTS]
    axes = array.shape[1:] if shape is None else shape
    if len(axes) == len(array.shape[1:]):
        axes = tuple(b if a is None else a for a, b in zip(axes, array.shape[1:], strict=True))
    size = int(np.prod([n for n in axes if n is not None]))
    if None in axes or size != int(np.prod(array.shape[1:])):
        raise ConfigError(
            f"{where}: expected items of shape {_shown(shape)}, got {list(array.shape[1:])}"
        )
    return array.reshape(len(array), *(n for n in axes if n is not None))


def _columns(path: Path, names: list[str]) -> dict[str, Array | Ragged]:
    """Return the first events of a file, by name of the column."""
    if path.suffix in (".npy", ".npz"):
        return _arrays(path, names[0])
    config = parse_graph(_READS_ANYTHING, str(path))
    source: Source = build("source", source_for(path, config), str(path))
    source.open()
    try:
        batch = source.read(_EVENTS)
        if batch is None:
            raise ConfigError(f"{path}: expected events, got none")
        return {name: column.take(np.arange(batch.events), axis=0)
                for name, column in batch.columns.items()}  # fmt: skip
    finally:
        source.close()


def _arrays(path: Path, first: str) -> dict[str, Array | Ragged]:
    """Return the arrays of a file of NumPy by name; a single one is that of the first input."""
    try:
        with path.open("rb") as file:  # NumPy would leave a damaged one open
            loaded = np.load(file, allow_pickle=False)
            return {first: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # of a damaged file: those of NumPy, zipfile and zlib
        raise ConfigError(f"{path}: cannot read: {error}") from error


def column_name(tensor: str) -> str:
    """Return the name of the column for a tensor, which conditions of a menu can use.

    Examples
    --------
    >>> column_name("dense_1/Softmax:0"), column_name("x"), column_name("decision")
    ('dense_1_Softmax_0', 'x', 'model_decision')
    >>> column_name("class")
    'model_class'
    """
    name = re.sub(r"\W+", "_", tensor, flags=re.ASCII).strip("_") or "tensor"
    plain = name.isidentifier() and not iskeyword(name)
    return name if plain and name not in _TAKEN else f"model_{name}"


def _shown(shape: Shape) -> str:
    return "any shape" if shape is None else str(["any" if n is None else n for n in shape])
