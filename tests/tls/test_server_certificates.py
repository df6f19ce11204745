"""Which server is trusted, and which is not: real handshakes on each server."""

import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sessions
from sessions import ConnectionFailedError, TLSError
from support import servers
from support.servers import Server
from tls.authority import Authority, Identity, self_signed
from tls.refusals import refusal
from tls.tls_server import TLSServer
from tls.wire import Impostor, Leaver, Wire


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_without_one_in_common_are_the_remedy(scheme: str, newest: ssl.TLSVersion) -> None:
    dialect = "postgresql" if scheme == "postgresql" else "mysql"
    with Impostor(dialect, self_signed("localhost"), newest=newest) as server:
        if newest is ssl.TLSVersion.TLSv1_3:
            server.allow_from(newest)
            words = "ssl_max_protocol_version=TLSv1.2"
        else:
            words = "ssl_min_protocol_version=TLSv1.3"
        error = refusal(f"{scheme}://app:pw@localhost:{server.port}/agents?{words}")
    assert type(error) is TLSError
    assert "no version of TLS in common" in str(error)


@dataclass(frozen=True)
class World:
    """Who could have signed a certificate, and a folder."""

    folder: Path
    authority: Authority
    intermediate: Authority
    foreign: Authority
    clients: Authority
    pinned: Identity

    def pem_file(self, text: str) -> Path:
        path = self.folder / "some.pem"
        path.write_text(text)
        return path

    def context(self, roots: str = "", **attributes: Any) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=roots or self.authority.cert)
        for name, value in attributes.items():
            setattr(context, name, value)
        return context


@pytest.fixture
def world(tmp_path: Path, authority: Authority, foreign: Authority, clients: Authority) -> World:
    intermediate = Authority("test servers, second level", issuer=authority)
    return World(tmp_path, authority, intermediate, foreign, clients, self_signed("db.example.test"))


def present(server: TLSServer, world: World, shown: str) -> None:
    if shown == "expired":
        server.present_expired()
    elif shown == "intermediate":
        server.present(world.intermediate.server("localhost"))
    else:
        server.present(world.pinned if shown == "pinned" else getattr(server, shown))


Settings = Callable[[World], Any]
_UNVERIFIED: dict[str, Any] = {"check_hostname": False, "verify_mode": ssl.CERT_NONE}

# What the server shows, and the settings that trust it.
TRUSTED: dict[str, tuple[str, Settings]] = {
    "a path as text": ("good", lambda w: {"ca": str(w.pem_file(w.authority.cert))}),
    "a path": ("good", lambda w: {"ca": w.pem_file(w.authority.cert)}),
    "text": ("good", lambda w: {"ca": w.authority.cert}),
    "bytes": ("good", lambda w: {"ca": w.authority.cert.encode()}),
    # The form in which a cloud provider hands out its roots: comments between certificates.
    "a bundle": ("good", lambda w: {"ca": f"# one\n{w.foreign.cert}\n# another\n{w.authority.cert}{w.clients.cert}"}),
    "a context": ("good", lambda w: w.context()),
    "a context that does not verify": ("self_signed", lambda w: w.context(**_UNVERIFIED)),
    "another name, names unchecked": ("other_name", lambda w: {"ca": w.authority.cert, "check_hostname": False}),
    "a chain to the root": ("intermediate", lambda w: {"ca": w.authority.cert}),
    "anybody": ("good", lambda _: True),
    "anybody of another name": ("other_name", lambda _: True),
    "anybody self-signed": ("self_signed", lambda _: True),
    "anybody expired": ("expired", lambda _: True),
    "verify off": ("self_signed", lambda _: {"verify": False}),
    "verify and names off": ("self_signed", lambda _: {"verify": False, "check_hostname": False}),
}

# What the server shows, the settings that do not trust it, and a word of the answer.
DISTRUSTED: dict[str, tuple[str, Settings, str]] = {
    "another authority": ("good", lambda w: {"ca": w.foreign.cert}, "certificate"),
    "another authority, names unchecked": ("good", lambda w: {"ca": w.foreign.cert, "check_hostname": False}, ""),
    "a context with another authority": ("good", lambda w: w.context(w.foreign.cert), ""),
    "expired": ("expired", lambda w: {"ca": w.authority.cert}, "certificate"),
    "expired, names unchecked": ("expired", lambda w: {"ca": w.authority.cert, "check_hostname": False}, ""),
    "another name": ("other_name", lambda w: {"ca": w.authority.cert}, "host"),
    "a name, the certificate has its address": ("address_only", lambda w: {"ca": w.authority.cert}, ""),
    "an intermediate authority alone": ("intermediate", lambda w: {"ca": w.intermediate.cert}, ""),
    "self-signed": ("self_signed", lambda w: {"ca": w.authority.cert}, ""),
    "self-signed, system's roots": ("self_signed", lambda _: {}, ""),
    "pinned with another name": ("pinned", lambda w: {"ca": w.pinned.cert}, ""),
}


