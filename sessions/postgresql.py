"""Sessions in PostgreSQL, through psycopg 3.

One autocommitted statement, and so one round trip, for each common operation: writes
use data-modifying CTEs. Nothing depends on the state of a server session, so a pooler
in transaction mode may stand between.
"""

from __future__ import annotations

import math
import os
import socket
import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import zip_longest
from time import monotonic
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from ._dbapi import DBAPIBackend, Parameters
from ._options import Options, password_of
from ._pool import Pool, forget_unsent, is_readable
from ._postgresql_errors import LEAVE, connect_failure, describe, statement_failure
from ._retry import AttemptFailed, Failure
from ._tls import TLS, KeyFiles, libpq_parameters, make_context, read_tls
from ._url import TLS_PARAMETERS, Address
from .backend import Row
from .errors import (
    ConfigurationError,
    TLSError,
)

PGConnection = psycopg.Connection[Any]

# After so many uses on a connection a statement is prepared there, as psycopg does by default.
_PREPARE_AFTER = 5

# A larger batch, in characters, is a transaction of several statements: libpq and the server hold each of
# them as a whole, and take none above 1 GB.
_STATEMENT = 16 * 1024 * 1024

# How long a cancelled statement may take to say so.
_CANCEL_SECONDS = 1.0


class _TextArray(bytearray):
    """A text[] in PostgreSQL's binary form, which psycopg makes of a list in several times as long."""

    def __init__(self, texts: Sequence[str]) -> None:
        # Dimensions, no NULL among them, their type; then elements and first subscript of the one dimension.
        super().__init__(struct.pack("!5I", 1, 0, _TEXT_OID, len(texts), 1))
        for text in texts:
            element = text.encode()
            self += len(element).to_bytes(4, "big")
            self += element


_TEXT_OID = 25
_TEXT_ARRAY_OID = 1009


class _TextArrayDumper(psycopg.adapt.Dumper):
    format = psycopg.pq.Format.BINARY
    oid = _TEXT_ARRAY_OID

    def dump(self, obj: _TextArray) -> _TextArray:
        return obj


class TimedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection on which no statement waits for ever; psycopg itself has no such limit."""

    statement_timeout: float

    def __del__(self, *_: Any) -> None:
        """Say nothing: the pool closes it, or it is another process's."""

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        return super().wait(_bounded(gen, self.statement_timeout, self._cancel), *args, **kwargs)

    def _cancel(self) -> None:
        with suppress(psycopg.Error):
            self.cancel_safe(timeout=_CANCEL_SECONDS)


def _bounded(
    generator: Generator[Any, Any, Any], seconds: float, cancel: Callable[[], None]
) -> Generator[Any, Any, Any]:
    """Cancel what takes too long, and give up when even that is not answered.

    A server that is well answers whether the statement was cancelled or done, so that nothing is in doubt.
    """
    deadline, cancelled = monotonic() + seconds, False
    try:
        wanted = next(generator)
        while True:
            ready = yield wanted
            if not ready and monotonic() > deadline:
                if cancelled:
                    raise psycopg.OperationalError(f"no answer within statement_timeout ({seconds:g} s)")
                cancel()
                deadline, cancelled = monotonic() + _CANCEL_SECONDS, True
            wanted = generator.send(ready)
    except StopIteration as exc:
        return exc.value
    except psycopg.errors.QueryCanceled:
        if not cancelled:
            raise
        raise psycopg.errors.LockNotAvailable(f"no answer within statement_timeout ({seconds:g} s)") from None


