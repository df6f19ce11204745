"""The operations in PostgreSQL, through psycopg 3.

One autocommitted statement, and so one round trip, for each common operation: writes
use data-modifying CTEs. Nothing relies on the state of a server session, so a pooler
in transaction mode may stand between.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from psycopg import errors

from sessions._checks import Check
from sessions._cursors import REST
from sessions._dialects.dialect import Columns, Dialect, may_be_cut, position_of, whole
from sessions._dialects.driver import Parameters
from sessions._dialects.statements import load_statements
from sessions._items import Row
from sessions._leases import Lease
from sessions._reentry import own, suppress_own
from sessions._sealing import SealedWrite, moved_error
from sessions.errors import apart_error, changed_error, kept_error, numberless_error, temporary_error

from .arrays import array_of, is_large, parts_of
from .checks import TEMPORARY, column_checks, own_checks
from .driver import PGConnection, PostgresDriver, execute_alone, guards, takes_pipelines
from .sealed import steps_of
from .values import PlainCursor


class PostgresDialect(PostgresDriver, Dialect[PGConnection]):
    """The operations in PostgreSQL."""

    dates_by_transactions = True
    listed_times = rf"((?!0000)(?P<year>[0-9]{{4,6}}){REST}(?P<before> BC)?|-?infinity)?"

    def orders_by_code_points(self, connection: PGConnection) -> bool:
        # Otherwise by their bytes in the database's encoding, which also may lack the character above a prefix.
        return connection.pgconn.parameter_status(b"server_encoding") == b"UTF8"

    def page_of_sessions(self, connection: PGConnection, name: str, parameters: Parameters) -> list[Any]:
        def ask() -> list[Any]:
            return self.execute(connection, name, parameters)

        def ask_shards() -> list[Any]:
            rows = self.execute(connection, "sessions_of_shards", parameters)
            ids = {"ids": self.list_parameter(connection, [row[0] for row in rows])}
            counts = dict(self.execute(connection, "count_items_of", ids))
            return [(*row, min(counts.get(row[0], 0), parameters["count_limit"] + 1)) for row in rows]

        return self.or_else(connection, ask, ask_shards)

    def touch(self, connection: PGConnection, session_id: str) -> None:
        rows = self.execute(connection, "touch_session", {"session_id": session_id})
        if rows and rows[0][0] != session_id:
            raise changed_error(session_id, rows[0][0])
        # Where a trigger suppresses the update, the row can be locked all the same.
        if not rows and not self.lock(connection, session_id):
            raise kept_error(session_id)

    def insert(self, connection: PGConnection, session_id: str, texts: Sequence[str]) -> int:
        newest = 0
        for part in parts_of(texts):
            parameters = {"session_id": session_id, "items": array_of(connection, part)}
            newest = self._newest_of(self.execute(connection, "insert_items", parameters), len(part), session_id)
        return newest

    def load(self, connection: PGConnection, session_id: str, texts: Sequence[str], times: Sequence[str]) -> int:
        if self.seals:
            self.execute(connection, "use_utc", {})
        newest = start = 0
        for part in parts_of(texts):
            parameters = {
                "session_id": session_id,
                "items": array_of(connection, part),
                "times": array_of(connection, times[start : start + len(part)]),
            }
            newest = self._newest_of(self.execute(connection, "load_items", parameters), len(part), session_id)
            start += len(part)
        return newest

    def _newest_of(self, rows: Sequence[Any], count: int, session_id: str) -> int:
        if others := [other for _, other, _ in rows if other is not None]:
            raise changed_error(session_id, others[0])
        if len(rows) != count:
            raise kept_error(session_id)
        if rows[-1][0] is None:
            raise numberless_error()
        position_of(rows[0][0])
        ids = [whole(rows[0][2] or 0), *(whole(row_id) for row_id, _, _ in rows)]
        if any(this >= following for this, following in pairwise(ids)):
            raise self.unordered_error()
        return ids[-1]

    def append(
        self,
        connection: PGConnection,
        session_id: str,
        texts: Sequence[str],
        if_position: int | None,
        lease: Lease | None,
    ) -> int:
        if not is_large(texts) and not may_be_cut(session_id):
            name = "append_items" if if_position is None else "append_items_at"
            parameters = {"session_id": session_id, "items": array_of(connection, texts), "position": if_position}
            match self._at_once(connection, name, parameters, lease):
                case [(newest, *_)] if newest:
                    return whole(newest)
        # Nothing was written: a conflict, a writer that came and went, or something that keeps rows away; this tells.
        return super().append(connection, session_id, texts, if_position, lease)

    def replace(
        self,
        connection: PGConnection,
        session_id: str,
        texts: Sequence[str],
        if_position: int | None,
        lease: Lease | None,
    ) -> int:
        if not is_large(texts) and not may_be_cut(session_id) and self.is_alone(connection):
            parameters = {"session_id": session_id, "items": array_of(connection, texts), "position": if_position}
            match self._at_once(connection, "replace_items", parameters, lease):
                case [(newest, 1, *_)]:
                    return whole(newest or 0)
        return super().replace(connection, session_id, texts, if_position, lease)

    def _at_once(self, connection: PGConnection, name: str, parameters: Parameters, lease: Lease | None) -> list[Any]:
        """Execute a statement that makes a session and its rows; no row where it was refused, which may be due to that.

        A policy of the messages that looks for their session sees what was there before the statement.
        """
        joined = self.in_transaction(connection)
        try:
            return self.execute_checked(connection, name, parameters, lease)
        except own(errors.InsufficientPrivilege):
            with suppress_own(self.driver_error):
                if joined:
                    self.execute(connection, "rollback_to_savepoint", {})
                elif self.in_transaction(connection):
                    self.roll_back(connection)  # psycopg began it with the statement
                return []
            raise  # a transaction of ours has no savepoint, and the session in it is there by then

    def pop(self, connection: PGConnection, session_id: str, lease: Lease | None) -> tuple[Row | None, int]:
        if self.is_alone(connection):
            match self.execute_checked(connection, "pop_item", {"session_id": session_id}, lease):
                case [(None, _, None, True, _)]:
                    return None, 0
                case [(row_id, text, newest, _, _)] if row_id is not None:
                    return (whole(row_id), text), whole(newest or 0)
        # In a transaction of others, where nothing can be undone alone; or nothing was removed: a writer came and went,
        # or something suppresses rows.
        return super().pop(connection, session_id, lease)

    def clear(self, connection: PGConnection, session_id: str, lease: Lease | None) -> None:
        if not self.is_alone(connection) or not self.execute_checked(
            connection, "clear_session", {"session_id": session_id}, lease
        ):
            super().clear(connection, session_id, lease)

    def write_sealed(
        self, connection: PGConnection, session_id: str, write: SealedWrite, lease: Lease | None
    ) -> int | None:
        if not write.is_common or is_large(write.texts):
            return None
        if not self.is_alone(connection) or not takes_pipelines(connection):
            return None
        items, times = array_of(connection, write.texts), array_of(connection, write.times)
        steps = steps_of(session_id, write, items, times)
        try:
            rows = self.execute_steps(connection, [*guards(lease), *steps])
        except own(errors.DivisionByZero):
            if write.is_guess:
                raise moved_error(session_id, None) from None
            return None
        return int(rows[0][0] or 0) if write.texts else 0

    def renew_lease(self, connection: PGConnection, lease: Lease) -> bool:
        return super().renew_lease(connection, lease) or self._is_lost(connection, lease)

    def release_lease(self, connection: PGConnection, lease: Lease) -> bool:
        return super().release_lease(connection, lease) or self._is_lost(connection, lease)

    def _is_lost(self, connection: PGConnection, lease: Lease) -> bool:
        """Return False; raise an error where the lease is there, and a policy keeps it from being changed."""
        if self.execute(connection, "find_lease", lease._asdict()):
            raise kept_error(lease.session_id)
        return False

    def creating(self, connection: PGConnection, *names: str) -> str:
        """Return what makes tables where one of ours is: where the search_path begins they would hide those behind."""
        schemas = [schema for table in self.tables if (schema := self._schema_of(connection, table))]
        statements = self.statements
        if schemas and "." not in "".join((schemas[0], *self.tables)):
            tables = (f"{schemas[0]}.{table}" for table in self.tables)
            statements = load_statements(self.name, *tables, quote=self.identifier_quote)
        return ";\n".join(statements[name] for name in names)

    def making(self, connection: PGConnection, name: str, table: str) -> str:
        [(_, is_partitioned)] = self.execute(connection, "kind", self.named(table))
        # PostgreSQL manual, CREATE INDEX: those of partitioned tables cannot be built concurrently.
        return self.statements[name].replace(" CONCURRENTLY", "") if is_partitioned else self.statements[name]

    def create_tables(self, connection: PGConnection) -> None:
        self._create(connection, create_sessions=self.tables[0], create_messages=self.tables[1])

    def create_leases(self, connection: PGConnection) -> None:
        self._create(connection, create_leases=self.leases_table)

    def create_seals(self, connection: PGConnection) -> None:
        self.create_tables(connection)
        self._create(connection, create_seals=self.seals_table)

    def _create(self, connection: PGConnection, **tables: str) -> None:
        """Make the tables that are missing, by the names of their statements."""
        with self.transaction(connection):
            self.execute(connection, "lock_schema", {})
            names = [name for name, table in tables.items() if not self._schema_of(connection, table)]
            if names:
                PlainCursor(connection).execute(self.creating(connection, *names))
            schema = self._schema_of(connection, self.tables[0])
            for table in tables.values():
                if self._persistence(connection, table) == TEMPORARY:
                    raise temporary_error(table)
                # Beside other sessions it is theirs, unless it is said where it is.
                is_named = "." in "".join(self.tables)
                if schema and not is_named and (other := self._schema_of(connection, table)) != schema:
                    raise apart_error(table, schema, other)

    def _schema_of(self, connection: PGConnection, table: str) -> str:
        rows = self.execute(connection, "schema_of", self.named(table))
        return str(rows[0][0]) if rows else ""

    def _persistence(self, connection: PGConnection, table: str) -> str:
        return str(self.execute(connection, "persistence", self.named(table))[0][0])

    def column_checks(self, sessions: Columns, messages: Columns) -> list[Check]:
        return column_checks(sessions, messages, self.statements)

    def mend(self, connection: PGConnection, statement: str) -> None:
        if " CONCURRENTLY " in statement:
            execute_alone(connection, statement)
            return
        with self.transaction(connection):
            self.execute(connection, "lock_schema", {})
            PlainCursor(connection).execute(statement)

    def own_checks(self, connection: PGConnection) -> list[Check]:
        def ask(name: str, table: str = "") -> list[Any]:
            return self.execute(connection, name, self.named(table) if table else {})

        encoding = (connection.pgconn.parameter_status(b"server_encoding") or b"").decode()
        tables = (*self.tables, self.leases_table, self.seals_table)
        schemas = {table: self._schema_of(connection, table) for table in tables}
        return own_checks(ask, self.tables, schemas, connection.pgconn.backend_pid, encoding)
