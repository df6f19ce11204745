"""How sessions, records and times are written: as objects for programs, as words for people."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sessions._odd_json import text_of

from .context import Context
from .escapes import cell
from .terminal import Stream

if TYPE_CHECKING:
    from sessions import Check, Item, Record, SessionInfo


# The columns of a verdict on a terminal: its name, and what it is.
_NAME, _VERDICT = 26, 9


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


def checks_object(checks: Sequence[Check]) -> str:
    """Make what --json writes of verdicts."""
    plain = [{name: value for name, value in check._asdict().items() if name != "fix"} for check in checks]
    return json.dumps({"schema_version": 1, "checks": plain})


def check_line(check: Check, out: Stream) -> str:
    """Say a verdict in a line."""
    styles = {"warning": ("bold",), "error": ("failed",)}
    verdict = out.painted(check.verdict, *styles.get(check.verdict, ()))
    words = [check.name, verdict, cell(check.found), *([cell(check.remedy)] if check.remedy else [])]
    if not out.is_terminal:
        return "\t".join(words)
    name, _, *rest = words
    indent = " " * (_NAME + _VERDICT)
    lines = [line for text in rest for line in textwrap.wrap(text, max(20, out.width - len(indent))) or [""]]
    head = f"{name.ljust(_NAME)}{verdict}{' ' * (_VERDICT - len(check.verdict))}"
    return head + f"\n{indent}".join(lines)


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
    return text_of(item.get("role") or item.get("type") or "item")


def count_of(sessions: int) -> str:
    """Say how many conversations."""
    return f"{sessions:,} session{'s' * (sessions != 1)}"


def duration(text: str) -> timedelta:
    """Read '90d', '2w', '12h' or '30min'; raise ValueError for anything else, 'm' among it, which may be months."""
    units = {"d": "days", "h": "hours", "min": "minutes", "w": "weeks"}
    number = text.rstrip("dhminw")
    unit = units.get(text[len(number) :])
    if unit is None or not number.isdecimal() or not 1 <= int(number) <= 100_000:
        raise ValueError(text)
    return timedelta(**{unit: int(number)})
