"""Commands that move events: run, replay, emulate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec.structs import replace

from ..addresses import require_private
from ..config import GraphConfig, load_graph, on_backend
from ..errors import EXIT_DAMAGED_INPUT, EXIT_DIFFERENT, ConfigError, DataError
from .outputs import others, refuse_collisions, require_own_files, write
from .readers import accepted, source_for
from .tuning import tuned

if TYPE_CHECKING:
    from ..nursery import Nursery
    from ..session import Wishes

_Report = Annotated[Path | None, typer.Option(help="Write the run report (JSON) there.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON, nothing else.")]
_Out = Annotated[Path | None, typer.Option(help="Record kept events there instead.")]
_Http = Annotated[str | None, typer.Option(help="Serve metrics and status there, host:port.")]
_Quarantine = Annotated[Path | None, typer.Option(help="Keep refused events there.")]
_Reference = Annotated[
    Path | None, typer.Option(help="Alarm when a monitor leaves the band of this run's report.")
]
_Engine = Annotated[str, typer.Option(help="distributed, or inline: all in one process.")]
_Workers = Annotated[
    int | None, typer.Option(min=1, help="Compute workers, each with the whole chain.")
]
_Backend = Annotated[
    str | None, typer.Option(help="Backend of all models, such as onnxruntime:cuda or tensorrt.")
]
_RunNumber = Annotated[
    int | None,
    typer.Option(
        "--run",
        min=0,
        max=2**32 - 1,
        help="The run number, not used before; the next unless given.",
    ),
]
_Resume = Annotated[
    bool, typer.Option("--resume", help="Go on behind what the output file has of a killed run.")
]
_Key = Annotated[Path | None, typer.Option(help="Own secret key file, for a guarded edge.")]
_ServerKey = Annotated[Path | None, typer.Option(help="Public key file of who listens there.")]
_PlainTcp = Annotated[bool, typer.Option("--plain-tcp", help="Beyond this host without keys.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: sluice run hgcal --report run.json")(run)
    app.command(epilog="Example: sluice replay wafers.arrows --graph hgcal --report r.json")(replay)
    app.command(epilog="Example: sluice emulate wafers --rate 20000 --seconds 60")(emulate)


def run(
    graph: Annotated[str, typer.Argument(help="A graph that ships, or a TOML file.")],
    report: _Report = None,
    out: _Out = None,
    quarantine: _Quarantine = None,
    reference: _Reference = None,
    http: _Http = None,
    engine: _Engine = "distributed",
    workers: _Workers = None,
    backend: _Backend = None,
    run_number: _RunNumber = None,
    resume: _Resume = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for start over HTTP, run after run, until SIGTERM.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Run a graph on its own source until SIGTERM; then drain and close."""
    from ..session import Wishes

    def load() -> GraphConfig:
        return _with(_judged(load_graph(graph), backend), out, workers)

    with _nursery(load_graph(graph), engine) as nursery:
        config = load()
        wishes = Wishes(
            run_number, engine, http=http or config.http.listen, quarantine=quarantine,
            reference=reference, resume=resume,
        )  # fmt: skip
        if wait:
            require_own_files(config, out, wishes, report)
            _serve(load, wishes, report, nursery, as_json=as_json)
        else:
            _execute(config, wishes, report, nursery, as_json=as_json)


def replay(
    source: Annotated[
        Path,
        typer.Argument(help="A recording (a file, a folder, a pattern), or a table's file."),
    ],
    graph: Annotated[str, typer.Option(help="A graph that ships, or a TOML file.")],
    report: _Report = None,
    out: _Out = None,
    quarantine: _Quarantine = None,
    reference: _Reference = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Events a second; as fast as it goes if left.")
    ] = None,
    same_batches: Annotated[
        Path | None, typer.Option(help="Judge this run's batches again, compare the decisions.")
    ] = None,
    compare: Annotated[
        list[str] | None, typer.Option(help="Compare this column too; may be repeated.")
    ] = None,
    differences: Annotated[int, typer.Option(min=0, help="Differences to list.")] = 20,
    http: _Http = None,
    engine: _Engine = "distributed",
    workers: _Workers = None,
    backend: _Backend = None,
    run_number: _RunNumber = None,
    resume: _Resume = False,
    as_json: _Json = False,
) -> None:
    """Send recorded events through a graph."""
    from ..session import Wishes
    from .same import against

    if same_batches is not None and (rate or out or resume):
        raise ConfigError(
            "--same-batches: expected neither --rate nor --out nor --resume beside it"
        )
    with _nursery(load_graph(graph), engine) as nursery:
        config = _judged(load_graph(graph), backend)
        config = replace(config, source=source_for(source, config))
        if same_batches is not None:
            config = against(config, same_batches, compare or [], differences)
        config = _with(config, out or accepted(source), workers)
        wishes = Wishes(run_number, engine, rate, http, quarantine, reference, resume)
        _execute(config, wishes, report, nursery, as_json=as_json)


