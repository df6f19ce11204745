"""Read the parts of a database URL into an Address; each dialect says which it knows.

Nothing is guessed: a parameter that we do not know is an error, never ignored.
No message quotes a part of the URL that could be, or be mistaken for, a password.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from sessions._plain import plain
from sessions.errors import InvalidURLError, kind_of

from .tls_words import canonical, hint_for

_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")

# A label of a host's name is shorter.
_LABEL_END = 64


@dataclass(frozen=True)
class Address:
    """Where a database is and how to get in, as the URL says it."""

    dialect: str
    database: str | None = None  # for sqlite the file's path, None for :memory:
    hosts: tuple[tuple[str, int | None], ...] = ()
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    # What the environment says of TLS, in the words of the parameters.
    surroundings: Mapping[str, str] = field(default_factory=dict, repr=False)

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


def split_scheme(url: object, schemes: Collection[str]) -> tuple[str, str]:
    """Return the scheme, without a "+driver", and what stands behind its colon."""
    url = plain(url)
    if not isinstance(url, str):
        raise InvalidURLError(
            f"the URL is a {kind_of(url)}; pass a str such as 'sqlite:chat.db' "
            "(a connection is for sessions.bind(), a pool for pool=)"
        )
    # What a secret's file, a shell or an editor adds would become a part of a name.
    if url != url.strip():
        raise InvalidURLError(
            "the URL begins or ends with white space, such as the line end of the file that it was read from; "
            "pass url.strip()"
        )
    if not f"{url[:1]}{url[-1:]}".isprintable():
        raise InvalidURLError(
            "the URL begins or ends with an invisible character, such as the byte order mark of the file that it was "
            "read from; remove it"
        )
    scheme, colon, rest = url.partition(":")
    name = scheme.lower().partition("+")[0]
    if not colon or name not in schemes:
        shown = f" {scheme!r}" if colon and re.fullmatch(r"[A-Za-z][\w+.-]*", scheme) else ""
        # A file is named most often; what may hold a password is not repeated.
        if re.fullmatch(r"[^:@]+\.(?:db|sqlite3?)", url):
            raise InvalidURLError(f"{url!r} is no URL; write 'sqlite:{url}'")
        raise InvalidURLError(f"unknown URL scheme{shown}; use one of {', '.join(f'{known}:' for known in schemes)}")
    if "\0" in url:
        raise InvalidURLError("the URL contains a NUL character; remove it")
    return name, rest


def parse_server(dialect: str, rest: str, known: Collection[str]) -> Address:
    """Read user, password, hosts, database and the known parameters.

    host, port, dbname, user and password may be among these, as libpq has it, instead
    of their place in front of the '?'. Those for TLS get libpq's names.
    """
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
    parameters = parse_parameters(dialect, query, known)
    parts = {"host": hostinfo, "port": hostinfo, "dbname": path, "user": user, "password": has_password}
    for name, part in parts.items():
        if part and name in parameters:
            raise InvalidURLError(f"the URL gives parameter {name!r} and the same part before the '?'; keep one")
    hosts = _parse_hosts(parameters.pop("host", None), parameters.pop("port", None), hostinfo)
    return Address(
        dialect,
        parameters.pop("dbname", None) or decode(path, "database") or None,
        hosts,
        parameters.pop("user", None) or decode(user, "user") or None,
        parameters.pop("password", None) if not has_password else decode(password, "password"),
        parameters,
    )


def _parse_hosts(host: str | None, port: str | None, hostinfo: str) -> tuple[tuple[str, int | None], ...]:
    if host is not None:
        names = host.split(",")
        ports = (port or "").split(",")
        if len(ports) not in (1, len(names)):
            raise InvalidURLError("the URL gives another number of ports than of hosts; give one, or one each")
        ports = ports * len(names) if len(ports) == 1 else ports
        return tuple((_checked_host(name), _parse_port(number)) for name, number in zip(names, ports, strict=True))
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
    return decode(literal, "host") if literal else _checked_host(decode(name, "host")), _parse_port(port)


def _checked_host(name: str) -> str:
    """Return a host's name; raise InvalidURLError for what is none (RFC 1035, 2.3.4); a path is that of a socket."""
    labels = name.removesuffix(".").split(".")
    if name and not name.startswith(("/", "@")) and not all(0 < len(label) < _LABEL_END for label in labels):
        raise InvalidURLError("the host is no name: between two dots stand 1 to 63 characters; correct it")
    return name


def _parse_port(port: str | None) -> int | None:
    if not port:
        return None
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise InvalidURLError("the port is not a number from 1 to 65535; is a ':' or '/' in the password not encoded?")
    return int(port)


def parse_parameters(dialect: str, query: str, known: Collection[str] = ()) -> dict[str, str]:
    """Read what stands behind the '?'; raise InvalidURLError for a name that is not known."""
    parameters: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        name = decode(name, "parameter")
        if name not in known:
            name, value = canonical(name, value)
        if name not in known:
            raise _unknown_parameter(dialect, name, query, known)
        if not equals:
            raise InvalidURLError(f"parameter {name!r} has no value; write {name}=value")
        if name in parameters:
            raise InvalidURLError(f"parameter {name!r} is given twice; keep one")
        parameters[name] = decode(value, name)
    return parameters


def _unknown_parameter(dialect: str, name: str, query: str, known: Collection[str]) -> InvalidURLError:
    if "@" in query or not re.fullmatch(r"[A-Za-z][\w-]{0,39}", name):
        return InvalidURLError(f"unknown parameter for {dialect}; is a '?' in the password not written as %3F?")
    if known and (hint := hint_for(name, known)) is not None:
        return InvalidURLError(f"unknown parameter {name!r} for {dialect}; {hint}")
    use = f"use one of {', '.join(known)}" if known else f"{dialect} URLs take none, write %3F for a '?' in a name"
    return InvalidURLError(f"unknown parameter {name!r} for {dialect}; {use}")


def decode(text: str, part: str) -> str:
    """Undo the percent-encoding of a part."""
    if _BAD_ESCAPE.search(text):
        raise InvalidURLError(f"the {part} has a '%' that is no percent-encoding; write %25 for a '%'")
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidURLError(f"the {part} is not percent-encoded UTF-8; encode it with urllib.parse.quote") from None
    if "\0" in decoded:
        raise InvalidURLError(f"the {part} contains a NUL character; remove it")
    return decoded
