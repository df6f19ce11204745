"""What is refused of some among many conversations: it keeps the others from nothing, and is said at the end."""

from __future__ import annotations

from .errors import DatabaseError, SessionsError

# How long a database's refusals may take in all. A foreign key takes milliseconds, a time limit is met by the next one
# too.
_REFUSED_SECONDS = 30.0


class Refusals:
    """The first error, which is raised at the end."""

    def __init__(self) -> None:
        self.first: SessionsError | None = None
        self._seconds = 0.0

    def note(self, exc: SessionsError, seconds: float, session_id: str | None = None) -> None:
        """Note another one; raise the first where the database's take long: that is no matter of single ones.

        The database's do not say by themselves of which conversation they are.
        """
        if isinstance(exc, DatabaseError):
            self._seconds += seconds
            if session_id is not None:
                cause, exc = exc.__cause__, DatabaseError(f"session {session_id!r}: {exc}")
                exc.__cause__ = cause
        self.first = self.first or exc
        if self._seconds > _REFUSED_SECONDS:
            raise self.first

    def raise_first(self) -> None:
        """Raise it, if there is one."""
        if self.first is not None:
            raise self.first
