"""A sealed conversation that was looked at, to be read in pages: what is given is, row for row, what was found then.

Where a row is another one by now, the conversation is looked at again: either somebody has written to it, and it goes
on behind what was given, or it is broken. The rows are counted here, whatever their ids are.
"""

from __future__ import annotations

from bisect import bisect_right

from sessions._items import MarkedText, RecordRow
from sessions._paging import rewritten_error
from sessions._seals import EARLIER_HISTORY, GENESIS, Sealed, Seals, broken_error, without_seal

from .passing import PassingStore
from .seal_reading import Breaks, SealReader, Whole
from .store import SealableStore, Store

# Up to so many rows are kept, and need not be looked at before.
KEPT_ROWS = 1000
# How often a broken conversation is looked at for a page, where that is only told.
_LOOKS = 3


class KeptRows(PassingStore):
    """The newest rows of a conversation, read in one statement with its end."""

    knows_its_end = True

    def __init__(self, store: Store, reader: SealReader, session_id: str, limit: int) -> None:
        super().__init__(store)
        rows, _, breaks = reader.window(session_id, limit)
        reader.tell(session_id, breaks)
        self._left = [record_of(row, breaks) for row in rows]

    def record_rows(self, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        given = self._left[: -count - 1 : -1]
        del self._left[-count:]
        return given


class CheckedRows(PassingStore):
    """A conversation, or its newest rows, as it was found."""

    knows_its_end = True

    def __init__(
        self,
        store: Store,
        rows: SealableStore,
        seals: Seals,
        reader: SealReader,
        session_id: str,
        limit: int | None,
    ) -> None:
        super().__init__(store)
        self._rows = rows
        self._seals = seals
        self._reader = reader
        self._limit = limit
        self._whole = self._look(session_id)
        # The place of the next row, the seal before it, and how many rows without one were given behind that.
        self._next = self._first = self._first_place()
        self._last = self._seal_before(self._next)
        self._unsealed = 0

    def _first_place(self) -> int:
        return max(0, len(self._whole.ids) - self._limit) if self._limit is not None else 0

    def _look(self, session_id: str) -> Whole:
        whole = self._reader.look(session_id)
        self._reader.tell(session_id, whole.breaks)
        return whole

    def record_rows(self, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        for looks, _ in enumerate(self._reader.tries(session_id)):
            ids = self._whole.ids[self._next : self._next + count]
            if not ids:
                return []
            stored = self._rows.record_rows(session_id, after=ids[0] - 1, upto=ids[-1], count=len(ids) + 1)
            rows = [without_seal(row) for row in stored]
            if len(rows) == len(ids) and self._are_those(session_id, rows):
                break
            if self._reader.reports and looks == _LOOKS:
                break
            self._go_on(session_id)
        breaks = self._whole.breaks | self._reader.breaks(session_id, rows[::-1], None, self._last)
        for row in rows:
            self._unsealed = 0 if row.seal else self._unsealed + 1
            self._last = row.seal or self._last
        self._next += len(ids)
        return [record_of(row, breaks) for row in rows]

    def _are_those(self, session_id: str, rows: list[Sealed]) -> bool:
        """Tell whether rows are those that were found, one after the other."""
        before = self._last
        for place, row in enumerate(rows, self._next):
            if row.id != self._whole.ids[place] or (row.seal or GENESIS) != self._whole.seal(place):
                return False
            is_broken = row.id in self._whole.breaks
            if row.seal is not None and not is_broken and not self._seals.is_row(session_id, before, row):
                return False
            before = row.seal or before
        return True

    def _go_on(self, session_id: str) -> None:
        """Look again, and go on behind the last row that was given, or, where that was changed, behind its id.

        Raises ConflictError where neither that row nor the next one is left, but newer ones: those of another history.
        """
        old, self._whole = self._whole, self._look(session_id)
        # Nothing, not even an end, is what a clear leaves, and what every other read takes for one.
        is_cleared = not (self._whole.ids or self._whole.generation)
        if self._whole.generation < old.generation and not (is_cleared or self._reader.reports):
            raise broken_error(session_id, None, EARLIER_HISTORY)
        if self._next == self._first:
            self._next = self._first = self._first_place()
        elif self._last != GENESIS and (place := self._whole.place_of(self._last)) is not None:
            self._next = place + 1
            self._pass_unsealed()
        elif any(row_id in self._whole.ids for row_id in old.ids[self._next - 1 : self._next + 1]):
            if self._last == GENESIS:
                self._next = 0
                self._pass_unsealed()
            else:
                self._next = bisect_right(self._whole.ids, old.ids[self._next - 1])
        elif self._whole.ids and self._whole.ids[-1] > old.ids[self._next - 1]:
            raise rewritten_error(session_id)
        else:
            self._next = len(self._whole.ids)  # the rest was removed, and this too
        self._last = self._seal_before(self._next)

    def _pass_unsealed(self) -> None:
        """Pass those that were given already."""
        while self._unsealed and self._next < len(self._whole.ids) and self._whole.seal(self._next) == GENESIS:
            self._next, self._unsealed = self._next + 1, self._unsealed - 1

    def _seal_before(self, place: int) -> bytes:
        """Return the newest seal before a place."""
        while place > 0:
            place -= 1
            if (seal := self._whole.seal(place)) != GENESIS:
                return seal
        return GENESIS


def record_of(row: Sealed, breaks: Breaks) -> RecordRow:
    """Make what is given of a row, with what its seal says."""
    mark = "broken" if row.id in breaks else "unsealed" if row.seal is None else "sealed"
    return row.id, row.created_at, MarkedText.of(row.text, mark)
