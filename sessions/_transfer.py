"""Write conversations as they are elsewhere, so that an interrupted transfer can be repeated.

What is there already has to be the beginning of what is written: it is compared, and the
rest is written behind it, part by part. Or what is written stands behind it or in its
place, whole: in one transaction, which is there or is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Protocol

from ._history import History
from ._items import MarkedText, Record
from ._parts import Part
from ._plain import plain
from ._stores.store import Store
from .errors import ConflictError, InvalidItemError

# A part ends with the row that brings it to so many characters, or with so many rows.
_CHARACTERS = 2_000_000
_ROWS = 500
# How often an append is tried to a conversation that others write to at the same time.
_TRIES = 10


class OvertakenError(ConflictError):
    """Somebody else wrote to the conversation meanwhile."""


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
    on_existing: str,
) -> int:
    """Write a conversation; return how many rows were not there yet."""
    if on_existing not in ("fail", "append", "replace"):
        raise ValueError(f"on_existing is {on_existing!r}; pass 'fail', 'append' or 'replace'")
    began, ended = _text(created_at), _text(updated_at)
    rows = _rows(records)
    history = History(session_id, store.of_every_age())
    if on_existing == "replace":
        position = history.position()
        texts, times = next(_parts(session_id, rows, whole=True), ([], []))
        _write(store, session_id, Part(position, texts, times, began, ended, replaces=True))
        return len(texts)
    if on_existing == "append":
        texts, times = next(_parts(session_id, rows, whole=True), ([], []))
        for left in reversed(range(_TRIES)):
            position = history.position()
            # A write of today: with the time of an old one prune would take what is there for idle.
            part = Part(position, texts, times, *(("", "") if position else (began, ended)))
            try:
                _write(store, session_id, part)
                break
            except OvertakenError:
                if not left:
                    raise
        return len(texts)
    position = _compare(session_id, history.records(), rows)
    written = 0
    for texts, times in _parts(session_id, rows):
        # Behind the very row that was compared, or written before: somebody else may write too.
        position = _write(store, session_id, Part(position, texts, times, began, ended))
        written += len(texts)
    if not written:
        _write(store, session_id, Part(position, [], [], began, ended))
    return written


def _rows(records: Iterable[Row]) -> Iterator[Row]:
    for record in records:
        if not hasattr(record, "text") or not hasattr(record, "created_at"):
            raise TypeError(f"a record is a {type(record).__name__}; pass those of records(), not items")
        yield record


def _write(store: Store, session_id: str, part: Part) -> int:
    try:
        return store.load(session_id, part)
    except ConflictError as exc:
        what = str(exc).rpartition(";")[0]
        raise OvertakenError(
            f"{what}: another program writes to it at this moment; once that has ended, load it again"
        ) from None


def _compare(session_id: str, there: Iterable[Record], rows: Iterator[Row]) -> int:
    """Skip the rows that are there and return the newest one's id; raise ConflictError where others are."""
    position = 0
    for count, record in enumerate(there, 1):
        row = next(rows, None)
        if row is None or plain(row.text) != record.text or not _is_same_time(row.created_at, record.created_at):
            raise ConflictError(
                f"session {session_id!r} is there already, and its row {count} is another one; "
                "clear it first, or choose another id"
            )
        position = record.id
    return position


def _is_same_time(one: datetime | None, other: datetime | None) -> bool:
    # Some tables have whole seconds.
    return one is None or other is None or one.replace(microsecond=0) == other.replace(microsecond=0)


def _parts(session_id: str, rows: Iterator[Row], *, whole: bool = False) -> Iterator[tuple[list[str], list[str]]]:
    texts: list[str] = []
    times: list[str] = []
    size = 0
    for row in rows:
        # Ours says by its class what its seal is.
        text = row.text if type(row.text) is MarkedText else plain(row.text)
        check_text(text, f"a record of session {session_id!r}")
        texts.append(text)
        times.append(_text(row.created_at))
        size += len(text)
        if not whole and (size >= _CHARACTERS or len(texts) == _ROWS):
            yield texts, times
            texts, times, size = [], [], 0
    if texts:
        yield texts, times


def check_text(text: str, what: str) -> None:
    """Raise InvalidItemError for a text that no database stores."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidItemError(
            f"{what} holds a lone surrogate, half of a character, which no database stores; "
            r"in JSON it can be written as an escape such as \ud800"
        ) from None  # it has the whole text in it


def _text(moment: datetime | None) -> str:
    """Write a moment as records() has it: without a time zone."""
    if moment is None:
        return ""
    if moment.tzinfo is not None:
        raise ValueError(f"{moment.isoformat()} has a time zone; pass it as records() gives it, without one")
    return moment.isoformat(sep=" ")
