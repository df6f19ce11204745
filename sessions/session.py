"""One conversation: what a caller may ask of it, the same on every backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, NoReturn, Self, Unpack

from ._exclusive import Exclusive
from ._history import History
from ._items import Item, Record
from ._leases import check_seconds
from ._plain import plain
from ._sdk import check_direct_use
from ._sealing import Verified
from ._settings.options import Keywords
from ._stores.opening import open_url
from ._stores.store import Store
from .errors import kind_of

_MAX_SESSION_ID = 255


class Session:
    """The history of one conversation, named by session_id.

    A handle may be used from many threads. It holds no connection. Every
    operation raises ClosedError after close(), ConnectionFailedError when the
    database cannot be reached, and a SessionsError for whatever else fails.
    """

    def __init__(self, session_id: str, store: Store, *, owns_store: bool = False) -> None:
        session_id = checked_session_id(session_id)
        if not isinstance(store, Store):
            raise TypeError(
                f"store is a {kind_of(store)}; write sessions.Session.from_url(session_id, url), "
                "or backend.session(session_id) with the backend of sessions.connect(url)"
            )
        self.session_id = session_id
        self._history = History(session_id, store)
        self._owns_store = owns_store

    @classmethod
    def from_url(cls, session_id: str, url: str, **options: Unpack[Keywords]) -> Self:
        """Make a session on a backend of its own, which close() closes; the options are those of connect()."""
        session_id = checked_session_id(session_id)
        return cls(session_id, open_url(url, options), owns_store=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.session_id!r} on {self._history.store.where}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise TypeError("a session cannot be pickled; send its session_id and make a new handle there")

    def close(self) -> None:
        """Close the handle, and the backend if from_url() made it. May be called twice."""
        self._history.close()
        if self._owns_store:
            self._history.store.close()

    # Items are dicts; Any, or their list were none of the TypedDicts that the SDK and the openai client take.
    def get_items(self, limit: int | None = None, *, whole_turns: bool | None = None) -> list[Any]:
        """Return the newest limit items, oldest first; all of them, or default_limit, when limit is None.

        A limit may cut a call from its output, which models refuse. With whole_turns (None: as
        connect() was told) as many of them are returned as begin at a user's message and are
        complete: each call beside its output, reasoning beside what it led to. When the newest
        limit items hold no whole turn the list is empty, and a warning says so. Nothing is removed
        from the history. Corrupt rows are skipped, do not count, and are logged with their id.
        Raises ValueError for a negative limit, TypeError for what is no int.
        """
        if limit == 0 and not isinstance(limit, bool):
            self._history.check_open()
            return []
        return self._history.get(limit, whole_turns=whole_turns)[0]

    def add_items(self, items: Iterable[Mapping[str, Any]], *, if_position: int | None = None) -> None:
        """Append the items in order, all or none of them.

        With if_position, append only if the newest row still has this id (see
        position()), else raise ConflictError and write nothing. Raises
        InvalidItemError before anything is written when an item is no JSON object,
        OutcomeUnknownError when the connection was lost and it cannot be settled
        whether the items were written.
        """
        self._history.add(items, if_position=if_position)

    def pop_item(self) -> Item | None:
        """Remove the newest item and return it; None when there is none.

        Two callers never receive the same item. Corrupt rows that are newer than it
        are removed on the way. Raises OutcomeUnknownError when the connection was lost
        before the answer came.
        """
        return self._history.pop()[0]

    def clear_session(self) -> None:
        """Remove all items and the session itself; nothing happens to an unused session."""
        self._history.clear()

    def position(self) -> int:
        """Return the id of the newest row, 0 when the session is empty."""
        return self._history.position()

    def replace_items(self, items: Iterable[Mapping[str, Any]], *, if_position: int | None = None) -> None:
        """Put the items in place of the whole history, atomically; if_position as in add_items()."""
        self._history.replace(items, if_position=if_position)

    def records(self, limit: int | None = None) -> Iterator[Record]:
        """Iterate over the newest limit rows, all of them when limit is None, oldest first.

        Corrupt rows are among them and count, with item None. Rows are read in pages,
        as they are asked for: a history of any length takes little memory, and between
        two pages neither a connection nor a transaction is held. What others add once the
        first page was read, or remove before its page is read, is not seen, unless what they
        add has taken the place of the rest. The iterator belongs to one thread. Raises
        ConflictError where the history was replaced meanwhile: what was read is no beginning
        of what is there. Raises ValueError and TypeError as get_items() does.
        """
        return self._history.records(limit)

    def fork(self, new_id: str, *, upto: int | None = None) -> Session:
        """Copy the history, up to the record with id upto, into a new conversation, and return its handle.

        The database copies, in one transaction: texts and times as they are, the ids are
        new ones. The handle shares this one's backend. Raises ConflictError when new_id
        is there already or no record here has the id upto, OutcomeUnknownError when the
        connection was lost before the answer came.
        """
        new_id = checked_session_id(new_id)
        self._history.fork(new_id, upto=upto)
        return Session(new_id, self._history.store)

    def delete_record(self, record_id: int) -> bool:
        """Delete the row with this id, readable or not; False when this conversation has none."""
        return self._history.delete_record(record_id)

    def replace_record(self, record_id: int, item: Mapping[str, Any]) -> None:
        """Put an item in place of the one in the row with this id, which keeps its place and its time.

        Raises ConflictError when this conversation has no such row (any more),
        InvalidItemError as add_items() does, and OutcomeUnknownError when the connection
        was lost and somebody has written since.
        """
        self._history.replace_record(record_id, item)

    def seal(self) -> str:
        """Return a small value that stands for the history as it is, and holds nothing of the items.

        Kept where whoever can write the database cannot, it lets verify(since=...) notice a history that is an
        earlier one, or that was changed since. Raises ConfigurationError without an integrity_key, SealBrokenError
        when the end is not as it was written.
        """
        return self._history.seal()

    def verify(self, since: str | None = None) -> Verified:
        """Look at every row by its seal, and return how many there are.

        Raises SealBrokenError when one is not as it was written under the integrity_key, or, with since, when the
        history does not go on from the one that seal() was asked of: nor does it after replace_items(),
        clear_session(), a change of records, a pop_item() of what was there, or one of the keys. Raises
        ValueError for what is no seal of this conversation, ConfigurationError without an integrity_key. Rows are
        read in pages, in constant memory.
        """
        return self._history.verify(since)

    def exclusive(self, *, timeout: float = 30.0, lease: float = 60.0) -> AbstractContextManager[None]:
        """Have the conversation alone among those who ask for it so, for a block.

        Waits until nobody else is in such a block on it, in whatever process and on whatever
        machine, and raises BusyError after timeout seconds, or at once in a block of this
        handle's. The lease lasts for lease seconds of the database's clock, and is renewed in
        the background and by each write. Another one takes it over when it has expired, because this
        process was killed or held up. From then on a write through this handle writes nothing and raises
        LeaseLostError, as does the end of the block. Other handles are not held up.
        Where no thread can be started, and on a connection of the application, writes alone renew it:
        let lease be longer than the longest pause between two. A block that is forgotten holds nothing.
        """
        check_seconds("timeout", timeout, zero=True)
        check_seconds("lease", lease, zero=False)
        return Exclusive(self._history, timeout=timeout, lease=lease)

    @property
    def session_settings(self) -> None:
        """None: the session has no settings of the OpenAI Agents SDK, which asks before anything else.

        Raises ConfigurationError when it is asked by an SDK that is too old to use a synchronous session.
        """
        check_direct_use()


class InMemorySession(Session):
    """A conversation in the memory of this process, with the contract of the databases."""

    def __init__(self, session_id: str, *, default_limit: int | None = None, whole_turns: bool = False) -> None:
        options: Keywords = {"default_limit": default_limit, "whole_turns": whole_turns}
        super().__init__(session_id, open_url("memory:", options), owns_store=True)

    @classmethod
    def from_url(cls, session_id: str, url: str, **options: Unpack[Keywords]) -> NoReturn:  # noqa: ARG003
        """Raise TypeError: a conversation in memory has no URL."""
        raise TypeError(
            "an InMemorySession has no URL; write sessions.InMemorySession(session_id), "
            "or sessions.Session.from_url(session_id, url)"
        )


def checked_session_id(session_id: object) -> str:
    """Return the exact text of an id; raise TypeError or ValueError for what is no id of a session."""
    session_id = known_session_id(session_id)
    if not 1 <= len(session_id) <= _MAX_SESSION_ID:
        raise ValueError(f"session_id has {len(session_id)} characters; use 1 to {_MAX_SESSION_ID}")
    return session_id


def known_session_id(session_id: object) -> str:
    """Return the exact text of an id that another program may have made: of any length, also none."""
    session_id = plain(session_id)
    if not isinstance(session_id, str):
        raise TypeError(f"session_id is a {kind_of(session_id)}; pass a str")
    if "\0" in session_id:
        raise ValueError(f"session_id {session_id!r} contains a NUL character; remove it")
    if not session_id.isascii():
        try:
            session_id.encode()
        except UnicodeEncodeError:
            raise ValueError(f"session_id {session_id!r} contains a lone surrogate; use valid Unicode") from None
    return session_id
