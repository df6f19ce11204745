"""Say which conversations a listing is to show, and make what it shows of the rows.

A page goes on behind the last session of the one before, by what its cursor holds: the
time of its last write as the database has it, and its id.
"""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeVar

from ._cursors import SEPARATOR, no_cursor_error
from ._items import MAX_ID, read_time
from ._plain import flag, plain

Order = Literal["updated", "id"]

R = TypeVar("R")

logger = logging.getLogger("sessions")

# Session id, created_at and updated_at in the database's own form, the seconds since then, and the number
# of items, capped.
SessionRow = tuple[str, Any, Any, Any, int]

# Session id, a day such as 2026-03-14 (empty when it cannot be told), the rows made on it, and their bytes.
SizeRow = tuple[str, str, int, int]

# Session id, and the beginning of its first text of a user.
FirstRow = tuple[str, str | None]

# What an item of a user contains, in the two ways in which JSON is spaced.
USER_ROLES = ('"role": "user"', '"role":"user"')

# Behind all times, and not so late that a database's own time zone leads beyond what it has.
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)

# A seal is of ids of at most so many bytes, a fourth of which are characters at least.
_LONGEST_ID = 2**16 // 4 - 1


class SessionInfo(NamedTuple):
    """One conversation in a listing.

    The times are those of Record.created_at. created_at is exact to the second: behind that it may
    note when items were last removed. updated_at is that of the last write, and idle
    the seconds since then by the database's clock, None when updated_at cannot be read. items
    is the number of rows, corrupt ones included; above count_limit it says count_limit + 1.
    cursor is what list_sessions(after=) takes.
    """

    session_id: str
    created_at: datetime | None
    updated_at: datetime | None
    items: int
    cursor: str
    idle: float | None


@dataclass(frozen=True)
class Listing:
    """A page that is asked for: the parameters of a listing's statement, and which one it is."""

    order: Order
    newest_first: bool
    prefix: str
    idle: float | None  # the latest time of a last write, in Unix seconds
    updated: str | None  # None beside a session_id: that one has no time
    session_id: str | None
    count: int
    count_limit: int


def listing_from(
    *,
    prefix: str | None,
    order: str,
    newest_first: bool | None,
    limit: int,
    after: SessionInfo | str | None,
    count_limit: int | None,
    idle_since: datetime | None = None,
) -> Listing:
    """Check what list_sessions() was given."""
    if order not in ("updated", "id"):
        raise ValueError(f"order is {order!r}; pass 'updated' or 'id'")
    check_count("limit", limit)
    if count_limit is not None:
        check_count("count_limit", count_limit)
    if prefix is not None and not isinstance(prefix, str):
        raise TypeError(f"prefix is a {type(prefix).__name__}; pass a str")
    updated, session_id = _position(after, order)
    prefix = plain(prefix)
    return Listing(
        order="updated" if order == "updated" else "id",
        newest_first=order == "updated" if newest_first is None else flag("newest_first", newest_first),
        prefix=prefix or "",
        idle=None if idle_since is None else idle_since.timestamp(),
        updated=updated,
        session_id=session_id,
        count=plain(limit),
        count_limit=MAX_ID - 1 if count_limit is None else plain(count_limit),
    )


def moment_from(name: str, value: object, clock: Callable[[], float]) -> datetime:
    """Return the moment that a datetime with a time zone is, or that lies a timedelta ago by a clock."""
    if isinstance(value, timedelta):
        try:
            return datetime.fromtimestamp(clock(), UTC) - value
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC) if value > timedelta(0) else _END_OF_TIME
    if not isinstance(value, datetime):
        raise TypeError(f"{name} is a {type(value).__name__}; pass a datetime with a time zone, or a timedelta")
    if value.tzinfo is None:
        raise ValueError(f"{name} has no time zone; pass for instance datetime.now(UTC) - timedelta(days=90)")
    return min(value, _END_OF_TIME)


