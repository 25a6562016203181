"""The command ``sluice``. Commands import modules when they run, so that help is quick."""

from __future__ import annotations

import os
import sys
import traceback
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from sluice.pipeline.core.errors import RunError, SluiceError, describe_unforeseen, limit_hint
from sluice.pipeline.system.standard_streams import (
    exit_code_of_stdout,
    protect_standard_streams,
    write_error,
)

from . import add_model, ctl, doctor, emulate, inspect, keygen, replay, run, top, tune, worker

app = typer.Typer(
    name="sluice",
    help="Streaming inference for the trigger level of particle detectors.",
    epilog="Exit codes: 0 fine, 1 unforeseen, 2 usage or configuration, 3 input refused, "
    "4 model refused, 5 run ended in error, 6 run closed but its input was damaged, "
    "7 replay decided otherwise, 8 this machine lacks something, "
    "9 stopped before the end of its input.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sluice {version('sluice-daq')}")
        raise typer.Exit


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    if debug:
        os.environ["SLUICE_DEBUG"] = "1"  # workers inherit it


for module in (run, replay, emulate, worker, ctl, top, inspect, add_model, doctor, keygen, tune):
    module.register(app)
for command in entry_points(group="sluice.commands"):
    command.load()(app)


def main() -> None:
    """Run the command line; errors are printed without a traceback unless ``--debug`` is given."""
    protect_standard_streams()
    code = _run_app()
    write_error(sys.stderr)  # flushes it
    sys.exit(code or exit_code_of_stdout())


def _run_app() -> int:
    """Run the command line; return the exit code."""
    # Otherwise NumPy's linear algebra starts threads, which takes a sixth of the start-up time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("SLUICE_FAST_IMPORT", "1")  # read by sluice.kernels.compiler.jit
    try:
        code = app(standalone_mode=False)
    except typer.Abort as abort:
        # Click takes the end of any file that is read for that of the keyboard's input.
        if not isinstance(abort.__cause__, EOFError):
            return 130
        return _report_error(abort.__cause__)
    except BaseException as error:
        return _report_error(error)
    return code if isinstance(code, int) else 0


def _report_error(error: BaseException) -> int:
    """Write an error to stderr, with its traceback under ``--debug``; return the exit code."""
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    if "SLUICE_DEBUG" in os.environ:
        traceback.print_exception(error)
        return _explain(error)[1]
    text, code = _explain(error)
    sys.stderr.write(f"sluice: {text}\n")
    return code


def _explain(error: BaseException) -> tuple[str, int]:
    """Return the text of an error, and the exit code."""
    if limit_hint(error) is not None:
        error = RunError.of(error)
    if isinstance(error, SluiceError):
        return f"error: {error}", error.exit_code
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # wrong usage
        return f"error: {error.format_message()}", error.exit_code
    advice = "run it again as `sluice --debug …` and report what it prints"
    return f"{describe_unforeseen(error)}\n  {advice}", 1
