"""Certificates, keys and settings that are wrong in themselves are refused before any connection."""

import os
import pty
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sessions import ConfigurationError, TLSError
from tls.authority import DAY, Authority
from tls.refusals import KEY_PASSWORD, refusal_at_once

URLS = ["postgresql://app:pw@localhost:1/agents", "mysql://app:pw@localhost:1/agents"]
GARBAGE = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n"


@pytest.fixture(params=URLS, ids=["postgresql", "mysql"])
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"cafile": "a.pem"}, "cafile"),
        ({"rejectUnauthorized": False}, "rejectUnauthorized"),
        ({"CA": GARBAGE}, "CA"),
        ({1: 2}, "1"),
        ({"ca": ""}, "ca"),
        ({"ca": b""}, "ca"),
        ({"ca": "  \n"}, "ca"),
        ({"ca": 5}, "ca"),
        ({"ca": "/no/such/roots.pem"}, "/no/such/roots.pem"),
        ({"ca": "/"}, "ca"),
        ({"ca": GARBAGE}, "ca"),
        ({"ca": b"\x00\x01\x02"}, "ca"),
        ({"ca": GARBAGE.encode()}, "ca"),
        ({"ca": "a\0b"}, "ca"),
        ({"cert": "/no/such/client.pem", "key": "/no/such/client.key"}, "/no/such/client.pem"),
        ({"cert": GARBAGE, "key": GARBAGE}, "key"),
        ({"cert": "", "key": ""}, "cert"),
        ({"verify": "yes"}, "verify"),
        ({"verify": 0}, "verify"),
        ({"verify": None}, "verify"),
        ({"check_hostname": "no"}, "check_hostname"),
        ({"key_password": 5}, "key_password"),
        ({"ca": GARBAGE.replace("CERT", "TRUSTED CERT")}, "ca"),
        ({"cert": GARBAGE.replace("CERT", "TRUSTED CERT")}, "cert"),
        ({"verify": False, "check_hostname": True}, "check_hostname"),
        ("require", "ssl"),
        (1, "ssl"),
        (0, "ssl"),
        (["ca"], "ssl"),
        (ssl.PROTOCOL_TLS_CLIENT, "ssl"),
    ],
    ids=repr,
)
def test_settings_that_are_wrong_are_refused(target: str, settings: Any, word: str) -> None:
    error = refusal_at_once(target, ssl=settings)
    assert isinstance(error, (ConfigurationError, TLSError))
    assert word in str(error)


def test_an_unknown_setting_is_answered_with_the_known_ones(target: str) -> None:
    error = refusal_at_once(target, ssl={"cafile": "a.pem"})
    assert type(error) is ConfigurationError
    for name in ("verify", "check_hostname", "ca", "cert", "key", "key_password"):
        assert name in str(error)


