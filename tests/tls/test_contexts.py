"""An ssl.SSLContext means the same for libpq, which cannot use it, or is refused by the name of what would be lost."""

import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import sessions
from sessions import ConfigurationError, TLSError
from sessions._dialects.postgresql.libpq import tls_parameters
from sessions._settings.key_files import KeyFiles
from sessions._settings.tls import read_tls
from support.claims import refused
from tls.authority import Authority
from tls.refusals import refusal
from tls.tls_server import PostgreSQL, TLSServer

POSTGRESQL, MYSQL = "postgresql://app:pw@localhost:1/agents", "mysql://app:pw@localhost:1/agents"


class Pinned(ssl.SSLContext):
    """A context that would look at the server's certificate once more."""

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        raise ssl.SSLError("the certificate is not the pinned one")


def pinned(context: ssl.SSLContext) -> None:
    context.wrap_socket = Pinned.wrap_socket.__get__(context)  # type: ignore[method-assign]


def changed(**attributes: Any) -> Callable[[ssl.SSLContext], None]:
    def change(context: ssl.SSLContext) -> None:
        for name, value in attributes.items():
            added = value | getattr(context, name) if name in ("options", "verify_flags") else value
            setattr(context, name, added)

    return change


CHANGES: dict[str, Callable[[ssl.SSLContext], None]] = {
    "VERIFY_CRL_CHECK_LEAF": changed(verify_flags=ssl.VERIFY_CRL_CHECK_LEAF),
    "VERIFY_CRL_CHECK_CHAIN": changed(verify_flags=ssl.VERIFY_CRL_CHECK_CHAIN),
    "VERIFY_ALLOW_PROXY_CERTS": changed(verify_flags=ssl.VERIFY_ALLOW_PROXY_CERTS),
    "OP_NO_TICKET": changed(options=ssl.OP_NO_TICKET),
    "OP_NO_RENEGOTIATION": changed(options=ssl.OP_NO_RENEGOTIATION),
    "ciphers": lambda context: context.set_ciphers("ECDHE-RSA-AES256-GCM-SHA384"),
    "security_level": lambda context: context.set_ciphers("DEFAULT:@SECLEVEL=3"),
    "hostname_checks_common_name": changed(hostname_checks_common_name=False),
    "post_handshake_auth": changed(post_handshake_auth=True),
    "wrap_socket": pinned,
    "sslsocket_class": changed(sslsocket_class=ssl.SSLSocket),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_libpq_cannot_be_told_is_refused_by_name(authority: Authority, what: str) -> None:
    context = ssl.create_default_context(cadata=authority.cert)
    CHANGES[what](context)
    with refused(ConfigurationError, match=what):
        sessions.connect(POSTGRESQL, ssl=context)
    sessions.connect(MYSQL, ssl=context).close()


def test_a_class_of_its_own_is_refused_by_name(authority: Authority) -> None:
    context = Pinned(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.cert)
    with refused(ConfigurationError, match="Pinned"):
        sessions.connect(POSTGRESQL, ssl=context)


def test_several_things_are_named_at_once(authority: Authority) -> None:
    context = ssl.create_default_context(cadata=authority.cert)
    CHANGES["VERIFY_CRL_CHECK_LEAF"](context)
    CHANGES["ciphers"](context)
    with refused(ConfigurationError, match="VERIFY_CRL_CHECK_LEAF.*ciphers"):
        sessions.connect(POSTGRESQL, ssl=context)


@pytest.mark.parametrize("make", [ssl.create_default_context, lambda **_: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)])
def test_what_python_itself_sets_may_stay(authority: Authority, make: Callable[..., ssl.SSLContext]) -> None:
    context = make(cadata=authority.cert)
    if not context.get_ca_certs():
        context.load_verify_locations(cadata=authority.cert)
    for url in (POSTGRESQL, MYSQL):
        sessions.connect(url, ssl=context).close()


