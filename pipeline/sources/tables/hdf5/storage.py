"""What HDF5 reads as fill values though it was never written, and what it cannot decompress."""

from __future__ import annotations

import importlib
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import Array

#: Numbers of registered filters that h5py lacks, and their names.
_FILTERS = {
    307: "bzip2", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp",
    32015: "zstd", 32017: "sz", 32018: "fcidecomp", 32022: "jpeg-xr", 32024: "sz3",
    32026: "blosc2",
}  # fmt: skip
#: Virtual datasets of virtual datasets are followed this far.
_MAX_DEPTH = 8


def require_written(item: Any, name: str, depth: int = 0) -> None:
    """Raise DataError if values of a dataset are missing, or need a filter that is missing.

    HDF5 returns fill values, such as zeros, for a virtual dataset without its source file, and for
    what was never written. Chunks that are missing are left to `unwritten_events`.
    """
    _require_filters(item, name)
    if item.is_virtual:
        _require_sources(item, name, depth)
    elif item.external:
        _require_external(item, name)
    elif item.size and item.chunks is None and _is_unwritten(item):
        raise DataError(f"{name!r}: expected {len(item)} values, got none: it was never written")


def unwritten_events(item: Any) -> Array | None:
    """Return whether a chunk is missing that holds values of each event, bool (events,).

    None if no chunk is missing.
    """
    if item.chunks is None or item.is_virtual:
        return None
    grid = [math.ceil(size / chunk) for size, chunk in zip(item.shape, item.chunks, strict=True)]
    if item.id.get_num_chunks() == math.prod(grid):
        return None
    present = np.zeros(grid[0], np.int64)
    item.id.chunk_iter(lambda chunk: _count(present, chunk.chunk_offset[0] // item.chunks[0]))
    missing: Array = np.repeat(present < math.prod(grid[1:]), item.chunks[0])[: len(item)]
    return missing


def describe(item: Any) -> str:
    """Return how a dataset is stored: chunks and filters, virtual, or in external files."""
    if item is None:
        return ""
    if item.is_virtual:
        files = sorted({source.file_name for source in item.virtual_sources()})
        return f"virtual, from {', '.join(files[:4])}{' …' if len(files) > 4 else ''}"
    if item.external:
        return f"raw data in {item.external[0][0]}"
    plist = item.id.get_create_plist()
    filters = [_filter_name(*plist.get_filter(place)) for place in range(plist.get_nfilters())]
    chunks = f"chunks {item.chunks}" if item.chunks else ""
    return " ".join(filter(None, (chunks, *filters)))


def _filter_name(code: int, flags: int, values: Any, name: bytes) -> str:
    known = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 32000: "lzf"} | _FILTERS
    return known.get(code, f"filter {code} {name.decode(errors='replace')}".strip())


def _count(present: Array, row: int) -> None:
    present[row] += 1


def _is_unwritten(item: Any) -> bool:
    from h5py import h5d

    layout = item.id.get_create_plist().get_layout()
    return layout == h5d.CONTIGUOUS and item.id.get_offset() is None


def _require_filters(item: Any, name: str) -> None:
    from h5py import h5z

    plist = item.id.get_create_plist()
    codes = [plist.get_filter(place)[0] for place in range(plist.get_nfilters())]
    if all(h5z.filter_avail(code) for code in codes):
        return
    with suppress(ImportError):  # it registers its filters as it is imported
        importlib.import_module("hdf5plugin")
    for code in codes:
        if not h5z.filter_avail(code):
            what = f"{_FILTERS.get(code, 'an unknown filter')} ({code})"
            raise DataError(
                f"{name!r}: expected a filter of this HDF5 library, got {what}",
                "pip install hdf5plugin",
            )


def _require_external(item: Any, name: str) -> None:
    """Raise DataError if a file with the raw data of a dataset is missing, or too short."""
    folder = Path(item.file.filename).parent
    for file, offset, size in item.external:
        path = folder / file
        got = path.stat().st_size if path.is_file() else 0
        if got < offset + min(size, item.nbytes):
            raise DataError(
                f"{name!r}: expected {offset + min(size, item.nbytes)} bytes in its external file "
                f"{path}, got {got}"
            )


def _require_sources(item: Any, name: str, depth: int) -> None:
    """Raise DataError if a virtual dataset lacks a source, or has values from none."""
    if depth >= _MAX_DEPTH:
        raise DataError(f"{name!r}: expected virtual datasets at most {_MAX_DEPTH} deep, got more")
    mapped = 0
    for source in item.virtual_sources():
        at = f"{name!r}: source {source.dset_name!r} of the virtual dataset"
        if "%b" in source.file_name + source.dset_name or not _is_bounded(source):
            raise DataError(
                f"{at}: expected a source of fixed size, got one that grows or has a pattern "
                f"for a name, {source.file_name!r}",
                "copy the data to a dataset that is not virtual: h5repack or h5py",
            )
        mapped += source.vspace.get_select_npoints()
        _require_source(item, source, at, depth)
    if mapped < item.size:
        raise DataError(
            f"{name!r}: expected {item.size} values from the sources of the virtual dataset, "
            f"got {mapped}: the others would be fill values"
        )


def _is_bounded(source: Any) -> bool:
    """Whether a mapping has a fixed number of values; HDF5 cannot count those of a growing one."""
    try:
        return bool(source.vspace.get_select_npoints() >= 0)
    except RuntimeError:
        return False


def _require_source(item: Any, source: Any, at: str, depth: int) -> None:
    import h5py

    if source.file_name == ".":
        _require_values(item.file, source, at, depth)
        return
    path = _source_path(Path(item.file.filename).parent, Path(source.file_name))
    try:
        with h5py.File(path, "r") as file:
            _require_values(file, source, at, depth)
    except OSError as error:
        raise DataError(
            f"{at}: cannot open {path}: {error}",
            "put the file back where the virtual dataset expects it",
        ) from error


def _source_path(folder: Path, name: Path) -> Path:
    """Return where HDF5 finds the source file of a virtual dataset in a file in `folder`."""
    places = (folder / name, name, folder / name.name)
    return next((place for place in places if place.is_file()), folder / name)


def _require_values(file: Any, source: Any, at: str, depth: int) -> None:
    if source.dset_name not in file:
        raise DataError(f"{at}: expected it in {file.filename}, got no such dataset")
    found = file[source.dset_name]
    _require_size(found, source, at)
    require_written(found, source.dset_name, depth + 1)
    missing = unwritten_events(found)
    if missing is not None:
        raise DataError(f"{at}: {missing.sum()} of its {len(found)} entries were never written")


def _require_size(found: Any, source: Any, at: str) -> None:
    """Raise DataError if a source dataset is smaller than what is mapped of it."""
    from h5py import h5s

    if source.src_space.get_select_type() == h5s.SEL_ALL:
        expected = source.vspace.get_select_npoints()
        if found.size < expected:
            raise DataError(f"{at}: expected {expected} values, got {found.size}")
        return
    last = source.src_space.get_select_bounds()[1]
    shape = tuple(end + 1 for end in last)
    if len(shape) != found.ndim or any(np.greater(shape, found.shape)):
        raise DataError(f"{at}: expected values of shape {shape} or more, got {found.shape}")
