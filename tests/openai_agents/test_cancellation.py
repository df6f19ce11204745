"""What a cancellation waits for: a write that has begun, and on a bound connection a read."""

import asyncio
import selectors
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

import sessions
from embedding.application import connected, orders, place_order, prepare
from sessions.openai_agents import AgentsSession, OnConflict
from support.holding import Held
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


async def _begin(session: _Held, call: Callable[[AgentsSession], Any]) -> asyncio.Future[Any]:
    """The call's task, at work in its thread."""
    task: asyncio.Future[Any] = asyncio.ensure_future(call(AgentsSession(session)))
    assert await asyncio.to_thread(session.begun.wait, 60)
    return task


@pytest.mark.parametrize("cancelled", ["again and again", "with every task"])
async def test_a_cancelled_write_is_finished_first(write: Any, cancelled: str) -> None:
    call, expected = write
    session = _Held("chat")
    sessions.Session.add_items(session, [_ITEM])
    task = await _begin(session, call)
    if cancelled == "with every task":  # as a framework, or asyncio.run() itself, does when it shuts down
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
    for _ in range(3):
        if cancelled == "again and again":
            task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    session.released.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert session.get_items() == expected


class _Turns(selectors.DefaultSelector):
    """Counts how often the loop has looked for what to do next."""

    count = 0

    def select(self, timeout: float | None = None) -> Any:
        self.count += 1
        return super().select(timeout)


def test_the_loop_rests_while_a_write_that_a_scope_of_anyio_has_cancelled_is_finished(write: Any) -> None:
    """It cancels a task anew in each turn of the loop, which Starlette's middleware and move_on_after() both do."""
    call, expected = write
    session = _Held("chat")
    sessions.Session.add_items(session, [_ITEM])
    turns = _Turns()

    async def scenario() -> None:
        outcomes: list[str] = []
        with anyio.CancelScope() as scope:
            loop = asyncio.get_running_loop()
            task = asyncio.current_task()
            loop.call_soon(scope.cancel)
            loop.call_later(0.2, session.released.set)
            try:
                await call(AgentsSession(session))
            except asyncio.CancelledError:
                outcomes.append("cancelled")
                raise
        assert scope.cancelled_caught
        assert outcomes == ["cancelled"]
        assert task is not None
        assert not task.cancelling()
        assert turns.count < 100
        await asyncio.sleep(0)  # it goes on
        assert session.get_items() == expected

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner:
        runner.run(scenario())


def test_a_failure_behind_a_cancellation_is_its_cause_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    reports: list[Any] = []

    class Failing(_Held):
        def clear_session(self) -> None:
            self._wait()
            raise sessions.DatabaseError("the disk is gone")

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        session = Failing("chat")
        task = await _begin(session, lambda adapter: adapter.clear_session())
        task.cancel()
        await asyncio.sleep(0)
        session.released.set()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        assert isinstance(cancelled.value.__cause__, sessions.DatabaseError)

    asyncio.run(scenario())
    assert reports == []
    assert caplog.messages == ["a call that was cancelled has failed: the disk is gone"]


async def test_a_failure_without_a_cancellation_is_raised() -> None:
    with sessions.InMemorySession("chat") as session, pytest.raises(sessions.InvalidItemError):
        await AgentsSession(session).add_items([{"bad": float("nan")}])


async def test_a_time_limit_lets_the_write_finish(sql_url: str) -> None:
    # The parent row is locked by another program; the write waits for it in its thread.
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


@pytest.mark.parametrize("on_conflict", ["append", "raise"])
async def test_a_cancelled_read_is_over_before_its_bound_connection_is_used_again(
    sql_url: str, monkeypatch: pytest.MonkeyPatch, on_conflict: OnConflict
) -> None:
    prepare(sql_url)
    with connected(sql_url, check_same_thread=False) as connection:
        place_order(connection, 1)  # it has begun a transaction
        adapter = AgentsSession(sessions.bind(connection).session("chat"), on_conflict=on_conflict)
        read = Held(monkeypatch, adapter._history.store, "newest_rows")
        task = asyncio.ensure_future(adapter.get_items())
        assert await asyncio.to_thread(read.begun.wait, 60)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
        read.released.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        connection.rollback()
        place_order(connection, 2)
        connection.commit()
    assert orders(sql_url) == [2]


async def test_a_cancelled_read_on_a_connection_of_ours_is_left_to_itself(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = AgentsSession(backend.session("chat"))
    read = Held(monkeypatch, adapter._history.store, "newest_rows")
    task = asyncio.ensure_future(adapter.get_items())
    assert await asyncio.to_thread(read.begun.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    read.released.set()


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
