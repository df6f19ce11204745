"""What rows are by their seals: whether they end where the conversation ends, and hang together from there.

A read of the newest rows ends at the end seal. Any other one ends at the row behind it, by whose seal its own end is
known, or hangs together with the page before it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from time import monotonic, sleep
from typing import NamedTuple, TypeVar

from sessions._items import BEFORE_ALL, MAX_ID, read_time
from sessions._sealing import Verified, moved_error
from sessions._seals import GENESIS, UNSEALED, End, Sealed, Seals, broken_error, without_seal

from .store import SealableStore

# How many rows are looked at with one statement: at first, at most, and by their characters.
_FIRST_ROWS = 20
_ROWS = 1000
_CHARACTERS = 1_000_000
# The first pause when others write all the time, and the longest.
_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE = 0.05

T = TypeVar("T")
U = TypeVar("U")

# Where something is broken, by the row's id, None where there is none; and what.
Breaks = dict[int | None, str]

logger = logging.getLogger("sessions")


class Newest(NamedTuple):
    """The newest row, the seal before it, None where it has none itself, and the id of the row before it."""

    id: int
    text: str
    before: bytes | None
    next_id: int


class Tail(NamedTuple):
    """What a write follows: the end, the id and the time of the newest row, and that row, where it is known."""

    end: End | None
    position: int
    time: datetime | None
    newest: Newest | None

    @property
    def seal(self) -> bytes:
        return self.end.seal if self.end else GENESIS

    @property
    def rows(self) -> int:
        return self.end.rows if self.end else 0

    @property
    def text(self) -> str | None:
        return self.end.text if self.end else None


class SealReader:
    """Looks at the rows of a store by their seals."""

    def __init__(self, rows: SealableStore, seals: Seals) -> None:
        self._rows = rows
        self._seals = seals
        self._accepts = rows.options.unsealed == "accept"
        self.reports = rows.options.on_broken_seal == "report"

    def window(self, session_id: str, count: int, upto: int = MAX_ID) -> tuple[list[Sealed], Tail, Breaks]:
        """Return at most count rows up to an id, newest first, what a write follows, and what is broken in them."""
        if upto == MAX_ID:
            return self._window(session_id, count, upto)
        return self.settled(session_id, lambda: self._window(session_id, count, upto))

    def settled(self, session_id: str, read: Callable[[], tuple[T, U, Breaks]]) -> tuple[T, U, Breaks]:
        """Read with several statements, again where others have changed or removed a row between them.

        Then the whole is as it should be; where it is not, that is raised.
        """
        for _ in self.tries(session_id):
            found = read()
            if not found[2] or self.reports:
                break
            self.verify(session_id, None)
        return found

    def tries(self, session_id: str) -> Iterator[None]:
        """Go on for as long as others write all the time, with pauses; raise ConflictError when that has taken long."""
        deadline, pause = monotonic() + max(self._rows.options.retry_timeout, 1.0), _PAUSE_SECONDS
        while monotonic() < deadline:
            yield
            # Of the system, or forked processes would all come back at the same moments.
            sleep(pause * int.from_bytes(os.urandom(2), "big") / 2**16)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise moved_error(session_id, None)

    def _window(self, session_id: str, count: int, upto: int) -> tuple[list[Sealed], Tail, Breaks]:
        end, rows, base, breaks = self._read(session_id, count, upto)
        expected = (end.seal if end else GENESIS) if upto == MAX_ID else self.seal_at(session_id, upto)
        breaks |= self.breaks(session_id, rows[:count], expected, base)
        return rows[:count], _tail(end, rows, base), breaks

    def _read(self, session_id: str, count: int, upto: int) -> tuple[End | None, list[Sealed], bytes | None, Breaks]:
        """Read count rows and what they stand behind: its seal, None where that has none."""
        asked = min(count + 1, MAX_ID)
        while True:
            text, stored = self._rows.sealed_rows(session_id, count=asked, upto=upto)
            rows = [without_seal(row) for row in stored]
            base = GENESIS if len(rows) < asked else next((row.seal for row in rows[count:] if row.seal), None)
            if base is not None or not self._accepts:
                break
            asked = min(2 * asked, MAX_ID)
        end, breaks = self._end(session_id, text)
        if base is None:
            breaks[rows[-1].id] = UNSEALED
        return end, rows, base, breaks

    def _end(self, session_id: str, text: str | None) -> tuple[End | None, Breaks]:
        end = None if text is None else self._seals.read_end(session_id, text)
        is_ours = text is None or end is not None
        return end, {} if is_ours else {None: "its end seal was not made with this key"}

    def breaks(self, session_id: str, rows: Sequence[Sealed], expected: bytes | None, base: bytes | None) -> Breaks:
        """Return what is broken in rows, newest first, that are to end with a seal and to begin behind another one.

        expected None: whatever they end with; base None: that is not known.
        """
        breaks: Breaks = {} if self._accepts else {row.id: UNSEALED for row in rows if row.seal is None}
        sealed = [row for row in rows if row.seal is not None]
        befores = [*(row.seal for row in sealed[1:]), base]
        for row, before in zip(sealed, befores, strict=False):
            if expected is not None and row.seal != expected:
                breaks[row.id] = "what stood behind it is missing, or stands in another place"
            if before is None or not self._seals.is_row(session_id, before, row):
                breaks[row.id] = "it, its time, its place or what stood before it is not as it was written"
            expected = before
        if not sealed and expected is not None and base is not None and expected != base:
            breaks[None] = "its end is missing"
        return breaks

    def all_breaks(self, session_id: str, rows: Sequence[Sealed], text: str | None) -> Breaks:
        """Return what is broken in a whole conversation, newest first, with the text of its end seal."""
        end, breaks = self._end(session_id, text)
        return breaks | self.breaks(session_id, rows, end.seal if end else GENESIS, GENESIS)

    def verify(self, session_id: str, since: End | None) -> Verified:
        """Look at a whole conversation; raise SealBrokenError where it is broken, or does not go on from an end."""
        for _ in self.tries(session_id):
            text, newest = self._rows.sealed_rows(session_id, count=1)
            verified, breaks = self._walk(session_id, text, newest[0][0] if newest else 0, since)
            if not breaks or self._rows.sealed_rows(session_id, count=1) == (text, newest):
                break
        self.tell(session_id, breaks, strict=True)
        return verified

    def _walk(self, session_id: str, text: str | None, top: int, since: End | None) -> tuple[Verified, Breaks]:
        """Look at all rows up to one, oldest first."""
        end, breaks = self._end(session_id, text)
        before, after, sealed, plain = GENESIS, BEFORE_ALL if top else 0, 0, 0
        goes_on, count = since is None or since.rows == 0, _FIRST_ROWS
        while after < top:
            stored = self._rows.record_rows(session_id, after=after, upto=top, count=count)
            if not stored:
                break
            count = min(_ROWS, _CHARACTERS * len(stored) // (sum(len(str(text)) for *_, text in stored) + 1) + 1)
            rows = [without_seal(row) for row in stored]
            breaks |= self.breaks(session_id, rows[::-1], None, before)
            for row in rows:
                if row.seal is None:
                    plain += 1
                    continue
                sealed, before = sealed + 1, row.seal
                goes_on = goes_on or (since is not None and (sealed, before) == (since.rows, since.seal))
            after = rows[-1].id
        if before != (end.seal if end else GENESIS) or sealed != (end.rows if end else 0):
            found = sealed + plain > 0
            breaks.setdefault(after if found else None, f"{'what stood behind it' if found else 'its end'} is missing")
        if not goes_on:
            breaks.setdefault(None, "it does not go on from that seal: it is an earlier history, or was changed since")
        return Verified(sealed + plain, sealed, plain, text or ""), breaks

    def seal_before(self, session_id: str, row_id: int) -> bytes:
        """Return the seal that the newest sealed row up to an id has."""
        upto, count = row_id, 1
        while upto:
            stored = self._rows.newest_rows(session_id, count=count, upto=upto)
            for key, text in stored:
                if (seal := without_seal((key, None, text)).seal) is not None:
                    return seal
            if len(stored) < count:
                break
            upto, count = stored[-1][0] - 1, _ROWS
        return GENESIS

    def seal_at(self, session_id: str, row_id: int) -> bytes:
        """Return the seal with which rows up to an id end, by what stands behind them; b"" where that is broken."""
        after = row_id
        while row_id < MAX_ID:
            stored = self._rows.record_rows(session_id, after=after, upto=MAX_ID, count=1)
            if not stored:
                break
            row = without_seal(stored[0])
            if row.seal is not None:
                before = self.seal_before(session_id, row_id)
                return before if self._seals.is_row(session_id, before, row) else b""
            after = row.id
        text, _ = self._rows.sealed_rows(session_id, count=1)
        end, breaks = self._end(session_id, text)
        return b"" if breaks else (end.seal if end else GENESIS)

    def tell(self, session_id: str, breaks: Breaks, *, strict: bool = False) -> None:
        """Raise SealBrokenError for what is broken; log it where that is asked for, unless strict."""
        for record_id, why in breaks.items():
            error = broken_error(session_id, record_id, why)
            if strict or not self.reports:
                raise error
            logger.error("%s", error)


def _tail(end: End | None, rows: Sequence[Sealed], base: bytes | None) -> Tail:
    if not rows:
        return Tail(end, 0, None, None)
    newest, *others = rows
    before = next((row.seal for row in others if row.seal), base) if newest.seal else None
    known = Newest(newest.id, newest.text, before, others[0].id if others else 0)
    return Tail(end, newest.id, read_time(newest.created_at), known)
