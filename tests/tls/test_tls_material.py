"""Certificates, keys and settings that are wrong in themselves are refused before any connection."""

import os
import pty
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sessions
from sessions import ConfigurationError, TLSError
from tls.authority import DAY, Authority, Identity
from tls.refusals import KEY_PASSWORD, refusal_at_once

# Nothing listens there.
POSTGRESQL, MYSQL = "postgresql://app:pw@localhost:1/agents", "mysql://app:pw@localhost:1/agents"
GARBAGE = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n"


@pytest.fixture(params=[POSTGRESQL, MYSQL], ids=["postgresql", "mysql"])
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
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
    wrong, remedy = str(error).split("; ")
    assert "cafile" in wrong
    for name in ("verify", "check_hostname", "ca", "cert", "key", "key_password"):
        assert name in remedy


def test_a_root_file_without_certificates_is_refused(target: str, tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_text("no certificate in here\n")
    error = refusal_at_once(target, ssl={"ca": roots})
    assert isinstance(error, (ConfigurationError, TLSError))
    assert "roots.pem" in str(error)


def _pair(client: Identity, key: str | None = None, **more: Any) -> dict[str, Any]:
    return {"cert": client.cert, "key": client.key if key is None else key, **more}


def _encrypted(clients: Authority, **more: Any) -> dict[str, Any]:
    client = clients.client("app")
    return _pair(client, client.encrypted_key(KEY_PASSWORD), **more)


# What is wrong, made by the authority of the clients; and a word of the answer.
WRONG: dict[str, tuple[Callable[[Authority], dict[str, Any]], str]] = {
    "a private key for a root": (lambda signer: {"ca": signer.client("app").key}, "ca"),
    "one bad root among good ones": (lambda signer: {"ca": signer.cert + GARBAGE}, "ca"),
    "an expired root": (lambda _: {"ca": Authority("was trusted", until=-DAY).cert}, "expired"),
    "another certificate's key": (lambda signer: _pair(signer.client("app"), signer.client("app").key), "key"),
    "a garbled key": (lambda signer: _pair(c := signer.client("app"), c.key.replace("M", "N", 3)), "key"),
    "no key": (lambda signer: {"cert": signer.client("app").cert}, "key"),
    "no certificate": (lambda signer: {"key": signer.client("app").key}, "cert"),
    "an expired certificate": (lambda signer: _pair(signer.client("app", until=-DAY)), "date"),
    "a certificate not valid yet": (lambda signer: _pair(signer.client("app", since=DAY)), "date"),
    "a wrong password": (lambda signer: _encrypted(signer, key_password="wrong"), "password"),
    "a password that is too long": (lambda signer: _encrypted(signer, key_password=KEY_PASSWORD * 200), "password"),
    "no password": (_encrypted, "password"),
    "None for a password": (lambda signer: _encrypted(signer, key_password=None), "password"),
    "an empty password": (lambda signer: _encrypted(signer, key_password=""), "password"),
}


@pytest.mark.parametrize("what", WRONG)
def test_material_that_is_wrong_is_refused(target: str, clients: Authority, what: str) -> None:
    make, word = WRONG[what]
    error = refusal_at_once(target, ssl=make(clients))
    assert type(error) in ((ConfigurationError,) if what == "no certificate" else (ConfigurationError, TLSError))
    assert word in str(error)


def test_a_key_that_is_not_understood_is_not_shown(target: str, client: Identity) -> None:
    # Taken for a path, since that is what a text without "-----BEGIN" is.
    body = "".join(client.key.splitlines()[1:-1])
    # The second is what becomes of a key in an environment variable whose line ends were escaped.
    for key, secret in ((body, body), (client.key.replace("\n", "\\n"), client.key.splitlines()[1])):
        error = refusal_at_once(target, ssl=_pair(client, key))
        assert isinstance(error, (ConfigurationError, TLSError))
        assert secret not in str(error) + repr(error)


def test_an_expired_root_beside_a_good_one_is_accepted(target: str, authority: Authority) -> None:
    # A provider's bundle keeps its old roots for a while.
    late = Authority("was trusted", until=-DAY)
    with sessions.connect(target, ssl={"ca": late.cert + authority.cert}):
        pass


@pytest.mark.parametrize("other", ["sqlite::memory:", "memory:"])
def test_tls_is_for_servers_only(other: str) -> None:
    assert type(refusal_at_once(other, ssl=True)) is ConfigurationError


def test_a_context_whose_roots_cannot_be_read_is_refused_for_libpq(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert type(refusal_at_once(POSTGRESQL, ssl=context)) is ConfigurationError
    # Roots in a folder are read by OpenSSL when it needs them, so that libpq could not be told.
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
def test_the_password_of_a_key_is_never_asked_for(target: str, password: str, client: Identity, tmp_path: Path) -> None:
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
