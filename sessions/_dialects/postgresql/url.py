"""Read a PostgreSQL URL, as libpq does (PostgreSQL manual, "Connection URIs")."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from sessions._settings.tls_words import TLS_PARAMETERS
from sessions._settings.url import Address, parse_server

# PostgreSQL manual, "Parameter Key Words", less those that this library decides
# (client_encoding, replication).
_LIBPQ = (
    "application_name",
    "channel_binding",
    "connect_timeout",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "options",
    "passfile",
    "require_auth",
    "requirepeer",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "sslcertmode",
    "sslcompression",
    "sslcrldir",
    "sslkeylogfile",
    "sslnegotiation",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
)
# PostgreSQL manual, "Environment Variables": what says how strict TLS is to be, or may say so elsewhere.
_ENVIRONMENT = {
    "PGSERVICE": "service",
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
    "PGSSLCERTMODE": "sslcertmode",
    "PGSSLCRL": "sslcrl",
    "PGSSLCRLDIR": "sslcrldir",
    "PGSSLMINPROTOCOLVERSION": "ssl_min_protocol_version",
    "PGSSLMAXPROTOCOLVERSION": "ssl_max_protocol_version",
}
_PARTS = ("host", "port", "dbname", "user", "password")


def address_from(rest: str) -> Address:
    """Read what stands behind "postgresql:"."""
    address = parse_server("postgresql", rest, (*_PARTS, *TLS_PARAMETERS, *_LIBPQ))
    return replace(address, surroundings=_surroundings())


def _surroundings() -> dict[str, str]:
    words = {word: value for name, word in _ENVIRONMENT.items() if (value := os.environ.get(name))}
    # Any weaker word gives way to TLS, which comes first then.
    if os.environ.get("PGGSSENCMODE") == "require":
        words["gssencmode"] = "require"
    # libpq's own default for a mode that is asked for; without one it is not to be found unasked.
    root = Path(os.path.expanduser("~/.postgresql/root.crt"))  # noqa: PTH111  (which raises where there is no home)
    if "sslmode" in words and "sslrootcert" not in words and root.is_file():
        words["sslrootcert"] = str(root)
    return words
