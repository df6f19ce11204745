"""A store before another one, which hands on what it is asked: the base of those that change what a text is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sessions._checks import Check
from sessions._items import MAX_ID, RecordRow, Row, RowsCheck, SearchRow
from sessions._leases import Lease
from sessions._listing import FirstRow, Listing, SessionRow, SizeRow
from sessions._parts import Part
from sessions._sealing import Verified

from .store import Store


class PassingStore(Store):
    """Another store, as it is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.dialect_name = store.dialect_name
        self.listed_times = store.listed_times
        self.where = store.where
        self.options = store.options
        self.hooks = store.hooks
        self.bound = store.bound

    @property
    def surroundings(self) -> str:
        return self._store.surroundings

    @property
    def closed(self) -> bool:
        return self._store.closed

    def close(self) -> None:
        self._store.close()

    def newest_rows(self, session_id: str, *, count: int = MAX_ID, upto: int = MAX_ID) -> list[Row]:
        return self._store.newest_rows(session_id, count=count, upto=upto)

    def record_rows(self, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        return self._store.record_rows(session_id, after=after, upto=upto, count=count)

    def newest_range(self, session_id: str, count: int) -> tuple[int, int]:
        return self._store.newest_range(session_id, count)

    def append(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        return self._store.append(session_id, texts, if_position=if_position, known=known, lease=lease)

    def pop(
        self, session_id: str, *, lease: Lease | None, check: Callable[[Row], bool] | None = None
    ) -> tuple[Row | None, int]:
        return self._store.pop(session_id, lease=lease, check=check)

    def replace(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        return self._store.replace(session_id, texts, if_position=if_position, known=known, lease=lease)

    def replace_newest(
        self, session_id: str, texts: Sequence[str], *, count: int, check: RowsCheck, lease: Lease | None
    ) -> int | None:
        return self._store.replace_newest(session_id, texts, count=count, check=check, lease=lease)

    def clear(self, session_id: str, *, known: int, lease: Lease | None) -> None:
        self._store.clear(session_id, known=known, lease=lease)

    def take_lease(self, lease: Lease) -> None:
        self._store.take_lease(lease)

    def renew_lease(self, lease: Lease) -> bool:
        return self._store.renew_lease(lease)

    def release_lease(self, lease: Lease) -> bool:
        return self._store.release_lease(lease)

    def list_sessions(self, listing: Listing) -> list[SessionRow]:
        return self._store.list_sessions(listing)

    def delete_sessions(self, session_ids: Sequence[str], *, idle: float | None) -> tuple[int, int]:
        return self._store.delete_sessions(session_ids, idle=idle)

    def fork(self, session_id: str, new_id: str, *, upto: int | None, lease: Lease | None) -> None:
        self._store.fork(session_id, new_id, upto=upto, lease=lease)

    def delete_record(self, session_id: str, row_id: int, *, lease: Lease | None) -> bool:
        return self._store.delete_record(session_id, row_id, lease=lease)

    def replace_record(self, session_id: str, row_id: int, text: str, *, lease: Lease | None) -> bool:
        return self._store.replace_record(session_id, row_id, text, lease=lease)

    def search(self, literal: str, *, after: int, prefix: str, count: int) -> list[SearchRow]:
        return self._store.search(literal, after=after, prefix=prefix, count=count)

    def session_sizes(self, session_ids: Sequence[str]) -> list[SizeRow]:
        return self._store.session_sizes(session_ids)

    def first_items(self, session_ids: Sequence[str], length: int) -> list[FirstRow]:
        return self._store.first_items(session_ids, length)

    def unlisted_sessions(self, *, after: str, count: int) -> list[str]:
        return self._store.unlisted_sessions(after=after, count=count)

    def seal(self, session_id: str) -> str:
        return self._store.seal(session_id)

    def verify(self, session_id: str, since: str | None) -> Verified:
        return self._store.verify(session_id, since)

    def sealed_sessions(self, *, after: str, count: int) -> list[str]:
        return self._store.sealed_sessions(after=after, count=count)

    def clock(self) -> float:
        return self._store.clock()

    def check(self, *, fix: bool) -> list[Check]:
        return self._store.check(fix=fix)

    def load(self, session_id: str, part: Part) -> int:
        return self._store.load(session_id, part)

    def rewrite(self, session_id: str, rows: Sequence[tuple[int, str, str]]) -> int:
        return self._store.rewrite(session_id, rows)

    def rekey(self, session_id: str, *, adopt: bool) -> int:
        return self._store.rekey(session_id, adopt=adopt)
