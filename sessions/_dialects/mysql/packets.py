"""How statements travel to MySQL and MariaDB.

The rule: every answer is read, or the connection is given up; an answer left unread would
be taken for the next statement's. Which are still to come is noted before a statement is sent,
and never told by the kind of an exception: a signal handler may raise any.
"""

from __future__ import annotations

import copy
import io
import socket
import ssl
import sys
from collections.abc import Sequence
from contextlib import closing
from time import monotonic, sleep
from typing import Any, NamedTuple

import pymysql
from pymysql.constants import CLIENT, COMMAND, CR

from sessions._dialects.failures import is_an_applications, is_of_an_answer, raise_a_handlers
from sessions._dialects.sockets import Deadline, TimedReader, forget_unsent, keep_alive
from sessions._engines import check_mysql
from sessions._reentry import is_own, own, suppress_own
from sessions._settings.tls import TLS, make_context
from sessions.errors import ConfigurationError

from .cluster import Server
from .errors import CANNOT_CONVERT, CONNECT_ERRORS, NO_SUCH_THREAD, TRUNCATED, NoAnswerError, errno_of
from .rows import Answer
from .values import integer

MyConnection = pymysql.connections.Connection


class Result(NamedTuple):
    """What the server answers to a statement."""

    rows: Sequence[Any]
    first_id: int  # of new rows
    changed: int  # rows; matched, where it is an update
    flags: int = 0  # of the first column


_NOTHING = Result((), 0, 0)

# How that begins which MariaDB answers with rows; the second is check_item.
_QUERIES = ("SELECT", "/*!50700 DO */")

# Whose functions are between the driver's and the system's.
_SENDING = ("pymysql.connections", "socket", "ssl")

# How long to wait for the end of a statement that is killed.
_KILL_SECONDS = 2.0
_KILL_POLL_SECONDS = 0.01

# For the driver's default, which takes TLS where the server has it.
_OPPORTUNISTIC = make_context(TLS("require"))


class PacketConnection(pymysql.connections.Connection):
    """A connection that is ready after one round trip, with its TLS context built once."""

    packet_limit: int
    id_step: int
    multi_statements: bool
    server: Server
    requires_tls = False
    # What is to be sent together.
    _held: list[bytes] | None = None
    _sessions_awaited: list[Any] | None = None
    server_capabilities: int
    server_status: int
    _sock: socket.socket | None
    _reader: io.BufferedReader | None = None
    _read_timeout: float
    _write_timeout: float
    _next_seq_id: int
    # For connecting as a whole, then for each answer.
    _deadline: Deadline
    is_connecting = True

    @property
    def _rfile(self) -> io.BufferedReader | None:
        return self._reader

    @_rfile.setter
    def _rfile(self, file: Any) -> None:
        if file is not None and self._sock is not None:
            file = io.BufferedReader(TimedReader(self._sock, file.detach(), self._deadline))
        self._reader = file

    def connect(self, sock: socket.socket | None = None) -> None:
        self._deadline = Deadline(self._read_timeout)
        super().connect(sock)
        if self._sock is not None:
            keep_alive(self._sock)

    def _get_server_information(self) -> None:
        # Each address of a host gets the whole time: behind a dead one nothing of it would be left for the next.
        if self._deadline.passed:
            self._deadline.restart(self._read_timeout)
        super()._get_server_information()  # type: ignore[misc]

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """Send nothing: it is said together with the rest (preparing.py)."""

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        self.requires_tls = isinstance(sslp, ssl.SSLContext)
        # PyMySQL would load the system's roots anew for each connection, and not use them.
        return sslp if self.requires_tls else _OPPORTUNISTIC

    def _request_authentication(self) -> None:
        # PyMySQL before 1.2 goes on in plain text, password included.
        if self.requires_tls and not self.server_capabilities & CLIENT.SSL:
            raise pymysql.OperationalError(CR.CR_SSL_CONNECTION_ERROR, "the server has no TLS, which is required")
        # Also what the TLS handshake waits for.
        self._write_timeout = self._deadline.left
        super()._request_authentication()  # type: ignore[misc]

    @property
    def takes_compounds(self) -> bool:
        """Whether a transaction is to travel as one statement, which is the quicker form: it has fewer answers."""
        return self.server.is_mariadb

    def start(self, statement_timeout: float) -> None:
        """End connecting: each answer now has this time."""
        self._read_timeout = self._write_timeout = statement_timeout
        self.is_connecting = False

    def rollback(self) -> None:
        """Also switch autocommit on again, which is off while statements are sent ahead."""
        send(self, "ROLLBACK")
        if not self.get_autocommit():
            send(self, "SET autocommit = 1")

    def send_ahead(self, statements: Sequence[str]) -> list[Result]:
        """Send each statement as a packet of its own, all before the first answer; raise the first error of all."""
        commands = [statement.encode(self.encoding) for statement in statements]
        _await_answers(self, len(commands))
        self._held = []
        # The number of each first answer, which is higher behind a statement of several packets.
        turns: list[int] = []
        try:
            for command in commands:
                self._execute_command(COMMAND.COM_QUERY, command)  # type: ignore[attr-defined]
                turns.append(self._next_seq_id)
            packets = b"".join(self._held)
        finally:
            self._held = None
        self._write_bytes(packets)
        results: list[Result] = []
        error: pymysql.Error | None = None
        for self._next_seq_id in turns:
            try:
                _read_answer(self)
                results.append(_result(self))
            except own(pymysql.Error) as exc:
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

    def _read_query_result(self, unbuffered: bool = False) -> None:
        _read_answer(self)

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
            if self._reader is not None:
                self._reader.raw.close()
            self._sock.close()
        self._rfile = self._sock = None


