"""A store whose rows are sealed on the way down, and looked at on the way up.

A write presupposes the end that it knows of, and leaves one that nobody makes without the key; where somebody else has
written since, it is done again behind that. Only where the end is not known does it take a round trip more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from sessions._items import MAX_ID, MarkedText, RecordRow, Row, SearchRow, read_time
from sessions._leases import Lease
from sessions._listing import USER_ROLES, FirstRow, can_be_asked_for
from sessions._parts import Part
from sessions._sealing import SealedWrite, SealMovedError, Verified, moved_error
from sessions._seals import GENESIS, Sealed, Seals, split, whole_second, without_seal
from sessions._settings.options import integrity_keys
from sessions.errors import (
    ConflictError,
    InvalidItemError,
    check_position,
    gone_error,
    lost_lease_error,
    taken_error,
)

from .checked import KEPT_ROWS, CheckedRows, KeptRows, record_of
from .passing import PassingStore
from .seal_reading import Newest, SealReader, Tail
from .settling import with_token
from .store import SealableStore, Store

# Of how many conversations the end is known here, with the newest text if it has at most so many characters.
_ENDS = 1000
_KEPT_CHARACTERS = 16_384
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
        # Where threads race here, what is out of date makes a write begin anew.
        self._tails: dict[str, Tail] = {}

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
        texts: dict[tuple[str, int], str] = {}
        for session_id in sorted({row[0] for row in found if row[3] is not None}):
            # Not what was found, of which it is not known what stands around it.
            texts |= {(session_id, row.id): row.text for row in self._window(session_id, MAX_ID)}
        return [(*row[:3], None if row[3] is None else texts.get((row[0], row[1]))) for row in found]

    def first_items(self, session_ids: Sequence[str], length: int) -> list[FirstRow]:
        def first_of(session_id: str) -> str | None:
            texts = (row.text for row in self._window(session_id, MAX_ID)[: -_FIRST_ROWS - 1 : -1])
            return next((text[:length] for text in texts if any(role in text for role in USER_ROLES)), None)

        there = self._rows.first_items(session_ids, 1)
        return [(session_id, text and first_of(session_id)) for session_id, text in there]

    def seal(self, session_id: str) -> str:
        tail = self._read_tail(session_id)
        return tail.text or self._seals.no_end(session_id).text

    def verify(self, session_id: str, since: str | None) -> Verified:
        earlier = None if since is None else self._seals.read_end(session_id, since)
        if since is not None and earlier is None:
            raise ValueError(f"since is no seal of session {session_id!r} with this key; pass what seal() returned")
        whole = self._reader.look(session_id, earlier)
        self._reader.tell(session_id, whole.breaks, strict=True)
        return whole.verified

    def sealed_sessions(self, *, after: str, count: int) -> list[str]:
        return self._rows.sealed_sessions(after=after, count=count)

    def _window(self, session_id: str, count: int) -> list[Sealed]:
        rows, tail, breaks = self._reader.window(session_id, count)
        self._reader.tell(session_id, breaks)
        if not breaks:
            self._know(session_id, tail)
        return rows

    # Writes

    def append(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        return self._write(session_id, lambda tail: self._batch(session_id, tail, texts, if_position), lease)

    def replace(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        return self._write(
            session_id, lambda tail: self._batch(session_id, tail, texts, if_position, removes_all=True), lease
        )

    def load(self, session_id: str, part: Part) -> int:
        for text in part.texts:
            _check_mark(session_id, text, accepts=self._accepts)

        def make(tail: Tail) -> SealedWrite:
            if part.is_new and tail.position:
                raise taken_error(session_id)
            write = self._batch(
                session_id, tail, part.texts, part.position, times=part.times, removes_all=part.replaces
            )
            return replace(write, is_new=part.is_new, created_at=part.created_at, updated_at=part.updated_at)

        newest = self._write(session_id, make, part.lease)
        return newest if part.texts or part.replaces else part.position

    def clear(self, session_id: str, *, known: int, lease: Lease | None) -> None:
        # Whatever its end is: what is broken can be cleared.
        for _ in self._reader.tries(session_id):
            tail = self._tails.pop(session_id, None)
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
            return SealedWrite(tail.text, end.text, popped.id, removed=popped.id)

        self._write(session_id, make, lease, wants_newest=True)
        return ((popped.id, popped.text), popped.next_id) if popped else (None, position)

    def delete_record(self, session_id: str, row_id: int, *, lease: Lease | None) -> bool:
        return self._change(session_id, lambda rows: [row for row in rows if row.id != row_id], lease) > 0

    def replace_record(self, session_id: str, row_id: int, text: str, *, lease: Lease | None) -> bool:
        there = False

        def change(rows: Sequence[Sealed]) -> list[Sealed]:
            nonlocal there
            there = any(row.id == row_id for row in rows)
            return [row._replace(text=text, seal=row.seal or GENESIS) if row.id == row_id else row for row in rows]

        self._change(session_id, change, lease)
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

        self._change(session_id, change, None, keeps_time=True)
        return found

    def rekey(self, session_id: str, *, adopt: bool) -> int:
        """Seal a conversation by the first key; with adopt as it is, whatever its seals are."""
        first = SealReader(self._rows, self._seals.of_the_first_key())
        text, stored = self._rows.sealed_rows(session_id, count=MAX_ID)
        rows = [without_seal(row) for row in stored]
        if not first.all_breaks(session_id, rows, text) and not (adopt and any(row.seal is None for row in rows)):
            return 0

        def change(there: Sequence[Sealed]) -> list[Sealed]:
            return [row._replace(seal=row.seal or GENESIS) for row in there] if adopt else list(there)

        return self._change(session_id, change, None, anew=True, adopt=adopt)

    def fork(self, session_id: str, new_id: str, *, upto: int | None, lease: Lease | None) -> None:
        rows, _, breaks = self._reader.window(session_id, MAX_ID)
        self._reader.tell(session_id, breaks, strict=True)
        if upto and all(row.id != upto for row in rows):
            raise gone_error(session_id, upto)
        wanted = [row for row in reversed(rows) if upto is None or row.id <= upto]
        texts = [record_of(row, {})[2] for row in wanted]
        times = [str(row.created_at) for row in wanted]
        there = self._read_tail(new_id)
        if there.position:
            raise taken_error(new_id)
        write = self._batch(new_id, there, texts, 0, times=times)
        self._rows.write_sealed(new_id, replace(write, is_new=True), lease=lease)

    def delete_sessions(self, session_ids: Sequence[str], *, idle: float | None) -> tuple[int, int]:
        for session_id in session_ids:
            self._tails.pop(session_id, None)
        return super().delete_sessions(session_ids, idle=idle)

    # What a write is made of

    def _batch(
        self,
        session_id: str,
        tail: Tail,
        texts: Sequence[str],
        if_position: int | None,
        *,
        times: Sequence[str] = (),
        removes_all: bool = False,
    ) -> SealedWrite:
        """Make the write of a batch behind the end, or in place of all rows."""
        check_position(session_id, expected=if_position, position=tail.position)
        now = whole_second(datetime.now(UTC), tail.time)
        moments = [whole_second(time, None) if time else now for time in times] or [now] * len(texts)
        before, count = (GENESIS, 0) if removes_all else (tail.seal, tail.rows)
        if self._rows.settles and not times:
            texts = with_token(texts)
        # What others have written stays theirs, in a copy too.
        ours = [(moment, text) for moment, text in zip(moments, texts, strict=True) if not _is_theirs(text)]
        sealed, seal = self._seals.chain(session_id, before, ours)
        end = self._seals.new_end(session_id, tail.end, count + len(ours), seal)
        following = iter(sealed)
        stored = [str(text) if _is_theirs(text) else next(following) for text in texts]
        # Where rows of others are accepted, one may have come.
        position = None if self._accepts and if_position is None else tail.position
        return SealedWrite(tail.text, end.text, position, removes_all, texts=stored, times=moments)

    def _write(
        self,
        session_id: str,
        make: Callable[[Tail], SealedWrite | None],
        lease: Lease | None,
        *,
        wants_newest: bool = False,
    ) -> int:
        """Do the write that follows the end, again where somebody else has written since; return the newest id."""
        for _ in self._reader.tries(session_id):
            known = self._tails.pop(session_id, None)
            if known is not None and not (wants_newest and known.position and known.newest is None):
                # What it follows may be out of date: then so is a conflict.
                with suppress(ConflictError):
                    if (write := make(known)) is not None:
                        return self._do(session_id, known, replace(write, is_guess=True), lease)
            tail = self._read_tail(session_id)
            with suppress(SealMovedError):
                if (write := make(tail)) is not None:
                    return self._do(session_id, tail, write, lease)
                if lease is not None and not self.renew_lease(lease):
                    raise lost_lease_error(session_id)
                return 0
        raise moved_error(session_id, None)

    def _do(self, session_id: str, tail: Tail, write: SealedWrite, lease: Lease | None) -> int:
        newest = self._rows.write_sealed(session_id, write, lease=lease)
        if write.position is not None:
            self._know(session_id, self._tail_behind(session_id, tail, write, newest))
        return newest

    def _read_tail(self, session_id: str) -> Tail:
        """Read what a write follows; raise SealBrokenError where that is broken, whatever is done about reads."""
        _, tail, breaks = self._reader.window(session_id, 1)
        self._reader.tell(session_id, breaks, strict=True)
        return tail

    def _tail_behind(self, session_id: str, tail: Tail, write: SealedWrite, newest: int) -> Tail:
        """Say what follows a write."""
        end = None if write.after is None else self._seals.read_end(session_id, write.after)
        if write.removed is not None:
            # The row before is not newer.
            return Tail(end, tail.newest.next_id if tail.newest else 0, tail.time, None)
        if not write.texts:
            return Tail(end, 0 if write.removes_all else tail.position, tail.time, None)
        known = None
        if len(write.texts) == 1:
            before, next_id = (GENESIS, 0) if write.removes_all else (tail.seal, tail.position)
            text, sealed = split(write.texts[0])
            known = Newest(newest, text, before if sealed else None, next_id)
        return Tail(end, newest, read_time(write.times[-1]), known)

    def _know(self, session_id: str, tail: Tail) -> None:
        if tail.newest is not None and len(tail.newest.text) > _KEPT_CHARACTERS:
            tail = tail._replace(newest=None)
        self._tails[session_id] = tail
        while len(self._tails) > _ENDS:
            # Another thread may be here too.
            with suppress(KeyError, RuntimeError, StopIteration):
                del self._tails[next(iter(self._tails))]

    def _change(
        self,
        session_id: str,
        change: Callable[[Sequence[Sealed]], list[Sealed]],
        lease: Lease | None,
        *,
        anew: bool = False,
        adopt: bool = False,
        keeps_time: bool = False,
    ) -> int:
        """Change rows in their places, and seal anew what stands behind them; return how many rows were written.

        anew: the seals change also where no row does; adopt: whatever they are now; keeps_time: nothing is said anew.
        """
        for _ in self._reader.tries(session_id):
            self._tails.pop(session_id, None)
            text, stored = self._rows.sealed_rows(session_id, count=MAX_ID)
            rows = [without_seal(row) for row in stored]
            if not adopt:
                self._reader.tell(session_id, self._reader.all_breaks(session_id, rows, text), strict=True)
            rows.reverse()
            wanted = change(rows)
            if wanted == rows and not anew:
                return 0
            sealed = [row for row in wanted if row.seal is not None]
            pairs = [(row.created_at, row.text) for row in sealed]
            texts, seal = self._seals.chain(session_id, GENESIS, pairs)
            new = dict(zip([row.id for row in sealed], texts, strict=True))
            rewritten = [
                (row.id, new[row.id]) for row in rows if row.id in new and split(new[row.id]) != (row.text, row.seal)
            ]
            removed = {row.id for row in rows} - {row.id for row in wanted}
            old = None if text is None else self._seals.read_end(session_id, text)
            end = self._seals.new_end(session_id, old, len(sealed), seal)
            position = rows[-1].id if rows else 0
            write = SealedWrite(
                text,
                end.text,
                position,
                removed=max(removed, default=None),
                rewritten=rewritten,
                keeps_time=anew or keeps_time,
            )
            with suppress(SealMovedError):
                self._rows.write_sealed(session_id, write, lease=lease)
                return len(rewritten) + len(removed)
        raise moved_error(session_id, None)


def _is_theirs(text: str) -> bool:
    return isinstance(text, MarkedText) and text.seal == "unsealed"


def _check_mark(session_id: str, text: str, *, accepts: bool) -> None:
    """Raise InvalidItemError for a text that a seal of ours would make what it is not."""
    mark_of = text.seal if isinstance(text, MarkedText) else "sealed"
    if mark_of == "broken" or (mark_of == "unsealed" and not accepts):
        raise InvalidItemError(
            f"a record for session {session_id!r} is {mark_of} where it comes from, and nothing was written; "
            "pass records of one that is whole, or connect with unsealed='accept'"
        )
