"""A lease on a conversation: who may write under it, and for how long unless it is renewed."""

from __future__ import annotations

import math
import os
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol
from weakref import ref

from ._plain import plain

_TOKEN_BYTES = 16
TOKEN_CHARACTERS = 2 * _TOKEN_BYTES
_MAX_SECONDS = 31_536_000.0


class Lease(NamedTuple):
    """One holder's lease. Each taking has a token of its own, by which every write under it is let through."""

    session_id: str
    token: str
    microseconds: int

    @property
    def seconds(self) -> float:
        """How long it lasts, by the database's clock."""
        return self.microseconds / 1_000_000


class Block(NamedTuple):
    """An exclusive() block of asynchronous code: the handle, its lease's token, and the task that has entered it."""

    handle: ref[Any]
    token: str
    task: ref[Any]


# Those in which this was begun: a task has them from whoever began it, and may go on when they are over.
blocks: ContextVar[tuple[Block, ...]] = ContextVar("sessions_blocks", default=())


class Holder(Protocol):
    """Who has a conversation alone."""

    is_over: bool  # Whoever has it holds nothing any more.

    def lease(self) -> Lease | None:
        """Return the lease that it has."""


def new_lease(session_id: str, seconds: float) -> Lease:
    """Make a lease that is not taken yet; of the system, for a forked process would draw the same token."""
    return Lease(session_id, os.urandom(_TOKEN_BYTES).hex(), max(1, round(plain(seconds) * 1_000_000)))


def check_seconds(name: str, value: object, *, zero: bool) -> None:
    """Raise TypeError or ValueError for what is no length of time."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a {type(value).__name__}; pass seconds")
    if not (math.isfinite(value) and (value >= 0 if zero else value > 0) and value <= _MAX_SECONDS):
        raise ValueError(f"{name} is {value!r}; pass seconds {'from' if zero else 'above'} 0 to {_MAX_SECONDS:.0f}")
