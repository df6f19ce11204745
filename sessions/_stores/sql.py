"""Rows in a database: a dialect's operations, attempted on a lender's connections."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from sessions._checks import Check
from sessions._connections.fork import process_lock
from sessions._dialects.dialect import Dialect, numbered
from sessions._items import MAX_ID, RecordRow, Row, RowsCheck, SearchRow
from sessions._leases import Lease
from sessions._listing import FirstRow, Listing, SessionRow, SizeRow
from sessions._parts import Part
from sessions._sealing import SealedWrite
from sessions._settings.options import Options
from sessions.errors import OutcomeUnknownError, busy_error, unknown_lease_error

from .attempts import Attempts, Lender
from .checking import checks, mend
from .operating import (
    delete_record,
    delete_sessions,
    first_items,
    fork,
    list_sessions,
    load,
    pop_checked,
    replace_newest,
    replace_record,
    rewrite,
    search,
    session_sizes,
    unlisted_sessions,
)
from .sealing import sealed_rows, sealed_sessions, settle_sealed, write_sealed
from .settling import (
    Call,
    noted,
    settle_append,
    settle_clear,
    settle_deletion,
    settle_load,
    settle_newest,
    settle_pruning,
    settle_record,
    settle_replace,
    settle_rewriting,
    with_token,
)
from .store import SealableStore, Store

C = TypeVar("C")
T = TypeVar("T")


_opened: weakref.WeakSet[Store] = weakref.WeakSet()


def close_all() -> None:
    """Close what this process has open, at its end."""
    with process_lock():
        stores = list(_opened)
    for store in stores:
        store.close()


class SQLStore(SealableStore, Generic[C]):
    """A database behind a DB-API driver."""

    def __init__(self, where: str, options: Options, dialect: Dialect[C], lender: Lender[C]) -> None:
        super().__init__(options)
        self.dialect_name = dialect.name
        self.listed_times = dialect.listed_times
        self.settles = dialect.settles
        self.where = where
        self._dialect = dialect
        self._attempts = Attempts(dialect, lender, options, where)
        self._lender = lender
        # Also closes the connections of a store that is dropped.
        self._close = weakref.finalize(self, lender.abandon)
        # By itself it would do so at exit before what was registered with atexit earlier, whatever made the first one.
        self._close.atexit = False
        with process_lock():
            _opened.add(self)

    @property
    def surroundings(self) -> str:
        return self._dialect.surroundings

    @property
    def closed(self) -> bool:
        return not self._close.alive

    def close(self) -> None:
        # Not by calling it, which does nothing any more once the interpreter has run those that it runs at exit.
        if self._close.detach() is not None:
            self._lender.close()

    def newest_rows(self, session_id: str, *, count: int = MAX_ID, upto: int = MAX_ID) -> list[Row]:
        return numbered(
            self._read(
                lambda connection: self._dialect.newest_rows(connection, session_id, count=count, upto=upto),
                about=session_id,
            )
        )

    def record_rows(self, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        return numbered(
            self._read(
                lambda connection: self._dialect.record_rows(
                    connection, session_id, after=after, upto=upto, count=count
                ),
                about=session_id,
            )
        )

    def newest_range(self, session_id: str, count: int) -> tuple[int, int]:
        return self._read(
            lambda connection: self._dialect.newest_range(connection, session_id, count), about=session_id
        )

    def append(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        dialect = self._dialect
        call = Call(session_id, with_token(texts) if dialect.settles else texts, if_position, known, lease)
        return self._attempts.run(
            lambda connection: dialect.append(connection, session_id, call.texts, if_position, lease),
            settle=lambda connection: settle_append(dialect, connection, call),
            about=session_id,
        )

    def pop(
        self, session_id: str, *, lease: Lease | None, check: Callable[[Row], bool] | None = None
    ) -> tuple[Row | None, int]:
        dialect = self._dialect
        if check is None:
            return self._attempts.run(
                lambda connection: dialect.pop(connection, session_id, lease), settle=None, about=session_id
            )
        return self._attempts.run(
            lambda connection: pop_checked(dialect, connection, session_id, lease, check),
            settle=None,
            about=session_id,
        )

    def replace(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        dialect = self._dialect
        call = Call(session_id, with_token(texts) if dialect.settles else texts, if_position, known, lease)
        return self._attempts.run(
            lambda connection: dialect.replace(connection, session_id, call.texts, if_position, lease),
            settle=lambda connection: settle_replace(dialect, connection, call),
            about=session_id,
        )

    def replace_newest(
        self, session_id: str, texts: Sequence[str], *, count: int, check: RowsCheck, lease: Lease | None
    ) -> int | None:
        dialect = self._dialect
        call = Call(session_id, with_token(texts) if dialect.settles else texts, lease=lease)
        return self._attempts.run(
            lambda connection: replace_newest(dialect, connection, session_id, call.texts, count, check, lease),
            settle=lambda connection: settle_newest(dialect, connection, call, count, check),
            about=session_id,
        )

    def clear(self, session_id: str, *, known: int, lease: Lease | None) -> None:
        dialect, call = self._dialect, Call(session_id, known=known, lease=lease)
        self._attempts.run(
            lambda connection: dialect.clear(connection, session_id, lease),
            settle=lambda connection: settle_clear(dialect, connection, call),
            about=session_id,
        )

    def take_lease(self, lease: Lease) -> None:
        def take(connection: C) -> None:
            if not self._dialect.take_lease(connection, lease):
                # Here: on a connection of the application the row that was only locked is let go.
                raise busy_error(lease.session_id)

        try:
            # No settle=take, which nothing leaves in doubt: without an answer nobody knows whether the lease is had.
            self._attempts.run(take, settle=partial(take), create=self._dialect.create_leases)
        except OutcomeUnknownError as exc:
            raise unknown_lease_error(exc, lease.session_id, lease.seconds) from exc.__cause__

    def renew_lease(self, lease: Lease) -> bool:
        def renew(connection: C) -> bool:
            return self._dialect.renew_lease(connection, lease)

        return self._attempts.run(renew, settle=renew, may_create=False)

    def release_lease(self, lease: Lease) -> bool:
        # One that is gone the second time may well have gone by the first.
        return self._attempts.run(
            lambda connection: self._dialect.release_lease(connection, lease),
            settle=lambda connection: self._dialect.release_lease(connection, lease) or True,
            may_create=False,
        )

    def list_sessions(self, listing: Listing) -> list[SessionRow]:
        return self._read(lambda connection: list_sessions(self._dialect, connection, listing))

    def delete_sessions(self, session_ids: Sequence[str], *, idle: float | None) -> tuple[int, int]:
        dialect = self._dialect
        return self._attempts.run(
            lambda connection: delete_sessions(dialect, connection, session_ids, idle),
            # Without a moment, what is there the second time may have been written since.
            settle=None if idle is None else lambda connection: settle_pruning(dialect, connection, session_ids, idle),
            create=dialect.create_seals if dialect.seals else None,
        )

    def fork(self, session_id: str, new_id: str, *, upto: int | None, lease: Lease | None) -> None:
        self._attempts.run(
            lambda connection: fork(self._dialect, connection, session_id, new_id, upto, lease),
            settle=None,
            about=session_id,
        )

    def delete_record(self, session_id: str, row_id: int, *, lease: Lease | None) -> bool:
        dialect = self._dialect
        found: list[bool] = []
        return self._attempts.run(
            noted(dialect, found, lambda connection: delete_record(dialect, connection, session_id, row_id, lease)),
            settle=noted(
                dialect,
                found,
                lambda connection: settle_deletion(
                    dialect, connection, session_id, row_id, lease, was_there=any(found)
                ),
            ),
            about=session_id,
        )

    def replace_record(self, session_id: str, row_id: int, text: str, *, lease: Lease | None) -> bool:
        dialect = self._dialect
        call = Call(session_id, with_token([text]) if dialect.settles else [text], lease=lease)
        return self._attempts.run(
            lambda connection: replace_record(dialect, connection, session_id, row_id, call.texts[0], lease),
            settle=lambda connection: settle_record(dialect, connection, call, row_id),
            about=session_id,
        )

    def search(self, literal: str, *, after: int, prefix: str, count: int) -> list[SearchRow]:
        return self._read(
            lambda connection: search(self._dialect, connection, literal, after=after, prefix=prefix, count=count)
        )

    def session_sizes(self, session_ids: Sequence[str]) -> list[SizeRow]:
        return self._read(lambda connection: session_sizes(self._dialect, connection, session_ids))

    def first_items(self, session_ids: Sequence[str], length: int) -> list[FirstRow]:
        return self._read(lambda connection: first_items(self._dialect, connection, session_ids, length))

    def unlisted_sessions(self, *, after: str, count: int) -> list[str]:
        return self._read(lambda connection: unlisted_sessions(self._dialect, connection, after=after, count=count))

    def load(self, session_id: str, part: Part) -> int:
        # Not every driver takes what is more than a str.
        part = replace(part, texts=[str(text) for text in part.texts])
        dialect, call = self._dialect, Call(session_id, known=part.position, lease=part.lease)
        reached: list[int] = []
        return self._attempts.run(
            noted(dialect, reached, lambda connection: load(dialect, connection, session_id, part)),
            # One that has to be new is there afterwards, whoever has made it.
            settle=None
            if part.is_new
            else noted(dialect, reached, lambda connection: settle_load(dialect, connection, call, part, reached)),
            about=session_id,
        )

    def sealed_rows(self, session_id: str, *, count: int) -> tuple[str | None, list[RecordRow]]:
        def read(connection: C) -> tuple[str | None, list[RecordRow]]:
            return sealed_rows(self._dialect, connection, session_id, count)

        create = self._dialect.create_seals
        end, rows = self._attempts.run(read, settle=read, writes=False, create=create, about=session_id)
        return end, numbered(rows)

    def write_sealed(self, session_id: str, write: SealedWrite, *, lease: Lease | None) -> int:
        dialect = self._dialect
        return self._attempts.run(
            lambda connection: write_sealed(dialect, connection, session_id, write, lease),
            settle=lambda connection: settle_sealed(dialect, connection, session_id, write, lease),
            create=dialect.create_seals,
            about=session_id,
        )

    def sealed_sessions(self, *, after: str, count: int) -> list[str]:
        def read(connection: C) -> list[str]:
            return sealed_sessions(self._dialect, connection, after=after, count=count)

        return self._attempts.run(read, settle=read, writes=False, create=self._dialect.create_seals)

    def rewrite(self, session_id: str, rows: Sequence[tuple[int, str, str]]) -> int:
        return self._attempts.run(
            lambda connection: rewrite(self._dialect, connection, session_id, rows),
            settle=lambda connection: settle_rewriting(self._dialect, connection, session_id, rows),
            about=session_id,
        )

    def clock(self) -> float:
        def look(connection: C) -> float:
            return float(self._dialect.execute(connection, "server", {})[0][1])

        return self._attempts.run(look, settle=look, writes=False)

    def check(self, *, fix: bool) -> list[Check]:
        failed: dict[str, str] = {}

        def look(connection: C) -> list[Check]:
            return checks(self._dialect, connection, local=_is_local(self.where), bound=self.bound, failed=failed)

        def change(connection: C) -> bool:
            return mend(self._dialect, connection, local=_is_local(self.where), bound=self.bound, failed=failed)

        if fix and not self._attempts.run(change, settle=change, may_create=False):
            self._attempts.create_missing_tables()
            self._attempts.run(change, settle=change, may_create=False)
        return self._attempts.run(look, settle=look, writes=False)

    def _read(self, read: Callable[[C], T], *, about: str | None = None) -> T:
        return self._attempts.run(read, settle=read, writes=False, about=about)


def _is_local(where: str) -> bool:
    """Tell whether a URL leads to this machine; a connection of the application may lead anywhere."""
    host = urlsplit(where).hostname
    return "://" in where and host in (None, "localhost", "127.0.0.1", "::1")
