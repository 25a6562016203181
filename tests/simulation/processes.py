"""The processes of a simulated run: the sink and workers of one host, and workers of others.

Each holds the real object of its process, and calls its `step` when a message has come or a second
has passed. A process may be suspended, and killed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import msgspec

from sluice.pipeline.core.errors import ErrorRecord, SluiceError
from sluice.pipeline.engine.workers.compute import ComputeWorker
from sluice.pipeline.engine.workers.ingest_socket import IngestSocket
from sluice.pipeline.engine.workers.join import JoinReply, JoinRequest, tai_offset_ns
from sluice.pipeline.engine.workers.link import RemoteLink
from sluice.pipeline.engine.workers.process_spec import ProcessSpec
from sluice.pipeline.engine.workers.remote import spec_of
from sluice.pipeline.engine.workers.sink import SinkWorker
from sluice.pipeline.transport.protocol import Header, Kind, Session, pack_json, unpack_json
from sluice.pipeline.transport.run_messages import CommitAck

from .disk import SimulatedSink
from .network import SimulatedSocket
from .swaps import LoadingError
from .world import World

#: Interval at which a process acts without messages, s.
_TICK_S = 1.0
_SHORTEST_TICK_S = 0.001
#: The same while a worker loads a model, s.
_LOADING_TICK_S = 0.02
_STARTUP_S = (0.05, 0.8)


class SimulatedProcess(ABC):
    """A process: its state, and when it acts next."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.exit_code: int | None = None
        self.worker: ComputeWorker | None = None
        self.sockets: list[SimulatedSocket] = []
        self._suspended_until_s = 0.0
        self._step: Callable[[], bool] | None = None
        self._idle, self._turn, self.tick_s = False, 0, _TICK_S
        world.clock.after(world.random.uniform(*_STARTUP_S), self._begin)

    def connect(self, endpoint: str, identity: str) -> SimulatedSocket:
        """Return a DEALER of this process."""
        return self._own(self.world.network.connect(endpoint, identity))

    def bind(self, endpoint: str) -> SimulatedSocket:
        """Return a ROUTER of this process."""
        return self._own(self.world.network.bind(endpoint))

    def _own(self, socket: SimulatedSocket) -> SimulatedSocket:
        socket.wake = self.wake
        self.sockets.append(socket)
        return socket

    def suspend(self, seconds: float) -> None:
        """Do nothing for some seconds."""
        self._suspended_until_s = self.world.clock.now_s + seconds

    def kill(self, _: str = "") -> None:
        """End now."""
        self._end(-9, lambda socket: socket.kill())

    @abstractmethod
    def begin(self) -> Callable[[], bool]:
        """Start; return what the process does again and again until it returns False."""

    def wake(self) -> None:
        """Act soon: a message has come."""
        if self._idle:
            self._idle = False
            self._act_in(self._pause_s())

    def _begin(self) -> None:
        if self.exit_code is None:
            with self.world.as_process(self):
                self._step = self.begin()
            self._act_in(0.0)

    def _pause_s(self) -> float:
        return self.world.random.uniform(0.000_1, self.world.slowest_s)

    def _open_ingest(self, endpoint: str, identity: str, session: Session) -> IngestSocket:
        """Connect to ingest."""
        socket: Any = self.connect(endpoint, identity)
        self._ingest = IngestSocket(socket, session)
        return self._ingest

    def _act_in(self, seconds: float) -> None:
        self._turn += 1
        turn = self._turn
        self.world.clock.after(seconds, lambda: self._act() if turn == self._turn else None)

    def _act(self) -> None:
        """Act; then again at once if there was a message, else when one comes or a second later."""
        clock = self.world.clock
        if self.exit_code is not None or self._step is None:
            return
        if clock.now_s < self._suspended_until_s:
            self._act_in(self._suspended_until_s - clock.now_s)
            return
        busy = any(socket.readable for socket in self.sockets)
        try:
            with self.world.as_process(self):
                going = self._step()
        except LoadingError as loading:  # it does nothing until then
            self.sockets[0].put_back()
            self._suspended_until_s = max(self._suspended_until_s, loading.until_s)
            self._act_in(loading.until_s - clock.now_s)
            return
        except SluiceError as error:
            going = False
            record = ErrorRecord.of(error, self.name)
            self._ingest.send(Header(Kind.ERROR), msgspec.json.encode(record))
        if not going:
            self._end(0, lambda socket: socket.close())
            return
        if self.worker is not None:
            self.tick_s = _TICK_S if self.worker._preload is None else _LOADING_TICK_S
        self._idle = not busy
        self._act_in(self._pause_s() if busy else max(_SHORTEST_TICK_S, self.tick_s))

    def _end(self, code: int, close: Callable[[SimulatedSocket], None]) -> None:
        if self.exit_code is None:
            self.exit_code = code
            for socket in self.sockets:
                close(socket)


