"""MySQL and MariaDB, through PyMySQL."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from sessions._dialects.connector import Connector
from sessions._dialects.dialect import Dialect
from sessions._settings.options import Options
from sessions._settings.settings import Settings

from .url import address_from as address_from

NAME = "mysql"
SCHEMES: tuple[str, ...] = ("mysql", "mariadb")
DRIVER = "pymysql"
OWN_OPTIONS: tuple[str, ...] = ("ssl", "password", "multi_statements", "causal_reads", "engine")
DDL_COMMITS = True


def connection_class(driver: ModuleType) -> type:
    """Return the class of the driver's connections."""
    found: type = driver.connections.Connection
    return found


def dialect_for(options: Options) -> Dialect[Any]:
    """Make the dialect, which imports the driver."""
    from .dialect import MySQLDialect

    return MySQLDialect(options)


def dialect_and_connector(settings: Settings) -> tuple[Dialect[Any], Connector[Any]]:
    """Make the dialect and what opens its connections."""
    from .connector import MySQLConnector
    from .dialect import MySQLDialect

    dialect = MySQLDialect(settings.options)
    return dialect, MySQLConnector(settings, dialect.statements, dialect.meet)
