"""What an operator asks of a database: to list, copy, mend and delete conversations.

Each function is one transaction, or one statement. What is deleted or mended is locked by
its session's row first, as every writer does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TypeVar

from sessions._dialects.dialect import Dialect, numbered, position_of
from sessions._items import BEFORE_ALL, MAX_ID, Row, RowsCheck, SearchRow
from sessions._leases import Lease
from sessions._listing import USER_ROLES, FirstRow, Listing, SessionRow, SizeRow, above, pattern
from sessions._parts import Part
from sessions.errors import gone_error, kept_error, taken_error

C = TypeVar("C")

# The statement of a listing, by its order and whether the newest, or the last, comes first.
_LISTINGS = {
    ("updated", True): "sessions_newest_first",
    ("updated", False): "sessions_oldest_first",
    ("id", False): "sessions_by_id",
    ("id", True): "sessions_by_id_descending",
}


def list_sessions(dialect: Dialect[C], connection: C, listing: Listing) -> list[SessionRow]:
    """Return a page of sessions."""
    bounds = {
        "above_prefix": above(listing.prefix) if listing.prefix and dialect.orders_by_code_points(connection) else None,
        "pattern": pattern(listing.prefix),
    }
    name = _LISTINGS[listing.order, listing.newest_first]
    return dialect.page_of_sessions(connection, name, asdict(listing) | bounds)


def fork(
    dialect: Dialect[C], connection: C, session_id: str, new_id: str, upto: int | None, lease: Lease | None
) -> None:
    """Copy the rows up to an id, with their times, into a session that is not there yet."""
    source = {"session_id": session_id, "upto": MAX_ID if upto is None else upto}
    with dialect.transaction(connection):
        dialect.check_lease(connection, lease)
        dialect.lock(connection, session_id)
        _make_session(dialect, connection, new_id)
        if upto and not is_there(dialect, connection, session_id, upto):
            raise gone_error(session_id, upto)
        [(count,)] = dialect.execute(connection, "count_items", source)
        dialect.copy_items(connection, source | {"new_id": new_id})
        [(copied,)] = dialect.execute(connection, "count_items", {"session_id": new_id, "upto": MAX_ID})
        if copied < count:
            # Where there is no row of the source to be locked, others may have removed items meanwhile.
            [(left,)] = dialect.execute(connection, "count_items", source)
            if copied < left:
                raise kept_error(new_id)
        if count:
            # The first of them, as they ascend.
            [(first, *_)] = dialect.record_rows(connection, new_id, after=BEFORE_ALL, upto=MAX_ID, count=1)
            position_of(first)


def _make_session(dialect: Dialect[C], connection: C, session_id: str) -> None:
    """Make a session's row, and lock it; raise ConflictError where there is one, or rows."""
    if dialect.lock(connection, session_id):
        raise taken_error(session_id)
    dialect.touch(connection, session_id)
    if dialect.has_rows(connection, session_id):
        raise taken_error(session_id)
    if not dialect.lock(connection, session_id):
        raise kept_error(session_id)  # by another unique index, which has taken it for another session


def pop_checked(
    dialect: Dialect[C], connection: C, session_id: str, lease: Lease | None, check: Callable[[Row], bool]
) -> tuple[Row | None, int]:
    """Remove the newest row if it passes, and return it; and the id of the newest one then."""
    with dialect.transaction(connection):
        dialect.check_lease(connection, lease)
        # Before it is looked at: where it stays, no time of a write is to be noted.
        dialect.lock(connection, session_id)
        parameters = {"session_id": session_id, "count": 2, "upto": MAX_ID}
        rows = numbered(dialect.locked(connection, dialect.lock_newest_statement, parameters))
        if not rows:
            return None, 0
        [(row_id, text), *others] = rows
        if not check((row_id, text)):
            return None, row_id
        dialect.lock_for_removal(connection, session_id)
        dialect.delete_item(connection, session_id, row_id)
        return (row_id, text), others[0][0] if others else 0


