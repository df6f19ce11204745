"""A stored row as session.records() shows it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from ._items import decode_item

Item = dict[str, Any]

# A row's id, its created_at in the form of the driver or of whoever wrote it, and its text.
RecordRow = tuple[int, Any, str]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (UTC, without saying so, as databases keep it)


class Record(NamedTuple):
    """One row of a conversation.

    created_at is the database's own time, without a time zone (UTC on SQLite, in memory
    and where the time was stored with a zone, elsewhere that of the server's session),
    and None when it cannot be read.
    item is None when the row is corrupt: text, which is what the row holds, is then no
    JSON object.
    """

    id: int
    created_at: datetime | None
    item: Item | None
    text: str


def make_record(row: RecordRow) -> Record:
    """Decode a row; nothing that it holds is an error."""
    row_id, created_at, text = row
    return Record(row_id, _time(created_at), decode_item(text), text)


def _time(stored: object) -> datetime | None:
    """Read a time that a driver gives as such, SQLite as text, and tables of the npm package as Unix seconds."""
    if not isinstance(stored, datetime):
        try:
            if isinstance(stored, (int, float)):
                return _EPOCH + timedelta(seconds=stored)
            stored = _from_text(str(stored))
        except (ValueError, OverflowError):
            return None
    return stored if stored.tzinfo is None else stored.astimezone(timezone.utc).replace(tzinfo=None)


def _from_text(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        # Before Python 3.11 a fraction had 3 or 6 digits, and UTC no letter.
        if (parts := re.fullmatch(r"(.{19})\.?(\d{0,6})(Z?)", text)) is None:
            raise
        return datetime.fromisoformat(f"{parts[1]}.{parts[2]:0<6}")
