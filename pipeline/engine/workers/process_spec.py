"""Start-up parameters of the processes of the distributed engine, and their main function."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.config.graph_file import GraphTable as GraphTable
from sluice.pipeline.core.errors import (
    DeviceLostError,
    ErrorRecord,
    SluiceError,
)
from sluice.pipeline.core.log import fields
from sluice.pipeline.core.schema import Column, Schema
from sluice.pipeline.engine.model_swap import Swap
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.graph.segments import edge_schemas
from sluice.pipeline.sinks.base import Keep
from sluice.pipeline.system.cpu_scheduling import SWITCH_INTERVAL_S, change_policy
from sluice.pipeline.system.log import configure_child
from sluice.pipeline.system.parent import end_with_parent
from sluice.pipeline.transport.protocol import Header, Kind, Session
from sluice.pipeline.transport.socket import Socket, terminate

from .ingest_socket import IngestSocket
from .shared_slots import SharedSlots

_LOG = logging.getLogger("sluice.engine")
#: Interval at which a process without messages checks that its parent is running, s.
PARENT_CHECK_S = 1.0
#: Name of the shared-memory file in the run directory.
SLOTS_FILE = "slots"
#: Small batches that may be in flight for each full batch of the window: bounds their memory.
_SMALL_PER_FULL_BATCH = 64
#: Slots beyond the window, for batches that are sent again after a worker exited.
_SPARE_SLOTS = 4
#: Upper bounds on the batches, and on their events, that a worker has processed and not reported:
#: a report wakes three threads, but holds back the credit and the slots of its batches.
_MAX_UNREPORTED, _MAX_UNREPORTED_EVENTS = 4, 16_384
#: Input events per event of result that a slot can hold, where only accepted events are kept.
_EVENTS_PER_RESULT = 4
#: Service times at warm-up: for each ladder rung, pairs of batch size (events) and time (s).
ServiceTimes = list[list[tuple[int, float]]]


class CoreSet(Struct, frozen=True):
    """CPU cores of one process: `main` for its main thread, `others` for its other threads."""

    main: tuple[int, ...]
    others: tuple[int, ...]


def assign_cores(available: set[int], workers: int, *, live: bool) -> tuple[list[CoreSet], CoreSet]:
    """Return the cores of each compute worker, and those shared by ingest and sink.

    The throughput of a replay is limited by its workers. Where there are more cores than workers,
    the main thread of each worker has a core to itself and all other threads share the remaining
    cores (10 % faster on two cores). In a live run latency counts: all processes may use all
    cores, and the operating system places them.

    Examples
    --------
    >>> assign_cores({0, 1, 2}, 2, live=False)[0][1]
    CoreSet(main=(1,), others=(2,))
    """
    every = tuple(sorted(available))
    if live or workers >= len(every):
        return [CoreSet(every, every)] * workers, CoreSet(every, every)
    rest = every[workers:]
    return [CoreSet((core,), rest) for core in every[:workers]], CoreSet(rest, rest)


def slot_results(graph: GraphTable, keep: Keep) -> int:
    """Return the number of kept events that fit a slot; a larger result is sent in the message."""
    return graph.batch_events if keep == "all" else -(-graph.batch_events // _EVENTS_PER_RESULT)


def max_unreported(events: int) -> int:
    """Return the number of batches of `events` events after which a worker reports them."""
    return max(1, min(_MAX_UNREPORTED, _MAX_UNREPORTED_EVENTS // max(1, events)))


def max_in_flight(window: int) -> int:
    """Return the largest number of batches in flight for a window of `window` full batches."""
    return _SMALL_PER_FULL_BATCH * window


def slot_count(config: GraphConfig) -> int:
    """Return the number of shared-memory slots for full batches of a run of the graph."""
    unreported = max_unreported(config.graph.batch_events) - 1
    return config.graph.window + _SPARE_SLOTS + unreported * len(config.workers.segment_of_worker)


def socket_identity(name: str, session: int) -> str:
    """Return the ZeroMQ identity of a process, which no other process and no restarted one has."""
    return f"{name[:60]}.{session:08x}"  # at most 255 bytes, also in UTF-8


class ProcessSpec(Struct, frozen=True, kw_only=True):
    """Start-up parameters of one process, read from a JSON file.

    Attributes
    ----------
    name
        Name of the process.
    session
        Session number of the process.
    config
        Graph configuration.
    source
        Columns of the source; with `config` enough to build the same graph again.
    ingest_endpoint, sink_endpoint
        ZeroMQ endpoints of ingest's router and of the sink's result socket.
    meters_path
        File of the process's meter block; empty for none.
    slots_path, slot_count
        File of the shared-memory slots (empty for none) and the number of full-size slots in it.
    bor
        Begin-of-run record.
    models
        Name, version, sha256 and backend of the model of each stage of `config`.
    epoch
        Model epoch at the start of the process.
    swap
        Swap that leads from the models of `config` to `epoch`; None if `config` has them already.
    token_secret
        For a sink: secret of the tokens of batches, hexadecimal. Empty for a worker.
    parent_pid
        Process id of the engine; the process ends when its parent is another.
    cores
        CPU cores of the process.
    credit
        Number of batches that a worker asks for in advance.
    first_seq
        For a sink that continues an output file: number of the first batch that is not committed
        yet, as far as ingest knows. None for a new output file.
    activated_swaps
        For a sink: the swaps of this attempt that have begun.
    segment
        Segment of the chain that a worker runs.
    batch_scheduling
        Whether to run under SCHED_BATCH, for throughput, where latency does not count.
    """

    name: str
    session: int
    config: GraphConfig
    source: tuple[Column, ...]
    ingest_endpoint: str
    sink_endpoint: str
    meters_path: str
    slots_path: str
    slot_count: int
    bor: dict[str, Any]
    models: dict[str, dict[str, str]]
    epoch: int
    swap: Swap | None
    parent_pid: int
    cores: CoreSet
    credit: int
    token_secret: str = ""
    first_seq: int | None = None
    activated_swaps: tuple[Swap, ...] = ()
    segment: int = 0
    batch_scheduling: bool = False

    @property
    def schema(self) -> Schema:
        """Columns of the source."""
        return Schema(self.source)

    @property
    def run(self) -> int:
        """Run number."""
        return int(self.bor.get("run", 0))

    @property
    def identity(self) -> str:
        """ZeroMQ identity of the process."""
        return socket_identity(self.name, self.session)

    def open_slots(self, graph: Graph, keep: Keep) -> SharedSlots:
        """Return the shared-memory slots of the run, sized for a sink that keeps `keep`."""
        table = self.config.graph
        return SharedSlots(
            Path(self.slots_path), edge_schemas(graph), table.batch_events,
            slot_results(table, keep), self.slot_count, create=False,
        )  # fmt: skip

    def is_orphaned(self) -> bool:
        """Whether the engine that started this process has exited."""
        return os.getppid() != self.parent_pid


def run_process(
    role: Callable[[ProcessSpec, IngestSocket], None], path: str, *, ends_with_engine: bool = False
) -> int:
    """Run this process role with the specification in `path`; return the exit code.

    A failure is sent to ingest as an ERROR message, which ends the run. The loss of a device is
    not: it only ends this process, which is then restarted. The exit code is that of the error.
    With `ends_with_engine` the process is killed when the engine exits, whatever it does then.
    """
    spec = msgspec.json.decode(Path(path).read_bytes(), type=ProcessSpec)
    if ends_with_engine:
        end_with_parent(spec.parent_pid)
    configure_child(spec.name, spec.run)
    _LOG.debug("started as pid %d", os.getpid(), extra=fields("process-started", pid=os.getpid()))
    os.sched_setaffinity(0, spec.cores.others)  # inherited by threads started later
    if spec.batch_scheduling:
        change_policy(os.SCHED_OTHER, os.SCHED_BATCH)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    socket = Socket(spec.ingest_endpoint, spec.identity)
    ingest = IngestSocket(socket, Session(spec.run, spec.session))
    code = 0
    try:
        role(spec, ingest)
    except DeviceLostError as error:  # the device may work again in a restarted process
        _LOG.error("%s", error.message, extra=fields("device-lost"))
        code = error.exit_code
    except Exception as error:
        if "SLUICE_DEBUG" in os.environ:
            traceback.print_exc()
        ingest.send(Header(Kind.ERROR), msgspec.json.encode(ErrorRecord.of(error, spec.name)))
        code = error.exit_code if isinstance(error, SluiceError) else 1
    ingest.close()
    terminate()
    return code
