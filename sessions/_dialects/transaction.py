"""A block that is one transaction.

No generator: one that an exception of a signal handler, or of another thread, has left suspended goes on when that is
forgotten, on a connection that is somebody else's by then. What is left open here, because the exception fell right
before the end of the block, is ended by who lent the connection.
"""

from __future__ import annotations

from types import TracebackType
from typing import Generic, Protocol, TypeVar

C_contra = TypeVar("C_contra", contravariant=True)


class Ends(Protocol[C_contra]):
    """What begins and ends transactions."""

    def joins(self, connection: C_contra) -> bool:
        """Tell whether a block is a part of what is open, or of what the driver begins by itself."""

    def begin(self, connection: C_contra) -> None:
        """Begin one that may write."""

    def finish(self, connection: C_contra) -> None:
        """Commit it."""

    def undo(self, connection: C_contra, exc: BaseException) -> None:
        """Take it back after an exception; may be called again, and where none is open."""


class Transaction(Generic[C_contra]):
    """Commits at the end of its block, and takes back what fails or is interrupted."""

    def __init__(self, ends: Ends[C_contra], connection: C_contra) -> None:
        self._ends = ends
        self._connection = connection
        self._joined = True

    def __enter__(self) -> None:
        self._joined = self._ends.joins(self._connection)
        if not self._joined:
            try:
                # Within: a signal handler may raise when it has been executed.
                self._ends.begin(self._connection)
            except BaseException as exc:
                self._ends.undo(self._connection, exc)
                raise

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._joined:
            return
        if exc is not None:
            self._ends.undo(self._connection, exc)
            return
        try:
            self._ends.finish(self._connection)
        except BaseException as failed:
            self._ends.undo(self._connection, failed)
            raise
