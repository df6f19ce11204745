"""Hold the connections of one backend: opened when needed, reused newest first, shared by threads, never by processes.

The rule: a connection is in the hands of one operation or idle in here. A child made by
fork() forgets its parent's connections without a word to the server. After a loss what has
been idle for as long is not trusted either.
"""

from __future__ import annotations

import queue
import threading
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from time import monotonic
from typing import Generic, NamedTuple, TypeVar
from weakref import ref

from sessions._dialects.connector import Connector
from sessions._reentry import Lock, interrupted_error
from sessions.errors import ConnectionFailedError, closed_error

from .fork import check_process, tell_of_forks

C = TypeVar("C")
T = TypeVar("T")

# How long a fork waits for the operations of a quiescing pool (SQLite) to end.
_QUIESCE_SECONDS = 5.0

# How long the first in the queue is overtaken by threads that run already: to hand each place over would cost them
# a switch of threads for every operation.
_PATIENCE_SECONDS = 0.0005

# Who was called and has not come for so long does not keep the others: a signal handler goes on in its thread.
_ABSENCE_SECONDS = 1.0
# How often who waits looks by itself, for what nobody calls it for.
_LOOK_SECONDS = 0.25


class _Idle(NamedTuple, Generic[C]):
    connection: C
    since: float


