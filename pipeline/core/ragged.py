"""Ragged columns: a list of items, of any length, for each event."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sluice.kernels.ragged import first_invalid_row, gather

from .errors import DataError

Array = NDArray[Any]


class Ragged(msgspec.Struct, frozen=True, eq=False):
    """A list of items for each event; immutable.

    Attributes
    ----------
    values
        (M, *item shape), contiguous: the items of all events, and possibly of others around them.
    offsets
        int64 (N + 1,): event `i` has the items from ``offsets[i]`` to before ``offsets[i + 1]``.

    Examples
    --------
    >>> pt = Ragged.of([[20.0, 5.0], [], [7.0]], "float32")
    >>> len(pt), pt.counts.tolist(), pt[0].tolist()
    (3, [2, 0, 1], [20.0, 5.0])
    >>> pt.take(np.array([2, 0])).tolist()
    [[7.0], [20.0, 5.0]]
    """

    values: Array
    offsets: Array

    @classmethod
    def of(cls, lists: Sequence[Any], dtype: str, item: tuple[int, ...] = ()) -> Ragged:
        """Return lists of items of one dtype and shape, such as nested Python lists."""
        arrays = [np.asarray(entries, dtype).reshape(-1, *item) for entries in lists]
        values = np.concatenate([np.empty((0, *item), dtype), *arrays])
        return cls.from_counts(values, [len(array) for array in arrays])

    @classmethod
    def from_counts(cls, values: Array, counts: Sequence[int] | Array) -> Ragged:
        """Return lists of the lengths `counts`, which follow one another in `values`."""
        return cls(np.ascontiguousarray(values), offsets_of(counts))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the items."""
        return self.values.dtype

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Events, None for the items of each, and the shape of an item."""
        return (len(self.offsets) - 1, None, *self.values.shape[1:])

    @property
    def counts(self) -> Array:
        """Items of each event, int64 (N,)."""
        return np.diff(self.offsets)

    @property
    def items(self) -> Array:
        """The items of these events alone, (M', *item shape), a view."""
        return self.values[self.offsets[0] : self.offsets[-1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, what: int | slice) -> Any:
        """Return the items of one event, or some events; views unless the slice has a step."""
        if not isinstance(what, slice):
            row = range(len(self))[what]
            return self.values[self.offsets[row] : self.offsets[row + 1]]
        start, stop, step = what.indices(len(self))
        if step != 1:
            return self.take(np.arange(start, stop, step))
        return Ragged(self.values, self.offsets[start : max(start, stop) + 1])

    def take(self, rows: Array, axis: int = 0) -> Ragged:
        """Return the events at the indices `rows`, copied."""
        rows = np.ascontiguousarray(rows, np.int64)
        offsets = np.ascontiguousarray(self.offsets)
        rows = np.where(rows < 0, rows + len(self), rows) if len(rows) else rows
        places = offsets_of(offsets[rows + 1] - offsets[rows])
        values = np.empty((places[-1], *self.values.shape[1:]), self.dtype)
        gather(as_bytes(self.values), offsets, self.item_bytes, rows, places, as_bytes(values))
        return Ragged(values, places)

    def tolist(self) -> list[Any]:
        """Return nested Python lists."""
        return [self[row].tolist() for row in range(len(self))]

    @property
    def item_bytes(self) -> int:
        """Bytes of one item."""
        return self.dtype.itemsize * math.prod(self.values.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of the items of these events, without offsets."""
        return int(self.offsets[-1] - self.offsets[0]) * self.item_bytes

    def check(self, where: str) -> None:
        """Raise DataError, naming `where`, unless every list is within the items."""
        check_offsets(self.offsets, len(self.values), where)


def offsets_of(counts: Sequence[int] | Array) -> Array:
    """Return the offsets of lists of the lengths `counts`, int64 (N + 1,)."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def check_offsets(offsets: Array, items: int, where: str) -> None:
    """Raise DataError, naming `where` and the event, unless offsets rise and are within `items`."""
    row = int(first_invalid_row(np.ascontiguousarray(offsets, np.int64), items))
    if row < 0:
        return
    start, stop = int(offsets[row]), int(offsets[row + 1]) if len(offsets) > 1 else None
    raise DataError(
        f"{where}: event {row}: expected a list within {items} items, "
        f"got one from item {start} to {stop}"
    )


def concatenate_ragged(parts: Sequence[Ragged]) -> Ragged:
    """Return the events of all parts, in order, copied."""
    counts = np.concatenate([part.counts for part in parts])
    return Ragged(np.concatenate([part.items for part in parts]), offsets_of(counts))


def as_bytes(values: Array) -> Array:
    """Return the bytes of a contiguous array, uint8 (bytes,), a view."""
    return values.reshape(-1).view(np.uint8)
