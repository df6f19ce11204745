"""What is looked up when the answer to a write was lost, before the write is repeated.

Every append and replacement on a server carries a token: spaces and tabs before the closing
brace of its first item, which are white space in JSON (RFC 8259, section 2) and mean
nothing to any reader. Under the session row's lock, which keeps every other writer out, the
token is there or it is not; where there is no row, it is made first, or nothing would be locked.
Where others may have removed the token, the time of what is there tells whether they did.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeVar

from sessions._dialects.dialect import Dialect
from sessions._items import BEFORE_ALL, MAX_ID
from sessions._leases import Lease
from sessions._parts import Part
from sessions.errors import ConflictError, unknown_error

from .operating import delete_record, is_there, load, replace_record

C = TypeVar("C")

_TOKEN_BYTES = 6
# How often the clocks of the database and of this machine are compared when that tells nothing.
_LOOKS = 5
_TOKEN_CHARACTERS = str.maketrans("01", " \t")


def with_token(texts: Sequence[str]) -> list[str]:
    """Return the texts of a batch, the first of them with a token of its own."""
    if not texts:
        return []
    # Of the system, not of the random module: a forked process would draw the same numbers.
    bits = f"{int.from_bytes(os.urandom(_TOKEN_BYTES), 'big'):0{8 * _TOKEN_BYTES}b}"
    first = texts[0]
    return [f"{first[:-1]}{bits.translate(_TOKEN_CHARACTERS)}{first[-1]}", *texts[1:]]


@dataclass(frozen=True)
class Call:
    """A write that is to be settled."""

    session_id: str
    texts: Sequence[str] = ()
    if_position: int | None = None
    known: int = 0  # an id that the conversation had reached before
    lease: Lease | None = None  # what is done already stays, also where it has been lost since
    began: float = field(default_factory=monotonic)


def settle_append(dialect: Dialect[C], connection: C, call: Call) -> int:
    """Look whether a batch is there; write it if it is not."""
    session_id, texts = call.session_id, call.texts
    with dialect.transaction(connection):
        was_there = dialect.hold(connection, session_id)
        if (newest := newest_of_batch(dialect, connection, session_id, texts)) is not None:
            return newest
        if _is_gone(dialect, connection, call) or (was_there and _was_written(dialect, connection, call, removed=True)):
            raise unknown_error(session_id, "items were removed since then, which may have been those of this call")
        dialect.check_lease(connection, call.lease)
        dialect.touch(connection, session_id)
        conflict = None
        try:
            dialect.check_position(connection, session_id, call.if_position)
        except ConflictError as exc:
            conflict = exc
        newest = dialect.insert(connection, session_id, texts)
        _check_token_is_kept(dialect, connection, call)
        if conflict is not None:
            raise conflict  # which takes the batch back
        return newest


def settle_replace(dialect: Dialect[C], connection: C, call: Call) -> int:
    """Look whether the history was replaced; replace it if it was not.

    Others may have replaced the new history since, and must not lose what they wrote.
    """
    session_id, texts = call.session_id, call.texts
    with dialect.transaction(connection):
        was_there = dialect.hold(connection, session_id)
        if texts and (newest := newest_of_batch(dialect, connection, session_id, texts)) is not None:
            return newest
        if not texts and not dialect.newest_range(connection, session_id, 1)[1]:
            return 0
        if _may_be_done(dialect, connection, call, was_there=was_there):
            raise unknown_error(session_id, "its history may have been replaced since then")
        newest = dialect.replace(connection, session_id, texts, call.if_position, call.lease)
        if texts:
            _check_token_is_kept(dialect, connection, call)
        return newest


def settle_clear(dialect: Dialect[C], connection: C, call: Call) -> None:
    """Clear a session again, unless what is there may have been added after it was cleared."""
    session_id = call.session_id
    with dialect.transaction(connection):
        there = dialect.lock(connection, session_id)
        if not there and not dialect.newest_range(connection, session_id, 1)[1]:
            return
        if _may_be_done(dialect, connection, call):
            raise unknown_error(session_id, "what is there may have been added after it was cleared")
        dialect.clear(connection, session_id, call.lease)


def settle_record(dialect: Dialect[C], connection: C, call: Call, row_id: int) -> bool:
    """Look whether a row was replaced; replace it if it was not, and nobody has written since."""
    with dialect.transaction(connection):
        dialect.lock(connection, call.session_id)
        if dialect.find_token(connection, call.session_id, _tail(call.texts)) is not None:
            return True
        if _was_written(dialect, connection, call):
            raise unknown_error(call.session_id, "the record may have been replaced, and again since then")
        return replace_record(dialect, connection, call.session_id, row_id, call.texts[0], call.lease)


def settle_deletion(dialect: Dialect[C], connection: C, session_id: str, row_id: int, lease: Lease | None) -> bool:
    """Delete a row again. An id does not come back: a row that is gone may well have gone by the first attempt."""
    with dialect.transaction(connection):
        dialect.lock(connection, session_id)
        if not is_there(dialect, connection, session_id, row_id):
            return True
        return delete_record(dialect, connection, session_id, row_id, lease)


def settle_load(dialect: Dialect[C], connection: C, session_id: str, part: Part) -> int:
    """Look whether a part is there, which is known from its place and its texts; write it if it is not."""
    with dialect.transaction(connection):
        dialect.hold(connection, session_id)
        newest = dialect.newest_range(connection, session_id, 1)[1]
        if newest == part.position:
            return load(dialect, connection, session_id, part)
        after = (0 if part.replaces else part.position) or BEFORE_ALL
        rows = dialect.record_rows(connection, session_id, after=after, upto=MAX_ID, count=len(part.texts) or 1)
        if [text for _, _, text in rows] == list(part.texts):
            return rows[-1][0] if rows else newest
        raise unknown_error(session_id, "its rows are others than those before it and those that were to be written")


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
        if change is None or (removed and not change.is_removal) or change.age > answered - call.began:
            return False
        if change.age <= asked - call.began:
            return True
    # Each time the question was on its way for longer than what lies between that write and the call.
    return True


def newest_of_batch(dialect: Dialect[C], connection: C, session_id: str, texts: Sequence[str]) -> int | None:
    """Return the id of the last row of a batch that is there, of which the end may have been removed."""
    first = dialect.find_token(connection, session_id, _tail(texts))
    if first is None:
        return None
    rows = dialect.record_rows(connection, session_id, after=first - 1, upto=MAX_ID, count=len(texts))
    newest = first
    for (row_id, _, stored), text in zip(rows, texts, strict=False):
        if stored not in (text, text.encode("utf-8", "surrogatepass")):
            break
        newest = row_id
    return newest


def _check_token_is_kept(dialect: Dialect[C], connection: C, call: Call) -> None:
    """Where the column keeps no white space, as jsonb does, an earlier attempt cannot have been found."""
    if dialect.find_token(connection, call.session_id, _tail(call.texts)) is None:
        raise unknown_error(call.session_id, "the column message_data does not keep the text as it was written")


def _tail(texts: Sequence[str]) -> str:
    return texts[0][-8 * _TOKEN_BYTES - 1 :]
