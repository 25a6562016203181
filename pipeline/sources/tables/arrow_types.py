"""Arrow's types as fields, and Arrow's arrays as their values: for Arrow, Parquet and ROOT."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from sluice.pipeline.core.schema import Array

from .rules.field import Field, FieldValues, TableChunk, named_once


class Leaf(Struct, frozen=True):
    """A field in Arrow's columns.

    Attributes
    ----------
    field
        The field.
    column
        Name of the column.
    path
        Positions of the members on the way through its records.
    """

    field: Field
    column: str
    path: tuple[int, ...]


def leaves_of(columns: Iterable[tuple[str, pa.DataType]], events: int | None) -> dict[str, Leaf]:
    """Return the fields of Arrow columns, by name; members of records have names with dots."""
    found = [leaf for name, kind in columns for leaf in _leaves(kind, name, events)]
    fields = named_once([leaf.field for leaf in found])
    return {
        leaf.field.name: Leaf(fields[leaf.field.name], leaf.column, leaf.path) for leaf in found
    }


def fields_of(leaves: Mapping[str, Leaf]) -> dict[str, Field]:
    """Return the fields of leaves, by name."""
    return {name: leaf.field for name, leaf in leaves.items()}


def unreadable(name: str) -> pa.DataType:
    """Return an Arrow type that stands for one without a counterpart in Arrow, of this name."""
    return pa.opaque(pa.null(), name, "unreadable")


def _text(kind: pa.DataType) -> str:
    name = kind.type_name if isinstance(kind, pa.OpaqueType) else str(kind)
    return str(name).partition(", parameters")[0][:80]


class _Place(Struct, frozen=True):
    """Place within a column's type: the name and path so far, and the lists around it."""

    name: str
    path: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    ragged: bool = False


def _leaves(kind: pa.DataType, name: str, events: int | None) -> Iterator[Leaf]:
    for place, found in _walk(kind, _Place(name)):
        about: dict[str, Any] = {"name": place.name, "events": events}
        number = _number(found)
        if number is None:
            yield Leaf(
                Field(**about, trouble=_text(found if place.path else kind)), name, place.path
            )
            continue
        dtype, unit = number
        about |= {"dtype": dtype, "shape": place.shape, "ragged": place.ragged}
        yield Leaf(Field(**about, time_unit=unit), name, place.path)


def _walk(kind: pa.DataType, place: _Place) -> Iterator[tuple[_Place, pa.DataType]]:
    """Yield the innermost types; a list in a list, or of lists of fixed size around it, is one."""
    name, path, shape, ragged = place.name, place.path, place.shape, place.ragged
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.OpaqueType):
        yield from _walk(kind.storage_type, place)
    elif pa.types.is_struct(kind) and kind.num_fields:
        for position in range(kind.num_fields):
            member = kind.field(position)
            inner = _Place(f"{name}.{member.name}", (*path, position), shape, ragged)
            yield from _walk(member.type, inner)
    elif _is_list(kind) and not (ragged or shape):
        yield from _walk(kind.value_type, _Place(name, path, shape, True))
    elif pa.types.is_fixed_size_list(kind) and kind.list_size > 0:
        yield from _walk(kind.value_type, _Place(name, path, (*shape, kind.list_size), ragged))
    else:
        yield place, kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _number(kind: pa.DataType) -> tuple[str, str] | None:
    """Return dtype and time unit of a type of numbers or times; None for other types."""
    if pa.types.is_dictionary(kind):
        return _number(kind.value_type)
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return "int64", str(kind.unit)
    if pa.types.is_boolean(kind):
        return "bool", ""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return str(np.dtype(kind.to_pandas_dtype())), ""
    return None


def arrow_chunk(batch: pa.RecordBatch, leaves: Mapping[Field, Leaf]) -> TableChunk:
    """Return the values of some fields of a record batch."""
    values = {field: values_of(batch.column(leaf.column), leaf) for field, leaf in leaves.items()}
    return TableChunk(events=batch.num_rows, values=values)


class _Nulls:
    """Events with a null at any level of a column."""

    def __init__(self, events: int) -> None:
        self.mask = np.zeros(events, bool)
        self.offsets: Array | None = None
        #: Values of one event, or of one item of a list.
        self.width = 1

    def add(self, array: pa.Array) -> None:
        """Add the events of the nulls in an array of the present level."""
        if not array.null_count:
            return
        entries = np.flatnonzero(np.asarray(array.is_null())) // self.width
        if self.offsets is not None:
            entries = np.searchsorted(self.offsets, entries, "right") - 1
        self.mask[entries] = True


def values_of(array: pa.Array, leaf: Leaf) -> FieldValues:
    """Return the values of a column's array; an event with a null at any level has none.

    Parameters
    ----------
    array
        Array of the whole column, one entry for each event.
    leaf
        The field, and the way to it.
    """
    nulls, path = _Nulls(len(array)), list(leaf.path)
    while (inner := _inside(array, nulls, path)) is not None:
        array = inner
    nulls.add(array)
    values = _numbers(array, leaf.field)
    shape = (-1, *leaf.field.shape) if math.prod(leaf.field.shape) else (0, *leaf.field.shape)
    mask = nulls.mask if nulls.mask.any() else None
    return FieldValues(values.reshape(shape), nulls.offsets, mask)


def _inside(array: pa.Array, nulls: _Nulls, path: list[int]) -> pa.Array | None:
    """Return the array within a list, a record, an extension or a dictionary; None for numbers."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return array.storage
    if pa.types.is_dictionary(kind):  # a null may be an index, or a value that indices point to
        return array.dictionary_decode()
    if pa.types.is_struct(kind):
        nulls.add(array)
        return array.field(path.pop(0))
    if _is_list(kind):
        nulls.add(array)
        ends = np.asarray(array.offsets).astype(np.int64) if len(array) else np.zeros(1, np.int64)
        nulls.offsets = ends - ends[0]
        return array.values.slice(ends[0], ends[-1] - ends[0])
    if pa.types.is_fixed_size_list(kind):
        nulls.add(array)
        nulls.width *= kind.list_size
        return array.values.slice(array.offset * kind.list_size, len(array) * kind.list_size)
    return None


def _numbers(array: pa.Array, field: Field) -> Array:
    """Return an array of numbers, times or truth values; a null is 0."""
    if field.time_unit:
        array = array.view(pa.int64())
    if array.null_count:
        array = array.fill_null(False if field.dtype == "bool" else 0)
    values: Array = array.to_numpy(zero_copy_only=False)
    return values.astype(field.dtype, copy=False)
