"""Fixtures that all tests share."""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from functools import cache


def _has_gpu() -> bool:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return found and count.value > 0


GPU = _has_gpu()
# Before anything imports numba: without a GPU its simulator runs the kernels for GPUs.
if not GPU:
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")
# Before anything imports torch or NumPy: two threads each are slower on nets of a few hundred
# weights, and a hundred times slower where testers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Commands inherit what is ignored, and nohup and shells in the background ignore these.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from sluice.exporters.families.wafers.simulation.wafers import simulate
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.inference.manifest import Manifest, Tensor
from sluice.pipeline.inference.repository import Model, write_model

ROOT = Path(__file__).resolve().parents[1]

# The only place where settings of hypothesis are made: a profile that a folder loaded would hold
# for whatever is collected after it.
_ALWAYS = settings(
    deadline=None,  # the machine may be busy with other things
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
settings.register_profile("dev", _ALWAYS, max_examples=50)
settings.register_profile("ci", _ALWAYS, max_examples=30, derandomize=True)
settings.register_profile("nightly", _ALWAYS, max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


#: The folder of real data, which is beside the project or nowhere.
DATA = Path(os.environ.get("SLUICE_DATA", ROOT.parent / "shared" / "data"))


@cache
def _may_mount() -> bool:
    """Whether this process may mount a file system, tried in a namespace of its own."""
    trial = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt"]
    try:
        return subprocess.run(trial, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _missing(item: pytest.Item) -> str:
    """Return what a test needs that this machine lacks, or nothing."""
    if not GPU and item.get_closest_marker("gpu") is not None:
        return "no GPU is here"
    if item.get_closest_marker("mounts") is not None and not _may_mount():
        return "cannot mount a tmpfs here: needs root and CAP_SYS_ADMIN"
    for marker in item.iter_markers("programs"):
        for program in marker.args:
            if shutil.which(program) is None:
                return f"{program} is not installed"
    for marker in item.iter_markers("modules"):
        for module in marker.args:
            if importlib.util.find_spec(module) is None:
                return f"the module {module} is not installed"
    for marker in item.iter_markers("data"):
        for name in marker.args:
            if not (DATA / name).exists():
                return f"no real data: {DATA / name} is absent; set SLUICE_DATA"
    return ""


#: Programs that the README does not ask for.
_OPTIONAL_PROGRAMS = {"prometheus", "promtool"}


def _is_optional(item: pytest.Item) -> bool:
    needed = {name for marker in item.iter_markers("programs") for name in marker.args}
    return bool(needed & _OPTIONAL_PROGRAMS) or item.get_closest_marker("data") is not None


@pytest.hookimpl(tryfirst=True)  # so that `-m optional` finds what is marked here
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot show, before anything is started for it."""
    for item in items:
        if "data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.data("."))
        if _is_optional(item):
            item.add_marker(pytest.mark.optional)
        if reason := _missing(item):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that says how tests start commands."""
    parser.addoption(
        "--new-interpreters", action="store_true",
        help="start each command as a new interpreter; by default most are forks of one process",
    )  # fmt: skip


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped and why, also with ``-q``: what did not run shows nothing."""
    skipped = terminalreporter.stats.get("skipped", ())
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in skipped
        if isinstance(report.longrepr, tuple)
    )
    for reason, tests in sorted(reasons.items()):
        terminalreporter.write_line(f"skipped {tests} tests: {reason}")


@pytest.fixture(autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run numbers of a test are its own; commands that it starts inherit the folder."""
    monkeypatch.setenv("SLUICE_STATE", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(autouse=True)
def runtime_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the runs of a test have their folders, in memory; what is left in it is a failure."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    # A short name: sockets are bound in it.
    folder = Path(tempfile.mkdtemp(prefix="test-", dir=memory))
    monkeypatch.setenv("SLUICE_RUNTIME", str(folder))
    yield folder
    left = sorted(path.name for path in folder.rglob("*"))
    shutil.rmtree(folder, ignore_errors=True)
    assert not left, f"left in the runtime folder: {left}"


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Make a folder once for all testers: the first fills it, the others wait until it is whole."""
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent

    def folder(name: str, fill: Callable[[Path], None]) -> Path:
        path, whole = common / f"once-{name}", common / f"once-{name}.whole"
        with (common / f"once-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir()
                fill(path)
                whole.touch()
        return path

    return folder


@pytest.fixture
def reserve_port() -> Iterator[Callable[[], int]]:
    """Return TCP ports of loopback that nobody else gets while the test runs.

    Each is held by a socket that does not listen, which lets a server with SO_REUSEADDR listen
    there, as our own and Prometheus do, but gives the port to nobody who asks for any free one.
    """
    held: list[socket.socket] = []

    def reserve() -> int:
        holder = socket.socket()
        held.append(holder)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])

    yield reserve
    for holder in held:
        holder.close()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data beside the project; tests with it are skipped where there are none."""
    return DATA


#: Numbers of one item of the lists that the model `list-sum` takes, and most items.
FEATURES, MAX_TRACKS = 3, 20
INPUTS = (
    Tensor("tracks", "float32", (FEATURES,), max_items=MAX_TRACKS),
    Tensor("real", "float32", mask="tracks"),
    Tensor("number", "int64", length="tracks"),
    Tensor("scale", "float32"),
)
OUTPUTS = (Tensor("total", "float32", (FEATURES,)), Tensor("length", "float32"))


def write_list_sum(
    root: Path, *, fixed: int | None = None, inputs: tuple[Tensor, ...] = INPUTS
) -> Model:
    """Write a model that adds up the items of lists that its mask says are real.

    It takes lists of any length, or of one that is `fixed`.
    """
    from onnx import TensorProto, helper

    width = fixed or "items"
    shapes = {"tracks": ["n", width, FEATURES], "real": ["n", width], "number": ["n"],
              "scale": ["n"], "total": ["n", FEATURES], "length": ["n"]}  # fmt: skip
    kinds = {"number": TensorProto.INT64}
    values = {
        name: helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shape)
        for name, shape in shapes.items()
    }
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [1], [axis])
        for name, axis in (("two", 2), ("one", 1))
    ]
    nodes = [
        helper.make_node("Unsqueeze", ["real", "two"], ["wide"]),
        helper.make_node("Mul", ["tracks", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["sum"], keepdims=0),
        helper.make_node("Unsqueeze", ["scale", "one"], ["factor"]),
        helper.make_node("Mul", ["sum", "factor"], ["total"]),
        helper.make_node("Cast", ["number"], ["length"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes, "list-sum", [values[t.name] for t in INPUTS], [values[t.name] for t in OUTPUTS],
        constants,
    )  # fmt: skip
    onnx = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    width = fixed or 4
    tracks = np.arange(2 * width * FEATURES, dtype=np.float32).reshape(2, width, FEATURES)
    golden = {
        "tracks": tracks,
        "real": np.array([[1] * width, [1] + [0] * (width - 1)], np.float32),
        "number": np.array([width, 1]),
        "scale": np.array([1, 2], np.float32),
    }
    made = {
        "total": np.stack([tracks[0].sum(axis=0), 2 * tracks[1, 0]]),
        "length": np.array([width, 1], np.float32),
    }
    manifest = Manifest(
        name="list-sum",
        version=1,
        family="test",
        sha256="",
        inputs=inputs,
        outputs=OUTPUTS,
        tolerance=1e-3,
    )
    return write_model(root, manifest, onnx.SerializeToString(), golden, made)


@pytest.fixture(scope="session")
def list_sum() -> Callable[..., Model]:
    """Return what writes the model `list-sum` into a repository."""
    return write_list_sum


@pytest.fixture(scope="session")
def wafers() -> EventBatch:
    """500 simulated wafers as chip words, event ids from 1."""
    columns = simulate(500, 11)
    del columns["truth"]
    columns["event_id"] = np.arange(1, 501, dtype=np.uint64)
    columns["t_ingest"] = np.zeros(500, np.int64)
    return EventBatch(columns, 500)
