"""Let the OpenAI Agents SDK use a session: its async Session protocol over ours.

Nothing of the SDK is imported before the SDK asks for something of its own, so that
this module costs nothing in a process that never runs an agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack

from ._awaiting import finished, read
from ._exclusive import Hold
from ._items import MAX_ID, Item
from ._leases import blocks, check_seconds
from ._listing import check_count
from ._sdk import RunLimit, settings_from
from ._settings.options import Keywords
from ._turns import whole_turns
from .errors import ConfigurationError, kind_of
from .session import Session

if TYPE_CHECKING:
    from agents import RunContextWrapper
    from agents.memory import SessionSettings

    Wrapper = RunContextWrapper[Any] | None
else:
    # For typing.get_type_hints(), without the second that the SDK takes to import.
    SessionSettings = Wrapper = Any

OnConflict = Literal["append", "raise"]

_Answer = TypeVar("_Answer")


class AgentsSession:
    """One conversation, as the SDK's Runner and its session wrappers want it.

    Each call runs in a thread, so that the event loop never waits for the database. A
    write that has begun is finished before a cancellation goes on: the history is never
    left in doubt. So is a read on a connection of the application (sessions.bind), which
    is free again when the call ends.

    With on_conflict="raise" each write must follow what this object last read or wrote,
    else it raises ConflictError and writes nothing. Give every run an object of its own
    then: two runs that share one also share what it has seen. It calls none of the session's
    methods, so one whose class has others in their place is refused with a ConfigurationError.

    Closing it closes the session.
    """

    def __init__(
        self,
        session: Session,
        *,
        on_conflict: OnConflict = "append",
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(session, Session):
            raise TypeError(
                f"session is a {kind_of(session)}, not a sessions.Session; "
                "write AgentsSession.from_url(session_id, url), or AgentsSession(backend.session(session_id))"
            )
        if on_conflict not in ("append", "raise"):
            raise ConfigurationError(f"on_conflict is {on_conflict!r}; use 'append' or 'raise'")
        if on_conflict == "raise":
            _check_is_plain(session)
        self.session = session
        self.session_id = session.session_id
        # Every answer with its position, which the session itself does not show.
        self._history = session._history  # noqa: SLF001
        self._guarded = on_conflict == "raise"
        # What the next write must follow, and the turn of the call that has told it.
        self._position: int | None = None
        self._turn = self._told_by = 0
        self._settings: SessionSettings | None = None
        if session_settings is not None:
            self._settings = settings_from(session_settings)

    @classmethod
    def from_url(
        cls,
        session_id: str,
        url: str,
        *,
        on_conflict: OnConflict = "append",
        session_settings: SessionSettings | dict[str, Any] | None = None,
        **options: Unpack[Keywords],
    ) -> AgentsSession:
        """Open a session of its own by URL; the options are those of sessions.connect."""
        session = Session.from_url(session_id, url, **options)
        return cls(session, on_conflict=on_conflict, session_settings=session_settings)

    if TYPE_CHECKING:
        # As the SDK's protocol has it: a property is none to those who check types strictly.
        session_settings: SessionSettings | None
    else:

        @property
        def session_settings(self) -> SessionSettings | None:
            """What get_items uses when it is called without a limit: the SDK's own settings, empty at first."""
            if self._settings is None:
                self._settings = settings_from({})
            return self._settings

        @session_settings.setter
        def session_settings(self, value: SessionSettings | dict[str, Any] | None) -> None:
            self._settings = None if value is None else settings_from(value)

    # The SDK names its items by sixty TypedDicts; to us they are JSON objects, hence Any. wrapper is the run's
    # context, which the SDK passes to sessions that declare it: a subclass may choose by it.

    async def get_items(self, limit: int | None = None, *, wrapper: Wrapper = None) -> list[Any]:
        """Return the newest items, oldest first; without any limit all of them.

        whole_turns of the backend applies to what a run is to see: to a call without a limit, and to the limit of
        RunConfig or of the session's settings. With any other limit they come as they are: with such the SDK looks
        whether what it has written is there.
        """
        is_a_runs = limit is None or isinstance(limit, RunLimit)
        if limit is None and self._settings is not None:
            limit = self._settings.limit
        # Said only where it has to be: a subclass of Session may know nothing of it.
        how: dict[str, Any] = {} if is_a_runs or not self._history.store.options.whole_turns else {"whole_turns": False}
        if not self._guarded:
            return await read(self._history.store, partial(self.session.get_items, limit, **how))
        turn = self._next_turn()
        items, position = await read(self._history.store, partial(self._history.get, limit, **how))
        # Not in the thread: a read that was cancelled has told nobody anything. Nor has one that began before a
        # later call ended.
        if turn > self._told_by:
            self._position, self._told_by = position, turn
        return items

    async def add_items(self, items: list[Any], *, wrapper: Wrapper = None) -> None:
        """Append the items, all of them or none."""
        if self._guarded and items:
            await self._write(partial(self._history.add, items, if_position=self._position))
        else:
            await self._finished(self.session.add_items, items)

    async def pop_item(self, *, wrapper: Wrapper = None) -> Any:
        """Remove the newest item and return it; None when there is none."""
        if not self._guarded:
            return await self._finished(self.session.pop_item)
        popped: list[Item | None] = []

        def pop() -> int:
            known = self._position
            item, position = self._history.pop()
            popped.append(item)
            # What others have added below it has not been read: the next write is still to follow what was.
            return position if known is None else min(position, known)

        await self._write(pop)
        return popped[0]

    async def clear_session(self, *, wrapper: Wrapper = None) -> None:
        """Remove the whole history."""
        if not self._guarded:
            await self._finished(self.session.clear_session)
            return

        def clear() -> int:
            self._history.clear()
            return 0

        await self._write(clear)

    def exclusive(self, *, timeout: float = 30.0, lease: float = 60.0) -> AbstractAsyncContextManager[None]:
        """Have the conversation alone for a block, as Session.exclusive() does; the event loop never waits.

        A run within it reads and writes under the lease, also through the SDK's wrappers of this session.
        """
        check_seconds("timeout", timeout, zero=True)
        check_seconds("lease", lease, zero=False)
        return self._exclusive(timeout, lease)

    @asynccontextmanager
    async def _exclusive(self, seconds: float, lease: float) -> AsyncIterator[None]:
        hold = Hold(self._history, lease)
        try:
            hold.claim()
            pauses = hold.pauses(seconds)
            # Not one call for all the time, which a cancellation would wait for.
            while not await finished(hold.take):  # noqa: ASYNC110  (what is waited for is in a database)
                await asyncio.sleep(next(pauses))
            hold.note_in_context(asyncio.current_task())
            try:
                yield
            finally:
                hold.forget_in_context()
        except GeneratorExit:
            # The loop was closed under the run: nothing can be awaited any more.
            hold.forget()
            raise
        except BaseException as exc:
            await finished(hold.end, exc)
            raise
        await finished(hold.end, None)

    async def _atomic_replace_items(self, items: list[Any]) -> bool:
        """Put the items in the place of the whole history.

        The SDK's compaction looks for this name; without it, or when this is False, it clears
        and appends, and a crash in between loses the conversation.
        """
        if type(self) is not AgentsSession:
            return False  # a subclass may change what add_items stores
        if self._guarded:
            await self._write(partial(self._history.replace, items, if_position=self._position))
        else:
            await self._finished(self.session.replace_items, items)
        return True

    async def _read_compaction_items(self, limit: int | None) -> tuple[list[Any], bool]:
        """Return what is to be summed up, and whether that is all.

        The SDK looks for this name; without it, a compaction that is called by hand puts a summary of what a run would
        see in the place of the whole history.
        """
        items = await self.get_items(MAX_ID if limit is None else int(limit))
        return items, limit is not None and len(items) < limit

    async def _get_compaction_snapshot(self, limit: int, *, prune_prefix: object = None, **others: object) -> Any:
        """Return the newest items, of which the last ones are replaced if they still are what was read.

        The SDK's automatic compaction looks for this name; without it, it takes what others have written while the
        summary was made for a part of what that sums up. What it would prune before them, since EncryptedSession's ttl
        is over, stays, as it does without a compaction.
        """
        # A subclass may change what is read and written; and a later SDK may want more.
        if type(self) is not AgentsSession or type(self.session) is not Session or others:
            return None
        from agents.memory.session import _CompactionSnapshot

        rows, items, complete = await read(self._history.store, self._history.newest, limit)
        shown: list[Any] = items

        async def replace_suffix(start: int, items: list[Any]) -> bool:
            def done(position: int | None) -> None:
                if position is not None:
                    self._position, self._told_by = position, self._next_turn()

            return await self._finished(self._history.replace_newest, rows[start:], items, done=done) is not None

        return _CompactionSnapshot(shown, complete, replace_suffix)

    async def _write(self, work: Callable[[], int]) -> None:
        """Do a guarded write, which returns the position that it reached."""

        def done(position: int) -> None:
            self._position, self._told_by = position, self._next_turn()

        await self._finished(work, done=done)

    async def _finished(
        self, work: Callable[..., _Answer], *arguments: Any, done: Callable[[_Answer], None] = lambda _: None
    ) -> _Answer:
        """Do a write, whose thread has this context: the blocks that this very task has entered end where they end."""
        task = asyncio.current_task()
        entered = blocks.set(tuple(block for block in blocks.get() if block.task() is not task))
        try:
            return await finished(work, *arguments, done=done)
        finally:
            blocks.reset(entered)

    def _next_turn(self) -> int:
        self._turn += 1
        return self._turn

    def close(self) -> None:
        """Close the session; as in the SDK's SQLiteSession, not awaited."""
        self.session.close()

    async def __aenter__(self) -> AgentsSession:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await finished(self.close)

    def __repr__(self) -> str:
        return f"AgentsSession({self.session!r})"


def keep_whole_turns(limit: int) -> Callable[[list[Any], list[Any]], list[Any]]:
    """Make a session_input_callback for RunConfig: the newest limit items that are whole turns, then the new ones.

    It bounds what the model sees of any session of the SDK; an AgentsSession that was opened with
    whole_turns=True does so by itself, and reads no more than that.
    """
    check_count("limit", limit)

    def newest_turns(history: list[Any], new: list[Any]) -> list[Any]:
        return whole_turns(history[-limit:], is_all=len(history) <= limit) + new

    return newest_turns


def _check_is_plain(session: Session) -> None:
    """Raise ConfigurationError for a session that does something else than what is done past its methods."""
    for name in ("get_items", "add_items", "pop_item", "clear_session", "replace_items"):
        if getattr(getattr(session, name), "__func__", None) is not getattr(Session, name):
            raise ConfigurationError(
                f"on_conflict='raise' would go past {name}() of the {kind_of(session)}; use 'append', "
                "or do what it does in a subclass of AgentsSession"
            )
