"""What this machine offers and sets for TLS means the same for every server, or for none."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sessions import TLSError
from sessions._settings.material import system_roots
from support.claims import refused
from tls.authority import Authority, Identity
from tls.refusals import refusal
from tls.tls_server import PostgreSQL, TLSServer

# --- the roots of this machine


def in_a_file(folder: Path, cert: str) -> dict[str, str]:
    (folder / "roots.pem").write_text(f"# roots\n{cert}")
    return {"SSL_CERT_FILE": str(folder / "roots.pem"), "SSL_CERT_DIR": str(folder / "none")}


def in_a_directory(folder: Path, cert: str) -> dict[str, str]:
    hashed = subprocess.run(
        ["openssl", "x509", "-noout", "-hash"], input=cert, capture_output=True, text=True, check=True
    ).stdout.strip()
    (folder / "hashed").mkdir()
    (folder / "hashed" / f"{hashed}.0").write_text(cert)
    directories = os.pathsep.join(str(folder / name) for name in ("none", "hashed"))
    return {"SSL_CERT_FILE": str(folder / "none.pem"), "SSL_CERT_DIR": directories}


each_place = pytest.mark.parametrize("place", [in_a_file, in_a_directory])


@each_place
def test_a_root_of_this_machine_is_trusted_by_every_driver(
    server: TLSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Callable[[Path, str], dict[str, str]]
) -> None:
    for name, value in place(tmp_path, server.authority.cert).items():
        monkeypatch.setenv(name, value)
    assert server.use(server.url(), ssl={}) == "TLSv1.3"
    assert server.use(server.url(query={"sslmode": "verify-full"})) == "TLSv1.3"


@each_place
def test_another_root_of_this_machine_is_no_help(
    server: TLSServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    foreign: Authority,
    place: Callable[[Path, str], dict[str, str]],
) -> None:
    for name, value in place(tmp_path, foreign.cert).items():
        monkeypatch.setenv(name, value)
    assert type(refusal(server.url(), ssl={})) is TLSError


def test_a_server_that_vouches_for_itself_can_be_a_root_of_this_machine(
    server: TLSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.present(server.self_signed)
    for name, value in in_a_file(tmp_path, server.self_signed.cert).items():
        monkeypatch.setenv(name, value)
    assert server.use(server.url(), ssl={}) == "TLSv1.3"


def test_a_machine_without_roots_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with refused(TLSError, match="ca"):
        system_roots()


# --- OpenSSL's configuration

_USE = """
import sys, sessions
url, root = sys.argv[1:]
with sessions.connect(url, ssl={"ca": root}, max_retries=0) as backend:
    backend.session("chat").get_items()
    print("connected", flush=True)
    input()
"""


def test_the_newest_version_that_openssls_configuration_allows_holds_for_every_driver(
    server: TLSServer, tmp_path: Path
) -> None:
    settings, root = tmp_path / "openssl.cnf", tmp_path / "root.pem"
    settings.write_text("openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMaxProtocol = TLSv1.2\n")
    root.write_text(server.authority.cert)
    before = server.connections()
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _USE, server.url(), str(root)],
        env=os.environ | {"OPENSSL_CONF": str(settings)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        after = server.connections()
        process.communicate("\n")
    assert {after[number] for number in after if number not in before} == {"TLSv1.2"}


_FLOORS = """
import ssl
from sessions._dialects.postgresql.libpq import tls_parameters
from sessions._settings.key_files import KeyFiles
from sessions._settings.tls import make_context, read_tls
tls = read_tls(True, {})
files = KeyFiles()
print(ssl.create_default_context().minimum_version.name)
print(make_context(tls).minimum_version.name, tls_parameters(tls, files)["ssl_min_protocol_version"])
"""


def test_a_floor_in_openssls_configuration_is_not_lowered(tmp_path: Path) -> None:
    settings = tmp_path / "openssl.cnf"
    settings.write_text("openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMinProtocol = TLSv1.3\n")
    done = subprocess.run(
        [sys.executable, "-P", "-c", _FLOORS],
        env=os.environ | {"OPENSSL_CONF": str(settings)},
        capture_output=True,
        text=True,
        check=True,
    )
    python, ours = done.stdout.splitlines()
    if python != "TLSv1_3":
        pytest.skip("this Python itself lowers it (its option --with-ssl-default-suites)")
    assert ours == "TLSv1_3 TLSv1.3"


# --- libpq's environment and directory


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGSSLMINPROTOCOLVERSION", "TLSv1"),
        ("PGSSLMAXPROTOCOLVERSION", "TLSv1.2"),
        ("PGSSLMAXPROTOCOLVERSION", "TLSv1.1"),
        ("PGSSLCERTMODE", "disable"),
        ("PGSSLCRL", "revoked"),
        ("PGSSLCRLDIR", "revoked"),
        ("HOME", "revoked"),
    ],
)
def test_libpqs_surroundings_change_no_option(
    postgresql: PostgreSQL, client: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    if value == "revoked":
        (tmp_path / ".postgresql").mkdir()
        path = tmp_path / ".postgresql" / "root.crl"
        path.write_text(postgresql.authority.revocations(postgresql.good))
        value = str({"PGSSLCRL": path, "PGSSLCRLDIR": path.parent, "HOME": tmp_path}[name])
    monkeypatch.setenv(name, value)
    options = {"ca": postgresql.authority.cert, "cert": client.cert, "key": client.key}
    assert postgresql.use(postgresql.url("certified"), ssl=options) == "TLSv1.3"


@pytest.mark.parametrize("verified", [True, False])
@pytest.mark.parametrize("value", ["require", "disable", "allow"])
def test_no_mode_of_certificates_in_the_environment_changes_an_option_without_one(
    postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch, verified: bool, value: str
) -> None:
    monkeypatch.setenv("PGSSLCERTMODE", value)
    assert postgresql.use(postgresql.url(), ssl={"ca": postgresql.authority.cert} if verified else True) == "TLSv1.3"


def test_a_client_certificate_that_has_to_be_shown_and_is_missing_is_asked_for(postgresql: PostgreSQL) -> None:
    error = refusal(postgresql.url(query={"sslcertmode": "require"}), ssl=True)
    assert type(error) is TLSError
    assert "client certificate" in str(error).rpartition("; ")[2]


def test_a_client_certificate_may_have_to_be_shown(postgresql: PostgreSQL, client: Identity) -> None:
    options = {"ca": postgresql.authority.cert, "cert": client.cert, "key": client.key}
    assert postgresql.use(postgresql.url("certified", query={"sslcertmode": "require"}), ssl=options) == "TLSv1.3"
