"""What sessions ask of a place that keeps rows, each a row's id and its text; what a text means is theirs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from sessions._items import MAX_ID, RecordRow, Row
from sessions._settings.options import Options


class Store(ABC):
    """Rows of many conversations. May be used from many threads."""

    dialect_name: str
    where: str  # for messages, without user and password
    options: Options

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
    def append(self, session_id: str, texts: Sequence[str], *, seen: int | None, if_position: int | None) -> int:
        """Write the texts after the newest row, all or none; return the newest id.

        seen is an id that this session had reached before: it lets a batch whose
        acknowledgement was lost be found again. With if_position, raise ConflictError
        unless the newest row has that id (0: there is none).
        """

    @abstractmethod
    def pop(self, session_id: str) -> Row | None:
        """Remove and return the newest row; None when there is none."""

    @abstractmethod
    def replace(self, session_id: str, texts: Sequence[str], *, seen: int | None, if_position: int | None) -> int:
        """Put the texts in place of all rows, atomically; return the newest id."""

    @abstractmethod
    def clear(self, session_id: str) -> None:
        """Delete all rows of the session and the session itself."""
