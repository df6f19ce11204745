"""Hold the connections of one backend: opened when needed, reused newest first, shared by threads, never by processes.

The rule: a connection is in the hands of one operation or idle in here. A child made by
fork() forgets its parent's connections without a word to the server.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from weakref import ref

from ._fork import tell_of_forks
from .errors import ConnectionFailedError, closed_error

if TYPE_CHECKING:
    from types import TracebackType

C = TypeVar("C")

# How long a fork waits for the operations of a quiescing pool (SQLite) to end.
_QUIESCE_SECONDS = 5.0


def is_readable(fileno: int) -> bool:
    """Tell whether a socket has something to read; when idle, that is the server's goodbye."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(fileno, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([fileno], [], [], 0)[0])


def forget_unsent(end: socket.socket) -> None:
    """Let close() reset the connection, so that the kernel does not go on sending what nobody waits for.

    A network that was gone for a while would deliver it after the outcome has been settled.
    """
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Connector(Protocol[C]):
    """What a dialect says about its connections."""

    quiesce_at_fork: bool  # a connection in use during fork() would harm the database
    close_at_fork: bool  # an idle one, inherited, would harm it too

    def open(self) -> C:
        """Connect."""

    def close(self, connection: C) -> None:
        """Close; never raises."""

    def is_alive(self, connection: C) -> bool:
        """Tell without a round trip whether an idle connection can be used."""

    def restore(self, connection: C, exc: BaseException) -> bool:
        """After a failed operation end its transaction; False when the connection must go."""

    def abandon(self, connection: C) -> None:
        """In a forked child: let go of the parent's connection so that the parent feels nothing."""

    def release(self) -> None:
        """The pool is closed: free what its connections shared; never raises."""


class _Lease(Generic[C]):
    """A borrower's place in the pool, and its connection once it has one: what `with` works on.

    The pool knows it weakly: when Ctrl-C falls between two steps of ours, the place is
    free again as soon as the borrower is forgotten.
    """

    __slots__ = ("__weakref__", "_pool", "connection", "place")

    def __init__(self, pool: Pool[C]) -> None:
        self._pool = pool
        self.connection: C | None = None
        self.place: ref[_Lease[C]] | None = None

    def __enter__(self) -> C:
        try:
            return self._pool.take(self)
        except BaseException as exc:
            self.__exit__(type(exc), exc, None)
            raise

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        keep = exc is None
        try:
            keep = keep or self._pool.restores(self, exc)
        finally:
            self._pool.give_back(self, keep=keep)


class Pool(Generic[C]):
    """At most size connections made by connector."""

    def __init__(self, connector: Connector[C], *, size: int, timeout: float) -> None:
        self._connector = connector
        self._size = size
        self._timeout = timeout
        self._closed = False
        self._start_empty()
        tell_of_forks(self)

    def _start_empty(self) -> None:
        # Entered as it is, not by the condition's own `with`, which Ctrl-C can leave locked.
        self._lock = threading.RLock()
        self._condition = threading.Condition(self._lock)
        self._idle: list[C] = []
        # The places taken. Each knows its lease weakly, and goes with it.
        self._busy: set[ref[_Lease[C]]] = set()
        self._fork_pending = False
        self._waiting = 0

    def connection(self, *, writes: bool) -> _Lease[C]:
        """Lend a connection; after an error it is kept only if the connector can restore it."""
        return _Lease(self)

    def take(self, lease: _Lease[C]) -> C:
        """Find or open a connection for a lease."""
        with self._lock:
            if self._closed or self._fork_pending or not self._idle:
                self._wait_for_place()
            lease.place = ref(lease, self._busy.discard)
            self._busy.add(lease.place)
            lease.connection = self._idle.pop() if self._idle else None
        # Not under the lock: other threads would wait for what this one asks the system.
        while lease.connection is not None:
            if self._connector.is_alive(lease.connection):
                return lease.connection
            dead, lease.connection = lease.connection, None
            self._connector.close(dead)
            with self._lock:
                lease.connection = self._idle.pop() if self._idle else None
        lease.connection = self._connector.open()
        return lease.connection

    def _wait_for_place(self) -> None:
        while True:
            if self._closed:
                raise closed_error()
            if self._fork_pending:
                self._wait_for_change(None)
            elif self._idle or len(self._busy) < self._size:
                return
            else:
                self._wait()

    def _wait(self) -> None:
        deadline = monotonic() + self._timeout
        while not self._idle and len(self._busy) >= self._size and not self._closed:
            # A place whose lease was forgotten is free without a word.
            if not self._wait_for_change(deadline - monotonic()) and not self._idle and len(self._busy) >= self._size:
                raise ConnectionFailedError(
                    f"all {self._size} connections have been in use for connection_timeout ({self._timeout:g} s); "
                    "raise it or pool_size (which sqlite::memory: does not have)"
                )

    def _wait_for_change(self, timeout: float | None) -> bool:
        """Wait until a place is free, a fork is over or the pool is closed; False when it takes too long."""
        self._waiting += 1
        try:
            return self._condition.wait(timeout)
        finally:
            self._waiting -= 1

    def restores(self, lease: _Lease[C], exc: BaseException | None) -> bool:
        """After an operation that failed, tell whether its connection can be used again."""
        return lease.connection is not None and exc is not None and self._connector.restore(lease.connection, exc)

    def give_back(self, lease: _Lease[C], *, keep: bool) -> None:
        """End a lease; its connection becomes idle or is closed."""
        with self._lock:
            if lease.place not in self._busy:
                return  # taken before a fork, by the parent: the child has forgotten it
            connection = lease.connection
            if connection is not None:
                if keep and not self._closed:
                    self._idle.append(connection)
                else:
                    self._connector.close(connection)
            self._busy.discard(lease.place)
            last = self._closed and not self._busy
            if self._waiting:
                self._condition.notify_all()
        if last:
            self._connector.release()

    def close(self) -> None:
        """Close what is idle now and what is in use when it is given back; may be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for connection in self._idle:
                self._connector.close(connection)
            self._idle.clear()
            last = not self._busy
            self._condition.notify_all()
        if last:
            self._connector.release()

    # fork(): no thread of the parent may be inside the pool, or the child inherits it half changed.

    def before_fork(self) -> None:
        self._lock.acquire()
        try:
            if self._connector.quiesce_at_fork:
                self._fork_pending = True
                deadline = monotonic() + _QUIESCE_SECONDS
                while self._busy and self._wait_for_change(deadline - monotonic()):
                    pass
            while self._connector.close_at_fork and self._idle:
                self._connector.close(self._idle.pop())
        except BaseException:
            self.after_fork_in_parent()
            raise

    def after_fork_in_parent(self) -> None:
        self._fork_pending = False
        self._condition.notify_all()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        leases = [place() for place in list(self._busy)]
        busy = [lease.connection for lease in leases if lease is not None and lease.connection is not None]
        for connection in [*self._idle, *busy]:
            # One that the parent was about to drop must not keep the child from the rest.
            with suppress(Exception):
                self._connector.abandon(connection)
        self._start_empty()
