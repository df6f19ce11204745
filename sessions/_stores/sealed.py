"""A store whose rows are sealed on the way down, and looked at on the way up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from sessions._items import MAX_ID, MarkedText, RecordRow, Row, RowsCheck, SearchRow
from sessions._leases import Lease
from sessions._listing import USER_ROLES, FirstRow, can_be_asked_for
from sessions._parts import Part
from sessions._sealing import ForeignSealError, SealedWrite, SealMovedError, Verified
from sessions._seals import GENESIS, Sealed, Seals, without_seal
from sessions._settings.options import integrity_keys
from sessions.errors import (
    InvalidItemError,
    gone_error,
    taken_error,
)

from .checked import KEPT_ROWS, CheckedRows, KeptRows, record_of
from .passing import PassingStore
from .seal_reading import Newest, SealReader, Tail
from .seal_writing import SealWriter
from .store import SealableStore, Store

# How many rows are looked through for the first one of a user.
_FIRST_ROWS = 20


class SealedStore(PassingStore):
    """The rows of another store, under an integrity key."""

    rewrites_whole = True

    def __init__(self, store: SealableStore) -> None:
        super().__init__(store)
        self._rows = store
        self._seals = Seals(integrity_keys(store.options.integrity_key))
        self._reader = SealReader(store, self._seals)
        self._accepts = store.options.unsealed == "accept"
        self._writer = SealWriter(store, self._seals, self._reader, accepts=self._accepts)

    # Reads

    def newest_rows(self, session_id: str, *, count: int = MAX_ID, upto: int = MAX_ID) -> list[Row]:
        asked = count
        while True:
            rows = self._window(session_id, asked)
            older = [(row.id, row.text) for row in rows if row.id <= upto]
            if len(older) >= count or len(rows) < asked:
                return older[:count]
            asked = min(2 * asked, MAX_ID)

    def newest_range(self, session_id: str, count: int) -> tuple[int, int]:
        rows = self._window(session_id, count)
        return (rows[-1].id, rows[0].id) if rows else (0, 0)

    def record_rows(self, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        rows, _, breaks = self._reader.window(session_id, MAX_ID)
        self._reader.tell(session_id, breaks)
        wanted = [row for row in reversed(rows) if after < row.id <= upto]
        return [record_of(row, breaks) for row in wanted[:count]]

    def for_records(self, session_id: str, limit: int | None) -> Store:
        if limit is not None and limit <= KEPT_ROWS:
            return KeptRows(self, self._reader, session_id, limit)
        return CheckedRows(self, self._rows, self._seals, self._reader, session_id, limit)

    def search(self, literal: str, *, after: int, prefix: str, count: int) -> list[SearchRow]:
        found = self._rows.search(literal, after=after, prefix=prefix, count=count)
        found = [row for row in found if can_be_asked_for(row[0])]
        proved: dict[tuple[str, int], Sealed] = {}
        for session_id in sorted({row[0] for row in found if row[3] is not None}):
            # Not what was found, of which it is not known what stands around it.
            proved |= {(session_id, row.id): row for row in self._window(session_id, MAX_ID)}
        return [_match(row, proved.get(row[:2]) if row[3] is not None else None) for row in found]

    def first_items(self, session_ids: Sequence[str], length: int) -> list[FirstRow]:
        def first_of(session_id: str) -> str | None:
            texts = (row.text for row in self._window(session_id, MAX_ID)[: -_FIRST_ROWS - 1 : -1])
            return next((text[:length] for text in texts if any(role in text for role in USER_ROLES)), None)

        there = self._rows.first_items(session_ids, 1)
        return [(session_id, text and first_of(session_id)) for session_id, text in there]

    def seal(self, session_id: str) -> str:
        tail = self._writer.read_tail(session_id)
        return tail.text or self._seals.no_end(session_id).text

    def verify(self, session_id: str, since: str | None) -> Verified:
        earlier = None if since is None else self._seals.read_end(session_id, since)
        if since is not None and earlier is None:
            raise ForeignSealError(
                f"since is no seal of session {session_id!r} with this key; pass what seal() returned"
            )
        whole = self._reader.look(session_id, earlier)
        self._reader.tell(session_id, whole.breaks, strict=True)
        return whole.verified

    def sealed_sessions(self, *, after: str, count: int) -> list[str]:
        return self._rows.sealed_sessions(after=after, count=count)

    def _window(self, session_id: str, count: int) -> list[Sealed]:
        rows, tail, breaks = self._reader.window(session_id, count)
        self._reader.tell(session_id, breaks)
        if not breaks:
            self._writer.know(session_id, tail)
        return rows

    # Writes

    def append(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        return self._writer.write(
            session_id, lambda tail: self._writer.batch(session_id, tail, texts, if_position), lease
        )

    def replace(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        return self._writer.write(
            session_id, lambda tail: self._writer.batch(session_id, tail, texts, if_position, removes_all=True), lease
        )

    def load(self, session_id: str, part: Part) -> int:
        for text in part.texts:
            _check_mark(session_id, text, accepts=self._accepts)

        def make(tail: Tail) -> SealedWrite:
            if part.is_new and tail.position:
                raise taken_error(session_id)
            write = self._writer.batch(
                session_id, tail, part.texts, part.position, times=part.times, removes_all=part.replaces
            )
            return replace(write, is_new=part.is_new, created_at=part.created_at, updated_at=part.updated_at)

        newest = self._writer.write(session_id, make, part.lease)
        return newest if part.texts or part.replaces else part.position

    def replace_newest(
        self, session_id: str, texts: Sequence[str], *, count: int, check: RowsCheck, lease: Lease | None
    ) -> int | None:
        return self._writer.replace_newest(session_id, texts, count, check, lease)

    def clear(self, session_id: str, *, known: int, lease: Lease | None) -> None:
        # Whatever its end is: what is broken can be cleared.
        for _ in self._reader.tries(session_id):
            tail = self._writer.forget(session_id)
            text = tail.text if tail else self._rows.sealed_rows(session_id, count=0)[0]
            with suppress(SealMovedError):
                self._rows.write_sealed(session_id, SealedWrite(text, None, removes_all=True), lease=lease)
                return

    def pop(
        self, session_id: str, *, lease: Lease | None, check: Callable[[Row], bool] | None = None
    ) -> tuple[Row | None, int]:
        popped: Newest | None = None
        position = 0

        def make(tail: Tail) -> SealedWrite | None:
            nonlocal popped, position
            popped, position = tail.newest, tail.position
            if popped is None:
                return None
            if check is not None and not check((popped.id, popped.text)):
                popped = None
                return None
            seal, count = (tail.seal, tail.rows) if popped.before is None else (popped.before, tail.rows - 1)
            end = self._seals.new_end(session_id, tail.end, count, seal)
            return SealedWrite(tail.text, end.text, popped.id, removed=(popped.id,))

        self._writer.write(session_id, make, lease, wants_newest=True)
        return ((popped.id, popped.text), popped.next_id) if popped else (None, position)

    def delete_record(self, session_id: str, row_id: int, *, lease: Lease | None) -> bool:
        return self._writer.change(session_id, lambda rows: [row for row in rows if row.id != row_id], lease) > 0

    def replace_record(self, session_id: str, row_id: int, text: str, *, lease: Lease | None) -> bool:
        there = False

        def change(rows: Sequence[Sealed]) -> list[Sealed]:
            nonlocal there
            there = any(row.id == row_id for row in rows)
            return [row._replace(text=text, seal=row.seal or GENESIS) if row.id == row_id else row for row in rows]

        self._writer.change(session_id, change, lease)
        return there

    def rewrite(self, session_id: str, rows: Sequence[tuple[int, str, str]]) -> int:
        new = {(row_id, old): text for row_id, old, text in rows}
        found = 0

        def change(there: Sequence[Sealed]) -> list[Sealed]:
            nonlocal found
            found = sum((row.id, row.text) in new for row in there)
            return [
                row
                if (text := new.get((row.id, row.text))) is None
                else row._replace(text=text, seal=row.seal or GENESIS)
                for row in there
            ]

        self._writer.change(session_id, change, None, keeps_time=True)
        return found

    def rekey(self, session_id: str, *, adopt: bool) -> int:
        """Seal a conversation by the first key; with adopt as it is, unless its end bears the seal of another key."""
        first = SealReader(self._rows, self._seals.of_the_first_key())
        text, stored = self._rows.sealed_rows(session_id, count=MAX_ID)
        rows = [without_seal(row) for row in stored]
        if not first.all_breaks(session_id, rows, text) and not (adopt and any(row.seal is None for row in rows)):
            return 0

        def change(there: Sequence[Sealed]) -> list[Sealed]:
            return [row._replace(seal=row.seal or GENESIS) for row in there] if adopt else list(there)

        return self._writer.change(session_id, change, None, anew=True, adopt=adopt)

    def fork(self, session_id: str, new_id: str, *, upto: int | None, lease: Lease | None) -> None:
        rows, _, breaks = self._reader.window(session_id, MAX_ID)
        self._reader.tell(session_id, breaks, strict=True)
        if upto and all(row.id != upto for row in rows):
            raise gone_error(session_id, upto)
        wanted = [row for row in reversed(rows) if upto is None or row.id <= upto]
        texts = [record_of(row, {})[2] for row in wanted]
        times = [str(row.created_at) for row in wanted]
        there = self._writer.read_tail(new_id)
        if there.position:
            raise taken_error(new_id)
        write = self._writer.batch(new_id, there, texts, 0, times=times)
        self._rows.write_sealed(new_id, replace(write, is_new=True), lease=lease)

    def delete_sessions(self, session_ids: Sequence[str], *, idle: float | None) -> tuple[int, int]:
        for session_id in session_ids:
            self._writer.forget(session_id)
        return super().delete_sessions(session_ids, idle=idle)


def _check_mark(session_id: str, text: str, *, accepts: bool) -> None:
    """Raise InvalidItemError for a text that a seal of ours would make what it is not."""
    mark_of = text.seal if isinstance(text, MarkedText) else "sealed"
    if mark_of == "broken" or (mark_of == "unsealed" and not accepts):
        raise InvalidItemError(
            f"a record for session {session_id!r} is {mark_of} where it comes from, and nothing was written; "
            "pass records of one that is whole, or connect with unsealed='accept'"
        )


def _match(row: SearchRow, proved: Sealed | None) -> SearchRow:
    """Make what is given of a row that was found, with the time and the text that were proved."""
    return (*row[:3], None) if proved is None else (*row[:2], proved.created_at, proved.text)
