"""One attempt of a write under seals, and what is looked up when its answer was lost.

The end seal is moved before a row is touched: whoever presupposes another one has written nothing. No two ends are the
same, so the end tells whether a write was done, unless others have written since.
"""

from __future__ import annotations

from typing import TypeVar

from sessions._dialects.dialect import Dialect, may_be_cut
from sessions._items import MAX_ID, RecordRow
from sessions._leases import Lease
from sessions._sealing import SealedWrite, SealMovedError, generation_of, moved_error
from sessions.errors import LeaseLostError, kept_error, taken_error, unknown_error

from .operating import is_there
from .settling import has_token, hold_unchanged, newest_of_batch, write_unchanged

C = TypeVar("C")

# How often an end that cannot be made, and is not there, may be one that others have removed meanwhile.
_LOOKS = 3


def sealed_rows(dialect: Dialect[C], connection: C, session_id: str, count: int) -> tuple[str | None, list[RecordRow]]:
    """Return the end seal and the newest rows, of one moment."""
    parameters = {"session_id": session_id, "count": count}
    rows = dialect.execute(connection, "sealed_rows", parameters)
    if len(rows) == 1 and count and dialect.may_lack_a_part(connection):
        rows = dialect.execute(connection, "sealed_rows", parameters)
    end = str(rows.pop(0)[3]) if rows and rows[0][0] else None
    return end, [(row_id, created_at, text) for _, row_id, created_at, text in rows]


def sealed_sessions(dialect: Dialect[C], connection: C, *, after: str, count: int) -> list[str]:
    """Return the ids behind one, in order, of sessions that have an end seal."""
    return [row[0] for row in dialect.execute(connection, "sealed_sessions", {"after": after, "count": count})]


def write_sealed(dialect: Dialect[C], connection: C, session_id: str, write: SealedWrite, lease: Lease | None) -> int:
    """Do a write, and return the newest id where it has texts; raise SealMovedError where the end is another one."""
    if not may_be_cut(session_id):
        newest = dialect.write_sealed(connection, session_id, write, lease)
        if newest is not None:
            return newest
    return _write_in_steps(dialect, connection, session_id, write, lease)


def _write_in_steps(
    dialect: Dialect[C], connection: C, session_id: str, write: SealedWrite, lease: Lease | None
) -> int:
    with dialect.transaction(connection):
        dialect.check_lease(connection, lease)
        # Before anything else tells of a conflict, which may be one with this very write.
        _move(dialect, connection, session_id, write)
        if write.is_new and (dialect.lock(connection, session_id) or dialect.has_rows(connection, session_id)):
            raise taken_error(session_id)
        if write.keeps_time:
            dialect.lock(connection, session_id)
        elif write.texts or write.after:
            dialect.touch(connection, session_id)
        else:
            dialect.lock_for_removal(connection, session_id)
        if write.position is not None and dialect.newest_id(connection, session_id) != write.position:
            raise moved_error(session_id, write.before)
        newest = _change(dialect, connection, session_id, write)
        if write.texts and dialect.settles and (write.removes_all or write.removed or write.rewritten):
            dialect.lock_for_removal(connection, session_id)
        return newest


def settle_sealed(dialect: Dialect[C], connection: C, session_id: str, write: SealedWrite, lease: Lease | None) -> int:
    """Look whether a write was done; do it if it was not."""
    try:
        with dialect.transaction(connection):
            # What was sent before and is not done yet holds the end, so this waits for it.
            if (found := _find(dialect, connection, session_id)) != write.before:
                raise moved_error(session_id, found)
            return _write_in_steps(dialect, connection, session_id, write, lease)
    except (SealMovedError, LeaseLostError) as exc:
        refused = exc
    with dialect.transaction(connection):
        hold_unchanged(dialect, connection, session_id)
        write_unchanged(dialect, connection, session_id)  # no time is looked at
        found = _find(dialect, connection, session_id)
        if found == write.before:
            raise refused
        if found == write.after:
            # Behind them may be rows of others who have no key.
            last = newest_of_batch(dialect, connection, session_id, write.texts[-1:]) if write.texts else None
            return last or dialect.newest_range(connection, session_id, 1)[1]
        writes = (generation_of(found) or 0) - (generation_of(write.before) or 0)
        if writes == 1:
            raise refused  # that was another call
        if write.texts and (newest := newest_of_batch(dialect, connection, session_id, write.texts)) is not None:
            return newest
        if _is_undone(dialect, connection, session_id, write, writes):
            raise refused  # those were other calls
    raise unknown_error(session_id, "others have written to it since")


