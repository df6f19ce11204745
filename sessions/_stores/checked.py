"""A sealed conversation that was looked at, to be read in pages: what is given is, row for row, what was found then.

Where a row is another one by now, the conversation is looked at again: either somebody has written to it, and it goes
on behind what was given, or it is broken.
"""

from __future__ import annotations

from bisect import bisect_right

from sessions._items import MAX_ID, MarkedText, RecordRow
from sessions._seals import GENESIS, Sealed, Seals, without_seal

from .passing import PassingStore
from .seal_reading import Breaks, SealReader, Whole
from .store import SealableStore, Store

# Up to so many rows are kept, and need not be looked at before.
KEPT_ROWS = 1000

_BYTES = len(GENESIS)


class KeptRows(PassingStore):
    """The newest rows of a conversation, read in one statement with its end."""

    def __init__(self, store: Store, rows: list[RecordRow]) -> None:
        super().__init__(store)
        self._kept = rows

    def newest_range(self, session_id: str, count: int) -> tuple[int, int]:
        rows = self._kept[-count:]
        return (rows[0][0], rows[-1][0]) if rows else (0, 0)

    def record_rows(self, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        return [row for row in self._kept if after < row[0] <= upto][:count]


class CheckedRows(PassingStore):
    """A conversation as it was found."""

    knows_its_end = True

    def __init__(self, store: Store, rows: SealableStore, seals: Seals, reader: SealReader, session_id: str) -> None:
        super().__init__(store)
        self._rows = rows
        self._seals = seals
        self._reader = reader
        self._whole = self._look(session_id)
        self._given = 0
        self._last = GENESIS  # the last seal that was given

    def _look(self, session_id: str) -> Whole:
        whole = self._reader.look(session_id)
        self._reader.tell(session_id, whole.breaks)
        return whole

    def newest_range(self, session_id: str, count: int) -> tuple[int, int]:
        ids = self._whole.ids
        return (ids[-min(count, len(ids))], ids[-1]) if ids else (0, 0)

    def record_rows(self, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        if not self._given:
            self._given = bisect_right(self._whole.ids, after)
            self._last = self._seal_before(self._given)
        for _ in self._reader.tries(session_id):
            ids = self._whole.ids[self._given : self._given + count]
            if not ids:
                return []
            stored = self._rows.record_rows(session_id, after=ids[0] - 1, upto=ids[-1], count=len(ids) + 1)
            rows = [without_seal(row) for row in stored]
            if self._reader.reports or (len(rows) == len(ids) and self._are_those(session_id, rows)):
                break
            self._go_on(session_id)
        given: list[RecordRow] = [
            (row.id, row.created_at, MarkedText.of(row.text, mark(row, self._whole.breaks))) for row in rows
        ]
        self._last = next((row.seal for row in reversed(rows) if row.seal), self._last)
        self._given += len(ids)
        return given

    def _are_those(self, session_id: str, rows: list[Sealed]) -> bool:
        """Tell whether rows are those that were found, one after the other."""
        before = self._last
        for place, row in enumerate(rows, self._given):
            if row.id != self._whole.ids[place] or (row.seal or GENESIS) != self._whole.seal(place):
                return False
            if row.seal is not None:
                if not self._seals.is_row(session_id, before, row):
                    return False
                before = row.seal
        return True

    def _go_on(self, session_id: str) -> None:
        """Look again, and go on behind the last row that was given, or where it stood."""
        last_id = self._whole.ids[self._given - 1] if self._given else None
        self._whole = self._look(session_id)
        if last_id is None:
            self._given, self._last = 0, GENESIS
            return
        place = self._whole.place_of(self._last)
        self._given = bisect_right(self._whole.ids, last_id) if place is None else place + 1
        self._last = self._seal_before(self._given)

    def _seal_before(self, place: int) -> bytes:
        """Return the newest seal before a place."""
        while place > 0:
            place -= 1
            if (seal := self._whole.seal(place)) != GENESIS:
                return seal
        return GENESIS


def mark(row: Sealed, breaks: Breaks) -> str:
    """Say what a row's seal says."""
    return "broken" if row.id in breaks else "unsealed" if row.seal is None else "sealed"


def kept_rows(store: Store, reader: SealReader, session_id: str, limit: int) -> KeptRows:
    """Read the newest rows at once."""
    rows, _, breaks = reader.window(session_id, min(limit, MAX_ID))
    reader.tell(session_id, breaks)
    rows.reverse()
    return KeptRows(store, [(row.id, row.created_at, MarkedText.of(row.text, mark(row, breaks))) for row in rows])
