"""SQLite, through the standard library's sqlite3."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from sessions._dialects.connector import Connector
from sessions._dialects.dialect import Dialect
from sessions._settings.options import Options
from sessions._settings.settings import Settings

from .url import address_from as address_from

NAME = "sqlite"
SCHEMES: tuple[str, ...] = ("sqlite",)
DRIVER = "sqlite3"
OWN_OPTIONS: tuple[str, ...] = ()
DDL_COMMITS = False


def connection_class(driver: ModuleType) -> type:
    """Return the class of the driver's connections."""
    found: type = driver.Connection
    return found


def dialect_for(options: Options) -> Dialect[Any]:
    """Make the dialect, which imports the driver."""
    from .dialect import SQLiteDialect

    return SQLiteDialect(options)


def dialect_and_connector(settings: Settings) -> tuple[Dialect[Any], Connector[Any]]:
    """Make the dialect and what opens its connections."""
    from .connector import FileConnector, MemoryConnector
    from .dialect import SQLiteDialect

    dialect = SQLiteDialect(settings.options)
    path = settings.address.database
    if path is None:
        return dialect, MemoryConnector(dialect.writers)
    return dialect, FileConnector(path, settings.options, dialect.statements, dialect.writers)
