"""What is looked up when the answer to a write was lost, before the write is repeated.

The session row's lock keeps every other writer out between the look and the write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sessions._dialects.dialect import Dialect
from sessions._items import Row
from sessions.errors import OutcomeUnknownError

C = TypeVar("C")


def settle_append(
    dialect: Dialect[C], connection: C, session_id: str, texts: Sequence[str], seen: int | None, if_position: int | None
) -> int:
    """Look whether a batch is there, in rows newer than seen; write it if it is not."""
    with dialect.transaction(connection):
        dialect.touch(connection, session_id)
        rows = dialect.newer_rows(connection, session_id, after=seen or 0)
        newest = _find_batch(rows, texts)
        if newest is None:
            dialect.check_position(connection, session_id, if_position)
            return dialect.insert(connection, session_id, texts)
        if seen is None:
            raise OutcomeUnknownError(
                f"the connection was lost while items were added to session {session_id!r}, and equal items "
                "are there that may be older; compare get_items() with what you meant to add"
            )
        return newest


def settle_replace(
    dialect: Dialect[C], connection: C, session_id: str, texts: Sequence[str], seen: int | None, if_position: int | None
) -> int:
    """Look whether the history begins with the texts, in rows newer than seen; replace it if it does not.

    Other writers may have appended to the new history by now, and must not lose what they wrote.
    """
    with dialect.transaction(connection):
        dialect.touch(connection, session_id)
        rows = dialect.newer_rows(connection, session_id, after=0)
    if [text for _, text in rows] == list(texts):
        return rows[-1][0] if rows else 0
    if not texts or _find_batch(rows[: len(texts)], texts) is None or rows[0][0] <= (seen or 0):
        return dialect.replace(connection, session_id, texts, if_position)
    if seen is None:
        raise OutcomeUnknownError(
            f"the connection was lost while the items of session {session_id!r} were replaced, and its history "
            "begins with equal items that may be older; compare get_items() with what you meant it to be"
        )
    return rows[len(texts) - 1][0]


def _find_batch(rows: Sequence[Row], texts: Sequence[str]) -> int | None:
    """Return the id of the last row of a contiguous run equal to texts; rows are oldest first."""
    stored = [text for _, text in rows]
    for start in range(len(stored) - len(texts) + 1):
        if stored[start : start + len(texts)] == list(texts):
            return rows[start + len(texts) - 1][0]
    return None