def replace_newest(
    dialect: Dialect[C],
    connection: C,
    session_id: str,
    texts: Sequence[str],
    count: int,
    check: RowsCheck,
    lease: Lease | None,
) -> int | None:
    """Put texts in place of the newest count rows if they pass, and return the newest id; None where they do not."""
    with dialect.transaction(connection):
        dialect.check_lease(connection, lease)
        # Before they are looked at: where they stay, no time of a write is to be noted.
        dialect.lock(connection, session_id)
        rows = numbered(dialect.newest_rows_now(connection, session_id, count + 1))
        newest = rows[:count]
        if len(newest) < count or not check(newest):
            return None
        dialect.touch(connection, session_id)
        if len(rows) == count:
            dialect.delete_items(connection, session_id)
        else:
            for row_id, _ in newest:
                dialect.delete_item(connection, session_id, row_id)
        written = dialect.insert(connection, session_id, texts)
        if dialect.settles:
            dialect.lock_for_removal(connection, session_id)  # as in Dialect.replace
        return written


def rewrite(dialect: Dialect[C], connection: C, session_id: str, rows: Sequence[tuple[int, str, str]]) -> int:
    """Put texts in place of those that are still what they were; return how many are there, also from before.

    Not as a removal: of the write that a text is of, its new one has the token too.
    """
    written = 0
    with dialect.transaction(connection):
        dialect.lock(connection, session_id)
        bounds = {"after": rows[0][0] - 1, "upto": rows[-1][0]} if rows else {"after": 0, "upto": 0}
        there = dialect.record_rows(connection, session_id, **bounds, count=MAX_ID)
        texts = {row_id: text for row_id, _, text in there}
        for row_id, before, after in rows:
            text = texts.get(row_id)
            if text == before and not dialect.update_item(connection, session_id, row_id, after):
                raise kept_error(session_id)
            written += text in (before, after, after.encode())
    return written


def delete_record(dialect: Dialect[C], connection: C, session_id: str, row_id: int, lease: Lease | None) -> bool:
    """Delete one row; False when the session has none with this id."""
    with dialect.transaction(connection):
        dialect.check_lease(connection, lease)
        dialect.lock_for_removal(connection, session_id)
        if not is_there(dialect, connection, session_id, row_id):
            return False
        dialect.delete_item(connection, session_id, row_id)
        return True


def replace_record(
    dialect: Dialect[C], connection: C, session_id: str, row_id: int, text: str, lease: Lease | None
) -> bool:
    """Put a text in place of a row's; False when the session has none with this id."""
    with dialect.transaction(connection):
        dialect.check_lease(connection, lease)
        # As a removal: the text that goes may be what a lost write would be found by.
        dialect.lock_for_removal(connection, session_id)
        if not is_there(dialect, connection, session_id, row_id):
            return False
        written = dialect.update_item(connection, session_id, row_id, text)
        if not written or not is_there(dialect, connection, session_id, row_id):
            raise kept_error(session_id)
        return True


def delete_sessions(
    dialect: Dialect[C], connection: C, session_ids: Sequence[str], idle: float | None
) -> tuple[int, int]:
    """Delete the sessions that nobody has written to since a moment; return how many, and of how many rows."""

    def lock(ids: Sequence[str]) -> list[str]:
        asked = {"ids": dialect.list_parameter(connection, ids), "idle": idle}
        return [row[0] for row in dialect.locked(connection, "lock_sessions", asked)]

    def lock_each(ids: Sequence[str]) -> list[str]:
        asked = [{"session_id": session_id, "idle": idle} for session_id in sorted(set(ids))]
        return [row[0] for one in asked for row in dialect.locked(connection, "lock_idle_session", one)]

    def delete(ids: Sequence[str]) -> tuple[int, int]:
        return dialect.or_else(
            connection,
            lambda: _delete_locked(dialect, connection, ids, idle, lock),
            lambda: _delete_locked(dialect, connection, ids, idle, lock_each),
        )

    return dialect.for_ids_that_can_be(connection, session_ids, delete, (0, 0))


def _delete_locked(
    dialect: Dialect[C],
    connection: C,
    session_ids: Sequence[str],
    idle: float | None,
    lock: Callable[[Sequence[str]], list[str]],
) -> tuple[int, int]:
    with dialect.transaction(connection):
        # In the order in which writes take them.
        if dialect.seals and session_ids:
            dialect.change(
                connection, "hold_seals", {"ids": dialect.list_parameter(connection, sorted(set(session_ids)))}
            )
        locked = lock(session_ids)
        if idle is not None and locked:
            # Where the first has waited for a writer, it may not have seen what that has written.
            locked = lock(locked)
        orphans: list[str] = []
        if idle is None and len(locked) < len(session_ids):
            # Rows go under their session's lock, as in Dialect.clear().
            left = _with_items(dialect, connection, [one for one in session_ids if one not in locked])
            again = lock(left) if left else []
            orphans = [one for one in left if one not in again]
            locked = list(dict.fromkeys(locked + again))
        if dialect.seals:
            unsealed = session_ids if idle is None else locked
            for name, ids in (("remove_seals", unsealed), ("remove_held_seals", session_ids)):
                if ids:
                    dialect.change(connection, name, {"ids": dialect.list_parameter(connection, ids)})
        items = sum(dialect.delete_items(connection, one) for one in orphans)
        if not locked:
            return 0, items
        parameters = {"ids": dialect.list_parameter(connection, locked)}
        items += dialect.change(connection, "delete_items_of", parameters)
        if kept := _with_items(dialect, connection, locked):
            raise kept_error(kept[0])
        if dialect.change(connection, "delete_sessions", parameters) < len(locked):
            raise kept_error(locked[0])
        return len(locked), items


