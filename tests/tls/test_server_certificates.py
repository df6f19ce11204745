"""Which server is trusted, and which is not: real handshakes on each server."""

import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sessions
from sessions import ConnectionFailedError, TLSError
from support import servers
from support.servers import Server
from tls.authority import Authority, self_signed
from tls.refusals import refusal
from tls.tls_server import TLSServer
from tls.wire import Leaver, Wire


def pem_file(folder: Path, text: str) -> Path:
    path = folder / "some.pem"
    path.write_text(text)
    return path


# --- the right authority, in each form


def test_a_ca_may_be_a_path_as_text(server: TLSServer, tmp_path: Path) -> None:
    ca = str(pem_file(tmp_path, server.authority.cert))
    assert server.use(server.url(), ssl={"ca": ca}) == "TLSv1.3"


def test_a_ca_may_be_a_path_object(server: TLSServer, tmp_path: Path) -> None:
    ca = pem_file(tmp_path, server.authority.cert)
    assert server.use(server.url(), ssl={"ca": ca}) == "TLSv1.3"


def test_a_ca_may_be_pem_text(server: TLSServer) -> None:
    assert server.use(server.url(), ssl={"ca": server.authority.cert}) == "TLSv1.3"


def test_a_ca_may_be_pem_bytes(server: TLSServer) -> None:
    assert server.use(server.url(), ssl={"ca": server.authority.cert.encode()}) == "TLSv1.3"


def test_a_ca_may_be_a_bundle_of_several(server: TLSServer, foreign: Authority) -> None:
    # The form in which a cloud provider hands out its roots: comments between certificates.
    bundle = f"# one region\n{foreign.cert}\n# another\n{server.authority.cert}{server.clients.cert}"
    assert server.use(server.url(), ssl={"ca": bundle}) == "TLSv1.3"


def test_a_ready_context_is_used(server: TLSServer) -> None:
    context = ssl.create_default_context(cadata=server.authority.cert)
    assert server.use(server.url(), ssl=context) == "TLSv1.3"


def test_a_context_that_trusts_another_authority_refuses(server: TLSServer, foreign: Authority) -> None:
    context = ssl.create_default_context(cadata=foreign.cert)
    assert type(refusal(server.url(), ssl=context)) is TLSError


def test_a_context_that_does_not_verify_accepts(server: TLSServer) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    server.present(self_signed("localhost"))
    assert server.use(server.url(), ssl=context) == "TLSv1.3"


def test_the_versions_of_a_context_are_kept_to(server: TLSServer) -> None:
    context = ssl.create_default_context(cadata=server.authority.cert)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert server.use(server.url(), ssl=context) == "TLSv1.2"


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


def test_without_a_ca_the_system_roots_count(server: TLSServer, tmp_path: Path) -> None:
    result = with_system_roots(server.url(), pem_file(tmp_path, server.authority.cert))
    assert (result.stdout, result.stderr) == ("stored\n", "")


def test_a_server_outside_the_system_roots_is_refused(server: TLSServer, foreign: Authority, tmp_path: Path) -> None:
    result = with_system_roots(server.url(), pem_file(tmp_path, foreign.cert))
    assert result.stdout == ""
    assert "sessions.errors.TLSError: " in result.stderr


# --- servers that are not to be trusted


def test_a_server_of_another_authority_is_refused(server: TLSServer, foreign: Authority) -> None:
    error = refusal(server.url(), ssl={"ca": foreign.cert})
    assert type(error) is TLSError
    assert "certificate" in str(error)


def test_an_expired_server_is_refused(server: TLSServer) -> None:
    server.present_expired()
    error = refusal(server.url(), ssl={"ca": server.authority.cert})
    assert type(error) is TLSError
    assert "certificate" in str(error)


def test_an_expired_server_is_refused_whatever_its_name(server: TLSServer) -> None:
    server.present_expired()
    error = refusal(server.url(), ssl={"ca": server.authority.cert, "check_hostname": False})
    assert type(error) is TLSError


def test_a_server_of_another_name_is_refused(server: TLSServer) -> None:
    server.present(server.other_name)
    error = refusal(server.url(), ssl={"ca": server.authority.cert})
    assert type(error) is TLSError
    assert "host" in str(error)


