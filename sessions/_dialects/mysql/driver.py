"""How statements get to MySQL and MariaDB through PyMySQL, and what they and their failures do to a connection.

Values are put into statements on this side (values.py): plainly on our own connections, whose character set and
sql_mode are known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pymysql
from pymysql.constants import CR, SERVER_STATUS

from sessions._dialects.driver import Driver, Parameters
from sessions._dialects.failures import TRY_AGAIN, Failure, Opened
from sessions._items import MAX_ID
from sessions._reentry import own, suppress_own
from sessions._settings.options import Options
from sessions.errors import ConfigurationError

from .answers import MyConnection, Result, has_told_its_status, is_mariadb
from .cluster import GALERA, Server
from .connection import PacketConnection
from .errors import (
    CANNOT_CONVERT,
    DUPLICATE_KEY,
    INTERRUPTED,
    MIXED_COLLATIONS,
    NO_CASCADE,
    NO_SAVEPOINT,
    NO_SUCH_INDEX,
    NOT_FOR_TABLE,
    OUT_OF_RANGE,
    NoAnswerError,
    describe,
    errno_of,
    statement_failure,
)
from .layout import is_known, note, suiting
from .packets import (
    check_engine,
    check_not_closed,
    end_interrupted,
    end_statement,
    read_all_results,
    send,
)
from .refusals import connect_failure
from .values import Quote, integer, literal, quote_long, quote_plain, quote_short

T = TypeVar("T")

_NO_BACKSLASH_ESCAPES = SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES
# An id may be BIGINT UNSIGNED, and higher than MAX_ID; what is there is read.
_NO_BOUND = str(2**64 - 1)

# A statement that only reads, with or without a setting of its own.
_READ = re.compile(r"(/\*M!.*\*/\s+)?SELECT\b")
# How a comparison with an id fails that a column cannot hold; and what a conversation holds then, by the statement.
_OTHER_CHARACTERS = (CANNOT_CONVERT, *MIXED_COLLATIONS)
_NOTHING: Mapping[str, list[Any]] = {
    "all_items": [],
    "newest_items": [],
    "records": [],
    "newest_range": [(None, None)],
}
# What takes back, and how often it may be interrupted by KILL QUERY.
_UNDOING = ("rollback", "rollback_to_savepoint")
_UNDOES = 5
# One that is done again without harm.
_REPEATABLE = re.compile(rf"{_READ.pattern}|UPDATE\b|DELETE\b")
# Asked instead where a write follows if there is nothing: an interruption is an error of it.
_PROOFS_OF_NOTHING = {"lock_newest_id": "check_items_gone"}


class MySQLDriver(Driver[MyConnection]):
    """Statements on connections of PyMySQL.

    Where MariaDB answers that there was nothing it is asked once more: so it does, without an error, where a time limit
    or KILL QUERY interrupts a statement while it is planned (seen with 10.11 and 11.8).
    """

    name = "mysql"
    identifier_quote = "`"
    driver_error = pymysql.Error

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._server = Server()

    def meet(self, server: Server) -> None:
        """Note what a new connection has told of its server."""
        self._server, self.surroundings = server, str(server)

    def server_of(self, connection: MyConnection) -> str:
        return connection.server.name if isinstance(connection, PacketConnection) else ""

    def with_parameters(self, connection: MyConnection, names: Iterable[str], parameters: Parameters) -> list[str]:
        """Put the parameters, escaped, into the statements that suit the tables."""
        table = self.tables[1]
        return self._filled(connection, [suiting(connection, table, name) for name in names], parameters)

    def _filled(self, connection: MyConnection, names: Iterable[str], parameters: Parameters) -> list[str]:
        quote, _ = quotes(connection)
        escaped = {name: literal(value, quote) for name, value in parameters.items()}
        if parameters.get("upto") == MAX_ID:
            escaped["upto"] = _NO_BOUND
        return [self.statements[name] % escaped for name in names]

    def execute(self, connection: MyConnection, name: str, parameters: Parameters) -> list[Any]:
        if name not in _UNDOING:
            return self._execute(connection, name, parameters)
        for _ in range(_UNDOES):
            try:
                return self._execute(connection, name, parameters)
            except own(pymysql.Error) as exc:
                if errno_of(exc) not in INTERRUPTED:
                    raise
        # What is left of it is not to be committed with what the application does next.
        connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001
        return self._execute(connection, name, parameters)

    def _execute(self, connection: MyConnection, name: str, parameters: Parameters) -> list[Any]:
        if name == "first_items" and not is_known(connection, self.tables[1]):
            # For what it tells.
            self.execute(connection, "newest_items", {"session_id": "", "count": 0, "upto": 0})
        try:
            [result] = self._answer_to(connection, name, parameters)
        except own(NoAnswerError):
            # It would be executed on, beside the next attempt. A write is waited for instead: it may be on its way to a
            # replica that its commit needs.
            if _READ.match(self.statements[name]):
                end_statement(connection, self.statements["still_busy"])
            raise
        except own(pymysql.Error) as exc:
            if name in _NOTHING and self._cannot_be(connection, parameters["session_id"], exc):
                return [*_NOTHING[name]]
            if errno_of(exc) != NO_SUCH_INDEX:
                raise
            # What suits tables of others names their primary key, and this one has none.
            [result] = send(connection, *self._filled(connection, [name], parameters))
        note(connection, self.tables[1], name, result)
        return list(result.rows)

    def may_lack_a_part(self, connection: MyConnection) -> bool:
        return is_mariadb(connection)

    def change(self, connection: MyConnection, name: str, parameters: Parameters) -> int:
        [result] = self._answer_to(connection, name, parameters)
        return len(result.rows) or result.changed

    def _answer_to(self, connection: MyConnection, name: str, parameters: Parameters) -> list[Result]:
        results = send(connection, *self.with_parameters(connection, [name], parameters))
        if not (_tells_nothing(results[0]) and _REPEATABLE.match(self.statements[name]) and is_mariadb(connection)):
            return results
        if name not in _PROOFS_OF_NOTHING:
            return send(connection, *self.with_parameters(connection, [name], parameters))
        try:
            send(connection, *self.with_parameters(connection, [_PROOFS_OF_NOTHING[name]], parameters))
        except own(pymysql.Error) as exc:
            if errno_of(exc) != OUT_OF_RANGE:
                raise
            return self._answer_to(connection, name, parameters)
        return results

    def for_ids_that_can_be(
        self, connection: MyConnection, session_ids: Sequence[str], do: Callable[[Sequence[str]], T], nothing: T
    ) -> T:
        try:
            return do(session_ids)
        except own(pymysql.Error) as exc:
            if errno_of(exc) not in _OTHER_CHARACTERS:
                raise
            possible = [one for one in session_ids if not self._cannot_be(connection, one, exc)]
        return do(possible) if possible else nothing

    def _cannot_be(self, connection: MyConnection, session_id: str, refusal: Exception) -> bool:
        """Tell whether something was refused because the columns' character sets lack what an id consists of."""
        if errno_of(refusal) not in _OTHER_CHARACTERS:
            return False
        try:
            for name in ("lock_session", "lock_newest_id"):
                self.execute(connection, name, {"session_id": session_id})
        except own(pymysql.Error) as exc:
            if errno_of(exc) not in _OTHER_CHARACTERS:
                raise
            return True
        return False

    def check_lent(self, connection: MyConnection) -> None:
        if not hasattr(connection, "server_status"):
            raise ConfigurationError("the connection was never opened (defer_connect=True); call its connect() first")
        read_all_results(connection)
        check_engine(connection, self.engine, comment=None)
        if not self.may_be_in_transaction(connection):
            check_not_closed(connection)

    def commit(self, connection: MyConnection) -> None:
        send(connection, then=self.statements["commit"])

    def roll_back(self, connection: MyConnection) -> None:
        self.execute(connection, "rollback", {})

    def lacks_savepoint(self, exc: BaseException) -> bool:
        return errno_of(exc) == NO_SAVEPOINT

    def in_transaction(self, connection: MyConnection) -> bool:
        status: int = connection.server_status  # type: ignore[attr-defined]
        return bool(status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def was_begun(self, connection: MyConnection) -> bool:
        # Of one that was lost it says what the server had said last.
        if not connection.open:
            raise pymysql.OperationalError(CR.CR_SERVER_GONE_ERROR, "the connection is closed")
        check_not_closed(connection)
        if self.may_be_in_transaction(connection) and not self.in_transaction(connection):
            self.execute(connection, "savepoint", {})  # for what its answer tells
            if self.in_transaction(connection):
                self.execute(connection, "release_savepoint", {})
        return self.in_transaction(connection)

    def may_be_in_transaction(self, connection: MyConnection) -> bool:
        # A SELECT may have begun one.
        return self.in_transaction(connection) or not (connection.get_autocommit() or has_told_its_status(connection))

    def join_transaction(self, connection: MyConnection, *, writes: bool) -> bool:
        if not self.in_transaction(connection) and not connection.get_autocommit():
            # The next statement begins one. START TRANSACTION would end LOCK TABLES.
            connection.server_status |= SERVER_STATUS.SERVER_STATUS_IN_TRANS  # type: ignore[attr-defined]
        return self.in_transaction(connection)

    def close_if_interrupted(self, connection: MyConnection, exc: BaseException) -> None:
        end_interrupted(connection, exc, self.statements["still_busy"])

    def was_closed(self, connection: MyConnection) -> bool:
        return not connection.open

    def server_session(self, connection: MyConnection) -> int | None:
        return connection.thread_id()  # type: ignore[no-untyped-call, no-any-return]

    def is_executing(self, connection: MyConnection, number: int, *, age: float, waiting: float) -> bool | None:
        # SHOW knows no LIMIT: with sql_select_limit = 0 there is no answer.
        uptimes = [integer(value) for _, value in self.execute(connection, "uptime", {})]
        # After a restart the numbers begin anew. The time is whole seconds, rounded down.
        if any(uptime + 1 < age for uptime in uptimes):
            return None
        try:
            return super().is_executing(connection, number, age=age, waiting=waiting)
        except own(pymysql.Error) as exc:
            if errno_of(exc) != CANNOT_CONVERT:
                raise
            return True  # so it is asked again

    def end_session(self, connection: MyConnection, number: int, *, age: float, opened: Opened | None) -> None:
        with suppress_own(pymysql.Error):
            if self.execute(connection, "idle_session", {"id": number, "own": self.server_session(connection)}):
                self.execute(connection, "end_session", {"id": number})

    def tls_in_use(self, connection: MyConnection) -> str:
        # Not from SHOW STATUS, which knows no LIMIT.
        version = getattr(connection._sock, "version", None)  # type: ignore[attr-defined]  # noqa: SLF001
        return (version() or "") if version else ""

    def failure(self, exc: Exception) -> Failure:
        errno = errno_of(exc)
        if errno == NOT_FOR_TABLE and self._server.refuses_cascades:
            return NO_CASCADE
        # Galera's nodes share the ids out anew when one comes or goes, and for a moment two may take the same.
        if errno == DUPLICATE_KEY and self._server.cluster == GALERA:
            return TRY_AGAIN
        return statement_failure(exc)

    def connect_failure(self, exc: Exception) -> Failure:
        return connect_failure(exc)

    def words_of(self, exc: BaseException) -> str:
        return describe(exc)


def quotes(connection: MyConnection) -> tuple[Quote, Quote]:
    """Say how short and long texts are quoted."""
    # A proxy may not keep the mode that we set.
    plainly = isinstance(connection, PacketConnection) and not connection.server_status & _NO_BACKSLASH_ESCAPES
    return (quote_plain,) * 2 if plainly else (quote_short, quote_long)


def _tells_nothing(result: Result) -> bool:
    """Tell whether a statement has changed no row and found none, and no number but 0 where it counts."""
    rows = result.rows
    return not any(rows[0]) if len(rows) == 1 else not (rows or result.changed)
