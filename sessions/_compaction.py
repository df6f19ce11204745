"""What the OpenAI Agents SDK sums up by itself: the newest items, and what takes their place if they still are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ._history import History
from ._items import Record
from .errors import ConflictError


class Newest(NamedTuple):
    """The newest records of one moment, oldest first, and whether there are no others."""

    records: list[Record]
    complete: bool

    @property
    def items(self) -> list[Any]:
        return [record.item for record in self.records if record.item is not None]


def newest_of(history: History, limit: int) -> Newest:
    """Read at most limit records."""
    records = list(history.records(limit + 1))
    return Newest(records[-limit:], len(records) <= limit)


def replace_newest(history: History, newest: Newest, start: int, items: Iterable[Mapping[str, Any]]) -> int | None:
    """Put items in the place of those from start on; return the position then, None where it is another history.

    In one transaction, if the newest row is still the newest one. What stands before them stays, written anew.
    """
    readable = [record for record in newest.records if record.item is not None]
    now = list(history.records())
    is_same = _known(now[-len(newest.records) :]) == _known(newest.records)
    if not is_same or start >= len(readable) or (newest.complete and len(now) > len(newest.records)):
        return None
    kept = [record.item for record in now if record.id < readable[start].id]
    if None in kept:
        return None  # a corrupt row cannot be written anew
    try:
        return history.replace([*(item for item in kept if item is not None), *items], if_position=now[-1].id)
    except ConflictError:
        return None


def _known(records: list[Record]) -> list[tuple[int, str | bytes]]:
    return [(record.id, record.text) for record in records]
