"""A server that asks for a client certificate, and what clients show it."""

from pathlib import Path
from typing import Any

import pytest

from sessions import AuthenticationError, ConfigurationError, TLSError
from tls.authority import DAY, Authority, Identity
from tls.refusals import KEY_PASSWORD, refusal, refusal_at_once
from tls.tls_server import TLSServer


@pytest.fixture(scope="session")
def client(clients: Authority) -> Identity:
    return clients.client("certified")


def test_a_client_certificate_is_accepted_as_text(server: TLSServer, client: Identity) -> None:
    options = {"ca": server.authority.cert, "cert": client.cert, "key": client.key}
    assert server.use(server.url("certified"), ssl=options) == "TLSv1.3"


def test_a_client_certificate_is_accepted_as_bytes(server: TLSServer, client: Identity) -> None:
    options = {
        "ca": server.authority.cert,
        "cert": client.cert.encode(),
        "key": client.key.encode(),
    }
    assert server.use(server.url("certified"), ssl=options) == "TLSv1.3"


def test_a_client_certificate_is_accepted_as_files(server: TLSServer, client: Identity, tmp_path: Path) -> None:
    cert, key = tmp_path / "client: 1.crt", tmp_path / "client: 1.key"
    cert.write_text(client.cert)
    key.write_text(client.key)
    options = {"ca": server.authority.cert, "cert": str(cert), "key": key}
    assert server.use(server.url("certified"), ssl=options) == "TLSv1.3"


def test_certificate_and_key_may_be_one_text(server: TLSServer, client: Identity) -> None:
    options = {"ca": server.authority.cert, "cert": client.cert + client.key}
    assert server.use(server.url("certified"), ssl=options) == "TLSv1.3"


def test_certificate_and_key_may_be_one_file(server: TLSServer, client: Identity, tmp_path: Path) -> None:
    pem = tmp_path / "client.pem"
    pem.write_text(client.key + client.cert)
    options = {"ca": server.authority.cert, "cert": pem}
    assert server.use(server.url("certified"), ssl=options) == "TLSv1.3"


def test_an_encrypted_key_is_opened_with_its_password(server: TLSServer, client: Identity) -> None:
    options = {
        "ca": server.authority.cert,
        "cert": client.cert,
        "key": client.encrypted_key(KEY_PASSWORD),
        "key_password": KEY_PASSWORD,
    }
    assert server.use(server.url("certified"), ssl=options) == "TLSv1.3"


def test_a_needless_key_password_does_no_harm(server: TLSServer, client: Identity) -> None:
    options = {
        "ca": server.authority.cert,
        "cert": client.cert,
        "key": client.key,
        "key_password": KEY_PASSWORD,
    }
    assert server.use(server.url("certified"), ssl=options) == "TLSv1.3"


def test_a_client_certificate_does_not_need_verification(server: TLSServer, client: Identity) -> None:
    options = {"verify": False, "cert": client.cert, "key": client.key}
    assert server.use(server.url("certified"), ssl=options) == "TLSv1.3"


def test_a_client_certificate_may_bring_its_chain(server: TLSServer, clients: Authority) -> None:
    client = Authority("test clients, second level", issuer=clients).client("certified")
    options = {"ca": server.authority.cert, "cert": client.cert, "key": client.key}
    assert server.use(server.url("certified"), ssl=options) == "TLSv1.3"


def test_a_missing_client_certificate_is_refused(server: TLSServer) -> None:
    error = refusal(server.url("certified"), ssl={"ca": server.authority.cert})
    assert type(error) is AuthenticationError
    assert "certificate" in str(error)


def test_a_foreign_client_certificate_is_refused(server: TLSServer, foreign: Authority) -> None:
    stranger = foreign.client("certified")
    options = {"ca": server.authority.cert, "cert": stranger.cert, "key": stranger.key}
    error = refusal(server.url("certified"), ssl=options)
    assert type(error) in (TLSError, AuthenticationError)
    assert "certificate" in str(error)


def test_a_wrong_password_is_refused_in_spite_of_a_certificate(server: TLSServer, client: Identity) -> None:
    url = server.url("certified").replace("correct", "incorrect")
    options = {"ca": server.authority.cert, "cert": client.cert, "key": client.key}
    assert type(refusal(url, ssl=options)) is AuthenticationError


# --- refused before a connection is opened: nothing listens at these URLs

URLS = ["postgresql://app:pw@localhost:1/agents", "mysql://app:pw@localhost:1/agents"]
IDS = ["postgresql", "mysql"]


@pytest.mark.parametrize("target", URLS, ids=IDS)
def test_a_key_that_does_not_match_is_refused(target: str, client: Identity, clients: Authority) -> None:
    other = clients.client("certified")
    error = refusal_at_once(target, ssl={"cert": client.cert, "key": other.key})
    assert isinstance(error, (TLSError, ConfigurationError))
    assert "key" in str(error)


@pytest.mark.parametrize("target", URLS, ids=IDS)
def test_a_wrong_key_password_is_refused(target: str, client: Identity) -> None:
    options = {
        "cert": client.cert,
        "key": client.encrypted_key(KEY_PASSWORD),
        "key_password": "wrong",
    }
    error = refusal_at_once(target, ssl=options)
    assert isinstance(error, (TLSError, ConfigurationError))
    assert "password" in str(error)


@pytest.mark.parametrize("given", [{}, {"key_password": None}, {"key_password": ""}], ids=str)
@pytest.mark.parametrize("target", URLS, ids=IDS)
def test_an_encrypted_key_without_a_password_is_refused(target: str, client: Identity, given: dict[str, Any]) -> None:
    options = {"cert": client.cert, "key": client.encrypted_key(KEY_PASSWORD), **given}
    error = refusal_at_once(target, ssl=options)
    assert isinstance(error, (TLSError, ConfigurationError))
    assert "password" in str(error)


@pytest.mark.parametrize("target", URLS, ids=IDS)
def test_a_client_certificate_out_of_date_is_refused(target: str, clients: Authority) -> None:
    late = clients.client("certified", until=-DAY)
    error = refusal_at_once(target, ssl={"cert": late.cert, "key": late.key})
    assert isinstance(error, (TLSError, ConfigurationError))
    assert "date" in str(error)


@pytest.mark.parametrize("target", URLS, ids=IDS)
def test_a_client_certificate_without_a_key_is_refused(target: str, client: Identity) -> None:
    error = refusal_at_once(target, ssl={"cert": client.cert})
    assert isinstance(error, (TLSError, ConfigurationError))
    assert "key" in str(error)


@pytest.mark.parametrize("target", URLS, ids=IDS)
def test_a_key_without_a_certificate_is_refused(target: str, client: Identity) -> None:
    error = refusal_at_once(target, ssl={"key": client.key})
    assert type(error) is ConfigurationError
    assert "cert" in str(error)
