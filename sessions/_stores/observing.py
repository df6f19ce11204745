"""A store that tells what it does: the application's hooks, and at level DEBUG the log.

It stands before another one only where somebody wants to know, and sees what that one is given and
returns: nothing is counted by asking, and nothing of an item or an error is passed on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from logging import DEBUG
from time import perf_counter
from typing import TypeVar

from sessions._checks import Check
from sessions._items import MAX_ID, RecordRow, Row, RowsCheck, SearchRow
from sessions._leases import Lease
from sessions._listing import FirstRow, Listing, SessionRow, SizeRow
from sessions._operation import Operation, thread
from sessions._parts import Part
from sessions._sealing import Verified

from .store import Store

T = TypeVar("T")

logger = logging.getLogger("sessions")
_is_enabled_for = logger.isEnabledFor


def observed(store: Store, name: str) -> Store:
    """Return the store as it is, or one that tells of each operation under the name of a public method."""
    if store.hooks is None and not _is_enabled_for(DEBUG):
        return store
    return store if isinstance(store, ObservedStore) else ObservedStore(store, name)


def tell_refused(store: Store, name: str, session_id: str, error: Exception) -> None:
    """Tell of an operation that ended before the store was asked."""
    told = observed(store, name)
    if isinstance(told, ObservedStore):
        thread.attempts = 0
        told.tell(0.0, type(error).__name__, session_id)


class ObservedStore(Store):
    """Another store, each operation of which is told."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self.name = name
        self.dialect_name = store.dialect_name
        self.listed_times = store.listed_times
        self.where = store.where
        self.options = store.options
        self.hooks = store.hooks

    @property
    def surroundings(self) -> str:
        return self._store.surroundings

    @property
    def closed(self) -> bool:
        return self._store.closed

    def close(self) -> None:
        self._store.close()

    def newest_rows(self, session_id: str, *, count: int = MAX_ID, upto: int = MAX_ID) -> list[Row]:
        return self._run(
            lambda: self._store.newest_rows(session_id, count=count, upto=upto), session_id, texts=_last_of_each
        )

    def record_rows(self, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        return self._run(
            lambda: self._store.record_rows(session_id, after=after, upto=upto, count=count),
            session_id,
            texts=_last_of_each,
        )

    def newest_range(self, session_id: str, count: int) -> tuple[int, int]:
        return self._run(lambda: self._store.newest_range(session_id, count), session_id)

    def append(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        return self._run(
            lambda: self._store.append(session_id, texts, if_position=if_position, known=known, lease=lease),
            session_id,
            texts=lambda _: texts,
        )

    def pop(
        self, session_id: str, *, lease: Lease | None, check: Callable[[Row], bool] | None = None
    ) -> tuple[Row | None, int]:
        return self._run(
            lambda: self._store.pop(session_id, lease=lease, check=check),
            session_id,
            texts=lambda popped: [popped[0][1]] if popped[0] else [],
        )

    def replace(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        return self._run(
            lambda: self._store.replace(session_id, texts, if_position=if_position, known=known, lease=lease),
            session_id,
            texts=lambda _: texts,
        )

    def replace_newest(
        self, session_id: str, texts: Sequence[str], *, count: int, check: RowsCheck, lease: Lease | None
    ) -> int | None:
        return self._run(
            lambda: self._store.replace_newest(session_id, texts, count=count, check=check, lease=lease),
            session_id,
            texts=lambda newest: [] if newest is None else texts,
        )

    def clear(self, session_id: str, *, known: int, lease: Lease | None) -> None:
        self._run(lambda: self._store.clear(session_id, known=known, lease=lease), session_id)

    def take_lease(self, lease: Lease) -> None:
        self._run(lambda: self._store.take_lease(lease), lease.session_id)

    def renew_lease(self, lease: Lease) -> bool:
        return self._run(lambda: self._store.renew_lease(lease), lease.session_id)

    def release_lease(self, lease: Lease) -> bool:
        return self._run(lambda: self._store.release_lease(lease), lease.session_id)

    def list_sessions(self, listing: Listing) -> list[SessionRow]:
        return self._run(lambda: self._store.list_sessions(listing), rows=len)

    def delete_sessions(self, session_ids: Sequence[str], *, idle: float | None) -> tuple[int, int]:
        return self._run(lambda: self._store.delete_sessions(session_ids, idle=idle), rows=lambda gone: gone[1])

    def fork(self, session_id: str, new_id: str, *, upto: int | None, lease: Lease | None) -> None:
        self._run(lambda: self._store.fork(session_id, new_id, upto=upto, lease=lease), session_id)

    def delete_record(self, session_id: str, row_id: int, *, lease: Lease | None) -> bool:
        return self._run(lambda: self._store.delete_record(session_id, row_id, lease=lease), session_id, rows=int)

    def replace_record(self, session_id: str, row_id: int, text: str, *, lease: Lease | None) -> bool:
        return self._run(
            lambda: self._store.replace_record(session_id, row_id, text, lease=lease),
            session_id,
            texts=lambda is_there: [text] if is_there else [],
        )

    def search(self, literal: str, *, after: int, prefix: str, count: int) -> list[SearchRow]:
        return self._run(
            lambda: self._store.search(literal, after=after, prefix=prefix, count=count),
            rows=len,
            texts=lambda found: [text for *_, text in found if text is not None],
        )

    def session_sizes(self, session_ids: Sequence[str]) -> list[SizeRow]:
        return self._run(lambda: self._store.session_sizes(session_ids), rows=len)

    def first_items(self, session_ids: Sequence[str], length: int) -> list[FirstRow]:
        return self._run(lambda: self._store.first_items(session_ids, length), rows=len)

    def unlisted_sessions(self, *, after: str, count: int) -> list[str]:
        return self._run(lambda: self._store.unlisted_sessions(after=after, count=count), rows=len)

    def seal(self, session_id: str) -> str:
        return self._run(lambda: self._store.seal(session_id), session_id)

    def verify(self, session_id: str, since: str | None) -> Verified:
        return self._run(
            lambda: self._store.verify(session_id, since), session_id, rows=lambda verified: verified.records
        )

    def sealed_sessions(self, *, after: str, count: int) -> list[str]:
        return self._run(lambda: self._store.sealed_sessions(after=after, count=count), rows=len)

    def clock(self) -> float:
        return self._run(self._store.clock)

    def check(self, *, fix: bool) -> list[Check]:
        return self._run(lambda: self._store.check(fix=fix))

    def load(self, session_id: str, part: Part) -> int:
        return self._run(lambda: self._store.load(session_id, part), session_id, texts=lambda _: part.texts)

    def rewrite(self, session_id: str, rows: Sequence[tuple[int, str, str]]) -> int:
        return self._run(lambda: self._store.rewrite(session_id, rows), session_id, rows=int)

    def rekey(self, session_id: str, *, adopt: bool) -> int:
        return self._run(lambda: self._store.rekey(session_id, adopt=adopt), session_id, rows=int)

    def _run(
        self,
        ask: Callable[[], T],
        session_id: str | None = None,
        *,
        rows: Callable[[T], int] | None = None,
        texts: Callable[[T], Sequence[object]] = lambda _: (),
    ) -> T:
        """Ask the store, and tell how it went; rows are as many as the texts unless rows says otherwise."""
        thread.attempts = 1
        began = perf_counter()
        try:
            answer = ask()
        except BaseException as exc:
            self.tell((perf_counter() - began) * 1000, type(exc).__name__, session_id)
            raise
        milliseconds = (perf_counter() - began) * 1000
        found = texts(answer)
        self.tell(milliseconds, "ok", session_id, rows=rows(answer) if rows else len(found), texts=found)
        return answer

    def tell(
        self,
        milliseconds: float,
        outcome: str,
        session_id: str | None,
        *,
        rows: int = 0,
        texts: Iterable[object] = (),
    ) -> None:
        """Tell the hooks and the log of an operation that is over."""
        if thread.is_telling:
            return
        thread.is_telling = True
        try:
            operation = Operation(
                self.name,
                self.dialect_name,
                milliseconds,
                rows,
                sum(map(_bytes_of, texts)),
                thread.attempts,
                outcome,
                session_id if self.options.operation_ids else None,
            )
            if self.hooks:
                self.hooks.tell(operation)
            if _is_enabled_for(DEBUG):
                self._log(operation)
        finally:
            thread.is_telling = False

    def _log(self, operation: Operation) -> None:
        logger.debug(
            "%s: %s%s: %s after %.3f ms, rows %d, bytes %d, attempts %d",
            self.where,
            operation.name,
            "" if operation.session_id is None else f" of session {operation.session_id!r}",
            operation.outcome,
            operation.milliseconds,
            operation.rows,
            operation.bytes,
            operation.attempts,
        )


def _last_of_each(rows: Sequence[tuple[object, ...]]) -> list[object]:
    return [row[-1] for row in rows]


def _bytes_of(text: object) -> int:
    """The length of a text as UTF-8; a column of bytes has its own, and what is no text that of its digits."""
    if isinstance(text, bytes) or (isinstance(text, str) and text.isascii()):
        return len(text)
    return len(str(text).encode(errors="surrogatepass"))
