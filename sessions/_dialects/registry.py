"""The dialects that there are, and what is known of each before its driver is imported."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, Protocol

from sessions._settings.options import Options
from sessions._settings.settings import Settings
from sessions._settings.url import Address, split_scheme
from sessions.errors import ConfigurationError, InvalidURLError

from . import mysql, postgresql, sqlite
from .connector import Connector
from .dialect import Dialect


class DialectPackage(Protocol):
    """What the folder of a dialect offers."""

    NAME: str
    SCHEMES: tuple[str, ...]
    DRIVER: str  # its DB-API module
    OWN_OPTIONS: tuple[str, ...]  # of the options that not every dialect has
    DDL_COMMITS: bool  # making a table would commit the open transaction

    def address_from(self, rest: str) -> Address:
        """Read a URL behind its scheme."""

    def connection_class(self, driver: ModuleType) -> type:
        """Return the class of the driver's connections."""

    def dialect_for(self, options: Options) -> Dialect[Any]:
        """Make the dialect, which imports the driver."""

    def dialect_and_connector(self, settings: Settings) -> tuple[Dialect[Any], Connector[Any]]:
        """Make the dialect and what opens its connections."""


_DIALECTS: tuple[DialectPackage, ...] = (sqlite, postgresql, mysql)
_SCHEMES: dict[str, DialectPackage | None] = {
    "sqlite": sqlite,
    "memory": None,
    **{scheme: dialect for dialect in _DIALECTS for scheme in dialect.SCHEMES},
}

# How to get at the driver's connection inside a wrapper, by the wrapper's class or the package of that.
_INSIDE = {
    "builtins.NoneType": "in Django it is there after connection.ensure_connection()",
    "django": "it is inside: connection.ensure_connection(); bind(connection.connection)",
    # In the block, because a Connection that has executed nothing itself commits nothing in its own commit().
    "sqlalchemy": (
        "it is inside: with engine.begin() as connection: bind(connection.connection.driver_connection), "
        "and of a Session: bind(session.connection().connection.driver_connection)"
    ),
}


def parse(url: str) -> tuple[Address, DialectPackage | None]:
    """Read a URL, and say whose it is, None for memory; raise InvalidURLError for what is not exactly understood."""
    scheme, rest = split_scheme(url, _SCHEMES)
    dialect = _SCHEMES[scheme]
    if dialect is not None:
        return dialect.address_from(rest), dialect
    if rest not in ("", "//"):
        raise InvalidURLError("a memory: URL has nothing after the colon; write 'memory:'")
    return Address("memory"), None


def dialect_of(connection: object) -> DialectPackage:
    """Tell whose driver made a connection; raise ConfigurationError for another kind of object."""
    for dialect in _DIALECTS:
        # Its driver is imported already: nothing is loaded to find out.
        driver = sys.modules.get(dialect.DRIVER)
        # By its type: isinstance() believes a proxy's __class__.
        if driver is not None and issubclass(type(connection), dialect.connection_class(driver)):
            return dialect
    remedy = "pass a connection of sqlite3, psycopg 3 or pymysql"
    kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
    ancestors = {cls.__module__.partition(".")[0] for cls in type(connection).__mro__}
    for wrapper, where in _INSIDE.items():
        if wrapper == kind or wrapper in ancestors:
            remedy += f"; {where}"
    raise ConfigurationError(f"a {kind} cannot be used; {remedy}")


def dialect_behind(exc: Exception, options: Options) -> Dialect[Any] | None:
    """Tell whose driver has raised an exception, None when it is of no driver."""
    package = type(exc).__module__.partition(".")[0]
    found = next((dialect for dialect in _DIALECTS if dialect.DRIVER.partition(".")[0] == package), None)
    return None if found is None else found.dialect_for(options)
