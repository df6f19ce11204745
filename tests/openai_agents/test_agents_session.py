"""AgentsSession keeps the SDK's Session protocol on every backend."""

import asyncio
import inspect
import subprocess
import sys
import threading
from typing import Any

import agents.memory
import pytest
from agents import RunConfig, Runner
from agents.memory import SessionSettings

import sessions
from openai_agents.scripted import SDK_VERSION, add, agent, run, tool_call, words
from sessions.openai_agents import AgentsSession

_ITEMS = [{"role": "user", "content": str(number)} for number in range(5)]


@pytest.fixture
def adapter(session: sessions.Session) -> AgentsSession:
    return AgentsSession(session)


# --- the shape that the SDK looks for


def test_it_is_a_session_to_the_sdk(adapter: AgentsSession) -> None:
    assert isinstance(adapter, agents.memory.Session)
    assert adapter.session_id == "chat_1"


@pytest.mark.parametrize("name", ["get_items", "add_items", "pop_item", "clear_session"])
def test_methods_are_coroutines_with_the_names_of_the_sdk(name: str) -> None:
    ours = getattr(AgentsSession, name)
    theirs = getattr(agents.memory.Session, name)
    assert inspect.iscoroutinefunction(ours)
    assert list(inspect.signature(ours).parameters) == [*inspect.signature(theirs).parameters, "wrapper"]


@pytest.mark.parametrize("name", ["run_compaction", "__getattr__"])
def test_nothing_is_offered_that_is_not_kept(name: str) -> None:
    assert not hasattr(AgentsSession, name)