class LocalProcess(SimulatedProcess):
    """A sink or worker on the host of ingest; takes the place of `distributed.process.Process`."""

    def __init__(self, world: World, role: str, spec: ProcessSpec) -> None:
        self.role, self.spec, self.ready = role, spec, False
        self.started_s, self.pid = world.clock.now_s, 1
        super().__init__(world, spec.name)
        world.local[spec.name] = self

    def begin(self) -> Callable[[], bool]:
        """Start the real object of the role."""
        spec = self.spec
        session = Session(spec.run, spec.session)
        ingest = self._open_ingest(spec.ingest_endpoint, spec.identity, session)
        return self._sink(ingest) if self.role == "sink" else self._work(ingest)

    def _work(self, ingest: IngestSocket) -> Callable[[], bool]:
        self.worker = ComputeWorker(self.spec, ingest)
        self.worker.begin()
        return self.worker.step

    def _sink(self, ingest: IngestSocket) -> Callable[[], bool]:
        self.sockets[0].on_send = self._check_acknowledged
        sink = SimulatedSink(self.world.disk)
        worker = SinkWorker(
            self.spec, ingest, sink, self.world.graph, sink.open(self.spec.first_seq)
        )  # type: ignore[arg-type]
        worker.begin()

        def step() -> bool:
            ready = [socket for socket in worker.sockets if socket.readable]
            going = worker.step(ready)
            self.world.check_pending(len(worker._pending))
            self.tick_s = worker.poll_timeout()
            if not going:
                worker.close()
                ingest.send(Header(Kind.EOR), pack_json(sink.describe()))
            return going

        return step

    def _check_acknowledged(self, header: Header) -> None:
        if header.kind == Kind.ACK:
            self.world.disk.check_acknowledged(CommitAck.from_header(header))

    @property
    def settled(self) -> bool:
        """Whether it is ready and has handled all messages of ingest."""
        return self.ready and self.exit_code is None and not self.sockets[0].has_messages

    @property
    def exit_description(self) -> str:
        """Description of its exit."""
        return f"{self.name} ended with {self.exit_code}"

    def log_ready(self) -> None:
        """Log nothing."""

    def log_restart(self, number: int) -> None:
        """Log nothing."""

    def log_exit(self, batches: int) -> None:
        """Log nothing."""

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end."""
        self.world.clock.advance(lambda: self.exit_code is not None, timeout_s)
        return self.exit_code is not None

    def end(self) -> None:
        """Kill it."""
        self.kill()


class RemoteProcess(SimulatedProcess):
    """A worker of another host.

    Parameters
    ----------
    world
        The simulated run.
    name
        Name under which it joins.
    age_s
        How long it has been running when it joins, s: another of its name may be newer.
    """

    def __init__(self, world: World, name: str, age_s: float = 0.0) -> None:
        self._started_ns = world.clock.clock_gettime_ns(0) - round(age_s * 1e9)
        self._waiting_since_s = world.clock.now_s
        self.leaving = False
        super().__init__(world, name)

    def begin(self) -> Callable[[], bool]:
        """Ask to join."""
        world = self.world
        endpoint = world.graph.config.workers.listen
        nonce = world.random.randrange(1, 2**32)
        self._open_ingest(endpoint, f"{nonce:016x}", Session(0, nonce))
        request = JoinRequest(self.name, "simulated", 1, self._started_ns)
        self._ingest.send(Header(Kind.JOIN), pack_json(request))
        return self._join

    def _join(self) -> bool:
        """Wait for the reply, then work."""
        if self.worker is not None:
            if self.leaving:
                self._ingest.send(Header(Kind.STOP))
            return not self.leaving and self.worker.step()
        message = self._ingest.receive()
        if message is not None and message[1].kind == Kind.ERROR:
            return False
        if message is not None and message[1].kind == Kind.SPEC:
            self._open(unpack_json(message[2], JoinReply, "SPEC"))
        return self.world.clock.now_s - self._waiting_since_s < 60.0

    def _open(self, reply: JoinReply) -> None:
        spec = spec_of(reply, self.name, self.world.graph.config.workers.listen)
        self._ingest.session = Session(spec.run, spec.session)
        link = RemoteLink(spec, None, reply.tai_offset_ns - tai_offset_ns(), reply.timeout_s)
        self.worker = ComputeWorker(spec, self._ingest, link)
        link.on_message()
        self.worker.begin()


def process_class(world: World) -> Callable[..., LocalProcess]:
    """Return what starts a process of this host in a simulated run."""

    def start(role: str, spec: ProcessSpec, _: Any) -> LocalProcess:
        return LocalProcess(world, role, spec)

    return start
