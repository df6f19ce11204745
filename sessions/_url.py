"""Turn a database URL into an Address.

Nothing is guessed: a parameter that we do not know is an error, never ignored.
No message quotes a part of the URL that could be, or be mistaken for, a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from .errors import InvalidURLError

_DIALECTS = {
    "sqlite": "sqlite",
    "memory": "memory",
    "postgres": "postgresql",
    "postgresql": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}

TLS_PARAMETERS = {
    # libpq's names, understood for every server
    "postgresql": ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword"),
    # and those of the MySQL clients
    "mysql": (
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "sslpassword",
        "ssl-mode",
        "ssl-ca",
        "ssl-cert",
        "ssl-key",
    ),
}

# PostgreSQL manual, "Parameter Key Words", less those that this library decides
# (client_encoding, replication) and the host parts of the URL, which stand below.
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

_PARAMETERS: dict[str, tuple[str, ...]] = {
    "sqlite": (),
    "memory": (),
    "postgresql": ("host", "port", "dbname", "user", "password", "ssl", *TLS_PARAMETERS["postgresql"], *_LIBPQ),
    "mysql": ("unix_socket", "charset", "connect_timeout", *TLS_PARAMETERS["mysql"]),
}

_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Address:
    """Where a database is and how to get in, as the URL says it."""

    dialect: str
    database: str | None = None  # for sqlite the file's path, None for :memory:
    hosts: tuple[tuple[str, int | None], ...] = ()
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """Say where, without who."""
        if self.dialect == "memory":
            return "memory:"
        if self.dialect == "sqlite":
            return _printable(f"sqlite:{self.database or ':memory:'}")
        hosts = ",".join(
            (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "") for host, port in self.hosts
        )
        return _printable(f"{self.dialect}://{hosts or self.parameters.get('unix_socket', '')}/{self.database or ''}")


def _printable(text: str) -> str:
    """Escape what would begin a new line in a log or speak to a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def parse(url: str) -> Address:
    """Read a URL; raise InvalidURLError for anything that is not exactly understood."""
    if not isinstance(url, str):
        raise InvalidURLError(f"the URL is a {type(url).__name__}; pass a str such as 'sqlite:chat.db'")
    scheme, colon, rest = url.partition(":")
    name = scheme.lower().partition("+")[0]
    if not colon or name not in _DIALECTS:
        shown = f" {scheme!r}" if colon and re.fullmatch(r"[A-Za-z][\w+.-]*", scheme) else ""
        raise InvalidURLError(f"unknown URL scheme{shown}; use one of {', '.join(f'{n}:' for n in _DIALECTS)}")
    if "\0" in url:
        raise InvalidURLError("the URL contains a NUL character; remove it")
    dialect = _DIALECTS[name]
    if dialect == "memory":
        if rest not in ("", "//"):
            raise InvalidURLError("a memory: URL has nothing after the colon; write 'memory:'")
        return Address("memory")
    if dialect == "sqlite":
        return _parse_file(rest)
    return _parse_server(dialect, rest)


def _parse_file(rest: str) -> Address:
    path, _, query = rest.partition("?")
    _parse_parameters("sqlite", query)
    if path.startswith("///"):
        path = path[3:]
    elif path == "//":  # SQLAlchemy's spelling of a database in memory
        path = ":memory:"
    elif path.startswith("//"):
        raise InvalidURLError("a sqlite URL has no host; write sqlite:///relative.db or sqlite:////absolute.db")
    path = _decode(path, "path")
    if not path:
        raise InvalidURLError("the sqlite URL names no file; write sqlite:chat.db or sqlite::memory:")
    return Address("sqlite", None if path == ":memory:" else path)


def _parse_server(dialect: str, rest: str) -> Address:
    if not rest.startswith("//"):
        raise InvalidURLError(f"a {dialect} URL continues with two slashes; write {dialect}://user@host/database")
    if "#" in rest:
        raise InvalidURLError("the URL contains '#'; write %23 for a '#' in a user, password or database")
    authority, _, query = rest[2:].partition("?")
    authority, _, path = authority.partition("/")
    userinfo, at, hostinfo = authority.rpartition("@")
    if not at and "@" in path + query.partition("&")[0].partition("=")[0]:
        raise InvalidURLError("the user or password contains '/' or '?'; write %2F or %3F there")
    user, has_password, password = userinfo.partition(":")
    if "/" in path:
        raise InvalidURLError("the database name contains '/'; write %2F for a slash in a name")
    parameters = _parse_parameters(dialect, query)
    if dialect == "postgresql":
        _apply_libpq_parts(parameters, hostinfo, path, user, has_password)
    hosts = _parse_hosts(parameters.pop("host", None), parameters.pop("port", None), hostinfo)
    address = Address(
        dialect,
        parameters.pop("dbname", None) or _decode(path, "database") or None,
        hosts,
        parameters.pop("user", None) or _decode(user, "user") or None,
        parameters.pop("password", None) if not has_password else _decode(password, "password"),
        parameters,
    )
    if dialect == "mysql":
        _check_mysql(address)
    return address


