"""How statements travel to MySQL and MariaDB.

The rule: every answer is read, or the connection is given up; an answer left unread would
be taken for the next statement's.
"""

from __future__ import annotations

import copy
import ssl
import sys
from collections.abc import Sequence
from contextlib import closing
from contextvars import copy_context
from time import monotonic, sleep

import pymysql
from pymysql.constants import COMMAND, CR

from sessions._dialects.failures import is_an_applications, is_of_an_answer, raise_a_handlers
from sessions._dialects.sockets import is_readable
from sessions._engines import check_mysql
from sessions._reentry import is_own, own, suppress_own, uninterrupted
from sessions.errors import ConfigurationError

from .answers import (
    MyConnection,
    Result,
    answer_of,
    answers_awaited,
    await_answers,
    is_in_step,
    is_mariadb,
    read_answer,
    result_of,
)
from .connection import PacketConnection
from .errors import (
    CANNOT_CONVERT,
    INTERRUPTED,
    NO_SUCH_THREAD,
    TRUNCATED,
    CutCommitError,
    NoAnswerError,
    errno_of,
)
from .refusals import CONNECT_ERRORS, connect_failure
from .values import integer

_NOTHING = Result((), 0, 0)

# How that begins which MariaDB answers with rows; the second is check_item.
_QUERIES = ("SELECT", "/*!50700 DO */")

# Whose functions are between the driver's and the system's.
_SENDING = ("pymysql.connections", "socket", "ssl")

# How long to wait for the end of a statement that is killed.
_KILL_SECONDS = 2.0
_KILL_POLL_SECONDS = 0.01
_RECONNECT_SECONDS = 0.1
# Its name, as a server is told from every other (cluster.py).
_SERVER = "SELECT CONVERT(CONCAT(@@hostname, 0x3a, @@port, 0x3a, @@server_id) USING utf8mb4) LIMIT 1"


def check_engine(connection: MyConnection, named: str | None, *, comment: object) -> None:
    """Refuse a server on which the promises are not known to hold; comment is its @@version_comment, if asked for."""
    version: object = connection.server_version  # type: ignore[attr-defined]
    check_mysql(named, version=str(version), comment=None if comment is None else str(comment))


def send(
    connection: MyConnection, *statements: str, then: str | None = None, before: int | None = None
) -> list[Result]:
    """Send the statements in one round trip, or with `then` in two; return each one's result.

    An error keeps `then`, which commits, from being executed, and in one packet also every statement behind it. before:
    so many answers come before it commits, where they are not one for each statement.
    """
    results: list[Result] = []
    handled = sys.exc_info()[1]
    if not is_in_step(connection):
        # So that the driver refuses: what has interrupted an earlier one was not noticed.
        connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001
    try:
        _send_all(connection, statements, then, results)
    except own(pymysql.OperationalError) as exc:
        raise_a_handlers(exc, handled)
        commits = then is not None and len(results) >= (len(statements) if before is None else before)
        if commits and errno_of(exc) in INTERRUPTED and is_mariadb(connection):
            if isinstance(connection, PacketConnection):
                connection._force_close()  # noqa: SLF001  (so that its transaction has an end, whichever)
            raise CutCommitError(*exc.args) from exc
        if (cause := exc.__context__) is not None and _was_too_late(connection, exc):
            option = "statement_timeout" if isinstance(connection, PacketConnection) else "its read_timeout"
            seconds = connection._read_timeout  # type: ignore[attr-defined]  # noqa: SLF001
            if seconds is None:
                raise cause from None  # the application's own limit, as a greenlet's: the socket has none
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
    return results


def _send_all(connection: MyConnection, statements: Sequence[str], then: str | None, results: list[Result]) -> None:
    """Send the statements, and note each one's result when it has come."""
    if isinstance(connection, PacketConnection) and not connection.multi_statements:
        if statements:
            results += connection.send_ahead(statements)
        if then is not None:
            _send_packet(connection, then, results)
    else:
        _send_packet(connection, "; ".join(statements if then is None else (*statements, then)), results)


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
    queries = [statement.startswith(_QUERIES) for statement in statements]
    results = iter(send(connection, then=frame % {"statements": "; ".join(statements)}, before=sum(queries)))
    return [next(results) if is_query else _NOTHING for is_query in queries]


def _send_packet(connection: MyConnection, packet: str, results: list[Result]) -> None:
    _exchange(connection, packet, results)
    if not isinstance(connection, PacketConnection) and (count := answer_of(connection).warning_count):
        _refuse_what_was_truncated(connection, count)


def _exchange(connection: MyConnection, packet: str, results: list[Result]) -> None:
    command = packet.encode(connection.encoding)
    await_answers(connection, 1)
    connection._execute_command(COMMAND.COM_QUERY, command)  # type: ignore[attr-defined]  # noqa: SLF001
    read_answer(connection)
    results.append(result_of(connection))
    # Every answer is read: an error left unread would be taken for the next packet's.
    while answer_of(connection).has_next:
        if isinstance(connection, PacketConnection):
            connection.read_further_answer()
        else:
            read_answer(connection)
        results.append(result_of(connection))


def roll_back(connection: PacketConnection) -> None:
    """Undo what is open, and switch autocommit on again, which is off while statements are sent ahead."""
    send(connection, "ROLLBACK")
    if not connection.get_autocommit():
        send(connection, "SET autocommit = 1")


