"""Connections to PostgreSQL on which nothing waits for ever."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from time import monotonic
from typing import Any

import psycopg
from psycopg import pq
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.waiting import Ready, wait_selector

from sessions._dialects.connector import unwrap
from sessions._dialects.failures import (
    AttemptFailed,
    Failure,
    Opened,
    is_an_applications,
    is_of_an_answer,
    raise_a_handlers,
)
from sessions._dialects.sockets import Deadline, forget_unsent, is_readable, waiting_bytes
from sessions._engines import check_postgresql
from sessions._reentry import own, suppress_own, uninterrupted
from sessions._settings.key_files import KeyFiles
from sessions._settings.options import password_of
from sessions._settings.settings import Settings
from sessions.errors import TLSError

from .errors import CONNECT_ANEW_AFTER, NO_ANSWER, SET_READ_ONLY, UNREPLICATED
from .libpq import libpq_parameters, with_host_first
from .prepared import Prepared, can_prepare
from .refusals import connect_failure
from .sqlstates import SQLStateConnection

# How long a cancelled statement may take to say so.
CANCEL_SECONDS = 1.0

# Where PostgreSQL warns, while it reports success, that a commit is on this server alone.
_WAIT_FOR_STANDBY = "SyncRepWaitForLSN"

# How often a wait looks at its deadline.
_INTERVAL_SECONDS = 0.1

# Connections inherited through fork(), kept from being closed.
_inherited: list[TimedConnection] = []


class Notices:
    """What a server says beside its answers, in whatever language."""

    def __init__(self) -> None:
        self._unreplicated = False
        self.heard = 0

    def read(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        self.heard += 1
        self._unreplicated |= diagnostic.source_function == _WAIT_FOR_STANDBY

    def check(self) -> None:
        """Raise an error where what was acknowledged would be gone after a failover."""
        if self._unreplicated:
            self._unreplicated = False
            raise psycopg.OperationalError(UNREPLICATED)


class TimedConnection(SQLStateConnection):
    """A connection on which no statement waits for ever; psycopg itself has no such limit."""

    statement_timeout: float
    opened: Opened
    notices: Notices
    prepared: Prepared | None = None

    def __del__(self, *_: Any) -> None:
        """Say nothing: the pool closes it, or it is another process's."""

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            result = self._wait(_bounded(gen, self), *args, **kwargs)
        except own(psycopg.errors.ReadOnlySqlTransaction):
            if self._is_set_read_only():
                raise psycopg.errors.ReadOnlySqlTransaction(SET_READ_ONLY) from None
            raise
        except BaseException as exc:
            # Whoever has raised it: behind an error of the server's the pipeline has been left.
            if self.pgconn.pipeline_status:
                self._abandon(gen)
            if isinstance(exc, Exception) and is_of_an_answer(exc):
                self.close()
                raise psycopg.OperationalError("the server's answer cannot be read") from exc
            raise
        self.notices.check()
        return result

    def _wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_interval_timer_on():
            # psycopg's own, in C, begins its wait anew behind each signal, and looks neither for them nor at the clock.
            return wait_selector(gen, self.pgconn.socket, _INTERVAL_SECONDS)
        return super().wait(gen, *args, **kwargs)

    def _abandon(self, gen: Generator[Any, Any, Any]) -> None:
        """Give up a pipeline that was interrupted: to leave it waits for all that was sent, and hides the cause."""
        if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
            self.give_up()
        self.close()
        # Now, or the collector would say what it raises without a connection.
        with suppress_own(psycopg.Error, RuntimeError):
            gen.close()

    def _is_set_read_only(self) -> bool:
        """Tell whether it is a setting that refuses writes, on a primary; servers before 14 do not tell."""
        wanted = {b"in_hot_standby": b"off", b"default_transaction_read_only": b"on"}
        return all(self.pgconn.parameter_status(name) == value for name, value in wanted.items())

    def give_up(self) -> None:
        """End what the server executes, and let nothing of it be delivered behind the close."""
        end_statement(self)
        with suppress_own(OSError), socket.socket(fileno=os.dup(self.fileno())) as end:
            forget_unsent(end)

    def cancel_statement(self) -> bool:
        """Let the server give up what it executes; False while it has not even heard that."""
        return cancel_statement(self)

    def _try_cancel(self, *, timeout: float = CANCEL_SECONDS) -> None:
        # psycopg's own, after a Ctrl-C, would be interrupted by the next one.
        self.cancel_statement()