def test_another_name_is_accepted_when_names_are_not_checked(server: TLSServer) -> None:
    server.present(server.other_name)
    options = {"ca": server.authority.cert, "check_hostname": False}
    assert server.use(server.url(), ssl=options) == "TLSv1.3"


def test_another_authority_is_refused_when_names_are_not_checked(server: TLSServer, foreign: Authority) -> None:
    error = refusal(server.url(), ssl={"ca": foreign.cert, "check_hostname": False})
    assert type(error) is TLSError


def test_an_address_in_the_certificate_is_accepted(server: TLSServer) -> None:
    server.present(server.address_only)
    url = server.url(host="127.0.0.1")
    assert server.use(url, ssl={"ca": server.authority.cert}) == "TLSv1.3"


def test_an_address_that_the_certificate_lacks_is_refused(server: TLSServer) -> None:
    server.present(server.other_name)
    error = refusal(server.url(host="127.0.0.1"), ssl={"ca": server.authority.cert})
    assert type(error) is TLSError


def test_a_name_is_not_vouched_for_by_its_address(server: TLSServer) -> None:
    server.present(server.address_only)
    assert type(refusal(server.url(), ssl={"ca": server.authority.cert})) is TLSError


# --- chains


@pytest.fixture(scope="session")
def intermediate(authority: Authority) -> Authority:
    return Authority("test servers, second level", issuer=authority)


def test_a_chain_to_the_root_is_accepted(server: TLSServer, intermediate: Authority) -> None:
    server.present(intermediate.server("localhost"))
    assert server.use(server.url(), ssl={"ca": server.authority.cert}) == "TLSv1.3"


def test_an_intermediate_authority_alone_is_no_root(server: TLSServer, intermediate: Authority) -> None:
    server.present(intermediate.server("localhost"))
    assert type(refusal(server.url(), ssl={"ca": intermediate.cert})) is TLSError


def test_an_authority_made_by_mysql_itself_is_accepted(mysql_server: Server) -> None:
    # It lacks what Python 3.13 asks for by default; the name in its certificates is no host's.
    if mysql_server.container is None:
        pytest.skip("only a container lets us read the server's files")
    ca = mysql_server.run("cat", "/var/lib/mysql/ca.pem")
    with mysql_server.database() as url, sessions.connect(url, ssl={"ca": ca, "check_hostname": False}) as backend:
        assert backend.session("chat").get_items() == []


# --- without verification


@pytest.mark.parametrize("shown", ["good", "other_name", "self_signed"])
def test_true_encrypts_and_trusts_anybody(server: TLSServer, shown: str) -> None:
    server.present(getattr(server, shown))
    assert server.use(server.url(), ssl=True) == "TLSv1.3"


def test_true_trusts_an_expired_server(server: TLSServer) -> None:
    server.present_expired()
    assert server.use(server.url(), ssl=True) == "TLSv1.3"


@pytest.mark.parametrize("options", [{"verify": False}, {"verify": False, "check_hostname": False}])
def test_verify_false_is_like_true(server: TLSServer, options: dict[str, Any]) -> None:
    server.present(server.self_signed)
    assert server.use(server.url(), ssl=options) == "TLSv1.3"


# --- self-signed


def test_a_self_signed_server_is_refused(server: TLSServer) -> None:
    server.present(server.self_signed)
    assert type(refusal(server.url(), ssl={"ca": server.authority.cert})) is TLSError
    assert type(refusal(server.url(), ssl={})) is TLSError


def test_a_self_signed_server_is_accepted_when_pinned(server: TLSServer) -> None:
    server.present(server.self_signed)
    assert server.use(server.url(), ssl={"ca": server.self_signed.cert}) == "TLSv1.3"


def test_a_pinned_server_still_needs_the_right_name(server: TLSServer) -> None:
    pinned = self_signed("db.example.test")
    server.present(pinned)
    assert type(refusal(server.url(), ssl={"ca": pinned.cert})) is TLSError


# --- what a refusal costs


@pytest.mark.parametrize("fault", ["authority", "name"])
def test_a_bad_certificate_is_not_tried_again(server: TLSServer, foreign: Authority, fault: str) -> None:
    server.present(server.good if fault == "authority" else server.other_name)
    ca = foreign.cert if fault == "authority" else server.authority.cert
    with Wire(server.dialect, server.port) as wire:
        refusal(server.url(port=wire.port), ssl={"ca": ca}, max_retries=3, retry_delay=0.01)
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
