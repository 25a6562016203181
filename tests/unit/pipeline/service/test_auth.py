"""Who may control over HTTP, and which token files are refused."""

from __future__ import annotations

import pytest

from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.service.auth import HttpAuth

TOKEN = "correct-horse-battery-staple"


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\nanother line\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "[::]:80", "192.0.2.7:80", "example.org:80"])
def test_beyond_loopback_only_with_a_token(listen, token_file):
    with pytest.raises(ConfigError, match="loopback") as refused:
        HttpAuth(listen)
    assert "token_file" in str(refused.value)
    assert HttpAuth(listen, str(token_file)).requires_token


@pytest.mark.parametrize(
    ("authorization", "may"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN} ", True),
        ("", False),
        (TOKEN, False),
        (f"Basic {TOKEN}", False),
        (f"Bearer {TOKEN[:-1]}", False),
        (f"Bearer {TOKEN}é", False),
        ("Bearer another line", False),
    ],
)
def test_permits(authorization, may, token_file):
    assert HttpAuth("127.0.0.1:0", str(token_file)).is_authorised(authorization) is may
    assert HttpAuth("127.0.0.1:0").is_authorised(authorization)


def test_origins():
    access = HttpAuth("127.0.0.1:9464")
    assert access.same_origin("", "127.0.0.1:9464")  # no browser
    assert access.same_origin("http://127.0.0.1:9464", "127.0.0.1:9464")
    assert access.same_origin("http://localhost:9464", "localhost:9464")
    assert not access.same_origin("http://127.0.0.1:8000", "127.0.0.1:9464")
    assert not access.same_origin("null", "127.0.0.1:9464")
    assert not access.same_origin("http://rebound.example:9464", "rebound.example:9464")


def test_hosts(token_file):
    access = HttpAuth("127.0.0.1:9464")
    own = ("", "127.0.0.1:9464", "127.0.0.1", "localhost:9464", "localhost", "[::1]:9464", "[::1]")
    for host in own:
        assert access.is_own_host(host), host
    for host in ("rebound.example", "rebound.example:9464", "192.0.2.7:9464", "localhost.evil:80"):
        assert not access.is_own_host(host), host
        assert HttpAuth("127.0.0.1:9464", str(token_file)).is_own_host(host), host


@pytest.mark.parametrize(
    "text", ["", "short", "has a space in the middle", "\n" + TOKEN, "tab\t" * 9]
)
def test_tokens_that_are_none(text, token_file):
    token_file.write_text(text)
    with pytest.raises(ConfigError, match="at least 16 characters"):
        HttpAuth("127.0.0.1:0", str(token_file))


def test_token_files_that_cannot_be_used(token_file, tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        HttpAuth("127.0.0.1:0", str(tmp_path / "nowhere"))
    token_file.write_bytes(b"\xff" * 40)
    with pytest.raises(ConfigError, match="cannot read"):
        HttpAuth("127.0.0.1:0", str(token_file))
    token_file.write_text(TOKEN)
    token_file.chmod(0o604)
    with pytest.raises(ConfigError, match=r"got mode 0604(.|\n)*chmod 600"):
        HttpAuth("127.0.0.1:0", str(token_file))
    token_file.chmod(0o640)  # a group of its own may read, as for a mounted secret
    assert HttpAuth("127.0.0.1:0", str(token_file)).requires_token