def _is_interval_timer_on() -> bool:
    return hasattr(signal, "getitimer") and signal.getitimer(signal.ITIMER_REAL)[1] > 0


def cancel_statement(connection: psycopg.Connection[Any]) -> bool:
    """Let the server give up what it executes for a connection, whatever interrupts this; False: still on its way."""
    with suppress_own(psycopg.Error, OSError):
        # Before libpq 17 psycopg waits for the server without an end.
        return uninterrupted(lambda: connection.cancel_safe(timeout=CANCEL_SECONDS), seconds=2 * CANCEL_SECONDS)
    return True


def end_statement(connection: psycopg.Connection[Any]) -> None:
    """Cancel what the server executes for a connection that is to be closed, and wait for its end.

    A commit that waits for the disk does not hear it, and would be seen only after its caller has looked for it.
    """
    if not cancel_statement(connection):
        return
    deadline = monotonic() + CANCEL_SECONDS
    with suppress_own(psycopg.Error, OSError):
        while not _has_ended(connection.pgconn) and (left := deadline - monotonic()) > 0:
            is_readable(connection.fileno(), left)


def _has_ended(pgconn: pq.abc.PGconn) -> bool:
    """Read what has come, and tell whether it is all: a pipeline has an answer for each of its statements."""
    pgconn.consume_input()
    nothing = 0  # once between two statements, twice where all was read before
    while not pgconn.is_busy():
        result = pgconn.get_result()
        nothing = nothing + 1 if result is None else 0
        is_end = result is not None and result.status == ExecStatus.PIPELINE_SYNC
        if is_end or nothing > 1 or pgconn.transaction_status != TransactionStatus.ACTIVE:
            return True
    return False


def _bounded(generator: Generator[Any, Any, Any], connection: TimedConnection) -> Generator[Any, Any, Any]:
    """Cancel what takes too long, unless its answer flows, and give up when even that is not answered.

    A server that is well answers that the statement was cancelled, so that nothing is in doubt. One that answers that
    it is done may have committed it without its standby.
    """
    seconds, notices, cancelled = connection.statement_timeout, connection.notices, False
    deadline = Deadline(seconds)
    try:
        wanted = next(generator)
        while True:
            ready = yield wanted
            is_late, heard = deadline.passed, notices.heard
            arrived = waiting_bytes(connection.fileno()) if is_late else 0
            # First, for it may be all: a process that was stopped finds the answer there.
            wanted = generator.send(Ready(ready | Ready.R) if arrived else ready)
            if is_late:
                # Talk is no part of the answer.
                deadline.note(arrived if notices.heard == heard else 0)
                if deadline.is_over:
                    if cancelled or not connection.cancel_statement():
                        raise psycopg.OperationalError(f"{NO_ANSWER} ({seconds:g} s)")
                    deadline, cancelled = Deadline(CANCEL_SECONDS), True
    except StopIteration as exc:
        if cancelled:
            notices.check()
            raise psycopg.OperationalError(f"{NO_ANSWER} ({seconds:g} s)") from None
        return exc.value
    except own(psycopg.errors.QueryCanceled):
        if not cancelled:
            raise
        raise psycopg.errors.LockNotAvailable(f"{NO_ANSWER} ({seconds:g} s)") from None


def check_engine(connection: psycopg.Connection[Any], named: str | None) -> None:
    """Refuse a server on which the promises are not known to hold, by what it said when it was connected to."""
    info = connection.info
    check_postgresql(
        named,
        version=info.parameter_status("server_version"),
        crdb_version=info.parameter_status("crdb_version"),
        host=info.host,
    )


