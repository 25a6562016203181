"""What a process of the distributed engine is told at its start, and how it tells of failure."""

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
from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.socket import Socket, terminate

from .shared_slots import SharedSlots

_LOG = logging.getLogger("sluice.engine")
#: A process that has heard nothing for this long looks whether its parent still lives.
ORPHAN_CHECK_S = 1.0
SLOTS = "slots"
#: Slots beyond the window, for batches that are sent anew.
_SPARE_SLOTS = 4
#: A worker may owe news of so many batches, and of so many events.
_OWED, _OWED_EVENTS = 4, 16_384
#: A slot has room for one in so many events of a batch, where only accepted ones are kept.
_ACCEPTED = 4
#: By rung: batch size and seconds that such a batch took at a worker's warm-up.
Times = list[list[tuple[int, float]]]


class CoreSet(Struct, frozen=True):
    """CoreSet of one process: `own` for its main thread, `rest` for all its other threads."""

    main: tuple[int, ...]
    others: tuple[int, ...]


def assign_cores(available: set[int], workers: int, *, live: bool) -> tuple[list[CoreSet], CoreSet]:
    """Return the cores of each compute worker, and of ingest and sink.

    A replay is bound by its workers: where there are more cores than workers, the main thread of
    each has a core to itself, and all else shares the rest (a tenth faster on two cores). A live
    run is bound by whoever is late: the operating system places everything.

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
    """Return how many results of a batch a slot has room for; where more are kept they travel."""
    return graph.batch_events if keep == "all" else -(-graph.batch_events // _ACCEPTED)


def max_unreported(events: int) -> int:
    """Return after how many batches of a size a worker tells that they are judged."""
    return max(1, min(_OWED, _OWED_EVENTS // max(1, events)))


def slot_count(config: GraphConfig) -> int:
    """Return how many slots of shared memory a run of the graph has."""
    owed = max_unreported(config.graph.batch_events) - 1
    return config.graph.window + _SPARE_SLOTS + owed * len(config.workers.segment_of_worker)


class ProcessSpec(Struct, frozen=True):
    """Start-up parameters of one process, read from a JSON file.

    Attributes
    ----------
    name
        The process's name, also its ZeroMQ identity.
    config, source
        The graph and the columns of its source: enough to build the same graph again.
    hub, outlet
        Endpoints of ingest and of the sink.
    meters
        The file of its meter block.
    slots, slot_count
        The shared memory in which batches lie, and how many fit.
    bor
        The begin-of-run record.
    models
        Name, version, sha256 and backend of each stage's model, as `config` has them.
    epoch, swap
        The epoch of the models, and the swap that leads from `config` to it, if there is one.
    parent
        Process id of the engine; the process ends when that is gone.
    cores
        Where it runs.
    credit
        Batches that a worker asks for ahead.
    since
        For a sink that goes on with what an earlier life wrote: batches before are settled.
    begun
        For a sink: the swaps that have begun.
    segment
        Which segment of the chain a worker runs.
    hurried
        Whether it leaves others their turn on the cores; throughput counts, not who waits.
    """

    name: str
    config: GraphConfig
    source: tuple[Column, ...]
    hub: str
    outlet: str
    meters: str
    slots: str
    slot_count: int
    bor: dict[str, Any]
    models: dict[str, dict[str, str]]
    epoch: int
    swap: Swap | None
    parent: int
    cores: CoreSet
    credit: int
    since: int | None = None
    begun: tuple[Swap, ...] = ()
    segment: int = 0
    hurried: bool = False

    @property
    def schema(self) -> Schema:
        """Columns of the source."""
        return Schema(self.source)

    def open_slots(self, graph: Graph, keep: Keep) -> SharedSlots:
        """Return the run's shared memory, for a sink that keeps these events."""
        table = self.config.graph
        return SharedSlots(
            Path(self.slots), edge_schemas(graph), table.batch_events, slot_results(table, keep),
            self.slot_count, create=False,
        )  # fmt: skip

    def orphaned(self) -> bool:
        """Whether the engine that started this process is gone."""
        return os.getppid() != self.parent


def run_process(role: Callable[[ProcessSpec, Socket], None], path: str) -> int:
    """Run a process: read its spec, connect to ingest, play the role; return the exit code.

    A failure goes to ingest as an ERROR message, which ends the run, but for a device that is lost:
    that is a death like any other. The exit code is the error's.
    """
    spec = msgspec.json.decode(Path(path).read_bytes(), type=ProcessSpec)
    configure_child(spec.name, int(spec.bor.get("run", 0)))
    _LOG.debug("started as pid %d", os.getpid(), extra=fields("process-started", pid=os.getpid()))
    os.sched_setaffinity(0, spec.cores.others)  # threads to come inherit it
    if spec.hurried:
        change_policy(os.SCHED_OTHER, os.SCHED_BATCH)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    hub = Socket(spec.hub, spec.name)
    code = 0
    try:
        role(spec, hub)
    except DeviceLostError as error:  # for this process: the next may find it well again
        _LOG.error("%s", error.message, extra=fields("device-lost"))
        code = error.exit_code
    except Exception as error:
        if "SLUICE_DEBUG" in os.environ:
            traceback.print_exc()
        hub.send(Header(Kind.ERROR), msgspec.json.encode(ErrorRecord.of(error, spec.name)))
        code = error.exit_code if isinstance(error, SluiceError) else 1
    hub.close()
    terminate()
    return code
