"""What is looked up when the answer to a write was lost, before the write is repeated.

Every append and replacement on a server carries a token: spaces and tabs before the closing
brace of its first item, which are white space in JSON (RFC 8259, section 2) and mean
nothing to any reader. Under the session row's lock, which keeps every other writer out, the
token is there or it is not; where there is no row, it is made first, or nothing would be locked.
Each of these transactions writes, also where it only finds that all is done: see write_unchanged().
Where others may have removed the token, the time of what is there tells whether they did.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeVar

from sessions._dialects.dialect import Change, Dialect
from sessions._items import BEFORE_ALL, MAX_ID, RowsCheck
from sessions._leases import Lease
from sessions._parts import Part
from sessions.errors import ConflictError, OutcomeUnknownError, kept_error, unknown_error

from .operating import delete_record, delete_sessions, is_there, load, replace_newest, replace_record, rewrite

C = TypeVar("C")
T = TypeVar("T")

_TOKEN_BYTES = 6
# How often the clocks of the database and of this machine are compared when that tells nothing.
_LOOKS = 5
# In seconds: a day, of which each microsecond of a note is a part; how long who removes rows may have waited for its
# turn when it noted the time; and how far ahead of the clock that may be.
_DAY = 86400
_NOTED_SECONDS = _DAY / 500_000
_WAITED, _AHEAD = 5, 10
_STEPS = tuple(10**digits for digits in reversed(range(6)))
_TOKEN_CHARACTERS = str.maketrans("01", " \t")


def with_token(texts: Sequence[str]) -> list[str]:
    """Return the texts of a batch, the first of them with a token of its own."""
    if not texts:
        return []
    # Of the system, not of the random module: a forked process would draw the same numbers.
    bits = f"{int.from_bytes(os.urandom(_TOKEN_BYTES), 'big'):0{8 * _TOKEN_BYTES}b}"
    first = texts[0]
    return [f"{first[:-1]}{bits.translate(_TOKEN_CHARACTERS)}{first[-1]}", *texts[1:]]


def has_token(text: str) -> bool:
    """Tell whether a text is the first of a batch."""
    token = text[-8 * _TOKEN_BYTES - 1 : -1]
    return len(token) == 8 * _TOKEN_BYTES and not token.strip(" \t")


@dataclass(frozen=True)
class Call:
    """A write that is to be settled."""

    session_id: str
    texts: Sequence[str] = ()
    if_position: int | None = None
    known: int = 0  # an id that the conversation had reached before
    lease: Lease | None = None  # what is done already stays, also where it has been lost since
    began: float = field(default_factory=monotonic)


def noted(dialect: Dialect[C], notes: list[T], attempt: Callable[[C], T]) -> Callable[[C], T]:
    """Note what an attempt comes to before its commit is sent: without a note nothing has been committed."""

    def attempt_noted(connection: C) -> T:
        with dialect.transaction(connection):
            notes[:] = [attempt(connection)]
        return notes[0]

    return attempt_noted


def hold_unchanged(dialect: Dialect[C], connection: C, session_id: str) -> bool:
    """Hold the session's row as hold() does, but leave no row where there was nothing; tell whether it was there."""
    was_there = dialect.hold(connection, session_id)
    # With rows that had no session it stays: tables may cascade.
    if (
        not was_there
        and not dialect.has_rows(connection, session_id)
        and not dialect.change(connection, "delete_session", {"session_id": session_id})
    ):
        raise kept_error(session_id)
    return was_there


def write_unchanged(dialect: Dialect[C], connection: C, session_id: str) -> None:
    """Write to a session that is held, but leave all as it is.

    What is found may be on this server alone: a commit that waits for a standby does so only behind a write. To be done
    behind last_change(), for a trigger of the application's may note the time of this one too.
    """
    # And back, for by that time others are settled.
    for seconds in (1, -1):
        dialect.change(connection, "shift_session_time", {"session_id": session_id, "seconds": seconds})


def settle_append(dialect: Dialect[C], connection: C, call: Call) -> int:
    """Look whether a batch is there; write it if it is not."""
    session_id, texts = call.session_id, call.texts
    with dialect.transaction(connection):
        was_there = hold_unchanged(dialect, connection, session_id)
        if (newest := newest_of_batch(dialect, connection, session_id, texts)) is not None:
            write_unchanged(dialect, connection, session_id)
            return newest
        if _is_gone(dialect, connection, call) or (was_there and _was_written(dialect, connection, call, removed=True)):
            raise unknown_error(session_id, "items were removed since then, which may have been those of this call")
        # Whoever has written before the call was first: then a conflict is what the first attempt met, too.
        may_be_behind = call.if_position is not None and was_there and _was_written(dialect, connection, call)
        dialect.check_lease(connection, call.lease)
        dialect.touch(connection, session_id)
        conflict = None
        try:
            dialect.check_position(connection, session_id, call.if_position)
        except ConflictError as exc:
            conflict = exc
        newest = dialect.insert(connection, session_id, texts)
        _check_token_is_kept(dialect, connection, call)
        # Either takes the batch back.
        if conflict is not None and may_be_behind:
            raise unknown_error(session_id, "others have written since then, before it or behind it")
        if conflict is not None:
            raise conflict
        return newest


