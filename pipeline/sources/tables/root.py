"""Events from ROOT files (extra ``root``): a TTree or an RNTuple, read by uproot."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sluice.pipeline.core.errors import ConfigError, DataError, did_you_mean

from .arrow_types import fields_of, leaves_of, unreadable, values_of
from .rules.field import NO_DEFAULTS, Field, TableChunk, ValuesByField
from .source import TableSource
from .spans import one_line, readable, spans

_TREES = ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple", "ROOT::Experimental::RNTuple")
#: Default tree of a file with several trees: the name that CMS and others use.
_USUAL = "Events"
#: Added to the version in the header of a ROOT file whose offsets have 64 bits.
_BIG = 1_000_000


class RootSource(TableSource):
    """Reads one TTree or RNTuple of each ROOT file."""

    class Options(TableSource.Options, frozen=True, forbid_unknown_fields=True):
        """Path of the file, and name of the tree."""

        #: Name of the TTree or RNTuple; if omitted, the only one, or ``Events``.
        tree: str = ""

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._tree = options.tree

    def open_table(self, path: Path) -> RootTable:
        """Open a file."""
        return RootTable(path, self._tree)


class RootTable:
    """One open tree."""

    defaults = NO_DEFAULTS

    def __init__(self, path: Path, tree: str) -> None:
        uproot = _uproot(path)
        _require_whole(path)
        self._file: Any = None
        try:
            # Not memory-mapped: if a mapped file is truncated, reading it ends the process.
            source = uproot.MultithreadedFileSource
            self._file = uproot.open({str(path): None}, handler=source, num_workers=1)
            self._tree = self._file[_choose(self._file, tree, path)]
            self._events = int(self._tree.num_entries)
            self._leaves = leaves_of(self._types(), self._events)
        except BaseException as error:
            if self._file is not None:
                self._file.close()
            if isinstance(error, DataError) or not isinstance(error, Exception):
                raise
            # uproot raises any exception for invalid data.
            raise DataError(f"{path}: not a sound ROOT file: {one_line(error)}") from error
        self.fields = fields_of(self._leaves)

    def check(self, fields: Sequence[Field]) -> None:
        """Do nothing: a missing basket is damage."""

    def chunks(self, fields: Sequence[Field], max_events: int) -> Iterator[TableChunk]:
        """Yield spans that end at the boundaries of clusters."""
        try:
            edges = self._edges({self._leaves[field.name].column for field in fields})
        except Exception as error:  # as above
            raise DataError(f"damaged: {one_line(error)}") from error
        if self._is_ntuple:  # uproot always reads whole clusters
            max_events = max([max_events, *np.diff(edges).tolist()])
        yield from readable(
            lambda start, stop: self._read(fields, start, stop), spans(edges, max_events)
        )

    def storage(self, field: Field) -> str:
        """Return nothing: there is one way to store a column."""
        return ""

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

    def _types(self) -> Iterator[tuple[str, Any]]:
        """Yield each branch that has data, with its type in Arrow."""
        if self._is_ntuple:
            form = self._tree.to_akform()[0]
            yield from ((name, _arrow_type(form.content(name))) for name in form.fields)
            return
        for name, branch in _branches(self._tree):
            yield name, _branch_type(branch)

    def _read(self, fields: Sequence[Field], start: int, stop: int) -> ValuesByField:
        """Read each branch once."""
        import awkward

        branches: dict[str, Any] = {}
        values = {}
        for field in fields:
            leaf = self._leaves[field.name]
            if leaf.column not in branches:
                array = self._tree[leaf.column].array(
                    entry_start=start, entry_stop=stop, library="ak"
                )
                branches[leaf.column] = awkward.to_arrow(array, extensionarray=False)
            array = branches[leaf.column]
            if len(array) != stop - start:
                raise DataError(f"{leaf.column}: expected {stop - start} entries, got {len(array)}")
            values[field] = values_of(array, leaf)
        return values


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


def find_trees(path: Path) -> list[str]:
    """Return the names of the trees of a file; DataError if it is not a ROOT file."""
    uproot = _uproot(path)
    _require_whole(path)
    try:
        with uproot.open({str(path): None}, handler=uproot.MultithreadedFileSource) as file:
            return _trees(file.classnames(cycle=False))
    except Exception as error:  # uproot raises any exception for invalid data
        raise DataError(f"{path}: not a sound ROOT file: {one_line(error)}") from error


def _trees(classes: Mapping[str, str]) -> list[str]:
    return [name for name, kind in classes.items() if kind in _TREES]


def _choose(file: Any, tree: str, path: Path) -> str:
    """Return the key of the tree to read."""
    classes = file.classnames(cycle=False)
    trees = _trees(classes)
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


def _branch_type(branch: Any) -> Any:
    """Return the type of a branch; for one that cannot be read an Arrow type of its name."""
    try:
        return _arrow_type(branch.interpretation.awkward_form(branch.file))
    except Exception:  # uproot cannot interpret the type: only this column is unusable
        return unreadable(str(branch.typename))


def _arrow_type(form: Any) -> Any:
    """Return the Arrow type of an Awkward form; one that Arrow lacks cannot be used."""
    import awkward

    try:
        return awkward.to_arrow(form.length_zero_array(highlevel=False), extensionarray=False).type
    except Exception:  # only this column is unusable
        return unreadable(str(form.type))
