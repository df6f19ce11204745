"""The operations in MySQL and MariaDB, through PyMySQL.

On our own connections a write is one transaction, sent at once (writes.py); on those of the application its statements
are sent one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pymysql

from sessions._checks import Check
from sessions._cursors import NUMBER, REST, SEPARATOR, YEAR, no_cursor_error
from sessions._dialects.dialect import Columns, Dialect, may_be_cut, position_of
from sessions._dialects.driver import Parameters
from sessions._items import MAX_ID, Row
from sessions._leases import Lease
from sessions._reentry import own
from sessions._sealing import SealedWrite, moved_error
from sessions._settings.options import Options
from sessions.errors import ConfigurationError, kept_error, numberless_error, used_up_error

from .answers import MyConnection, is_mariadb
from .checks import (
    cascade_check,
    cluster_check,
    column_checks,
    engine_check,
    json_checks,
    key_checks,
    message_key_checks,
    temporary_checks,
)
from .connection import PacketConnection
from .driver import MySQLDriver, quotes
from .errors import (
    CANNOT_CONVERT,
    DUPLICATE_INDEX,
    INTERRUPTED,
    MIXED_COLLATIONS,
    NO_SUCH_VALUE,
    OUT_OF_RANGE,
    errno_of,
)
from .layout import note
from .packets import check_engine, send
from .preparing import check_no_id_is_forced
from .sealed import steps_of
from .transactions import check_size, insert, size_of, transact
from .writes import packets_of, transacted, write_batch, write_behind

# MySQL names the foreign key after the table, `<table>_ibfk_1`, in fewer than 64 characters on MariaDB.
_MAX_MESSAGES_TABLE = 56

# How often MariaDB may acknowledge a deletion that it has not done, or not to its end.
_DELETIONS = 3

# How often what was interrupted is counted anew.
_COUNTS = 5

# How many rows are copied in one round trip.
_COPIES = 100

# MariaDB takes it for the last of all when it looks for a prefix by the index.
_LAST_OF_PLANE = "\uffff"
# Nobody has an id with a NUL.
_FIRST = "\x01"

# In characters: few servers take less at once.
_LONG_TEXT = 100_000
# What a character takes at most: four bytes, each of them in two digits.
_BYTES = 8


class MySQLDialect(MySQLDriver, Dialect[MyConnection]):
    """The operations in MySQL and MariaDB."""

    listed_times = rf"(0000-00-00( 00:00:00(\.0+)?)?|{YEAR}{REST}|{NUMBER})?"
    indexes_hold_the_key = True

    def __init__(self, options: Options) -> None:
        if max(map(len, options.messages_table.split("."))) > _MAX_MESSAGES_TABLE:
            raise ConfigurationError(
                f"messages_table {options.messages_table!r} is too long for the name of its foreign key; "
                f"use at most {_MAX_MESSAGES_TABLE} characters"
            )
        super().__init__(options)

    def create_tables(self, connection: MyConnection) -> None:
        refused = isinstance(connection, PacketConnection) and connection.server.refuses_cascades
        for name in ("create_sessions", "create_messages_without_cascade" if refused else "create_messages"):
            self.execute(connection, name, {})

    def create_leases(self, connection: MyConnection) -> None:
        self.execute(connection, "create_leases", {})

    def page_of_sessions(self, connection: MyConnection, name: str, parameters: Parameters) -> list[Any]:
        bounds = {"beyond": parameters["prefix"] + _LAST_OF_PLANE, "below": parameters["prefix"] + _FIRST}
        try:
            for _ in range(_COUNTS):
                rows = self.execute(connection, name, {**parameters, **bounds})
                # The number of items, where the server was interrupted while it planned to count them.
                if all(row[4] is not None for row in rows):
                    return rows
            raise pymysql.OperationalError(INTERRUPTED[0], "the counting of the items was interrupted")
        except own(pymysql.Error) as exc:
            if errno_of(exc) == NO_SUCH_VALUE:
                raise no_cursor_error(f"{parameters['updated']}{SEPARATOR}{parameters['session_id']}") from None
            if errno_of(exc) not in (CANNOT_CONVERT, *MIXED_COLLATIONS):
                raise
        # The column's character set has nothing beyond.
        return self.execute(connection, name, {**parameters, **bounds, "beyond": None, "above_prefix": None})

    def append(
        self,
        connection: MyConnection,
        session_id: str,
        texts: Sequence[str],
        if_position: int | None,
        lease: Lease | None,
    ) -> int:
        if isinstance(connection, PacketConnection) and not may_be_cut(session_id):
            newest = write_batch(self, connection, session_id, texts, if_position, lease)
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
            newest = write_batch(self, connection, session_id, texts, if_position, lease, *then)
            if newest is not None:
                return newest
        return super().replace(connection, session_id, texts, if_position, lease)

    def _keep_lease(self, connection: MyConnection, name: str, lease: Lease) -> bool:
        # In one transaction, or one that is taken and cannot be found would be kept.
        parameters = lease._asdict()
        if not isinstance(connection, PacketConnection):
            with self.transaction(connection):
                self.change(connection, name, parameters)
                return bool(self.execute(connection, "find_lease", parameters))
        statements = self.with_parameters(connection, [name, "find_lease"], parameters)
        if self.in_transaction(connection):
            results = send(connection, *statements)
        else:
            results = transact(connection, self.statements, statements)
        if not results[-1].rows and connection.server.is_mariadb:
            results = send(connection, *self.with_parameters(connection, ["find_lease"], parameters))
        return bool(results[-1].rows)

    def insert(
        self, connection: MyConnection, session_id: str, texts: Sequence[str], *, times: Sequence[str] = ()
    ) -> int:
        """Insert in packets that the server takes."""
        limit, step = self._limits(connection)
        packets = packets_of(self, connection, session_id, texts, times, limit)
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
            send(connection, *(self.with_parameters(connection, ["copy_item"], one)[0] for one in part))

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
        results = transacted(self, connection, names, {"session_id": session_id, "count": 2}, lease)
        if results is None:
            return super().pop(connection, session_id, lease)
        newest = results["lock_newest_items"]
        note(connection, self.tables[1], "lock_newest_items", newest)
        rows = newest.rows
        return rows[0] if rows else None, rows[1][0] if len(rows) > 1 else 0

    def clear(self, connection: MyConnection, session_id: str, lease: Lease | None) -> None:
        names = ["lock_session_for_removal", "delete_items", "delete_session"]
        if transacted(self, connection, names, {"session_id": session_id}, lease) is None:
            super().clear(connection, session_id, lease)

    def write_sealed(
        self, connection: MyConnection, session_id: str, write: SealedWrite, lease: Lease | None
    ) -> int | None:
        names = steps_of(write)
        if names is None or not isinstance(connection, PacketConnection):
            return None
        newest = write_behind(self, connection, session_id, names, write, lease)
        if newest is None and write.is_guess:
            raise moved_error(session_id, None)
        return newest

    def newest_id(self, connection: MyConnection, session_id: str) -> int:
        rows = self.execute(connection, "lock_newest_id", {"session_id": session_id})
        return position_of(rows[0][0] if rows else None)

    def newest_rows_now(self, connection: MyConnection, session_id: str, count: int) -> list[Row]:
        parameters = {"session_id": session_id, "count": count, "upto": MAX_ID}
        return self.locked(connection, "lock_newest_items", parameters)

    def has_rows(self, connection: MyConnection, session_id: str) -> bool:
        rows = self.execute(connection, "lock_newest_id", {"session_id": session_id})
        return bool(rows) and rows[0][0] is not None

    def delete_items(self, connection: MyConnection, session_id: str) -> int:
        # No trigger of these servers suppresses a deletion, and an older snapshot shows what others have removed.
        if not is_mariadb(connection):
            return self.change(connection, "delete_items", {"session_id": session_id})
        newest = self.newest_id(connection, session_id)
        deleted = 0
        for _ in range(_DELETIONS):
            deleted += self.change(connection, "delete_items", {"session_id": session_id})
            # Newer ones may be those of a writer that takes no lock.
            if not 0 < self.newest_id(connection, session_id) <= newest:
                return deleted
        raise kept_error(session_id)

    def update_item(self, connection: MyConnection, session_id: str, row_id: int, text: str) -> bool:
        # A server hangs up at what is too large. That of an application's connection has to be asked for its limit.
        if isinstance(connection, PacketConnection) or len(text) > _LONG_TEXT:
            limit, _ = self._limits(connection)
            if _BYTES * len(text) > limit - _LONG_TEXT:
                check_size(size_of(quotes(connection)[0](text)), limit)
        # What it counts are rows that it has changed: one of JSON, which leaves the token out, may be that already.
        return super().update_item(connection, session_id, row_id, text) or bool(
            self.execute(connection, "find_item", {"session_id": session_id, "id": row_id})
        )

    def column_checks(self, sessions: Columns, messages: Columns) -> list[Check]:
        return column_checks(sessions, messages, self.statements)

    def mend(self, connection: MyConnection, statement: str) -> None:
        try:
            send(connection, statement)
        except own(pymysql.OperationalError) as exc:
            if errno_of(exc) != DUPLICATE_INDEX:  # somebody else has made the index by now
                raise

    def own_checks(self, connection: MyConnection) -> list[Check]:
        found = [engine_check({table: self._engine(connection, table) for table in self.tables})]
        sessions, messages = self.tables
        keys = self.execute(connection, "session_key", self.named(sessions))
        found += key_checks(sessions, self._quoted(sessions), found=bool(keys))
        indexes = [row[0] for row in self.execute(connection, "indexes", self.named(messages))]
        found += message_key_checks(messages, self._quoted(messages), indexes)
        asked = "definition_of_sessions", "definition_of_messages"
        definitions = [self.execute(connection, name, {})[0][1] for name in asked]
        found += json_checks(definitions[1], self.statements["widen_text"])
        if not isinstance(connection, PacketConnection):
            for table, definition in zip(self.tables, definitions, strict=True):
                found += temporary_checks(table, definition)
        if isinstance(connection, PacketConnection):
            found += cluster_check(connection.server)
            if connection.server.refuses_cascades:
                names = self.execute(connection, "cascading_keys", self.named(messages))
                found.append(cascade_check(self._quoted(messages), str(names[0][0]) if names else ""))
        return found

    def _engine(self, connection: MyConnection, table: str) -> str:
        return str(self.execute(connection, "engine", self.named(table))[0][0])
