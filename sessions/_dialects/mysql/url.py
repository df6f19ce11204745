"""Read a MySQL or MariaDB URL."""

from __future__ import annotations

from sessions._settings.tls_words import TLS_PARAMETERS
from sessions._settings.url import Address, parse_server
from sessions.errors import InvalidURLError

_KNOWN = ("unix_socket", "charset", "connect_timeout", *TLS_PARAMETERS)


def address_from(rest: str) -> Address:
    """Read what stands behind "mysql:"."""
    address = parse_server("mysql", rest, _KNOWN)
    if len(address.hosts) > 1:
        raise InvalidURLError("a mysql URL takes one host; put a proxy in front of several")
    if address.database is None:
        raise InvalidURLError("the mysql URL names no database; write mysql://user@host/database")
    if address.hosts and address.hosts[0][0] != "localhost" and "unix_socket" in address.parameters:
        raise InvalidURLError("the URL gives both a host and unix_socket; keep one")
    if address.parameters.get("charset", "utf8mb4") != "utf8mb4":
        raise InvalidURLError("the only charset that holds every item is utf8mb4; drop the parameter")
    return address
