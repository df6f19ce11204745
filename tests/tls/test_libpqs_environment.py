"""A URL that speaks of TLS without a mode is no weaker than what libpq's environment asks for.

The impostors here need no server: whoever speaks to them has been taken in.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

import sessions
from sessions import ConfigurationError, InvalidURLError, TLSError
from tls.authority import Authority, Identity, self_signed
from tls.refusals import refusal, refusal_at_once
from tls.tls_server import PostgreSQL
from tls.wire import Impostor


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".postgresql").mkdir()
    return tmp_path / ".postgresql"


@pytest.fixture
def root(tmp_path: Path, authority: Authority) -> str:
    """The file of the one root that the environment trusts."""
    (tmp_path / "root.pem").write_text(authority.cert)
    return str(tmp_path / "root.pem")


@pytest.fixture
def environment(root: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that sets libpq's variables, by their names without PGSSL."""

    def set_variables(**variables: str) -> None:
        for name, value in ({"ROOTCERT": root} | variables).items():
            monkeypatch.setenv(f"PGSSL{name}", value)

    return set_variables


@pytest.fixture
def certificate(tmp_path: Path, client: Identity) -> dict[str, str]:
    """The words for a client certificate."""
    for name, text in (("cert", client.cert), ("key", client.key)):
        (tmp_path / name).write_text(text)
    return {"sslcert": str(tmp_path / "cert"), "sslkey": str(tmp_path / "key")}


@pytest.fixture
def other_server() -> Iterator[Impostor]:
    with Impostor("postgresql", self_signed("localhost")) as rogue:
        yield rogue


def url_of(port: int, **words: str) -> str:
    return f"postgresql://app:pw@localhost:{port}/agents?{urlencode(words)}"


WORDS = [
    {"ssl_min_protocol_version": "TLSv1.3"},
    {"ssl_max_protocol_version": "TLSv1.3"},
    {"sslpassword": "x"},
    {"sslcert": ...},
]


@pytest.mark.parametrize("words", WORDS, ids=lambda words: next(iter(words)))
@pytest.mark.parametrize("mode", ["verify-full", "verify-ca", "require", ""])
def test_no_word_without_a_mode_switches_the_environments_verification_off(
    other_server: Impostor,
    environment: Callable[..., None],
    certificate: dict[str, str],
    words: dict[str, str],
    mode: str,
) -> None:
    environment(MODE=mode)
    words = certificate if "sslcert" in words else words
    assert type(refusal(url_of(other_server.port, **words))) is TLSError
    assert other_server.sent == b""


def test_a_root_in_libpqs_directory_counts_where_the_environment_has_a_mode(
    other_server: Impostor, home: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "root.crt").write_text(authority.cert)
    monkeypatch.setenv("PGSSLMODE", "require")
    assert type(refusal(url_of(other_server.port, ssl_min_protocol_version="TLSv1.3"))) is TLSError
    assert other_server.sent == b""


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca"])
def test_a_list_of_the_environment_still_revokes(
    tmp_path: Path, authority: Authority, environment: Callable[..., None], mode: str
) -> None:
    revoked = authority.server("localhost")
    (tmp_path / "revoked.crl").write_text(authority.revocations(revoked))
    environment(MODE=mode, CRL=str(tmp_path / "revoked.crl"))
    with Impostor("postgresql", revoked) as rogue:
        assert type(refusal(url_of(rogue.port, ssl_min_protocol_version="TLSv1.3"))) is TLSError
    assert rogue.sent == b""


@pytest.mark.parametrize("word", ["sslrootcert", "sslcrl"])
def test_a_root_or_a_list_in_the_url_means_full_verification_whatever_the_environment_says(
    tmp_path: Path, root: str, authority: Authority, environment: Callable[..., None], word: str
) -> None:
    (tmp_path / "clean.crl").write_text(authority.revocations())
    environment(MODE="verify-ca")
    words = {"sslrootcert": root} if word == "sslrootcert" else {"sslcrl": str(tmp_path / "clean.crl")}
    with Impostor("postgresql", authority.server("another.name")) as rogue:
        error = refusal(url_of(rogue.port, **words))
    assert type(error) is TLSError
    assert "name in the server's certificate" in str(error)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"MINPROTOCOLVERSION": "TLSv1.3"}, {"ssl_max_protocol_version": "TLSv1.2"}),
        ({"MAXPROTOCOLVERSION": "TLSv1.2"}, {"ssl_min_protocol_version": "TLSv1.3"}),
        ({"MODE": "disable"}, {"ssl_min_protocol_version": "TLSv1.3"}),
        ({"MODE": "allow"}, {"ssl_min_protocol_version": "TLSv1.3"}),
        ({"MODE": "require", "CRLDIR": "/no/such/folder"}, {"ssl_min_protocol_version": "TLSv1.3"}),
        ({"MODE": "nonsense"}, {"ssl_min_protocol_version": "TLSv1.3"}),
    ],
    ids=str,
)
def test_what_url_and_environment_say_against_each_other_is_refused_at_once(
    environment: Callable[..., None], variables: dict[str, str], words: dict[str, str]
) -> None:
    environment(**variables)
    error = refusal_at_once(url_of(1, **words))
    assert isinstance(error, ValueError)
    assert "environment" in str(error)


def test_encryption_by_kerberos_that_the_environment_asks_for_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGGSSENCMODE", "require")
    error = refusal_at_once(url_of(1, ssl_min_protocol_version="TLSv1.3"))
    assert type(error) is ConfigurationError
    assert "gssencmode" in str(error)


@pytest.mark.parametrize("named", ["in the URL", "in the environment"])
def test_beside_a_service_the_url_has_to_say_a_mode(
    other_server: Impostor, tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    (tmp_path / "services").write_text(f"[prod]\nport={other_server.port}\nsslmode=verify-full\nsslrootcert={root}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    words = {"ssl_min_protocol_version": "TLSv1.3"}
    if named == "in the URL":
        words["service"] = "prod"
    else:
        monkeypatch.setenv("PGSERVICE", "prod")
    target = f"postgresql://localhost/agents?{urlencode(words)}"
    error = refusal_at_once(target)
    assert type(error) is InvalidURLError
    assert "service" in str(error)
    for stated in (f"{target}&sslmode=require", target):
        with sessions.connect(stated, ssl=None if "sslmode" in stated else True):
            pass


# --- and with a server


def test_the_environments_certificate_and_root_serve_a_url_without_a_mode(
    postgresql: PostgreSQL, environment: Callable[..., None], certificate: dict[str, str]
) -> None:
    environment(MODE="verify-full", CERT=certificate["sslcert"], KEY=certificate["sslkey"], CERTMODE="require")
    url = postgresql.url("certified", query={"ssl_max_protocol_version": "TLSv1.2"})
    assert postgresql.use(url) == "TLSv1.2"


def test_a_mode_in_the_url_is_heard_before_the_environment(
    postgresql: PostgreSQL, environment: Callable[..., None]
) -> None:
    postgresql.present(postgresql.self_signed)
    environment(MODE="verify-full")
    url = postgresql.url(query={"sslmode": "require", "ssl_min_protocol_version": "TLSv1.3"})
    assert postgresql.use(url) == "TLSv1.3"


def test_without_a_word_of_tls_the_environment_is_libpqs_own_matter(
    postgresql: PostgreSQL, environment: Callable[..., None]
) -> None:
    environment(MODE="verify-full")
    assert postgresql.use(postgresql.url()) == "TLSv1.3"
    postgresql.present(postgresql.self_signed)
    assert type(refusal(postgresql.url())) is TLSError