def settle_replace(dialect: Dialect[C], connection: C, call: Call) -> int:
    """Look whether the history was replaced; replace it if it was not.

    Others may have replaced the new history since, and must not lose what they wrote.
    """
    session_id, texts = call.session_id, call.texts
    with dialect.transaction(connection):
        was_there = hold_unchanged(dialect, connection, session_id)
        if texts and (newest := newest_of_batch(dialect, connection, session_id, texts)) is not None:
            write_unchanged(dialect, connection, session_id)
            return newest
        if not texts and not dialect.newest_range(connection, session_id, 1)[1]:
            dialect.touch(connection, session_id)
            return 0
        if _may_be_done(dialect, connection, call, was_there=was_there):
            raise unknown_error(session_id, "its history may have been replaced since then")
        newest = dialect.replace(connection, session_id, texts, call.if_position, call.lease)
        if texts:
            _check_token_is_kept(dialect, connection, call)
        return newest


def settle_newest(dialect: Dialect[C], connection: C, call: Call, count: int, check: RowsCheck) -> int:
    """Look whether the newest rows were replaced; replace them if they were not."""
    session_id, texts = call.session_id, call.texts
    with dialect.transaction(connection):
        hold_unchanged(dialect, connection, session_id)
        if (newest := newest_of_batch(dialect, connection, session_id, texts)) is not None:
            write_unchanged(dialect, connection, session_id)
            return newest
        newest = replace_newest(dialect, connection, session_id, texts, count, check, call.lease)
        if newest is None:
            raise unknown_error(session_id, "its newest items may have been replaced since then")
        _check_token_is_kept(dialect, connection, call)
        return newest


def settle_clear(dialect: Dialect[C], connection: C, call: Call) -> None:
    """Clear a session again, unless what is there may have been added after it was cleared."""
    session_id = call.session_id
    with dialect.transaction(connection):
        there = hold_unchanged(dialect, connection, session_id)
        if not there and not dialect.newest_range(connection, session_id, 1)[1]:
            return
        if _may_be_done(dialect, connection, call):
            raise unknown_error(session_id, "what is there may have been added after it was cleared")
        dialect.clear(connection, session_id, call.lease)


def settle_record(dialect: Dialect[C], connection: C, call: Call, row_id: int) -> bool:
    """Look whether a row was replaced; replace it if it was not, and nobody has written since."""
    with dialect.transaction(connection):
        hold_unchanged(dialect, connection, call.session_id)
        if dialect.find_token(connection, call.session_id, _tail(call.texts)) is not None:
            write_unchanged(dialect, connection, call.session_id)
            return True
        if _was_written(dialect, connection, call):
            raise unknown_error(call.session_id, "the record may have been replaced, and again since then")
        return replace_record(dialect, connection, call.session_id, row_id, call.texts[0], call.lease)


def settle_deletion(
    dialect: Dialect[C], connection: C, session_id: str, row_id: int, lease: Lease | None, *, was_there: bool
) -> bool:
    """Delete a row again. An id does not come back: one that was there and is gone has gone by now, whoever did it."""
    with dialect.transaction(connection):
        hold_unchanged(dialect, connection, session_id)
        if was_there and not is_there(dialect, connection, session_id, row_id):
            write_unchanged(dialect, connection, session_id)
            return True
        return delete_record(dialect, connection, session_id, row_id, lease)


def settle_pruning(
    dialect: Dialect[C], connection: C, session_ids: Sequence[str], idle: float | None
) -> tuple[int, int]:
    """Delete idle sessions again. Where none is left the first attempt may have deleted them, nobody knows how many."""
    deleted = delete_sessions(dialect, connection, session_ids, idle)
    if not deleted[0]:
        raise OutcomeUnknownError(
            "the connection was lost while idle conversations were deleted, of which none is left; call prune() again, "
            "which counts the others"
        )
    return deleted


def settle_rewriting(dialect: Dialect[C], connection: C, session_id: str, rows: Sequence[tuple[int, str, str]]) -> int:
    """Put texts in place of rows' own again; the texts tell what is done already."""
    with dialect.transaction(connection):
        hold_unchanged(dialect, connection, session_id)
        written = rewrite(dialect, connection, session_id, rows)
        write_unchanged(dialect, connection, session_id)
        return written