def _apply_libpq_parts(parameters: Mapping[str, str], hosts: str, database: str, user: str, password: str) -> None:
    """Refuse a part that stands both before the '?' and behind it."""
    for name, part in (("host", hosts), ("port", hosts), ("dbname", database), ("user", user), ("password", password)):
        if part and name in parameters:
            raise InvalidURLError(f"the URL gives parameter {name!r} and the same part before the '?'; keep one")


def _check_mysql(address: Address) -> None:
    if len(address.hosts) > 1:
        raise InvalidURLError("a mysql URL takes one host; put a proxy in front of several")
    if address.database is None:
        raise InvalidURLError("the mysql URL names no database; write mysql://user@host/database")
    if address.hosts and address.hosts[0][0] != "localhost" and "unix_socket" in address.parameters:
        raise InvalidURLError("the URL gives both a host and unix_socket; keep one")
    if address.parameters.get("charset", "utf8mb4") != "utf8mb4":
        raise InvalidURLError("the only charset that holds every item is utf8mb4; drop the parameter")


def _parse_hosts(host: str | None, port: str | None, hostinfo: str) -> tuple[tuple[str, int | None], ...]:
    if host is not None:
        names = host.split(",")
        ports = (port or "").split(",")
        if len(ports) not in (1, len(names)):
            raise InvalidURLError("the URL gives another number of ports than of hosts; give one, or one each")
        ports = ports * len(names) if len(ports) == 1 else ports
        return tuple((name, _parse_port(number)) for name, number in zip(names, ports, strict=True))
    if not hostinfo:
        return (("", _parse_port(port)),) if port else ()
    return tuple(_parse_host(part) for part in hostinfo.split(","))


def _parse_host(part: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%25[\w.]+)?)\]|([^:\[\]]*))(?::(.*))?", part)
    if match is None:
        raise InvalidURLError(
            "the host cannot be read; put an IPv6 address in brackets, "
            "and write %3A and %40 for ':' and '@' in a password"
        )
    literal, name, port = match.groups()
    return _decode(literal or name, "host"), _parse_port(port)


def _parse_port(port: str | None) -> int | None:
    if not port:
        return None
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise InvalidURLError("the port is not a number from 1 to 65535; is a ':' or '/' in the password not encoded?")
    return int(port)


def _parse_parameters(dialect: str, query: str) -> dict[str, str]:
    known = _PARAMETERS[dialect]
    parameters: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        name = _decode(name, "parameter")
        if name.startswith("ssl_") and dialect == "mysql":  # SQLAlchemy's spelling
            name = name.replace("_", "-")
        if name not in known:
            use = (
                f"use one of {', '.join(known)}"
                if known
                else f"{dialect} URLs take none, write %3F for a '?' in a name"
            )
            if "@" in query or not re.fullmatch(r"[A-Za-z][\w-]{0,39}", name):
                raise InvalidURLError(f"unknown parameter for {dialect}; is a '?' in the password not written as %3F?")
            raise InvalidURLError(f"unknown parameter {name!r} for {dialect}; {use}")
        if not equals:
            raise InvalidURLError(f"parameter {name!r} has no value; write {name}=value")
        if name in parameters:
            raise InvalidURLError(f"parameter {name!r} is given twice; keep one")
        parameters[name] = _decode(value, name)
    if "ssl" in parameters:  # asyncpg's name for sslmode
        if "sslmode" in parameters:
            raise InvalidURLError("the URL gives both ssl and sslmode, which mean the same; keep one")
        mode = parameters.pop("ssl")
        parameters["sslmode"] = {"true": "require", "false": "disable"}.get(mode, mode)
    return parameters


def _decode(text: str, part: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise InvalidURLError(f"the {part} has a '%' that is no percent-encoding; write %25 for a '%'")
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidURLError(f"the {part} is not percent-encoded UTF-8; encode it with urllib.parse.quote") from None
    if "\0" in decoded:
        raise InvalidURLError(f"the {part} contains a NUL character; remove it")
    return decoded
