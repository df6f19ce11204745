"""How sessions, records and times are written: as objects for programs, as words for people."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from .terminal import Stream

if TYPE_CHECKING:
    from sessions import Record, SessionInfo


def info_object(info: SessionInfo) -> dict[str, Any]:
    """Make what --json writes of a conversation."""
    return {
        "session_id": info.session_id,
        "created_at": iso(info.created_at),
        "updated_at": iso(info.updated_at),
        "items": info.items,
    }


def record_object(session_id: str, record: Record) -> dict[str, Any]:
    """Make what --json writes of a record; item is None where it is corrupt."""
    return {
        "session_id": session_id,
        "id": record.id,
        "created_at": iso(record.created_at),
        "item": record.item,
        "text": record.text,
    }


def iso(time: datetime | None) -> str | None:
    """Write a time for a program."""
    return None if time is None else time.isoformat()


def moment(time: datetime | None, out: Stream) -> str:
    """Say a time: to the minute on a terminal."""
    if time is None:
        return "?"
    return time.strftime("%Y-%m-%d %H:%M") if out.is_terminal else time.isoformat()


def duration(text: str) -> timedelta:
    """Read '90d', '12h' or '30m'; raise ValueError for anything else."""
    units = {"d": "days", "h": "hours", "m": "minutes", "w": "weeks"}
    if len(text) < 2 or text[-1] not in units or not text[:-1].isdecimal():
        raise ValueError(text)
    return timedelta(**{units[text[-1]]: int(text[:-1])})