def check_engine(connection: MyConnection, named: str | None, *, comment: object) -> None:
    """Refuse a server on which the promises are not known to hold; comment is its @@version_comment, if asked for."""
    # One that was never opened has none.
    version = getattr(connection, "server_version", "")
    check_mysql(named, version=str(version), comment=None if comment is None else str(comment))


def read_all_results(connection: MyConnection) -> None:
    """Read what the application has left unread, as PyMySQL would: one of the answers may tell of a BEGIN."""
    answer = _answer(connection)
    if answer is not None and answer.unbuffered_active:
        raise ConfigurationError(
            "an SSCursor of the connection has rows that were not read; read it to its end, or close it, first"
        )
    if answer is not None and answer.has_next:
        _await_answers(connection, 1)
        while _answer(connection).has_next:
            _read_answer(connection)


def is_in_step(connection: MyConnection) -> bool:
    """Tell whether the next answer of a connection will be that to the next statement; of a closed one none comes."""
    awaited = _awaited(connection)
    return not awaited or awaited[0] is not connection._sock  # type: ignore[attr-defined]  # noqa: SLF001


def _awaited(connection: MyConnection) -> list[Any]:
    """Return for each answer that is still to come the socket it will come on: who reconnects does not wait for it."""
    return getattr(connection, "_sessions_awaited", None) or []


def _await_answers(connection: MyConnection, count: int) -> None:
    connection._sessions_awaited = [connection._sock] * count  # type: ignore[attr-defined]  # noqa: SLF001


def _read_answer(connection: Any) -> None:
    """Read an answer as PyMySQL would, by our own decoders, and note at last that it was read to its end."""
    if isinstance(connection, PacketConnection) and not connection.is_connecting:
        connection._deadline.restart(connection._read_timeout)  # noqa: SLF001
    connection._result = None  # noqa: SLF001
    answer = Answer(connection)
    awaited = _awaited(connection)
    try:
        answer.read()
    except BaseException:
        if answer.is_error and awaited:
            awaited.pop()
        raise
    connection._result = answer  # noqa: SLF001
    if answer.server_status is not None:
        connection.server_status = answer.server_status
    if awaited and not answer.has_next:
        awaited.pop()


def has_told_its_status(connection: MyConnection) -> bool:
    """Tell whether the last answer said if a transaction is open, as rows do not to PyMySQL."""
    answer = _answer(connection)
    return answer is not None and answer.server_status is not None


def end_interrupted(connection: MyConnection, exc: BaseException, still_busy: str) -> bool:
    """Give up a connection of which an answer is still to come, and what the server executes for it; tell whether."""
    awaited = _awaited(connection)
    if not awaited or connection._sock not in (None, awaited[0]):  # type: ignore[attr-defined]  # noqa: SLF001
        return False
    connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001
    # Nobody interrupted one that was lost, and who is to be asked may be gone too.
    if not is_own(exc, pymysql.Error):
        end_statement(connection, still_busy)
    awaited.clear()
    return True


def end_statement(connection: MyConnection, still_busy: str) -> None:
    """Kill what the server still executes for a connection that has been given up, and wait for its end.

    Otherwise a write that waits for a lock, or for the disk, would be done after its caller has looked for it.
    still_busy is a statement that tells what the connection executes: another server may answer by now,
    on which the number is a stranger's. So what does not name our tables is waited for, and not killed.
    """
    number = connection.thread_id()  # type: ignore[no-untyped-call]
    # One with the same settings, of whatever kind they are.
    twin = copy.copy(connection)
    for timeout in ("connect_timeout", "_read_timeout", "_write_timeout"):
        setattr(twin, timeout, _KILL_SECONDS)
    with suppress_own(*CONNECT_ERRORS):
        twin.connect()
        with closing(twin):
            deadline = monotonic() + _KILL_SECONDS
            killed = False
            while monotonic() < deadline:
                try:
                    [answer] = _send_packet(twin, still_busy % {"id": number})
                    if not answer.rows:
                        return
                    if not killed and integer(answer.rows[0][0]):
                        twin.query(f"KILL {number:d}")
                        killed = True
                except own(pymysql.Error) as exc:
                    if errno_of(exc) not in (CANNOT_CONVERT, NO_SUCH_THREAD):
                        raise
                sleep(_KILL_POLL_SECONDS)