class _Lease(Generic[C]):
    """A borrower's place in the pool, and its connection once it has one.

    The pool knows it weakly: when Ctrl-C falls between two steps of ours, the place is
    free again as soon as the borrower is forgotten.
    """

    __slots__ = ("__weakref__", "connection", "place", "taken", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.connection: C | None = None
        self.place: ref[_Lease[C]] | None = None
        self.taken = 0.0


class _Turn:
    """One who waits for a place."""

    __slots__ = ("__weakref__", "call", "called", "thread")

    def __init__(self) -> None:
        # No condition: where an exception can fall into its wait, it is left without the lock that it works on.
        # By its module: where gevent has taken its place since, it lets others run meanwhile.
        self.call: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.called: float | None = None  # when, unless it has come since
        self.thread = threading.get_ident()


class Pool(Generic[C]):
    """At most size connections made by connector, fewer where it cannot have so many."""

    def __init__(self, connector: Connector[C], *, size: int, timeout: float, max_idle: float) -> None:
        self._connector = connector
        self._size = min(size, connector.max_connections or size)
        self._timeout = timeout
        self._max_idle = max_idle
        self._closed = False
        self._start_empty()
        tell_of_forks(self)

    def _start_empty(self) -> None:
        self._lock = Lock()
        # The newest last.
        self._idle: list[_Idle[C]] = []
        # The places taken. Each knows its lease weakly, and goes with it.
        self._busy: set[ref[_Lease[C]]] = set()
        self._fork_pending = False
        self._given_back: queue.SimpleQueue[None] = queue.SimpleQueue()
        # Who waits for a place, by when they came, and since when the first of them is the first. Only so many are
        # called as there are places: of all the others each would wake up for nothing. Known weakly, as the places are.
        self._queue: dict[ref[_Turn], None] = {}
        self._first_since = 0.0
        self._abandoned = False

    def lend(self, use: Callable[[C], T], *, writes: bool) -> T:
        """Lend a connection to a function; after an error it is kept only if the connector can restore it."""
        lease = self.lease()
        try:
            result = use(self.take(lease))
            self.give_back(lease, keep=True)
        except BaseException as exc:
            try:
                self.give_back(lease, keep=self.restores(lease, exc))
            finally:
                self.give_back(lease, keep=False)  # where that was interrupted before it began
            raise
        return result

    def lease(self) -> _Lease[C]:
        """Return a lease, which has no place yet."""
        return _Lease()

    def take(self, lease: _Lease[C]) -> C:
        """Find or open a connection for a lease."""
        check_process()
        with self._lock:
            waits = not self._places or (bool(self._queue) and (not self._idle or self._is_late()))
            if not waits:
                self._give_place(lease)
            elif not self._closed and self._has_all(lease.thread):
                what = "the only connection" if self._size == 1 else f"each of the {self._size} connections"
                raise interrupted_error(what, "use another backend")
        if waits and self._lock.is_held():
            self._take_at_once(lease)
        elif waits:
            self._wait_for_place(lease)
        # Not under the lock: other threads would wait for what this one asks the system.
        while lease.connection is not None:
            if self._connector.is_alive(lease.connection):
                return lease.connection
            dead, lease.connection = lease.connection, None
            self._connector.close(dead)
            with self._lock:
                lease.connection = self._pop_idle()
        lease.connection = self._connector.open()
        return lease.connection

    def _has_all(self, thread: int) -> bool:
        """Tell whether all connections are in the hands of a thread, which would wait for itself; the lock is held."""
        leases = [lease for place in list(self._busy) if (lease := place()) is not None]
        return len(leases) >= self._size and all(lease.thread == thread for lease in leases)

    def _pop_idle(self) -> C | None:
        return self._idle.pop().connection if self._idle else None

    def _close_idle_since(self, moment: float) -> None:
        """Close what has been idle since a moment, or for longer; the lock is held."""
        if self._idle and self._idle[0].since <= moment:
            count = bisect_right(self._idle, moment, key=lambda idle: idle.since)
            for connection, _ in self._idle[:count]:
                self._connector.close(connection)
            del self._idle[:count]

    def _is_late(self) -> bool:
        """Tell whether nobody may overtake the first in the queue any more."""
        return monotonic() - self._first_since > _PATIENCE_SECONDS

    def _give_place(self, lease: _Lease[C]) -> None:
        lease.place = ref(lease, self._busy.discard)
        self._busy.add(lease.place)
        lease.taken = monotonic()
        self._close_idle_since(lease.taken - self._max_idle)
        lease.connection = self._pop_idle()

    def _take_at_once(self, lease: _Lease[C]) -> None:
        """Take a place for a call that has interrupted one in here, which keeps all others out until then."""
        if not self._places:
            self._lock.refuse_reentry("the pool")
        self._give_place(lease)

    def _wait_for_place(self, lease: _Lease[C]) -> None:
        turn, deadline = _Turn(), None
        waiting = self._queue
        place = ref(turn, lambda place: waiting.pop(place, None))
        try:
            with self._lock:
                if not waiting:
                    self._first_since = monotonic()
                waiting[place] = None
            while True:
                with self._lock:
                    now, turn.called = monotonic(), None
                    if self._closed:
                        raise closed_error()
                    if self._is_next(turn, now):
                        self._give_place(lease)
                        return
                    if self._fork_pending:
                        deadline = None
                    elif deadline is None:
                        deadline = now + self._timeout
                    elif now >= deadline:
                        raise ConnectionFailedError(
                            f"all {self._size} connections have been in use for connection_timeout "
                            f"({self._timeout:g} s); raise it or pool_size (which sqlite::memory: does not have)"
                        )
                with suppress(Empty):
                    turn.call.get(timeout=_LOOK_SECONDS if deadline is None else min(_LOOK_SECONDS, deadline - now))
        finally:
            with self._lock:
                waiting.pop(place, None)
                self._first_since = monotonic()
                self._call_next()

    def _in_turn(self, now: float) -> list[_Turn]:
        """Return who waits and will come when called, in their order."""
        turns = [turn for place in list(self._queue) if (turn := place()) is not None]
        return [turn for turn in turns if turn.called is None or now - turn.called <= _ABSENCE_SECONDS]

    @property
    def _places(self) -> int:
        return 0 if self._closed or self._fork_pending else max(0, self._size - len(self._busy))

    def _call_next(self) -> None:
        if places := self._places:
            now = monotonic()
            for turn in self._in_turn(now)[:places]:
                if turn.called is None:
                    turn.called = now
                    turn.call.put(None)

    def _is_next(self, turn: _Turn, now: float) -> bool:
        """Tell whether there is a place that nobody before has; of its own thread only the last one can come."""
        before = 0
        for other in self._in_turn(now):
            if other is turn:
                break
            before += other.thread != turn.thread
        return before < self._places

    def restores(self, lease: _Lease[C], exc: BaseException) -> bool:
        """After an operation that failed, tell whether its connection can be used again."""
        check_process()
        if lease.connection is None or lease.place not in self._busy:
            return False
        return self._connector.restore(lease.connection, exc)

    def give_back(self, lease: _Lease[C], *, keep: bool) -> None:
        """End a lease; its connection becomes idle or is closed, and with it what was idle all the while."""
        check_process()
        connection = lease.connection
        if connection is not None and not keep and lease.place in self._busy:
            # Not under the lock: it may wait for the server to end what was interrupted.
            self._connector.close(connection)
        with self._lock:
            if lease.place not in self._busy:
                return  # taken before a fork, by the parent: the child has forgotten it
            # First: who is interrupted in here may come again.
            self._busy.discard(lease.place)
            if connection is not None:
                if keep and not self._closed:
                    self._idle.append(_Idle(connection, monotonic()))
                elif keep:
                    self._connector.close(connection)
                if not keep:
                    # Forgotten on the way, or the server is the primary no longer: what was used since then is well.
                    self._close_idle_since(lease.taken)
            last = self._closed and not self._busy
            if self._queue:
                self._call_next()
            if self._fork_pending:
                self._given_back.put(None)
        if last:
            self._connector.release()
        if self._abandoned:
            self.abandon()

    def close(self) -> None:
        """Close what is idle now and what is in use when it is given back; may be called twice."""
        check_process()
        with self._lock:
            self._close()

    def abandon(self) -> None:
        """Close, in a finalizer: the collector runs it in a thread that may hold any lock, so it waits for none.

        Who holds the lock of this pool, for a fork, does it then.
        """
        check_process()
        self._abandoned = True
        if self._lock.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._lock.release()

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._close_idle_since(monotonic())
        self._wake_all()
        if not self._busy:
            self._connector.release()

    # fork(): no thread of the parent may be inside the pool, or the child inherits it half changed.

    def before_fork(self) -> None:
        deadline = monotonic() + _QUIESCE_SECONDS
        try:
            self._lock.acquire()
            self._fork_pending = self._connector.quiesce_at_fork
            while self._fork_pending and self._busy and monotonic() < deadline:
                self._lock.release()
                with suppress(Empty):
                    self._given_back.get(timeout=_LOOK_SECONDS)
                self._lock.acquire()
            self._connector.before_fork(iter(self._pop_idle, None))
        except BaseException:
            self._fork_pending = False
            with suppress(RuntimeError):  # unless it was interrupted without it
                self._lock.release()
            raise

    def after_fork_in_parent(self) -> None:
        self._fork_pending = False
        self._wake_all()
        if self._lock.is_held():
            self._lock.release()
        if self._abandoned:
            self.abandon()

    def _wake_all(self) -> None:
        for place in list(self._queue):
            if (turn := place()) is not None:
                turn.call.put(None)

    def begin_anew(self) -> None:
        idle = [connection for connection, _ in self._idle]
        busy = [lease.connection for place in list(self._busy) if (lease := place()) is not None]
        self._start_empty()
        self._connector.inherit(idle, busy)
