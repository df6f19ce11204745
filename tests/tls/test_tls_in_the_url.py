"""ssl=None follows the URL, in libpq's words and in those of the MySQL clients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import sessions
from sessions import TLSError
from tls.authority import Authority, Identity
from tls.refusals import KEY_PASSWORD, refusal, refusal_at_once
from tls.tls_server import TLSServer

Words = Callable[..., dict[str, str]]


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    """A function from a text to the path of a file that holds it."""

    def write(text: str) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))} a+b.pem"
        path.write_text(text)
        return str(path)

    return write


def libpq(**settings: str) -> dict[str, str]:
    return settings


def mysql(**settings: str) -> dict[str, str]:
    """Say the same in the MySQL clients' words."""
    modes = {
        "disable": "DISABLED",
        "prefer": "PREFERRED",
        "require": "REQUIRED",
        "verify-ca": "VERIFY_CA",
        "verify-full": "VERIFY_IDENTITY",
    }
    names = {"sslmode": "ssl-mode", "sslrootcert": "ssl-ca", "sslcert": "ssl-cert", "sslkey": "ssl-key"}
    return {names[name]: modes.get(value, value) for name, value in settings.items()}


@pytest.fixture(params=[libpq, mysql], ids=["libpq's words", "mysql's words"])
def said(request: pytest.FixtureRequest, server: TLSServer) -> Words:
    """Both spellings in turn; PostgreSQL knows one."""
    words: Words = libpq if server.dialect == "postgresql" else request.param
    return words


# The mode, the certificate that the server shows, its root if the right one is given; what comes of it.
@pytest.mark.parametrize(
    ("mode", "shown", "root", "outcome"),
    [
        ("disable", "good", None, None),
        ("prefer", "self_signed", None, "TLSv1.3"),
        ("require", "self_signed", None, "TLSv1.3"),
        ("verify-full", "good", "right", "TLSv1.3"),
        ("verify-full", "good", "wrong", TLSError),
        ("verify-full", "other_name", "right", TLSError),
        ("verify-ca", "other_name", "right", "TLSv1.3"),
        ("verify-ca", "good", "wrong", TLSError),
        # libpq takes it for verify-ca: what must not be is a root that is given and not used.
        ("require", "good", "wrong", TLSError),
    ],
)
def test_a_mode_of_the_url_trusts_whom_it_says(
    server: TLSServer,
    said: Words,
    file: Callable[[str], str],
    foreign: Authority,
    mode: str,
    shown: str,
    root: str | None,
    outcome: Any,
) -> None:
    server.present(getattr(server, shown))
    roots = {"right": server.authority.cert, "wrong": foreign.cert}
    words = said(sslmode=mode, **({"sslrootcert": file(roots[root])} if root else {}))
    if outcome is TLSError:
        assert type(refusal(server.url(query=words))) is TLSError
    else:
        assert server.use(server.url(query=words)) == outcome


def test_nothing_said_is_the_drivers_default(server: TLSServer) -> None:
    server.present(server.self_signed)
    assert server.use(server.url()) == "TLSv1.3"


def test_prefer_goes_on_without_tls(url_without_tls: str) -> None:
    with sessions.connect(f"{url_without_tls}?sslmode=prefer") as backend:
        assert backend.session("chat").get_items() == []


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_required_mode_refuses_a_server_without_tls(
    url_without_tls: str, mode: str, authority: Authority, file: Callable[[str], str]
) -> None:
    root = quote(file(authority.cert))
    query = f"?sslmode={mode}" + (f"&sslrootcert={root}" if mode != "require" else "")
    assert type(refusal(url_without_tls + query)) is TLSError


def test_a_client_certificate_in_the_url(
    server: TLSServer, said: Words, file: Callable[[str], str], client: Identity
) -> None:
    words = said(
        sslmode="verify-full",
        sslrootcert=file(server.authority.cert),
        sslcert=file(client.cert),
        sslkey=file(client.key),
    )
    assert server.use(server.url("certified", query=words)) == "TLSv1.3"


