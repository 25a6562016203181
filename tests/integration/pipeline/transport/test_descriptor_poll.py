"""Waiting for sockets works in a process with many descriptors."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap

import pytest

_CHILD = textwrap.dedent("""
    import os, resource, sys
    from sluice.pipeline.transport.protocol import Header, Kind
    from sluice.pipeline.transport.poller import Poller
    from sluice.pipeline.transport.socket import Socket, terminate

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2048), hard))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(1200)]
    assert max(opened) > 1100, max(opened)
    router = Socket(sys.argv[1])
    assert router._socket.fileno() > 1023
    poller = Poller([router])
    assert poller.poll(0.01) == []
    dealer = Socket(sys.argv[1], "one")
    assert dealer.send(Header(Kind.HELLO))
    assert poller.poll(20.0) == [router]
    peer, header, _ = router.receive()
    assert (peer, header.kind) == (b"one", Kind.HELLO)
    router.close(); dealer.close(); terminate()
    print("received")
""")
_HARD_LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@pytest.mark.skipif(
    _HARD_LIMIT < 2048, reason=f"needs 2048 descriptors, the hard limit is {_HARD_LIMIT}"
)
def test_a_process_with_more_than_1024_descriptors_polls_a_socket(tmp_path):
    command = [sys.executable, "-c", _CHILD, f"ipc://{tmp_path}/socket"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "received\n"
