"""Typed configuration: graph files in TOML, unknown keys refused with the nearest known one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace

from sluice.pipeline.core.endpoints import Security, require_authentication
from sluice.pipeline.core.errors import ConfigError, did_you_mean

from .durations import parse_duration
from .strict import strict_convert

Options = dict[str, Any]

#: Key of any stage, and its values.
_RULE, FAIL, KEEP = "on_nonfinite", "fail", "keep"
#: Minimum of `workers.hang_timeout`, s: three heartbeats.
_MIN_HANG_TIMEOUT_S = 3.0


class GraphTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[graph]``."""

    name: str
    description: str = ""
    #: Detector of its simulated events, a FAMILY of `sluice simulate`; for benchmarks and tests.
    family: str = ""
    #: Time from ingest to decision, a duration; batches are closed early enough to keep it.
    latency_budget: str = "5 ms"
    #: Maximum number of events of a batch.
    batch_events: Annotated[int, Meta(ge=1, le=1 << 20)] = 4096
    #: Maximum number of batches in flight between ingest and sink.
    window: Annotated[int, Meta(ge=1, le=4096)] = 16


class SegmentTable(Struct, frozen=True, forbid_unknown_fields=True):
    """One table ``[[workers.chain]]``: stages in a row, and the workers that run them."""

    #: Names of the stages, in order.
    stages: tuple[str, ...]
    #: Compute workers of this segment on this host.
    compute: Annotated[int, Meta(ge=0, le=256)] = 1


class WorkersTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[workers]``: the processes that run the chain of stages."""

    #: Compute workers of the distributed engine.
    compute: Annotated[int, Meta(ge=0, le=256)] = 1
    #: Segments of the chain of stages, with workers of their own; empty for a chain of one segment.
    chain: tuple[SegmentTable, ...] = ()
    #: Number of restarts of processes within `restart_window` before the run ends in ERROR.
    restarts: Annotated[int, Meta(ge=0)] = 8
    #: Time after which a restart is not counted any more, a duration.
    restart_window: str = "10 min"
    #: Time without any result after which the run ends in ERROR, a duration.
    stall_timeout: str = "60 s"
    #: Time without a message after which a worker or the sink counts as exited, and is killed if it
    #: runs on this host, a duration; must be longer than the longest batch takes.
    hang_timeout: str = "30 s"
    #: Endpoints where workers of other hosts join and where they send results; empty for none.
    listen: str = ""
    results: str = ""
    #: Keys of the run, and of the remote workers that may join.
    security: Security = Security()

    @property
    def segment_of_worker(self) -> list[int]:
        """The segment of each compute worker of this host."""
        if not self.chain:
            return [0] * self.compute
        return [n for n, segment in enumerate(self.chain) for _ in range(segment.compute)]


class RunTable(Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[run]``."""

    #: Folder of the run numbers; if empty SLUICE_STATE, or the user's state folder.
    state: str = ""


class HttpTable(Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[http]``: metrics, health, status and control."""

    #: Address to listen on, host:port; must be loopback unless there is a token.
    listen: str = "127.0.0.1:9464"
    #: Path of a file whose first line is the token for run control; empty for none.
    token_file: str = ""


class ComponentConfig(Struct, frozen=True, omit_defaults=True):
    """A source, stage, monitor or sink of a graph file.

    Attributes
    ----------
    use
        Name of the component, as entry points have it.
    name
        Name in the graph.
    options
        Options of the component, not checked yet.
    on_nonfinite
        For a stage: whether events with a NaN or an infinity in its columns ``fail`` or are kept.
    """

    use: str
    name: str
    options: Options
    on_nonfinite: str = FAIL


class GraphConfig(Struct, frozen=True, kw_only=True):
    """A graph file, checked as far as possible without building a component."""

    graph: GraphTable
    source: ComponentConfig
    stages: tuple[ComponentConfig, ...]
    monitors: tuple[ComponentConfig, ...]
    sink: ComponentConfig
    workers: WorkersTable
    run: RunTable
    http: HttpTable
    origin: str


class _File(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    graph: GraphTable
    source: Options
    sink: Options
    stage: list[Options] = []
    monitor: list[Options] = []
    workers: WorkersTable = WorkersTable()
    run: RunTable = RunTable()
    http: HttpTable = HttpTable()


def load_graph(name_or_path: str) -> GraphConfig:
    """Return the graph of a file, or of a name that ships (``hgcal``).

    Raises
    ------
    ConfigError
        If there is no such graph, it is not TOML, or a key or value is wrong.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = Path(str(files("sluice.pipeline") / "graphs" / f"{name_or_path}.toml"))
        if not path.is_file():
            shipped = [file.stem for file in path.parent.glob("*.toml")]
            raise ConfigError(
                f"graph {name_or_path!r}: no such graph ships",
                hint=did_you_mean(name_or_path, shipped) or "give a path that ends in .toml",
            )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"graph {path}: cannot read: {error}") from error
    return parse_graph(text, str(path))


