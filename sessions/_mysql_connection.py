"""Connections to MySQL and MariaDB, and how statements travel on them.

The rule: every answer is read, or the connection is given up; an answer left unread would
be taken for the next statement's.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pymysql
from pymysql.constants import CLIENT, COMMAND, CR, FIELD_TYPE

from ._mysql_errors import (
    CONNECT_ERRORS,
    CUTS,
    FROM_WITHIN,
    LEAVE,
    UNREADABLE,
    connect_failure,
    errno_of,
)
from ._options import Options, password_of
from ._pool import forget_unsent, is_readable
from ._retry import AttemptFailed
from ._tls import TLS, make_context, read_tls
from ._url import Address

MyConnection = pymysql.connections.Connection
# The rows of a statement, and the first id that it gave to new rows.
Result = tuple[Sequence[Any], int]

# The server gives up a lock so many seconds before we give up the server: its answer
# leaves nothing in doubt.
_HEAD_START = 2

# How many statements of a transaction wait for locks, at most.
_LOCKING_STATEMENTS = 3

# Times arrive as text, which is read many times faster elsewhere.
_CONVERSIONS = {
    kind: conversion
    for kind, conversion in pymysql.converters.conversions.items()
    if kind not in (FIELD_TYPE.TIMESTAMP, FIELD_TYPE.DATETIME)
}

# For the driver's default, which takes TLS where the server has it.
_OPPORTUNISTIC = make_context(TLS("require"))


class PacketConnection(pymysql.connections.Connection):
    """A connection that is ready after one round trip, with its TLS context built once."""

    packet_limit: int
    id_step: int
    multi_statements: bool
    requires_tls = False
    # What is to be sent together.
    _held: list[bytes] | None = None
    server_capabilities: int
    _sock: socket.socket | None
    _rfile: Any
    _read_timeout: float
    _next_seq_id: int

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """Send nothing: prepare() says it together with the rest."""

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        self.requires_tls = isinstance(sslp, ssl.SSLContext)
        # PyMySQL would load the system's roots anew for each connection, and not use them.
        return sslp if self.requires_tls else _OPPORTUNISTIC

    def _request_authentication(self) -> None:
        # PyMySQL before 1.2 goes on in plain text, password included.
        if self.requires_tls and not self.server_capabilities & CLIENT.SSL:
            raise pymysql.OperationalError(CR.CR_SSL_CONNECTION_ERROR, "the server has no TLS, which is required")
        super()._request_authentication()  # type: ignore[misc]

    def prepare(self, statements: Sequence[str], read_timeout: float) -> None:
        """Send the settings of a new connection and learn the server's packet limit."""
        try:
            *_, (rows, _) = send(self, *statements)
        except BaseException:
            self.drop()
            raise
        [(self.packet_limit, self.id_step)] = rows
        self._read_timeout = read_timeout

    def rollback(self) -> None:
        """Also switch autocommit on again, which is off while statements are sent ahead."""
        super().rollback()
        if not self.get_autocommit():
            self.autocommit(True)

    def send_ahead(self, statements: Sequence[str]) -> list[Result]:
        """Send each statement as a packet of its own, all before the first answer; raise the first error of all."""
        self._held = []
        # The number of each first answer, which is higher behind a statement of several packets.
        turns: list[int] = []
        try:
            for statement in statements:
                self._execute_command(COMMAND.COM_QUERY, statement)  # type: ignore[attr-defined]
                turns.append(self._next_seq_id)
            packets = b"".join(self._held)
        finally:
            self._held = None
        self._write_bytes(packets)
        results: list[Result] = []
        error: pymysql.Error | None = None
        for self._next_seq_id in turns:
            try:
                self._read_query_result()  # type: ignore[attr-defined]
                results.append(_result(self))
            except pymysql.Error as exc:
                error = error or exc
                if not self.open:
                    break
        if error is not None:
            raise error
        return results

    def _write_bytes(self, data: bytes) -> None:
        if self._held is None:
            super()._write_bytes(data)  # type: ignore[misc]
        else:
            self._held.append(data)

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno() if self._sock else -1

    def _force_close(self) -> None:
        # After close() the goodbye is to arrive. Otherwise nothing is, once we have given up on the answer.
        if self._sock is not None and not self._closed:  # type: ignore[attr-defined]
            forget_unsent(self._sock)
        super()._force_close()  # type: ignore[misc]

    def drop(self) -> None:
        """Close the socket without a goodbye to the server."""
        self._force_close()

    def forget(self) -> None:
        """Close without the reader, whose lock a thread of the parent may hold for ever; it then counts as closed."""
        if self._sock is not None:
            self._rfile.raw.close()
            self._sock.close()
        self._rfile = self._sock = None


