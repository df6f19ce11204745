"""Sessions in MySQL and MariaDB, through PyMySQL.

A transaction travels as one packet of several statements, and so takes one round trip;
with multi_statements=False as packets that are sent ahead, and takes two. PyMySQL puts
values into statements on this side: everything that goes into a packet has passed through
its escaping.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pymysql
from pymysql.constants import CLIENT, COMMAND, CR, FIELD_TYPE, SERVER_STATUS

from ._dbapi import DBAPIBackend, Lender, Parameters
from ._mysql_errors import (
    CONNECT_ERRORS,
    CUTS,
    FROM_WITHIN,
    LEAVE,
    MORE_THAN_ONE_ROW,
    UNREADABLE,
    connect_failure,
    describe,
    errno_of,
    statement_failure,
)
from ._options import Options, password_of
from ._pool import Pool, forget_unsent, is_readable
from ._retry import AttemptFailed, Failure
from ._tls import TLS, make_context, read_tls
from ._url import Address
from .backend import Row
from .errors import (
    ConfigurationError,
    DatabaseError,
)

MyConnection = pymysql.connections.Connection
# The rows of a statement, and the first id that it gave to new rows.
Result = tuple[Sequence[Any], int]

# MySQL names the foreign key after the table, `<table>_ibfk_1`, in fewer than 64 characters on MariaDB.
_MAX_MESSAGES_TABLE = 56

# The server gives up a lock so many seconds before we give up the server: its answer
# leaves nothing in doubt.
_HEAD_START = 2

# How many statements of a transaction wait for locks, at most.
_LOCKING_STATEMENTS = 3

# Large batches are cut into packets of about so many bytes, or one item each if that is larger.
_PACKET = 4 * 1024 * 1024

# What a packet holds beside the rows, generously: the statements, the session id twice.
_OVERHEAD = 16_384

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


class MySQLBackend(DBAPIBackend[MyConnection]):
    """Sessions in one MySQL or MariaDB database."""

    dialect = "mysql"
    identifier_quote = "`"
    driver_error = pymysql.Error
    position_statement = "lock_newest_item"

    def __init__(self, where: str, options: Options, lender: Lender[MyConnection]) -> None:
        _check_options(options)
        super().__init__(where, options, lender)
        # What is sent ahead must not be committed by itself: not when the first statement fails, nor behind
        # a deadlock, after which the server has rolled back.
        self._begin: tuple[str, ...] = ("begin",) if options.multi_statements else ("suspend_autocommit", "begin")
        self._commit = "commit" if options.multi_statements else "resume_autocommit"

    @classmethod
    def from_address(cls, address: Address, options: Options) -> MySQLBackend:
        """Make a backend with a pool of its own; sessions.connect() does this."""
        _check_options(options)
        connector = MySQLConnector(address, options, cls.load_statements(options))
        pool: Pool[Any] = Pool(connector, size=options.pool_size, timeout=options.connection_timeout)
        return cls(str(address), options, pool)

    def _bind(self, connection: MyConnection, names: Iterable[str], parameters: Parameters) -> list[str]:
        """Put the parameters, escaped, into statements."""
        escaped = {name: connection.escape(value) for name, value in parameters.items()}
        return [self._statements[name] % escaped for name in names]

    def fetch(self, connection: MyConnection, name: str, parameters: Parameters) -> list[Any]:
        [(rows, _)] = send(connection, *self._bind(connection, [name], parameters))
        return list(rows)

    @contextmanager
    def transaction(self, connection: MyConnection) -> Iterator[None]:
        if self.in_transaction(connection):
            yield
            return
        connection.begin()
        try:
            yield
            connection.commit()
        except BaseException as exc:
            self.close_if_interrupted(connection, exc)
            with suppress(pymysql.Error):
                connection.rollback()
            raise

    def in_transaction(self, connection: MyConnection) -> bool:
        status: int = connection.server_status  # type: ignore[attr-defined]
        return bool(status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def join_transaction(self, connection: MyConnection, *, writes: bool) -> bool:
        if not self.in_transaction(connection) and not connection.get_autocommit():
            connection.begin()
        return self.in_transaction(connection)

    def append(self, connection: MyConnection, session_id: str, texts: Sequence[str], if_position: int | None) -> int:
        if isinstance(connection, PacketConnection):
            newest = self._write(connection, session_id, texts, if_position)
            if newest is not None:
                return newest
        return super().append(connection, session_id, texts, if_position)

    def replace(self, connection: MyConnection, session_id: str, texts: Sequence[str], if_position: int | None) -> int:
        if isinstance(connection, PacketConnection):
            newest = self._write(connection, session_id, texts, if_position, "delete_items")
            if newest is not None:
                return newest
        return super().replace(connection, session_id, texts, if_position)

    def _write(
        self,
        connection: PacketConnection,
        session_id: str,
        texts: Sequence[str],
        if_position: int | None,
        *then: str,
    ) -> int | None:
        """Write the batch as one transaction; None, and nothing is written, when the position is another."""
        parameters = {"session_id": session_id, "position": if_position}
        check = [] if if_position is None else ["check_position"]
        before = self._bind(connection, (*self._begin, "touch_session", *check, *then), parameters)
        try:
            return self.insert(connection, session_id, texts, before=before, then=self._statements[self._commit])
        except pymysql.Error as exc:
            if errno_of(exc) != MORE_THAN_ONE_ROW:
                raise
        connection.rollback()
        return None

    def insert(
        self,
        connection: MyConnection,
        session_id: str,
        texts: Sequence[str],
        *,
        before: Sequence[str] = (),
        then: str | None = None,
    ) -> int:
        """Insert in packets that the server takes; the first and the last carry the rest."""
        limit, step = self._limits(connection)
        statements = list(before)
        count = 0
        for statement, rows in self._packets(connection, session_id, texts, limit - _OVERHEAD):
            if count:
                send(connection, *statements)
                statements.clear()
            statements.append(statement)
            count = rows
        results = send(connection, *statements, then=then) if statements else []
        # The ids of one INSERT keep the server's step, and its answer tells the first.
        return results[len(statements) - 1][1] + (count - 1) * step if count else 0

    def _packets(
        self, connection: MyConnection, session_id: str, texts: Sequence[str], limit: int
    ) -> Iterator[tuple[str, int]]:
        """Cut a batch into INSERT statements, each with its number of rows."""
        head, _, row = self._statements["insert_item"].rpartition("VALUES")
        escaped_id = connection.escape(session_id)
        rows: list[str] = []
        room = min(limit, _PACKET)
        for text in texts:
            values = row % {"session_id": escaped_id, "message_data": connection.escape(text)}
            size = len(values) + 1 if values.isascii() else len(values.encode()) + 1
            if size > limit:
                raise DatabaseError(
                    f"an item takes {size} bytes, more than the server's max_allowed_packet of "
                    f"{limit + _OVERHEAD}; raise it or make the item smaller"
                )
            if size > room and rows:
                yield head + "VALUES" + ",".join(rows), len(rows)
                rows.clear()
                room = min(limit, _PACKET)
            rows.append(values)
            room -= size
        if rows:
            yield head + "VALUES" + ",".join(rows), len(rows)

    def _limits(self, connection: MyConnection) -> tuple[int, int]:
        """Return the bytes that a packet may have, and the step from one id to the next."""
        if isinstance(connection, PacketConnection):
            return connection.packet_limit, connection.id_step
        [(limit, step)] = self.fetch(connection, "packet_limit", {})
        return int(limit), int(step)

    def pop(self, connection: MyConnection, session_id: str) -> Row | None:
        parameters = {"session_id": session_id}
        if isinstance(connection, PacketConnection):
            names = (*self._begin, "lock_session", "lock_newest_item", "delete_newest_item")
            results = send(connection, *self._bind(connection, names, parameters), then=self._statements[self._commit])
            rows, _ = results[names.index("lock_newest_item")]
            return rows[0] if rows else None
        with self.transaction(connection):
            self.fetch(connection, "lock_session", parameters)
            rows = self.fetch(connection, "lock_newest_item", parameters)
            if not rows:
                return None
            self.fetch(connection, "delete_item", {"session_id": session_id, "id": rows[0][0]})
            return rows[0]  # type: ignore[no-any-return]

    def delete(self, connection: MyConnection, session_id: str) -> None:
        names = ("lock_session", "delete_items", "delete_session")
        if isinstance(connection, PacketConnection):
            statements = self._bind(connection, (*self._begin, *names), {"session_id": session_id})
            send(connection, *statements, then=self._statements[self._commit])
            return
        with self.transaction(connection):
            for name in names:
                self.fetch(connection, name, {"session_id": session_id})

    def server_session(self, connection: MyConnection) -> int | None:
        return connection.thread_id()  # type: ignore[no-untyped-call, no-any-return]

    def close_if_interrupted(self, connection: MyConnection, exc: BaseException) -> None:
        if not isinstance(exc, FROM_WITHIN):
            connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001

    def rival_state(self, connection: MyConnection, number: int, age: float) -> bool | None:
        [(_, uptime)] = self.fetch(connection, "uptime", {})
        # After a restart the numbers begin anew. The time is whole seconds, rounded down.
        return super().rival_state(connection, number, age) if int(uptime) + 1 >= age else None

    def failure(self, exc: Exception) -> Failure:
        return statement_failure(exc)

    def describe(self, exc: BaseException) -> str:
        return describe(exc)


def _check_options(options: Options) -> None:
    if max(map(len, options.messages_table.split("."))) > _MAX_MESSAGES_TABLE:
        raise ConfigurationError(
            f"messages_table {options.messages_table!r} is too long for the name of its foreign key; "
            f"use at most {_MAX_MESSAGES_TABLE} characters"
        )


def _pymysql_tls(tls: TLS | None) -> dict[str, Any]:
    # Exactly one of the two, or neither for the driver's default: PyMySQL takes an empty
    # or misspelt setting for "TLS if the server has it, and never mind the certificate".
    if tls is None or tls.mode == "prefer":
        return {}
    return {"ssl": make_context(tls)} if tls.required else {"ssl_disabled": True}
