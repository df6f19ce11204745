"""A word for TLS in a URL, whoever's it is, is understood for every server or answered with the right one."""

import psycopg
import pytest

import sessions
from sessions import InvalidURLError
from sessions._dialects.registry import parse
from support.claims import refused
from tls.authority import Identity

each_scheme = pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])


@each_scheme
@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("sslmode=require", {"sslmode": "require"}),
        ("sslMode=VERIFY_CA", {"sslmode": "VERIFY_CA"}),
        ("ssl-mode=REQUIRED", {"sslmode": "REQUIRED"}),
        ("ssl_mode=VERIFY_IDENTITY", {"sslmode": "VERIFY_IDENTITY"}),
        ("ssl=true", {"sslmode": "require"}),
        ("ssl=0", {"sslmode": "disable"}),
        ("ssl=verify-full", {"sslmode": "verify-full"}),
        ("ssl-ca=a", {"sslrootcert": "a"}),
        ("ssl_ca=a&ssl_cert=b&ssl_key=c", {"sslrootcert": "a", "sslcert": "b", "sslkey": "c"}),
        ("sslrootcert=a&sslcert=b&sslkey=c&sslpassword=d",
         {"sslrootcert": "a", "sslcert": "b", "sslkey": "c", "sslpassword": "d"}),
        ("ssl_key_password=d", {"sslpassword": "d"}),
        ("ssl-crl=e", {"sslcrl": "e"}),
        ("ssl_min_protocol_version=TLSv1.3", {"ssl_min_protocol_version": "TLSv1.3"}),
    ],
)  # fmt: skip
def test_it_is_understood_for_every_server(scheme: str, said: str, meant: dict[str, str]) -> None:
    assert parse(f"{scheme}://host/chat?{said}")[0].parameters == meant


@each_scheme
@pytest.mark.parametrize(
    ("said", "words"),
    [
        *((name, "sslmode=verify-full") for name in (
            "tls_mode", "tls-mode", "tls", "ssl_verify_cert", "ssl-verify-server-cert", "ssl_verify_identity",
            "ssl_check_hostname", "verifyServerCertificate", "trustServerCertificate", "rejectUnauthorized",
            "sslaccept",
        )),
        *((name, "sslmode=disable") for name in ("ssl_disabled", "skip-ssl", "useSSL", "requireSSL", "requiressl")),
        *((name, "sslrootcert=") for name in ("ssl-capath", "ssl_capath", "serverSslCert", "trustStore")),
        *((name, "ssl_min_protocol_version=") for name in ("tls-version", "tls_versions", "enabledTLSProtocols")),
        *((name, "SSLContext") for name in ("ssl-cipher", "ssl_cipher", "tls-ciphersuites")),
        *((name, "sslpassword") for name in ("ssl-passphrase",)),
        *((name, "sslmode, sslrootcert, sslcert") for name in ("ssl-fips-mode", "tls-sni-servername", "sslfactory")),
    ],
)  # fmt: skip
def test_it_is_answered_with_the_right_one(scheme: str, said: str, words: str) -> None:
    with refused(InvalidURLError, match=words):
        sessions.connect(f"{scheme}://host/chat?{said}=true")


@pytest.mark.parametrize("said", ["sslnegotiation", "sslsni", "sslcertmode", "sslkeylogfile", "sslcompression"])
def test_what_only_libpq_has_is_said_to_be_its_own(said: str) -> None:
    with refused(InvalidURLError, match="for PostgreSQL"):
        sessions.connect(f"mysql://host/chat?{said}=1")


@each_scheme
@pytest.mark.parametrize(
    "said", ["sslmode=require&ssl-mode=REQUIRED", "ssl_ca=a&sslrootcert=b", "ssl=1&sslmode=disable"]
)
def test_two_words_for_the_same_are_refused(scheme: str, said: str) -> None:
    with refused(InvalidURLError, match="twice"):
        sessions.connect(f"{scheme}://host/chat?{said}")


_since_libpq_16 = pytest.mark.skipif(psycopg.pq.version() < 160000, reason="a word of libpq 16")


@pytest.mark.parametrize("said", ["gssencmode=require", pytest.param("sslcertmode=disable", marks=_since_libpq_16)])
def test_what_the_url_says_to_libpq_alone_is_not_overruled_in_silence(said: str, client: Identity) -> None:
    options = {"verify": False, "cert": client.cert + client.key}
    with refused(sessions.ConfigurationError, match=said.partition("=")[0]):
        sessions.connect(f"postgresql://host/chat?{said}", ssl=options)


@each_scheme
@pytest.mark.parametrize("mode", ["require", "verify-ca", "prefer", "disable"])
def test_the_systems_roots_are_for_names_that_are_verified(scheme: str, mode: str) -> None:
    with refused(InvalidURLError, match="sslmode=verify-full alone"):
        sessions.connect(f"{scheme}://host/chat?sslmode={mode}&sslrootcert=system")
    sessions.connect(f"{scheme}://host/chat?sslrootcert=system").close()
