"""Read a PostgreSQL URL, as libpq does (PostgreSQL manual, "Connection URIs")."""

from __future__ import annotations

from dataclasses import replace

from sessions._settings.url import TLS_PARAMETERS, Address, parse_server
from sessions.errors import InvalidURLError

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
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
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
    # "ssl" is asyncpg's name for sslmode.
    address = parse_server("postgresql", rest, (*_PARTS, "ssl", *TLS_PARAMETERS, *_LIBPQ))
    parameters = dict(address.parameters)
    if "ssl" in parameters:
        if "sslmode" in parameters:
            raise InvalidURLError("the URL gives both ssl and sslmode, which mean the same; keep one")
        mode = parameters.pop("ssl")
        parameters["sslmode"] = {"true": "require", "false": "disable"}.get(mode, mode)
    return replace(address, parameters=parameters)
