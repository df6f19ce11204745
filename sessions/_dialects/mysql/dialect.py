"""The operations in MySQL and MariaDB, through PyMySQL.

On our own connections a write is one transaction in one of the forms of transactions.py, on those of the application
its statements are sent one by one. Values are put into statements on this side (values.py): plainly on our own
connections, whose character set and sql_mode are known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import pymysql
from pymysql.constants import SERVER_STATUS

from sessions._checks import Check
from sessions._dialects.dialect import Columns, Dialect, Parameters, may_be_cut, position_of
from sessions._dialects.failures import TRY_AGAIN, Failure, Opened
from sessions._items import MAX_ID, Row
from sessions._leases import Lease
from sessions._reentry import own, suppress_own
from sessions._sealing import SealedWrite, moved_error
from sessions._settings.options import Options
from sessions.errors import ConfigurationError, kept_error, numberless_error, used_up_error

from .checks import cascade_check, cluster_check, column_checks, engine_check, temporary_checks
from .cluster import GALERA, Server
from .errors import (
    CANNOT_CONVERT,
    DUPLICATE_KEY,
    MIXED_COLLATIONS,
    MORE_THAN_ONE_ROW,
    NO_CASCADE,
    NOT_FOR_TABLE,
    OUT_OF_RANGE,
    NoAnswerError,
    describe,
    errno_of,
    statement_failure,
)
from .layout import is_known, note, suiting
from .packets import (
    MyConnection,
    PacketConnection,
    Result,
    check_engine,
    end_interrupted,
    end_statement,
    has_told_its_status,
    read_all_results,
    send,
)
from .preparing import check_no_id_is_forced
from .sealed import steps_of
from .transactions import Packet, cut, insert, transact, transact_insert
from .values import Quote, integer, literal, quote_long, quote_plain, quote_short

T = TypeVar("T")

# MySQL names the foreign key after the table, `<table>_ibfk_1`, in fewer than 64 characters on MariaDB.
_MAX_MESSAGES_TABLE = 56

# How many rows are copied in one round trip.
_COPIES = 100

_NO_BACKSLASH_ESCAPES = SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES
# An id may be BIGINT UNSIGNED, and higher than MAX_ID; what is there is read.
_NO_BOUND = str(2**64 - 1)

# A statement that only reads, with or without a setting of its own.
_READ = re.compile(r"(/\*M!.*\*/\s+)?SELECT\b")

# MariaDB takes it for the last of all when it looks for a prefix by the index.
_LAST_OF_PLANE = "\uffff"
# Nobody has an id with a NUL.
_FIRST = "\x01"


class MySQLDialect(Dialect[MyConnection]):
    """The words of MySQL and MariaDB."""

    name = "mysql"
    identifier_quote = "`"
    driver_error = pymysql.Error
    indexes_hold_the_key = True

    def __init__(self, options: Options) -> None:
        if max(map(len, options.messages_table.split("."))) > _MAX_MESSAGES_TABLE:
            raise ConfigurationError(
                f"messages_table {options.messages_table!r} is too long for the name of its foreign key; "
                f"use at most {_MAX_MESSAGES_TABLE} characters"
            )
        super().__init__(options)
        self._server = Server()

    def meet(self, server: Server) -> None:
        """Note what a new connection has told of its server."""
        self._server, self.surroundings = server, str(server)

    def server_of(self, connection: MyConnection) -> str:
        return connection.server.name if isinstance(connection, PacketConnection) else ""

    def _with_parameters(self, connection: MyConnection, names: Iterable[str], parameters: Parameters) -> list[str]:
        """Put the parameters, escaped, into statements."""
        quote, _ = _quotes(connection)
        escaped = {name: literal(value, quote) for name, value in parameters.items()}
        if parameters.get("upto") == MAX_ID:
            escaped["upto"] = _NO_BOUND
        table = self.tables[1]
        return [self.statements[suiting(connection, table, name)] % escaped for name in names]

    def execute(self, connection: MyConnection, name: str, parameters: Parameters) -> list[Any]:
        if name == "first_items" and not is_known(connection, self.tables[1]):
            self.newest_rows(connection, "", count=0, upto=0)  # for what it tells
        try:
            [result] = send(connection, *self._with_parameters(connection, [name], parameters))
        except own(NoAnswerError):
            # It would be executed on, beside the next attempt. A write is waited for instead: it may be on its way to a
            # replica that its commit needs.
            if _READ.match(self.statements[name]):
                end_statement(connection, self.statements["still_busy"])
            raise
        note(connection, self.tables[1], name, result)
        return list(result.rows)

    def change(self, connection: MyConnection, name: str, parameters: Parameters) -> int:
        [result] = send(connection, *self._with_parameters(connection, [name], parameters))
        return len(result.rows) or result.changed

    def touch(self, connection: MyConnection, session_id: str) -> None:
        # A row that is touched twice at one time does not change; no trigger of these servers suppresses one.
        self.execute(connection, "touch_session", {"session_id": session_id})
        self.check_id_is_kept(connection, session_id)

    def check_lent(self, connection: MyConnection) -> None:
        read_all_results(connection)
        check_engine(connection, self.engine, comment=None)

    def commit(self, connection: MyConnection) -> None:
        self.execute(connection, "commit", {})

    def roll_back(self, connection: MyConnection) -> None:
        self.execute(connection, "rollback", {})

    def in_transaction(self, connection: MyConnection) -> bool:
        status: int = connection.server_status  # type: ignore[attr-defined]
        return bool(status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def may_be_in_transaction(self, connection: MyConnection) -> bool:
        # A SELECT may have begun one.
        return self.in_transaction(connection) or not (connection.get_autocommit() or has_told_its_status(connection))

    def create_tables(self, connection: MyConnection) -> None:
        refused = isinstance(connection, PacketConnection) and connection.server.refuses_cascades
        for name in ("create_sessions", "create_messages_without_cascade" if refused else "create_messages"):
            self.execute(connection, name, {})

    def create_leases(self, connection: MyConnection) -> None:
        self.execute(connection, "create_leases", {})

    def join_transaction(self, connection: MyConnection, *, writes: bool) -> bool:
        if not self.in_transaction(connection) and not connection.get_autocommit():
            # The next statement begins one. START TRANSACTION would end LOCK TABLES.
            connection.server_status |= SERVER_STATUS.SERVER_STATUS_IN_TRANS  # type: ignore[attr-defined]
        return self.in_transaction(connection)

    def page_of_sessions(self, connection: MyConnection, name: str, parameters: Parameters) -> list[Any]:
        bounds = {"beyond": parameters["prefix"] + _LAST_OF_PLANE, "below": parameters["prefix"] + _FIRST}
        try:
            return self.execute(connection, name, {**parameters, **bounds})
        except own(pymysql.Error) as exc:
            if errno_of(exc) not in (CANNOT_CONVERT, *MIXED_COLLATIONS):
                raise
        # The column's character set has nothing beyond.
        return self.execute(connection, name, {**parameters, **bounds, "beyond": None, "above_prefix": None})

    def for_ids_that_can_be(
        self, connection: MyConnection, session_ids: Sequence[str], do: Callable[[Sequence[str]], T], nothing: T
    ) -> T:
        try:
            return do(session_ids)
        except own(pymysql.Error) as exc:
            if errno_of(exc) not in (CANNOT_CONVERT, *MIXED_COLLATIONS):
                raise
        possible = [session_id for session_id in session_ids if self._can_be(connection, session_id)]
        return do(possible) if possible else nothing

    def _can_be(self, connection: MyConnection, session_id: str) -> bool:
        """Tell whether the columns' character sets have what an id consists of."""
        try:
            for name in ("lock_session", "lock_newest_id"):
                self.execute(connection, name, {"session_id": session_id})
        except own(pymysql.Error) as exc:
            if errno_of(exc) not in (CANNOT_CONVERT, *MIXED_COLLATIONS):
                raise
            return False
        return True

    def append(
        self,
        connection: MyConnection,
        session_id: str,
        texts: Sequence[str],
        if_position: int | None,
        lease: Lease | None,
    ) -> int:
        if isinstance(connection, PacketConnection) and not may_be_cut(session_id):
            newest = self._write(connection, session_id, texts, if_position, lease)
            if newest is not None:
                return newest
        return super().append(connection, session_id, texts, if_position, lease)

    def replace(
        self,
        connection: MyConnection,
        session_id: str,
        texts: Sequence[str],
        if_position: int | None,
        lease: Lease | None,
    ) -> int:
        if isinstance(connection, PacketConnection) and not may_be_cut(session_id):
            then = "delete_items", "lock_session_for_removal"
            newest = self._write(connection, session_id, texts, if_position, lease, *then)
            if newest is not None:
                return newest
        return super().replace(connection, session_id, texts, if_position, lease)

    def _write(
        self,
        connection: PacketConnection,
        session_id: str,
        texts: Sequence[str],
        if_position: int | None,
        lease: Lease | None,
        *then: str,
    ) -> int | None:
        """Write the batch as one transaction; None, and nothing is written, unless all is as it was asked for."""
        check = [] if if_position is None else ["check_position"]
        parameters = {"session_id": session_id, "position": if_position}
        before = self._checks_of(connection, lease)
        before += self._with_parameters(connection, ["touch_session", *check, *then], parameters)
        packets = self._packets(connection, session_id, texts, (), connection.packet_limit)
        return _if_passed(connection, lambda: transact_insert(connection, self.statements, before, packets))

    def _checks_of(self, connection: MyConnection, lease: Lease | None) -> list[str]:
        """Return what keeps the statements behind it from being executed unless the lease is held."""
        names = ["renew_lease", "check_lease"]
        return [] if lease is None else self._with_parameters(connection, names, lease._asdict())

    def _keep_lease(self, connection: MyConnection, name: str, lease: Lease) -> bool:
        statements = self._with_parameters(connection, [name, "find_lease"], lease._asdict())
        if isinstance(connection, PacketConnection):
            _, found = send(connection, *statements)
        else:
            _, found = (send(connection, statement)[0] for statement in statements)
        return bool(found.rows)

    def insert(
        self, connection: MyConnection, session_id: str, texts: Sequence[str], *, times: Sequence[str] = ()
    ) -> int:
        """Insert in packets that the server takes."""
        limit, step = self._limits(connection)
        packets = self._packets(connection, session_id, texts, times, limit)
        try:
            return insert(connection, self.statements, packets, step)
        except own(pymysql.Error) as exc:
            if errno_of(exc) != OUT_OF_RANGE:
                raise
        [(first_id, step)] = self.execute(connection, "newest_ids", {})
        if not first_id:
            raise numberless_error()
        raise used_up_error() if first_id + len(texts) * step > MAX_ID else kept_error(session_id)

    def load(self, connection: MyConnection, session_id: str, texts: Sequence[str], times: Sequence[str]) -> int:
        return self.insert(connection, session_id, texts, times=times)

    def copy_items(self, connection: MyConnection, parameters: Parameters) -> None:
        ids = [row[0] for row in self.execute(connection, "ids_to_copy", parameters)]
        at_once = _COPIES if isinstance(connection, PacketConnection) else 1
        for start in range(0, len(ids), at_once):
            part = [{**parameters, "id": row_id} for row_id in ids[start : start + at_once]]
            send(connection, *(self._with_parameters(connection, ["copy_item"], one)[0] for one in part))

    def _packets(
        self, connection: MyConnection, session_id: str, texts: Sequence[str], times: Sequence[str], limit: int
    ) -> Iterator[Packet]:
        def check(count: int) -> str:
            name = "check_item" if count == 1 else "check_items"
            [statement] = self._with_parameters(connection, [name], {"session_id": session_id, "count": count})
            return statement

        statement = self.statements["load_item" if times else "insert_item"]
        return cut(statement, session_id, texts, times, _quotes(connection), limit, check)

    def _limits(self, connection: MyConnection) -> tuple[int, int]:
        """Return the bytes that a packet may have, and the step from one id to the next."""
        if isinstance(connection, PacketConnection):
            return connection.packet_limit, connection.id_step
        [(limit, step, forced_id, comment)] = self.execute(connection, "packet_limit", {})
        check_engine(connection, self.engine, comment=comment)
        check_no_id_is_forced(forced_id)
        return limit, step

    def pop(self, connection: MyConnection, session_id: str, lease: Lease | None) -> tuple[Row | None, int]:
        names = ["lock_session_for_removal", "lock_newest_items", "delete_newest_item"]
        results = self._transact(connection, names, {"session_id": session_id, "count": 2}, lease)
        if results is None:
            return super().pop(connection, session_id, lease)
        note(connection, self.tables[1], "lock_newest_items", results[-2])
        rows = results[-2].rows
        return rows[0] if rows else None, rows[1][0] if len(rows) > 1 else 0

    def clear(self, connection: MyConnection, session_id: str, lease: Lease | None) -> None:
        names = ["lock_session_for_removal", "delete_items", "delete_session"]
        if self._transact(connection, names, {"session_id": session_id}, lease) is None:
            super().clear(connection, session_id, lease)

    def write_sealed(
        self, connection: MyConnection, session_id: str, write: SealedWrite, lease: Lease | None
    ) -> int | None:
        names = steps_of(write)
        if names is None or not isinstance(connection, PacketConnection):
            return None
        newest = self._write_steps(connection, session_id, names, write, lease)
        if newest is None and write.is_guess:
            raise moved_error(session_id, None)
        return newest

    def _write_steps(
        self, connection: PacketConnection, session_id: str, names: list[str], write: SealedWrite, lease: Lease | None
    ) -> int | None:
        parameters = {
            "session_id": session_id,
            "position": write.position,
            "before": write.before,
            "seal": write.marked,
        }
        if not write.texts:
            return None if self._transact(connection, names, parameters, lease) is None else 0
        before = self._checks_of(connection, lease) + self._with_parameters(connection, names, parameters)
        packets = self._packets(connection, session_id, write.texts, write.times, connection.packet_limit)
        return _if_passed(connection, lambda: transact_insert(connection, self.statements, before, packets))

    def _transact(
        self, connection: MyConnection, names: Iterable[str], parameters: Parameters, lease: Lease | None
    ) -> list[Result] | None:
        """Run statements as one transaction; None, and nothing is done, where they have to go singly, or may not."""
        if not isinstance(connection, PacketConnection):
            return None
        statements = self._checks_of(connection, lease) + self._with_parameters(connection, names, parameters)
        return _if_passed(connection, lambda: transact(connection, self.statements, statements))

    def server_session(self, connection: MyConnection) -> int | None:
        return connection.thread_id()  # type: ignore[no-untyped-call, no-any-return]

    def close_if_interrupted(self, connection: MyConnection, exc: BaseException) -> None:
        end_interrupted(connection, exc, self.statements["still_busy"])

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

    def newest_id(self, connection: MyConnection, session_id: str) -> int:
        rows = self.execute(connection, "lock_newest_id", {"session_id": session_id})
        return position_of(rows[0][0] if rows else None)

    def delete_items(self, connection: MyConnection, session_id: str) -> None:
        # No trigger of these servers suppresses a deletion, and an older snapshot shows what others have removed.
        self.execute(connection, "delete_items", {"session_id": session_id})

    def end_session(self, connection: MyConnection, number: int, *, age: float, opened: Opened | None) -> None:
        with suppress_own(pymysql.Error):
            if self.execute(connection, "idle_session", {"id": number}):
                self.execute(connection, "end_session", {"id": number})

    def tls_in_use(self, connection: MyConnection) -> str:
        # Not from SHOW STATUS, which knows no LIMIT.
        version = getattr(connection._sock, "version", None)  # type: ignore[attr-defined]  # noqa: SLF001
        return (version() or "") if version else ""

    def column_checks(self, sessions: Columns, messages: Columns) -> list[Check]:
        return column_checks(sessions, messages, self.statements)

    def mend(self, connection: MyConnection, statement: str) -> None:
        send(connection, statement)

    def own_checks(self, connection: MyConnection) -> list[Check]:
        found = [engine_check({table: self._engine(connection, table) for table in self.tables})]
        if not isinstance(connection, PacketConnection):
            for table, name in zip(self.tables, ("definition_of_sessions", "definition_of_messages"), strict=True):
                found += temporary_checks(table, self.execute(connection, name, {})[0][1])
        if isinstance(connection, PacketConnection):
            found += cluster_check(connection.server)
            if connection.server.refuses_cascades:
                names = self.execute(connection, "cascading_keys", self.named(self.tables[1]))
                found.append(cascade_check(self._quoted(self.tables[1]), str(names[0][0]) if names else ""))
        return found

    def _engine(self, connection: MyConnection, table: str) -> str:
        return str(self.execute(connection, "engine", self.named(table))[0][0])

    def failure(self, exc: Exception) -> Failure:
        errno = errno_of(exc)
        if errno == NOT_FOR_TABLE and self._server.refuses_cascades:
            return NO_CASCADE
        # Galera's nodes share the ids out anew when one comes or goes, and for a moment two may take the same.
        if errno == DUPLICATE_KEY and self._server.cluster == GALERA:
            return TRY_AGAIN
        return statement_failure(exc)

    def words_of(self, exc: BaseException) -> str:
        return describe(exc)


def _if_passed(connection: PacketConnection, transact: Callable[[], T]) -> T | None:
    """Run a transaction; None, and it is rolled back, when a check within it did not hold."""
    try:
        return transact()
    except own(pymysql.Error) as exc:
        if errno_of(exc) not in (MORE_THAN_ONE_ROW, OUT_OF_RANGE):
            raise
    connection.rollback()
    return None


def _quotes(connection: MyConnection) -> tuple[Quote, Quote]:
    """Say how short and long texts are quoted."""
    # A proxy may not keep the mode that we set.
    plainly = isinstance(connection, PacketConnection) and not connection.server_status & _NO_BACKSLASH_ESCAPES
    return (quote_plain,) * 2 if plainly else (quote_short, quote_long)
