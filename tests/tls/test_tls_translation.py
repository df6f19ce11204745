"""One set of TLS settings, said to Python's ssl and to libpq: both have to mean the same."""

import datetime
import os
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from sessions import TLSError
from sessions._dialects.postgresql.libpq import tls_parameters
from sessions._settings.certificates import validity_of
from sessions._settings.key_files import KeyFiles
from sessions._settings.tls import TLS, make_context, read_tls
from sessions._settings.tls_words import TLS_PARAMETERS
from sessions._settings.url import parse_parameters
from tls.authority import DAY, Authority, Identity
from tls.refusals import KEY_PASSWORD


@pytest.fixture
def files() -> Iterator[KeyFiles]:
    files = KeyFiles()
    yield files
    files.close()


@pytest.fixture
def root(authority: Authority, tmp_path: Path) -> Path:
    """The authority's certificate as a file."""
    path = tmp_path / "root.pem"
    path.write_text(authority.cert)
    return path


def read(option: Any = None, parameters: dict[str, str] | None = None) -> TLS:
    tls = read_tls(option, parameters or {})
    assert tls is not None
    return tls


# --- settings to the neutral value


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        (True, "require"),
        (False, "disable"),
        ({}, "verify-full"),
        ({"verify": True}, "verify-full"),
        ({"check_hostname": True}, "verify-full"),
        ({"check_hostname": False}, "verify-ca"),
        ({"verify": False}, "require"),
        ({"verify": False, "check_hostname": False}, "require"),
        ("sslmode=disable", "disable"),
        ("sslmode=allow", "prefer"),
        ("sslmode=prefer", "prefer"),
        ("sslmode=require", "require"),
        ("sslmode=verify-ca", "verify-ca"),
        ("sslmode=verify-full", "verify-full"),
        ("ssl-mode=DISABLED", "disable"),
        ("ssl-mode=PREFERRED", "prefer"),
        ("ssl-mode=REQUIRED", "require"),
        ("ssl-mode=VERIFY_CA", "verify-ca"),
        ("ssl-mode=VERIFY_IDENTITY", "verify-full"),
        ("ssl-mode=verify_identity", "verify-full"),
        ("sslmode=verify-full&sslrootcert=system", "verify-full"),
    ],
    ids=str,
)
def test_an_option_or_a_url_has_a_mode(said: Any, mode: str) -> None:
    tls = read(None, parse_parameters("mysql", said, TLS_PARAMETERS)) if isinstance(said, str) else read(said)
    assert tls.mode == mode


def test_a_root_alone_means_full_verification(authority: Authority, root: Path) -> None:
    assert read(None, {"sslrootcert": str(root)}) == read({"ca": authority.cert})


def test_a_root_with_require_verifies_as_in_libpq(root: Path) -> None:
    assert read(None, {"sslmode": "require", "sslrootcert": str(root)}).mode == "verify-ca"


@pytest.mark.parametrize("parameters", [{}, {"application_name": "a"}, {"sslsni": "0"}], ids=str)
def test_no_settings_are_the_drivers_default(parameters: dict[str, str]) -> None:
    assert read_tls(None, parameters) is None


def test_every_form_of_a_root_is_the_same_value(authority: Authority, root: Path) -> None:
    forms: list[Any] = [authority.cert, authority.cert.encode(), bytearray(authority.cert.encode()), root, str(root)]
    forms += [ssl.PEM_cert_to_DER_cert(authority.cert), f"# a comment\n{authority.cert}\ntrailing words"]
    values = [read({"ca": form}) for form in forms]
    roots = [ssl.PEM_cert_to_DER_cert((value.ca or b"").decode()) for value in values]
    assert roots == [ssl.PEM_cert_to_DER_cert(authority.cert)] * len(forms)


def test_a_line_end_of_windows_is_understood(authority: Authority, client: Identity) -> None:
    settings = {"ca": authority.cert, "cert": client.cert, "key": client.key}
    make_context(read({name: text.replace("\n", "\r\n") for name, text in settings.items()}))


def test_nothing_secret_is_in_the_values_repr(authority: Authority, client: Identity) -> None:
    settings = {"ca": authority.cert, "cert": client.cert, "key": client.key, "key_password": KEY_PASSWORD}
    shown = repr(read(settings))
    assert "PRIVATE KEY" not in shown
    assert KEY_PASSWORD not in shown


# --- for PyMySQL


@pytest.mark.parametrize(
    ("option", "verify_mode", "check_hostname"),
    [
        (True, ssl.CERT_NONE, False),
        ({"verify": False}, ssl.CERT_NONE, False),
        ({"check_hostname": False}, ssl.CERT_REQUIRED, False),
        ({}, ssl.CERT_REQUIRED, True),
    ],
    ids=str,
)
def test_a_context_checks_what_the_option_says(option: Any, verify_mode: ssl.VerifyMode, check_hostname: bool) -> None:
    context = make_context(read(option))
    assert context.verify_mode is verify_mode
    assert context.check_hostname is check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_the_given_roots_all_of_them_replace_those_of_the_system(authority: Authority, foreign: Authority) -> None:
    for roots in ([authority.cert], [authority.cert, foreign.cert]):
        found = make_context(read({"ca": "".join(roots)})).get_ca_certs(binary_form=True)
        assert sorted(found) == sorted(map(ssl.PEM_cert_to_DER_cert, roots))


