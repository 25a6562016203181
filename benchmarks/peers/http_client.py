"""Clients of HTTP servers: as little as possible, since client and server share the cores."""

from __future__ import annotations

import json
import select
import socket
from typing import Any

from events import LOOK_AT, Events


class Connection:
    """One HTTP connection with at most one request on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.number = 0
        self.unsent: list[Any] = []
        self.answer = bytearray()
        self.body_at = self.end_at = 0

    def flush(self) -> bool:
        """Send what the kernel takes; return whether all went."""
        while self.unsent:
            try:
                gone = self.socket.sendmsg(self.unsent)
            except BlockingIOError:
                return False
            while self.unsent and gone >= len(self.unsent[0]):
                gone -= len(self.unsent.pop(0))
            if gone:
                self.unsent[0] = memoryview(self.unsent[0])[gone:]
        return True

    def take(self) -> bool:
        """Read what has arrived; return whether the answer is complete."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the server hung up")
        self.answer += data
        if not self.end_at:
            head = self.answer.find(b"\r\n\r\n")
            if head < 0:
                return False
            length = self.answer[:head].lower().split(b"\r\ncontent-length:")[1].split(b"\r\n")[0]
            self.body_at, self.end_at = head + 4, head + 4 + int(length)
        return len(self.answer) >= self.end_at

    def reset(self) -> None:
        """Make ready for the next request."""
        self.answer = bytearray()
        self.body_at = self.end_at = 0


class HttpLink:
    """Some connections to an HTTP server; the body of a request is the images' bytes."""

    path, extra = "/", b""
    loses = False

    def __init__(self, events: Events, port: int, max_in_flight: int) -> None:
        self.max_in_flight = max_in_flight
        self._events = events
        self._poll = select.epoll()
        self._idle: list[Connection] = []
        self._by_fd: dict[int, Connection] = {}
        self._failed = 0
        self._prefix = self.prefix()
        body = len(self._prefix) + len(events.bodies[0])
        self._head = (
            f"POST {self.path} HTTP/1.1\r\nHost: peer\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Length: {body}\r\n"
        ).encode() + self.extra + b"\r\n" + self._prefix  # fmt: skip
        self._port = port
        for _ in range(max_in_flight):
            self._connect()

    def prefix(self) -> bytes:
        """Return what precedes the images in a body."""
        return b""

    def _connect(self) -> None:
        connection = Connection(self._port)
        self._by_fd[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.EPOLLIN)
        self._idle.append(connection)

    def _replace(self, connection: Connection) -> list[int]:
        """Reconnect where the server closed a connection; return the message lost by it."""
        lost = [] if connection in self._idle else [connection.number]
        self._failed += len(lost)
        if not lost:
            self._idle.remove(connection)
        self._poll.unregister(connection.socket)
        del self._by_fd[connection.socket.fileno()]
        connection.socket.close()
        self._connect()
        return lost

    def send(self, number: int) -> None:
        """Send on an idle connection."""
        connection = self._idle.pop()
        connection.number = number
        body = self._events.bodies[number % self._events.messages]
        connection.unsent = [self._head, body]
        if not connection.flush():
            self._poll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def wait(self, timeout_s: float) -> list[int]:
        """Return the numbers of the messages that were answered (`Link.wait`)."""
        done = []
        for fd, what in self._poll.poll(timeout_s):
            connection = self._by_fd[fd]
            try:
                if what & select.EPOLLOUT and connection.flush():
                    self._poll.modify(connection.socket, select.EPOLLIN)
                whole = bool(what & ~select.EPOLLOUT) and connection.take()
            except ConnectionError:
                done += self._replace(connection)
                continue
            if whole:
                if connection.answer[9:12] != b"200":
                    self._failed += 1
                else:
                    if connection.number % LOOK_AT == 0:
                        latents = connection.answer[-self._events.size * 64 :]
                        self._events.look_at(connection.number, bytes(latents))
                connection.reset()
                done.append(connection.number)
                self._idle.append(connection)
        return done

    def errors(self) -> int:
        """Return the number of wrong answers (`Link.errors`)."""
        return self._failed + self._events.wrong

    def close(self) -> None:
        """Close the connection."""
        for connection in self._by_fd.values():
            connection.socket.close()
        self._poll.close()


class MosecLink(HttpLink):
    """mosec."""

    path = "/inference"


class LitServeLink(HttpLink):
    """LitServe."""

    path = "/predict"


class TritonLink(HttpLink):
    """Triton, with tensors in binary behind the JSON."""

    path = "/v2/models/encoder/infer"

    def prefix(self) -> bytes:
        """Return the JSON that describes the tensors."""
        size = self._events.size
        image = {"name": "image", "shape": [size, 8, 8], "datatype": "FP32",
                 "parameters": {"binary_data_size": size * 256}}  # fmt: skip
        latent = {"name": "latent", "parameters": {"binary_data": True}}
        text = json.dumps({"inputs": [image], "outputs": [latent]}).encode()
        self.extra = f"Inference-Header-Content-Length: {len(text)}\r\n".encode()
        return text
