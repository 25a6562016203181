"""Events from ROOT files (extra ``root``): a TTree or an RNTuple, read by uproot."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sluice.pipeline.core.errors import ConfigError, DataError, did_you_mean
from sluice.pipeline.core.schema import Array

from .columns import FieldValues, ValuesByField
from .mapping import Field
from .source import TableSource, one_line, readable, spans

_TREES = ("TTree", "ROOT::RNTuple", "ROOT::Experimental::RNTuple")
#: Default tree of a file with several trees: the name that CMS and others use.
_USUAL = "Events"
#: Added to the version in the header of a ROOT file whose offsets have 64 bits.
_BIG = 1_000_000


class RootSource(TableSource):
    """Reads one TTree or RNTuple of a ROOT file."""

    class Options(TableSource.Options, frozen=True, forbid_unknown_fields=True):
        """Path of the file, and name of the tree."""

        #: Name of the TTree or RNTuple; if omitted, the only one, or ``Events``.
        tree: str = ""

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._tree = options.tree

    def open_table(self) -> RootTable:
        """Open the file."""
        return RootTable(self._path, self._tree)


class RootTable:
    """One open tree."""

    def __init__(self, path: Path, tree: str) -> None:
        uproot = _uproot(path)
        _require_whole(path)
        self._file: Any = None
        try:
            # Not memory-mapped: if a mapped file is truncated, reading it ends the process.
            source = uproot.MultithreadedFileSource
            self._file = uproot.open({str(path): None}, handler=source, num_workers=1)
            self._tree = self._file[_choose(self._file, tree, path)]
            self._paths: dict[str, tuple[str, tuple[str, ...]]] = {}
            self.fields = {field.name: field for field in self._find()}
        except BaseException as error:
            if self._file is not None:
                self._file.close()
            if isinstance(error, DataError) or not isinstance(error, Exception):
                raise
            # uproot raises any exception for invalid data.
            raise DataError(f"{path}: not a sound ROOT file: {one_line(error)}") from error

    def chunks(
        self, fields: Sequence[Field], max_events: int
    ) -> Iterator[tuple[int, ValuesByField]]:
        """Yield spans that end at the boundaries of clusters."""
        try:
            edges = self._edges({self._paths[field.name][0] for field in fields})
        except Exception as error:  # as above
            raise DataError(f"damaged: {one_line(error)}") from error
        if self._is_ntuple:  # uproot always reads whole clusters
            max_events = max([max_events, *np.diff(edges).tolist()])
        yield from readable(
            lambda start, stop: self._read(fields, start, stop), spans(edges, max_events)
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _edges(self, branches: set[str]) -> list[int]:
        """Return the events at which all branches begin a cluster, with the first and the end."""
        if self._is_ntuple:
            common = {int(cluster.num_first_entry) for cluster in self._tree.cluster_summaries}
        else:
            common = set.intersection(
                *(set(map(int, self._tree[name].entry_offsets)) for name in branches)
            )
        return sorted({0, *common, self._events})

    @property
    def _is_ntuple(self) -> bool:
        return not hasattr(self._tree, "tree")

    def _find(self) -> Iterator[Field]:
        self._events = int(self._tree.num_entries)
        if self._is_ntuple:
            form = self._tree.to_akform()[0]
            forms = [(name, form.content(name)) for name in form.fields]
        else:
            forms = [(name, _form(branch)) for name, branch in _branches(self._tree)]
        for name, found in forms:
            for path, field in _leaves(found, name, self._events):
                self._paths[field.name] = name, path
                yield field

    def _read(self, fields: Sequence[Field], start: int, stop: int) -> ValuesByField:
        """Read each branch once."""
        import awkward

        branches: dict[str, Any] = {}
        parts = {}
        for field in fields:
            name, path = self._paths[field.name]
            if name not in branches:
                branch = self._tree[name]
                branches[name] = branch.array(entry_start=start, entry_stop=stop, library="ak")
            array = branches[name][path] if path else branches[name]
            if len(array) != stop - start:
                raise DataError(f"{name}: expected {stop - start} entries, got {len(array)}")
            parts[field.name] = _part(awkward.to_packed(array).layout, field)
        return parts


def _uproot(path: Path) -> Any:
    try:
        import awkward
        import uproot
    except ImportError as error:
        raise ConfigError(
            f"{path}: ROOT files need the packages uproot and awkward: {error}",
            hint="pip install 'sluice-daq[root]'",
        ) from error
    del awkward
    return uproot


def _require_whole(path: Path) -> None:
    """Raise DataError if the file is shorter than its header says: its keys are at the end."""
    with path.open("rb") as file:
        head = file.read(20)
    if len(head) < 20 or head[:4] != b"root":
        raise DataError(
            f"{path}: not a ROOT file: expected it to start with b'root', got {head[:4]!r}"
        )
    (version,) = struct.unpack_from(">i", head, 4)
    (end,) = struct.unpack_from(">q" if version >= _BIG else ">i", head, 12)
    size = path.stat().st_size
    if size < end:
        raise DataError(f"{path}: cut short: expected {end} bytes, got {size}; its keys are lost")


def _choose(file: Any, tree: str, path: Path) -> str:
    """Return the key of the tree to read."""
    classes = file.classnames(cycle=False)
    trees = [name for name, kind in classes.items() if kind in _TREES]
    if tree in trees:
        return tree
    if tree:
        raise DataError(
            f"{path}: tree {tree!r}: expected it in the file, got none", did_you_mean(tree, trees)
        )
    if not trees:
        held = ", ".join(f"{name} ({kind})" for name, kind in list(classes.items())[:6])
        raise DataError(
            f"{path}: expected a TTree or an RNTuple, got {held or 'no objects at all'}"
        )
    if len(trees) > 1 and _USUAL not in trees:
        raise DataError(f"{path}: expected one tree, got {', '.join(trees)}", "name it: `tree`")
    return trees[0] if len(trees) == 1 else _USUAL


def _branches(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield the branches that have data, with their full names."""
    for name, branch in tree.iteritems(recursive=True, full_paths=True):
        if not branch.branches:
            yield name, branch


