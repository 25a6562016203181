"""A lane: a copy of the tree with an environment of its own, in which one fault at a time is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .edit import Source
from .sample import Mutant

#: Folders of the repository that are packages below ``sluice``.
_PACKAGES = ("benchmarks", "exporters", "kernels", "models", "pipeline")
#: Time stamp of the first fault, s; each later one is a second younger.
_FIRST_FAULT_S = 2_000_000_000
#: Large libraries that tests import and that no fault touches.
LIBRARIES = (
    "numpy", "numba", "hypothesis", "msgspec", "pyarrow.ipc", "pyarrow.parquet", "zmq",
    "scipy.stats", "awkward", "vector", "onnx", "rich", "typer", "uproot", "h5py",
    "anyio._backends._asyncio",
)  # fmt: skip
#: Arguments of every run of pytest.
_ARGUMENTS = (
    "-p", "no:cacheprovider", "-rfE", "--tb=line", "-m", "not long and not gpu",
    "-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning",
)  # fmt: skip
#: A test that failed, in pytest's summary; what stands in brackets may have any characters.
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?::[^\[\s]+\[.*?\](?= - |$)|\S+)", re.MULTILINE)


@dataclass(frozen=True)
class PytestRun:
    """What came of one run of pytest.

    Parameters
    ----------
    status
        Exit status: 0 all passed, 1 a test failed, -1 it took too long, others no test ran.
    seconds
        How long it took.
    output
        What it printed.
    """

    status: int
    seconds: float
    output: str

    @property
    def failed(self) -> list[str]:
        """Names of the tests that failed, from the summary at the end."""
        return _FAILED.findall(self.output.rpartition("short test summary info")[2])


class Lane:
    """A copy of the tree, and pytest in it; closed as a context.

    Parameters
    ----------
    root
        The tree.
    folder
        Where the lane is.
    libraries
        What is imported once for all runs.
    """

    def __init__(self, root: Path, folder: Path, libraries: tuple[str, ...] = LIBRARIES) -> None:
        self.tree = folder / "tree"
        self.compiled = folder / "compiled"
        self._output = folder / "output.txt"
        self._faults = 0
        shutil.rmtree(self.tree, ignore_errors=True)
        _copy(root, self.tree)
        python = _make_environment(self.tree)
        self._server = subprocess.Popen(
            [python, "-m", "tests.mutants.pytest_server", *libraries], cwd=self.tree, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environment(root),
        )  # fmt: skip

    def __enter__(self) -> Lane:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)  # closes its input, at which it ends

    def pytest(
        self,
        arguments: list[str],
        timeout_s: float,
        cache: Path | None = None,
        record: Path | None = None,
        lines: bool = False,
    ) -> PytestRun:
        """Run pytest.

        Parameters
        ----------
        arguments
            Its arguments.
        timeout_s
            Longest time, s.
        cache
            Where kernels are compiled to; None for the place of those without a fault.
        record
            File for what a `Recorder` sees; None for none.
        lines
            Whether that is also which lines a test runs.
        """
        request = {
            "arguments": [*_ARGUMENTS, *arguments],
            "timeout": timeout_s,
            "output": str(self._output),
            "environment": {"NUMBA_CACHE_DIR": str(cache or self.compiled)},
            "record": str(record or ""),
            "lines": lines,
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        text = self._output.read_text(errors="replace")
        return PytestRun(answer["status"], answer["seconds"], text)

    @contextmanager
    def planted(self, mutant: Mutant) -> Iterator[Path | None]:
        """Plant a fault as long as the context lasts; yield where kernels are compiled to.

        That is a folder of its own if the fault is in a kernel: else the machine code without it
        would be lost. Python's own cache compares time stamps by the second, so each fault gets one
        of its own.
        """
        path = self.tree / mutant.file
        before, text = path.stat(), path.read_text()
        self._faults += 1
        stamp = _FIRST_FAULT_S + self._faults
        path.write_text(Source(text).apply(mutant.edit))
        os.utime(path, (stamp, stamp))
        try:
            if mutant.file.startswith("kernels/"):
                with TemporaryDirectory(prefix="mutant-", dir=self.tree.parent) as cache:
                    yield Path(cache)
            else:
                yield None
        finally:
            path.write_text(text)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _environment(self, root: Path) -> dict[str, str]:
        data = os.environ.get("SLUICE_DATA", str(root.parent / "shared" / "data"))
        # As tests/conftest.py has it, which comes too late here.
        return os.environ | {
            "HYPOTHESIS_PROFILE": "ci",
            "NUMBA_ENABLE_CUDASIM": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
            "SLUICE_DATA": data,
        }


def _copy(root: Path, tree: Path) -> None:
    """Copy the files of a tree that git has or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (root / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, tree / name)


def _make_environment(tree: Path) -> Path:
    """Make an environment with the packages of this one, in which ``sluice`` is a tree; return its
    interpreter.
    """
    links = tree / "build" / "links" / "sluice"
    links.mkdir(parents=True)
    for file in (tree / "package").iterdir():
        (links / file.name).symlink_to(file)
    for name in _PACKAGES:
        (links / name).symlink_to(tree / name)
    environment = tree / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    packages = next(environment.glob("lib/python*/site-packages"))
    folders = [folder for folder in sys.path if folder.endswith("site-packages")]
    (packages / "__lane.pth").write_text("\n".join([str(links.parent), *folders]) + "\n")
    for folder in folders:
        for file in Path(folder).glob("_*.pth"):  # `import …` lines of libraries
            if "__editable__" not in file.name:
                shutil.copy2(file, packages)
    _copy_scripts(environment / "bin")
    return environment / "bin" / "python"


def _copy_scripts(target: Path) -> None:
    """Copy the commands that tests start, with this interpreter."""
    for name in ("sluice", "lint-imports", "ruff"):
        script = Path(sys.executable).with_name(name)
        if script.is_file() and script.read_bytes().startswith(b"#!"):
            body = script.read_text().split("\n", 1)[1]
            (target / name).write_text(f"#!{target / 'python'}\n{body}")
            (target / name).chmod(0o755)
