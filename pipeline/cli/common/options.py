"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluice.pipeline.system.log import LogLevel as Level

Graph = Annotated[str, typer.Argument(help="Name of a graph that ships, or a TOML file.")]
Report = Annotated[Path | None, typer.Option(help="Write the run report (JSON) to this file.")]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON, nothing else.")]
Out = Annotated[Path | None, typer.Option(help="Record kept events in this file.")]
Http = Annotated[str | None, typer.Option(help="Serve metrics and status at HOST:PORT.")]
Quarantine = Annotated[Path | None, typer.Option(help="Record refused events in this file.")]
Reference = Annotated[
    Path | None,
    typer.Option(help="Report of a reference run; alarm when a monitor leaves its band."),
]
Engine = Annotated[
    str, typer.Option(help="Engine: distributed over processes, or inline in this one.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Compute workers, each with all stages.")]
Backend = Annotated[
    str | None, typer.Option(help="Backend of all models, such as onnxruntime:cuda or tensorrt.")
]
RunNumber = Annotated[
    int | None,
    typer.Option(
        "--run",
        min=0,
        max=2**32 - 1,
        help="Run number that was never used; the next one if omitted, 0 for a trial.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Resume an interrupted run after the last committed batch of its output file.",
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Replace existing output files that Sluice wrote."),
]
LogLevel = Annotated[
    Level | None,
    typer.Option("--log-level", case_sensitive=False, help="Lowest level of log lines on stderr."),
]
LogJson = Annotated[bool, typer.Option("--log-json", help="One JSON object per log line.")]
Key = Annotated[Path | None, typer.Option(help="Own secret key file, where CURVE keys are used.")]
ServerKey = Annotated[Path | None, typer.Option(help="Public key file of the server.")]
PlainTcp = Annotated[bool, typer.Option("--plain-tcp", help="Connect to other hosts without keys.")]
