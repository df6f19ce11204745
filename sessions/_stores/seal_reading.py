"""What rows are by their seals: whether they end where the conversation ends, and hang together from there.

What is handed out was read in one statement with the end, or is row for row what was found to lead to the end before.
Ids are not sealed, so nothing is decided by them.
"""

from __future__ import annotations

import logging
import os
from array import array
from collections.abc import Iterator, Sequence
from datetime import datetime
from math import inf
from time import monotonic, sleep
from typing import NamedTuple

from sessions._items import BEFORE_ALL, MAX_ID, read_time
from sessions._operation import thread
from sessions._sealing import Verified, moved_error
from sessions._seals import (
    GENESIS,
    NO_END,
    NOT_OURS,
    OTHER_HISTORY,
    UNSEALED,
    End,
    Sealed,
    Seals,
    broken_error,
    without_seal,
)

from .store import SealableStore

# How many rows are looked at with one statement: at first, at most, and by their characters.
_FIRST_ROWS = 20
_ROWS = 1000
_CHARACTERS = 1_000_000
# The first pause when others write all the time, and the longest.
_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE = 0.05

_CHANGED = "it, its time, its place or what stood before it is not as it was written"
_CUT = "what stood behind it is missing, or stands in another place"

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
    """What a write follows: the end, the newest row's id, the newest sealed one's time, and the row, if it is known."""

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


class Whole(NamedTuple):
    """A conversation that was looked at: each row's id and seal, GENESIS where it has none, and what was found."""

    ids: array[int]
    seals: bytearray
    generation: int  # of its end
    verified: Verified
    breaks: Breaks

    def seal(self, place: int) -> bytes:
        """Return the seal of a row."""
        return bytes(self.seals[place * len(GENESIS) : (place + 1) * len(GENESIS)])

    def place_of(self, seal: bytes) -> int | None:
        """Return where the row with a seal is."""
        return next((place for place in reversed(range(len(self.ids))) if self.seal(place) == seal), None)