def _form(branch: Any) -> Any:
    """Return the Awkward form of a branch; for an unsupported type its name."""
    try:
        return branch.interpretation.awkward_form(branch.file)
    except Exception:  # uproot cannot interpret the type: only this column is unusable
        return str(branch.typename)


def _leaves(
    form: Any, name: str, events: int, path: tuple[str, ...] = (), shape: tuple[int, ...] = (),
    ragged: bool = False,
) -> Iterator[tuple[tuple[str, ...], Field]]:  # fmt: skip
    """Yield the numeric fields inside a form, each with its path of record fields."""
    kind = type(form).__name__
    if kind == "RecordForm" and not form.is_tuple:
        for inner in form.fields:
            within = form.content(inner), f"{name}.{inner}", events, (*path, inner)
            yield from _leaves(*within, shape, ragged)
    elif kind == "ListOffsetForm" and not (ragged or shape or form.parameter("__array__")):
        yield from _leaves(form.content, name, events, path, shape, True)
    elif kind == "RegularForm" and not form.parameter("__array__"):
        yield from _leaves(form.content, name, events, path, (*shape, form.size), ragged)
    elif kind == "NumpyForm":
        yield (
            path,
            Field(
                name=name,
                events=events,
                dtype=form.primitive,
                shape=(*shape, *form.inner_shape),
                ragged=ragged,
            ),
        )
    else:
        text = form if isinstance(form, str) else str(form.type).partition(", parameters")[0]
        yield path, Field(name=name, events=events, trouble=text[:80])


def _part(layout: Any, field: Field) -> FieldValues:
    """Return a packed Awkward array as field values."""
    offsets: Array | None = None
    if field.ragged:
        offsets = np.asarray(layout.offsets.data, np.int64)
        layout = layout.content
    return FieldValues(np.asarray(layout.to_backend_array()), offsets)
