"""Padding of lists to arrays for a model; events with lists of similar length are grouped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sluice.kernels.ragged import pad
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.core.ragged import Ragged, as_bytes
from sluice.pipeline.core.schema import Array
from sluice.pipeline.inference.manifest import Tensor
from sluice.pipeline.inference.session import Session

#: Maximum number of items per call of a model, with padding, so that its intermediate results
#: stay in the processor's cache.
_MAX_ITEMS = 1 << 16

Arrays = dict[str, Array]


class Padding:
    """Runs a model on the lists of a batch, in groups of events padded to the same lengths.

    Parameters
    ----------
    tensors
        Inputs of the model.
    columns
        Name of the column by tensor, except masks and lengths, which are computed.
    buckets
        Lengths to which the lists of each tensor are padded, in items, ascending; a list is padded
        to the first that is long enough, and truncated to the last.

    Attributes
    ----------
    truncated
        Number of events with a truncated list, uint64 (1,); may be in shared memory.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        columns: Mapping[str, str],
        buckets: Mapping[str, Sequence[int]],
    ) -> None:
        self._tensors = [tensor for tensor in tensors if not tensor.companion_of]
        self._masks = [tensor for tensor in tensors if tensor.mask]
        self._lengths = [tensor for tensor in tensors if tensor.length]
        self._columns = columns
        self._buckets = {name: np.array(sizes, np.int64) for name, sizes in buckets.items()}
        self._arrays: dict[tuple[int, ...], Arrays] = {}
        self.truncated: Array = np.zeros(1, np.uint64)

    def infer(self, session: Session, batch: EventBatch, outputs: Mapping[str, Array]) -> None:
        """Fill `outputs` by name, each (N, ...), in the order of the batch's events."""
        groups, codes = self._groups(batch)
        for code in np.unique(codes).tolist():
            rows = np.flatnonzero(codes == code)
            widths = groups[code]
            step = max(1, _MAX_ITEMS // max(widths))
            for start in range(0, len(rows), step):
                some = rows[start : start + step]
                inputs = self._fill(batch, some, widths)
                results = {name: np.empty_like(a[: len(some)]) for name, a in outputs.items()}
                session.infer(inputs, results)
                for name, array in results.items():
                    outputs[name][some] = array

    def warm(self, session: Session, outputs: Mapping[str, Array], events: int) -> None:
        """Run a model with the maximum number of events, for every combination of lengths.

        Raises
        ------
        ModelError
            If the model does not accept lists of these lengths.
        """
        for widths in self._combinations():
            few = min(events, max(1, _MAX_ITEMS // max(widths)))
            columns: dict[str, Any] = {}
            for tensor in self._tensors:
                columns[self._columns[tensor.name]] = tensor.column.zeros(few)
            inputs = self._fill(EventBatch(columns, few), np.arange(few), widths)
            results = {name: np.empty_like(array[:few]) for name, array in outputs.items()}
            try:
                session.infer(inputs, results)
            except Exception as error:  # runtimes raise anything
                lists = ", ".join(map(str, widths))
                raise ModelError(
                    f"expected a model that takes lists of {lists} items, got: {error}",
                    hint="if the model takes lists of one length only, make it the only bucket",
                ) from error

    def _combinations(self) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = [()]
        for sizes in self._buckets.values():
            found = [(*before, size) for before in found for size in sizes.tolist()]
        return found

    def _groups(self, batch: EventBatch) -> tuple[list[tuple[int, ...]], Array]:
        """Return the lengths of each group, and the group of each event, int64 (N,)."""
        codes, truncated = np.zeros(batch.events, np.int64), np.zeros(batch.events, np.bool_)
        for name, sizes in self._buckets.items():
            counts = batch.ragged(self._columns[name]).counts
            places = np.searchsorted(sizes, counts)
            truncated |= places == len(sizes)
            codes = codes * len(sizes) + np.minimum(places, len(sizes) - 1)
        self.truncated[0] += np.uint64(np.count_nonzero(truncated))
        return self._combinations(), codes

    def _fill(self, batch: EventBatch, rows: Array, widths: tuple[int, ...]) -> Arrays:
        """Return the model's inputs for the events `rows`; valid until the next call."""
        events = len(rows)
        arrays = {name: array[:events] for name, array in self._buffers(widths, events).items()}
        lengths: Arrays = {}
        for tensor in self._tensors:
            column = batch.columns[self._columns[tensor.name]]
            if tensor.max_items:
                lengths[tensor.name] = _pad(column, rows, arrays[tensor.name])
            else:
                np.take(column, rows, axis=0, out=arrays[tensor.name])
        for tensor in self._lengths:
            arrays[tensor.name][:] = lengths[tensor.length]
        for tensor in self._masks:
            mask = arrays[tensor.name]
            np.less(np.arange(mask.shape[1]), lengths[tensor.mask][:, None], out=mask)
        return arrays

    def _buffers(self, widths: tuple[int, ...], events: int) -> Arrays:
        """Return arrays for at least `events` events padded to these lengths."""
        arrays = self._arrays.get(widths, {})
        if any(len(array) < events for array in arrays.values()) or not arrays:
            arrays = dict(self._new_buffers(dict(zip(self._buckets, widths, strict=True)), events))
            self._arrays[widths] = arrays
        return arrays

    def _new_buffers(self, widths: Mapping[str, int], events: int) -> Iterator[tuple[str, Array]]:
        for tensor in self._tensors:
            width = (widths[tensor.name],) if tensor.max_items else ()
            yield tensor.name, np.empty((events, *width, *tensor.shape), tensor.dtype)
        for tensor in self._lengths:
            yield tensor.name, np.empty(events, tensor.dtype)
        for tensor in self._masks:
            yield tensor.name, np.empty((events, widths[tensor.mask]), tensor.dtype)


def _pad(lists: Ragged, rows: Array, out: Array) -> Array:
    """Pad lists into `out`, (rows, K, *item shape); return the items of each without padding."""
    lengths = np.empty(len(rows), np.int64)
    item = np.zeros(out.shape[2:], out.dtype)
    bytes_ = out.reshape(len(rows), -1).view(np.uint8)
    pad(as_bytes(lists.values), lists.offsets, rows, as_bytes(item), bytes_, lengths)
    return lengths
