"""Exit codes of the command line for what ends a command."""

from __future__ import annotations

import importlib

import pytest
import typer
import zmq

from sluice.pipeline.core.errors import ConfigError, RunError

main = importlib.import_module("sluice.pipeline.cli.main")


def aborted(cause):
    """What click makes of the end of the keyboard's input, and of Ctrl-C."""
    error = typer.Abort()
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (aborted(KeyboardInterrupt()), 130, ""),
        (aborted(EOFError("Ran out of input")), 1, "unforeseen: EOFError: Ran out of input"),
        (ConfigError("no", "yes"), 2, "sluice: error: no\n  yes\n"),
        (RunError.of(KeyError("key")), 5, "unforeseen: KeyError: 'key'"),
        (MemoryError("all of it"), 5, "error: MemoryError: all of it\n  the limit of memory is"),
        (OSError(24, "no more"), 5, "no more\n  the limit of open files of this process is"),
        (OSError(5, "broken"), 1, "unforeseen: OSError: [Errno 5] broken"),
        (RuntimeError("can't start new thread"), 5, "the limit of threads, processes, or memory"),
        (zmq.Again(), 1, "unforeseen: Again: Resource temporarily unavailable"),
        (SystemExit(7), 7, ""),
        (KeyError("key"), 1, "unforeseen: KeyError: 'key'"),
    ],
)
def test_what_ends_a_command(error, code, words, monkeypatch, capsys):
    def fail(**_):
        raise error

    monkeypatch.delenv("SLUICE_DEBUG", raising=False)
    monkeypatch.setattr(main, "app", fail)
    assert main._run_app() == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (3, 3), ("text", 0)])
def test_what_a_command_returns(returned, code, monkeypatch):
    monkeypatch.setattr(main, "app", lambda **_: returned)
    assert main._run_app() == code
