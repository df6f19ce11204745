"""A write that has begun is finished before the cancellation of its caller goes on."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import sessions
from sessions.openai_agents import AgentsSession
from support.servers import connect_raw, dialect_of

_ITEM = {"role": "user", "content": "Hello"}

_WRITES: dict[str, tuple[Callable[[AgentsSession], Any], list[Any]]] = {
    "add_items": (lambda adapter: adapter.add_items([_ITEM]), [_ITEM, _ITEM]),
    "pop_item": (lambda adapter: adapter.pop_item(), []),
    "clear_session": (lambda adapter: adapter.clear_session(), []),
    "replace_items": (lambda adapter: adapter._atomic_replace_items([]), []),
}


class _Held(sessions.InMemorySession):
    """Writes wait until they are released, and say when they have begun."""

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id)
        self.begun = threading.Event()
        self.released = threading.Event()

    def _wait(self) -> None:
        self.begun.set()
        assert self.released.wait(60)


def _held(name: str) -> Callable[..., Any]:
    def method(self: _Held, *arguments: Any, **named: Any) -> Any:
        self._wait()
        return getattr(super(_Held, self), name)(*arguments, **named)

    return method


@pytest.fixture(params=_WRITES)
def write(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(_Held, request.param, _held(request.param), raising=False)
    return _WRITES[request.param]


async def _begun(session: _Held) -> None:
    assert await asyncio.to_thread(session.begun.wait, 60)


def test_a_cancelled_write_is_finished_first(write: Any) -> None:
    call, expected = write

    async def scenario() -> None:
        session = _Held("chat")
        sessions.Session.add_items(session, [_ITEM])
        task = asyncio.ensure_future(call(AgentsSession(session)))
        await _begun(session)
        for _ in range(3):  # an impatient caller
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
        session.released.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert session.get_items() == expected

    asyncio.run(scenario())


def test_a_write_outlives_the_cancellation_of_every_task(write: Any) -> None:
    """As a framework, or asyncio.run() itself, does when it shuts down."""
    call, expected = write

    async def scenario() -> None:
        session = _Held("chat")
        sessions.Session.add_items(session, [_ITEM])
        task = asyncio.ensure_future(call(AgentsSession(session)))
        await _begun(session)
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        assert not task.done()
        session.released.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert session.get_items() == expected

    asyncio.run(scenario())


def test_a_failure_behind_a_cancellation_stays_quiet() -> None:
    reports: list[Any] = []

    class Failing(_Held):
        def clear_session(self) -> None:
            self._wait()
            raise sessions.DatabaseError("the disk is gone")

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        session = Failing("chat")
        task = asyncio.ensure_future(AgentsSession(session).clear_session())
        await _begun(session)
        task.cancel()
        await asyncio.sleep(0)
        session.released.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert reports == []


def test_a_failure_without_a_cancellation_is_raised() -> None:
    class Failing(sessions.InMemorySession):
        def clear_session(self) -> None:
            raise sessions.DatabaseError("the disk is gone")

    with pytest.raises(sessions.DatabaseError, match="the disk is gone"):
        asyncio.run(AgentsSession(Failing("chat")).clear_session())


def test_a_time_limit_lets_the_write_finish(sql_url: str) -> None:
    """The parent row is locked by another program; the write waits for it in its thread."""

    async def scenario() -> None:
        async with AgentsSession.from_url("chat", sql_url) as adapter:
            await adapter.add_items([_ITEM])
            with _locked(sql_url) as release:
                task = asyncio.ensure_future(asyncio.wait_for(adapter.add_items([_ITEM]), timeout=0.05))
                done, _ = await asyncio.wait({task}, timeout=0.5)
                assert not done
                release()
            with pytest.raises(asyncio.TimeoutError):
                await task
            assert await adapter.get_items() == [_ITEM, _ITEM]
            await adapter.add_items([_ITEM])
            assert len(await adapter.get_items()) == 3

    asyncio.run(scenario())


@contextmanager
def _locked(url: str) -> Iterator[Callable[[], object]]:
    connection = connect_raw(url)
    cursor = connection.cursor()
    try:
        cursor.execute("BEGIN IMMEDIATE" if dialect_of(url) == "sqlite" else "BEGIN")
        cursor.execute("UPDATE agent_sessions SET updated_at = updated_at")
        yield lambda: cursor.execute("COMMIT")
    finally:
        connection.close()