def parse_graph(text: str, origin: str) -> GraphConfig:
    """Return the graph written in `text`; `origin` names it in errors."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: not TOML: {error}") from error
    file = strict_convert(tables, _File, origin)
    parse_duration(file.graph.latency_budget, f"{origin}: graph.latency_budget")
    parse_duration(file.workers.stall_timeout, f"{origin}: workers.stall_timeout")
    _check_workers(file.workers, f"{origin}: workers")
    parse_duration(file.workers.restart_window, f"{origin}: workers.restart_window")
    stages = tuple(_stage(stage, f"{origin}: stage {i}") for i, stage in enumerate(file.stage))
    _check_chain(file.workers.chain, [stage.name for stage in stages], f"{origin}: workers.chain")
    monitors = tuple(_component(m, f"{origin}: monitor {i}") for i, m in enumerate(file.monitor))
    names = [one.name for one in (*stages, *monitors)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(f"{origin}: two stages or monitors are named {twice!r}; names are unique")
    source, sink = (
        _component(file.source, f"{origin}: source"),
        _component(file.sink, f"{origin}: sink"),
    )
    return GraphConfig(
        graph=file.graph, source=source, stages=stages, monitors=monitors, sink=sink,
        workers=file.workers, run=file.run, http=file.http, origin=origin,
    )  # fmt: skip


def override_backends(config: GraphConfig, backends: Mapping[str, str]) -> GraphConfig:
    """Return the graph with other backends for the models of these stages, by name."""
    stages = tuple(
        replace(stage, options={**stage.options, "backend": backends[stage.name]})
        if stage.name in backends
        else stage
        for stage in config.stages
    )
    return replace(config, stages=stages)


def _check_workers(workers: WorkersTable, where: str) -> None:
    if parse_duration(workers.hang_timeout, f"{where}.hang_timeout") < _MIN_HANG_TIMEOUT_S:
        raise ConfigError(
            f"{where}.hang_timeout: expected at least {_MIN_HANG_TIMEOUT_S:g} s, since workers "
            f"send a message once a second, got {workers.hang_timeout!r}"
        )
    if workers.chain and workers.compute != 1:
        raise ConfigError(f"{where}: expected compute in each chain, got it beside them too")
    if bool(workers.listen) != bool(workers.results):
        raise ConfigError(f"{where}: expected both listen and results, got one of them")
    compute = [segment.compute for segment in workers.chain] or [workers.compute]
    if not (all(compute) or workers.listen):
        raise ConfigError(
            f"{where}: compute: expected at least 1 worker, got 0",
            hint="0 is for runs whose workers all join from other hosts: set listen and results",
        )
    for address in filter(None, (workers.listen, workers.results)):
        require_authentication(address, workers.security, where)


def _check_chain(chain: tuple[SegmentTable, ...], stages: list[str], where: str) -> None:
    """Refuse segments that are not the graph's stages in their order, each in one of them."""
    named = [name for segment in chain for name in segment.stages]
    if chain and (named != stages or not all(segment.stages for segment in chain)):
        raise ConfigError(
            f"{where}: expected all stages, in the graph's order, some in each segment: "
            f"{', '.join(stages)}; got {' | '.join(', '.join(s.stages) for s in chain)}"
        )


def _stage(table: Options, where: str) -> ComponentConfig:
    """Return a stage: a component that may say what becomes of numbers that are not finite."""
    options = dict(table)
    rule = options.pop(_RULE, FAIL)
    if rule not in (FAIL, KEEP):
        raise ConfigError(f"{where}: {_RULE}: expected {FAIL!r} or {KEEP!r}, got {rule!r}")
    return replace(_component(options, where), on_nonfinite=rule)


def _component(table: Options, where: str) -> ComponentConfig:
    use = table.get("use")
    if not isinstance(use, str):
        raise ConfigError(f"{where}: expected a string `use`, got {use!r}")
    name = table.get("name", use)
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where}: expected a string `name`, got {name!r}")
    options = {key: value for key, value in table.items() if key not in ("use", "name")}
    return ComponentConfig(use, name, options)
