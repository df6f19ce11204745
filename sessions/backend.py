"""One database that holds many sessions, and the operations that each dialect provides for them.

Sessions speak to a backend in rows, a row's id and its text; what a text means is theirs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from .errors import ConfigurationError, closed_error
from .session import Session

if TYPE_CHECKING:
    from types import TracebackType

    from ._records import RecordRow

Self = TypeVar("Self", bound="Backend")
Row = tuple[int, str]

# Larger than any id: read from the newest row on.
MAX_ID = 2**63 - 1


class Backend(ABC):
    """One database. May be used from many threads; made by sessions.connect()."""

    default_limit: int | None = None
    ensure_ascii: bool = True

    def session(self, session_id: str) -> Session:
        """Make a handle for one conversation, without a round trip; closing it leaves the backend open."""
        if self.closed:
            raise closed_error()
        return Session(session_id, self)

    def bind(self, connection: object) -> Backend:
        """Return a backend with these tables and limits on a connection of the application; see sessions.bind()."""
        raise ConfigurationError(f"{self!r} has no connections to bind; use sessions.bind()")

    def __reduce__(self) -> str:
        raise TypeError("a backend cannot be pickled; send its URL and make a new one there")

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    @abstractmethod
    def closed(self) -> bool:
        """True once close() was called."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections; what is in use is closed when its operation ends. May be called twice."""

    @abstractmethod
    def newest_rows(self, session_id: str, *, count: int = MAX_ID, before: int = MAX_ID) -> list[Row]:
        """Return at most count rows older than id before, newest first."""

    @abstractmethod
    def record_rows(self, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        """Return at most count rows after id after and up to id upto, oldest first, with their times."""

    @abstractmethod
    def newest_range(self, session_id: str, count: int) -> tuple[int, int]:
        """Return the oldest and the newest id of the newest count rows; (0, 0) when there are none."""

    @abstractmethod
    def append_rows(self, session_id: str, texts: Sequence[str], *, seen: int | None, if_position: int | None) -> int:
        """Write the texts after the newest row, all or none; return the newest id.

        seen is an id that this session had reached before: it lets a batch whose
        acknowledgement was lost be found again. With if_position, raise ConflictError
        unless the newest row has that id (0: there is none).
        """

    @abstractmethod
    def pop_row(self, session_id: str) -> Row | None:
        """Remove and return the newest row; None when there is none."""

    @abstractmethod
    def replace_rows(self, session_id: str, texts: Sequence[str], *, seen: int | None, if_position: int | None) -> int:
        """Put the texts in place of all rows, atomically; return the newest id."""

    @abstractmethod
    def delete_session(self, session_id: str) -> None:
        """Delete all rows of the session and the session itself."""
