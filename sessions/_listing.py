"""Say which conversations a listing is to show, and make what it shows of the rows.

A page goes on behind the last session of the one before, by what its cursor holds: the
time of its last write as the database has it, and its id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Literal, NamedTuple

from ._items import MAX_ID, read_time
from ._plain import plain

Order = Literal["updated", "id"]

# Session id, created_at and updated_at in the database's own form, the seconds since then, and the number
# of items, capped.
SessionRow = tuple[str, Any, Any, Any, int]

# Session id, a day such as 2026-03-14 (empty when it cannot be told), the rows made on it, and their bytes.
SizeRow = tuple[str, str, int, int]

# Session id, and the beginning of its first text of a user.
FirstRow = tuple[str, str | None]

# What an item of a user contains, in the two ways in which JSON is spaced.
USER_ROLES = ('"role": "user"', '"role":"user"')

# Between the two halves of a cursor; a time has none.
_SEPARATOR = "|"
# The first of them, as a database writes a time, or its absence.
_TIME = re.compile(r"(-?[0-9][-0-9T:. +Z]*( BC)?|-?infinity|~)?")


class SessionInfo(NamedTuple):
    """One conversation in a listing.

    The times are those of Record.created_at; updated_at is that of the last write, and idle
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
    idle_since: datetime | timedelta | None,
    order: str,
    newest_first: bool | None,
    limit: int,
    after: SessionInfo | str | None,
    count_limit: int | None,
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
        newest_first=order == "updated" if newest_first is None else newest_first,
        prefix=prefix or "",
        idle=None if idle_since is None else moment_from("idle_since", idle_since).timestamp(),
        updated=updated,
        session_id=session_id,
        count=plain(limit),
        count_limit=MAX_ID - 1 if count_limit is None else plain(count_limit),
    )


def moment_from(name: str, value: object) -> datetime:
    """Return the moment that a datetime with a time zone is, or that lies a timedelta ago."""
    if isinstance(value, timedelta):
        try:
            return datetime.now(UTC) - value
        except OverflowError:
            # Before all times, or behind them.
            return datetime(1 if value > timedelta(0) else 9999, 1, 1, tzinfo=UTC)
    if not isinstance(value, datetime):
        raise TypeError(f"{name} is a {type(value).__name__}; pass a datetime with a time zone, or a timedelta")
    if value.tzinfo is None:
        raise ValueError(f"{name} has no time zone; pass for instance datetime.now(UTC) - timedelta(days=90)")
    return value


def check_count(name: str, value: object) -> None:
    """Raise TypeError or ValueError for what is no number of rows."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a {type(value).__name__}; pass an int")
    if not 1 <= value < MAX_ID:
        raise ValueError(f"{name} is {value}; pass 1 or more")


def page_from(rows: Sequence[SessionRow]) -> list[SessionInfo]:
    """Make a page of its rows."""
    return [
        SessionInfo(
            session_id,
            read_time(created_at),
            read_time(updated_at),
            items,
            f"{'' if updated_at is None else updated_at}{_SEPARATOR}{session_id}",
            None if idle is None else float(idle),
        )
        for session_id, created_at, updated_at, idle, items in rows
    ]


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
    updated, separator, session_id = cursor.partition(_SEPARATOR)
    # Other programs have ids that are empty. What a listing has given is taken, whatever stands in a column there.
    if not separator or (isinstance(after, str) and not _TIME.fullmatch(updated)):
        raise ValueError(f"after is {cursor!r}; pass a SessionInfo or its cursor")
    return (updated or None if order == "updated" else None), session_id
