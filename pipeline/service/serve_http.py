"""Start of the HTTP server of a daemon, with the metrics of its runs and of the GPUs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack

from prometheus_client import CollectorRegistry

from sluice.pipeline.core.log import fields
from sluice.pipeline.gpu.nvml import start_sampler

from .auth import HttpAuth
from .http import RunController, WebServer, application
from .prometheus import RunCollector
from .prometheus_gpu import GpuCollector

_LOG = logging.getLogger("sluice.run")


def bind_http(
    stack: ExitStack,
    controller: RunController,
    access: HttpAuth,
    announce: Callable[[str], None] | None,
) -> Callable[[], None]:
    """Take the address of HTTP, and return a function that begins to serve there.

    Metrics, health, status and control of runs are served until `stack` is closed.

    Parameters
    ----------
    stack
        Closes the server.
    controller
        The runs to control and show.
    access
        Address to listen on, and the check of requests.
    announce
        Called with the address once requests are answered.

    Raises
    ------
    ConfigError
        If the address is in use, or does not belong to this host.
    """
    registry = CollectorRegistry()
    registry.register(RunCollector(lambda: (controller.accounting, controller.control)))
    gpus = start_sampler()
    if gpus is not None:
        stack.callback(gpus.close)
        registry.register(GpuCollector(gpus.samples))
    server = WebServer(access, application(controller, registry, access))
    stack.callback(server.close)

    def serve() -> None:
        server.start()
        _LOG.info("HTTP at %s", server.address, extra=fields("http-served", address=server.address))
        if announce is not None:
            announce(server.address)

    return serve
