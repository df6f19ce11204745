"""What a store is asked to do with sealed rows, and answers; it knows of no key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .errors import ConflictError


@dataclass(frozen=True)
class SealedWrite:
    """What is done with rows in one transaction, if the end seal is the one that is presupposed."""

    before: str | None  # the end seal, None: there is none
    after: str | None  # and what it is then
    position: int | None = None  # the newest row that is presupposed; None: any
    removes_all: bool = False
    removed: tuple[int, ...] = ()
    rewritten: Sequence[tuple[int, str]] = ()
    texts: Sequence[str] = ()
    times: Sequence[str] = ()
    is_new: bool = False  # there must be no such session
    keeps_time: bool = False  # of the session's last write: nothing is said anew
    is_guess: bool = False  # the end was known a while ago: where it is another one, nobody need ask why
    created_at: str | None = None  # those of the session itself
    updated_at: str | None = None

    @property
    def is_common(self) -> bool:
        """Whether it is one of those that take one round trip: an append, a pop, a replacement or a clearing."""
        is_rare = self.is_new or self.rewritten or self.keeps_time or self.created_at or self.updated_at
        return not is_rare and (not self.removed or (self.removed == (self.position,) and not self.texts))

    @property
    def marked(self) -> str:
        """What the end is while the write is done: what it leaves, or, where it leaves none, another one than any."""
        return self.after or f"removed.{self.before}"[:200]


class Verified(NamedTuple):
    """What a conversation holds that is as it was written: rows, how many of them are sealed, and its seal by now."""

    records: int
    sealed: int
    unsealed: int
    seal: str


class ForeignSealError(ValueError):
    """What was given as a conversation's seal is none of it with the keys that there are."""


class SealMovedError(ConflictError):
    """The end of a conversation is another one than a write presupposed; nothing was written."""

    def __init__(self, message: str, found: str | None = None) -> None:
        super().__init__(message)
        self.found = found


def moved_error(session_id: str, found: str | None) -> SealMovedError:
    """Say that somebody else has written meanwhile."""
    return SealMovedError(f"session {session_id!r} was written to by others all the time; try again", found)


def generation_of(text: str | None) -> int | None:
    """Return how often a conversation was written, by an end seal that nobody has looked at."""
    try:
        return None if text is None else int(text.split(".")[1])
    except (IndexError, ValueError):
        return None