def _with_items(dialect: Dialect[C], connection: C, session_ids: Sequence[str]) -> list[str]:
    """Return those sessions that have rows, as they are now."""
    parameters = {"ids": dialect.list_parameter(connection, session_ids)}
    return [row[0] for row in dialect.execute(connection, "sessions_with_items", parameters)] if session_ids else []


def session_sizes(dialect: Dialect[C], connection: C, session_ids: Sequence[str]) -> list[SizeRow]:
    """Return how much each session holds, day by day."""

    def ask(ids: Sequence[str]) -> list[SizeRow]:
        return dialect.execute(connection, "session_sizes", {"ids": dialect.list_parameter(connection, ids)})

    return dialect.for_ids_that_can_be(connection, session_ids, ask, [])


def first_items(dialect: Dialect[C], connection: C, session_ids: Sequence[str], length: int) -> list[FirstRow]:
    """Return the first length characters of each session's first text of a user, or None."""
    spaced, compact = USER_ROLES
    asked = {"spaced": spaced, "compact": compact, "length": length}

    def ask(ids: Sequence[str]) -> list[FirstRow]:
        parameters = asked | {"ids": dialect.list_parameter(connection, ids)}
        rows: list[FirstRow] = dialect.execute(connection, "first_items", parameters)
        if dialect.may_lack_a_part(connection) and any(text is None for _, text in rows):
            rows = dialect.execute(connection, "first_items", parameters)
        return rows

    def ask_each(ids: Sequence[str]) -> list[FirstRow]:
        each = [asked | {"session_id": session_id} for session_id in ids]
        return [row for one in each for row in dialect.execute(connection, "first_item_of", one)]

    def ask_about(ids: Sequence[str]) -> list[FirstRow]:
        return dialect.or_else(connection, lambda: ask(ids), lambda: ask_each(ids))

    return dialect.for_ids_that_can_be(connection, session_ids, ask_about, [])


def unlisted_sessions(dialect: Dialect[C], connection: C, *, after: str, count: int) -> list[str]:
    """Return the ids behind one, in order, of sessions that have rows and no row of their own."""
    return [row[0] for row in dialect.execute(connection, "unlisted_sessions", {"after": after, "count": count})]


def load(dialect: Dialect[C], connection: C, session_id: str, part: Part) -> int:
    """Write rows as they are, if the newest row is the one that is expected; return the newest id."""
    with dialect.transaction(connection):
        dialect.check_lease(connection, part.lease)
        if part.is_new:
            _make_session(dialect, connection, session_id)
        else:
            dialect.touch(connection, session_id)
            dialect.check_position(connection, session_id, part.position)
        newest = part.position
        if part.replaces:
            dialect.delete_items(connection, session_id)
            newest = 0
        if part.texts:
            newest = dialect.load(connection, session_id, part.texts, part.times)
        times = {"session_id": session_id, "created_at": part.created_at or None, "updated_at": part.updated_at or None}
        dialect.change(connection, "set_session_times", times)
        return newest


def search(dialect: Dialect[C], connection: C, literal: str, *, after: int, prefix: str, count: int) -> list[SearchRow]:
    """Return the next rows of all sessions, with the texts of those that may hold what is looked for."""
    parameters = {"literal": literal, "escape": "\\u00", "after": after, "prefix": prefix, "count": count}
    return dialect.execute(connection, "search_items", parameters)


def is_there(dialect: Dialect[C], connection: C, session_id: str, row_id: int) -> bool:
    """Tell whether the session has a row, which nobody else can then remove before the transaction ends."""
    return bool(dialect.locked(connection, "find_item", {"session_id": session_id, "id": row_id}))
