"""Read a MySQL or MariaDB URL; what it says of several hosts it says in libpq's words."""

from __future__ import annotations

from sessions._settings.tls_words import TLS_PARAMETERS
from sessions._settings.url import Address, parse_server
from sessions.errors import InvalidURLError

_WORDS = {
    "target_session_attrs": ("any", "read-write", "primary", "read-only", "standby", "prefer-standby"),
    "load_balance_hosts": ("disable", "random"),
}
_KNOWN = ("unix_socket", "charset", "connect_timeout", *_WORDS, *TLS_PARAMETERS)


def address_from(rest: str) -> Address:
    """Read what stands behind "mysql:"."""
    address = parse_server("mysql", rest, _KNOWN)
    if address.database is None:
        raise InvalidURLError("the mysql URL names no database; write mysql://user@host/database")
    if len(address.hosts) > 1 and not all(host for host, _ in address.hosts):
        raise InvalidURLError("the mysql URL has a host without a name among several; drop a comma, or name it")
    if [host for host, _ in address.hosts] not in ([], ["localhost"]) and "unix_socket" in address.parameters:
        raise InvalidURLError("the URL gives both a host and unix_socket; keep one")
    if address.parameters.get("charset", "utf8mb4") != "utf8mb4":
        raise InvalidURLError("the only charset that holds every item is utf8mb4; drop the parameter")
    for name, words in _WORDS.items():
        if address.parameters.get(name, words[0]) not in words:
            raise InvalidURLError(f"{name} in the URL is no word that is known; use one of {', '.join(words)}")
    return address
