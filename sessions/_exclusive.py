"""One run at a time on a conversation: its lease is taken, renewed in the background, and given back.

Nobody trusts it alone: each write names its lease, and the database refuses it once somebody else has taken that over.
A block is known weakly, by its handle and by what renews its lease. Where Ctrl-C falls between two steps of ours, or an
event loop is closed under a run, both are free again as soon as the block is forgotten.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from contextvars import copy_context
from queue import Empty
from time import monotonic, sleep
from types import TracebackType
from weakref import ref

from ._connections.fork import check_process, process_lock, tell_of_forks
from ._dialects.failures import raise_a_handlers, raised_by_a_handler
from ._history import History
from ._leases import Block, Lease, blocks, new_lease
from ._reentry import own
from ._stores.observing import observed
from ._stores.store import Store
from .errors import (
    BusyError,
    ClosedError,
    DatabaseError,
    LeaseLostError,
    OutcomeUnknownError,
    SessionsError,
    busy_error,
    inherited_lease_error,
    lost_lease_error,
)

# The first pause before it is asked again for a lease, and the longest.
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.5

# How often a lease is renewed while it lasts, and how often that is tried while it fails.
_RENEWALS = 3
_ATTEMPTS = 30

_NAME = "exclusive"

logger = logging.getLogger("sessions")


class Exclusive:
    """Wait for the lease of a conversation, and hold it for the block."""

    def __init__(self, history: History, *, timeout: float, lease: float) -> None:
        self._history = history
        self._timeout = timeout
        self._seconds = lease

    def __enter__(self) -> None:
        hold = Hold(self._history, self._seconds)
        try:
            hold.claim()
            self._hold = hold
            pauses = hold.pauses(self._timeout)
            while not hold.take():
                sleep(next(pauses))
        except BaseException as exc:
            hold.end(exc)
            raise

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._hold.end(exc)


class Hold:
    """What a block has of a conversation: its handle, which one block has at a time, and soon the lease.

    It ends with end(), or when nobody knows it any more; nothing but the block does so strongly.
    """

    def __init__(self, history: History, seconds: float) -> None:
        self._history = history
        self._lease = new_lease(history.session_id, seconds)
        self._asked = self._taken = False
        self._is_ours = True
        # From the call of end() on that the lease is gone is no news; from its end on the block holds nothing.
        self.ends = self.is_over = False
        # Is given None when the block is over and the lease given back, and else, also by the collector, the reference.
        self._over: queue.SimpleQueue[ref[Hold] | None] = queue.SimpleQueue()
        self._reference = ref(self, self._over.put)

    def claim(self) -> None:
        """Have the handle alone; raise BusyError when another block has it."""
        history = self._history
        history.check_open()
        tell_of_forks(self)
        with process_lock():
            other = history.block()
            if other is not None and not other.is_over:
                raise BusyError(
                    f"this handle of session {history.session_id!r} is in an exclusive() block already, which is not "
                    "re-entrant; make a handle for each run"
                )
            history.block = self._reference

    def take(self) -> bool:
        """Ask for the lease once; where it is had, every write through the handle is under it from now on."""
        self._asked = True
        try:
            observed(self._history.store, _NAME).take_lease(self._lease)
        except BusyError:
            return False
        self._taken = True
        if not self._history.store.bound:
            self._renew_in_background()
        return True

    def note_in_context(self, task: object) -> None:
        """Have the tasks that this one begins from here on know the block in which they are."""
        blocks.set((*blocks.get(), Block(ref(self._history), self._lease.token, ref(task))))

    def forget_in_context(self) -> None:
        """Undo that, where the block is left by the task that has entered it."""
        blocks.set(tuple(block for block in blocks.get() if block.token != self._lease.token))

    def pauses(self, timeout: float) -> Iterator[float]:
        """Give the seconds to wait before each further attempt; raise BusyError when the time is over."""
        deadline, pause = monotonic() + timeout, _FIRST_PAUSE
        while (left := deadline - monotonic()) > 0:
            # With jitter of the system, or forked processes would all come back at the same moments.
            yield min(left, pause * (0.5 + int.from_bytes(os.urandom(2), "big") / 2**17))
            pause = min(pause * 2, _LONGEST_PAUSE)
        raise busy_error(self._history.session_id)

    def lease(self) -> Lease | None:
        """Return what is to be written under; raise LeaseLostError in a forked child, which has no lease of its own."""
        return self._own_lease() if self._taken and not self.ends else None

    def _own_lease(self) -> Lease:
        check_process()
        if not self._is_ours:
            raise inherited_lease_error(self._lease.session_id)
        return self._lease

    def end(self, exc: BaseException | None) -> None:
        """Give the lease back; raise LeaseLostError when it was lost, unless the block has raised exc."""
        self.ends = True
        given_back = False
        try:
            # An attempt to take it that was interrupted, or whose answer was lost, may have succeeded.
            in_doubt = self._asked and not self._taken and isinstance(exc, OutcomeUnknownError)
            if in_doubt and not self._history.store.bound:
                self._renew_in_background()  # which gives it back: the database may be away for long
                return
            if self._taken or in_doubt or (self._asked and not isinstance(exc, SessionsError)):
                self._release(exc)
            given_back = True
        except LeaseLostError:
            given_back = True  # there is nothing to give back
            raise
        finally:
            self.forget(given_back=given_back)

    def forget(self, *, given_back: bool = False) -> None:
        """Leave the handle, and the lease to what renews it: that gives it back, unless that has been done."""
        self.is_over = True
        self._over.put(None if given_back else self._reference)

    def _release(self, exc: BaseException | None) -> None:
        try:
            if _release(self._history.store, self._own_lease()) or exc is not None:
                return
        except own(Exception) as failed:
            if self._is_ours:
                _tell_kept(self._lease, failed)
                return
            if exc is not None:
                return
            raise
        raise lost_lease_error(self._lease.session_id)

    def _renew_in_background(self) -> None:
        # In the caller's context, by which a pool or a function that gives the password may know whose it is.
        what = (_renew, self._history.store, self._lease, self._reference, self._over)
        handled = sys.exc_info()[1]
        try:
            threading.Thread(target=copy_context().run, args=what, name="sessions-lease", daemon=True).start()
        except RuntimeError as exc:
            if raised_by_a_handler(exc):
                raise
            raise_a_handlers(exc, handled)  # start() has made another one of it
            # A process has no more of them, an isolated subinterpreter no daemons.
            logger.warning(
                "session %r: no thread can be started to renew its lease (%s), so its writes alone renew it; "
                "give exclusive() a lease that is longer than the longest pause between two writes",
                self._lease.session_id,
                exc,
            )

    # fork(): the lease stays the parent's.

    def before_fork(self) -> None:
        pass

    def after_fork_in_parent(self) -> None:
        pass

    def begin_anew(self) -> None:
        self._is_ours = False


def _renew(store: Store, lease: Lease, block: ref[Hold], over: queue.SimpleQueue[ref[Hold] | None]) -> None:
    """Renew a lease until its block is over, and give it back if that has not been done."""
    times = _RENEWALS
    while True:
        with suppress(Empty):
            if over.get(timeout=lease.seconds / times) is not None:
                _give_back(store, lease)
            return
        try:
            if not observed(store, _NAME).renew_lease(lease):
                break
            times = _RENEWALS
        except ClosedError:
            return
        except own(Exception) as exc:
            # Of the application's too, as of a function that gives the password. The next write tells, or the next
            # renewal succeeds.
            times = _ATTEMPTS
            logger.warning("session %r: its lease could not be renewed: %s", lease.session_id, exc)
    hold = block()
    if hold is not None and not hold.ends:
        logger.warning("session %r: its lease was lost; writes are refused", lease.session_id)


def _release(store: Store, lease: Lease) -> bool:
    """Give a lease back, again where somebody cancelled that; False when it was lost."""
    try:
        return observed(store, _NAME).release_lease(lease)
    except DatabaseError:
        # What was cancelled may have been done.
        return observed(store, _NAME).release_lease(lease) or True


def _give_back(store: Store, lease: Lease) -> None:
    try:
        _release(store, lease)
    except own(Exception) as exc:
        _tell_kept(lease, exc)


def _tell_kept(lease: Lease, exc: Exception) -> None:
    # What was written under it is safe, and it ends by itself.
    logger.warning("session %r: its lease could not be given back: %s", lease.session_id, exc)
