"""on_conflict: two runs on one conversation, interleaved or made visible."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import sessions
from openai_agents.scripted import add, agent, run, tool_call, words
from sessions.openai_agents import AgentsSession
from support.claims import refused


def _message(number: int) -> dict[str, Any]:
    return {"role": "user", "content": str(number)}


def _guarded(backend: Any) -> AgentsSession:
    return AgentsSession(backend.session("chat"), on_conflict="raise")


@pytest.mark.parametrize("shared", [False, True], ids=["sessions of their own", "one session"])
async def test_the_second_to_write_is_told_and_writes_nothing(backend: Any, shared: bool) -> None:
    handle = backend.session("chat")
    first, second = (
        AgentsSession(handle if shared else backend.session("chat"), on_conflict="raise") for _ in range(2)
    )
    await first.get_items()
    await second.get_items()
    await first.add_items([_message(1)])
    with pytest.raises(sessions.ConflictError):
        await second.add_items([_message(2)])
    assert await first.get_items() == [_message(1)]
    # Having read again it may go on.
    assert await second.get_items() == [_message(1)]
    await second.add_items([_message(2)])
    with pytest.raises(sessions.ConflictError):
        await first.add_items([_message(3)])


async def test_of_many_writers_at_once_exactly_one_wins(backend: Any) -> None:
    writers = [_guarded(backend) for _ in range(8)]
    for writer in writers:
        await writer.get_items()
    outcomes = await asyncio.gather(
        *(writer.add_items([_message(number)]) for number, writer in enumerate(writers)),
        return_exceptions=True,
    )
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, sessions.ConflictError) for outcome in outcomes) == 7
    assert len(await writers[0].get_items()) == 1


async def test_a_number_counted_up_by_many_writers_skips_and_repeats_nothing(backend: Any) -> None:
    async def count_up(times: int) -> None:
        writer = _guarded(backend)
        while times:
            seen = await writer.get_items(limit=1)
            number = int(seen[0]["content"]) if seen else 0
            with contextlib.suppress(sessions.ConflictError):
                await writer.add_items([_message(number + 1)])
                await writer.add_items([_message(number + 2)])  # without reading again
                times -= 1

    await asyncio.gather(*(count_up(5) for _ in range(4)))
    numbers = [int(item["content"]) for item in backend.session("chat").get_items()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 40


async def test_a_writer_is_not_in_its_own_way(backend: Any) -> None:
    adapter = _guarded(backend)
    await adapter.get_items()
    await adapter.add_items([_message(1), _message(2)])
    await adapter.add_items([])
    await adapter.add_items([_message(3)])
    assert await adapter.pop_item() == _message(3)
    await adapter.add_items([_message(4)])
    await adapter._atomic_replace_items([_message(5)])
    await adapter.add_items([_message(6)])
    assert await adapter.get_items(limit=1) == [_message(6)]
    await adapter.add_items([_message(7)])
    await adapter.clear_session()
    await adapter.add_items([_message(8)])
    assert await adapter.get_items() == [_message(8)]


@pytest.mark.parametrize("limit", [0, 1, None])
async def test_a_limited_read_counts_as_seen(backend: Any, limit: int | None) -> None:
    adapter = _guarded(backend)
    backend.session("chat").add_items([_message(1), _message(2)])
    await adapter.get_items(limit=limit)
    await adapter.add_items([_message(3)])
    backend.session("chat").add_items([_message(4)])
    with pytest.raises(sessions.ConflictError):
        await adapter.add_items([_message(5)])


async def test_replacing_what_another_has_continued_is_refused(backend: Any) -> None:
    adapter = _guarded(backend)
    await adapter.add_items([_message(1)])
    await adapter.get_items()
    backend.session("chat").add_items([_message(2)])
    with pytest.raises(sessions.ConflictError):
        await adapter._atomic_replace_items([_message(3)])
    assert await adapter.get_items() == [_message(1), _message(2)]


def test_without_a_read_nothing_is_compared(backend: Any) -> None:
    backend.session("chat").add_items([_message(1)])
    asyncio.run(_guarded(backend).add_items([_message(2)]))
    assert backend.session("chat").get_items() == [_message(1), _message(2)]


# --- two real runs: the second starts while the first one's model thinks


async def _overtaken(backend: Any, how: str, **options: Any) -> None:
    async def slowly() -> str:
        other, _ = agent("quick answer")
        await run(how, other, "quick question", session=AgentsSession(backend.session("chat"), **options))
        return "slow answer"

    slow, _ = agent(slowly)
    await run(how, slow, "slow question", session=AgentsSession(backend.session("chat"), **options))


@pytest.mark.parametrize("how", ["run", "run_streamed"])
async def test_a_run_that_was_overtaken_ends_with_the_conflict(backend: Any, how: str) -> None:
    with pytest.raises(sessions.ConflictError):
        await _overtaken(backend, how, on_conflict="raise")
    history = words(backend.session("chat").get_items())
    assert "slow answer" not in history
    assert history[-2:] == ["quick question", "quick answer"]


@pytest.mark.parametrize("how", ["run", "run_streamed"])
async def test_append_keeps_both_runs_as_the_sdks_sessions_do(backend: Any, how: str) -> None:
    await _overtaken(backend, how)
    history = words(backend.session("chat").get_items())
    assert sorted(history) == ["quick answer", "quick question", "slow answer", "slow question"]


@pytest.mark.parametrize("how", ["run", "run_streamed"])
async def test_an_undisturbed_run_with_tools_meets_no_conflict(backend: Any, how: str) -> None:
    adapter = _guarded(backend)
    calls = [tool_call("add", '{"a": 1, "b": 2}', call_id=f"call_{n}") for n in range(3)]
    assistant, _ = agent(*calls, "3, three times", "You are welcome.", tools=[add])
    await run(how, assistant, "1 + 2?", session=adapter)
    await run(how, assistant, "Thanks", session=adapter)
    assert len(await adapter.get_items()) == 10


# --- what counts as seen: what was delivered, and nothing that is older


class _HeldReads:
    """Reads that have their rows, and wait before they say so."""

    def __init__(self, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.released = threading.Event(), threading.Event()
        store = backend.session("chat")._history.store
        self._read = store.newest_rows
        self._patch = monkeypatch.context()
        self._patch.__enter__().setattr(store, "newest_rows", self._hold)

    def _hold(self, *arguments: Any, **named: Any) -> Any:
        rows = self._read(*arguments, **named)
        self.begun.set()
        assert self.released.wait(60)
        return rows

    async def begin(self, adapter: AgentsSession) -> asyncio.Task[Any]:
        """A read at work in its thread; those after it are not held."""
        task = asyncio.create_task(adapter.get_items())
        assert await asyncio.to_thread(self.begun.wait, 60)
        self._patch.__exit__(None, None, None)
        return task


async def test_a_cancelled_read_counts_for_nothing(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, threads = _guarded(backend), ThreadPoolExecutor()
    asyncio.get_running_loop().set_default_executor(threads)
    await adapter.add_items([_message(1)])
    backend.session("chat").add_items([_message(2)])
    held = _HeldReads(backend, monkeypatch)
    read = await held.begin(adapter)
    read.cancel()
    with pytest.raises(asyncio.CancelledError):
        await read
    held.released.set()
    threads.shutdown()  # the read has ended in its thread
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
    with pytest.raises(sessions.ConflictError):
        await adapter.add_items([_message(3)])
    assert await adapter.get_items() == [_message(1), _message(2)]


@pytest.mark.parametrize("meanwhile", ["add_items", "get_items", "pop_item", "replace_items"])
async def test_a_late_read_does_not_set_the_position_back(
    backend: Any, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    adapter = _guarded(backend)
    await adapter.add_items([_message(1), _message(2)])
    held = _HeldReads(backend, monkeypatch)
    read = await held.begin(adapter)
    if meanwhile == "add_items":
        await adapter.add_items([_message(3)])
    elif meanwhile == "get_items":
        backend.session("chat").add_items([_message(3)])
        await adapter.get_items()
    elif meanwhile == "pop_item":
        await adapter.pop_item()
    else:
        await adapter._atomic_replace_items([_message(3)])
    held.released.set()
    assert await read == [_message(1), _message(2)]
    await adapter.add_items([_message(4)])
    assert (await adapter.get_items())[-1] == _message(4)


async def test_a_pop_behind_ones_own_is_seen(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = _guarded(backend)
    await adapter.add_items([_message(1), _message(2), _message(3)])
    store = backend.session("chat")._history.store
    pop = store.pop

    def overtaken(session_id: str, **options: Any) -> Any:
        answer = pop(session_id, **options)
        pop(session_id, **options)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(store, "pop", overtaken)
        assert await adapter.pop_item() == _message(3)
    with pytest.raises(sessions.ConflictError):
        await adapter.add_items([_message(4)])
    assert await adapter.get_items() == [_message(1)]


class Redacting(sessions.Session):
    def add_items(self, items: Any, *, if_position: int | None = None) -> None:
        super().add_items([{**item, "content": "redacted"} for item in items], if_position=if_position)


class Named(sessions.Session):
    """A subclass that reads and writes as ours."""


def _patched(url: str) -> sessions.Session:
    session = sessions.Session.from_url("chat", url)
    session.replace_items = lambda items, *, if_position=None: None  # type: ignore[method-assign]
    return session


@pytest.mark.parametrize(
    "open_session", [lambda url: Redacting.from_url("chat", url), _patched], ids=["a subclass", "an attribute"]
)
async def test_a_session_with_methods_of_its_own_is_not_gone_past(sqlite_url: str, open_session: Any) -> None:
    with open_session(sqlite_url) as session:
        with refused(sessions.ConfigurationError, match=r"would go past (add|replace)_items\(\)"):
            AgentsSession(session, on_conflict="raise")
        await AgentsSession(session).add_items([_message(1)])
        assert len(await AgentsSession(session).get_items()) == 1


async def test_a_subclass_that_reads_and_writes_as_ours_is_guarded(sqlite_url: str) -> None:
    with Named.from_url("chat", sqlite_url) as session:
        adapter = AgentsSession(session, on_conflict="raise")
        await adapter.get_items()
        session.add_items([_message(1)])
        with pytest.raises(sessions.ConflictError):
            await adapter.add_items([_message(2)])
