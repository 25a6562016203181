"""HTTP: metrics, health, status and run control, in a thread beside the engine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sluice.pipeline.core.errors import ConfigError, SluiceError
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.state import RunState, State

from .auth import HttpAuth

_START_S = 10.0
_STOP_S = 5.0
#: For answers that are under way at the end; a client that does not read has no more.
_GRACE_S = 2


class RunController(Protocol):
    """From where runs are controlled. Each action raises SluiceError where it is refused.

    Attributes
    ----------
    control
        Of the run that is, was or will be.
    account
        Of the run that is or was; None before the first.
    """

    control: RunState
    account: RunAccounting | None

    def configure(self) -> None:
        """Read the graph file anew."""

    def start(self) -> None:
        """Begin a run; returns before it runs."""

    def stop(self, *, abort: bool) -> None:
        """End the run, drained or not; returns before it has ended."""

    def swap(self, stage: str, model: str) -> dict[str, Any]:
        """Let a stage judge with ``model[@version]``; returns the swap's record once it begins."""


def application(desk: RunController, registry: CollectorRegistry, access: HttpAuth) -> Starlette:
    """Return the web application of a daemon.

    Parameters
    ----------
    desk
        What is controlled and shown.
    registry
        What /metrics shows.
    access
        Who may control.
    """

    def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    def live(_: Request) -> Response:
        alive = desk.control.state is not State.ERROR
        return PlainTextResponse(desk.control.state.value, 200 if alive else 503)

    def ready(_: Request) -> Response:
        taking = desk.control.state is State.RUNNING and not desk.control.stopping
        return PlainTextResponse(desk.control.state.value, 200 if taking else 503)

    def status(_: Request) -> Response:
        report = desk.account.snapshot().report() if desk.account else None
        return JSONResponse(_standing(desk) | {"report": report})

    def index(_: Request) -> Response:
        actions = " ".join(f"/{name}" for name in _actions(desk))
        return PlainTextResponse(f"sluice: /status /metrics /livez /readyz; POST {actions}\n")

    pages = {"/": index, "/metrics": metrics, "/livez": live, "/readyz": ready, "/status": status}
    routes = [Route(path, page) for path, page in pages.items()]
    for name, act in _actions(desk).items():
        routes.append(Route(f"/{name}", _guarded(desk, access, act), methods=["POST"]))
    return Starlette(routes=routes)


def _actions(desk: RunController) -> dict[str, Callable[[Request], dict[str, Any] | None]]:
    return {
        "configure": lambda _: desk.configure(),
        "start": lambda _: desk.start(),
        "pause": lambda _: desk.control.pause(),
        "resume": lambda _: desk.control.resume(),
        "stop": lambda request: desk.stop(abort=request.query_params.get("abort") == "1"),
        "swap": lambda request: desk.swap(
            request.query_params.get("stage", ""), request.query_params.get("model", "")
        ),
    }


def _standing(desk: RunController) -> dict[str, Any]:
    control = desk.control
    run = desk.account.run if desk.account else None
    return {"state": control.state.value, "cause": control.cause, "run": run,
            "holds": control.holds, "stopping": control.stopping}  # fmt: skip


def _guarded(
    desk: RunController, access: HttpAuth, act: Callable[[Request], dict[str, Any] | None]
) -> Callable[[Request], Response]:
    """Return the handler of an action: refused without the token, or where it cannot be."""

    def answer(request: Request) -> Response:
        headers = request.headers
        if not access.same_origin(headers.get("origin", ""), headers.get("host", "")):
            return _refusal(403, "control: refused to a page of another site")
        if not access.is_authorised(headers.get("authorization", "")):
            return _refusal(
                401, "control: expected the token of http.token_file",
                "send the header `Authorization: Bearer TOKEN`; sluice ctl --token-file FILE does",
            )  # fmt: skip
        try:
            done = act(request)
        except SluiceError as error:
            return _refusal(409, error.message, error.hint)
        return JSONResponse(_standing(desk) | ({"done": done} if done else {}), 202)

    return answer


def _refusal(status: int, message: str, hint: str | None = None) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": message, "hint": hint}, status, headers)


class WebServer:
    """Serves an application until closed.

    Parameters
    ----------
    access
        Where to listen.
    app
        What to serve.

    Raises
    ------
    ConfigError
        If the address is taken, or is none of this host.
    """

    def __init__(self, access: HttpAuth, app: Starlette) -> None:
        try:
            family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
            self._socket = socket.create_server((access.host, access.port), family=family)
        except OSError as error:
            raise ConfigError(
                f"http.listen: cannot listen on {access.listen}: {error.strerror or error}",
                hint="another process has it? choose another port with --http HOST:PORT",
            ) from error
        self.address = "http://{}:{}".format(*self._socket.getsockname()[:2])
        config = uvicorn.Config(
            app, log_level="critical", access_log=False, lifespan="off",
            timeout_graceful_shutdown=_GRACE_S,
        )  # fmt: skip
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