def _is_undone(dialect: Dialect[C], connection: C, session_id: str, write: SealedWrite, count: int) -> bool:
    """Tell whether so many writes have come behind the end that one presupposed, and it is none of them.

    An id does not come back. What is added behind that row has one mark for each write that has added, and not removed.
    """
    from sessions._seals import without_seal  # under a key alone

    if not write.position or not is_there(dialect, connection, session_id, write.position):
        return False
    if write.removes_all or write.position in write.removed:
        return True
    stored = dialect.record_rows(connection, session_id, after=write.position, upto=MAX_ID, count=MAX_ID)
    rows = [without_seal(row) for row in stored]
    return bool(write.texts) and sum(row.seal is not None and has_token(row.text) for row in rows) == count


def _move(dialect: Dialect[C], connection: C, session_id: str, write: SealedWrite) -> None:
    """Put the new end in place of the one that is presupposed; raise SealMovedError where that is another one.

    Also where it is the new one already: then the write has been done.
    """
    step = "make_seal" if write.before is None else "move_seal"
    parameters = {"session_id": session_id, "before": write.before, "seal": write.marked}
    for _ in range(_LOOKS):
        moved = dialect.change(connection, step, parameters)
        found = _find(dialect, connection, session_id)
        if moved or found is not None or write.before is not None:
            break
        # What was in the way has been removed since, or is hidden from this user.
    else:
        raise kept_error(session_id)
    if not moved or found != write.marked:
        raise moved_error(session_id, found)
    if write.after is None and not dialect.change(connection, "remove_seal", {"session_id": session_id}):
        raise kept_error(session_id)


def _find(dialect: Dialect[C], connection: C, session_id: str) -> str | None:
    rows = dialect.execute(connection, "find_seal", {"session_id": session_id})
    return str(rows[0][0]) if rows else None


def _change(dialect: Dialect[C], connection: C, session_id: str, write: SealedWrite) -> int:
    """Change the rows as a write says; raise DatabaseError when something suppresses it."""
    if write.removes_all:
        dialect.delete_items(connection, session_id)
    for row_id in write.removed:
        if not is_there(dialect, connection, session_id, row_id):
            raise moved_error(session_id, write.before)
        dialect.delete_item(connection, session_id, row_id)
    if write.rewritten:
        _rewrite(dialect, connection, session_id, write)
    newest = dialect.load(connection, session_id, write.texts, write.times) if write.texts else 0
    if write.after is None:
        removed = dialect.change(connection, "delete_session", {"session_id": session_id})
        if not removed and dialect.lock(connection, session_id):
            raise kept_error(session_id)
    if write.created_at or write.updated_at:
        times = {"created_at": write.created_at or None, "updated_at": write.updated_at or None}
        dialect.change(connection, "set_session_times", {"session_id": session_id} | times)
    return newest or (dialect.newest_range(connection, session_id, 1)[1] if write.rewritten else 0)


def _rewrite(dialect: Dialect[C], connection: C, session_id: str, write: SealedWrite) -> None:
    """Put texts in place of rows' own; raise DatabaseError when something suppresses that, or moves a row."""
    of_session = {"session_id": session_id, "upto": MAX_ID}
    [(count,)] = dialect.execute(connection, "count_items", of_session)
    for row_id, text in write.rewritten:
        if not dialect.update_item(connection, session_id, row_id, text):
            if not is_there(dialect, connection, session_id, row_id):
                raise moved_error(session_id, write.before)
            raise kept_error(session_id)
    if dialect.execute(connection, "count_items", of_session) != [(count,)]:
        raise kept_error(session_id)
