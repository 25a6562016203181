"""Addresses of sockets, and the rule that nothing beyond this host is opened without keys."""

from __future__ import annotations

import ipaddress

from msgspec import Struct

from .errors import ConfigError

#: Value of `security.plain_tcp` that permits a socket on the network without keys.
PLAIN_TCP = "anyone may connect"


class Security(Struct, frozen=True, forbid_unknown_fields=True):
    """Table ``security`` of a socket that listens: who may connect."""

    #: Path of the secret key file of the socket; empty for a socket without keys.
    key: str = ""
    #: Paths of public key files, or of folders of them, that may connect.
    allow: tuple[str, ...] = ()
    #: ``anyone may connect`` permits a socket on the network without keys.
    plain_tcp: str = ""


def parse_host_port(text: str, where: str, *, anywhere: bool = False) -> tuple[str, int]:
    """Return (host, port) of ``host:port``; ConfigError beyond loopback unless `anywhere`."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{where}: expected host:port, got {text!r}")
    if not anywhere:
        require_loopback(host, where)
    return host.strip("[]"), int(port)


def require_authentication(address: str, security: Security, where: str) -> None:
    """Raise ConfigError for an address that other hosts can reach without keys.

    Raises
    ------
    ConfigError
        If `address` is ``tcp://`` beyond loopback and `security` neither names a key nor allows
        it, or if `security` contradicts itself.
    """
    if security.key and security.plain_tcp:
        raise ConfigError(f"{where}: security: expected key or plain_tcp, got both")
    if security.allow and not security.key:
        raise ConfigError(
            f"{where}: security: expected a key beside allow, got none",
            hint="`sluice keygen NAME` makes a pair",
        )
    if security.plain_tcp not in ("", PLAIN_TCP):
        raise ConfigError(
            f"{where}: security.plain_tcp: expected {PLAIN_TCP!r}, got {security.plain_tcp!r}"
        )
    if not address.startswith(("tcp://", "ipc://")):
        raise ConfigError(f"{where}: expected tcp://HOST:PORT or ipc://PATH, got {address!r}")
    if not (security.key or security.plain_tcp or is_local(address)):
        raise ConfigError(
            f"{where}: expected keys for {address}, which others can reach",
            hint="set security = { key = FILE, allow = [FILES] }, or listen on 127.0.0.1; "
            "docs/howto/secure-a-run.md tells how",
        )


def is_local(address: str) -> bool:
    """Whether only this host reaches an endpoint: ``ipc://``, or ``tcp://`` on loopback.

    Examples
    --------
    >>> is_local("tcp://127.0.0.1:5560"), is_local("tcp://*:5560")
    (True, False)
    """
    scheme, _, rest = address.partition("://")
    return scheme == "ipc" or (scheme == "tcp" and is_loopback(rest.rpartition(":")[0]))


def require_local(address: str) -> None:
    """Raise ConfigError unless an endpoint is on this host."""
    if not is_local(address):
        raise ConfigError(
            f"{address}: expected keys for an address beyond this host, got none",
            hint="give --key and --server-key, or --plain-tcp if nobody on the way matters",
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is on loopback."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_loopback(host: str, where: str) -> None:
    """Raise ConfigError unless a host name or address is on loopback."""
    if not is_loopback(host):
        raise ConfigError(
            f"{where}: expected a loopback address, got {host!r}",
            hint="listen on 127.0.0.1; for HTTP, `token_file` of [http] opens it to others",
        )