class SealReader:
    """Looks at the rows of a store by their seals."""

    def __init__(self, rows: SealableStore, seals: Seals) -> None:
        self._rows = rows
        self._seals = seals
        self._accepts = rows.options.unsealed == "accept"
        self.reports = rows.options.on_broken_seal == "report"
        # The ends that are known here, from which a write goes on without looking at them.
        self.known: dict[str, Tail] = {}

    def window(self, session_id: str, count: int) -> tuple[list[Sealed], Tail, Breaks]:
        """Return at most count of the newest rows, newest first, what a write follows, and what is broken in them."""
        asked = min(count + 1, MAX_ID)
        while True:
            text, stored = self._rows.sealed_rows(session_id, count=asked)
            rows = [without_seal(row) for row in stored]
            base = next((row.seal for row in rows[count:] if row.seal), GENESIS if len(rows) < asked else None)
            if base is not None or not self._accepts:
                break
            asked = min(2 * asked, MAX_ID)
        end, breaks = self.end(session_id, text)
        if base is None:
            breaks[rows[-1].id] = UNSEALED
        breaks |= self.breaks(session_id, rows[:count], end.seal if end else GENESIS, base)
        return rows[:count], _tail(end, rows, base), breaks

    def end(self, session_id: str, text: str | None) -> tuple[End | None, Breaks]:
        """Read an end seal; return what is broken where there is one that none of the keys has made."""
        end = None if text is None else self._seals.read_end(session_id, text)
        is_ours = text is None or end is not None
        return end, {} if is_ours else {None: NOT_OURS}

    def breaks(self, session_id: str, rows: Sequence[Sealed], expected: bytes | None, base: bytes | None) -> Breaks:
        """Return what is broken in rows, newest first, that are to end with a seal and to begin behind another one.

        expected None: whatever they end with; base None: that is not known.
        """
        breaks: Breaks = {} if self._accepts else {row.id: UNSEALED for row in rows if row.seal is None}
        sealed = [row for row in rows if row.seal is not None]
        befores = [*(row.seal for row in sealed[1:]), base]
        for row, before in zip(sealed, befores, strict=False):
            if expected is not None and row.seal != expected:
                breaks[row.id] = _CUT
            if before is None or not self._seals.is_row(session_id, before, row):
                breaks[row.id] = _CHANGED
            expected = before
        if not sealed and expected is not None and base is not None and expected != base:
            breaks[None] = NO_END
        return breaks

    def all_breaks(self, session_id: str, rows: Sequence[Sealed], text: str | None) -> Breaks:
        """Return what is broken in a whole conversation, newest first, with the text of its end seal."""
        end, breaks = self.end(session_id, text)
        return breaks | self.breaks(session_id, rows, end.seal if end else GENESIS, GENESIS)

    def look(self, session_id: str, since: End | None = None) -> Whole:
        """Look at a whole conversation, page by page; again where others have changed it meanwhile."""
        for _ in self.tries(session_id):
            text, newest = self._rows.sealed_rows(session_id, count=1)
            whole = self._walk(session_id, text, newest[0][0] if newest else None, since)
            if not whole.breaks or self._rows.sealed_rows(session_id, count=1) == (text, newest):
                return whole
        raise moved_error(session_id, None)

    def _walk(self, session_id: str, text: str | None, top: int | None, since: End | None) -> Whole:
        """Look at all rows up to one, oldest first."""
        end, breaks = self.end(session_id, text)
        ids, seals = array("q"), bytearray()
        before, after, sealed, count = GENESIS, BEFORE_ALL, 0, _FIRST_ROWS
        goes_on = since is None or since.rows == 0
        while top is not None and after < top:
            stored = self._rows.record_rows(session_id, after=after, upto=top, count=count)
            if not stored:
                break
            count = min(_ROWS, _CHARACTERS * len(stored) // (sum(len(str(text)) for *_, text in stored) + 1) + 1)
            rows = [without_seal(row) for row in stored]
            breaks |= self.breaks(session_id, rows[::-1], None, before)
            for row in rows:
                ids.append(row.id)
                seals += row.seal or GENESIS
                if row.seal is not None:
                    sealed, before = sealed + 1, row.seal
                    goes_on = goes_on or (since is not None and (sealed, before) == (since.rows, since.seal))
            after = rows[-1].id
        last = ids[-1] if ids else None
        if before != (end.seal if end else GENESIS) or sealed != (end.rows if end else 0):
            breaks.setdefault(last, _CUT if ids else NO_END)
        # An end that was written less often is an earlier one, whatever it holds.
        if since is not None and (end.generation if end else 0) < since.generation:
            goes_on = False
        if not goes_on:
            breaks.setdefault(None, OTHER_HISTORY)
        verified = Verified(len(ids), sealed, len(ids) - sealed, text or "")
        return Whole(ids, seals, end.generation if end else 0, verified, breaks)

    def tries(self, session_id: str) -> Iterator[None]:
        """Go on for as long as others write all the time, with pauses; raise ConflictError when that has taken long.

        Since the first time that others were first; what an attempt waited for a server that was away is not counted.
        """
        deadline, pause = inf, _PAUSE_SECONDS
        while monotonic() < deadline:
            waited = thread.waited
            yield
            if deadline == inf:
                # Not before: it may have waited for a lock, behind which all who waited collide.
                deadline = monotonic() + max(self._rows.options.retry_timeout, 1.0)
            else:
                deadline += thread.waited - waited
            # Of the system, or forked processes would all come back at the same moments.
            sleep(pause * int.from_bytes(os.urandom(2), "big") / 2**16)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise moved_error(session_id, None)

    def tell(self, session_id: str, breaks: Breaks, *, strict: bool = False) -> None:
        """Raise SealBrokenError for what is broken; log it where that is asked for, unless strict.

        The next write looks at the end itself.
        """
        if breaks:
            self.known.pop(session_id, None)
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
    # What others have dated may be any time.
    time = next((read_time(row.created_at) for row in rows if row.seal), None)
    return Tail(end, newest.id, time, known)