@pytest.mark.parametrize("case", TRUSTED)
def test_a_server_is_trusted_by(server: TLSServer, world: World, case: str) -> None:
    shown, settings = TRUSTED[case]
    present(server, world, shown)
    assert server.use(server.url(), ssl=settings(world)) == "TLSv1.3"


@pytest.mark.parametrize("case", DISTRUSTED)
def test_a_server_is_refused_that_is(server: TLSServer, world: World, case: str) -> None:
    shown, settings, word = DISTRUSTED[case]
    present(server, world, shown)
    error = refusal(server.url(), ssl=settings(world))
    assert type(error) is TLSError
    assert word in str(error)


def test_a_certificate_that_is_out_of_date_is_not_taken_for_one_of_another_root(server: TLSServer) -> None:
    server.present_expired()
    assert " date" in str(refusal(server.url(), ssl={"ca": server.authority.cert})).rpartition("; ")[2]


def test_a_self_signed_server_is_accepted_when_pinned(server: TLSServer) -> None:
    server.present(server.self_signed)
    assert server.use(server.url(), ssl={"ca": server.self_signed.cert}) == "TLSv1.3"


def test_an_address_counts_when_the_certificate_has_it(server: TLSServer) -> None:
    url = server.url(host="127.0.0.1")
    server.present(server.address_only)
    assert server.use(url, ssl={"ca": server.authority.cert}) == "TLSv1.3"
    server.present(server.other_name)
    assert type(refusal(url, ssl={"ca": server.authority.cert})) is TLSError


def test_the_versions_of_a_context_are_kept_to(server: TLSServer, world: World) -> None:
    context = world.context(maximum_version=ssl.TLSVersion.TLSv1_2)
    assert server.use(server.url(), ssl=context) == "TLSv1.2"


def test_an_authority_made_by_mysql_itself_is_accepted(mysql_server: Server) -> None:
    # It lacks what Python 3.13 asks for by default; the name in its certificates is no host's.
    if mysql_server.container is None:
        pytest.skip("only a container lets us read the server's files")
    ca = mysql_server.run("cat", "/var/lib/mysql/ca.pem")
    with mysql_server.database() as url, sessions.connect(url, ssl={"ca": ca, "check_hostname": False}) as backend:
        assert backend.session("chat").get_items() == []


# --- the system's roots

_WITH_SYSTEM_ROOTS = """
import sys, sessions
with sessions.connect(sys.argv[1], ssl={}, max_retries=0) as backend:
    backend.session("roots").add_items([{"role": "user"}])
    print("stored")
"""


def with_system_roots(url: str, roots: Path) -> subprocess.CompletedProcess[str]:
    # A process of its own, because OpenSSL reads the variable when it likes.
    environment = {"SSL_CERT_FILE": str(roots), "SSL_CERT_DIR": str(roots.parent / "none"), "PATH": ""}
    command = [sys.executable, "-c", _WITH_SYSTEM_ROOTS, url]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_without_a_ca_the_system_roots_count(server: TLSServer, world: World) -> None:
    result = with_system_roots(server.url(), world.pem_file(world.authority.cert))
    assert (result.stdout, result.stderr) == ("stored\n", "")
    result = with_system_roots(server.url(), world.pem_file(world.foreign.cert))
    assert result.stdout == ""
    assert "sessions.errors.TLSError: " in result.stderr


# --- what a refusal costs


@pytest.mark.parametrize("shown", ["self_signed", "other_name"])
def test_a_bad_certificate_is_not_tried_again(server: TLSServer, shown: str) -> None:
    server.present(getattr(server, shown))
    with Wire(server.dialect, server.port) as wire:
        options = {"ca": server.authority.cert}
        refusal(server.url(port=wire.port), ssl=options, max_retries=3, retry_delay=0.01)
    assert wire.accepted == 1


def test_a_server_that_leaves_in_the_handshake_is_tried_again(server: TLSServer) -> None:
    # A restart or a failover, not a bad certificate.
    with Leaver(server.dialect) as leaver:
        options = {"ca": server.authority.cert}
        error = refusal(server.url(port=leaver.port), ssl=options, max_retries=1, retry_delay=0.01)
    assert leaver.accepted == 2
    assert "root" not in str(error)


def test_a_database_named_certificate_is_not_taken_for_one(server: TLSServer) -> None:
    url = servers.with_parts(server.url(), database="SSL certificate")
    error = refusal(url, ssl={"ca": server.authority.cert})
    assert type(error) is ConnectionFailedError
    assert "ca'" not in str(error)