def emulate(
    family: Annotated[str, typer.Argument(help="Whose simulated events to send.")] = "wafers",
    to: Annotated[str, typer.Option(help="The ingest socket.")] = "tcp://127.0.0.1:5560",
    rate: Annotated[float, typer.Option(min=0.001, help="Events a second.")] = 20_000,
    seconds: Annotated[float, typer.Option(min=0.001, help="How long.")] = 10,
    per_message: Annotated[int, typer.Option(min=1, help="Events in a message.")] = 1,
    recording: Annotated[
        Path | None, typer.Option("--from", help="Send a recording's events instead.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 1,
    first_id: Annotated[int, typer.Option(min=0, help="Id of the first event.")] = 0,
    key: _Key = None,
    server_key: _ServerKey = None,
    plain_tcp: _PlainTcp = False,
    as_json: _Json = False,
) -> None:
    """Be a detector's front end: send events to a running graph at a set rate."""
    import msgspec
    from rich.console import Console

    from .. import transport
    from ..emulator import FrontEnd, Sent
    from ..keys import credentials
    from .progress import bar

    security = credentials(key, server_key)
    if security is None and not plain_tcp:
        require_private(to)
    events, schema = _events(family, recording, seed)
    total = max(1, round(rate * seconds))
    with bar(total, quiet=as_json) as update:

        def show(sent: Sent) -> None:
            update(sent.events + sent.dropped + sent.vetoed, "")

        front_end = FrontEnd(to, events, schema, security=security, first_id=first_id)
        try:
            sent = front_end.run(rate, total, per_message, show)
        finally:
            front_end.close()
            transport.terminate()
    if as_json:
        typer.echo(msgspec.json.encode(sent).decode())
    else:
        Console().print(
            f"sent {sent.events:,} events in {sent.messages:,} messages, {sent.seconds:.2f} s; "
            f"dropped {sent.dropped:,}; vetoed {sent.vetoed:,}; acknowledged {sent.acknowledged:,}"
        )


def _judged(config: GraphConfig, backend: str | None) -> GraphConfig:
    """Return the graph as it was tuned, its models on the command line's backend if it has one."""
    from ..backends import require_backend

    config = tuned(config)
    if backend is None:
        return config
    require_backend(backend, "--backend")
    return on_backend(config, backend)


def _with(config: GraphConfig, out: Path | None, workers: int | None) -> GraphConfig:
    """Return the graph with the command line's sink path and number of workers."""
    sink = config.sink
    if out is not None and sink.use == "recording":
        sink = replace(sink, options={**sink.options, "path": str(out)})
    crew = config.workers if workers is None else replace(config.workers, compute=workers, chain=())
    return replace(config, sink=sink, workers=crew)


def _execute(
    config: GraphConfig, wishes: Wishes, report: Path | None, nursery: Nursery | None,
    *, as_json: bool,
) -> None:  # fmt: skip
    """Make one run."""
    from ..daemon import check_report, execute
    from .progress import announce, run_progress
    from .same import differs

    refuse_collisions(config, *others(wishes, report))
    with run_progress(quiet=as_json) as progress:
        result = execute(config, wishes, progress, announce, nursery)
    _tell(result, report, as_json=as_json)
    check_report(result)
    if differs(result):
        raise typer.Exit(EXIT_DIFFERENT)
    if result["damage"]:
        typer.echo(f"sluice: input damaged: {result['damage']}", err=True)
        raise typer.Exit(EXIT_DAMAGED_INPUT)


def _serve(
    load: Callable[[], GraphConfig], wishes: Wishes, report: Path | None, nursery: Nursery | None,
    *, as_json: bool,
) -> None:  # fmt: skip
    """Make a run at each `start` until SIGTERM."""
    from ..daemon import Daemon
    from .progress import announce, run_progress

    def checked() -> GraphConfig:
        config = load()
        refuse_collisions(config, *others(wishes, report))
        return config

    with run_progress(quiet=as_json) as progress:
        daemon = Daemon(checked, wishes, progress, announce, nursery)
        daemon.serve(lambda result: _tell(result, report, as_json=as_json))


@contextmanager
def _nursery(config: GraphConfig, engine: str) -> Iterator[Nursery | None]:
    """Yield where processes come from: begun before there are threads, sockets or devices."""
    from ..engine.processes import found_nursery

    if engine != "distributed":
        yield None
        return
    with closing(found_nursery(config, alone=True)) as nursery:
        yield nursery


def _tell(result: dict[str, Any], report: Path | None, *, as_json: bool) -> None:
    """Show a run's report and write it."""
    import msgspec

    from ..numbering import in_run
    from .summary import show

    report = in_run(report, result["run"])
    text = msgspec.json.format(msgspec.json.encode(result), indent=2).decode()
    if as_json:
        typer.echo(text)
    else:
        show(result, report)
    if report is not None:
        write(report, text + "\n")


def _events(family: str, recording: Path | None, seed: int) -> Any:
    """Return what a front end shall send, and its record type."""
    from importlib.metadata import entry_points

    from ..batch import concatenate
    from ..recording import Recording
    from ..schema import T_INGEST, Schema

    if recording is not None:
        reader = Recording(recording)
        batches = list(reader.batches())
        reader.close()
        if not batches:
            raise DataError(f"{recording}: expected events to send, got none")
        batch, schema = concatenate(batches), reader.schema
    else:
        (simulator,) = entry_points(group="sluice.simulators")
        batch, schema = simulator.load()(family, 65_536, seed)
    return batch, Schema(c for c in schema if c.name not in (T_INGEST.name, "truth"))
