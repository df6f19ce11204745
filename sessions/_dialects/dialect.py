"""One attempt of each operation on a connection.

A dialect knows nothing of where the connection comes from, nor of repetition. The
operations here need several round trips; a server's dialect replaces the common ones
by one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

from sessions._checks import Check
from sessions._items import BEFORE_ALL, MAX_ID, RecordRow, Row
from sessions._leases import Lease
from sessions._sealing import SealedWrite
from sessions.errors import (
    check_position,
    cut_error,
    hidden_error,
    kept_error,
    lost_lease_error,
    low_id_error,
    wrong_id_error,
)

from .driver import Driver, Parameters

C = TypeVar("C")
T = TypeVar("T")
R = TypeVar("R", bound=tuple[Any, ...])
# The type and the collation of each column, by its name.
Columns = Mapping[str, tuple[str, str]]

# How often a row that another one makes may have been removed again when it is to be locked.
_HOLDS = 3


def may_be_cut(session_id: str) -> bool:
    """Tell whether a column may keep another id without an error, which takes further statements to find out."""
    return session_id.endswith(" ")


def numbered(rows: list[R]) -> list[R]:
    """Return rows that begin with an id, by which they are ordered; raise SchemaError unless it is a number."""
    if rows and not isinstance(rows[0][0], int):
        # As a DOUBLE, say.
        return [(whole(row_id), *rest) for row_id, *rest in rows]  # type: ignore[misc]
    return rows


def whole(row_id: Any) -> int:
    """Return an id as the whole number that it is; raise SchemaError for any other."""
    if isinstance(row_id, (float, Decimal)) and row_id == row_id // 1:
        return int(row_id)
    if not isinstance(row_id, int):
        raise wrong_id_error()
    return row_id


def position_of(newest: Any) -> int:
    """Return the position that a newest id is, 0 for none; raise SchemaError where it would be taken for none."""
    if newest is None:
        return 0
    position = whole(newest)
    if position < 1:
        raise low_id_error(position)
    return position


@dataclass(frozen=True)
class Change:
    """The last write to a session's row."""

    age: float  # in seconds, by the database's clock
    is_removal: bool  # rows were removed by it, or may have been
    now: float  # the second of the day
    noted: int  # the microseconds that note when rows were removed last; 0 where nothing does


