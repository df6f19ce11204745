"""whole_turns cuts what a run sees, and nothing else that the SDK reads."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agents import RunConfig, Runner, RunState, function_tool
from agents.extensions.memory import EncryptedSession
from agents.memory import OpenAIResponsesCompactionSession, SessionSettings
from agents.run_internal import session_persistence
from openai import AsyncOpenAI

import sessions
from openai_agents.scripted import SDK_VERSION, agent, run, tool_call, words
from sessions.openai_agents import AgentsSession
from support.model_api import serve_model_api

CALL = {"type": "function_call", "call_id": "call_1", "name": "refund", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "refunded"}
HISTORY: list[Any] = [
    {"role": "user", "content": "Where is it?"},
    {"role": "assistant", "content": "On its way"},
    {"role": "user", "content": "Refund it"},
    CALL,
    OUTPUT,
    {"role": "assistant", "content": "Done"},
]


@pytest.fixture
def backend(url: str) -> Iterator[sessions.Backend]:
    with sessions.connect(url, whole_turns=True) as backend:
        yield backend


@pytest.mark.skipif(
    not hasattr(session_persistence, "resume_pending_session_write"), reason="an SDK that resumes no write"
)
async def test_an_approved_run_that_was_cancelled_while_it_stored_goes_on_where_it_was(
    backend: sessions.Backend,
) -> None:
    refunds: list[int] = []

    @function_tool(needs_approval=True)
    def refund(order: int) -> str:
        refunds.append(order)
        return "refunded"

    class Cancelled(AgentsSession):
        async def add_items(self, items: list[Any], **options: Any) -> None:
            resumed.cancel()
            await super().add_items(items, **options)

    assistant, _ = agent(tool_call("refund", '{"order": 7}'), "Done", tools=[refund])
    asked: list[Any] = [{"role": "user", "content": text} for text in ("Hello", "Refund it")]
    session = backend.session("chat_1")
    paused = await Runner.run(assistant, asked, session=AgentsSession(session))
    state = paused.to_state()
    for interruption in paused.interruptions:
        state.approve(interruption)
    resumed = asyncio.ensure_future(Runner.run(assistant, state, session=Cancelled(session)))
    with contextlib.suppress(asyncio.CancelledError):
        await resumed
    assert words(session.get_items(whole_turns=False))[2:] == ["function_call", "function_call_output"]
    kept = await RunState.from_json(assistant, state.to_json())
    assert (await Runner.run(assistant, kept, session=AgentsSession(session))).final_output == "Done"
    assert words(session.get_items())[2:] == ["function_call", "function_call_output", "Done"]
    assert refunds == [7]


def _settings_of_the_run(session: sessions.Session) -> Any:
    return AgentsSession(session), {"run_config": RunConfig(session_settings=SessionSettings(limit=5))}


def _settings_of_the_session(session: sessions.Session) -> Any:
    return AgentsSession(session, session_settings=SessionSettings(limit=5)), {}


def _both_settings(session: sessions.Session) -> Any:
    config = RunConfig(session_settings=SessionSettings(limit=5))
    return AgentsSession(session, session_settings={"limit": 1}), {"run_config": config}


@pytest.mark.parametrize("limited", [_settings_of_the_run, _settings_of_the_session, _both_settings])
@pytest.mark.parametrize("how", ["run", "run_streamed"])
async def test_what_a_run_sees_is_whole_turns_whoever_limits_it(
    backend: sessions.Backend, limited: Callable[[sessions.Session], Any], how: str
) -> None:
    session = backend.session("chat_1")
    session.add_items(HISTORY)
    adapter, options = limited(session)
    assistant, model = agent("Yes")
    await run(how, assistant, "Sure?", session=adapter, **options)
    assert words(model.inputs[0]) == ["Refund it", "function_call", "function_call_output", "Done", "Sure?"]


@pytest.mark.parametrize("on_conflict", ["append", "raise"])
async def test_any_other_limit_shows_the_end_as_it_is(backend: sessions.Backend, on_conflict: Any) -> None:
    session = backend.session("chat_1")
    session.add_items(HISTORY)
    adapter = AgentsSession(session, on_conflict=on_conflict, session_settings={"limit": 5})
    assert await adapter.get_items(2) == HISTORY[-2:]
    assert await adapter.get_items(5) == HISTORY[-5:]
    assert await adapter.get_items() == HISTORY[-4:]


async def test_what_is_encrypted_by_the_sdk_is_cut_by_number(url: str) -> None:
    with sessions.connect(url, whole_turns=True, default_limit=4) as backend:
        adapter: Any = AgentsSession(backend.session("chat_1"))
        encrypted = EncryptedSession("chat_1", adapter, "a key that is long enough")
        await encrypted.add_items(HISTORY)
        assert await encrypted.get_items() == HISTORY[-4:]
        assert await encrypted.get_items(5) == HISTORY[-5:]


@pytest.mark.skipif(SDK_VERSION < (0, 24), reason="an SDK that sums up what a run would see")
async def test_a_compaction_by_hand_sums_up_all_that_it_replaces(url: str) -> None:
    with serve_model_api() as api, sessions.connect(url, whole_turns=True, default_limit=3) as backend:
        session = backend.session("chat_1")
        session.add_items(HISTORY[:4])
        async with AsyncOpenAI(base_url=api.url, api_key="none", max_retries=0) as client:
            compacting = OpenAIResponsesCompactionSession(
                "chat_1", AgentsSession(session), client=client, compaction_mode="input"
            )
            await compacting.run_compaction({"force": True})
        assert api.requests[0]["input"] == HISTORY[:4]
        assert [item["type"] for item in session.get_items()] == ["compaction"]
