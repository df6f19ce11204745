"""Say how much conversations hold and what they begin with, page by page.

Lengths are taken by the database: no text is read, but the beginning of a first question.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import nlargest
from itertools import islice
from typing import Any, NamedTuple

from ._items import decode_item
from ._listing import SessionInfo, ids_behind, listing_from, page_from, pages
from ._stores.store import Store

# How many sessions are asked for with one statement.
_PAGE = 500

# How much is read of a first question.
_CHARACTERS = 4000

# The beginning of a text in JSON that may be cut; an escape that is cut too does not belong to it.
_CUT_TEXT = re.compile(r'"(?:text|content)"\s*:\s*"((?:[^"\\]|\\[^u]|\\u[0-9A-Fa-f]{4})*)')


class SessionSize(NamedTuple):
    """How much a conversation holds; bytes are those of the texts as they are stored."""

    session_id: str
    items: int
    bytes: int


class DayStats(NamedTuple):
    """What was written on a day, of UTC where the times are; day is empty for times that cannot be read."""

    day: str
    items: int
    bytes: int


class Stats(NamedTuple):
    """How much there is; days are in order, the biggest conversation comes first."""

    sessions: int
    items: int
    bytes: int
    days: list[DayStats]
    biggest: list[SessionSize]


def sizes(store: Store, session_ids: Iterable[str]) -> dict[str, SessionSize]:
    """Return the size of each session that holds something."""
    found: dict[str, SessionSize] = {}
    for batch in _batches(session_ids):
        for session_id, _, items, count in store.session_sizes(batch):
            before = found.get(session_id, SessionSize(session_id, 0, 0))
            found[session_id] = SessionSize(session_id, before.items + items, before.bytes + count)
    return found


def first_messages(store: Store, session_ids: Iterable[str]) -> dict[str, str]:
    """Return the first text of a user in each session that has one."""
    found = {}
    for batch in _batches(session_ids):
        for session_id, stored in store.first_items(batch, _CHARACTERS):
            if stored and (text := _text_of(stored)):
                found[session_id] = text
    return found


def stats(store: Store, *, prefix: str | None, biggest: int) -> Stats:
    """Add up what all sessions hold."""
    days: dict[str, Counter[str]] = {}
    count = 0
    largest: list[SessionSize] = []
    for page in pages(lambda after: _page(store, prefix, after)):
        count += len(page)
        rows = store.session_sizes([info.session_id for info in page])
        held: dict[str, Counter[str]] = {}
        for session_id, day, items, size in rows:
            for counter in (held.setdefault(session_id, Counter()), days.setdefault(day, Counter())):
                counter.update(items=items, bytes=size)
        found = (SessionSize(session_id, sums["items"], sums["bytes"]) for session_id, sums in held.items())
        largest = nlargest(biggest, [*largest, *found], key=lambda session: session.bytes)
    return Stats(
        count,
        sum(sums["items"] for sums in days.values()),
        sum(sums["bytes"] for sums in days.values()),
        [DayStats(day, sums["items"], sums["bytes"]) for day, sums in sorted(days.items())],
        largest,
    )


def unlisted_sessions(store: Store) -> Iterator[str]:
    """Find the sessions that have rows and no row of their own."""
    return ids_behind(lambda after, count: store.unlisted_sessions(after=after, count=count), _PAGE)


def _page(store: Store, prefix: str | None, after: SessionInfo | None) -> list[SessionInfo]:
    listing = listing_from(prefix=prefix, order="id", newest_first=None, limit=_PAGE, after=after, count_limit=1)
    return page_from(store.list_sessions, listing)


def _batches(session_ids: Iterable[str]) -> Iterator[list[str]]:
    ids = iter(session_ids)
    while batch := list(islice(ids, _PAGE)):
        yield batch


def _text_of(stored: str) -> str:
    """Return the text of a user's item of which only the beginning may be there."""
    item = decode_item(stored)
    if item is None:
        cut = _CUT_TEXT.search(stored)
        return str(json.loads(f'"{cut[1]}"', strict=False)) if cut else ""
    return _text(item.get("content")) if item.get("role") == "user" else ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "\n".join(text for text in texts if isinstance(text, str))
