"""Shared libraries for GPUs: dependencies, their places in Python wheels, and missing ones.

Wheels install CUDA's libraries in folders that the dynamic loader does not search. A library that
was loaded from there by its path is found by all libraries that need it afterwards.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

#: Packages whose folders hold libraries, such as ``nvidia/cu13/lib`` and ``tensorrt_libs``.
_WHEELS = ("nvidia", "tensorrt_libs")
#: Types of program headers (PT_LOAD, PT_DYNAMIC), and tags of the dynamic section (DT_NEEDED,
#: DT_STRTAB), of an ELF file.
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _NAMES = 1, 5


class InstallHint(NamedTuple):
    """Product that a library belongs to, and the command that installs it."""

    what: str
    command: str


_CUDA = InstallHint("CUDA 13 and cuDNN 9", "pip install 'onnxruntime-gpu[cuda,cudnn]'")
_TENSORRT = InstallHint("TensorRT 10.16", "pip install 'tensorrt-cu13==10.16.*'")
DRIVER = InstallHint(
    "the NVIDIA driver, 580 or later",
    "apt-get install nvidia-driver, on the host; in a container: docker run --gpus all",
)
#: Hint by the beginning of a library's file name; the first match is used.
_FIXES = {
    "libcuda.": DRIVER,
    "libnvidia-ml.": DRIVER,
    "libnvinfer": _TENSORRT,
    "libnvonnxparser": _TENSORRT,
    "lib": _CUDA,
}


def install_hint(name: str) -> InstallHint:
    """Return the product that a library belongs to, and the command that installs it.

    Examples
    --------
    >>> install_hint("libnvinfer.so.10").what
    'TensorRT 10.16'
    """
    return next(fix for start, fix in _FIXES.items() if name.startswith(start))


def missing_libraries(library: Path, besides: tuple[str, ...] = ()) -> dict[str, str]:
    """Load the dependencies of a library; return those that cannot be loaded.

    Parameters
    ----------
    library
        Path of a shared library; it is not loaded itself.
    besides
        Names of libraries that it opens only at run time.

    Returns
    -------
    dict of str to str
        Message of the loader, by name of the missing library.
    """
    failures = {name: load(name) for name in (*needed_libraries(library), *besides)}
    return {name: text for name, text in failures.items() if text is not None}


@cache
def load(name: str) -> str | None:
    """Load a library from the system, else from a wheel; return the error, None on success."""
    try:
        ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
    except OSError as error:
        path = in_wheels(name)
        if path is None:
            return str(error)
    else:
        return None
    for other in needed_libraries(path):  # they may be in the folder of another wheel
        load(other)
    try:
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    except OSError as error:
        return str(error)
    return None


def in_wheels(name: str) -> Path | None:
    """Return the path of a library in a wheel, None if no wheel has it."""
    for folder in wheel_folders():
        if (folder / name).is_file():
            return folder / name
    return None


def wheel_folders() -> Iterator[Path]:
    """Yield the folders of installed wheels that may hold CUDA's libraries."""
    for package in _WHEELS:
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            yield from (Path(place), *sorted(Path(place).glob("*/lib")))


def needed_libraries(library: Path) -> list[str]:
    """Return the names of the direct dependencies (DT_NEEDED) of a 64-bit ELF library.

    Raises
    ------
    ValueError
        If the file is not a 64-bit ELF library.
    """
    try:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            return _names(data)
    except (struct.error, StopIteration) as error:
        raise ValueError(f"{library}: expected a 64-bit ELF library") from error


def _names(data: mmap.mmap) -> list[str]:
    if data[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian
        raise ValueError(f"expected a 64-bit ELF library, got {data[:6]!r}")
    (start,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    heads = [struct.unpack_from("<IIQQQQ", data, start + n * size) for n in range(count)]
    place, length = next((h[2], h[5]) for h in heads if h[0] == _DYNAMIC)
    tags = [struct.unpack_from("<QQ", data, place + n) for n in range(0, length, 16)]
    address = next(value for tag, value in tags if tag == _NAMES)
    strings = next(
        address - at + offset
        for kind, _, offset, at, _, held in heads
        if kind == _LOAD and at <= address < at + held
    )
    starts = [strings + value for tag, value in tags if tag == _NEEDED]
    return [data[at : data.find(b"\0", at)].decode() for at in starts]
