"""One conversation as items, each answer with the position that was read or reached.

A position is the id of the newest row. Everything is checked and serialised here, before
a store sees it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ._items import BEFORE_ALL, EXPIRED, MAX_ID, Item, Record, RecordRow, Row, decode_item, encode_items, make_record
from ._leases import Holder, Lease, blocks
from ._paging import checked_pages, pages
from ._plain import flag, plain
from ._sealing import Verified
from ._stores.observing import observed, tell_refused
from ._stores.store import Store
from ._turns import whole_turns as cut_at_turns
from .errors import InvalidItemError, check_position, closed_error, gone_error, left_block_error

# How many rows are read at a time beyond corrupt ones, at least and at most.
_NEXT_ROWS, _MOST_ROWS = 100, 1000

logger = logging.getLogger("sessions")


class History:
    """What session and adapter do with the rows of one conversation."""

    def __init__(self, session_id: str, store: Store) -> None:
        self.session_id = session_id
        self.store = store
        self._closed = False
        # The exclusive() block that this handle is in, whose lease each write is done under; known weakly.
        self.block: Callable[[], Holder | None] = _nobody
        # The newest id that was read or written here, and the newest one that was left when we looked last.
        self._newest = 0
        self._left = 0

    def close(self) -> None:
        """Refuse every further operation; the store stays open."""
        self._closed = True

    def check_open(self) -> None:
        """Raise ClosedError when this history or its store has been closed."""
        if self._closed or self.store.closed:
            raise closed_error()

    def _lease(self) -> Lease | None:
        block = self.block()
        lease = None if block is None else block.lease()
        for begun_in in blocks.get():
            if begun_in.handle() is self and (lease is None or lease.token != begun_in.token):
                raise left_block_error(self.session_id)
        return lease

    def get(self, limit: int | None = None, *, whole_turns: bool | None = None) -> tuple[list[Item], int]:
        """Return the newest items, oldest first, and the position that was read."""
        self.check_open()
        if whole_turns is None:
            whole_turns = self.store.options.whole_turns
        whole_turns = flag("whole_turns", whole_turns)
        if limit is None:
            limit = self.store.options.default_limit
        if limit is None:
            limit = MAX_ID
        _check_limit(limit)
        limit = min(plain(limit), MAX_ID)
        if limit == 0:
            return [], self.position()
        count = limit
        store = observed(self.store, "get_items")
        rows = store.newest_rows(self.session_id, count=count)
        position = rows[0][0] if rows else 0
        self._saw(position)
        items = self._readable(rows)
        # Further rows are needed only where corrupt or old ones stood in for readable ones.
        while len(items) < limit and len(rows) == count:
            count = max(limit, _NEXT_ROWS, min(2 * count, _MOST_ROWS))
            rows = store.newest_rows(self.session_id, count=count, upto=rows[-1][0] - 1)
            items += self._readable(rows)
        is_all = len(rows) < count and len(items) <= limit
        items = items[:limit]
        items.reverse()
        if not whole_turns:
            return items, position
        whole = cut_at_turns(items, is_all=is_all)
        if items and not whole:
            logger.warning(
                "session %r: the newest %d items hold no whole turn, so none are given; raise the limit",
                self.session_id,
                len(items),
            )
        return whole, position

    def add(self, items: Iterable[Mapping[str, Any]], *, if_position: int | None = None) -> int:
        self.check_open()
        _check_if_position(if_position)
        if_position = plain(if_position)
        texts = self._encode("add_items", items)
        if not texts:
            return self._newest if if_position is None else self._checked_position(if_position)
        known = self._newest
        store = observed(self.store, "add_items")
        position = store.append(self.session_id, texts, if_position=if_position, known=self._left, lease=self._lease())
        self._wrote(position, known)
        return position

    def pop(self) -> tuple[Item | None, int]:
        """Remove the newest readable item; None when there is none."""
        self.check_open()
        store = observed(self.store, "pop_item")
        while True:
            row, position = store.pop(self.session_id, lease=self._lease())
            self._left = position
            if row is None:
                return None, position
            if (item := self._decode(row)) is not None:
                return item, position

    def replace(self, items: Iterable[Mapping[str, Any]], *, if_position: int | None = None) -> int:
        self.check_open()
        _check_if_position(if_position)
        if_position = plain(if_position)
        texts = self._encode("replace_items", items)
        known = self._newest
        store = observed(self.store, "replace_items")
        position = store.replace(self.session_id, texts, if_position=if_position, known=self._left, lease=self._lease())
        if texts:
            self._wrote(position, known)
        else:
            self._left = 0
        return position

    def newest(self, limit: int) -> tuple[list[Row], list[Item], bool]:
        """Return the newest rows that can be read, oldest first, their items, and whether there are no others."""
        self.check_open()
        rows = observed(self.store, "get_items").newest_rows(self.session_id, count=limit + 1)
        items: list[Item] = []
        for row in rows[:limit]:
            # What cannot be read stays where it is, and so does what stands before it.
            if (item := self._decode(row)) is None:
                break
            items.append(item)
        items.reverse()
        return rows[: len(items)][::-1], items, len(items) == len(rows)

    def replace_newest(self, rows: list[Row], items: Iterable[Mapping[str, Any]]) -> int | None:
        """Put items in the place of rows, oldest first; None, and nothing is done, unless they are the newest still."""
        self.check_open()
        texts = self._encode("replace_items", items)
        if not rows or not texts:
            return None
        known, expected = self._newest, rows[::-1]
        store = observed(self.store, "replace_items")
        position = store.replace_newest(
            self.session_id, texts, count=len(rows), check=lambda found: found == expected, lease=self._lease()
        )
        if position is not None:
            self._wrote(position, known)
        return position

    def clear(self) -> None:
        """Remove all rows and the session itself."""
        self.check_open()
        observed(self.store, "clear_session").clear(self.session_id, known=self._left, lease=self._lease())
        self._left = 0

    def fork(self, new_id: str, *, upto: int | None) -> None:
        """Copy the rows up to an id into a new session."""
        self.check_open()
        if upto is not None:
            _check_row_id("upto", upto)
        observed(self.store, "fork").fork(self.session_id, new_id, upto=plain(upto), lease=self._lease())

    def delete_record(self, row_id: int) -> bool:
        """Delete one row; False when there is none."""
        self.check_open()
        _check_row_id("record_id", row_id)
        row_id = plain(row_id)
        return observed(self.store, "delete_record").delete_record(self.session_id, row_id, lease=self._lease())

    def replace_record(self, row_id: int, item: Mapping[str, Any]) -> None:
        """Put an item in place of a row's."""
        self.check_open()
        _check_row_id("record_id", row_id)
        row_id = plain(row_id)
        [text] = self._encode("replace_record", [item])
        store = observed(self.store, "replace_record")
        if not store.replace_record(self.session_id, row_id, text, lease=self._lease()):
            raise gone_error(self.session_id, row_id)

    def position(self) -> int:
        """Return the id of the newest row, 0 when there is none."""
        self.check_open()
        _, position = observed(self.store, "position").newest_range(self.session_id, 1)
        self._saw(position)
        return position

    def records(self, limit: int | None = None) -> Iterator[Record]:
        """Check the limit now and read the rows in pages, as they are asked for."""
        self.check_open()
        if limit is not None:
            _check_limit(limit)
        return self._iterate_records(plain(limit))

    def seal(self) -> str:
        """Return the seal of the history as it is."""
        self.check_open()
        return observed(self.store, "seal").seal(self.session_id)

    def verify(self, since: str | None) -> Verified:
        """Look at every row by its seal."""
        self.check_open()
        if since is not None and not isinstance(since, str):
            raise TypeError(f"since is a {type(since).__name__}; pass what seal() returned")
        return observed(self.store, "verify").verify(self.session_id, plain(since))

    def _iterate_records(self, limit: int | None) -> Iterator[Record]:
        store = self.store.for_records(self.session_id, limit)

        def read(after: int, upto: int, count: int) -> list[RecordRow]:
            self.check_open()
            return observed(store, "records").record_rows(self.session_id, after=after, upto=upto, count=count)

        def newest(count: int) -> tuple[int, int]:
            self.check_open()
            first, upto = observed(store, "position").newest_range(self.session_id, count)
            if count:
                self._saw(upto)
            return first, upto

        if store.knows_its_end:
            found = checked_pages(lambda count: read(BEFORE_ALL, MAX_ID, count))
        else:
            found = pages(self.session_id, limit, read, newest)
        for rows in found:
            yield from (make_record(row) for row in rows if row[2] is not EXPIRED)

    def _encode(self, name: str, items: Iterable[Mapping[str, Any]]) -> list[str]:
        try:
            return encode_items(items, ensure_ascii=self.store.options.ensure_ascii)
        except InvalidItemError as exc:
            tell_refused(self.store, name, self.session_id, exc)
            raise

    def _readable(self, rows: list[Row]) -> list[Item]:
        items = [decode_item(text) for _, text in rows]
        if None in items:
            return [item for row in rows if (item := self._decode(row)) is not None]
        return items  # type: ignore[return-value]

    def _decode(self, row: Row) -> Item | None:
        item = decode_item(row[1])
        if item is None and row[1] is not EXPIRED:
            logger.warning("session %r: row %d is no JSON object and was skipped", self.session_id, row[0])
        return item

    def _saw(self, row_id: int) -> None:
        # Threads may race here: an older id is less exact, never wrong.
        self._newest = max(row_id, self._newest)
        self._left = row_id

    def _wrote(self, row_id: int, known: int) -> None:
        """Note the newest id of a write, before which known was the newest one known."""
        if row_id > known:
            self._saw(row_id)
            return
        logger.warning(
            "session %r: a new row got the id %d, which is not above %d, the newest one known: the ids have begun anew "
            "(TRUNCATE, a restored backup, on SQLite a rollback of yours), or this database does not number rows in "
            "the order of their making",
            self.session_id,
            row_id,
            known,
        )
        self._newest = self._left = row_id

    def _checked_position(self, expected: int) -> int:
        position = self.position()
        check_position(self.session_id, expected=expected, position=position)
        return position


def _nobody() -> None:
    pass


def _check_limit(limit: object) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit is a {type(limit).__name__}; pass an int or None")
    if limit < 0:
        raise ValueError(f"limit is {limit}; pass 0 or more, or None for all items")


def _check_row_id(name: str, row_id: object) -> None:
    """Raise TypeError or ValueError for what is no id of a record."""
    if isinstance(row_id, bool) or not isinstance(row_id, int):
        raise TypeError(f"{name} is a {type(row_id).__name__}; pass the id of a record")
    if not 0 <= row_id <= MAX_ID:
        raise ValueError(f"{name} is {row_id}; pass the id of a record")


def _check_if_position(position: object) -> None:
    if position is None:
        return
    if isinstance(position, bool) or not isinstance(position, int):
        raise TypeError(f"if_position is a {type(position).__name__}; pass what position() returned")
    if not 0 <= position <= MAX_ID:
        raise ValueError(f"if_position is {position}; pass what position() returned")
