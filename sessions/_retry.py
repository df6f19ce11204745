"""What may be repeated, and when.

Only a transient failure is repeated. A write whose connection was lost is never
simply repeated: it is settled first, or its outcome is reported as unknown.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from .errors import DatabaseError, SessionsError

_MAX_DELAY = 30.0


@dataclass(frozen=True)
class Failure:
    """What a driver's exception means: the error to raise, and what may be done about it."""

    error: type[SessionsError] = DatabaseError
    remedy: str = "see the cause"
    transient: bool = False  # the same statement may succeed later
    in_doubt: bool = False  # a write may have been committed
    missing_tables: bool = False


def delays(max_retries: int, first: float) -> Iterator[float]:
    """Seconds to wait before each further attempt: doubled, with jitter, at most 30."""
    delay = first
    for _ in range(max_retries):
        yield min(delay, _MAX_DELAY) * random.uniform(0.5, 1.0)  # noqa: S311  (no secret)
        delay = min(delay * 2, _MAX_DELAY)


class Rival(NamedTuple):
    """The server session of a lost connection, which may still be writing."""

    number: int
    seen: float  # a time.monotonic() at which it was open: after a restart the number may be another's


class AttemptFailed(Exception):  # noqa: N818  (never leaves the library)
    """One attempt failed: what that means, the driver's exception, and the server session that may go on.

    Unless something was sent, nothing is in doubt, whatever the exception means elsewhere.
    """

    def __init__(self, failure: Failure, cause: Exception, *, sent: bool = False, rival: Rival | None = None) -> None:
        super().__init__(failure, cause)
        self.failure = failure if sent else replace(failure, in_doubt=False)
        self.cause = cause
        self.rival = rival
