"""Connections to MySQL and MariaDB, ready after one round trip beyond the handshake."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pymysql
from pymysql.constants import CLIENT

from sessions._dialects.failures import AttemptFailed, raised_by_a_handler
from sessions._dialects.sockets import is_readable
from sessions._settings.options import password_of
from sessions._settings.settings import Settings
from sessions._settings.tls import TLS, make_context
from sessions.errors import ConfigurationError

from .errors import CONNECT_ANEW_AFTER, CONNECT_ERRORS, RAISED_WITH_ALL_ANSWERS_READ, connect_failure, errno_of
from .packets import PacketConnection, end_statement, raise_a_handlers
from .values import DECODERS

# The server gives up a lock so many seconds before we give up the server: its answer
# leaves nothing in doubt.
_HEAD_START = 2

# How many statements of a transaction wait for locks, at most.
_LOCKING_STATEMENTS = 3

_CONVERSIONS: dict[Any, Any] = {**pymysql.converters.encoders, **DECODERS}


class MySQLConnector:
    """Opens connections to one address."""

    max_connections: int | None = None
    quiesce_at_fork = False
    close_at_fork = False

    def __init__(self, settings: Settings, statements: Mapping[str, str]) -> None:
        address, options = settings.address, settings.options
        self._options = options
        lock_timeout = int(options.statement_timeout) - _HEAD_START
        if not options.multi_statements:
            # What was sent ahead waits for the lock once more.
            lock_timeout //= _LOCKING_STATEMENTS
        self._prepare = [
            statements["use_utf8"],
            statements["prepare_connection"] % {"lock_timeout": max(1, lock_timeout)},
            statements["use_repeatable_read"],
            statements["packet_limit"],
        ]
        self._still_busy = statements["still_busy"]
        host, port = address.hosts[0] if address.hosts else ("localhost", None)
        self._parameters: dict[str, Any] = {
            "host": host,
            "port": port or 3306,
            "user": address.user,
            "database": address.database,
            "unix_socket": address.parameters.get("unix_socket"),
            **_pymysql_tls(settings.tls),
        }

    def open(self) -> PacketConnection:
        # Asked for outside: its own errors are the application's.
        password = "" if self._options.password is None else password_of(self._options.password)
        handled = sys.exc_info()[1]
        try:
            connection = PacketConnection(
                **self._parameters,
                # As bytes: PyMySQL would encode a str as Latin-1.
                password=password.encode(),
                charset="utf8mb4",
                use_unicode=False,
                conv=_CONVERSIONS,
                autocommit=None,
                client_flag=CLIENT.MULTI_STATEMENTS if self._options.multi_statements else 0,
                connect_timeout=self._options.connection_timeout,
                # Without these a server that accepts and then hangs is waited for without end.
                read_timeout=self._options.connection_timeout,
                write_timeout=self._options.connection_timeout,
            )
            connection.multi_statements = self._options.multi_statements
            connection.prepare(self._prepare, self._options.statement_timeout, self._options.engine)
        except ConfigurationError:
            raise  # by what was understood: the next clause is for what was not
        except CONNECT_ERRORS as exc:
            if raised_by_a_handler(exc):
                raise
            raise_a_handlers(exc, handled)
            # A copy: the frames behind the driver's own hold the password.
            cause = type(exc)(*exc.args) if isinstance(exc, pymysql.Error) else pymysql.OperationalError(str(exc))
            raise AttemptFailed(connect_failure(exc), cause) from None
        return connection

    def close(self, connection: PacketConnection) -> None:
        with suppress(pymysql.Error):
            connection.close()

    def is_alive(self, connection: PacketConnection) -> bool:
        return connection.open and not is_readable(connection.fileno())

    def restore(self, connection: PacketConnection, exc: BaseException) -> bool:
        # After anything else, such as a signal handler's exception, an answer may still be on its way.
        if not isinstance(exc, RAISED_WITH_ALL_ANSWERS_READ):
            connection.drop()
            end_statement(connection, self._still_busy)
            return False
        if not connection.open or errno_of(exc) in CONNECT_ANEW_AFTER:
            return False
        try:
            # After an error in the middle of a packet its transaction is still open.
            connection.rollback()
        except pymysql.Error:
            return False
        return True

    def inherit(self, idle: Sequence[PacketConnection], busy: Sequence[PacketConnection | None]) -> None:
        for connection in (*idle, *busy):
            # One that the parent was about to drop must not keep the child from the rest.
            with suppress(Exception):
                if connection is not None:
                    connection.forget()

    def release(self) -> None:
        pass


def _pymysql_tls(tls: TLS | None) -> dict[str, Any]:
    # Exactly one of the two, or neither for the driver's default: PyMySQL takes an empty
    # or misspelt setting for "TLS if the server has it, and never mind the certificate".
    if tls is None or tls.mode == "prefer":
        return {}
    if tls.context is not None and tls.crl is not None:
        raise ConfigurationError("the URL gives sslcrl beside an SSLContext; load the list into the context")
    return {"ssl": make_context(tls)} if tls.required else {"ssl_disabled": True}
