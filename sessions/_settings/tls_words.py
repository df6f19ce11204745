"""The words for TLS in a URL: libpq's, and what other clients call the same.

One that is understood means the same for every server. One that is not is answered with the
word that says it here.
"""

from __future__ import annotations

from collections.abc import Collection

# libpq's names.
TLS_PARAMETERS = (
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
)

# In small letters and with underscores, which tell none of these apart.
_SAME = {name: name for name in TLS_PARAMETERS} | {
    "ssl": "sslmode",  # asyncpg, node-postgres and JDBC
    "ssl_mode": "sslmode",
    "ssl_ca": "sslrootcert",
    "ssl_cert": "sslcert",
    "ssl_key": "sslkey",
    "ssl_key_password": "sslpassword",
    "ssl_crl": "sslcrl",
}
# What stands for a mode as the value of "ssl" alone.
_SWITCHES = {"true": "require", "1": "require", "false": "disable", "0": "disable"}

_VERIFY = "say sslmode=verify-full (certificate and name), verify-ca (certificate) or require (neither)"
_SWITCH = "say sslmode=require or sslmode=disable"
_ROOT = "say sslrootcert= and the path of one file of certificates"
_VERSION = "say ssl_min_protocol_version=TLSv1.2 or TLSv1.3"
_CIPHERS = "pass an ssl.SSLContext as ssl=, for MySQL and MariaDB"
# The MySQL and MariaDB clients, PyMySQL, mysqlclient, SQLAlchemy, JDBC, Go, Node.js, Prisma.
_SAID_OTHERWISE = {
    **dict.fromkeys(
        (
            *("ssl_verify_cert", "ssl_verify_identity", "ssl_verify_server_cert", "ssl_check_hostname", "sslaccept"),
            *("verifyservercertificate", "trustservercertificate", "disablesslhostnameverification"),
            *("rejectunauthorized", "tls_mode", "tlsmode", "tls"),
        ),
        _VERIFY,
    ),
    **dict.fromkeys(("ssl_disabled", "skip_ssl", "usessl", "requiressl", "use_ssl"), _SWITCH),
    **dict.fromkeys(
        ("ssl_capath", "sslcapath", "serversslcert", "truststore", "trustcertificatekeystoreurl", "sslca"), _ROOT
    ),
    **dict.fromkeys(("tls_version", "tls_versions", "tlsversions", "enabledtlsprotocols", "sslprotocol"), _VERSION),
    **dict.fromkeys(
        ("ssl_cipher", "ssl_ciphers", "tls_ciphersuites", "enabledsslciphersuites", "tlsciphersuites"), _CIPHERS
    ),
    **dict.fromkeys(("ssl_passphrase", "sslkeypassword"), "say sslpassword="),
    **dict.fromkeys(("sslcrldir", "ssl_crlpath"), "say sslcrl= and the path of one file of revocation lists"),
    "sslidentity": "say sslcert= and sslkey=",
    **dict.fromkeys(
        ("sslnegotiation", "sslcompression", "sslsni", "sslcertmode", "sslkeylogfile"),
        "leave it out, it is for PostgreSQL",
    ),
}


def canonical(name: str, value: str) -> tuple[str, str]:
    """Return a parameter in libpq's words if it is one for TLS that is understood, else as it is."""
    plain = name.lower().replace("-", "_")
    if plain == "ssl":
        value = _SWITCHES.get(value.lower(), value)
    return _SAME.get(plain, name), value


def hint_for(name: str, known: Collection[str]) -> str | None:
    """Say how an unknown parameter for TLS is said here; None for one that is none."""
    plain = name.lower().replace("-", "_")
    if plain in _SAID_OTHERWISE:
        return _SAID_OTHERWISE[plain]
    if plain.startswith(("ssl", "tls")):
        return f"the words for TLS are {', '.join(word for word in TLS_PARAMETERS if word in known)}"
    return None
