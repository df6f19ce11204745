"""Read a SQLite URL: the path of a file, or :memory:."""

from __future__ import annotations

from sessions._settings.url import Address, decode, parse_parameters
from sessions.errors import InvalidURLError


def address_from(rest: str) -> Address:
    """Read what stands behind "sqlite:"."""
    path, _, query = rest.partition("?")
    parse_parameters("sqlite", query)
    if path.startswith("///"):
        path = path[3:]
    elif path == "//":  # SQLAlchemy's spelling of a database in memory
        path = ":memory:"
    elif path.startswith("//"):
        raise InvalidURLError("a sqlite URL has no host; write sqlite:///relative.db or sqlite:////absolute.db")
    path = decode(path, "path")
    if path.startswith("file:") or (path.startswith(":") and path != ":memory:"):
        # Not quoted: a password may stand there by mistake.
        raise InvalidURLError(
            "a name that begins with ':' or 'file:' means something else to SQLite; write sqlite:chat.db or "
            "sqlite::memory:, or sqlite:./ and the name if the file is called so"
        )
    if path == "memory:":
        raise InvalidURLError("'memory:' would be a file; write sqlite::memory: or, without SQLite, memory:")
    if not path or path.endswith("/"):
        raise InvalidURLError("the sqlite URL names no file; write sqlite:chat.db or sqlite::memory:")
    return Address("sqlite", None if path == ":memory:" else path)
