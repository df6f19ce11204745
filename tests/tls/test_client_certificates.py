"""A server that asks for a client certificate, and what clients show it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessions import AuthenticationError, TLSError
from tls.authority import Authority, Identity
from tls.refusals import KEY_PASSWORD, refusal
from tls.tls_server import PostgreSQL, TLSServer


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    """A function from a text to a file that holds it."""

    def write(text: str) -> Path:
        path = tmp_path / f"client: {len(list(tmp_path.iterdir()))}.pem"
        path.write_text(text)
        return path

    return write


FORMS: dict[str, Callable[[Identity, Callable[[str], Path]], dict[str, Any]]] = {
    "text": lambda client, _: {"cert": client.cert, "key": client.key},
    "bytes": lambda client, _: {"cert": client.cert.encode(), "key": client.key.encode()},
    "files": lambda client, file: {"cert": str(file(client.cert)), "key": file(client.key)},
    "one text": lambda client, _: {"cert": client.cert + client.key},
    "one file": lambda client, file: {"cert": file(client.key + client.cert)},
    "encrypted": lambda client, _: {
        "cert": client.cert,
        "key": client.encrypted_key(KEY_PASSWORD),
        "key_password": KEY_PASSWORD,
    },
    "needless password": lambda client, _: {"cert": client.cert, "key": client.key, "key_password": KEY_PASSWORD},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_client_certificate_is_accepted_in_every_form(
    server: TLSServer, client: Identity, file: Callable[[str], Path], form: str
) -> None:
    options = {"ca": server.authority.cert, **FORMS[form](client, file)}
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


def test_a_client_certificate_for_servers_is_refused_as_such(server: TLSServer, clients: Authority) -> None:
    wrong = clients.server("certified")
    error = refusal(server.url("certified"), ssl={"ca": server.authority.cert, "cert": wrong.cert, "key": wrong.key})
    assert "pass a client certificate that the server accepts" in str(error)


def test_without_ssl_a_missing_client_certificate_is_asked_for(postgresql: PostgreSQL) -> None:
    """In the clear libpq goes on, is refused for that, and reports both."""
    error = refusal(postgresql.url("certified"))
    assert type(error) is AuthenticationError
    assert "pass your client certificate" in str(error)


def test_a_wrong_password_is_refused_in_spite_of_a_certificate(server: TLSServer, client: Identity) -> None:
    url = server.url("certified").replace("correct", "incorrect")
    options = {"ca": server.authority.cert, "cert": client.cert, "key": client.key}
    assert type(refusal(url, ssl=options)) is AuthenticationError
