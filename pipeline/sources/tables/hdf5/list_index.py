"""Index of lists whose items follow one another: where each begins or ends, or how long it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.ragged import check_offsets, offsets_of
from sluice.pipeline.core.schema import Array

from .datasets import Dataset

#: Events of the index that are read at once; the number of items before each block is kept.
_BLOCK = 65_536


class ListIndex:
    """Offsets of the lists of a field, from any of four kinds of index.

    Parameters
    ----------
    index
        Kind to dataset: ``offsets`` (N + 1,), from 0 to the number of items; ``ends`` (N,), the
        index behind the last item of each list; ``begins`` (N,), that of its first item; ``counts``
        (N,), its number of items; or both of the latter.
    items
        Number of items of all lists.
    name
        Name of the dataset of the items, for messages.

    Raises
    ------
    DataError
        If the first list does not begin at item 0, or the last does not end with the last item.
    """

    def __init__(self, index: Mapping[str, Dataset], items: int, name: str) -> None:
        self._index, self._items, self._name = index, items, name
        self.events = max(0, len(next(iter(index.values())).item) - ("offsets" in index))
        self._before = np.zeros(1, np.int64)
        if "counts" in index:
            self._before = offsets_of([self._sum(*span) for span in self._blocks()])
        self._require_all_items()
        if "counts" in index and "begins" in index:
            for start, stop in self._blocks():
                self._require_begins(start, stop)

    def offsets(self, start: int, stop: int) -> Array:
        """Return the offsets of some lists in all items, int64 (stop - start + 1,).

        Raises
        ------
        DataError
            If a list ends before it begins, or is not within the items.
        """
        found = self._offsets(start, stop)
        kinds = " and ".join(self._index)
        check_offsets(found, self._items, f"{kinds} from event {start}")
        return found

    def _offsets(self, start: int, stop: int) -> Array:
        if "offsets" in self._index:
            return self._read("offsets", start, stop + 1)
        if "counts" in self._index:
            block = start // _BLOCK
            offsets = offsets_of(self._read("counts", block * _BLOCK, stop))
            found: Array = offsets[start - block * _BLOCK :] + self._before[block]
            return found
        if "ends" in self._index:
            before = self._read("ends", start - 1, start) if start else [0]
            ends: Array = np.append(before, self._read("ends", start, stop)).astype(np.int64)
            return ends
        begins = self._read("begins", start, min(stop + 1, self.events))
        return begins if stop < self.events else np.append(begins, self._items)

    def _blocks(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.events, _BLOCK):
            yield start, min(start + _BLOCK, self.events)

    def _read(self, kind: str, start: int, stop: int) -> Array:
        dataset = self._index[kind]
        found: Array = np.asarray(dataset.member(dataset.item[start:stop])).astype(np.int64)
        return found

    def _sum(self, start: int, stop: int) -> int:
        counts = self._read("counts", start, stop)
        if len(counts) and counts.min() < 0:
            event = start + int(np.argmax(counts < 0))
            raise DataError(
                f"counts: event {event}: expected 0 items or more, got {counts[event - start]}"
            )
        return int(counts.sum())

    def _require_all_items(self) -> None:
        """Raise DataError unless the lists begin with the first item and end with the last."""
        kinds = " and ".join(self._index)
        if self.events:
            begin, end = self._offsets(0, 1)[0], self._offsets(self.events - 1, self.events)[-1]
        else:
            begin, end = 0, 0
        if begin != 0:
            got = f"expected the first list to begin at item 0, got {begin}"
            raise DataError(f"{kinds}: {got}", _hint(kinds))
        if end != self._items:
            got = (
                f"expected the last list to end at item {self._items} of {self._name!r}, got {end}"
            )
            raise DataError(f"{kinds}: {got}", _hint(kinds))

    def _require_begins(self, start: int, stop: int) -> None:
        begins, expected = self._read("begins", start, stop), self._offsets(start, stop)[:-1]
        wrong = np.flatnonzero(begins != expected)
        if len(wrong):
            raise DataError(
                f"begins and counts: event {start + wrong[0]}: expected its list to begin at item "
                f"{expected[wrong[0]]}, where the list before ends, got {begins[wrong[0]]}"
            )


def _hint(kinds: str) -> str:
    return (
        f"`{kinds}` may be the wrong kind: `offsets` has one entry more than events, `ends` the "
        "index behind each list's last item, `begins` that of its first, `counts` its length"
    )
