"""One conversation as items, each answer with the position that was read or reached.

A position is the id of the newest row. Everything is checked and serialised here, before
a store sees it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ._items import MAX_ID, Item, Record, Row, decode_item, encode_items, make_record
from ._stores.store import Store
from .errors import check_position, closed_error

# How many rows are read at a time beyond corrupt ones.
_NEXT_ROWS = 100

# The pages of records(): the rows of the first one, and what a later one has at most, by the mean of the one before.
_FIRST_PAGE = 20
_PAGE_ROWS = 1000
_PAGE_CHARACTERS = 4_000_000

logger = logging.getLogger("sessions")


class History:
    """What session and adapter do with the rows of one conversation."""

    def __init__(self, session_id: str, store: Store) -> None:
        self.session_id = session_id
        self.store = store
        self._closed = False
        # An id that the conversation is known to have reached; None: nothing is known.
        self._seen: int | None = None

    def close(self) -> None:
        """Refuse every further operation; the store stays open."""
        self._closed = True

    def check_open(self) -> None:
        """Raise ClosedError when this history or its store has been closed."""
        if self._closed or self.store.closed:
            raise closed_error()

    def get(self, limit: int | None = None) -> tuple[list[Item], int]:
        self.check_open()
        if limit is None:
            limit = self.store.options.default_limit
        if limit is None:
            limit = MAX_ID
        _check_limit(limit)
        limit = min(limit, MAX_ID)
        if limit == 0:
            return [], self.position()
        count = limit
        rows = self.store.newest_rows(self.session_id, count=count)
        position = rows[0][0] if rows else 0
        self._saw(position)
        items = self._readable(rows)
        # Further rows are needed only where corrupt ones stood in for readable ones.
        while len(items) < limit and len(rows) == count:
            count = max(limit, _NEXT_ROWS)
            rows = self.store.newest_rows(self.session_id, count=count, before=rows[-1][0])
            items += self._readable(rows)
        items = items[:limit]
        items.reverse()
        return items, position

    def add(self, items: Iterable[Mapping[str, Any]], *, if_position: int | None = None) -> int:
        self.check_open()
        _check_if_position(if_position)
        texts = encode_items(items, ensure_ascii=self.store.options.ensure_ascii)
        if not texts:
            return self._seen or 0 if if_position is None else self._checked_position(if_position)
        position = self.store.append(self.session_id, texts, seen=self._seen, if_position=if_position)
        self._saw(position)
        return position

    def pop(self) -> tuple[Item | None, int]:
        """Also return the id of the item, 0 when there was none."""
        self.check_open()
        while row := self.store.pop(self.session_id):
            self._saw(row[0])
            if (item := self._decode(row)) is not None:
                return item, row[0]
        return None, 0

    def replace(self, items: Iterable[Mapping[str, Any]], *, if_position: int | None = None) -> int:
        self.check_open()
        _check_if_position(if_position)
        texts = encode_items(items, ensure_ascii=self.store.options.ensure_ascii)
        position = self.store.replace(self.session_id, texts, seen=self._seen, if_position=if_position)
        self._saw(position)
        return position

    def clear(self) -> None:
        """Remove all rows and the session itself."""
        self.check_open()
        self.store.clear(self.session_id)

    def position(self) -> int:
        """Return the id of the newest row, 0 when there is none."""
        self.check_open()
        rows = self.store.newest_rows(self.session_id, count=1)
        position = rows[0][0] if rows else 0
        self._saw(position)
        return position

    def records(self, limit: int | None = None) -> Iterator[Record]:
        """Check the limit now and read the rows in pages, as they are asked for."""
        self.check_open()
        if limit is not None:
            _check_limit(limit)
        return self._iterate_records(limit)

    def _iterate_records(self, limit: int | None) -> Iterator[Record]:
        after, upto, count = 0, MAX_ID, _FIRST_PAGE
        if limit is not None:
            first, upto = self.store.newest_range(self.session_id, min(limit, MAX_ID))
            after = max(first - 1, 0)
        while after < upto:
            self.check_open()
            rows = self.store.record_rows(self.session_id, after=after, upto=upto, count=count)
            yield from map(make_record, rows)
            if len(rows) < count:
                return
            after = rows[-1][0]
            if upto == MAX_ID:
                upto = self.position()
            mean = sum(len(str(text)) for _, _, text in rows) // len(rows) + 1
            count = min(_PAGE_ROWS, _PAGE_CHARACTERS // mean + 1)

    def _readable(self, rows: list[Row]) -> list[Item]:
        items = [decode_item(text) for _, text in rows]
        if None in items:
            return [item for row in rows if (item := self._decode(row)) is not None]
        return items  # type: ignore[return-value]

    def _decode(self, row: Row) -> Item | None:
        item = decode_item(row[1])
        if item is None:
            logger.warning("session %r: row %d is no JSON object and was skipped", self.session_id, row[0])
        return item

    def _saw(self, row_id: int) -> None:
        # Threads may race here: an older id is less exact, never wrong.
        self._seen = max(row_id, self._seen or 0)

    def _checked_position(self, expected: int) -> int:
        position = self.position()
        check_position(self.session_id, expected=expected, position=position)
        return position


def _check_limit(limit: object) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit is a {type(limit).__name__}; pass an int or None")
    if limit < 0:
        raise ValueError(f"limit is {limit}; pass 0 or more, or None for all items")


def _check_if_position(position: object) -> None:
    if position is None:
        return
    if isinstance(position, bool) or not isinstance(position, int):
        raise TypeError(f"if_position is a {type(position).__name__}; pass what position() returned")
    if not 0 <= position <= MAX_ID:
        raise ValueError(f"if_position is {position}; pass what position() returned")
