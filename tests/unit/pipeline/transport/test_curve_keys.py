"""Key files: their content, files that are refused, and that no error contains a secret."""

from __future__ import annotations

import os
import stat

import msgspec
import pytest
from typer.testing import CliRunner

from sluice.pipeline.cli.main import app
from sluice.pipeline.core.endpoints import (
    PLAIN_TCP,
    Security,
    is_local,
    require_authentication,
    require_local,
)
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.transport.curve_keys import (
    KeyPair,
    load_client_auth,
    load_server_auth,
    new_keys,
    read_keys,
    read_public,
    write_keys,
)


@pytest.fixture
def pair(tmp_path):
    """A pair on disk: keys, secret file, public file."""
    keys = new_keys()
    return keys, *write_keys(tmp_path / "deep" / "mine", keys)


def test_written_keys_are_read_back(pair):
    keys, secret, public = pair
    assert read_keys(secret) == keys
    assert read_public(public) == keys.public
    assert keys.secret not in public.read_text()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert (secret.name, public.name) == ("mine.secret", "mine.public")


def test_keys_are_new_and_repr_has_no_secret(pair):
    keys, *_ = pair
    other = new_keys()
    assert keys.secret != other.secret
    assert keys.secret not in repr(keys)
    assert keys.secret not in f"{keys}"


def test_the_command_writes_a_pair_and_overwrites_nothing(tmp_path):
    stem = tmp_path / "keys" / "ingest"
    done = CliRunner().invoke(app, ["keygen", str(stem)])
    assert done.exit_code == 0, done.output
    secret = stem.with_name("ingest.secret").read_bytes()
    assert read_keys(stem.with_name("ingest.secret")).secret not in done.output
    for left in ("ingest.secret", "ingest.public"):
        again = CliRunner().invoke(app, ["keygen", str(stem)])
        assert isinstance(again.exception, ConfigError)
        assert left in again.exception.message
        assert stem.with_name("ingest.secret").exists() is (left == "ingest.secret")
        stem.with_name("ingest.secret").unlink(missing_ok=True)
    assert b"secret" in secret


def test_a_link_is_not_written_through(tmp_path):
    target = tmp_path / "elsewhere"
    (tmp_path / "mine.secret").symlink_to(target)
    with pytest.raises(ConfigError, match="never overwritten"):
        write_keys(tmp_path / "mine", new_keys())
    assert not target.exists()


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o777, 0o602, 0o601])
def test_a_secret_that_other_users_can_read_is_refused(pair, mode):
    _, secret, _ = pair
    os.chmod(secret, mode)
    with pytest.raises(ConfigError, match="other users cannot read") as caught:
        read_keys(secret)
    assert "chmod 600" in (caught.value.hint or "")


def test_the_group_may_read_a_secret(pair):
    keys, secret, _ = pair
    os.chmod(secret, 0o440)
    assert read_keys(secret) == keys


@pytest.mark.parametrize(
    "text",
    ["", "rubbish", "public = 5", "public = ''", 'public = "short"', "\0" * 100, "x" * 10_000,
     'public = "' + "ü" * 40 + '"', 'public = "' + " " * 40 + '"',
     "public = '" + "a" * 40 + "'\nmore = 1"],
)  # fmt: skip
def test_a_file_without_a_key_is_refused(tmp_path, text):
    path = tmp_path / "x.public"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"x\.public: expected a public key file"):
        read_public(path)


def test_an_error_about_a_secret_does_not_quote_it(tmp_path):
    keys = new_keys()
    path = tmp_path / "x.secret"
    path.write_text(f'secret = "{keys.secret}"\npublic = 3\n')
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        read_keys(path)
    assert keys.secret not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.public: cannot read"):
        read_public(tmp_path / "nowhere.public")


def test_a_secret_file_is_no_public_one(pair):
    _, secret, public = pair
    with pytest.raises(ConfigError, match="expected a public key file"):
        read_public(secret)
    with pytest.raises(ConfigError, match="expected a secret key file"):
        read_keys(public)