class Dialect(Driver[C]):
    """The operations in one database, for two tables."""

    # Reads the newest rows and keeps everybody else from the first of them.
    lock_newest_statement: ClassVar[str] = "lock_newest_items"
    # The form of a listing's times, or of what it has in the place of one: see _cursors.py.
    listed_times: ClassVar[str]
    # A write's answer can be lost on the way from the server: it carries a token, and is looked for.
    settles: ClassVar[bool] = True
    # Every index ends with the primary key, whether or not it says so.
    indexes_hold_the_key: ClassVar[bool] = False
    # CURRENT_TIMESTAMP, by which other programs and triggers date what they write, is when the transaction began.
    dates_by_transactions: ClassVar[bool] = False

    # One attempt of each operation

    def newest_rows(self, connection: C, session_id: str, *, count: int, upto: int) -> list[Row]:
        """Return at most count rows up to id upto, newest first."""
        name = "all_items" if count == upto == MAX_ID else "newest_items"
        return self.execute(connection, name, {"session_id": session_id, "count": count, "upto": upto})

    def record_rows(self, connection: C, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        """Return at most count rows after id after and up to id upto, oldest first, with their times."""
        parameters = {"session_id": session_id, "after": after, "upto": upto, "count": count}
        return self.execute(connection, "records", parameters)

    def newest_range(self, connection: C, session_id: str, count: int) -> tuple[int, int]:
        """Return the oldest and the newest id of the newest count rows; (0, 0) when there are none."""
        oldest, newest = self._newest_range(connection, session_id, count)
        return 0 if oldest is None else whole(oldest), position_of(newest)

    def _newest_range(self, connection: C, session_id: str, count: int) -> tuple[int | None, int | None]:
        [(oldest, newest)] = self.execute(connection, "newest_range", {"session_id": session_id, "count": count})
        return oldest, newest

    def page_of_sessions(self, connection: C, name: str, parameters: Parameters) -> list[Any]:
        """Return a page of a listing, by the name of its statement."""
        return self.execute(connection, name, parameters)

    def orders_by_code_points(self, connection: C) -> bool:
        """Tell whether ids are ordered by their code points, so that those with a prefix stand side by side."""
        return True

    def append(
        self, connection: C, session_id: str, texts: Sequence[str], if_position: int | None, lease: Lease | None
    ) -> int:
        """Write the batch under the session row's lock; return the newest id."""
        with self.transaction(connection):
            self.check_lease(connection, lease)
            self.touch(connection, session_id)
            self.check_position(connection, session_id, if_position)
            return self.insert(connection, session_id, texts)

    def replace(
        self, connection: C, session_id: str, texts: Sequence[str], if_position: int | None, lease: Lease | None
    ) -> int:
        """Put the texts in place of all rows; return the newest id."""
        with self.transaction(connection):
            self.check_lease(connection, lease)
            self.touch(connection, session_id)
            self.check_position(connection, session_id, if_position)
            self.delete_items(connection, session_id)
            newest = self.insert(connection, session_id, texts) if texts else 0
            if self.settles:
                self.lock_for_removal(connection, session_id)  # behind the rows, whose times it is to be later than
            return newest

    def pop(self, connection: C, session_id: str, lease: Lease | None) -> tuple[Row | None, int]:
        """Remove the newest row and return it, None when there is none; and the id of the newest one then."""
        with self.transaction(connection):
            self.check_lease(connection, lease)
            self.lock_for_removal(connection, session_id)
            parameters = {"session_id": session_id, "count": 2, "upto": MAX_ID}
            rows = numbered(self.locked(connection, self.lock_newest_statement, parameters))
            if not rows:
                return None, 0
            [(row_id, text), *others] = rows
            if text is None:
                raise hidden_error(session_id, row_id)
            self.delete_item(connection, session_id, row_id)
            return (row_id, text), whole(others[0][0]) if others else 0

    def clear(self, connection: C, session_id: str, lease: Lease | None) -> None:
        """Delete the rows and then the session row, whether or not the tables cascade."""
        with self.transaction(connection):
            self.check_lease(connection, lease)
            # Rows go under their session's lock, or of two who delete each would wait for what the other one has.
            is_there = self.lock_for_removal(connection, session_id)
            if not is_there:
                if not self.has_rows(connection, session_id):
                    return
                # Written since; or without a session, by a program that knows of no foreign key.
                is_there = self.lock_for_removal(connection, session_id)
            self.delete_items(connection, session_id)
            if is_there and not self.change(connection, "delete_session", {"session_id": session_id}):
                raise kept_error(session_id)

    def write_sealed(self, connection: C, session_id: str, write: SealedWrite, lease: Lease | None) -> int | None:
        """Do a write under seals in one round trip; return the newest id, or 0, or None where nothing was done."""
        return None

    # Tables

    def creating(self, connection: C, *names: str) -> str:
        """Return what makes tables, by the names of its statements."""
        return ";\n".join(self.statements[name] for name in names)

    def making(self, connection: C, name: str, table: str) -> str:
        """Return what makes an index of a table, by the name of its statement."""
        return self.statements[name]

    def create_tables(self, connection: C) -> None:
        """Create the tables that are missing."""
        with self.transaction(connection):
            for name in ("create_sessions", "create_messages"):
                self.execute(connection, name, {})

    def create_leases(self, connection: C) -> None:
        """Create the table of leases, if it is missing."""
        with self.transaction(connection):
            self.execute(connection, "create_leases", {})

    def create_seals(self, connection: C) -> None:
        """Create all tables of sealed conversations that are missing."""
        self.create_tables(connection)
        with self.transaction(connection):
            self.execute(connection, "create_seals", {})

    def column_checks(self, sessions: Columns, messages: Columns) -> list[Check]:
        """Judge the types of the columns."""
        return []

    def own_checks(self, connection: C) -> list[Check]:
        """Ask what only this database is asked."""
        return []

    @abstractmethod
    def mend(self, connection: C, statement: str) -> None:
        """Execute what a Check proposes."""

    # Leases

    def take_lease(self, connection: C, lease: Lease) -> bool:
        """Take a lease that nobody holds, or that has expired; False when another one holds it."""
        return self._keep_lease(connection, "take_lease", lease)

    def renew_lease(self, connection: C, lease: Lease) -> bool:
        """Prolong a lease, expired or not; False when another one has taken it, or has had it since."""
        return self._keep_lease(connection, "renew_lease", lease)

    def _keep_lease(self, connection: C, name: str, lease: Lease) -> bool:
        return bool(self.change_alone(connection, name, lease._asdict()))

    def release_lease(self, connection: C, lease: Lease) -> bool:
        """Give a lease back; False when it was not held any more."""
        return bool(self.change_alone(connection, "release_lease", lease._asdict()))

    # Parts of an operation, in an open transaction

    def check_lease(self, connection: C, lease: Lease | None) -> None:
        """Renew a lease, which holds its row until the transaction ends; raise LeaseLostError when it was lost."""
        if lease is not None and not self.renew_lease(connection, lease):
            raise lost_lease_error(lease.session_id)

    def lock(self, connection: C, session_id: str) -> bool:
        """Lock the session's row; False when there is none."""
        return bool(self.locked(connection, "lock_session", {"session_id": session_id}))

    def hold(self, connection: C, session_id: str) -> bool:
        """Lock the session's row, and make it where there is none; False when it was made.

        A row that another transaction is about to commit can neither be seen nor locked: to make it too waits for that.
        """
        for _ in range(_HOLDS):
            if self.lock(connection, session_id):
                return True
            if self.change(connection, "make_session", {"session_id": session_id}):
                return False
        self.check_id_is_kept(connection, session_id)
        raise kept_error(session_id)

    def lock_for_removal(self, connection: C, session_id: str) -> bool:
        """Lock the session's row and note the time of the write; False when there is none."""
        noted = self.change(connection, "lock_session_for_removal", {"session_id": session_id})
        return bool(noted) or self.lock(connection, session_id)

    def touch(self, connection: C, session_id: str) -> None:
        """Create the session's row, or note the time of the write; holds its lock either way."""
        # Where a trigger suppresses the update, the row can be locked all the same.
        if not self.change(connection, "touch_session", {"session_id": session_id}) and not self.lock(
            connection, session_id
        ):
            raise kept_error(session_id)
        self.check_id_is_kept(connection, session_id)

    def check_id_is_kept(self, connection: C, session_id: str) -> None:
        """Raise DatabaseError when a row that was just written has another id: a narrow column cuts blanks silently."""
        if may_be_cut(session_id) and not self.lock(connection, session_id):
            raise cut_error(session_id)

    def check_position(self, connection: C, session_id: str, expected: int | None) -> None:
        """Raise ConflictError when the newest row is another one; None expects nothing."""
        if expected is not None:
            check_position(session_id, expected=expected, position=self.newest_id(connection, session_id))

    def has_rows(self, connection: C, session_id: str) -> bool:
        """Tell whether the session has a row, of whatever id, as it is now."""
        return self._newest_range(connection, session_id, 1)[1] is not None

    @abstractmethod
    def insert(self, connection: C, session_id: str, texts: Sequence[str]) -> int:
        """Insert the texts in order; return the newest id."""

    @abstractmethod
    def load(self, connection: C, session_id: str, texts: Sequence[str], times: Sequence[str]) -> int:
        """Insert the texts in order, with the times that they were made at; return the newest id."""

    def copy_items(self, connection: C, parameters: Parameters) -> None:
        """Copy rows, in their order, into a session that has none."""
        self.execute(connection, "copy_items", parameters)

    def newest_id(self, connection: C, session_id: str) -> int:
        """Return the id of the newest row, 0 when there is none; as it is now, a snapshot may be older."""
        return self.newest_range(connection, session_id, 1)[1]

    def newest_rows_now(self, connection: C, session_id: str, count: int) -> list[Row]:
        """Return at most count rows, newest first, under the session's lock; as they are now, as newest_id()."""
        return self.newest_rows(connection, session_id, count=count, upto=MAX_ID)

    def delete_item(self, connection: C, session_id: str, row_id: int) -> None:
        """Delete a row that is locked, so nobody can be quicker; raise DatabaseError when something keeps it."""
        if not self.change(connection, "delete_item", {"session_id": session_id, "id": row_id}):
            raise kept_error(session_id)

    def delete_items(self, connection: C, session_id: str) -> int:
        """Delete the rows, and return how many; raise DatabaseError when something keeps one."""
        _, newest = self._newest_range(connection, session_id, 1)
        deleted = self.change(connection, "delete_items", {"session_id": session_id})
        # Newer ones may be those of a writer that takes no lock.
        if newest is not None and self.record_rows(connection, session_id, after=BEFORE_ALL, upto=newest, count=1):
            raise kept_error(session_id)
        return deleted

    def update_item(self, connection: C, session_id: str, row_id: int, text: str) -> bool:
        """Put a text in place of a row's; False when there is no such row, or something keeps it as it is."""
        parameters = {"session_id": session_id, "id": row_id, "message_data": text}
        return bool(self.change(connection, "update_item", parameters))

    # What a lost answer is settled by

    def find_token(self, connection: C, session_id: str, tail: str) -> int | None:
        """Return the id of the row whose text ends with tail."""
        rows = self.execute(connection, "find_token", {"session_id": session_id, "tail": tail})
        return rows[0][0] if rows else None

    def last_change(self, connection: C, session_id: str) -> Change | None:
        """Tell when the session's row was written last, and by what; None when there is no row."""
        rows = self.execute(connection, "last_change", {"session_id": session_id})
        if not rows:
            return None
        age, is_removal, now, noted = rows[0]
        if age is None:  # others have left updated_at empty
            age, is_removal = 0, True
        return Change(float(age), is_removal=bool(is_removal), now=float(now), noted=int(noted or 0))
