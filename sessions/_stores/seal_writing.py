"""What a sealed write is made of, and that it follows the end that is there.

A write presupposes the end that is known here, and leaves one that nobody makes without the key; where somebody else
has written since, it is done again behind that. Only where the end is not known does it take a round trip more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from sessions._items import MAX_ID, MarkedText, RowsCheck, read_time
from sessions._leases import Lease
from sessions._sealing import SealedWrite, SealMovedError, moved_error
from sessions._seals import GENESIS, Sealed, Seals, split, whole_second, without_seal
from sessions.errors import ConflictError, check_position, lost_lease_error

from .seal_reading import Newest, SealReader, Tail
from .settling import with_token
from .store import SealableStore

# Of how many conversations the end is known here, with the newest text if it has at most so many characters.
_ENDS = 1000
_KEPT_CHARACTERS = 16_384


class SealWriter:
    """Seals what is written to a store."""

    def __init__(self, rows: SealableStore, seals: Seals, reader: SealReader, *, accepts: bool) -> None:
        self._rows = rows
        self._seals = seals
        self._reader = reader
        self._accepts = accepts
        # Where threads race here, what is out of date makes a write begin anew.
        self._known = reader.known

    def batch(
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

    def write(
        self,
        session_id: str,
        make: Callable[[Tail], SealedWrite | None],
        lease: Lease | None,
        *,
        wants_newest: bool = False,
    ) -> int:
        """Do the write that follows the end, again where somebody else has written since; return the newest id."""
        for _ in self._reader.tries(session_id):
            known = self.forget(session_id)
            if known is not None and not (wants_newest and known.position and known.newest is None):
                # What it follows may be out of date: then so is a conflict.
                with suppress(ConflictError):
                    if (write := make(known)) is not None:
                        return self._do(session_id, known, replace(write, is_guess=True), lease)
            tail = self.read_tail(session_id)
            try:
                write = make(tail)
            except ConflictError:
                self._check_lease(lease)  # by whoever has overtaken this run
                raise
            with suppress(SealMovedError):
                if write is not None:
                    return self._do(session_id, tail, write, lease)
                self._check_lease(lease)
                return 0
        raise moved_error(session_id, None)

    def _check_lease(self, lease: Lease | None) -> None:
        if lease is not None and not self._rows.renew_lease(lease):
            raise lost_lease_error(lease.session_id)

    def _do(self, session_id: str, tail: Tail, write: SealedWrite, lease: Lease | None) -> int:
        newest = self._rows.write_sealed(session_id, write, lease=lease)
        if write.position is not None:
            self.know(session_id, self._tail_behind(session_id, tail, write, newest))
        return newest

    def replace_newest(
        self, session_id: str, texts: Sequence[str], count: int, check: RowsCheck, lease: Lease | None
    ) -> int | None:
        """Put texts in place of the newest rows if they pass, and seal them behind those that stay."""
        for _ in self._reader.tries(session_id):
            self.forget(session_id)
            rows, tail, breaks = self._reader.window(session_id, MAX_ID)
            self._reader.tell(session_id, breaks)
            if breaks or len(rows) < count or not check([(row.id, row.text) for row in rows[:count]]):
                return None
            sealed = [row.seal for row in rows[count:] if row.seal is not None]
            end = tail.end and tail.end._replace(rows=len(sealed), seal=next(iter(sealed), GENESIS))
            write = self.batch(session_id, tail._replace(end=end), texts, None)
            removed = tuple(row.id for row in rows[:count])
            with suppress(SealMovedError):
                write = replace(write, position=tail.position, removed=removed)
                return self._rows.write_sealed(session_id, write, lease=lease)
        raise moved_error(session_id, None)

    def read_tail(self, session_id: str) -> Tail:
        """Read what a write follows; raise SealBrokenError where that is broken, whatever is done about reads."""
        _, tail, breaks = self._reader.window(session_id, 1)
        self._reader.tell(session_id, breaks, strict=True)
        return tail

    def _tail_behind(self, session_id: str, tail: Tail, write: SealedWrite, newest: int) -> Tail:
        """Say what follows a write."""
        end = None if write.after is None else self._seals.read_end(session_id, write.after)
        if write.removed:
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

    def forget(self, session_id: str) -> Tail | None:
        """Forget an end, and return what was known of it."""
        return self._known.pop(session_id, None)

    def know(self, session_id: str, tail: Tail) -> None:
        """Note an end for the next write."""
        if tail.newest is not None and len(tail.newest.text) > _KEPT_CHARACTERS:
            tail = tail._replace(newest=None)
        self._known[session_id] = tail
        while len(self._known) > _ENDS:
            # Another thread may be here too.
            with suppress(KeyError, RuntimeError, StopIteration):
                del self._known[next(iter(self._known))]

    def change(
        self,
        session_id: str,
        alter: Callable[[Sequence[Sealed]], list[Sealed]],
        lease: Lease | None,
        *,
        anew: bool = False,
        adopt: bool = False,
        keeps_time: bool = False,
    ) -> int:
        """Change rows in their places, and seal anew what stands behind them; return how many rows were written.

        anew: the seals change also where no row does; adopt: whatever those of the rows are now;
        keeps_time: nothing is said anew.
        """
        for _ in self._reader.tries(session_id):
            self.forget(session_id)
            text, stored = self._rows.sealed_rows(session_id, count=MAX_ID)
            rows = [without_seal(row) for row in stored]
            old, breaks = self._reader.end(session_id, text)
            if not adopt:
                breaks = self._reader.all_breaks(session_id, rows, text)
            self._reader.tell(session_id, breaks, strict=True)
            rows.reverse()
            wanted = alter(rows)
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
            end = self._seals.new_end(session_id, old, len(sealed), seal)
            position = rows[-1].id if rows else 0
            write = SealedWrite(
                text,
                end.text,
                position,
                removed=tuple(removed),
                rewritten=rewritten,
                keeps_time=anew or keeps_time,
            )
            with suppress(SealMovedError):
                self._rows.write_sealed(session_id, write, lease=lease)
                return len(rewritten) + len(removed)
        raise moved_error(session_id, None)


def _is_theirs(text: str) -> bool:
    return isinstance(text, MarkedText) and text.seal == "unsealed"
