"""HTTP server for metrics, health, status and run control, in its own thread."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sluice.pipeline.core.errors import ConfigError, RunError, SluiceError
from sluice.pipeline.core.log import fields, limiter
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.state import RunState, State

from .auth import HttpAuth
from .connections import MAX_CONNECTIONS, MAX_HEAD_BYTES, bounded

_LOG = logging.getLogger("sluice.http")
#: Maximum times for the server thread to start and to end, s.
_START_S = 10.0
_STOP_S = 5.0
#: Maximum time for pending answers at the end, s; a client that does not read cannot delay it.
_GRACE_S = 2
#: Largest number of swaps that wait at once; each keeps a thread of the server for up to 90 s.
_MAX_WAITING_SWAPS = 4


class RunController(Protocol):
    """Operations on runs that HTTP offers; each raises SluiceError if it is refused.

    Attributes
    ----------
    control
        State of the current run, or of the next one.
    accounting
        Accounting of the current or latest run; None before the first.
    """

    control: RunState
    accounting: RunAccounting | None

    def configure(self) -> None:
        """Read the graph file again."""

    def start(self) -> None:
        """Start a run; returns before it takes events."""

    def stop(self, *, abort: bool) -> None:
        """Stop the run, with or without draining; returns before it has ended."""

    def swap(self, stage: str, model: str) -> dict[str, Any]:
        """Swap the model of a stage to ``model[@version]``; return the record once it begins."""


def application(
    controller: RunController, registry: CollectorRegistry, access: HttpAuth
) -> Starlette:
    """Return the web application of a daemon.

    Parameters
    ----------
    controller
        The runs to control and show.
    registry
        Metrics of /metrics.
    access
        Check of requests that control runs.
    """
    actions = _actions(controller)

    # Pages are coroutines: none waits for a thread, of which actions may have taken every one.
    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def live(_: Request) -> Response:
        alive = controller.control.state is not State.ERROR
        return PlainTextResponse(controller.control.state.value, 200 if alive else 503)

    async def ready(_: Request) -> Response:
        takes_events = controller.control.state is State.RUNNING and not controller.control.stopping
        return PlainTextResponse(controller.control.state.value, 200 if takes_events else 503)

    async def status(_: Request) -> Response:
        report = controller.accounting.snapshot().report() if controller.accounting else None
        return JSONResponse(_status(controller) | {"report": report})

    async def index(_: Request) -> Response:
        posts = " ".join(f"/{name}" for name in actions)
        return PlainTextResponse(f"sluice: /status /metrics /livez /readyz; POST {posts}\n")

    pages = {"/": index, "/metrics": metrics, "/livez": live, "/readyz": ready, "/status": status}
    routes = [Route(path, page) for path, page in pages.items()]
    for name, act in actions.items():
        routes.append(Route(f"/{name}", _guarded(controller, access, act), methods=["POST"]))
    return Starlette(routes=routes, middleware=[Middleware(_OwnHostOnly, access=access)])


class _OwnHostOnly:
    """Refuses requests for another host, which a page of another site can send by its own name."""

    def __init__(self, app: ASGIApp, access: HttpAuth) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        host = Headers(scope=scope).get("host", "") if scope["type"] == "http" else ""
        if not self._access.is_own_host(host):
            refusal = _refusal(403, "refused: the request names another host as its destination")
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _actions(controller: RunController) -> dict[str, Callable[[Request], dict[str, Any] | None]]:
    waiting = threading.BoundedSemaphore(_MAX_WAITING_SWAPS)

    def swap(request: Request) -> dict[str, Any]:
        if not waiting.acquire(blocking=False):
            raise RunError(f"run: {_MAX_WAITING_SWAPS} swaps wait already", "try again later")
        try:
            query = request.query_params
            return controller.swap(query.get("stage", ""), query.get("model", ""))
        finally:
            waiting.release()

    return {
        "configure": lambda _: controller.configure(),
        "start": lambda _: controller.start(),
        "pause": lambda _: controller.control.pause(),
        "resume": lambda _: controller.control.resume(),
        "stop": lambda request: controller.stop(abort=request.query_params.get("abort") == "1"),
        "swap": swap,
    }


def _status(controller: RunController) -> dict[str, Any]:
    control = controller.control
    run = controller.accounting.run if controller.accounting else None
    return {"state": control.state.value, "cause": control.cause, "run": run,
            "holds": control.holds, "stopping": control.stopping}  # fmt: skip


def _guarded(
    controller: RunController, access: HttpAuth, act: Callable[[Request], dict[str, Any] | None]
) -> Callable[[Request], Response]:
    """Return the handler of an action, with the checks of token and run state."""

    def answer(request: Request) -> Response:
        headers = request.headers
        if not access.same_origin(headers.get("origin", ""), headers.get("host", "")):
            return _refusal(403, "control: refused to a page of another site")
        if not access.is_authorised(headers.get("authorization", "")):
            return _refusal(
                401, "control: expected the token of http.token_file",
                "send the header `Authorization: Bearer TOKEN`; sluice ctl --token-file FILE does",
            )  # fmt: skip
        action, peer = request.url.path.lstrip("/"), request.client.host if request.client else ""
        try:
            done = act(request)
        except SluiceError as error:
            limiter.warn(_LOG, "control-refused", "{count:,} actions refused, the latest "
                         "{action} of {peer}: {reason}",
                         action=action, peer=peer, reason=error.message)  # fmt: skip
            return _refusal(409, error.message, error.hint)
        extra = fields("control", action=action, peer=peer, state=controller.control.state.value)
        _LOG.info("run control: %s of %s", action, peer, extra=extra)
        return JSONResponse(_status(controller) | ({"done": done} if done else {}), 202)

    return answer


def _refusal(status: int, message: str, hint: str | None = None) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": message, "hint": hint}, status, headers)


class WebServer:
    """Serves an application until closed.

    Parameters
    ----------
    access
        Address to listen on.
    app
        The application to serve.

    Raises
    ------
    ConfigError
        If the address is in use, or does not belong to this host.
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
        host, port = self._socket.getsockname()[:2]
        self.address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        config = uvicorn.Config(
            app, log_level="critical", access_log=False, lifespan="off",
            timeout_graceful_shutdown=_GRACE_S, http=bounded(), ws="none", backlog=MAX_CONNECTIONS,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
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
