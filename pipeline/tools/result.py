"""Events in memory, kept by a run or read from a recording, and their conversions."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sluice.pipeline.core.arrow import to_arrow, to_arrow_schema
from sluice.pipeline.core.batch import EventBatch, concatenate
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import Schema


class Result:
    """Events as columns.

    Parameters
    ----------
    schema
        The columns, with dtype, item shape and unit.
    batches
        The events in order.
    report
        Report of the run, or description of the recording.

    Attributes
    ----------
    schema
        The columns.
    report
        For a run, its report as ``sluice replay --report`` writes it. For a recording, a dict with
        ``path``, ``bor`` and ``eor`` (begin-of-run and end-of-run record, None if missing) and
        ``damage`` (description of damaged files, None without damage).
    """

    def __init__(
        self, schema: Schema, batches: Sequence[EventBatch], report: dict[str, Any]
    ) -> None:
        self.schema = schema
        self.report = report
        self._batches = tuple(batches)

    @property
    def events(self) -> int:
        """Number of events."""
        return sum(batch.events for batch in self._batches)

    def to_arrow(self) -> pa.Table:
        """Return the events as an Arrow table.

        Columns with an item shape are fixed-size lists of numbers, their shape, unit and labels in
        the field's metadata; ragged columns are lists.

        Returns
        -------
        pyarrow.Table
            One row an event. It shares memory with this result where it can.
        """
        schema = to_arrow_schema(self.schema)
        rows = [to_arrow(batch, self.schema, schema) for batch in self._batches]
        return pa.Table.from_batches(rows, schema)

    def to_awkward(self) -> Any:
        """Return the events as an Awkward array of records.

        Columns keep dtype and item shape; ragged columns are lists of any length.

        Returns
        -------
        awkward.Array
            One record an event.

        Raises
        ------
        ConfigError
            If the package awkward is not installed.
        """
        ak = _require("awkward")
        columns = self._columns()
        contents = {name: _awkward(ak, array) for name, array in columns.items()}
        return ak.zip(contents, depth_limit=1)

    def to_pandas(self) -> Any:
        """Return the events as a data frame; items of columns with a shape are NumPy arrays.

        Returns
        -------
        pandas.DataFrame
            One row an event.

        Raises
        ------
        ConfigError
            If the package pandas is not installed.
        """
        _require("pandas")
        return self.to_arrow().to_pandas()

    def _columns(self) -> dict[str, Any]:
        if not self._batches:
            return {column.name: column.empty(0) for column in self.schema}
        whole = concatenate(self._batches)
        return {name: whole.columns[name] for name in self.schema.names}

    def __len__(self) -> int:
        return self.events

    def __repr__(self) -> str:
        columns = ", ".join(f"{column.name} {column.spec}" for column in self.schema)
        return f"<Result: {self.events:,} events; {columns}>"


def read(recording: str | Path) -> Result:
    """Return the events of a recording, all of its files.

    Parameters
    ----------
    recording
        A file, the first file of a rotated recording, a folder, or a pattern.

    Returns
    -------
    Result
        Everything that can be read; ``report["damage"]`` tells what cannot.

    Raises
    ------
    DataError
        If there is no recording, or a file of it is missing.
    """
    from sluice.pipeline.recording import Recording

    reader = Recording(Path(recording))
    try:
        batches = list(reader.batches())
        report = {
            "path": str(recording),
            "bor": reader.bor or None,
            "eor": reader.eor,
            "damage": reader.corruption,
        }
    finally:
        reader.close()
    return Result(reader.schema, batches, report)


def _awkward(ak: Any, array: Any) -> Any:
    if not isinstance(array, Ragged):
        return ak.from_numpy(array, regulararray=True)
    items = ak.to_layout(ak.from_numpy(np.ascontiguousarray(array.items), regulararray=True))
    offsets = ak.index.Index64(array.offsets - array.offsets[0])
    return ak.Array(ak.contents.ListOffsetArray(offsets, items))


def _require(package: str) -> Any:
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{package} is not installed: expected it for to_{package}()",
            hint=f"pip install {package}",
        ) from error
