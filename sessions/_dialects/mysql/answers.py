"""The answers of MySQL and MariaDB, and which of them are still to come.

That is noted before a statement is sent, and never told by the kind of an exception: a signal handler may raise any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pymysql

from .rows import Answer

MyConnection = pymysql.connections.Connection


class Result(NamedTuple):
    """What the server answers to a statement."""

    rows: Sequence[Any]
    first_id: int  # of new rows
    changed: int  # rows; matched, where it is an update
    flags: int = 0  # of the first column


def is_in_step(connection: MyConnection) -> bool:
    """Tell whether the next answer of a connection will be that to the next statement; of a closed one none comes."""
    awaited = answers_awaited(connection)
    return not awaited or awaited[0] is not connection._sock  # type: ignore[attr-defined]  # noqa: SLF001


def answers_awaited(connection: MyConnection) -> list[Any]:
    """Return for each answer that is still to come the socket it will come on: who reconnects does not wait for it."""
    return getattr(connection, "_sessions_awaited", None) or []


def await_answers(connection: MyConnection, count: int) -> None:
    """Note that so many are to come, before what they answer is sent."""
    connection._sessions_awaited = [connection._sock] * count  # type: ignore[attr-defined]  # noqa: SLF001


def read_answer(connection: Any) -> None:
    """Read an answer as PyMySQL would, by our own decoders, and note at last that it was read to its end."""
    if (begin_answer := getattr(connection, "begin_answer", None)) is not None:
        begin_answer()
    connection._result = None  # noqa: SLF001
    answer = Answer(connection)
    awaited = answers_awaited(connection)
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


def is_mariadb(connection: MyConnection) -> bool:
    """Tell whether it leads to MariaDB, by what the server has said at first."""
    return "mariadb" in str(connection.server_version).lower()  # type: ignore[attr-defined]


def has_told_its_status(connection: MyConnection) -> bool:
    """Tell whether the last answer said if a transaction is open, as rows do not to PyMySQL."""
    answer = answer_of(connection)
    return answer is not None and answer.server_status is not None


def answer_of(connection: MyConnection) -> Any:
    """Return the newest one: what a cursor shows, at several times the cost."""
    return connection._result  # type: ignore[attr-defined]  # noqa: SLF001


def result_of(connection: MyConnection) -> Result:
    """Return what the newest one says of its statement."""
    answer = answer_of(connection)
    flags = answer.fields[0].flags if answer.field_count else 0
    return Result(answer.rows or (), answer.insert_id or 0, answer.affected_rows, flags)
