"""Read a PostgreSQL URL, as libpq does (PostgreSQL manual, "Connection URIs")."""

from __future__ import annotations

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
_PARTS = ("host", "port", "dbname", "user", "password")


def address_from(rest: str) -> Address:
    """Read what stands behind "postgresql:"."""
    return parse_server("postgresql", rest, (*_PARTS, *TLS_PARAMETERS, *_LIBPQ))