class PostgresConnector:
    """Opens connections to one address."""

    quiesce_at_fork = False
    close_at_fork = False

    def __init__(self, address: Address, options: Options) -> None:
        self._options = options
        self._files = KeyFiles()
        tls = read_tls(options.ssl, address.parameters)
        self._requires_tls = tls is not None and tls.required
        try:
            self._parameters = _libpq(address, options, tls, self._files)
        except BaseException:
            self._files.close()
            raise

    def open(self) -> TimedConnection:
        parameters = self._parameters
        if self._options.password is not None:
            parameters = parameters | {"password": password_of(self._options.password)}
        try:
            connection = TimedConnection.connect(
                autocommit=True,
                prepare_threshold=_PREPARE_AFTER if self._options.prepared_statements else None,
                **parameters,
            )
        except psycopg.Error as exc:
            # A copy: psycopg's own carries the connection's settings, password included.
            raise AttemptFailed(connect_failure(exc), type(exc)(str(exc))) from None
        if self._requires_tls and not connection.pgconn.ssl_in_use:
            connection.close()
            raise AttemptFailed(
                Failure(TLSError, "name the host in the URL"), psycopg.OperationalError("the connection has no TLS")
            )
        connection.adapters.register_dumper(_TextArray, _TextArrayDumper)
        connection.statement_timeout = self._options.statement_timeout
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection

    def close(self, connection: TimedConnection) -> None:
        with suppress(psycopg.Error):
            connection.close()

    def is_alive(self, connection: TimedConnection) -> bool:
        return not connection.closed and not is_readable(connection.fileno())

    def restore(self, connection: TimedConnection, exc: BaseException) -> bool:
        if connection.closed:
            return False
        status = connection.pgconn.transaction_status
        if status == TransactionStatus.ACTIVE:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=_CANCEL_SECONDS)
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as end:
                forget_unsent(end)
        sqlstate = getattr(exc, "sqlstate", None) or ""
        return isinstance(exc, Exception) and status == TransactionStatus.IDLE and not sqlstate.startswith(LEAVE)

    def abandon(self, connection: TimedConnection) -> None:
        # psycopg ends no session of another process; the descriptor is a copy of ours.
        _inherited.append(connection)
        if not connection.closed:
            os.close(connection.fileno())

    def release(self) -> None:
        self._files.close()


_inherited: list[TimedConnection] = []


class PostgresBackend(DBAPIBackend[PGConnection]):
    """Sessions in one PostgreSQL database."""

    dialect = "postgresql"
    identifier_quote = '"'
    driver_error = psycopg.Error

    @classmethod
    def from_address(cls, address: Address, options: Options) -> PostgresBackend:
        """Make a backend with a pool of its own; sessions.connect() does this."""
        connector = PostgresConnector(address, options)
        pool: Pool[Any] = Pool(connector, size=options.pool_size, timeout=options.connection_timeout)
        return cls(str(address), options, pool)

    def fetch(self, connection: PGConnection, name: str, parameters: Parameters) -> list[Any]:
        own = isinstance(connection, TimedConnection)
        if not own and connection.pgconn.pipeline_status:
            raise ConfigurationError("the connection is in pipeline mode; leave the pipeline first")
        # An application's connection may have another row factory, and prepare what is repeated,
        # which a pooler in transaction mode breaks.
        cursor = psycopg.Cursor(connection, row_factory=tuple_row)
        cursor.execute(self._statements[name], parameters or None, prepare=None if own else False)
        # What cursor.description says too, which would make an object of each column.
        return cursor.fetchall() if cursor.pgresult is not None and cursor.pgresult.nfields else []

    def transaction(self, connection: PGConnection) -> AbstractContextManager[object]:
        if not connection.autocommit and not self.in_transaction(connection):
            # psycopg begins by itself; whoever lent the connection ends it.
            return nullcontext()
        return connection.transaction()

    def in_transaction(self, connection: PGConnection) -> bool:
        return connection.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def join_transaction(self, connection: PGConnection, *, writes: bool) -> bool:
        # Without autocommit psycopg begins by itself.
        return self.in_transaction(connection) or not connection.autocommit

    def insert(self, connection: PGConnection, session_id: str, texts: Sequence[str]) -> int:
        newest = 0
        for part in _parts(texts):
            parameters = {"session_id": session_id, "items": _array(connection, part)}
            newest = self._insert(connection, "insert_items", parameters)
        return newest

    def append(self, connection: PGConnection, session_id: str, texts: Sequence[str], if_position: int | None) -> int:
        if _is_large(texts):
            return super().append(connection, session_id, texts, if_position)
        parameters = {"session_id": session_id, "items": _array(connection, texts), "position": if_position}
        if if_position is None:
            return self._insert(connection, "append_items", parameters)
        newest = self._insert(connection, "append_items_at", parameters)
        # Nothing was written: a conflict, or a writer that came and went; this tells.
        return newest or super().append(connection, session_id, texts, if_position)

    def replace(self, connection: PGConnection, session_id: str, texts: Sequence[str], if_position: int | None) -> int:
        if _is_large(texts):
            return super().replace(connection, session_id, texts, if_position)
        parameters = {"session_id": session_id, "items": _array(connection, texts), "position": if_position}
        [(newest, written)] = self.fetch(connection, "replace_items", parameters)
        return (newest or 0) if written else super().replace(connection, session_id, texts, if_position)

    def _insert(self, connection: PGConnection, name: str, parameters: Parameters) -> int:
        rows = self.fetch(connection, name, parameters)
        return rows[-1][0] if rows else 0

    def pop(self, connection: PGConnection, session_id: str) -> Row | None:
        [(row_id, text, _)] = self._in_turn(connection, "pop_item", {"session_id": session_id})
        return None if row_id is None else (row_id, text)

    def delete(self, connection: PGConnection, session_id: str) -> None:
        self._in_turn(connection, "delete_session", {"session_id": session_id})

    def _in_turn(self, connection: PGConnection, name: str, parameters: Parameters) -> list[Any]:
        """Execute a statement that ends with whether it was its turn; wait for that under the session row's lock."""
        rows = self.fetch(connection, name, parameters)
        if rows[0][-1]:
            return rows
        with self.transaction(connection):
            self.fetch(connection, "lock_session", parameters)
            return self.fetch(connection, name, parameters)

    def create_tables(self, connection: PGConnection) -> None:
        with self.transaction(connection):
            self.fetch(connection, "lock_schema", {})
            super().create_tables(connection)

    def server_session(self, connection: PGConnection) -> int | None:
        return connection.pgconn.backend_pid

    def failure(self, exc: Exception) -> Failure:
        return statement_failure(exc)

    def describe(self, exc: BaseException) -> str:
        return describe(exc)


