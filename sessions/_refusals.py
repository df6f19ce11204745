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

    def note(self, exc: SessionsError, seconds: float) -> None:
        """Note another one; raise the first where the database's take long: that is no matter of single ones."""
        self.first = self.first or exc
        self._seconds += seconds if isinstance(exc, DatabaseError) else 0.0
        if self._seconds > _REFUSED_SECONDS:
            raise self.first

    def raise_first(self) -> None:
        """Raise it, if there is one."""
        if self.first is not None:
            raise self.first