def check_count(name: str, value: object) -> None:
    """Raise TypeError or ValueError for what is no number of rows."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a {type(value).__name__}; pass an int")
    if not 1 <= value < MAX_ID:
        raise ValueError(f"{name} is {value}; pass 1 or more")


def page_from(ask: Callable[[Listing], Sequence[SessionRow]], listing: Listing) -> list[SessionInfo]:
    """Ask for a page, and make what it shows of its rows; empty when there are no more.

    What can_be_asked_for() refuses is left out, with a warning; with such a prefix begins none.
    """
    if not can_be_asked_for(listing.prefix):
        return []
    left_out, given = _rows_to_give(lambda count: ask(replace(listing, count=count)), listing.count, lambda row: row[0])
    tell_left_out(row[0] for row in left_out)
    return [
        SessionInfo(
            session_id,
            read_time(created_at),
            read_time(updated_at),
            items,
            f"{'' if updated_at is None else updated_at}{SEPARATOR}{session_id}",
            None if idle is None else float(idle),
        )
        for session_id, created_at, updated_at, idle, items in given
    ]


def ids_behind(ask: Callable[[str, int], Sequence[str]], count: int) -> Iterator[str]:
    """Iterate over ids in order, count at a time; ask is given the one to go on behind, at first the empty text.

    What can_be_asked_for() refuses is left out, with a warning.
    """
    after: str = ""
    while True:
        left_out, given = _rows_to_give(partial(ask, after), count, lambda session_id: session_id)
        tell_left_out(left_out)
        yield from given
        # The empty text asks for all of them: that id alone is the last one.
        if not given or not given[-1]:
            return
        after = given[-1]


def _rows_to_give(
    ask: Callable[[int], Sequence[R]], count: int, id_of: Callable[[R], object]
) -> tuple[list[R], list[R]]:
    """Return the rows of a page that are left out, and those that are given, at most count and none only at the end.

    No page goes on behind what is left out, which no parameter may be able to name: more is asked for instead.
    """
    asked = count
    while True:
        rows = ask(asked)
        given = [row for row in rows if can_be_asked_for(id_of(row))][:count]
        is_end = len(rows) < asked
        if given or is_end:
            break
        asked = min(2 * asked, MAX_ID - 1)
    # Those behind the last that is given come with the next page.
    passed = rows if is_end and not given else rows[: rows.index(given[-1])]
    return [row for row in passed if not can_be_asked_for(id_of(row))], given


def can_be_asked_for(session_id: object) -> bool:
    """Tell whether an id that a database has can be given to it again, whoever has made it.

    It may be longer than ours, or empty, but it is text in Unicode, without a NUL, at which SQLite's JSON ends.
    """
    if not isinstance(session_id, str) or "\0" in session_id or len(session_id) > _LONGEST_ID:
        return False
    return session_id.isascii() or session_id.encode(errors="ignore").decode() == session_id


def tell_left_out(session_ids: Iterable[object]) -> None:
    """Warn of each id that is left out."""
    for session_id in session_ids:
        logger.warning(
            "the session %s was left out: its id, which another program has made, is no text without a NUL; "
            "give it another one",
            reprlib.repr(session_id),
        )


def pages(page_behind: Callable[[SessionInfo | None], list[SessionInfo]]) -> Iterator[list[SessionInfo]]:
    """Every page of a listing, each asked for by the last session of the one before."""
    after = None
    while page := page_behind(after):
        yield page
        after = page[-1]


def page_of(rows: Iterable[SessionRow], listing: Listing) -> list[SessionRow]:
    """Choose a page of all rows, as a listing's statement does; their updated_at is a number."""

    def place(updated: float, session_id: str) -> tuple[float, str]:
        return (updated if listing.order == "updated" else 0.0), session_id

    after = None
    if listing.session_id is not None:
        after = place(float(listing.updated or 0), listing.session_id)
    ordered = sorted(rows, key=lambda row: place(row[2], row[0]), reverse=listing.newest_first)
    behind = (
        row
        for row in ordered
        if after is None or ((place(row[2], row[0]) < after) == listing.newest_first and place(row[2], row[0]) != after)
    )
    return list(islice(behind, listing.count))


def above(prefix: str) -> str | None:
    """Return the first text that is above all that begin with a prefix, by code points; None when there is none."""
    for end in range(len(prefix), 0, -1):
        code = ord(prefix[end - 1]) + 1
        if code == 0xD800:
            code = 0xE000  # surrogates are no characters
        if code <= 0x10FFFF:
            return prefix[: end - 1] + chr(code)
    return None


def pattern(prefix: str) -> str:
    """Return a pattern for LIKE .. ESCAPE '!' that a prefix and whatever follows it match."""
    # In swe7, say, a backslash and a bar are letters.
    for character in "!%_":
        prefix = prefix.replace(character, "!" + character)
    return prefix + "%"


def _position(after: SessionInfo | str | None, order: str) -> tuple[str | None, str | None]:
    if after is None:
        return None, None
    cursor = plain(after.cursor if isinstance(after, SessionInfo) else after)
    if not isinstance(cursor, str):
        raise TypeError(f"after is a {type(after).__name__}; pass a SessionInfo or its cursor")
    updated, separator, session_id = cursor.partition(SEPARATOR)
    # Other programs have ids that are empty.
    if not separator or not can_be_asked_for(session_id):
        raise no_cursor_error(cursor)
    return (updated or None if order == "updated" else None), session_id
