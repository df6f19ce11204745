"""Sessions in the memory of this process, gone with it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import nsmallest
from itertools import groupby, islice, takewhile
from time import monotonic, time

from sessions._checks import Check
from sessions._connections.fork import check_process, tell_of_forks
from sessions._cursors import NUMBER
from sessions._items import MAX_ID, RecordRow, Row, RowsCheck, SearchRow
from sessions._leases import Lease
from sessions._listing import USER_ROLES, FirstRow, Listing, SessionRow, SizeRow, page_of
from sessions._parts import Part
from sessions._reentry import Lock
from sessions._sealing import SealedWrite, moved_error
from sessions._settings.options import Options
from sessions.errors import busy_error, check_position, closed_error, gone_error, lost_lease_error, taken_error

from .store import SealableStore


@dataclass
class _Conversation:
    rows: list[RecordRow]
    created_at: float = field(default_factory=time)
    updated_at: float = field(default_factory=time)
    seal: str | None = None


class MemoryStore(SealableStore):
    """Rows in a dict. A child made by fork() has a copy of its own."""

    dialect_name = "memory"
    listed_times = NUMBER
    where = "memory:"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._lock = Lock()
        self._sessions: dict[str, _Conversation] = {}
        # The token of each lease, and the moment at which it expires.
        self._leases: dict[str, tuple[str, float]] = {}
        self._last_id = 0
        self._closed = False
        tell_of_forks(self)

    def before_fork(self) -> None:
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        if self._lock.is_held():
            self._lock.release()

    def begin_anew(self) -> None:
        self._lock = Lock()

    def _alone(self) -> Lock:
        check_process()
        self._lock.refuse_reentry("memory:")
        return self._lock

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        with self._alone():
            self._closed = True
            self._sessions.clear()

    def newest_rows(self, session_id: str, *, count: int = MAX_ID, upto: int = MAX_ID) -> list[Row]:
        with self._alone():
            rows = self._rows_of(session_id)
            end = bisect_right(rows, upto, key=_id_of)
            rows = rows[max(end - count, 0) : end]
        # Outside: what is made of them others need not wait for.
        return [(row_id, text) for row_id, _, text in reversed(rows)]

    def record_rows(self, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        with self._alone():
            rows = self._rows_of(session_id)
            first = bisect_right(rows, after, key=_id_of)
            return list(takewhile(lambda row: row[0] <= upto, rows[first : first + count]))

    def newest_range(self, session_id: str, count: int) -> tuple[int, int]:
        with self._alone():
            rows = self._rows_of(session_id)[-count:] if count else []
            return (rows[0][0], rows[-1][0]) if rows else (0, 0)

    def append(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        with self._alone():
            rows = self._rows_under(lease, session_id)
            check_position(session_id, expected=if_position, position=_position(rows))
            rows.extend(self._number(texts))
            return self._put(session_id, rows)

    def pop(
        self, session_id: str, *, lease: Lease | None, check: Callable[[Row], bool] | None = None
    ) -> tuple[Row | None, int]:
        with self._alone():
            rows = self._rows_under(lease, session_id)
            if not rows:
                return None, 0
            row_id, _, text = rows[-1]
            if check is not None and not check((row_id, text)):
                return None, row_id
            rows.pop()
            return (row_id, text), self._put(session_id, rows)

    def replace(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        with self._alone():
            check_position(session_id, expected=if_position, position=_position(self._rows_under(lease, session_id)))
            return self._put(session_id, self._number(texts))

    def replace_newest(
        self, session_id: str, texts: Sequence[str], *, count: int, check: RowsCheck, lease: Lease | None
    ) -> int | None:
        with self._alone():
            rows = self._rows_under(lease, session_id)
            kept = len(rows) - count
            if kept < 0 or not check([(row_id, text) for row_id, _, text in rows[: -count - 1 : -1]]):
                return None
            return self._put(session_id, rows[:kept] + self._number(texts))

    def clear(self, session_id: str, *, known: int, lease: Lease | None) -> None:
        with self._alone():
            self._rows_under(lease, session_id)
            self._sessions.pop(session_id, None)

    def take_lease(self, lease: Lease) -> None:
        with self._alone():
            self._check_open()
            token, expires_at = self._leases.get(lease.session_id, (lease.token, 0.0))
            if token != lease.token and expires_at > monotonic():
                raise busy_error(lease.session_id)
            self._leases[lease.session_id] = (lease.token, monotonic() + lease.seconds)

    def renew_lease(self, lease: Lease) -> bool:
        with self._alone():
            return self._renews(lease)

    def release_lease(self, lease: Lease) -> bool:
        with self._alone():
            if not self._renews(lease):
                return False
            del self._leases[lease.session_id]
            return True

    def list_sessions(self, listing: Listing) -> list[SessionRow]:
        with self._alone():
            self._check_open()
            now = time()
            found = [
                (
                    session_id,
                    known.created_at,
                    known.updated_at,
                    now - known.updated_at,
                    min(len(known.rows), listing.count_limit + 1),
                )
                for session_id, known in self._sessions.items()
                if session_id.startswith(listing.prefix) and (listing.idle is None or known.updated_at <= listing.idle)
            ]
        return page_of(found, listing)

    def delete_sessions(self, session_ids: Sequence[str], *, idle: float | None) -> tuple[int, int]:
        with self._alone():
            self._check_open()
            doomed = [
                session_id
                for session_id in set(session_ids) & set(self._sessions)
                if idle is None or self._sessions[session_id].updated_at <= idle
            ]
            return len(doomed), sum(len(self._sessions.pop(session_id).rows) for session_id in doomed)

    def fork(self, session_id: str, new_id: str, *, upto: int | None, lease: Lease | None) -> None:
        with self._alone():
            rows = self._rows_under(lease, session_id)
            if new_id in self._sessions:
                raise taken_error(new_id)
            if upto and not any(row[0] == upto for row in rows):
                raise gone_error(session_id, upto)
            copied = rows[: bisect_right(rows, MAX_ID if upto is None else upto, key=_id_of)]
            numbered = self._number([text for _, _, text in copied])
            self._put(new_id, [(row[0], old[1], old[2]) for row, old in zip(numbered, copied, strict=True)])

    def delete_record(self, session_id: str, row_id: int, *, lease: Lease | None) -> bool:
        with self._alone():
            rows = self._rows_under(lease, session_id)
            left = [row for row in rows if row[0] != row_id]
            if len(left) < len(rows):
                self._put(session_id, left)
            return len(left) < len(rows)

    def replace_record(self, session_id: str, row_id: int, text: str, *, lease: Lease | None) -> bool:
        with self._alone():
            rows = self._rows_under(lease, session_id)
            place = bisect_right(rows, row_id, key=_id_of) - 1
            if place < 0 or rows[place][0] != row_id:
                return False
            self._put(session_id, [*rows[:place], (row_id, rows[place][1], text), *rows[place + 1 :]])
            return True

    def search(self, literal: str, *, after: int, prefix: str, count: int) -> list[SearchRow]:
        with self._alone():
            self._check_open()
            newer = (
                (session_id, *row)
                for session_id, known in self._sessions.items()
                if session_id.startswith(prefix)
                for row in known.rows[bisect_right(known.rows, after, key=_id_of) :]
            )
            return nsmallest(count, newer, key=lambda row: row[1])

    def session_sizes(self, session_ids: Sequence[str]) -> list[SizeRow]:
        with self._alone():
            self._check_open()
            return [
                (session_id, day, len(texts), sum(len(text.encode()) for text in texts))
                for session_id in sorted(set(session_ids) & set(self._sessions))
                for day, texts in _by_day(self._sessions[session_id].rows)
            ]

    def first_items(self, session_ids: Sequence[str], length: int) -> list[FirstRow]:
        def of_a_user(text: str) -> bool:
            return any(role in text for role in USER_ROLES)

        with self._alone():
            self._check_open()
            return [
                (session_id, next((text[:length] for _, _, text in self._rows_of(session_id) if of_a_user(text)), None))
                for session_id in sorted(set(session_ids) & set(self._sessions))
            ]

    def unlisted_sessions(self, *, after: str, count: int) -> list[str]:
        self._check_open()
        return []

    def load(self, session_id: str, part: Part) -> int:
        with self._alone():
            if part.lease is not None:
                self._rows_under(part.lease, part.lease.session_id)
            if part.is_new and session_id in self._sessions:
                raise taken_error(session_id)
            rows = self._rows_of(session_id)
            check_position(session_id, expected=part.position, position=_position(rows))
            numbered = zip(self._number(part.texts), part.times, strict=True)
            before = [] if part.replaces else rows
            newest = self._put(
                session_id, [*before, *((row_id, _seconds(made, now), text) for (row_id, now, text), made in numbered)]
            )
            known = self._sessions[session_id]
            known.created_at = _seconds(part.created_at, known.created_at)
            known.updated_at = _seconds(part.updated_at, known.updated_at)
            return newest

    def sealed_rows(self, session_id: str, *, count: int) -> tuple[str | None, list[RecordRow]]:
        with self._alone():
            rows = list(islice(reversed(self._rows_of(session_id)), count))
            return self._seal_of(session_id), rows

    def write_sealed(self, session_id: str, write: SealedWrite, *, lease: Lease | None) -> int:
        with self._alone():
            if lease is not None:
                self._rows_under(lease, lease.session_id)
            there = self._rows_of(session_id)
            rows = [] if write.removes_all else list(there)
            if write.is_new and session_id in self._sessions:
                raise taken_error(session_id)
            found = self._seal_of(session_id)
            if found != write.before or write.position not in (None, _position(there)):
                raise moved_error(session_id, found)
            texts, removed = dict(write.rewritten), set(write.removed)
            kept = [(row_id, made, texts.get(row_id, text)) for row_id, made, text in rows if row_id not in removed]
            numbered = zip(self._number(write.texts), write.times, strict=True)
            kept += [(row_id, _seconds(made, now), text) for (row_id, now, text), made in numbered]
            if write.after is None:
                self._sessions.pop(session_id, None)
                return 0
            now = time()
            before = self._sessions.get(session_id)
            created_at = _seconds(write.created_at or "", before.created_at if before else now)
            updated_at = _seconds(write.updated_at or "", before.updated_at if write.keeps_time and before else now)
            # At once: rows without their seal are broken to who is interrupted in between.
            self._sessions[session_id] = _Conversation(kept, created_at, updated_at, write.after)
            return _position(kept)

    def sealed_sessions(self, *, after: str, count: int) -> list[str]:
        with self._alone():
            self._check_open()
            return sorted(name for name, known in self._sessions.items() if known.seal and name > after)[:count]

    def rewrite(self, session_id: str, rows: Sequence[tuple[int, str, str]]) -> int:
        with self._alone():
            new = {(row_id, before): after for row_id, before, after in rows}
            there = self._rows_of(session_id)
            left = [(row_id, made, new.get((row_id, text), text)) for row_id, made, text in there]
            written = sum(one is not other for (*_, one), (*_, other) in zip(left, there, strict=True))
            if written:
                # Whoever reads has the list that was; no time of a write is noted, for nothing is said anew.
                self._sessions[session_id].rows = left
            return written

    def clock(self) -> float:
        return time()

    def check(self, *, fix: bool) -> list[Check]:
        self._check_open()
        return [Check("connection", "ok", "the memory of this process")]

    def _rows_under(self, lease: Lease | None, session_id: str) -> list[RecordRow]:
        """Return the rows, for a write that needs the lease, if there is one."""
        if lease is not None and not self._renews(lease):
            raise lost_lease_error(session_id)
        return self._rows_of(session_id)

    def _renews(self, lease: Lease) -> bool:
        self._check_open()
        token, _ = self._leases.get(lease.session_id, ("", 0.0))
        if token != lease.token:
            return False
        self._leases[lease.session_id] = (token, monotonic() + lease.seconds)
        return True

    def _rows_of(self, session_id: str) -> list[RecordRow]:
        self._check_open()
        known = self._sessions.get(session_id)
        return known.rows if known else []

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error()

    def _seal_of(self, session_id: str) -> str | None:
        known = self._sessions.get(session_id)
        return known.seal if known else None

    def _number(self, texts: Sequence[str]) -> list[RecordRow]:
        first = self._last_id + 1
        self._last_id += len(texts)
        now = time()
        return [(row_id, now, text) for row_id, text in enumerate(texts, first)]

    def _put(self, session_id: str, rows: list[RecordRow]) -> int:
        known = self._sessions.get(session_id)
        if known is None:
            self._sessions[session_id] = _Conversation(rows)
        else:
            known.rows, known.updated_at = rows, time()
        return _position(rows)


def _by_day(rows: Sequence[RecordRow]) -> Iterator[tuple[str, list[str]]]:
    for day, group in groupby(rows, lambda row: datetime.fromtimestamp(row[1], UTC).date().isoformat()):
        yield day, [text for _, _, text in group]


def _seconds(moment: str, default: float) -> float:
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() if moment else default


def _position(rows: Sequence[RecordRow]) -> int:
    return rows[-1][0] if rows else 0


def _id_of(row: RecordRow) -> int:
    return row[0]