def test_python_is_as_strict_as_libpq(authority: Authority) -> None:
    flags = make_context(read({"ca": authority.cert})).verify_flags
    assert not flags & ssl.VERIFY_X509_STRICT
    assert not flags & getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0)


def test_a_ready_context_is_not_touched() -> None:
    context = ssl.create_default_context()
    assert make_context(read(context)) is context


# --- for libpq


@pytest.mark.parametrize("option", [True, {}, {"check_hostname": False}, {"verify": False}], ids=str)
def test_libpq_gets_what_keeps_its_habits_out(option: Any, authority: Authority, files: KeyFiles) -> None:
    tls = read(option if option is True else {**option, **({"ca": authority.cert} if "verify" not in option else {})})
    parameters = tls_parameters(tls, files)
    assert parameters["sslmode"] == tls.mode
    assert parameters["gssencmode"] == "disable"
    # Those of the home directory, or of the environment, would be used otherwise.
    assert not Path(parameters["sslcert"]).exists()
    assert not Path(parameters["sslkey"]).exists()
    assert Path(parameters["sslrootcert"]).exists() is tls.verified


def test_libpq_gets_the_material_as_files(authority: Authority, client: Identity, files: KeyFiles) -> None:
    settings = {"ca": authority.cert, "cert": client.cert, "key": client.key, "key_password": KEY_PASSWORD}
    parameters = tls_parameters(read(settings), files)
    assert Path(parameters["sslrootcert"]).read_text() == authority.cert
    assert Path(parameters["sslcert"]).read_text() == client.cert
    assert Path(parameters["sslkey"]).read_text() == client.key
    assert parameters["sslpassword"] == KEY_PASSWORD


def test_libpq_never_asks_for_a_keys_password(client: Identity, files: KeyFiles) -> None:
    # It asks when it has none, and takes an empty one for none.
    parameters = tls_parameters(read({"verify": False, "cert": client.cert, "key": client.key}), files)
    assert parameters["sslpassword"]


@pytest.mark.parametrize("mode", ["disable", "prefer"])
def test_libpq_gets_no_more_than_the_mode_when_nothing_is_required(mode: str, files: KeyFiles) -> None:
    assert tls_parameters(read(None, {"sslmode": mode}), files) == {"sslmode": mode}


def test_libpq_gets_a_contexts_roots_and_versions(authority: Authority, files: KeyFiles) -> None:
    context = ssl.create_default_context(cadata=authority.cert)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    parameters = tls_parameters(read(context), files)
    assert Path(parameters["sslrootcert"]).read_text() == authority.cert
    assert parameters["ssl_min_protocol_version"] == "TLSv1.3"
    assert parameters["ssl_max_protocol_version"] == "TLSv1.3"


# --- the files


def test_a_file_is_for_its_user_alone_and_can_be_read_again(files: KeyFiles) -> None:
    path = Path(files.add(b"secret"))
    assert [path.read_bytes() for _ in range(3)] == [b"secret"] * 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    files.close()  # and once more by the fixture


def test_without_files_in_memory_they_are_private_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Authority, client: Identity
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    files = KeyFiles()
    tls = read({"ca": authority.cert, "cert": client.cert, "key": client.key})
    make_context(tls)
    assert list(tmp_path.iterdir()) == []
    key = Path(tls_parameters(tls, files)["sslkey"])
    assert key.parent == tmp_path
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    files.close()
    assert list(tmp_path.iterdir()) == []


# --- dates in certificates

# ASN.1 writes the years to 2049 with two digits and the later ones with four.
YEARS = st.integers(min_value=-20 * 365, max_value=60 * 365)


@given(since=YEARS, length=st.integers(min_value=1, max_value=30 * 365))
def test_the_dates_of_a_certificate_are_read(authority: Authority, since: int, length: int) -> None:
    identity = authority.client("app", since=since * DAY, until=(since + length) * DAY)
    parsed = x509.load_pem_x509_certificate(identity.cert.encode())
    assert validity_of(ssl.PEM_cert_to_DER_cert(identity.cert)) == (
        parsed.not_valid_before_utc.timestamp(),
        parsed.not_valid_after_utc.timestamp(),
    )


@given(data=st.data())
def test_a_damaged_certificate_is_a_tls_error(authority: Authority, data: st.DataObject) -> None:
    der = bytearray(ssl.PEM_cert_to_DER_cert(authority.cert))
    at = data.draw(st.integers(min_value=0, max_value=len(der) - 1))
    der[at] = data.draw(st.integers(min_value=0, max_value=255))
    cut = data.draw(st.integers(min_value=0, max_value=len(der)))
    try:
        since, until = validity_of(bytes(der[:cut]))
    except TLSError:
        return
    assert isinstance(since, float)
    assert isinstance(until, float)


def test_a_certificate_in_its_last_minute_is_in_date(clients: Authority) -> None:
    client = clients.client("app", until=datetime.timedelta(minutes=1))
    make_context(read({"verify": False, "cert": client.cert, "key": client.key}))
