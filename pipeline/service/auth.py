"""Access to run control over HTTP: free on loopback, by token from other hosts."""

from __future__ import annotations

import hmac
import re
import stat
from pathlib import Path

from sluice.pipeline.core.endpoints import is_loopback, parse_host_port
from sluice.pipeline.core.errors import ConfigError

_PORT = re.compile(r":\d*$")
#: Minimum length of a token, characters: a shorter one can be guessed.
_MIN_TOKEN = 16
#: Maximum size of a token file that is read, bytes.
_MAX_FILE_BYTES = 4096


class HttpAuth:
    """Address of HTTP control, and the check of requests.

    Parameters
    ----------
    listen
        ``host:port``; port 0 for any free one.
    token_file
        File whose first line is the token; empty for none.

    Raises
    ------
    ConfigError
        If other hosts can reach the address and there is no token, or its file is invalid.
    """

    def __init__(self, listen: str, token_file: str = "") -> None:
        self.host, self.port = parse_host_port(listen, "http.listen", anywhere=bool(token_file))
        self.listen = listen
        self._token = read_token(Path(token_file)) if token_file else None

    @property
    def requires_token(self) -> bool:
        """Whether requests that control runs need the token."""
        return self._token is not None

    def is_authorised(self, authorization: str) -> bool:
        """Whether a request with this Authorization header may control runs.

        The comparison takes the same time wherever a wrong token differs.
        """
        if self._token is None:
            return True
        scheme, _, token = authorization.partition(" ")
        right = hmac.compare_digest(token.strip().encode(), self._token.encode())
        return scheme.lower() == "bearer" and right

    def same_origin(self, origin: str, host: str) -> bool:
        """Whether a request comes from our own page, so that other web sites cannot control runs.

        Parameters
        ----------
        origin, host
            Headers Origin (None without a browser) and Host.
        """
        return not origin or (origin.partition("//")[2] == host and self.is_own_host(host))

    def is_own_host(self, host: str) -> bool:
        """Whether a request names this server as its destination.

        Another host name is another site, even if it resolves to loopback: a page of that site may
        send requests under it. Beyond loopback the server has names that it does not know.

        Parameters
        ----------
        host
            Header Host; empty without one, which no browser sends.
        """
        if not host or self.requires_token:
            return True
        return is_loopback(host) or is_loopback(_PORT.sub("", host))


def read_token(path: Path) -> str:
    """Return the token in a file; ConfigError if it is invalid or other users may read it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            text = file.read(_MAX_FILE_BYTES).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"http.token_file: cannot read {path}: {error}") from error
    if mode & stat.S_IRWXO:
        raise ConfigError(
            f"http.token_file: {path}: expected a file that others cannot read, "
            f"got mode {mode:04o}",
            hint=f"chmod 600 {path}",
        )
    token = text.partition("\n")[0].strip()
    if len(token) < _MIN_TOKEN or not token.isprintable() or " " in token:
        raise ConfigError(
            f"http.token_file: {path}: expected one line of at least {_MIN_TOKEN} characters",
            hint="python3 -c 'import secrets; print(secrets.token_urlsafe(32))' makes one",
        )
    return token
