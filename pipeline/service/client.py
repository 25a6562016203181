"""Client of the HTTP control of a daemon."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sluice.pipeline.core.endpoints import parse_host_port
from sluice.pipeline.core.errors import ConfigError, RunError

from .auth import read_token

Status = dict[str, Any]

#: Default time for an answer of the daemon, and interval at which the status is polled, s.
_ANSWER_S = 10.0
_POLL_S = 0.1


class DaemonUnreachable(RunError):
    """No daemon answers at the address."""


class Client:
    """Sends requests to the daemon at an address.

    Parameters
    ----------
    address
        ``host:port``.
    token_file
        File whose first line is the token; None for no token.
    """

    def __init__(self, address: str, token_file: Path | None = None) -> None:
        parse_host_port(address, "--address", anywhere=True)
        self.address = address
        self._token = read_token(token_file) if token_file else None

    def status(self) -> Status:
        """Return the content of /status; `DaemonUnreachable` if no daemon answers."""
        return self._ask("GET", "/status", _ANSWER_S)

    def post(self, action: str, *, timeout_s: float = _ANSWER_S, **options: str) -> Status:
        """Request an action and return the state of the run.

        Raises
        ------
        RunError
            If the daemon refuses, with its reason and hint.
        ConfigError
            If the token is missing or wrong.
        """
        query = f"?{urllib.parse.urlencode(options)}" if options else ""
        return self._ask("POST", f"/{action}{query}", timeout_s)

    def wait_until(self, good: Callable[[Status], bool], timeout_s: float) -> Status:
        """Poll the status until `good` accepts it; RunError on ERROR or after the timeout."""
        deadline = time.monotonic() + timeout_s
        while not good(status := self.status()):
            if status["state"] == "ERROR":
                raise RunError(f"run ended in ERROR: {status['cause']}")
            if time.monotonic() > deadline:
                raise RunError(f"still {status['state']} after {timeout_s:g} s")
            time.sleep(_POLL_S)
        return status

    def _ask(self, method: str, page: str, timeout_s: float) -> Status:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        request = urllib.request.Request(
            f"http://{self.address}{page}", method=method, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return _object(answer.read(), self.address)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error.code, error.read(), self.address) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise DaemonUnreachable(
                f"no daemon answers at {self.address}: {reason}",
                hint="does it run? is this its --http? `--address HOST:PORT` names another",
            ) from error


def _object(text: bytes, address: str) -> Status:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or "state" not in found:
        raise ConfigError(f"{address}: expected a sluice daemon, got another server's answer")
    return found


def _refused(code: int, text: bytes, address: str) -> RunError | ConfigError:
    """Return the error of a refused request."""
    try:
        found = json.loads(text)
        message, hint = str(found["error"]), found["hint"]
    except (ValueError, KeyError, TypeError):
        return ConfigError(f"{address}: expected a sluice daemon, got status {code}")
    if code in (401, 403):
        return ConfigError(message, "give the daemon's token with --token-file FILE")
    return RunError(message, hint)
