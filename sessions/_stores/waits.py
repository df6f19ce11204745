"""How long to wait before an operation is tried again."""

from __future__ import annotations

import os
import time

from sessions._dialects.failures import Failure
from sessions._settings.options import Options

_MAX_DELAY = 30.0
# How long to wait at most before it is asked again whether there is a server that takes writes.
_SEARCH_SECONDS = 0.5
# The first delay after a collision, about what a transaction takes, and the longest.
_SHORT_DELAY = 0.004
_COLLISION_SECONDS = 0.1


class Waits:
    """How long to wait before each further attempt: doubled each time, with jitter, until the time is over.

    Once the server was away, it is asked each half second or sooner within such a wait whether it is back.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._end: float | None = None
        self._left = options.max_retries
        self._delay = options.retry_delay
        self._rest = 0.0  # of a wait that has begun
        self._longest = _MAX_DELAY
        self._short_delay = _SHORT_DELAY

    def allow_one(self) -> None:
        """Allow a wait at least: to look after what was sent is no further attempt at it."""
        self._left = max(self._left, 1)

    def after(self, failure: Failure) -> float | None:
        """Return the seconds; None when it is time to give up."""
        if self._end is None:
            # Since the first failure, not before: an attempt that took long itself is worth another one.
            self._end = time.monotonic() + self._options.retry_timeout
        left = self._end - time.monotonic()
        if left <= 0 or not (self._left or self._rest):
            return None
        if failure.is_collision:
            delay, self._short_delay = min(self._short_delay, _COLLISION_SECONDS), self._short_delay * 2
            return min(_jittered(delay), left)
        if failure.is_away:
            self._longest = _SEARCH_SECONDS
        if not self._rest:
            self._left -= 1
            self._rest, self._delay = _jittered(min(self._delay, _MAX_DELAY)), self._delay * 2
        wait = self._rest if self._rest <= self._longest else _jittered(self._longest)
        self._rest -= wait
        return min(wait, left)


def _jittered(seconds: float) -> float:
    return seconds * (0.5 + _chance() / 2)


def _chance() -> float:
    """Return a number from 0 to 1; of the system, or forked processes would all come back at the same moments."""
    return int.from_bytes(os.urandom(4), "big") / 2**32
