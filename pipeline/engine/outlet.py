"""The way into the sink for results: from workers of this host, and of others."""

from __future__ import annotations

from ..keys import guard
from ..summaries import unpack_summary
from ..transport import Socket
from ..wire import Codec, Header, Kind, ProtocolError
from .hub import Hub
from .spec import Spec


def open_outlet(spec: Spec) -> Hub:
    """Listen for results; where the graph says so also for those of other hosts."""
    workers = spec.config.workers
    gate = None
    if workers.results:
        gate = Socket(workers.results, security=guard(workers.security, "workers"))
    return Hub(Socket(spec.outlet), gate)


def is_sound(header: Header, payload: list[memoryview], codec: Codec) -> bool:
    """Whether a message from another host is a result that can be committed as it is."""
    if header.kind != Kind.RESULT or header.first or not payload:
        return False
    try:
        unpack_summary(payload[0])
        if header.events:
            codec.unpack(payload[1], header.events, header.seq)
    except (ProtocolError, IndexError):
        return False
    return True