def read_all_results(connection: MyConnection) -> None:
    """Read what the application has left unread, as PyMySQL would: one of the answers may tell of a BEGIN."""
    answer = answer_of(connection)
    if answer is not None and answer.unbuffered_active:
        raise ConfigurationError(
            "an SSCursor of the connection has rows that were not read; read it to its end, or close it, first"
        )
    if answer is not None and answer.has_next:
        await_answers(connection, 1)
        while answer_of(connection).has_next:
            read_answer(connection)


def check_not_closed(connection: MyConnection) -> None:
    """Raise what the server says of a connection that it, or what stands between, has closed while it was idle."""
    end = connection._sock  # type: ignore[attr-defined]  # noqa: SLF001
    if end is None or not is_in_step(connection) or not is_readable(end.fileno()):
        return
    usual = end.gettimeout()
    end.settimeout(0)
    try:
        there = connection._rfile.peek(1)  # type: ignore[attr-defined]  # noqa: SLF001
    except ssl.SSLWantReadError:
        return  # it was of TLS itself
    except own(OSError):
        there = b""
    finally:
        end.settimeout(usual)
    if there:
        connection._next_seq_id = 0  # type: ignore[attr-defined]  # noqa: SLF001  (it answers nothing)
        connection._read_packet()  # type: ignore[no-untyped-call]  # noqa: SLF001
    connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001
    raise pymysql.OperationalError(CR.CR_SERVER_GONE_ERROR, "the connection was closed while it was idle")


def end_interrupted(connection: MyConnection, exc: BaseException, still_busy: str) -> bool:
    """Give up a connection of which an answer is still to come, and what the server executes for it; tell whether."""
    awaited = answers_awaited(connection)
    if not awaited or connection._sock not in (None, awaited[0]):  # type: ignore[attr-defined]  # noqa: SLF001
        return False
    connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001
    # Nobody interrupted one that was lost, and who is to be asked may be gone too.
    if not is_own(exc, pymysql.Error):
        end_statement(connection, still_busy)
    awaited.clear()
    return True


def end_statement(connection: MyConnection, still_busy: str) -> None:
    """Kill what the server still executes for a connection that has been given up, and wait for its end."""
    # A function that gives the password may look into the caller's context.
    context = copy_context()
    uninterrupted(lambda: context.run(_end_statement, connection, still_busy))


def _end_statement(connection: MyConnection, still_busy: str) -> None:
    """Kill and wait, by another connection; by a further one where the server has no place, or another one answers."""
    deadline = monotonic() + _KILL_SECONDS
    with suppress_own(*CONNECT_ERRORS):
        while monotonic() < deadline:
            twin = _twin(connection)
            try:
                twin.connect()
            except own(*CONNECT_ERRORS) as exc:
                failure = connect_failure(exc)
                if failure.is_away or not failure.transient:
                    return
            else:
                with closing(twin):
                    if _is_same_server(connection, twin):
                        _kill(connection, twin, still_busy, deadline)
                        return
            sleep(_RECONNECT_SECONDS)


def _twin(connection: MyConnection) -> MyConnection:
    """Make one with the same settings, of whatever kind they are, and the password of now."""
    twin = copy.copy(connection)
    for timeout in ("connect_timeout", "_read_timeout", "_write_timeout"):
        setattr(twin, timeout, _KILL_SECONDS)
    if isinstance(twin, PacketConnection) and twin.new_password is not None:
        with suppress_own(Exception):  # the application's function
            twin.password = twin.new_password()
    return twin


def _is_same_server(connection: MyConnection, twin: MyConnection) -> bool:
    """Tell whether a load balancer has led to another server, as far as it is known which one it was."""
    if not isinstance(connection, PacketConnection) or not connection.server.name.strip(":"):
        return True
    answers: list[Result] = []
    _send_packet(twin, _SERVER, answers)
    return any(name == connection.server.name for (name,) in answers[0].rows)


def _kill(connection: MyConnection, twin: MyConnection, still_busy: str, deadline: float) -> None:
    """Kill what it executes, and wait for its end.

    Otherwise a write that waits for a lock, or for the disk, would be done after its caller has looked for it.
    still_busy is a statement that tells what the connection executes: another server may answer by now,
    on which the number is a stranger's, as one is that a proxy has invented. So what does not name our tables is
    waited for, and not killed.
    """
    number = connection.thread_id()  # type: ignore[no-untyped-call]
    asked = still_busy % {"id": number, "own": twin.thread_id()}  # type: ignore[no-untyped-call]
    killed = False
    while monotonic() < deadline:
        try:
            answers: list[Result] = []
            _send_packet(twin, asked, answers)
            if not answers[0].rows:
                return
            if not killed and integer(answers[0].rows[0][0]):
                twin.query(f"KILL {number:d}")
                killed = True
        except own(pymysql.Error) as exc:
            if errno_of(exc) not in (CANNOT_CONVERT, NO_SUCH_THREAD):
                raise
        sleep(_KILL_POLL_SECONDS)


def _refuse_what_was_truncated(connection: MyConnection, count: int) -> None:
    """Raise what strict mode would have raised; an application's connection may be without it."""
    wrote = not answer_of(connection).field_count
    results: list[Result] = []
    _exchange(connection, "SHOW WARNINGS", results)
    [warnings] = results
    for _, errno, message in warnings.rows:
        if errno in TRUNCATED:
            raise pymysql.DataError(errno, message)
    if wrote and len(warnings.rows) < count:
        raise ConfigurationError(
            f"the connection shows {len(warnings.rows)} of the {count} warnings of a write, one of which may say that "
            "something was cut; raise its max_error_count, or use STRICT_ALL_TABLES in its sql_mode"
        )
