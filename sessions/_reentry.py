"""What a call does that has interrupted another one of its own thread: a signal handler, a __del__, a callback."""

from __future__ import annotations

import threading

from .errors import ConnectionFailedError


def refuse_reentry(lock: threading.RLock, what: str) -> None:
    """Raise where this thread holds the lock: what it has interrupted can only go on when the call returns.

    To be asked before the lock is taken. On the same connection one would read the answer that the other waits for.
    """
    if lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001  (as threading.Condition asks it)
        raise ConnectionFailedError(
            f"{what} is in the middle of an operation which this call has interrupted; "
            "in a signal handler, __del__ or callback use another connection, or note what is to be done later"
        )
