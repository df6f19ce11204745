"""Write conversations as they are elsewhere, so that an interrupted transfer can be repeated.

What is there already has to be the beginning of what is written: it is compared, and the
rest is written behind it, part by part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Protocol

from ._history import History
from ._items import Record
from ._parts import Part
from ._stores.store import Store
from .errors import ConflictError

# A part ends with the row that brings it to so many characters, or with so many rows.
_CHARACTERS = 2_000_000
_ROWS = 500


class Row(Protocol):
    """What is written of a record."""

    @property
    def created_at(self) -> datetime | None: ...
    @property
    def text(self) -> str: ...


def load(
    store: Store,
    session_id: str,
    records: Iterable[Row],
    *,
    created_at: datetime | None,
    updated_at: datetime | None,
) -> int:
    """Write a conversation; return how many rows were not there yet."""
    rows = iter(records)
    position = _compare(session_id, History(session_id, store).records(), rows)
    written = 0
    for texts, times in _parts(rows):
        # Behind the very row that was compared, or written before: somebody else may write too.
        position = store.load(session_id, Part(position, texts, times, _text(created_at), _text(updated_at)))
        written += len(texts)
    if not written:
        store.load(session_id, Part(position, [], [], _text(created_at), _text(updated_at)))
    return written


def _compare(session_id: str, there: Iterable[Record], rows: Iterator[Row]) -> int:
    """Skip the rows that are there and return the newest one's id; raise ConflictError where others are."""
    position = 0
    for count, record in enumerate(there, 1):
        row = next(rows, None)
        if row is None or row.text != record.text or not _is_same_time(row.created_at, record.created_at):
            raise ConflictError(
                f"session {session_id!r} is there already, and its row {count} is another one; "
                "clear it first, or choose another id"
            )
        position = record.id
    return position


def _is_same_time(one: datetime | None, other: datetime | None) -> bool:
    # Some tables have whole seconds.
    return one is None or other is None or one.replace(microsecond=0) == other.replace(microsecond=0)


def _parts(rows: Iterator[Row]) -> Iterator[tuple[list[str], list[str]]]:
    texts: list[str] = []
    times: list[str] = []
    size = 0
    for row in rows:
        texts.append(row.text)
        times.append(_text(row.created_at))
        size += len(row.text)
        if size >= _CHARACTERS or len(texts) == _ROWS:
            yield texts, times
            texts, times, size = [], [], 0
    if texts:
        yield texts, times


def _text(moment: datetime | None) -> str:
    """Write a moment as records() has it: without a time zone."""
    if moment is None:
        return ""
    if moment.tzinfo is not None:
        raise ValueError(f"{moment.isoformat()} has a time zone; pass it as records() gives it, without one")
    return moment.isoformat(sep=" ")