def test_allowed_keys_come_from_files_and_folders(tmp_path, pair):
    keys, secret, _ = pair
    folder = tmp_path / "allowed"
    some = [new_keys() for _ in range(3)]
    for index, other in enumerate(some[:2]):
        write_keys(folder / f"k{index}", other)
    _, single = write_keys(tmp_path / "single", some[2])
    (folder / "README").write_text("not a key")
    made = load_server_auth(Security(key=str(secret), allow=(str(folder), str(single))), "here")
    assert made is not None
    assert made.allowed == {k.public for k in some}
    assert made.keys == keys


def test_an_empty_list_of_allowed_keys_is_refused(tmp_path, pair):
    _, secret, _ = pair
    (tmp_path / "empty").mkdir()
    for allow in ((), (str(tmp_path / "empty"),)):
        with pytest.raises(ConfigError, match="nobody could connect"):
            load_server_auth(Security(key=str(secret), allow=allow), "here")


def test_one_bad_file_in_the_folder_refuses_the_start(tmp_path, pair):
    _, secret, public = pair
    (public.parent / "broken.public").write_text("rubbish")
    with pytest.raises(ConfigError, match=r"broken\.public"):
        load_server_auth(Security(key=str(secret), allow=(str(public.parent),)), "here")


def test_a_plain_socket_has_no_keys():
    assert load_server_auth(Security(), "here") is None


def test_client_auth_needs_both_files(pair):
    keys, secret, public = pair
    assert load_client_auth(None, None) is None
    made = load_client_auth(secret, public)
    assert made is not None
    assert (made.keys, made.server) == (keys, keys.public)
    for half in ((secret, None), (None, public)):
        with pytest.raises(ConfigError, match="both"):
            load_client_auth(*half)


PRIVATE = ["ipc:///tmp/x", "tcp://127.0.0.1:1", "tcp://localhost:1", "tcp://[::1]:1",
           "tcp://127.9.9.9:*"]  # fmt: skip
OPEN = ["tcp://0.0.0.0:1", "tcp://*:1", "tcp://192.168.0.1:1", "tcp://127.0.0.1.example.com:1",
        "tcp://eth0:1", "tcp://[::]:1", "tcp://127.0.0.1:0;10.0.0.1:1", "tcp://"]  # fmt: skip
STRANGE = ["ws://127.0.0.1:1", "tipc://{1,2,3}", "udp://127.0.0.1:1", "TCP://10.0.0.1:1", "",
           "10.0.0.1:1", "pgm://127.0.0.1;239.0.0.1:1", " tcp://127.0.0.1:1"]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_of_this_host_need_no_keys(address):
    assert is_local(address)
    require_authentication(address, Security(), "here")
    require_local(address)


@pytest.mark.parametrize("address", OPEN)
def test_addresses_that_other_hosts_reach_need_keys_or_the_exact_option(address):
    assert not is_local(address)
    with pytest.raises(ConfigError, match="which others can reach"):
        require_authentication(address, Security(), "here")
    with pytest.raises(ConfigError, match="beyond this host"):
        require_local(address)
    require_authentication(address, Security(plain_tcp=PLAIN_TCP), "here")
    require_authentication(address, Security(key="k", allow=("a",)), "here")


@pytest.mark.parametrize("address", STRANGE)
def test_other_transports_are_refused_in_any_case(address):
    assert not is_local(address)
    for security in (Security(), Security(plain_tcp=PLAIN_TCP), Security(key="k", allow=("a",))):
        with pytest.raises(ConfigError, match="expected tcp://"):
            require_authentication(address, security, "here")


@pytest.mark.parametrize(
    ("security", "words"),
    [
        (Security(plain_tcp="yes"), "expected 'anyone may connect', got 'yes'"),
        (Security(key="k", plain_tcp=PLAIN_TCP), "got both"),
        (Security(allow=("a",)), "expected a key beside allow"),
    ],
)
def test_security_that_contradicts_itself(security, words):
    for address in (*PRIVATE, *OPEN):
        with pytest.raises(ConfigError, match=words):
            require_authentication(address, security, "here")


def test_pairs_come_back_from_toml():
    for _ in range(50):  # enough for every character of Z85
        keys = new_keys()
        assert msgspec.convert(msgspec.toml.decode(msgspec.toml.encode(keys)), KeyPair) == keys