def _is_large(texts: Sequence[str]) -> bool:
    return sum(map(len, texts)) > _STATEMENT


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut a batch into parts of at most a statement's size; an item that is larger is a part of its own."""
    start = room = 0
    for end, text in enumerate(texts):
        room -= len(text)
        if room < 0:
            if end > start:
                yield texts[start:end]
            start, room = end, _STATEMENT - len(text)
    if start < len(texts):
        yield texts[start:]


def _array(connection: PGConnection, texts: Sequence[str]) -> Sequence[str] | _TextArray:
    # An application's connection does not know our kind.
    return _TextArray(texts) if isinstance(connection, TimedConnection) else list(texts)


def _libpq(address: Address, options: Options, tls: TLS | None, files: KeyFiles) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        name: value for name, value in address.parameters.items() if name not in TLS_PARAMETERS["postgresql"]
    }
    if tls is not None:
        if tls.required and _may_be_local(address):
            raise ConfigurationError(
                "TLS is required, but this may lead to a Unix socket, where libpq ignores it; name the host in the URL"
            )
        make_context(tls)  # shows now what libpq would say at the first connection
        parameters |= libpq_parameters(tls, files)
    hosts = [host for host, _ in address.hosts]
    if any(hosts):
        parameters["host"] = ",".join(hosts)
    if any(port for _, port in address.hosts):
        parameters["port"] = ",".join(str(port or "") for _, port in address.hosts)
    parameters.setdefault("fallback_application_name", "agent-sql-sessions")
    parameters |= {
        "dbname": address.database,
        "user": address.user,
        # libpq reads a smaller number as 2.
        "connect_timeout": max(2, math.ceil(options.connection_timeout)),
        # The rows of a database in another encoding arrive as str all the same.
        "client_encoding": "utf8",
    }
    return {name: value for name, value in parameters.items() if value is not None}


def _may_be_local(address: Address) -> bool:
    """Tell whether libpq could take one of the hosts for a Unix socket; an empty one is its default socket."""
    numbers = address.parameters.get("hostaddr", "").split(",")
    names = [host for host, _ in address.hosts]
    if not any(names) and not any(numbers):
        # A service may name a socket, and comes before the environment's host.
        names = [] if {"service", "PGSERVICE"} & {*address.parameters, *os.environ} else [os.environ.get("PGHOST", "")]
    count = max(len(names), len(numbers))
    pairs = zip_longest(names[:count], numbers[:count], fillvalue="")
    return any(not number and (not name or name.startswith(("/", "@"))) for name, number in pairs)
