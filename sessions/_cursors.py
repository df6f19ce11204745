"""Tell the cursors that a listing has given from other texts.

A database that is asked to go on behind what is no time refuses it in its own words, or takes it for some time.
"""

from __future__ import annotations

import re
from datetime import datetime

from ._plain import plain

# Between the two halves of a cursor; a time has none.
SEPARATOR = "|"
# What the first of them is made of, as a database writes a time.
YEAR = r"(?P<year>[0-9]{4})"
REST = (
    r"(?P<rest>-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?)?)"
    r"( *(Z|[+-][0-9]{2}(:[0-9]{2}){0,2}))?"
)
NUMBER = r"-?[0-9]+(\.[0-9]+)?"


def check_cursor(cursor: str, times: str) -> None:
    """Raise ValueError for a text whose time is none that a listing gives, by the form of those."""
    updated, _, _ = plain(cursor).partition(SEPARATOR)
    match = re.fullmatch(times, updated)
    if not match or not _is_a_day(**match.groupdict()):
        raise no_cursor_error(cursor)


def _is_a_day(year: str | None = None, rest: str = "", before: str | None = None) -> bool:
    """Tell whether the calendar has a moment, if it is one."""
    if year is None:
        return True
    # A database has years that Python has not; they are alike every 400.
    number = 1 - int(year) if before else int(year)
    try:
        datetime.fromisoformat(f"{2000 + number % 400}{rest}")
    except ValueError:
        return False
    return True


def no_cursor_error(cursor: str) -> ValueError:
    """Say that a page cannot go on behind a text."""
    return ValueError(f"after is {cursor!r}; pass a SessionInfo or its cursor")