class PostgresConnector:
    """Opens connections to one address."""

    max_connections: int | None = None
    quiesce_at_fork = False

    def __init__(self, settings: Settings, prepared: Callable[[], Prepared]) -> None:
        self._options = settings.options
        self._prepared = prepared
        files = KeyFiles()
        self._all_files = [files]
        self._has_several_hosts = len(settings.address.hosts) > 1
        self._requires_tls = settings.tls is not None and settings.tls.required
        try:
            self._parameters = files, libpq_parameters(settings, files)
        except BaseException:
            files.close()
            raise

    def open(self) -> TimedConnection:
        parameters = self._readable_parameters()
        if self._options.password is not None:
            parameters = parameters | {"password": password_of(self._options.password)}
        handled = sys.exc_info()[1]
        try:
            # Tracing tools put their own in the place of psycopg's connect(), which makes proxies.
            connection: TimedConnection = unwrap(
                TimedConnection.connect(autocommit=True, prepare_threshold=None, **parameters)
            )
            opened = Opened.now()
        except own(psycopg.Error, OSError) as exc:  # it may lack the descriptor to wait with
            if is_an_applications(exc):
                raise
            raise_a_handlers(exc, handled)  # psycopg makes another one of it
            # Else its frames, whose variables were looked at, keep the socket open until the collector comes.
            exc.__traceback__ = None
            # A copy: psycopg's own carries the connection's settings, password included.
            raise AttemptFailed(connect_failure(exc), type(exc)(str(exc))) from None
        if self._requires_tls and not connection.pgconn.ssl_in_use:
            connection.close()
            raise AttemptFailed(
                Failure(TLSError, "name the host in the URL"), psycopg.OperationalError("the connection has no TLS")
            )
        try:
            check_engine(connection, self._options.engine)
        except UnicodeDecodeError:
            connection.close()
            lost = psycopg.OperationalError("the server's parameters cannot be read")
            raise AttemptFailed(connect_failure(lost), lost) from None
        except BaseException:
            connection.close()
            raise
        if self._has_several_hosts:
            files, parameters = self._parameters
            self._parameters = files, with_host_first(parameters, connection.info.host, connection.info.port)
        connection.opened = opened
        connection.statement_timeout = self._options.statement_timeout
        connection.notices = Notices()
        if self._options.prepared_statements and can_prepare():
            connection.prepared = self._prepared()
        connection.add_notice_handler(connection.notices.read)
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection

    def _readable_parameters(self) -> dict[str, Any]:
        """Return what libpq is told, with files that this process can read; another thread may make them anew too."""
        files, parameters = self._parameters
        if not files.are_ours():
            copies = KeyFiles()
            self._all_files.append(copies)
            paths = files.copy_to(copies)
            parameters = {name: paths.get(value, value) for name, value in parameters.items()}
            self._parameters = copies, parameters
        return parameters

    def close(self, connection: TimedConnection) -> None:
        with suppress_own(psycopg.Error):
            connection.close()

    def is_alive(self, connection: TimedConnection) -> bool:
        return not connection.closed and not is_readable(connection.fileno())

    def restore(self, connection: TimedConnection, exc: BaseException) -> bool:
        if connection.closed:
            return False
        status = connection.pgconn.transaction_status
        if status == TransactionStatus.ACTIVE:
            connection.give_up()
        sqlstate = getattr(exc, "sqlstate", None) or ""
        return (
            isinstance(exc, Exception)
            and status == TransactionStatus.IDLE
            and not connection.pgconn.pipeline_status
            and not connection.lock.locked()  # as a signal may leave it, see Lock
            and not sqlstate.startswith(CONNECT_ANEW_AFTER)
        )

    def before_fork(self, idle: Iterator[TimedConnection]) -> None:
        pass

    def inherit(self, idle: Sequence[TimedConnection], busy: Sequence[TimedConnection | None]) -> None:
        for connection in (*idle, *busy):
            if connection is not None and not connection.closed:
                # psycopg ends no session of another process; the descriptor is a copy of ours.
                _inherited.append(connection)
                with suppress_own(OSError, psycopg.Error):
                    os.close(connection.fileno())

    def release(self) -> None:
        for files in self._all_files:
            files.close()