@pytest.mark.parametrize("url", [POSTGRESQL, MYSQL])
def test_a_servers_context_is_refused(url: str) -> None:
    with refused(ConfigurationError, match="server"):
        sessions.connect(url, ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


# --- what can be carried over


@pytest.fixture
def files() -> Iterator[KeyFiles]:
    files = KeyFiles()
    yield files
    files.close()


def told(context: ssl.SSLContext, files: KeyFiles) -> dict[str, Any]:
    tls = read_tls(context, {})
    assert tls is not None
    return tls_parameters(tls, files)


@pytest.mark.filterwarnings("ignore:ssl:DeprecationWarning")
@pytest.mark.parametrize(
    ("change", "least", "most"),
    [
        ({}, "TLSv1.2", "TLSv1.3"),
        ({"minimum_version": ssl.TLSVersion.TLSv1_3}, "TLSv1.3", "TLSv1.3"),
        ({"maximum_version": ssl.TLSVersion.TLSv1_2}, "TLSv1.2", "TLSv1.2"),
        ({"options": ssl.OP_NO_TLSv1_2}, "TLSv1.3", "TLSv1.3"),
        ({"options": ssl.OP_NO_TLSv1_3}, "TLSv1.2", "TLSv1.2"),
        ({"minimum_version": ssl.TLSVersion.TLSv1, "maximum_version": ssl.TLSVersion.TLSv1_1}, "TLSv1", "TLSv1.1"),
        ({"minimum_version": ssl.TLSVersion.MINIMUM_SUPPORTED}, "TLSv1", "TLSv1.3"),
    ],
    ids=str,
)
def test_libpq_is_told_the_versions(
    authority: Authority, files: KeyFiles, change: dict[str, Any], least: str, most: str
) -> None:
    context = ssl.create_default_context(cadata=authority.cert)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # some builds of Python leave it to OpenSSL's configuration
    changed(**change)(context)
    parameters = told(context, files)
    assert (parameters["ssl_min_protocol_version"], parameters["ssl_max_protocol_version"]) == (least, most)


@pytest.mark.filterwarnings("ignore:ssl:DeprecationWarning")
def test_versions_that_are_no_range_are_refused(authority: Authority) -> None:
    context = ssl.create_default_context(cadata=authority.cert)
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.options |= ssl.OP_NO_TLSv1_2
    with refused(ConfigurationError, match="range"):
        sessions.connect(POSTGRESQL, ssl=context)


@pytest.mark.skipif(psycopg.pq.version() < 180000, reason="libpq 18 writes such a log")
def test_libpq_is_told_where_keys_are_logged(authority: Authority, files: KeyFiles, tmp_path: Path) -> None:
    context = ssl.create_default_context(cadata=authority.cert)
    context.keylog_filename = str(tmp_path / "keys.log")
    assert told(context, files)["sslkeylogfile"] == context.keylog_filename


# --- revoked certificates


@pytest.fixture
def lists(tmp_path: Path) -> Callable[[TLSServer], dict[str, str]]:
    """A function from a server to a revocation list without anybody in it, and one with its certificate."""

    def write(server: TLSServer) -> dict[str, str]:
        for name, revoked in (("clean", ()), ("revoked", (server.good,))):
            (tmp_path / f"{name}.crl").write_text(server.authority.revocations(*revoked))
        return {name: str(tmp_path / f"{name}.crl") for name in ("clean", "revoked")}

    return write


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca"])
def test_a_revoked_certificate_is_refused(
    server: TLSServer, lists: Callable[[TLSServer], dict[str, str]], mode: str
) -> None:
    options = {"ca": server.authority.cert, "check_hostname": mode == "verify-full"}
    for word in ("sslcrl", "ssl-crl", "ssl_crl"):
        assert server.use(server.url(query={word: lists(server)["clean"]}), ssl=options) == "TLSv1.3"
        assert type(refusal(server.url(query={word: lists(server)["revoked"]}), ssl=options)) is TLSError


def test_a_revoked_certificate_is_not_taken_for_one_of_another_root(
    server: TLSServer, lists: Callable[[TLSServer], dict[str, str]]
) -> None:
    error = refusal(server.url(query={"sslcrl": lists(server)["revoked"]}), ssl={"ca": server.authority.cert})
    assert "revoked" in str(error).rpartition("; ")[2]


def test_a_list_that_is_missing_for_an_authority_of_the_chain_is_asked_for(
    server: TLSServer, lists: Callable[[TLSServer], dict[str, str]], authority: Authority
) -> None:
    server.present(Authority("test servers, second level", issuer=authority).server("localhost"))
    error = refusal(server.url(query={"sslcrl": lists(server)["clean"]}), ssl={"ca": server.authority.cert})
    assert "sslcrl" in str(error).rpartition("; ")[2]


def test_a_context_that_asks_for_lists_may_get_them_from_the_url(
    postgresql: PostgreSQL, lists: Callable[[TLSServer], dict[str, str]]
) -> None:
    context = ssl.create_default_context(cadata=postgresql.authority.cert)
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    assert postgresql.use(postgresql.url(query={"sslcrl": lists(postgresql)["clean"]}), ssl=context) == "TLSv1.3"
    assert type(refusal(postgresql.url(query={"sslcrl": lists(postgresql)["revoked"]}), ssl=context)) is TLSError


def test_a_directory_of_lists_is_libpqs(postgresql: PostgreSQL, tmp_path: Path) -> None:
    command = ["openssl", "x509", "-noout", "-hash"]
    done = subprocess.run(command, input=postgresql.authority.cert, capture_output=True, text=True, check=True)
    (tmp_path / f"{done.stdout.strip()}.r0").write_text(postgresql.authority.revocations())
    url, options = postgresql.url(query={"sslcrldir": str(tmp_path)}), {"ca": postgresql.authority.cert}
    assert postgresql.use(url, ssl=options) == "TLSv1.3"
    (tmp_path / f"{done.stdout.strip()}.r0").write_text(postgresql.authority.revocations(postgresql.good))
    assert type(refusal(url, ssl=options)) is TLSError


@pytest.mark.parametrize("url", [POSTGRESQL, MYSQL])
@pytest.mark.parametrize(
    ("query", "word"),
    [
        # libpq goes on without a list that it cannot read.
        ("sslcrl=/no/such/list.crl", "list.crl"),
        ("sslcrl=/dev/null", "revocation list"),
        ("sslmode=require&sslcrl=/dev/null", "sslcrl"),
        ("sslmode=prefer&sslcrl=/dev/null", "require"),
        ("sslcrldir=/no/such/folder", "sslcrl"),
        ("sslmode=verify-full&sslcrldir=/tmp", "sslcrl"),
        ("ssl_min_protocol_version=TLSv1", "TLSv1.2"),
        ("ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2", "exchange"),
        ("sslmode=disable&ssl_min_protocol_version=TLSv1.3", "require"),
    ],
)
def test_a_limit_in_the_url_that_would_have_no_effect_is_refused(url: str, query: str, word: str) -> None:
    with refused((ValueError, TLSError), match=word):
        sessions.connect(f"{url}?{query}")


def test_versions_in_the_url_hold_for_every_server(server: TLSServer) -> None:
    for query, version in (
        ({"ssl_max_protocol_version": "TLSv1.2"}, "TLSv1.2"),
        ({"ssl_min_protocol_version": "tlsv1.3"}, "TLSv1.3"),
    ):
        assert server.use(server.url(query=query), ssl={"ca": server.authority.cert}) == version
