"""Sessions in the memory of this process, gone with it."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice, takewhile
from time import time

from sessions._connections.fork import check_process, tell_of_forks
from sessions._items import MAX_ID, RecordRow, Row
from sessions._settings.options import Options
from sessions.errors import check_position, closed_error

from .store import Store


class MemoryStore(Store):
    """Rows in a dict. A child made by fork() has a copy of its own."""

    dialect_name = "memory"
    where = "memory:"

    def __init__(self, options: Options) -> None:
        self.options = options
        self._lock = threading.RLock()
        self._rows: dict[str, list[RecordRow]] = {}
        self._last_id = 0
        self._closed = False
        tell_of_forks(self)

    def before_fork(self) -> None:
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def begin_anew(self) -> None:
        self._lock = threading.RLock()

    def _alone(self) -> threading.RLock:
        check_process()
        return self._lock

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        with self._alone():
            self._closed = True
            self._rows.clear()

    def newest_rows(self, session_id: str, *, count: int = MAX_ID, before: int = MAX_ID) -> list[Row]:
        with self._alone():
            newest_first = reversed(self._rows_of(session_id))
            return [
                (row_id, text) for row_id, _, text in islice((row for row in newest_first if row[0] < before), count)
            ]

    def record_rows(self, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        with self._alone():
            rows = self._rows_of(session_id)
            first = bisect_right(rows, after, key=_id_of)
            return list(takewhile(lambda row: row[0] <= upto, rows[first : first + count]))

    def newest_range(self, session_id: str, count: int) -> tuple[int, int]:
        with self._alone():
            rows = self._rows_of(session_id)[-count:] if count else []
            return (rows[0][0], rows[-1][0]) if rows else (0, 0)

    def append(self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int) -> int:
        with self._alone():
            rows = self._rows_of(session_id)
            check_position(session_id, expected=if_position, position=_position(rows))
            rows.extend(self._number(texts))
            return self._put(session_id, rows)

    def pop(self, session_id: str) -> tuple[Row | None, int]:
        with self._alone():
            rows = self._rows_of(session_id)
            if not rows:
                return None, 0
            row_id, _, text = rows.pop()
            return (row_id, text), _position(rows)

    def replace(self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int) -> int:
        with self._alone():
            check_position(session_id, expected=if_position, position=_position(self._rows_of(session_id)))
            return self._put(session_id, self._number(texts))

    def clear(self, session_id: str, *, known: int) -> None:
        with self._alone():
            self._rows_of(session_id).clear()
            self._rows.pop(session_id, None)

    def _rows_of(self, session_id: str) -> list[RecordRow]:
        if self._closed:
            raise closed_error()
        return self._rows.get(session_id, [])

    def _number(self, texts: Sequence[str]) -> list[RecordRow]:
        first = self._last_id + 1
        self._last_id += len(texts)
        now = time()
        return [(row_id, now, text) for row_id, text in enumerate(texts, first)]

    def _put(self, session_id: str, rows: list[RecordRow]) -> int:
        self._rows[session_id] = rows
        return _position(rows)


def _position(rows: Sequence[RecordRow]) -> int:
    return rows[-1][0] if rows else 0


def _id_of(row: RecordRow) -> int:
    return row[0]
