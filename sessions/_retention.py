"""Delete conversations: some by their ids, or all that nobody has written to for long; batch by batch.

A batch is one short transaction, so that neither a lock nor a log grows with what is
deleted. A conversation goes as a whole or stays as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain, islice
from time import monotonic
from typing import NamedTuple

from ._listing import Listing, SessionInfo, listing_from, moment_from, page_from, pages
from ._plain import flag, plain
from ._refusals import Refusals
from ._stores.store import Store
from .errors import DatabaseError

# A batch ends with the session that brings it to so many rows, or with so many sessions.
_ROWS = 5000
_SESSIONS = 100


class Pruned(NamedTuple):
    """What was deleted: the number of conversations, and of their items."""

    sessions: int
    items: int


def delete_sessions(store: Store, session_ids: Iterable[str]) -> int:
    """Delete sessions by their ids; return how many there were."""
    ids = iter(session_ids)
    deleted = 0
    while batch := list(islice(ids, _SESSIONS)):
        deleted += store.delete_sessions(batch, idle=None)[0]
    return deleted


def prune(
    store: Store, older_than: datetime | timedelta, *, keep_prefix: str | Collection[str], dry_run: bool
) -> Pruned:
    """Delete the sessions that nobody has written to since a moment; with dry_run only count them."""
    dry_run = flag("dry_run", dry_run)
    kept = tuple(map(plain, (keep_prefix,) if isinstance(keep_prefix, str) else keep_prefix))
    for prefix in kept:
        _check_prefix(prefix)
    moment = moment_from("older_than", older_than, store.clock)
    refusals = Refusals()
    sessions = items = 0
    for batch in _batches(store, moment, kept, exact=dry_run):
        if dry_run:
            sessions, items = sessions + len(batch), items + sum(info.items for info in batch)
            continue
        gone = _delete(store, [info.session_id for info in batch], moment.timestamp(), refusals)
        sessions, items = sessions + gone[0], items + gone[1]
    refusals.raise_first()
    return Pruned(sessions, items)


def _check_prefix(prefix: object) -> None:
    """Raise TypeError or ValueError for what would keep all or nothing: no id begins with it, perhaps by a mistake."""
    if not isinstance(prefix, str):
        raise TypeError(f"keep_prefix is a {type(prefix).__name__}; pass a str or several")
    if not prefix:
        raise ValueError("keep_prefix is empty, with which every id begins; pass a str or several, none of them empty")
    if "\0" in prefix or prefix.encode(errors="ignore").decode() != prefix:
        raise ValueError(
            f"keep_prefix {prefix!r} contains a NUL or a lone surrogate, as no id does: nothing would be kept; "
            "use valid Unicode"
        )


def _delete(store: Store, ids: list[str], idle: float, refusals: Refusals) -> tuple[int, int]:
    """Delete a batch, or each of it that can be: what keeps one, as a foreign key of others may, keeps no other one."""
    began = monotonic()
    try:
        # Asked once more, under the lock: somebody may have written since it was listed.
        return store.delete_sessions(ids, idle=idle)
    except DatabaseError as exc:
        refusals.note(exc, monotonic() - began)
    if len(ids) == 1:
        return 0, 0
    each = [_delete(store, [session_id], idle, refusals) for session_id in ids]
    return sum(sessions for sessions, _ in each), sum(items for _, items in each)


def _batches(store: Store, moment: datetime, kept: tuple[str, ...], *, exact: bool) -> Iterator[list[SessionInfo]]:
    """Cut the idle sessions, the one that is idle for longest first, into batches."""
    batch: list[SessionInfo] = []
    rows = 0
    for info in _idle(store, moment, exact=exact):
        if info.session_id.startswith(kept):
            continue
        batch.append(info)
        rows += info.items
        if rows >= _ROWS or len(batch) == _SESSIONS:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


def _idle(store: Store, moment: datetime, *, exact: bool) -> Iterator[SessionInfo]:
    return chain.from_iterable(pages(lambda after: page_from(store.list_sessions, _page(moment, after, exact=exact))))


def _page(moment: datetime, after: SessionInfo | None, *, exact: bool) -> Listing:
    return listing_from(
        prefix=None,
        idle_since=moment,
        order="updated",
        newest_first=False,
        limit=10 * _SESSIONS,
        after=after,
        count_limit=None if exact else _ROWS,
    )
