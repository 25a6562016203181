"""``sluice doctor``: checks the machine for runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sluice.pipeline.core.errors import EXIT_MACHINE_INCOMPLETE

from .common.output import print_json

if TYPE_CHECKING:
    from sluice.pipeline.tools.doctor.finding import Finding
    from sluice.pipeline.tools.doctor.report import DoctorReport

_COLOURS = {"fine": "green", "warning": "yellow", "error": "red"}


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: sluice doctor --gpu")(doctor)


def doctor(
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Exit with an error where a GPU cannot be used.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, nothing else.")] = False,
) -> None:
    """Show what this machine has and lacks for runs, with the command for each missing thing."""
    from sluice.pipeline.tools.doctor.report import examine

    diagnosis = examine()
    if as_json:
        print_json(diagnosis.report(), indent=True)
    else:
        _show(diagnosis, gpu=gpu)
    if not (diagnosis.gpu_fit if gpu else diagnosis.cpu_fit):
        raise typer.Exit(EXIT_MACHINE_INCOMPLETE)


def _show(diagnosis: DoctorReport, *, gpu: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    console = Console()
    fixes: dict[str, list[str]] = {}
    for group in dict.fromkeys(finding.group for finding in diagnosis.findings):
        console.print(f"[bold]{group}[/]")
        found = Column(overflow="fold")
        table = Table.grid("", "", Column(no_wrap=True), found, padding=(0, 2))
        for finding in (f for f in diagnosis.findings if f.group == group):
            table.add_row("", _mark(finding, gpu=gpu), finding.name, escape(finding.found))
            if finding.fix:
                fixes.setdefault(finding.fix, []).append(finding.name)
        console.print(table, highlight=False)
    for fix, names in fixes.items():
        console.print(f"[bold]{', '.join(names)}[/]", highlight=False)
        console.print(f"  {escape(fix)}", style="cyan", highlight=False, soft_wrap=True)
    for name, fit in (("CPU", diagnosis.cpu_fit), ("GPU", diagnosis.gpu_fit)):
        verdict = "[green]runs work here[/]" if fit else "[yellow]something is missing[/]"
        console.print(f"on the {name}: {verdict}", highlight=False)


def _mark(finding: Finding, *, gpu: bool) -> str:
    """Return the status of a finding, coloured by severity."""
    from sluice.pipeline.tools.doctor.finding import GPU, Status

    colour = _COLOURS[finding.status.value]
    if finding.group != GPU or finding.status is not Status.ERROR:
        return f"[{colour}]{finding.status.value}[/]"
    return f"[{colour if gpu else 'yellow'}]missing[/]"
