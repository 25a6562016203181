"""Compiled kernels on disk: used again as long as every source is the same, never when damaged."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core import config
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target

from sluice.kernels import hashing
from sluice.kernels.compiler import jit
from sluice.kernels.compiler.cache import KernelCache

INNER = """
from typing import NamedTuple
from sluice.kernels.compiler.jit import device_function

STEP = 10

class Pair(NamedTuple):
    left: int
    right: int

@device_function
def total(pair):
    return pair.left + pair.right
"""

OUTER = """
from sluice.kernels.compiler.jit import device_function, kernel, scalar
from {inner} import STEP, Pair, total

@kernel((scalar("i8"),))
def add(x):
    return total(Pair(x, STEP))
"""

SECOND = """

@kernel((scalar("i8"),))
def subtract(x):
    return total(Pair(x, -STEP))
"""

RUN = """
import warnings
warnings.simplefilter("error")
from {outer} import add
print(add(1), sum(add.stats.cache_hits.values()))
"""


class Package:
    """A package `sluice.kernels` of two modules, and one that uses it from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        kernels = folder / "sluice" / "kernels"
        shutil.copytree(
            Path(jit.__file__).parent, kernels / "compiler", ignore=lambda *_: ["__pycache__"]
        )
        for package in (kernels.parent, kernels):
            (package / "__init__.py").write_text("")
        self.inner, self.outer = kernels / "inner" / "pairs.py", kernels / "outer.py"
        self.outside, self.apart = folder / "user" / "program.py", folder / "apart" / "blocks.py"
        for file in (self.inner, self.apart):
            file.parent.mkdir(parents=True)
            file.write_text(INNER)
        self.outside.parent.mkdir()
        self.outer.write_text(OUTER.format(inner="sluice.kernels.inner.pairs"))
        self.outside.write_text(OUTER.format(inner="apart.blocks"))

    def add(self, outer: str = "sluice.kernels.outer") -> tuple[int, int]:
        """Return `add(1)` of a new process, and whether it came from the cache."""
        done = subprocess.run(
            [sys.executable, "-c", RUN.format(outer=outer)],
            capture_output=True, timeout=120, check=False,
            env={
                **os.environ, "PYTHONPATH": str(self.folder), "NUMBA_CACHE_DIR": str(self.cache),
                "SLUICE_FAST_IMPORT": "1",
            },
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        value, hits = done.stdout.split()
        return int(value), int(hits)

    def entries(self) -> list[str]:
        """Return the names of all files of the cache."""
        return sorted(file.name for file in self.cache.rglob("*") if file.is_file())


@pytest.fixture
def package(tmp_path):
    return Package(tmp_path)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_kernel_follows_the_functions_and_constants_of_other_modules(package):
    assert package.add() == (11, 0)
    assert package.add() == (11, 1)
    edit(package.inner, "+ pair.right", "- pair.right")
    assert package.add() == (-9, 0)
    edit(package.inner, "STEP = 10", "STEP = 20")
    assert package.add() == (-19, 0)
    assert package.add() == (-19, 1)


def test_a_kernel_outside_follows_the_modules_that_it_calls(package):
    assert package.add("user.program") == (11, 0)
    assert package.add("user.program") == (11, 1)
    edit(package.apart, "+ pair.right", "- pair.right")
    assert package.add("user.program") == (-9, 0)


def test_entries_of_an_earlier_version_of_a_file_are_removed(package):
    assert package.add() == (11, 0)
    kept = package.entries()
    edit(package.outer, "from sluice", "\n\n# Another line for the kernel.\nfrom sluice")
    assert package.add() == (11, 0)
    moved = package.entries()
    assert [name for name in moved if name in kept] == [name for name in kept if "pairs" in name]
    assert len(moved) == len(kept)
    assert package.add() == (11, 1)
    edit(package.inner, "STEP = 10", "STEP = 20")  # and the same name is used again
    assert package.add() == (21, 0)
    assert package.entries() == moved


def test_entries_of_other_functions_of_a_file_are_kept(package):
    package.outer.write_text(package.outer.read_text() + SECOND)
    assert package.add() == (11, 0)
    assert package.add() == (11, 1)
    assert len([name for name in package.entries() if name.startswith("outer.")]) == 4


def test_a_class_that_was_renamed_is_compiled_anew(package):
    assert package.add() == (11, 0)
    edit(package.inner, "Pair", "Duo")
    edit(package.outer, "Pair", "Duo")
    assert package.add() == (11, 0)
    assert package.add() == (11, 1)


def cut(size: int):
    return lambda content: content[:size]


def zero_end(content: bytes) -> bytes:
    return content[:-2000] + bytes(2000)


@pytest.mark.parametrize("damage", [cut(0), cut(40), zero_end], ids=["empty", "cut", "zeros"])
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_damaged_files_are_compiled_anew(package, suffix, damage):
    assert package.add() == (11, 0)
    files = list(package.cache.rglob(f"*.{suffix}"))
    assert files
    for file in files:
        file.write_bytes(damage(file.read_bytes()))
    assert package.add() == (11, 0)
    assert package.add() == (11, 1)


def test_a_full_disk_is_warned_of(monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FunctionCache, "save_overload", fail)
    with pytest.warns(RuntimeWarning, match=r"not cached: .* No space left"):
        KernelCache(hashing.order_digest.py_func).save_overload((), None)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache of a kernel in a folder of its own, with an index of one entry."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    made = KernelCache(hashing.order_digest.py_func)
    made._cache_file._save_index({"key": "entry.nbc"})
    return made


def test_an_index_that_is_cut_anywhere_is_discarded(cache, caplog):
    index = Path(cache._cache_file._index_path)
    whole = index.read_bytes()
    for length in range(len(whole)):
        index.write_bytes(whole[:length])
        with caplog.at_level(logging.DEBUG, "sluice.kernels"):
            caplog.clear()
            assert cache.load_overload((), cpu_target.target_context) is None
        assert "is not read from" in caplog.text, length
        assert cache._cache_file._load_index() == {}, length


def test_a_damaged_index_does_not_keep_a_kernel_from_being_stored(cache, monkeypatch):
    saved = []

    def save(self, signature, data):
        self._cache_file._load_index()  # as numba does first
        saved.append(signature)

    monkeypatch.setattr(FunctionCache, "save_overload", save)
    index = Path(cache._cache_file._index_path)
    whole = index.read_bytes()
    for length in range(len(whole)):
        index.write_bytes(whole[:length])
        cache.save_overload(length, None)
    assert saved == list(range(len(whole)))


def test_a_folder_that_cannot_be_written_is_not_used(cache, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    index = Path(cache._cache_file._index_path)
    index.write_bytes(b"")
    monkeypatch.setattr(cache._cache_file, "_open_for_write", refuse)
    assert cache.load_overload((), cpu_target.target_context) is None
