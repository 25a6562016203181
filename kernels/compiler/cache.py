"""Cache of compiled kernels on disk: numba's, with a key over all sources and a checksum.

numba keys the machine code of a function on the file that the function stands in. A kernel contains
the code of the functions that it calls and the constants that it reads, so here the key covers all
modules of `sluice.kernels`, the folder of the function's own module, and the folders of the
compiled functions that its module imports. An entry that is damaged, or that names a class which is
no longer there, is discarded and the kernel compiled again. The name of an entry contains the line
of its function: entries of an earlier version of a file are removed when a newer one is stored.
"""

import glob
import hashlib
import logging
import pickle
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, cast

from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps

_LOG = logging.getLogger("sluice.kernels")
_KERNELS = Path(__file__).parent.parent

#: numba's mark of a version of a source file: time of the last change in s, size in bytes.
Stamp: TypeAlias = tuple[float, int]


class _ChecksummedEntries(CompileResultCacheImpl):
    """Cache entries with a checksum: machine code with a damaged byte may crash the process."""

    def reduce(self, data: Any) -> tuple[bytes, bytes]:
        content: bytes = dumps(super().reduce(data))
        return hashlib.sha256(content).digest(), content

    def rebuild(self, target_context: Any, reduced_data: tuple[bytes, bytes]) -> Any:
        checksum, content = reduced_data
        if hashlib.sha256(content).digest() != checksum:
            raise ValueError("wrong checksum")
        return super().rebuild(target_context, pickle.loads(content))  # noqa: S301 - as numba reads its own files


class KernelCache(FunctionCache):
    """Cache of the machine code of one function, for all its signatures.

    Parameters
    ----------
    function : callable
        Python function to be compiled.

    Raises
    ------
    RuntimeError
        If the cache cannot be written to any folder.
    """

    _impl_class = _ChecksummedEntries

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._module = Path(function.__code__.co_filename).stem
        self._own_file = self._impl.locator.get_source_stamp()
        self._cache_file._source_stamp = (self._own_file, source_hash(function))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled code of a signature; None if it has to be compiled."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # unpickling damaged bytes may raise anything
            self._discard(error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store the compiled code of a signature; warn if it cannot be written."""
        try:
            try:
                super().save_overload(sig, data)
            except (EOFError, ValueError, pickle.UnpicklingError) as error:  # a damaged index
                self._discard(error)
                super().save_overload(sig, data)
            with suppress(OSError):
                _remove_outdated(Path(self.cache_path), self._module, self._own_file)
        except Exception as error:
            warnings.warn(f"compiled kernel is not cached: {error}", RuntimeWarning, stacklevel=2)

    def _discard(self, error: Exception) -> None:
        """Empty the index, so that the next process does not meet the damage again."""
        _LOG.debug("compiled kernel %s is not read from %s: %s: %s",
                   self._name, self.cache_path, type(error).__name__, error)  # fmt: skip
        with suppress(OSError):
            self.flush()


@cache
def _remove_outdated(folder: Path, module: str, own_file: Stamp) -> None:
    """Remove the entries of functions of `module` that were stored for another version of its file.

    Parameters
    ----------
    folder
        Folder of the entries of one folder of modules.
    module
        Name of the module's file without suffix, with which the names of its entries begin.
    own_file
        numba's mark of the version of its file: time of the last change in s, size in bytes.
    """
    for index in folder.glob(f"{module}.*.nbi"):
        if _stored_for(index) != own_file:
            index.unlink(missing_ok=True)
            for entry in folder.glob(f"{glob.escape(index.stem)}.*.nbc"):
                entry.unlink(missing_ok=True)


def _stored_for(index: Path) -> Stamp | None:
    """Return the mark of the file that an index was stored for; None if it cannot be read."""
    try:
        with index.open("rb") as file:
            pickle.load(file)  # noqa: S301 - numba's version, as numba reads its own files
            ((own_file, _), _) = pickle.load(file)  # noqa: S301
    except Exception:  # unpickling damaged bytes may raise anything
        return None
    return cast(Stamp, own_file)


def source_hash(function: Callable[..., Any]) -> str:
    """Return a hash over the source files that the machine code of `function` may depend on."""
    folders = {Path(file).parent for file in _source_files(function, set())}
    hashed = hashlib.sha256(_folder_hash(_KERNELS, "**/*.py"))
    for folder in sorted(folder for folder in folders if _KERNELS not in (folder, *folder.parents)):
        hashed.update(_folder_hash(folder, "*.py"))
    return hashed.hexdigest()


def _source_files(function: Any, found: set[str]) -> set[str]:
    """Add the file of `function` to `found`, and those of the compiled functions it may call."""
    file = function.__code__.co_filename
    if file not in found:
        found.add(file)
        for value in function.__globals__.values():
            if isinstance(value, Dispatcher):
                _source_files(value.py_func, found)
    return found


@cache
def _folder_hash(folder: Path, pattern: str) -> bytes:
    hashed = hashlib.sha256()
    for path in sorted(folder.glob(pattern)):
        hashed.update(str(path.relative_to(folder)).encode() + b"\0")
        hashed.update(hashlib.sha256(path.read_bytes()).digest())
    return hashed.digest()
