"""Key files of CURVE, and the keys of a socket: its own, and those of the peers it accepts."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import zmq
from msgspec import Meta, Struct

from sluice.pipeline.core.endpoints import Security
from sluice.pipeline.core.errors import ConfigError

SECRET, PUBLIC = ".secret", ".public"
#: Largest size of a key file, bytes: two short lines need less, and a longer file is no key file.
_MAX_FILE_BYTES = 4096
#: Largest number of keys that one socket may accept.
_MAX_KEYS = 10_000

#: 32 bytes as ZeroMQ writes them: Z85, 40 characters.
Z85 = Annotated[str, Meta(pattern=r"^[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}$")]


class PublicKey(Struct, frozen=True, forbid_unknown_fields=True):
    """Content of a public key file."""

    public: Z85


class KeyPair(Struct, frozen=True, forbid_unknown_fields=True):
    """Content of a secret key file."""

    public: Z85
    secret: Z85

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public!r})"


@dataclass(frozen=True, slots=True)
class ServerAuth:
    """Keys of a socket that listens.

    Attributes
    ----------
    keys
        Key pair of the socket.
    allowed
        Public keys of the peers that it accepts.
    """

    keys: KeyPair
    allowed: frozenset[str]


@dataclass(frozen=True, slots=True)
class ClientAuth:
    """Keys of a socket that connects.

    Attributes
    ----------
    keys
        Key pair of the socket.
    server
        Public key of the server.
    """

    keys: KeyPair
    server: str


_T = TypeVar("_T", PublicKey, KeyPair)


def write_keys(stem: Path, keys: KeyPair) -> tuple[Path, Path]:
    """Write ``STEM.secret`` (mode 0600) and ``STEM.public``; return the two paths.

    Raises
    ------
    ConfigError
        If either exists already, or cannot be written.
    """
    secret, public = Path(f"{stem}{SECRET}"), Path(f"{stem}{PUBLIC}")
    pairs: tuple[tuple[Path, int, str, Struct], ...] = (
        (secret, 0o600, "Secret key: it must not leave this host.", keys),
        (public, 0o644, "Public key: give it to the owners of the peers.",
         PublicKey(keys.public)),
    )  # fmt: skip
    for path in (secret, public):
        if path.exists() or path.is_symlink():
            raise ConfigError(
                f"{path}: exists already; keys are never overwritten",
                hint="choose another name, or move the old key away first",
            )
    for path, mode, about, content in pairs:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(descriptor, "wb") as file:
                file.write(f"# {about}\n".encode() + msgspec.toml.encode(content))
        except OSError as error:
            raise ConfigError(f"{path}: cannot write: {error.strerror}") from error
    return secret, public


def read_keys(path: Path) -> KeyPair:
    """Return the pair in a secret key file; ConfigError if other users may read it."""
    keys = _read(path, KeyPair)
    # The group may read it: so a cluster gives secrets to a process that does not run as root.
    if stat.S_IMODE(path.stat().st_mode) & 0o007:
        raise ConfigError(
            f"{path}: expected a secret key that other users cannot read",
            hint=f"chmod 600 {path}, and make a new key if other users may have read it",
        )
    return keys


def read_public(path: Path) -> str:
    """Return the key of a public key file."""
    return _read(path, PublicKey).public


def load_server_auth(security: Security, where: str) -> ServerAuth | None:
    """Return the keys of a socket that listens; None for a socket without CURVE.

    Parameters
    ----------
    security
        Table `security` of the graph file.
    where
        Name of the part of the graph, for errors.
    """
    if not security.key:
        return None
    allowed = frozenset(_allowed([Path(path) for path in security.allow]))
    if not allowed:
        raise ConfigError(
            f"{where}: security.allow: expected public keys, got none: nobody could connect",
            hint=f"name files or folders of {PUBLIC} files; `sluice keygen NAME` makes a pair",
        )
    if len(allowed) > _MAX_KEYS:
        raise ConfigError(
            f"{where}: security.allow: expected at most {_MAX_KEYS} keys, got {len(allowed)}"
        )
    return ServerAuth(read_keys(Path(security.key)), allowed)


def load_client_auth(key: Path | None, server_key: Path | None) -> ClientAuth | None:
    """Return the keys of a socket that connects, from the two files; None without either."""
    if key is None and server_key is None:
        return None
    if key is None or server_key is None:
        raise ConfigError(
            "expected both --key and --server-key, got one of them",
            hint="--key is your own secret key file, --server-key the server's public one",
        )
    return ClientAuth(read_keys(key), read_public(server_key))


def _allowed(paths: list[Path]) -> list[str]:
    """Return the keys of the files, and of all public key files in the folders."""
    files: list[Path] = []
    for path in paths:
        files += sorted(path.glob(f"*{PUBLIC}")) if path.is_dir() else [path]
    return [read_public(file) for file in files]


def _read(path: Path, kind: type[_T]) -> _T:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the key: {error.strerror}") from error
    what = "secret" if kind is KeyPair else "public"
    try:
        if len(text) > _MAX_FILE_BYTES:
            raise ValueError(f"longer than {_MAX_FILE_BYTES} bytes")
        tables: Any = msgspec.toml.decode(text)
        return msgspec.convert(tables, kind)
    except (ValueError, msgspec.MsgspecError):
        # Without the error before: its text may contain the secret.
        raise ConfigError(
            f"{path}: expected a {what} key file, got something else",
            hint="`sluice keygen NAME` writes NAME.secret and NAME.public",
        ) from None


def new_keys() -> KeyPair:
    """Return a new pair of CURVE keys."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())
