"""HTTP on loopback: /metrics, /livez, /readyz, /status, in a thread beside the engine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from .config import endpoint
from .errors import ConfigError
from .state import Control, State

_START_S = 10.0
_STOP_S = 5.0


def application(
    control: Control, registry: CollectorRegistry, status: Callable[[], dict[str, Any]]
) -> Starlette:
    """Return the web application of a run.

    Parameters
    ----------
    control
        Whose state decides readiness.
    registry
        What /metrics shows.
    status
        Makes the object that /status shows.
    """

    def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    def live(_: Request) -> Response:
        alive = control.state is not State.ERROR
        return PlainTextResponse(control.state.value, 200 if alive else 503)

    def ready(_: Request) -> Response:
        taking = control.state is State.RUNNING and not control.stopping
        return PlainTextResponse(control.state.value, 200 if taking else 503)

    def show_status(_: Request) -> Response:
        return JSONResponse(
            {"state": control.state.value, "cause": control.cause, "report": status()}
        )

    def index(_: Request) -> Response:
        return PlainTextResponse("sluice: /status /metrics /livez /readyz\n")

    pages = {"/": index, "/metrics": metrics, "/livez": live, "/readyz": ready,
             "/status": show_status}  # fmt: skip
    return Starlette(routes=[Route(path, page) for path, page in pages.items()])


class WebServer:
    """Serves an application until closed.

    Parameters
    ----------
    listen
        ``host:port`` on loopback; port 0 for any free one.
    app
        What to serve.

    Raises
    ------
    ConfigError
        If the address is not loopback, or is taken.
    """

    def __init__(self, listen: str, app: Starlette) -> None:
        host, port = endpoint(listen, "http.listen")
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise ConfigError(
                f"http.listen: cannot listen on {listen}: {error.strerror}",
                hint="another process has it? choose another port with --http HOST:PORT",
            ) from error
        self.address = "http://{}:{}".format(*self._socket.getsockname()[:2])
        config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="sluice-http"
        )

    def start(self) -> None:
        """Serve from a thread; returns when requests are answered."""
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._server.started and time.monotonic() < deadline:
            self._thread.join(0.01)

    def close(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        self._socket.close()