def send(connection: MyConnection, *statements: str, then: str | None = None) -> list[Result]:
    """Send the statements in one round trip, or with `then` in two; return each one's result.

    An error keeps `then` from being executed, and in one packet also every statement behind it.
    """
    handled = sys.exc_info()[1]
    if not is_in_step(connection):
        # So that the driver refuses: what has interrupted an earlier one was not noticed.
        connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001
    try:
        return _sent(connection, statements, then)
    except own(pymysql.OperationalError) as exc:
        raise_a_handlers(exc, handled)
        if _was_too_late(connection, exc):
            option = "statement_timeout" if isinstance(connection, PacketConnection) else "its read_timeout"
            seconds = connection._read_timeout  # type: ignore[attr-defined]  # noqa: SLF001
            raise NoAnswerError(CR.CR_SERVER_LOST, f"no answer within {option} ({seconds:g} s)") from exc
        if errno_of(exc) == CR.CR_SERVER_GONE_ERROR and not _is_of_sending(exc.__context__):
            raise pymysql.OperationalError(CR.CR_SERVER_LOST, *exc.args[1:]) from exc
        raise
    except Exception as exc:
        # PyMySQL's own words for what is no packet have no number.
        is_numbered = isinstance(exc, pymysql.Error) and errno_of(exc) != -1
        if is_numbered or not (is_own(exc, pymysql.Error) or is_of_an_answer(exc)):
            raise
        connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001
        raise pymysql.OperationalError(CR.CR_SERVER_LOST, "the server's answer cannot be read") from exc
    finally:
        # At once, and on an application's connection before anybody else uses it.
        if not is_in_step(connection):
            connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001


def _sent(connection: MyConnection, statements: Sequence[str], then: str | None) -> list[Result]:
    if isinstance(connection, PacketConnection) and not connection.multi_statements:
        results = connection.send_ahead(statements) if statements else []
        return results if then is None else results + _send_packet(connection, then)
    return _send_packet(connection, "; ".join(statements if then is None else (*statements, then)))


def _was_too_late(connection: MyConnection, exc: pymysql.OperationalError) -> bool:
    """Tell whether an answer was given up, on a connection that nobody has cut."""
    connecting = isinstance(connection, PacketConnection) and connection.is_connecting
    # The kernel's own time-out, of a connection that is dead, has a number.
    cause = exc.__context__
    late = isinstance(cause, TimeoutError) and cause.errno is None and errno_of(exc) == CR.CR_SERVER_LOST
    return late and not connecting


def _is_of_sending(cause: BaseException | None) -> bool:
    """Tell whether sending itself has failed, so that the server cannot have had the whole packet.

    PyMySQL takes whatever OSError leaves sendall() for that, also one that something else has raised behind it.
    """
    if cause is None:
        return True  # it is the server's word, or the driver's before it has sent anything
    step = cause.__traceback__
    while step is not None:
        if step.tb_frame.f_globals.get("__name__") not in _SENDING:
            return False
        step = step.tb_next
    return isinstance(cause, OSError) and not is_an_applications(cause)


def send_compound(connection: PacketConnection, frame: str, statements: Sequence[str]) -> list[Result]:
    """Send the statements as one; return each one's result, which is empty but for queries."""
    # By itself, for it has several answers.
    *results, _ = send(connection, then=frame % {"statements": "; ".join(statements)})
    answers = iter(results)
    return [next(answers) if statement.startswith(_QUERIES) else _NOTHING for statement in statements]


def _send_packet(connection: MyConnection, packet: str) -> list[Result]:
    results = _exchange(connection, packet)
    if not isinstance(connection, PacketConnection) and (count := _answer(connection).warning_count):
        _refuse_what_was_truncated(connection, count)
    return results


def _exchange(connection: MyConnection, packet: str) -> list[Result]:
    command = packet.encode(connection.encoding)
    _await_answers(connection, 1)
    connection._execute_command(COMMAND.COM_QUERY, command)  # type: ignore[attr-defined]  # noqa: SLF001
    _read_answer(connection)
    results = [_result(connection)]
    # Every answer is read: an error left unread would be taken for the next packet's.
    while _answer(connection).has_next:
        _read_answer(connection)
        results.append(_result(connection))
    return results


def _answer(connection: MyConnection) -> Any:
    # What a cursor shows, at several times the cost.
    return connection._result  # type: ignore[attr-defined]  # noqa: SLF001


def _result(connection: MyConnection) -> Result:
    answer = _answer(connection)
    flags = answer.fields[0].flags if answer.field_count else 0
    return Result(answer.rows or (), answer.insert_id or 0, answer.affected_rows, flags)


def _refuse_what_was_truncated(connection: MyConnection, count: int) -> None:
    """Raise what strict mode would have raised; an application's connection may be without it."""
    wrote = not _answer(connection).field_count
    [warnings] = _exchange(connection, "SHOW WARNINGS")
    for _, errno, message in warnings.rows:
        if errno in TRUNCATED:
            raise pymysql.DataError(errno, message)
    if wrote and len(warnings.rows) < count:
        raise ConfigurationError(
            f"the connection shows {len(warnings.rows)} of the {count} warnings of a write, one of which may say that "
            "something was cut; raise its max_error_count, or use STRICT_ALL_TABLES in its sql_mode"
        )