def test_a_root_file_without_certificates_is_refused(target: str, tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_text("no certificate in here\n")
    error = refusal_at_once(target, ssl={"ca": roots})
    assert isinstance(error, (ConfigurationError, TLSError))
    assert "roots.pem" in str(error)


def test_a_private_key_is_no_root(target: str, clients: Authority) -> None:
    error = refusal_at_once(target, ssl={"ca": clients.client("app").key})
    assert isinstance(error, (ConfigurationError, TLSError))


def test_a_bundle_with_one_bad_certificate_is_refused(target: str, authority: Authority) -> None:
    error = refusal_at_once(target, ssl={"ca": authority.cert + GARBAGE})
    assert isinstance(error, (ConfigurationError, TLSError))


def test_a_garbled_key_is_refused(target: str, clients: Authority) -> None:
    client = clients.client("app")
    garbled = client.key.replace("M", "N", 3)
    error = refusal_at_once(target, ssl={"cert": client.cert, "key": garbled})
    assert isinstance(error, (ConfigurationError, TLSError))
    assert "key" in str(error)


def test_a_key_that_is_no_pem_is_not_shown(target: str, clients: Authority) -> None:
    # Taken for a path, since that is what a text without "-----BEGIN" is.
    client = clients.client("app")
    body = "".join(client.key.splitlines()[1:-1])
    error = refusal_at_once(target, ssl={"cert": client.cert, "key": body})
    assert isinstance(error, (ConfigurationError, TLSError))
    assert body not in str(error) + repr(error)


def test_a_key_on_one_line_is_not_shown(target: str, clients: Authority) -> None:
    # What becomes of a key in an environment variable whose line ends were escaped.
    client = clients.client("app")
    error = refusal_at_once(target, ssl={"cert": client.cert, "key": client.key.replace("\n", "\\n")})
    assert isinstance(error, (ConfigurationError, TLSError))
    assert client.key.splitlines()[1] not in str(error) + repr(error)


def test_a_key_password_that_is_too_long_is_refused(target: str, clients: Authority) -> None:
    client = clients.client("app")
    options = {"cert": client.cert, "key": client.encrypted_key(KEY_PASSWORD), "key_password": KEY_PASSWORD * 200}
    assert isinstance(refusal_at_once(target, ssl=options), (ConfigurationError, TLSError))


def test_a_client_certificate_not_valid_yet_is_refused(target: str, clients: Authority) -> None:
    early = clients.client("app", since=DAY)
    error = refusal_at_once(target, ssl={"cert": early.cert, "key": early.key})
    assert isinstance(error, (ConfigurationError, TLSError))


def test_an_expired_root_is_refused(target: str) -> None:
    late = Authority("was trusted", until=-DAY)
    error = refusal_at_once(target, ssl={"ca": late.cert})
    assert isinstance(error, (ConfigurationError, TLSError))
    assert "expired" in str(error) or "valid" in str(error)


def test_an_expired_root_beside_a_good_one_is_accepted(target: str, authority: Authority) -> None:
    # A provider's bundle keeps its old roots for a while.
    import sessions

    late = Authority("was trusted", until=-DAY)
    with sessions.connect(target, ssl={"ca": late.cert + authority.cert}):
        pass


@pytest.mark.parametrize("dialect", ["sqlite::memory:", "memory:"])
def test_tls_is_for_servers_only(dialect: str) -> None:
    assert type(refusal_at_once(dialect, ssl=True)) is ConfigurationError


# --- contexts that cannot be rendered for libpq

POSTGRESQL, MYSQL = URLS


def test_a_context_without_roots_is_refused_for_libpq() -> None:
    error = refusal_at_once(POSTGRESQL, ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    assert type(error) is ConfigurationError


def test_a_context_whose_roots_cannot_be_read_is_refused_for_libpq(tmp_path: Path) -> None:
    # Roots in a folder are read by OpenSSL when it needs them, so that libpq could not be told.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(capath=tmp_path)
    error = refusal_at_once(POSTGRESQL, ssl=context)
    assert type(error) is ConfigurationError
    assert "ca" in str(error)


# --- never a question on the terminal

_ENCRYPTED_KEY = """
import os, sys
# A session leader's first terminal becomes the one that OpenSSL asks on.
terminal = os.open(sys.argv[1], os.O_RDWR)
import sessions
pem = open(sys.argv[3]).read()
settings = {"cert": pem, "key": pem}
if sys.argv[4] != "none":
    settings["key_password"] = sys.argv[4].replace("empty", "")
try:
    sessions.connect(sys.argv[2], ssl=settings)
except sessions.SessionsError as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("password", ["none", "empty", "wrong"])
def test_the_password_of_a_key_is_never_asked_for(
    target: str, password: str, clients: Authority, tmp_path: Path
) -> None:
    client = clients.client("app")
    pem = tmp_path / "client.pem"
    pem.write_text(client.cert + client.encrypted_key(KEY_PASSWORD))
    ours, theirs = pty.openpty()
    try:
        arguments = [os.ttyname(theirs), target, str(pem), password]
        result = subprocess.run(
            [sys.executable, "-c", _ENCRYPTED_KEY, *arguments],
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=20,
            start_new_session=True,
            check=False,
        )
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):  # nothing was written to the terminal
            os.read(ours, 100)
    finally:
        os.close(ours)
        os.close(theirs)
    assert result.stderr == ""
    assert result.stdout.strip() in ("TLSError", "ConfigurationError")