class MySQLConnector:
    """Opens connections to one address."""

    quiesce_at_fork = False
    close_at_fork = False

    def __init__(self, address: Address, options: Options, statements: Mapping[str, str]) -> None:
        self._options = options
        lock_timeout = int(options.statement_timeout) - _HEAD_START
        if not options.multi_statements:
            # What was sent ahead waits for the lock once more.
            lock_timeout //= _LOCKING_STATEMENTS
        self._prepare = [
            statements["prepare_connection"] % {"lock_timeout": max(1, lock_timeout)},
            statements["use_repeatable_read"],
            statements["packet_limit"],
        ]
        host, port = address.hosts[0] if address.hosts else ("localhost", None)
        self._parameters: dict[str, Any] = {
            "host": host,
            "port": port or 3306,
            "user": address.user,
            "database": address.database,
            "unix_socket": address.parameters.get("unix_socket"),
            **_pymysql_tls(read_tls(options.ssl, address.parameters)),
        }

    def open(self) -> PacketConnection:
        # Asked for outside: its own errors are the application's.
        password = "" if self._options.password is None else password_of(self._options.password)
        try:
            connection = PacketConnection(
                **self._parameters,
                # As bytes: PyMySQL would encode a str as Latin-1.
                password=password.encode(),
                charset="utf8mb4",
                conv=_CONVERSIONS,
                autocommit=None,
                client_flag=CLIENT.MULTI_STATEMENTS if self._options.multi_statements else 0,
                connect_timeout=self._options.connection_timeout,
                # Without these a server that accepts and then hangs is waited for without end.
                read_timeout=self._options.connection_timeout,
                write_timeout=self._options.statement_timeout,
            )
            connection.multi_statements = self._options.multi_statements
            connection.prepare(self._prepare, self._options.statement_timeout)
        except CONNECT_ERRORS as exc:
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
        if not isinstance(exc, FROM_WITHIN):
            return False
        if not connection.open or errno_of(exc) in LEAVE:
            return False
        try:
            # After an error in the middle of a packet its transaction is still open.
            connection.rollback()
        except pymysql.Error:
            return False
        return True

    def abandon(self, connection: PacketConnection) -> None:
        connection.forget()

    def release(self) -> None:
        pass


def send(connection: MyConnection, *statements: str, then: str | None = None) -> list[Result]:
    """Send the statements in one round trip, or with `then` in two; return each one's rows and first inserted id.

    An error keeps `then` from being executed, and in one packet also every statement behind it.
    """
    try:
        if isinstance(connection, PacketConnection) and not connection.multi_statements:
            results = connection.send_ahead(statements)
            return results if then is None else results + _send_packet(connection, then)
        return _send_packet(connection, "; ".join(statements if then is None else (*statements, then)))
    except UNREADABLE as exc:
        connection.close()
        raise pymysql.OperationalError(CR.CR_SERVER_LOST, "the server's answer cannot be read") from exc


def _send_packet(connection: MyConnection, packet: str) -> list[Result]:
    connection.query(packet)
    results = [_result(connection)]
    # Every answer is read: an error left unread would be taken for the next packet's.
    while _answer(connection).has_next:
        connection.next_result()
        results.append(_result(connection))
    if not isinstance(connection, PacketConnection) and _answer(connection).warning_count:
        _refuse_what_was_cut(connection)
    return results


def _answer(connection: MyConnection) -> Any:
    # What a cursor shows, at several times the cost.
    return connection._result  # type: ignore[attr-defined]  # noqa: SLF001


def _result(connection: MyConnection) -> Result:
    answer = _answer(connection)
    return answer.rows or (), answer.insert_id or 0


def _refuse_what_was_cut(connection: MyConnection) -> None:
    """Raise what strict mode would have raised; an application's connection may be without it."""
    connection.query("SHOW WARNINGS")
    for _, errno, message in _result(connection)[0]:
        if errno in CUTS:
            raise pymysql.DataError(errno, message)


def _pymysql_tls(tls: TLS | None) -> dict[str, Any]:
    # Exactly one of the two, or neither for the driver's default: PyMySQL takes an empty
    # or misspelt setting for "TLS if the server has it, and never mind the certificate".
    if tls is None or tls.mode == "prefer":
        return {}
    return {"ssl": make_context(tls)} if tls.required else {"ssl_disabled": True}
