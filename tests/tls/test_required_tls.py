"""Required TLS is never given up: not for a server without it, not for a man in the middle."""

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

import sessions
from sessions import ConfigurationError, TLSError
from support import servers
from tls.refusals import refusal, refusal_at_once
from tls.tls_server import ITEM, PASSWORD, PostgreSQL, TLSServer
from tls.wire import SSL_REQUEST, Impostor, SocketListener, Wire

REQUIRED = [True, {}, {"check_hostname": False}, {"verify": False}]


# --- servers without TLS


@pytest.mark.parametrize("ssl", [None, False])
def test_a_server_without_tls_is_used_when_tls_is_not_asked_for(url_without_tls: str, ssl: bool | None) -> None:
    with sessions.connect(url_without_tls, ssl=ssl) as backend:
        backend.session("chat").add_items([ITEM])
        assert backend.session("chat").get_items() == [ITEM]


@pytest.mark.parametrize("ssl", REQUIRED, ids=str)
def test_a_server_without_tls_is_refused_and_told_nothing(url_without_tls: str, ssl: Any) -> None:
    dialect = servers.dialect_of(url_without_tls)
    with Wire(dialect, urlsplit(url_without_tls).port or 0) as wire:
        error = refusal(servers.with_parts(url_without_tls, port=wire.port), ssl=ssl)
    assert type(error) is TLSError
    assert "ssl" in str(error).lower() or "tls" in str(error).lower()
    _check_nothing_was_told(dialect, wire.sent)
    assert wire.accepted == 1


@pytest.mark.parametrize("ssl", REQUIRED, ids=str)
def test_a_man_in_the_middle_cannot_take_tls_away(server: TLSServer, ssl: Any) -> None:
    with Wire(server.dialect, server.port, strip=True) as wire:
        assert type(refusal(server.url(port=wire.port), ssl=ssl)) is TLSError
    _check_nothing_was_told(server.dialect, wire.sent)


def test_the_man_in_the_middle_is_a_real_danger(server: TLSServer) -> None:
    # The same attack on a client that requires nothing: it goes unnoticed, and the items are read.
    with Wire(server.dialect, server.port, strip=True) as wire:
        assert server.use(server.url(port=wire.port)) is None
    assert b'"hello"' in wire.sent.replace(b"\\", b"")


def _check_nothing_was_told(dialect: str, sent: bytes) -> None:
    """At most the question for TLS; no user, no database, no password."""
    assert sent == (SSL_REQUEST if dialect == "postgresql" else b"")


def test_nothing_of_value_is_in_the_clear(server: TLSServer) -> None:
    with Wire(server.dialect, server.port) as wire:
        url = server.url(port=wire.port)
        assert server.use(url, ssl={"ca": server.authority.cert}) == "TLSv1.3"
    for word in (PASSWORD, "agents", "hello"):
        assert word.encode() not in wire.sent


# --- servers that have TLS only


def test_a_tls_only_server_refuses_plain_connections(server: TLSServer) -> None:
    with server.tls_only() as url:
        error = refusal(url, ssl=False)
        with sessions.connect(url, ssl={"ca": server.authority.cert}) as backend:
            assert backend.session("nothing").get_items() == []
    assert type(error) is TLSError
    assert "ssl" in str(error)


def test_false_means_no_tls(server: TLSServer) -> None:
    assert server.use(server.url(), ssl=False) is None


# --- impostors


@pytest.mark.parametrize(
    ("shown", "options"),
    [
        ("self_signed", {"ca": ...}),
        ("self_signed", {"ca": ..., "check_hostname": False}),
        ("self_signed", {}),
        ("other_name", {"ca": ...}),
    ],
    ids=["self-signed", "self-signed, names unchecked", "outside the system's roots", "of the same authority"],
)
def test_an_impostor_is_not_given_the_password(server: TLSServer, shown: str, options: dict[str, Any]) -> None:
    options = {**options, "ca": server.authority.cert} if "ca" in options else options
    with Impostor(server.dialect, getattr(server, shown)) as rogue:
        assert type(refusal(server.url(port=rogue.port), ssl=options)) is TLSError
    assert rogue.sent == b""
    assert rogue.accepted == 1


def test_an_impostor_is_heard_by_a_client_that_does_not_verify(server: TLSServer) -> None:
    # What the documentation says that ssl=True does not protect from; and that the impostor works.
    with Impostor(server.dialect, server.self_signed) as rogue, pytest.raises(sessions.SessionsError):
        _ = sessions.Session.from_url("chat", server.url(port=rogue.port), ssl=True, max_retries=0).get_items()
    assert b"app" in rogue.sent


# --- Unix sockets


@pytest.mark.parametrize(
    "target",
    [
        "///agents",
        "//%2Fvar%2Frun/agents",
        "///agents?host=/tmp",
        # One among the hosts is enough; an empty name is the default socket, unless there is an address for it.
        "///agents?host=localhost,/tmp",
        "///agents?host=localhost,",
        "///agents?host=,localhost",
        "///agents?host=localhost,@abstract",
        "///agents?hostaddr=",
        "///agents?host=,localhost&hostaddr=,127.0.0.1",
    ],
)
@pytest.mark.parametrize("ssl", REQUIRED, ids=str)
def test_a_unix_socket_takes_no_tls_on_postgresql(target: str, ssl: Any) -> None:
    error = refusal_at_once(f"postgresql:{target}", ssl=ssl)
    assert type(error) is ConfigurationError
    assert "socket" in str(error)


def test_a_unix_socket_of_a_service_is_not_told_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # libpq alone reads the service file, and ignores sslmode on the socket that it finds there.
    services = tmp_path / "services"
    services.write_text(f"[local]\nhost={tmp_path}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    with SocketListener(tmp_path / ".s.PGSQL.5432") as listener:
        url = f"postgresql://app:{quote(PASSWORD, safe='')}@/agents?service=local"
        refusal(url, ssl=True)
    assert listener.sent == b""


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_unix_socket_takes_no_tls_from_the_url_either(mode: str) -> None:
    error = refusal_at_once(f"postgresql:///agents?host=/tmp&sslmode={mode}")
    assert isinstance(error, ValueError)
    assert "socket" in str(error)


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_a_unix_socket_is_used_without_tls(mode: str) -> None:
    with sessions.connect("postgresql:///agents?host=/tmp", ssl=False):
        pass
    with sessions.connect(f"postgresql:///agents?host=/tmp&sslmode={mode}"):
        pass


def test_an_address_without_a_name_is_no_unix_socket(postgresql: PostgreSQL) -> None:
    url = f"postgresql:///agents?user=app&hostaddr=127.0.0.1&port={postgresql.port}"
    assert postgresql.use(url, ssl=True, password=PASSWORD) == "TLSv1.3"
