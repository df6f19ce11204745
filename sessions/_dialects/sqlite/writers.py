"""Whose turn it is to write, of the threads of this process."""

from __future__ import annotations

import sqlite3

from sessions._reentry import Lock


class Writers:
    """The queue of this process's writers to one database."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew in a forked child, where a thread that held the lock does not exist."""
        self._lock = Lock()
        self._writing: sqlite3.Connection | None = None

    def take(self, connection: sqlite3.Connection) -> None:
        """Wait for the turn; a connection has it until end()."""
        self._lock.refuse_reentry("the database")
        # Not acquire(timeout=...): a Ctrl-C just behind it would leave the lock held.
        with self._lock:
            self._writing = connection
            self._lock.acquire()

    def end(self, connection: sqlite3.Connection) -> None:
        """Give the turn to the next one, if this connection has it."""
        if self._writing is connection and self._lock.is_held():
            self._writing = None
            self._lock.release()
