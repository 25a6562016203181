"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Report = Annotated[Path | None, typer.Option(help="Write the run report (JSON) there.")]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON, nothing else.")]
Out = Annotated[Path | None, typer.Option(help="Record kept events there instead.")]
Http = Annotated[str | None, typer.Option(help="Serve metrics and status there, host:port.")]
Quarantine = Annotated[Path | None, typer.Option(help="Keep refused events there.")]
Reference = Annotated[
    Path | None, typer.Option(help="Alarm when a monitor leaves the band of this run's report.")
]
Engine = Annotated[str, typer.Option(help="distributed, or inline: all in one process.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Compute workers, each with the whole chain.")
]
Backend = Annotated[
    str | None, typer.Option(help="Backend of all models, such as onnxruntime:cuda or tensorrt.")
]
RunNumber = Annotated[
    int | None,
    typer.Option(
        "--run",
        min=0,
        max=2**32 - 1,
        help="The run number, not used before; the next unless given.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on behind what the output file has of a killed run.")
]
Key = Annotated[Path | None, typer.Option(help="Own secret key file, for a guarded edge.")]
ServerKey = Annotated[Path | None, typer.Option(help="Public key file of who listens there.")]
PlainTcp = Annotated[bool, typer.Option("--plain-tcp", help="Beyond this host without keys.")]
