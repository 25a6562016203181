"""Live sources that listen, and front ends that are connected to them; closed after each test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.pipeline.config.strict import strict_convert
from sluice.pipeline.sources.live.source import LiveSource
from sluice.pipeline.transport.socket import Socket


class ServedSource(LiveSource):
    """A live source that the test itself lets take its messages."""

    def serve(self, until: Callable[[], object], timeout: float = 10.0) -> None:
        """Take messages until something is so."""
        deadline = time.monotonic() + timeout
        while not until():
            assert time.monotonic() < deadline, "nothing came"
            if self.socket.poll(0.02):
                self.receive()


@pytest.fixture
def columns() -> dict[str, str]:
    """Columns of the sources; a module with others has a fixture of its own."""
    return {"q": "float32"}


@pytest.fixture
def listen(tmp_path: Path, columns: dict[str, str]) -> Iterator[Callable[..., ServedSource]]:
    """Open sources, on Unix sockets by default."""
    sources: list[ServedSource] = []

    def make(**options: Any) -> ServedSource:
        endpoint = f"ipc://{tmp_path}/ingest{len(sources)}"
        options = {"columns": columns, "listen": endpoint, **options}
        source = ServedSource("source", strict_convert(options, LiveSource.Options, "here"))
        source.open()
        sources.append(source)
        return source

    yield make
    for source in sources:
        source.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Socket]]:
    """Connect front ends that say what the test sends."""
    sockets: list[Socket] = []

    def make(source: LiveSource, name: str = "fe", **options: Any) -> Socket:
        sockets.append(Socket(source.socket.endpoint, name, **options))
        return sockets[-1]

    yield make
    for socket in sockets:
        socket.close()
