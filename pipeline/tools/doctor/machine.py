"""Check of processor, memory, limits, folders, ports and clock."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import time
from pathlib import Path

from sluice.pipeline.run.run_numbers import state_folder
from sluice.pipeline.system import machine
from sluice.pipeline.system.run_directory import VARIABLE, runtime_path

from .finding import Finding, Findings, Status, graded, ok

_GROUP = "machine"
_SHM = Path("/dev/shm")  # noqa: S108
_MIB = 1 << 20
#: Free shared memory that a run needs, bytes: slots of the window, and those of a killed run.
_MIN_SHM_BYTES = 256 * _MIB
#: Minimum free disk space and memory, bytes.
_MIN_DISK_BYTES = 10 << 30
_MIN_MEMORY_BYTES = 2 << 30
#: Minimum limit of open files; a front end takes three. The systemd unit sets more.
_MIN_FILES = 4096
#: Ports of the graphs that ship: HTTP, and the socket of the front ends.
_PORTS = {9464: "http.listen", 5560: "listen of the source"}


def check_machine() -> Findings:
    """Yield the findings on processor, memory, limits, folders, ports and clock."""
    yield from _processor()
    yield from _memory()
    yield from _limits()
    yield from _folders()
    yield from _ports()
    yield _clock()


def _processor() -> Findings:
    yield ok(_GROUP, "system", f"{platform.platform()}, {platform.machine()}")
    cores, all_cores = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    yield ok(_GROUP, "processor", machine.processor())
    yield graded(
        _GROUP, "cores", f"{cores} of {all_cores}",
        "a run needs one beside those of its workers: allow more, or --engine inline",
        worse=Status.WARNING, if_=cores < 2,
    )  # fmt: skip


def _memory() -> Findings:
    fields = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines() if ":" in line)
    free = int(fields.get("MemAvailable", "0 kB").split()[0]) << 10
    yield graded(
        _GROUP, "memory", f"{free / 1e9:.1f} GB available", "a worker takes 0.4 GB: free some",
        worse=Status.WARNING, if_=free < _MIN_MEMORY_BYTES,
    )  # fmt: skip
    yield _shared()


def _shared() -> Finding:
    """Return whether there is space where the batches of a run lie."""
    folder = runtime_path()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_relative_to(_SHM) and not os.environ.get(VARIABLE) and not _SHM.exists():
        text = f"no {_SHM}: batches lie in {there} instead"
        return Finding(_GROUP, "shared memory", Status.WARNING, text, f"mount -t tmpfs shm {_SHM}")
    shared = shutil.disk_usage(there)
    fix = f"free space in {there}, or name another folder in {VARIABLE}"
    if there.is_relative_to(_SHM):
        fix = f"mount -o remount,size=1G {_SHM}; in a container: docker run --shm-size 1g"
    return graded(
        _GROUP, "shared memory",
        f"{shared.free / 1e6:,.0f} of {shared.total / 1e6:,.0f} MB free in {there}",
        fix, worse=Status.WARNING, if_=shared.free < _MIN_SHM_BYTES,
    )  # fmt: skip


def _limits() -> Findings:
    files, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield graded(
        _GROUP, "open files", f"{files:,} (ulimit -n), at most {maximum:,}",
        "ulimit -n 65536; LimitNOFILE=65536 of a systemd unit",
        worse=Status.WARNING, if_=0 <= files < _MIN_FILES,
    )  # fmt: skip
    priority, _ = resource.getrlimit(resource.RLIMIT_RTPRIO)
    yield ok(_GROUP, "real-time priority", f"up to {priority} (ulimit -r); no run needs it")


def _folders() -> Findings:
    state = state_folder("")
    yield graded(
        _GROUP, "state folder", f"{state}{'' if _writable(state) else ': cannot be written'}",
        "SLUICE_STATE=FOLDER, or `state` of [run] in the graph file",
        worse=Status.ERROR, if_=not _writable(state),
    )  # fmt: skip
    cache = kernel_cache()
    yield graded(
        _GROUP, "compiled kernels", str(cache or "no folder that can be written"),
        "NUMBA_CACHE_DIR=FOLDER: without one each process compiles them anew, for a minute",
        worse=Status.ERROR, if_=cache is None,
    )  # fmt: skip
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    yield graded(
        _GROUP, "disk", f"{free / 1e9:.1f} GB free in {here}",
        "recordings go there: free some, or choose another place with --out",
        worse=Status.WARNING, if_=free < _MIN_DISK_BYTES,
    )  # fmt: skip


def kernel_cache() -> Path | None:
    """Return the folder of numba's compiled kernels; None if no folder is writable."""
    from sluice import kernels

    asked = os.environ.get("NUMBA_CACHE_DIR", "")
    beside = Path(next(iter(kernels.__path__))) / "__pycache__"
    users = Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache") / "numba"
    places = [Path(asked)] if asked else [beside, users]
    return next((place for place in places if _writable(place)), None)


def _ports() -> Findings:
    for port, use in _PORTS.items():
        taken = _taken(port)
        yield graded(
            _GROUP, f"port {port}", "taken, perhaps by a run" if taken else "free",
            f"choose another {use} in the graph file" + (", or --http" if port == 9464 else ""),
            worse=Status.WARNING, if_=taken,
        )  # fmt: skip


def _clock() -> Finding:
    offset = round(time.clock_gettime(time.CLOCK_TAI) - time.clock_gettime(time.CLOCK_REALTIME))
    return graded(
        _GROUP, "CLOCK_TAI", f"{offset} s ahead of UTC",
        "only for workers of other hosts, whose times it compares: `leapsectz right/UTC` in "
        "chrony.conf, or ptp4l",
        worse=Status.WARNING, if_=offset == 0,
    )  # fmt: skip


def _writable(folder: Path) -> bool:
    """Whether a folder is writable, or can be created."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _taken(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
