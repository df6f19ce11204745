"""What sessions ask of a place that keeps rows, each a row's id and its text; what a text means is theirs."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from sessions._checks import Check
from sessions._dialects.failures import raised_by_a_handler
from sessions._items import MAX_ID, RecordRow, Row, RowsCheck, SearchRow, find_quick_reader
from sessions._leases import Lease
from sessions._listing import FirstRow, Listing, SessionRow, SizeRow
from sessions._operation import Operation, OperationHooks
from sessions._parts import Part
from sessions._sealing import SealedWrite, Verified
from sessions._settings.options import Options
from sessions.errors import unkeyed_error

logger = logging.getLogger("sessions")


class Hooks:
    """The functions of the application, each told of every operation; none of them can change what it says."""

    def __init__(self, hooks: OperationHooks) -> None:
        self._hooks = (hooks,) if callable(hooks) else tuple(hooks)
        self._failed: set[int] = set()

    def tell(self, operation: Operation) -> None:
        for number, hook in enumerate(self._hooks):
            try:
                hook(operation)
            except Exception as exc:
                if raised_by_a_handler(exc):
                    raise
                # The operation is over, and has an outcome of its own.
                if number not in self._failed:
                    self._failed.add(number)
                    logger.exception("on_operation raised, which changes nothing and is not reported again")


class Store(ABC):
    """Rows of many conversations. May be used from many threads.

    A write that is given a lease is refused with LeaseLostError, and nothing is written, once another one has it.
    """

    dialect_name: str
    listed_times: str  # the form of those in list_sessions()
    where: str  # for messages, without user and password
    options: Options
    hooks: Hooks | None  # None: nobody wants to know
    rewrites_whole: bool = False  # rewrite() wants all rows of a conversation at once
    knows_its_end: bool = False  # where it is read in pages, no id says which is the last one
    bound: bool = False  # on a connection of the application, which no thread of ours uses outside of its calls

    def __init__(self, options: Options) -> None:
        find_quick_reader()
        self.options = options
        hooks = options.on_operation
        self.hooks = Hooks(hooks) if callable(hooks) or hooks else None

    @property
    def surroundings(self) -> str:
        """What is around the database, such as a cluster, and how it is dealt with, as far as it is known."""
        return ""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """True once close() was called."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections; what is in use is closed when its operation ends. May be called twice."""

    @abstractmethod
    def newest_rows(self, session_id: str, *, count: int = MAX_ID, upto: int = MAX_ID) -> list[Row]:
        """Return at most count rows up to id upto, newest first."""

    @abstractmethod
    def record_rows(self, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        """Return at most count rows after id after and up to id upto, oldest first, with their times."""

    @abstractmethod
    def newest_range(self, session_id: str, count: int) -> tuple[int, int]:
        """Return the oldest and the newest id of the newest count rows; (0, 0) when there are none."""

    @abstractmethod
    def append(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        """Write the texts after the newest row, all or none; return the newest id.

        With if_position, raise ConflictError unless the newest row has that id (0: there is none).
        known is an id that the conversation is known to have reached before, or 0.
        """

    @abstractmethod
    def pop(
        self, session_id: str, *, lease: Lease | None, check: Callable[[Row], bool] | None = None
    ) -> tuple[Row | None, int]:
        """Remove the newest row and return it, None when there is none; and the id of the newest one then.

        check is shown the row while nobody else can write: False, or what it raises, and nothing is removed.
        """

    @abstractmethod
    def replace(
        self, session_id: str, texts: Sequence[str], *, if_position: int | None, known: int, lease: Lease | None
    ) -> int:
        """Put the texts in place of all rows, atomically; return the newest id. if_position as in append()."""

    @abstractmethod
    def replace_newest(
        self, session_id: str, texts: Sequence[str], *, count: int, check: RowsCheck, lease: Lease | None
    ) -> int | None:
        """Put the texts in place of the newest count rows, atomically; return the newest id.

        check is shown those, newest first, while nobody else can write. Where it is False, or there are not so many
        rows, nothing is written, and the answer is None.
        """

    @abstractmethod
    def clear(self, session_id: str, *, known: int, lease: Lease | None) -> None:
        """Delete all rows of the session and the session itself."""

    @abstractmethod
    def take_lease(self, lease: Lease) -> None:
        """Take a lease that nobody holds, or that has expired; raise BusyError when another one holds it."""

    @abstractmethod
    def renew_lease(self, lease: Lease) -> bool:
        """Prolong a lease; False when it was lost."""

    @abstractmethod
    def release_lease(self, lease: Lease) -> bool:
        """Give a lease back; False when it was lost."""

    @abstractmethod
    def list_sessions(self, listing: Listing) -> list[SessionRow]:
        """Return a page of the sessions that there are."""

    @abstractmethod
    def delete_sessions(self, session_ids: Sequence[str], *, idle: float | None) -> tuple[int, int]:
        """Delete sessions, in one transaction; return how many, and of how many rows.

        With idle, only those that nobody has written to since then, in Unix seconds.
        """

    @abstractmethod
    def fork(self, session_id: str, new_id: str, *, upto: int | None, lease: Lease | None) -> None:
        """Copy the rows up to an id into a new session; raise ConflictError when that is there already."""

    @abstractmethod
    def delete_record(self, session_id: str, row_id: int, *, lease: Lease | None) -> bool:
        """Delete one row; False when the session has none with this id."""

    @abstractmethod
    def replace_record(self, session_id: str, row_id: int, text: str, *, lease: Lease | None) -> bool:
        """Put a text in place of a row's; False when the session has none with this id."""

    @abstractmethod
    def search(self, literal: str, *, after: int, prefix: str, count: int) -> list[SearchRow]:
        """Return the next count rows after id after, of all sessions whose id begins with prefix, by id.

        Without a text come those that contain neither literal nor an escaped Latin character.
        """

    @abstractmethod
    def session_sizes(self, session_ids: Sequence[str]) -> list[SizeRow]:
        """Return how much each session holds, day by day."""

    @abstractmethod
    def first_items(self, session_ids: Sequence[str], length: int) -> list[FirstRow]:
        """Return the first length characters of each session's first text of a user, or None."""

    @abstractmethod
    def unlisted_sessions(self, *, after: str, count: int) -> list[str]:
        """Return at most count ids behind one, in order, of sessions that have rows and no row of their own.

        Behind the empty text come all of them, the empty id too.
        """

    @abstractmethod
    def clock(self) -> float:
        """Return the database's time, in Unix seconds."""

    @abstractmethod
    def check(self, *, fix: bool) -> list[Check]:
        """Look whether everything is as it should be; with fix make what is missing before."""

    def of_every_age(self) -> Store:
        """Return a store that shows the rows that are too old to be shown, too."""
        return self

    def for_records(self, session_id: str, limit: int | None) -> Store:
        """Return what a conversation, or its newest rows, are to be read from in pages, the oldest first.

        Raises SealBrokenError where they are not as they were sealed.
        """
        return self

    def seal(self, session_id: str) -> str:
        """Return the end seal of a conversation."""
        raise unkeyed_error()

    def verify(self, session_id: str, since: str | None) -> Verified:
        """Look at a whole conversation; raise SealBrokenError unless it is as sealed, and goes on from an end seal."""
        raise unkeyed_error()

    def sealed_sessions(self, *, after: str, count: int) -> list[str]:
        """Return at most count ids behind one, in order, of sessions that have an end seal."""
        raise unkeyed_error()

    @abstractmethod
    def load(self, session_id: str, part: Part) -> int:
        """Write rows as they are, and return the newest id; raise ConflictError unless part.position is that before."""

    @abstractmethod
    def rewrite(self, session_id: str, rows: Sequence[tuple[int, str, str]]) -> int:
        """Put texts in place of rows' own, each an id, the text as it is, and the new one; return how many.

        One transaction; a row whose text is another one by now is left. Rows keep their ids and times.
        """

    def rekey(self, session_id: str, *, adopt: bool) -> int:
        """Bring the rows that are not under the newest keys under them; return how many.

        adopt: also those that were written without the keys, which are an error otherwise.
        """
        return 0


class SealableStore(Store):
    """A store that keeps the end seals of conversations beside their rows."""

    settles: bool = False  # an answer can be lost, and what it was an answer to is then looked for by its token

    @abstractmethod
    def sealed_rows(self, session_id: str, *, count: int) -> tuple[str | None, list[RecordRow]]:
        """Return the end seal, None where there is none, and at most count rows, newest first.

        Both are of one moment.
        """

    @abstractmethod
    def write_sealed(self, session_id: str, write: SealedWrite, *, lease: Lease | None) -> int:
        """Do a write, and return the newest id where it has texts; raise SealMovedError for another end."""