def test_an_encrypted_key_in_the_url(server: TLSServer, file: Callable[[str], str], client: Identity) -> None:
    words = {
        "sslmode": "require",
        "sslcert": file(client.cert),
        "sslkey": file(client.encrypted_key(KEY_PASSWORD)),
        "sslpassword": KEY_PASSWORD,
    }
    assert server.use(server.url("certified", query=words)) == "TLSv1.3"


# --- at once, nothing listens here

POSTGRESQL = "postgresql://app:pw@localhost:1/agents?"
MYSQL = "mysql://app:pw@localhost:1/agents?"


@pytest.mark.parametrize(
    ("target", "ssl"),
    [
        (f"{POSTGRESQL}sslmode=require", False),
        (f"{POSTGRESQL}sslmode=verify-full", False),
        (f"{POSTGRESQL}sslmode=disable", True),
        (f"{POSTGRESQL}sslmode=disable", {}),
        (f"{POSTGRESQL}sslmode=prefer", {}),
        (f"{POSTGRESQL}sslmode=verify-full", True),
        (f"{POSTGRESQL}sslmode=verify-full", {"verify": False}),
        (f"{POSTGRESQL}sslmode=require", {}),
        (f"{MYSQL}sslmode=disable", True),
        (f"{MYSQL}ssl-mode=DISABLED", {}),
        (f"{MYSQL}ssl-mode=REQUIRED", False),
        (f"{MYSQL}ssl-mode=VERIFY_IDENTITY", True),
        (f"{MYSQL}ssl-mode=VERIFY_IDENTITY", False),
    ],
)
def test_url_and_option_that_contradict_each_other_are_refused(target: str, ssl: Any) -> None:
    error = refusal_at_once(target, ssl=ssl)
    assert isinstance(error, ValueError)
    assert "ssl" in str(error)


@pytest.mark.parametrize(
    "target",
    [f"{POSTGRESQL}sslmode=verify-full&sslrootcert=", f"{MYSQL}ssl-mode=VERIFY_IDENTITY&ssl-ca="],
    ids=["postgresql", "mysql"],
)
def test_url_and_option_may_say_the_same(
    target: str, authority: Authority, foreign: Authority, file: Callable[[str], str]
) -> None:
    target += quote(file(authority.cert))
    with sessions.connect(target, ssl={"ca": authority.cert}):
        pass
    assert isinstance(refusal_at_once(target, ssl={"ca": foreign.cert}), ValueError)
    assert isinstance(refusal_at_once(target, ssl={}), ValueError)


@pytest.mark.parametrize(
    "target",
    [
        f"{POSTGRESQL}sslmode=verify_full",
        f"{POSTGRESQL}sslmode=",
        f"{MYSQL}ssl-mode=verify",
        f"{MYSQL}sslmode=on",
        f"{MYSQL}ssl-mode=REQUIRED&sslmode=disable",
        f"{MYSQL}ssl-ca=/a.pem&sslrootcert=/b.pem",
        f"{POSTGRESQL}sslmode=disable&sslrootcert=/a.pem",
        f"{MYSQL}ssl-mode=DISABLED&ssl-ca=/a.pem",
        f"{POSTGRESQL}sslmode=verify-full&sslrootcert=/no/such/file.pem",
        f"{MYSQL}ssl-mode=VERIFY_CA&ssl-ca=/no/such/file.pem",
        f"{POSTGRESQL}sslmode=require&sslcert=/no/such/file.pem",
        f"{POSTGRESQL}sslmode=prefer&sslcert=/a.pem&sslkey=/a.key",
        f"{MYSQL}ssl-mode=PREFERRED&ssl-cert=/a.pem&ssl-key=/a.key",
        f"{MYSQL}ssl-cert=/no/such/file.pem&ssl-key=/no/such/file.pem",
    ],
)
def test_a_mistake_in_the_url_is_told_at_once(target: str) -> None:
    assert isinstance(refusal_at_once(target), (ValueError, TLSError))