def settle_load(dialect: Dialect[C], connection: C, call: Call, part: Part, reached: Sequence[int]) -> int:
    """Look whether a part is there, by its last row; write it if it is not.

    reached is the id of that, as noted: by texts alone others' rows are no other than ours.
    """
    session_id = call.session_id
    with dialect.transaction(connection):
        was_there = hold_unchanged(dialect, connection, session_id)
        newest = dialect.newest_range(connection, session_id, 1)[1]
        if not reached or (
            newest == part.position and not (was_there and _was_written(dialect, connection, call, removed=True))
        ):
            return load(dialect, connection, session_id, part)
        if not part.texts and part.replaces and not newest:
            write_unchanged(dialect, connection, session_id)
            return 0
        [last] = reached
        there = dialect.record_rows(connection, session_id, after=last - 1, upto=last, count=1)
        if there and part.texts and _is_text(there[0][2], part.texts[-1]):
            write_unchanged(dialect, connection, session_id)
            return last
        if there or _is_gone(dialect, connection, call) or (was_there and _was_written(dialect, connection, call)):
            raise unknown_error(session_id, "its rows may be others than those that were to be written")
        return load(dialect, connection, session_id, part)


def _may_be_done(dialect: Dialect[C], connection: C, call: Call, *, was_there: bool = True) -> bool:
    """Tell whether all rows of before the call may have gone by it."""
    if _known(call):
        return _is_gone(dialect, connection, call)
    return was_there and _was_written(dialect, connection, call)


def _is_gone(dialect: Dialect[C], connection: C, call: Call) -> bool:
    """Tell whether a row that this call relied on, or all rows known before it, are there no longer."""
    known = _known(call)
    if not known:
        return False
    after = known - 1 if call.if_position else BEFORE_ALL
    return not dialect.record_rows(connection, call.session_id, after=after, upto=known, count=1)


def _known(call: Call) -> int:
    return call.known if call.if_position is None else call.if_position


def _was_written(dialect: Dialect[C], connection: C, call: Call, *, removed: bool = False) -> bool:
    """Tell whether somebody may have written to the session, or removed rows of it, since the call began."""
    for _ in range(_LOOKS):
        asked = monotonic()
        change = dialect.last_change(connection, call.session_id)
        answered = monotonic()
        if change is None:
            return False
        if removed and dialect.dates_by_transactions and _is_dated_back(change, answered - call.began):
            return True
        if change.age > answered - call.began:
            return False
        if removed and not (change.is_removal or _is_noted_since(change, answered - call.began + _WAITED)):
            return False
        if change.age <= asked - call.began:
            return True
    # Each time the question was on its way for longer than what lies between that write and the call.
    return True


def _is_noted_since(change: Change, seconds: float) -> bool:
    """Tell whether rows may have been removed within the last seconds; what removes them notes the time of day."""
    ago, inexact = _noted_ago(change)
    return bool(change.noted) and not seconds + inexact < ago < _DAY - _AHEAD - inexact


def _is_dated_back(change: Change, seconds: float) -> bool:
    """Tell whether a trigger has dated what removed rows within the last seconds by the beginning of its transaction.

    What is noted is the time of the write before, and the session is never older, but for that.
    """
    ago, inexact = _noted_ago(change)
    return ago + inexact < change.age < _DAY and _is_noted_since(change, seconds)


def _noted_ago(change: Change) -> tuple[float, float]:
    """Return how many seconds ago the noted time was, and how far off that may be: columns may have few digits."""
    inexact = next(step for step in _STEPS if change.noted % step == 0) * _NOTED_SECONDS
    # What is rounded up may lie ahead of the clock.
    return (change.now - change.noted * _NOTED_SECONDS + inexact) % _DAY - inexact, inexact


def newest_of_batch(dialect: Dialect[C], connection: C, session_id: str, texts: Sequence[str]) -> int | None:
    """Return the id of the last row of a batch that is there, of which the end may have been removed."""
    first = dialect.find_token(connection, session_id, _tail(texts))
    if first is None:
        return None
    rows = dialect.record_rows(connection, session_id, after=first - 1, upto=MAX_ID, count=len(texts))
    newest = first
    for (row_id, _, stored), text in zip(rows, texts, strict=False):
        if not _is_text(stored, text):
            break
        newest = row_id
    return newest


def _is_text(stored: object, text: str) -> bool:
    return stored in (text, text.encode("utf-8", "surrogatepass"))


def _check_token_is_kept(dialect: Dialect[C], connection: C, call: Call) -> None:
    """Where the column keeps no white space, as jsonb does, an earlier attempt cannot have been found."""
    if dialect.find_token(connection, call.session_id, _tail(call.texts)) is None:
        raise unknown_error(call.session_id, "the column message_data does not keep the text as it was written")


def _tail(texts: Sequence[str]) -> str:
    return texts[0][-8 * _TOKEN_BYTES - 1 :]
