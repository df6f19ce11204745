"""Bring conversations under the newest keys, one after the other, in batches of short transactions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from time import monotonic
from typing import NamedTuple

from ._listing import SessionInfo, ids_behind, listing_from, page_from, pages
from ._refusals import Refusals
from ._statistics import unlisted_sessions
from ._stores.observing import observed
from ._stores.store import Store
from .errors import (
    COMPARE,
    ConfigurationError,
    ConflictError,
    DatabaseError,
    DecryptionError,
    InvalidItemError,
    OutcomeUnknownError,
    SealBrokenError,
)

_PAGE = 500


class Rekeyed(NamedTuple):
    """How many conversations were looked at, and how many records were brought under the newest keys."""

    sessions: int
    records: int


def rekey(store: Store, session_ids: Iterable[str] | None, *, adopt: bool) -> Rekeyed:
    """Bring conversations, or all of them, under the newest keys; what is refused is an error at the end."""
    if store.options.encryption_key is None and store.options.integrity_key is None:
        raise ConfigurationError(
            "there is no key to bring anything under; give encryption_key or integrity_key, the newest key first"
        )
    if store.bound:
        raise ConfigurationError("rekey() is many transactions, and a bound connection has one; use connect()")
    told = observed(store, "rekey")
    sessions = records = 0
    refusals = Refusals()
    for session_id in all_ids(told) if session_ids is None else session_ids:
        began = monotonic()
        try:
            records += told.rekey(session_id, adopt=adopt)
        except (DecryptionError, SealBrokenError, ConflictError, InvalidItemError, DatabaseError) as exc:
            # A column, or the server, takes no text of that length, say.
            refusals.note(exc, monotonic() - began, session_id)
        except OutcomeUnknownError as exc:
            # What is done already is left as it is then.
            raise OutcomeUnknownError(str(exc).replace(COMPARE, "call rekey() again")) from exc.__cause__
        sessions += 1
    refusals.raise_first()
    return Rekeyed(sessions, records)


def all_ids(store: Store) -> Iterator[str]:
    """The ids of all conversations, behind them those that are in no listing or have nothing but an end seal."""
    listed = (info.session_id for page in pages(lambda after: _page(store, after)) for info in page)
    sealed = _sealed_ids(store) if store.options.integrity_key is not None else iter(())
    seen: set[str] = set()
    for session_id in chain(listed, unlisted_sessions(store), sealed):
        if session_id not in seen:
            seen.add(session_id)
            yield session_id


def _page(store: Store, after: SessionInfo | None) -> list[SessionInfo]:
    listing = listing_from(prefix=None, order="id", newest_first=None, limit=_PAGE, after=after, count_limit=1)
    return page_from(store.list_sessions, listing)


def _sealed_ids(store: Store) -> Iterator[str]:
    return ids_behind(lambda after, count: store.sealed_sessions(after=after, count=count), _PAGE)
