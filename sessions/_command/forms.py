"""How sessions, records and times are written: as objects for programs, as words for people."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from .context import Context
from .terminal import Stream

if TYPE_CHECKING:
    from sessions import Item, Record, SessionInfo


def info_object(info: SessionInfo, bytes_: int | None, *, utc: bool) -> dict[str, Any]:
    """Make what --json writes of a conversation; bytes_ are None where nobody has asked for them."""
    return {
        "session_id": info.session_id,
        "created_at": iso(info.created_at, utc=utc),
        "updated_at": iso(info.updated_at, utc=utc),
        "items": info.items,
        "bytes": bytes_,
    }


def record_object(session_id: str, record: Record, *, utc: bool) -> dict[str, Any]:
    """Make what --json writes of a record; item is None where it is corrupt."""
    return {
        "session_id": session_id,
        "id": record.id,
        "created_at": iso(record.created_at, utc=utc),
        "item": record.item,
        "text": record.text,
    }


def iso(time: datetime | None, *, utc: bool) -> str | None:
    """Write a time for a program; with a Z where it is known to be of UTC."""
    return None if time is None else time.isoformat() + "Z" * utc


def moment(time: datetime | None, out: Stream, *, utc: bool) -> str:
    """Say a time: to the minute on a terminal."""
    if time is None:
        return "?"
    return f"{time:%Y-%m-%d %H:%M}" if out.is_terminal else time.isoformat() + "Z" * utc


def zone(context: Context) -> str:
    """Say of which zone the times are."""
    return "UTC" if context.utc else "server time"


def role_of(item: Item | None) -> str:
    """Return the word that a list has for an item."""
    if item is None:
        return "corrupt"
    return str(item.get("role") or item.get("type") or "item")


def count_of(sessions: int) -> str:
    """Say how many conversations."""
    return f"{sessions:,} session{'s' * (sessions != 1)}"


def duration(text: str) -> timedelta:
    """Read '90d', '12h' or '30m'; raise ValueError for anything else."""
    units = {"d": "days", "h": "hours", "m": "minutes", "w": "weeks"}
    if len(text) < 2 or text[-1] not in units or not text[:-1].isdecimal():
        raise ValueError(text)
    return timedelta(**{units[text[-1]]: int(text[:-1])})
