"""A store whose texts are encrypted before another one is given them, and decrypted when it gives them back.

A row that does not open is an error of every read, and is never removed or left out: nobody is told that a
conversation is shorter than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from time import time

from sessions._checks import Check
from sessions._envelopes import Envelopes, Opened, is_envelope, seconds_from, with_tail_of
from sessions._items import (
    BEFORE_ALL,
    EXPIRED,
    MAX_ID,
    RecordRow,
    Row,
    RowsCheck,
    SearchRow,
    iso_text,
    marked_as,
    stored_text,
)
from sessions._leases import Lease
from sessions._listing import USER_ROLES, FirstRow, listing_from
from sessions._parts import Part
from sessions._reentry import own
from sessions._seals import split
from sessions.errors import (
    ConfigurationError,
    DatabaseError,
    InvalidItemError,
    SchemaError,
    SealBrokenError,
    decryption_error,
    gone_error,
)

from .passing import PassingStore
from .store import Store

# The rows of a conversation of which the first text of a user is looked for, and how many at a time.
_FIRST_ROWS = 100
_FIRST_PAGE = 20

# How many rows are brought under another key in one transaction.
_REKEYED_ROWS = 500

_CHECK = "encryption"


class EncryptedStore(PassingStore):
    """Another store, to which each text is an envelope."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._envelopes = Envelopes(tuple(self.options.encryption_key or ()))
        self._ttl = self.options.encryption_ttl

    def newest_rows(self, session_id: str, *, count: int = MAX_ID, upto: int = MAX_ID) -> list[Row]:
        rows = self._store.newest_rows(session_id, count=count, upto=upto)
        return [(row_id, self._given(session_id, row_id, text)) for row_id, text in rows]

    def record_rows(self, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        rows = self._store.record_rows(session_id, after=after, upto=upto, count=count)
        return [(row_id, made, marked_as(text, self._given(session_id, row_id, text))) for row_id, made, text in rows]

    def of_every_age(self) -> Store:
        reading = copy(self)
        reading._ttl = None  # noqa: SLF001  (another one of us)
        return reading

    def for_records(self, session_id: str, limit: int | None) -> Store:
        inner = self._store.for_records(session_id, limit)
        if inner is self._store:
            return self
        reading = copy(self)
        reading._store, reading.knows_its_end = inner, inner.knows_its_end  # noqa: SLF001  (another one of us)
        return reading

    def append(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        wrapped = self._wrapped(session_id, texts)
        return self._store.append(session_id, wrapped, if_position=if_position, known=known, lease=lease)

    def pop(
        self, session_id: str, *, lease: Lease | None, check: Callable[[Row], bool] | None = None
    ) -> tuple[Row | None, int]:
        given = ""

        def opens(row: Row) -> bool:
            nonlocal given
            given = self._given(session_id, *row)
            return given is not EXPIRED and (check is None or check((row[0], given)))

        row, newest = self._store.pop(session_id, lease=lease, check=opens)
        return (row and (row[0], given)), newest

    def replace(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        wrapped = self._wrapped(session_id, texts)
        return self._store.replace(session_id, wrapped, if_position=if_position, known=known, lease=lease)

    def replace_newest(
        self, session_id: str, texts: Sequence[str], *, count: int, check: RowsCheck, lease: Lease | None
    ) -> int | None:
        def opens(rows: list[Row]) -> bool:
            return check([(row_id, self._given(session_id, row_id, text)) for row_id, text in rows])

        wrapped = self._wrapped(session_id, texts)
        return self._store.replace_newest(session_id, wrapped, count=count, check=opens, lease=lease)

    def fork(self, session_id: str, new_id: str, *, upto: int | None, lease: Lease | None) -> None:
        """Write what is decrypted anew, for the new id has a key of its own; it is as old as it was."""
        rows = self._store.record_rows(
            session_id, after=BEFORE_ALL, upto=MAX_ID if upto is None else upto, count=MAX_ID
        )
        if upto and (not rows or rows[-1][0] != upto):
            raise gone_error(session_id, upto)
        opened = (self._opened(session_id, row_id, text) for row_id, _, text in rows)
        wrapped = (self._envelopes.wrap(new_id, found.text, found.made) for found in opened)
        texts = [marked_as(row[2], text) for row, text in zip(rows, wrapped, strict=True)]
        times = [iso_text(made) for _, made, _ in rows]
        self._store.load(new_id, Part(0, texts, times, "", "", is_new=True, lease=lease))

    def replace_record(self, session_id: str, row_id: int, text: str, *, lease: Lease | None) -> bool:
        return self._store.replace_record(session_id, row_id, self._envelopes.wrap(session_id, text), lease=lease)

    def search(self, literal: str, *, after: int, prefix: str, count: int) -> list[SearchRow]:
        # No database sees what an envelope holds.
        rows = self._store.search("", after=after, prefix=prefix, count=count)
        # Without a text comes what was removed while a sealed conversation was looked at.
        given = (row if row[3] is None else (*row[:3], self._given(row[0], row[1], row[3])) for row in rows)
        return [
            (session_id, row_id, made, None if text is EXPIRED else text) for session_id, row_id, made, text in given
        ]

    def first_items(self, session_ids: Sequence[str], length: int) -> list[FirstRow]:
        return [(session_id, self._first_item(session_id, length)) for session_id in sorted(set(session_ids))]

    def _first_item(self, session_id: str, length: int) -> str | None:
        after = BEFORE_ALL
        for _ in range(_FIRST_ROWS // _FIRST_PAGE):
            rows = self.record_rows(session_id, after=after, upto=MAX_ID, count=_FIRST_PAGE)
            for *_, text in rows:
                if any(role in text for role in USER_ROLES):
                    return text[:length]
            if len(rows) < _FIRST_PAGE:
                break
            after = rows[-1][0]
        return None

    def load(self, session_id: str, part: Part) -> int:
        """Write the rows, each as old as its time says."""
        made = map(seconds_from, part.times)
        wrapped = (
            self._envelopes.wrap(session_id, text, moment) for text, moment in zip(part.texts, made, strict=True)
        )
        texts = [marked_as(text, envelope) for text, envelope in zip(part.texts, wrapped, strict=True)]
        return self._store.load(session_id, replace(part, texts=texts))

    def check(self, *, fix: bool) -> list[Check]:
        found = self._store.check(fix=fix)
        if any(check.verdict == "error" for check in found):
            return [*found, Check(_CHECK, "skipped", "a key is given, and no row was read for what is wrong above")]
        try:
            return [*found, self._key_check()]
        except SealBrokenError as exc:
            what, _, remedy = str(exc).partition("; ")
            return [*found, Check(_CHECK, "error", f"no row was read: {what}", remedy)]
        except (DatabaseError, SchemaError) as exc:
            return [*found, Check(_CHECK, "skipped", f"a key is given, and no row was read: {exc}")]

    def _key_check(self) -> Check:
        """Try the newest row of the conversation that was written to last."""
        listing = listing_from(prefix=None, order="updated", newest_first=None, limit=1, after=None, count_limit=1)
        for session_id, *_ in self._store.list_sessions(listing):
            for row_id, text in self._store.newest_rows(session_id, count=1):
                opened = self._envelopes.unwrap(session_id, text)
                if opened is None:
                    what, _, remedy = str(decryption_error(session_id, row_id, encrypted=is_envelope(text))).rpartition(
                        "; "
                    )
                    return Check(_CHECK, "error", what, remedy)
                if not opened.is_newest:
                    what = f"row {row_id} of session {session_id!r}, the newest one, is under an older key"
                    return Check(_CHECK, "warning", what, "agent-sessions rekey")
                return Check(_CHECK, "ok", f"the key opens row {row_id} of session {session_id!r}, the newest one")
        return Check(_CHECK, "ok", "a key is given, and there is no row to try it on")

    def rekey(self, session_id: str, *, adopt: bool) -> int:
        below = self._store.rekey(session_id, adopt=adopt)
        return max(
            below, sum(self._store.rewrite(session_id, rows) for rows in self._old_rows(session_id, adopt=adopt))
        )

    def _old_rows(self, session_id: str, *, adopt: bool) -> Iterator[list[tuple[int, str, str]]]:
        """Read page by page, and give the rows of each that are not under the newest key, with what they become."""
        count = MAX_ID if self._store.rewrites_whole else _REKEYED_ROWS
        after = BEFORE_ALL
        while rows := self._store.record_rows(session_id, after=after, upto=MAX_ID, count=count):
            after = rows[-1][0]
            if old := [(row[0], row[2], new) for row in rows if (new := self._renewed(session_id, row, adopt=adopt))]:
                yield old
            if len(rows) < count:
                return

    def _renewed(self, session_id: str, row: RecordRow, *, adopt: bool) -> str:
        """Return a row's text under the newest key, as old as it was; empty where it is that already."""
        row_id, moment, text = row
        stored: object = text  # None where something hides the column
        if adopt and stored is not None and not is_envelope(stored):
            opened = Opened(stored_text(stored), seconds_from(moment), is_newest=False)
        else:
            opened = self._opened(session_id, row_id, stored)
        if opened.is_newest:
            return ""
        if split(stored)[1] is not None:
            raise ConfigurationError(
                f"session {session_id!r} is sealed, and every read would refuse what is rewritten without a seal; give "
                "integrity_key too"
            )
        try:
            return with_tail_of(stored_text(stored), self._envelopes.wrap(session_id, opened.text, opened.made))
        except own(UnicodeEncodeError):
            raise InvalidItemError(
                f"row {row_id} of session {session_id!r} holds a lone surrogate, which cannot be encrypted; "
                "replace it by replace_record()"
            ) from None  # it has the whole text in it

    def _wrapped(self, session_id: str, texts: Sequence[str]) -> list[str]:
        return [self._envelopes.wrap(session_id, text) for text in texts]

    def _opened(self, session_id: str, row_id: int, stored: object) -> Opened:
        opened = self._envelopes.unwrap(session_id, stored)
        if opened is None:
            raise decryption_error(session_id, row_id, encrypted=is_envelope(stored))
        return opened

    def _given(self, session_id: str, row_id: int, stored: object) -> str:
        """Decrypt a text that is read; one that is too old is not given."""
        opened = self._opened(session_id, row_id, stored)
        if self._ttl is not None and opened.made + self._ttl < int(time()):
            return EXPIRED
        return opened.text
