"""A synchronous session handed to the Runner as it is, from SDK 0.20 on."""

from typing import Any

import pytest
from agents import RunConfig, Runner
from agents.memory import SessionSettings

import sessions
from openai_agents.event_loop import uses_run_sync
from openai_agents.scripted import SDK_VERSION, add, agent, run, tool_call, words

direct = pytest.mark.skipif(SDK_VERSION < (0, 20), reason="an SDK that awaits its sessions")
refused = pytest.mark.skipif(SDK_VERSION >= (0, 20), reason="an SDK that takes synchronous sessions")


@direct
@uses_run_sync
def test_run_sync_remembers(session: sessions.Session) -> None:
    assistant, model = agent("San Francisco", "California")
    Runner.run_sync(assistant, "Which city has the Golden Gate Bridge?", session=session)  # type: ignore[arg-type]
    result = Runner.run_sync(assistant, "In which state is it?", session=session)  # type: ignore[arg-type]
    assert result.final_output == "California"
    assert words(model.inputs[1])[:2] == words(session.get_items())[:2]
    assert len(session.get_items()) == 4


@direct
@pytest.mark.parametrize("how", ["run", "run_streamed"])
async def test_the_other_ways_to_run_take_it_too(session: sessions.Session, how: str) -> None:
    assistant, _ = agent(tool_call("add", '{"a": 1, "b": 2}'), "It is 3.", tools=[add])
    await run(how, assistant, "1 + 2?", session=session)
    assert words(session.get_items()) == ["1 + 2?", "function_call", "function_call_output", "It is 3."]


@direct
@uses_run_sync
def test_limits_come_from_the_run_or_from_the_backend(url: str) -> None:
    with sessions.connect(url, default_limit=4) as backend:
        session: Any = backend.session("chat")
        session.add_items([{"role": "user", "content": str(number)} for number in range(5)])
        assistant, model = agent("one", "two")
        Runner.run_sync(assistant, "first", session=session)
        config = RunConfig(session_settings=SessionSettings(limit=1))
        Runner.run_sync(assistant, "second", session=session, run_config=config)
        assert words(model.inputs[0]) == ["1", "2", "3", "4", "first"]
        assert words(model.inputs[1]) == ["one", "second"]


@refused
@uses_run_sync
def test_an_older_sdk_is_refused_with_the_remedy(session: sessions.Session) -> None:
    assistant, model = agent("never")
    with pytest.raises(sessions.ConfigurationError, match=r"AgentsSession\(session\)"):
        Runner.run_sync(assistant, "Hello", session=session)  # type: ignore[arg-type]
    assert model.inputs == []
    assert session.get_items() == []
