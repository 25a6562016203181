"""Endpoints with addresses of IPv6."""

from __future__ import annotations

import socket

import pytest
from starlette.applications import Starlette

from sluice.pipeline.core.endpoints import is_local
from sluice.pipeline.service.auth import HttpAuth
from sluice.pipeline.service.http import WebServer
from sluice.pipeline.transport.front_end_messages import EventAck
from sluice.pipeline.transport.socket import Socket


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


@pytest.mark.parametrize("host", ["[::1]", "::1"])
def test_a_message_between_sockets_of_ipv6(host):
    assert is_local(f"tcp://{host}:5560")
    router = Socket(f"tcp://{host}:0")
    dealer = Socket(router.endpoint, "peer")
    try:
        assert dealer.send(EventAck(1, 2).to_header(), b"three")
        assert router.poll(5)
        peer, header, payload = router.receive()
    finally:
        dealer.close()
        router.close()
    assert (peer, EventAck.from_header(header)) == (b"peer", EventAck(1, 2))
    assert [bytes(frame) for frame in payload] == [b"three"]


def test_http_says_its_address_in_brackets():
    server = WebServer(HttpAuth("[::1]:0"), Starlette())
    address = server.address
    server._socket.close()
    assert address.startswith("http://[::1]:")