def test_the_sdk_is_not_imported_before_it_is_asked_for(sqlite_url: str) -> None:
    script = f"""
import asyncio, sys
from sessions.openai_agents import AgentsSession

async def main():
    async with AgentsSession.from_url("chat", {sqlite_url!r}, on_conflict="raise") as session:
        await session.get_items()
        await session.add_items([{{"role": "user", "content": "Hello"}}])
        assert await session.get_items(limit=1) == [{{"role": "user", "content": "Hello"}}]
        await session.pop_item()
        await session.clear_session()

asyncio.run(main())
assert "agents" not in sys.modules and "openai" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


# --- the four operations


async def test_what_was_added_is_read_popped_and_cleared(adapter: AgentsSession) -> None:
    assert await adapter.get_items() == []
    assert await adapter.pop_item() is None
    await adapter.add_items(_ITEMS[:2])
    await adapter.add_items([])
    await adapter.add_items(_ITEMS[2:])
    assert await adapter.get_items() == _ITEMS
    assert await adapter.pop_item() == _ITEMS[-1]
    await adapter.clear_session()
    assert await adapter.get_items() == []


def test_the_synchronous_session_beneath_sees_the_same(adapter: AgentsSession, session: sessions.Session) -> None:
    asyncio.run(adapter.add_items(_ITEMS))
    assert session.get_items() == _ITEMS
    session.add_items(_ITEMS[:1])
    assert asyncio.run(adapter.get_items()) == [*_ITEMS, _ITEMS[0]]


async def test_a_limit_gives_the_newest_oldest_first(adapter: AgentsSession) -> None:
    await adapter.add_items(_ITEMS)
    for limit, expected in ((0, []), (2, _ITEMS[-2:]), (9, _ITEMS), (2_147_483_647, _ITEMS)):
        assert await adapter.get_items(limit=limit) == expected
        assert await adapter.get_items(limit) == expected


async def test_tasks_of_one_event_loop_may_write_at_once(adapter: AgentsSession) -> None:
    await asyncio.gather(*(adapter.add_items([item, item]) for item in _ITEMS))
    found = await adapter.get_items()
    assert len(found) == 10
    assert found[::2] == found[1::2]


def test_it_may_be_used_from_one_event_loop_after_another(adapter: AgentsSession) -> None:
    for item in _ITEMS:
        asyncio.run(adapter.add_items([item]))
    assert asyncio.run(adapter.get_items()) == _ITEMS


async def test_the_event_loop_goes_on_while_the_database_works() -> None:
    class Waiting(sessions.InMemorySession):
        def get_items(self, limit: int | None = None, *, whole_turns: bool | None = None) -> list[Any]:
            assert turned.wait(60)
            return super().get_items(limit, whole_turns=whole_turns)

    turned = threading.Event()

    asyncio.get_running_loop().call_soon(turned.set)
    assert await AgentsSession(Waiting("chat")).get_items() == []


# --- opening and closing


async def test_from_url_passes_the_options_on(url: str) -> None:
    async with AgentsSession.from_url("chat", url, default_limit=2) as adapter:
        await adapter.add_items(_ITEMS)
        assert await adapter.get_items() == _ITEMS[-2:]
        assert await adapter.get_items(limit=9) == _ITEMS


def test_a_closed_session_refuses_everything(url: str) -> None:
    adapter = AgentsSession.from_url("chat", url)
    adapter.close()
    adapter.close()
    for call in (
        adapter.get_items,
        adapter.pop_item,
        adapter.clear_session,
        lambda: adapter.add_items([]),
        lambda: adapter.add_items(_ITEMS),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            asyncio.run(call())


async def test_a_handle_of_a_backend_leaves_it_open_when_closed(backend: Any) -> None:
    async with AgentsSession(backend.session("chat")) as adapter:
        await adapter.add_items(_ITEMS)
    assert backend.session("chat").get_items() == _ITEMS


@pytest.mark.parametrize("wrong", ["chat", None, object()], ids=["id", "None", "object"])
def test_what_is_no_session_of_ours_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"sessions\.Session"):
        AgentsSession(wrong)


def test_an_unknown_way_with_conflicts_is_refused() -> None:
    with pytest.raises(sessions.ConfigurationError, match="'append' or 'raise'"):
        AgentsSession(sessions.InMemorySession("chat"), on_conflict="ignore")  # type: ignore[arg-type]


# --- settings


async def test_the_limit_of_the_settings_counts_when_none_is_given(session: sessions.Session) -> None:
    adapter = AgentsSession(session, session_settings=SessionSettings(limit=2))
    await adapter.add_items(_ITEMS)
    assert await adapter.get_items() == _ITEMS[-2:]
    assert await adapter.get_items(limit=3) == _ITEMS[-3:]
    adapter.session_settings = SessionSettings(limit=0)
    assert await adapter.get_items() == []
    adapter.session_settings = None
    assert await adapter.get_items() == _ITEMS


def test_settings_are_the_sdks_own_empty_at_first_and_may_be_a_mapping() -> None:
    session = sessions.InMemorySession("chat")
    assert AgentsSession(session).session_settings == SessionSettings()
    assert AgentsSession(session, session_settings={"limit": 3}).session_settings == SessionSettings(limit=3)
    with pytest.raises(TypeError, match="limitt"):
        AgentsSession(session, session_settings={"limitt": 3})


# --- real runs


@pytest.mark.parametrize("how", ["run", "run_streamed"])
async def test_a_second_run_remembers_the_first(adapter: AgentsSession, how: str) -> None:
    assistant, model = agent("San Francisco", "California")
    await run(how, assistant, "Which city has the Golden Gate Bridge?", session=adapter)
    result = await run(how, assistant, "In which state is it?", session=adapter)
    assert result.final_output == "California"
    assert words(model.inputs[1]) == [
        "Which city has the Golden Gate Bridge?",
        "San Francisco",
        "In which state is it?",
    ]
    assert words(await adapter.get_items()) == [*words(model.inputs[1]), "California"]


@pytest.mark.parametrize("how", ["run", "run_streamed"])
async def test_a_tool_call_is_stored_before_its_output(adapter: AgentsSession, how: str) -> None:
    assistant, _ = agent(tool_call("add", '{"a": 1, "b": 2}'), "It is 3.", tools=[add])
    await run(how, assistant, "1 + 2?", session=adapter)
    items = await adapter.get_items()
    assert words(items) == ["1 + 2?", "function_call", "function_call_output", "It is 3."]
    assert items[1]["call_id"] == items[2]["call_id"] == "call_1"
    assert items[2]["output"] == "3"


async def test_the_limit_of_a_run_beats_that_of_the_session(session: sessions.Session) -> None:
    adapter = AgentsSession(session, session_settings=SessionSettings(limit=4))
    await adapter.add_items(_ITEMS)
    assistant, model = agent("first", "second")
    await run("run", assistant, "one", session=adapter)
    config = RunConfig(session_settings=SessionSettings(limit=2))
    await run("run", assistant, "two", session=adapter, run_config=config)
    assert words(model.inputs[0]) == ["1", "2", "3", "4", "one"]
    assert words(model.inputs[1]) == ["one", "first", "two"]


async def test_sessions_of_one_backend_do_not_mix(backend: Any) -> None:
    assistant, model = agent("hello Ann", "hello Bob")
    for name in ("Ann", "Bob"):
        await run("run", assistant, name, session=AgentsSession(backend.session(name)))
    assert words(model.inputs[1]) == ["Bob"]


@pytest.mark.skipif(SDK_VERSION < (0, 24), reason="the SDK does not pass the run's context to sessions")
async def test_a_subclass_routes_tenants_by_the_context_of_the_run(backend: sessions.Backend) -> None:
    class Routed(AgentsSession):
        def _of(self, wrapper: Any) -> AgentsSession:
            return AgentsSession(backend.session(f"{wrapper.context['tenant']}:{self.session_id}"))

        async def get_items(self, limit: int | None = None, *, wrapper: Any = None) -> list[Any]:
            return await self._of(wrapper).get_items(limit)

        async def add_items(self, items: list[Any], *, wrapper: Any = None) -> None:
            await self._of(wrapper).add_items(items)

    session = Routed(backend.session("chat_1"))
    for tenant in ("blue", "red", "blue"):
        desk, _ = agent(f"Hello, {tenant}")
        await Runner.run(desk, tenant, session=session, context={"tenant": tenant})
    said = {
        info.session_id: [item["content"] for item in backend.session(info.session_id).get_items() if "role" in item][
            ::2
        ]
        for info in backend.list_sessions(order="id")
    }
    assert said == {"blue:chat_1": ["blue", "blue"], "red:chat_1": ["red"]}
