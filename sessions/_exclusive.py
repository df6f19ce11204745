"""One run at a time on a conversation: its lease is taken, renewed in the background, and given back.

Nobody trusts it alone: each write names its lease, and the database refuses it once somebody else has taken that over.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep

from ._connections.fork import check_process, tell_of_forks
from ._history import History
from ._leases import Lease, new_lease
from ._stores.observing import observed
from .errors import BusyError, ClosedError, SessionsError, busy_error, inherited_lease_error, lost_lease_error

# The first pause before it is asked again for a lease, and the longest.
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.5

# How often a lease is renewed while it lasts.
_RENEWALS = 3

_NAME = "exclusive"

logger = logging.getLogger("sessions")


@contextmanager
def exclusive(history: History, *, timeout: float, lease: float) -> Iterator[None]:
    """Wait for the lease of a conversation, and hold it for the block."""
    hold = Hold(history, lease)
    try:
        pauses = hold.pauses(timeout)
        while not hold.take():
            sleep(next(pauses))
        yield
    except BaseException as exc:
        hold.end(exc)
        raise
    hold.end(None)


class Hold:
    """What a block has of a conversation: its handle, which one block has at a time, and soon the lease."""

    def __init__(self, history: History, seconds: float) -> None:
        history.check_open()
        if not history.claim.acquire(blocking=False):
            raise BusyError(
                f"this handle of session {history.session_id!r} is in an exclusive() block already, which is not "
                "re-entrant; make a handle for each run"
            )
        self._history = history
        self._lease = new_lease(history.session_id, seconds)
        self._taken = False
        self._is_ours = True
        self._ended = threading.Event()
        tell_of_forks(self)

    def take(self) -> bool:
        """Ask for the lease once; where it is had, every write through the handle is under it from now on."""
        try:
            observed(self._history.store, _NAME).take_lease(self._lease)
        except BusyError:
            return False
        self._taken = True
        self._history.held = self._held
        if self._history.store.renews_in_background:
            threading.Thread(target=self._renew, name="sessions-lease", daemon=True).start()
        return True

    def pauses(self, timeout: float) -> Iterator[float]:
        """Give the seconds to wait before each further attempt; raise BusyError when the time is over."""
        deadline, pause = monotonic() + timeout, _FIRST_PAUSE
        while (left := deadline - monotonic()) > 0:
            # With jitter of the system, or forked processes would all come back at the same moments.
            yield min(left, pause * (0.5 + int.from_bytes(os.urandom(2), "big") / 2**17))
            pause = min(pause * 2, _LONGEST_PAUSE)
        raise busy_error(self._history.session_id)

    def end(self, exc: BaseException | None) -> None:
        """Give the lease back; raise LeaseLostError when it was lost, unless the block has raised exc."""
        self._ended.set()
        self._history.held = None
        try:
            # An interrupted attempt to take it may have succeeded.
            if self._taken or not isinstance(exc, SessionsError):
                self._release(exc)
        finally:
            self._history.claim.release()

    def _release(self, exc: BaseException | None) -> None:
        try:
            lease = self._held()
            if observed(self._history.store, _NAME).release_lease(lease) or exc is not None:
                return
        except SessionsError as failed:
            if self._is_ours:
                # What was written under it is safe, and it ends by itself.
                logger.warning("session %r: its lease could not be given back: %s", self._lease.session_id, failed)
                return
            if exc is not None:
                return
            raise
        raise lost_lease_error(self._lease.session_id)

    def _held(self) -> Lease:
        """Return the lease; raise LeaseLostError in a forked child, which has none of its own."""
        check_process()
        if not self._is_ours:
            raise inherited_lease_error(self._lease.session_id)
        return self._lease

    def _renew(self) -> None:
        while not self._ended.wait(self._lease.seconds / _RENEWALS):
            try:
                if not observed(self._history.store, _NAME).renew_lease(self._lease):
                    break
            except ClosedError:
                return
            except SessionsError as exc:
                # The next write tells, or the next renewal succeeds.
                logger.warning("session %r: its lease could not be renewed: %s", self._lease.session_id, exc)
        if not self._ended.is_set():
            logger.warning("session %r: its lease was lost; writes are refused", self._lease.session_id)

    # fork(): the lease stays the parent's.

    def before_fork(self) -> None:
        pass

    def after_fork_in_parent(self) -> None:
        pass

    def begin_anew(self) -> None:
        self._is_ours = False
