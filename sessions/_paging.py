"""The rows of one history in pages, oldest first, whatever others write between two of them.

Ids ascend and do not come back. So the rows up to the one that is the newest at first are all of one history, of which
others can only remove some. Where they end early, and others follow by then, these go on from the row that was given
last if that is still there; if it is not, what was given and what is there are two histories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ._items import BEFORE_ALL, MAX_ID, RecordRow
from .errors import ConflictError

# The rows of the first page and of the second. A later one has as many as all before it, for where no index has the
# order, the conversation is sorted for each; and at most so many characters, by the mean of the one before.
_FIRST_PAGE = 20
_PAGE_ROWS = 1000
_PAGE_CHARACTERS = 4_000_000


class RewrittenError(ConflictError):
    """What was given of a conversation is no longer the beginning of what it holds."""


def rewritten_error(session_id: str) -> RewrittenError:
    """Say that somebody has put another history in its place."""
    return RewrittenError(f"session {session_id!r} was rewritten while its records were read; read them again")


def pages(
    session_id: str,
    limit: int | None,
    read: Callable[[int, int, int], list[RecordRow]],
    newest: Callable[[int], tuple[int, int]],
) -> Iterator[list[RecordRow]]:
    """Give the newest limit rows, or all of them; raise ConflictError where what was given is no beginning of theirs.

    read gives at most so many rows behind an id and up to another one, newest the ids between which the newest are.
    """
    after, upto, count, seen, given = BEFORE_ALL, MAX_ID, _FIRST_PAGE, 0, False
    if limit is not None:
        after, upto = _bounds(newest, limit)
    while after < upto:
        rows = read(after, upto, count)
        if upto == MAX_ID and len(rows) == count:
            _, upto = newest(1)
            if upto != rows[-1][0] and not _is_there(read, rows[-1][0]):
                rows = read(after, upto, count)  # another history stands there by now
        yield rows
        if rows:
            after, seen, given = rows[-1][0], seen + len(rows), True
        if len(rows) == count:
            count = _next_count(rows, seen)
        elif upto == MAX_ID:
            return
        elif after < upto:
            _, latest = newest(1)
            if latest <= upto:
                return
            if given and not _is_there(read, after):
                raise rewritten_error(session_id)
            if given and limit is not None:
                return
            after, upto = (after, latest) if limit is None else _bounds(newest, limit)


def checked_pages(read: Callable[[int], list[RecordRow]]) -> Iterator[list[RecordRow]]:
    """Give the rows of a store that knows where they end, and that they hang together."""
    count, seen = _FIRST_PAGE, 0
    while rows := read(count):
        yield rows
        seen += len(rows)
        count = _next_count(rows, seen)


def _next_count(rows: list[RecordRow], seen: int) -> int:
    mean = sum(len(str(text)) for _, _, text in rows) // len(rows) + 1
    return min(max(_PAGE_ROWS, seen), _PAGE_CHARACTERS // mean + 1)


def _is_there(read: Callable[[int, int, int], list[RecordRow]], row_id: int) -> bool:
    return bool(read(row_id - 1, row_id, 1))


def _bounds(newest: Callable[[int], tuple[int, int]], limit: int) -> tuple[int, int]:
    first, last = newest(min(limit, MAX_ID))
    return (first - 1 if last else 0), last
