"""One run at a time on a conversation: the block that a run of the SDK is in."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
from agents import Runner
from agents.extensions.memory import EncryptedSession

import sessions
from openai_agents.scripted import agent, run, words
from sessions.openai_agents import AgentsSession
from support.rivals import eventually
from support.samples import items


def _adapter(backend: Any) -> AgentsSession:
    return AgentsSession(backend.session("chat"))


async def test_runs_at_once_follow_one_another(backend: Any) -> None:
    async def answer(number: int) -> None:
        session = _adapter(backend)
        async with session.exclusive(timeout=60):
            await run("run", agent(f"answer {number}")[0], f"question {number}", session=session)

    await asyncio.gather(*(answer(number) for number in range(4)))
    history = backend.session("chat").get_items()
    assert [entry["role"] for entry in history] == ["user", "assistant"] * 4
    told = words(history)
    assert told[1::2] == [question.replace("question", "answer") for question in told[::2]]


async def test_who_waits_keeps_no_thread_from_who_has_it(backend: Any) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    first, others = _adapter(backend), [_adapter(backend) for _ in range(4)]

    async def wait(session: AgentsSession) -> list[Any]:
        async with session.exclusive(timeout=60):
            return await session.get_items()

    async with first.exclusive():
        waiting = [asyncio.ensure_future(wait(other)) for other in others]
        for number in range(5):
            await first.add_items(items(str(number)))
    assert [len(read) for read in await asyncio.gather(*waiting)] == [5] * 4


async def test_a_second_run_gets_a_busy_error_before_a_model_is_asked(backend: Any) -> None:
    asked = []
    async with _adapter(backend).exclusive():
        with pytest.raises(sessions.BusyError):
            async with _adapter(backend).exclusive(timeout=0):
                asked.append(1)
    assert asked == []


async def test_a_run_whose_lease_was_lost_ends_with_that(backend: Any) -> None:
    session = _adapter(backend)

    async def answer() -> None:
        async with session.exclusive():
            history = session.session._history
            lease = history._lease()
            assert lease is not None
            history.store.release_lease(lease)
            await run("streamed", agent("an answer")[0], "a question", session=session)

    with pytest.raises(sessions.LeaseLostError):
        await answer()
    assert backend.session("chat").get_items() == []


@pytest.mark.parametrize("waits", [False, True], ids=["within", "while it waits"])
async def test_who_is_cancelled_gives_it_back(backend: Any, *, waits: bool) -> None:
    first, second = _adapter(backend), _adapter(backend)
    entered = asyncio.Event()

    async def stay() -> None:
        async with second.exclusive(timeout=60):
            entered.set()
            await asyncio.Event().wait()

    async with first.exclusive() if waits else nullcontext():
        task = asyncio.ensure_future(stay())
        await (asyncio.sleep(0) if waits else entered.wait())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    for adapter in (first, second):
        async with adapter.exclusive(timeout=0):
            pass


@pytest.mark.parametrize("waits", [False, True], ids=["within", "while it waits"])
@pytest.mark.parametrize("another", [False, True], ids=["no loop", "another loop"])
def test_a_loop_that_is_closed_under_a_run_ends_its_lease(backend: Any, *, waits: bool, another: bool) -> None:
    dead, second = _adapter(backend), backend.session("chat")

    async def stay() -> None:
        async with dead.exclusive(timeout=3600, lease=3600):
            await asyncio.Event().wait()

    async def begin() -> None:
        tasks.append(asyncio.ensure_future(stay()))
        while (hold := dead._history.block()) is None or not getattr(hold, seen):  # noqa: ASYNC110
            await asyncio.sleep(0)

    def is_collected() -> bool:
        gc.collect()
        hold = dead._history.block()
        return hold is None or hold.is_over

    async def collect() -> bool:
        return eventually(is_collected)

    tasks: list[Any] = []
    seen = "_asked" if waits else "_taken"
    with second.exclusive() if waits else nullcontext():
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin())
        loop.close()
        del loop
        tasks.clear()
        assert asyncio.run(collect()) if another else eventually(is_collected)
    with second.exclusive(timeout=60), pytest.raises(sessions.BusyError), backend.session("chat").exclusive(timeout=0):
        pass
    with dead.session.exclusive(timeout=60):
        pass
    assert eventually(lambda: "sessions-lease" not in [thread.name for thread in threading.enumerate()])


async def test_wrappers_of_the_sdk_write_under_it(backend: Any) -> None:
    session = _adapter(backend)
    encrypted = EncryptedSession("chat", session, encryption_key="a key")  # type: ignore[arg-type]
    async with session.exclusive():
        await run("run", agent("an answer")[0], "a question", session=encrypted)
        assert len(await encrypted.get_items()) == 2


async def test_times_that_mean_nothing_are_refused_at_once(backend: Any) -> None:
    with pytest.raises(ValueError, match="timeout"):
        _adapter(backend).exclusive(timeout=-1)
    with pytest.raises(TypeError, match="lease"):
        _adapter(backend).exclusive(lease=None)  # type: ignore[arg-type]


async def test_a_task_that_goes_on_behind_its_block_writes_nothing(backend: Any) -> None:
    session, left = _adapter(backend), asyncio.Event()

    async def go_on() -> None:
        await session.add_items(items("in the block"))
        began.set()
        await left.wait()
        await session.add_items(items("too late"))

    began = asyncio.Event()
    async with session.exclusive():
        late = asyncio.ensure_future(go_on())
        await began.wait()
    async with _adapter(backend).exclusive():
        left.set()
        with pytest.raises(sessions.LeaseLostError, match=r"cancel it with result\.cancel\(\)"):
            await late
    # Whoever has left it goes on with its handle, also in another block.
    await session.add_items(items("behind it"))
    async with session.exclusive():
        await session.add_items(items("in the next one"))
    assert words(backend.session("chat").get_items()) == ["in the block", "behind it", "in the next one"]


async def test_a_streamed_run_that_is_left_early_mixes_with_no_other(backend: Any) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def answer() -> str:
        asked.set()
        await answered.wait()
        return "too late"

    first = _adapter(backend)
    async with first.exclusive():
        streamed = Runner.run_streamed(agent(answer)[0], "first", session=first)
        await asked.wait()
    second = _adapter(backend)
    async with second.exclusive():
        answered.set()
        with pytest.raises(sessions.LeaseLostError):
            async for _ in streamed.stream_events():
                pass
        await run("run", agent("two")[0], "second", session=second)
    assert words(backend.session("chat").get_items()) == ["first", "second", "two"]


async def test_who_leaves_a_generator_with_a_block_in_it_goes_on(backend: Any) -> None:
    session = _adapter(backend)

    async def answers() -> AsyncIterator[str]:
        async with session.exclusive():
            for answer in ("one", "two"):
                await session.add_items(items(answer))
                yield answer

    async for _ in answers():
        break
    gc.collect()
    # The event loop ends the generator, in a task of its own.
    async with _adapter(backend).exclusive(timeout=60):
        pass
    await session.add_items(items("behind it"))
    assert words(backend.session("chat").get_items()) == ["one", "behind it"]
