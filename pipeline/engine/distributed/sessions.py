"""The session of each process of a run: which messages are those of a process that runs now."""

from __future__ import annotations

import math
import secrets
import time
from typing import Any, NamedTuple

from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.engine.workers.process_spec import socket_identity
from sluice.pipeline.engine.workers.router import Router
from sluice.pipeline.transport.protocol import Header, Kind, Session, pack_json

#: Shortest time between two answers to a process that is not part of the run, s, and the number of
#: identities for which it is kept.
_REFUSAL_PERIOD_S, _MAX_REFUSED = 1.0, 1024


class SessionError(ProtocolError):
    """A message belongs to no session that is open: it is late, or was made up."""


class _Process(NamedTuple):
    """A session, the identity of its process's socket, and whether that is on another host."""

    session: Session
    identity: bytes
    remote: bool


class Sessions:
    """Sessions of the processes, by name.

    A process that is restarted gets another session number, so that what its predecessor sent does
    nothing, whenever it arrives. Session numbers are random: no other process can guess one.

    Parameters
    ----------
    run
        Run number.
    router
        Sends to the processes.
    """

    def __init__(self, run: int, router: Router) -> None:
        self._run, self._router = run, router
        self._processes: dict[str, _Process] = {}
        #: Names by identity and whether the process is on another host.
        self._names: dict[tuple[bytes, bool], str] = {}
        #: Time of the latest answer to each identity that is not part of the run, s.
        self._refused_s: dict[bytes, float] = {}

    def __getitem__(self, name: str) -> Session:
        return self._processes[name].session

    def __contains__(self, name: str) -> bool:
        return name in self._processes

    def open(self, name: str, identity: bytes | None = None) -> Session:
        """Return a new session of a process; an earlier one of that name ends.

        Parameters
        ----------
        name
            Name of the process.
        identity
            ZeroMQ identity of a process of another host; None for one of this host, whose
            identity is `socket_identity` of the session.
        """
        self.close(name)
        session = Session(self._run, 1 + secrets.randbelow(2**32 - 1))
        remote = identity is not None
        identity = identity or socket_identity(name, session.number).encode()
        self._processes[name] = _Process(session, identity, remote)
        self._names[identity, remote] = name
        return session

    def close(self, name: str) -> None:
        """End the session of a process, if it has one."""
        process = self._processes.pop(name, None)
        if process is not None:
            del self._names[process.identity, process.remote]

    def name_of(self, identity: bytes, *, remote: bool) -> str | None:
        """Return the name of the process with a socket identity; None if there is none."""
        return self._names.get((identity, remote))

    def sender(self, identity: bytes, header: Header, *, remote: bool) -> str:
        """Return the name of the process that has sent a message.

        Raises
        ------
        SessionError
            If the message belongs to no session that is open; a worker of another host is told so.
        """
        name = self.name_of(identity, remote=remote)
        if name is not None and header.is_of(self[name]):
            return name
        kind, who = Kind(header.kind).name, name or identity.decode(errors="backslashreplace")
        if remote and header.kind not in (Kind.STOP, Kind.ERROR) and self._may_refuse(identity):
            self.refuse(identity, header, "this worker is not part of the run, or not any more")
        raise SessionError(f"{kind} of {who!r} (run {header.run}): its session is not open")

    def _may_refuse(self, identity: bytes) -> bool:
        """Whether to answer a process that is not part of the run: once in a while, not always."""
        now_s = time.monotonic()
        if now_s - self._refused_s.get(identity, -math.inf) < _REFUSAL_PERIOD_S:
            return False
        if len(self._refused_s) >= _MAX_REFUSED:
            self._refused_s.clear()
        self._refused_s[identity] = now_s
        return True

    def is_remote(self, name: str) -> bool:
        """Whether a process is on another host."""
        return self._processes[name].remote

    def send(self, name: str, header: Header, *payload: Any) -> bool:
        """Send to a process; False without a session or connection, or if its queue is full."""
        process = self._processes.get(name)
        if process is None:
            return False
        header = header.of(process.session)
        return self._router.send(header, *payload, to=process.identity, remote=process.remote)

    def answer(self, identity: bytes, request: Header, header: Header, *payload: Any) -> None:
        """Answer a message of another host, in the session that the message came with."""
        self._router.send(header.of(request.session), *payload, to=identity, remote=True)

    def refuse(self, identity: bytes, request: Header, why: str) -> None:
        """Answer a message of another host with ERROR and the reason."""
        self.answer(identity, request, Header(Kind.ERROR), pack_json({"message": why}))
