"""PostgreSQL, through psycopg 3."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from sessions._dialects.connector import Connector
from sessions._dialects.dialect import Dialect
from sessions._settings.options import Options
from sessions._settings.settings import Settings

from .url import address_from as address_from

NAME = "postgresql"
SCHEMES: tuple[str, ...] = ("postgres", "postgresql")
DRIVER = "psycopg"
OWN_OPTIONS: tuple[str, ...] = ("ssl", "password", "prepared_statements", "engine")
DDL_COMMITS = False


def connection_class(driver: ModuleType) -> type:
    """Return the class of the driver's connections."""
    found: type = driver.Connection
    return found


def dialect_for(options: Options) -> Dialect[Any]:
    """Make the dialect, which imports the driver."""
    from .dialect import PostgresDialect

    return PostgresDialect(options)


def dialect_and_connector(settings: Settings) -> tuple[Dialect[Any], Connector[Any]]:
    """Make the dialect and what opens its connections."""
    from .connector import PostgresConnector
    from .dialect import PostgresDialect

    dialect = PostgresDialect(settings.options)
    return dialect, PostgresConnector(settings, dialect.prepared)
