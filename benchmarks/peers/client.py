"""One peer's client: runs the measurements of a task, in the peer's own environment.

Its argument is a JSON object (peer, port, events a message, measurements); it writes one JSON line
for each measurement.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

from events import Events
from load import closed_loop, open_loop

READY_S = 120.0


LINKS = {
    "mosec": ("http_client", "MosecLink"),
    "litserve": ("http_client", "LitServeLink"),
    "triton": ("http_client", "TritonLink"),
    "pvapy": ("pva_client", "PvaLink"),
    "sluice": ("sluice_client", "SluiceLink"),
}


def connect(peer: str, events: Events, port: int, max_in_flight: int) -> Any:
    """Return a link that has answered once."""
    module, name = LINKS[peer]
    kind = getattr(importlib.import_module(module), name)  # others need packages that are not here
    deadline = time.monotonic() + READY_S
    while True:
        try:
            link = kind(events, port, max_in_flight)
            link.send(0)
            before = link.errors()
            while not link.wait(0.1):
                if time.monotonic() > deadline:
                    raise ConnectionError("no answer")
            if link.errors() == before:
                return link
            link.close()
            raise ConnectionError("no right answer")
        except OSError as error:
            if time.monotonic() > deadline:
                raise ConnectionError(
                    f"{peer} is not ready after {READY_S:g} s: {error}"
                ) from error
            time.sleep(0.2)


def main() -> None:
    """Measure."""
    task = json.loads(sys.argv[1])
    size = task["events_per_message"]
    link = None
    for loop in task["loops"]:
        max_in_flight = loop["in_flight"]
        if link is None or task["afresh"]:
            if link is not None:
                link.close()
            link = connect(task["peer"], Events(size), task["port"], max_in_flight)
        link.max_in_flight = max_in_flight
        if "rate_hz" in loop:
            result = open_loop(link, size, loop["rate_hz"], task["warm_s"], task["seconds"])
        else:
            result = closed_loop(link, size, max_in_flight, task["warm_s"], task["seconds"])
        print(json.dumps(result), flush=True)
    if link is not None:
        link.close()


if __name__ == "__main__":
    main()
