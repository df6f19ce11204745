"""How values get into a statement and out of an answer, by psycopg's own conversions and none of the application's.

The rule: only what a statement of ours asks for is converted. Whole numbers and texts are; all
else, times among it, arrives as PostgreSQL writes it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.adapt import AdaptersMap, Loader
from psycopg.rows import tuple_row
from psycopg.types import bool as boolean
from psycopg.types import none, numeric, string

from sessions.errors import ConfigurationError

from .arrays import TextArray, TextArrayDumper

if TYPE_CHECKING:
    from psycopg.abc import Buffer

# Encodings of a client that psycopg and the server read alike, and that hold ASCII as it is.
_ENCODINGS = (b"UTF8", b"LATIN1")


class _NumberLoader(Loader):
    """Load a whole number as an int: ids that are NUMERIC, as in tables that came from elsewhere."""

    def load(self, data: Buffer) -> int | Decimal:
        number = Decimal(str(data, "ascii"))
        return int(number) if number.is_finite() and number == number.to_integral_value() else number


def _adapters() -> AdaptersMap:
    # psycopg's own map of all connections may have been changed.
    adapters = AdaptersMap()
    psycopg.postgres.register_default_types(adapters.types)
    for kind in (string, numeric, boolean, none):
        kind.register_default_adapters(adapters)
    adapters.register_dumper(TextArray, TextArrayDumper)
    # As text, not as whatever a parameter is compared with first: an id would be cut to what a NAME holds, say, and
    # then be found equal to the one that was cut.
    adapters.register_dumper(str, string.StrDumper)
    adapters.register_loader("numeric", _NumberLoader)
    return adapters


ADAPTERS = _adapters()


class PlainCursor(psycopg.Cursor[tuple[Any, ...]]):
    """A cursor to which neither the connection's adapters and row factory nor psycopg's global ones apply."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection, row_factory=tuple_row)

    @property
    def adapters(self) -> AdaptersMap:
        return ADAPTERS


def check_encoding(connection: psycopg.Connection[Any]) -> None:
    """Raise ConfigurationError where a text could arrive as another one; in SJIS, a yen sign is a backslash."""
    encoding = connection.pgconn.parameter_status(b"client_encoding") or b"UTF8"
    if encoding not in _ENCODINGS:
        raise ConfigurationError(
            f"the connection's client_encoding is {encoding.decode('ascii', 'replace')!r}, in which two texts may be "
            "the same bytes; execute SET client_encoding TO 'UTF8' on it"
        )
