"""A limit that keeps turns whole: what an API refuses is never read, at whatever limit."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from agents import Agent, OpenAIResponsesModel, RunConfig, Runner, set_tracing_disabled

import sessions
from sessions._turns import whole_turns
from sessions.openai_agents import AgentsSession, keep_whole_turns
from support.samples import items as texts_as_items
from support.strict_api import refusal_of_blocks, strict_api

Item = dict[str, Any]


def user(text: str) -> Item:
    return {"role": "user", "content": text}


def said(text: str) -> Item:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": f"msg_{text}", "role": "assistant", "status": "completed", "content": content}


def called(kind: str, call_id: str, **fields: Any) -> list[Item]:
    """A call and its output."""
    return [{"type": kind, "call_id": call_id, **fields}, {"type": f"{kind}_output", "call_id": call_id, "output": "1"}]


def thought(number: int) -> Item:
    return {"type": "reasoning", "id": f"rs_{number}", "summary": []}


PARALLEL = [called("function_call", f"c{number}", name="f", arguments="{}") for number in range(2)]
SHAPES = [
    *called("function_call", "c5", name="f", arguments="{}"),
    *called("custom_tool_call", "c6", name="f", input="x"),
    *called("shell_call", "c7", action={"commands": ["ls"]}),
    *called("apply_patch_call", "c8", operation={"type": "delete_file", "path": "x"}),
    *called(
        "computer_call", "c9", id="cu_1", action={"type": "screenshot"}, pending_safety_checks=[], status="completed"
    ),
    {"type": "mcp_approval_request", "id": "ar_1", "name": "f", "arguments": "{}", "server_label": "s"},
    {"type": "mcp_approval_response", "approval_request_id": "ar_1", "approve": True},
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
]
RESPONSES: list[Item] = [
    user("first"),
    thought(1),
    PARALLEL[0][0],
    PARALLEL[1][0],
    PARALLEL[0][1],
    PARALLEL[1][1],
    thought(2),
    said("first"),
    user("second"),
    *SHAPES,
    said("second"),
    user("third"),
    said("third"),
]
TOOL_CALLS = [{"id": f"t{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(2)]
CHAT: list[Item] = [
    {"role": "system", "content": "Be brief"},
    user("first"),
    {"role": "assistant", "content": None, "tool_calls": TOOL_CALLS},
    *({"role": "tool", "tool_call_id": call["id"], "content": "1"} for call in TOOL_CALLS),
    {"role": "assistant", "content": "first"},
    user("second"),
    {"role": "assistant", "content": "second"},
]
BLOCKS: list[Item] = [
    user("first"),
    {"role": "assistant", "content": [{"type": "text", "text": "Let me see"}, {"type": "tool_use", "id": "u1"}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "u1", "content": "1"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "first"}]},
    user("second"),
    {"role": "assistant", "content": [{"type": "text", "text": "second"}]},
]


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    """The client of OpenAI, at a server that refuses what theirs refuses."""
    with strict_api() as url, openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def is_accepted(client: openai.OpenAI, items: list[Item]) -> bool:
    try:
        if any("tool_calls" in item or item.get("role") == "tool" for item in items):
            client.chat.completions.create(model="m", messages=items)  # type: ignore[arg-type]
        else:
            client.responses.create(model="m", input=items or "nothing")  # type: ignore[arg-type]
    except openai.BadRequestError:
        return False
    return True


@pytest.mark.parametrize("history", [RESPONSES, CHAT], ids=["responses", "chat"])
def test_what_is_read_is_accepted_at_every_limit(client: openai.OpenAI, history: list[Item]) -> None:
    session = sessions.InMemorySession("chat_1")
    session.add_items(history)
    plain, whole = [], []
    for limit in range(1, len(history) + 2):
        plain.append(is_accepted(client, session.get_items(limit)))
        found = session.get_items(limit, whole_turns=True)
        whole.append(is_accepted(client, found))
        assert found == history[len(history) - len(found) :]
        assert len(found) <= limit
        assert found in ([], history) or found[0]["role"] == "user"
    assert all(whole)
    assert not all(plain)
    assert session.get_items(whole_turns=True) == history


def test_blocks_of_anthropic_are_cut_between_turns() -> None:
    for limit in range(1, len(BLOCKS) + 1):
        found = whole_turns(BLOCKS[-limit:], is_all=limit == len(BLOCKS))
        assert refusal_of_blocks(found) is None
        assert found == BLOCKS[len(BLOCKS) - len(found) :]
    assert refusal_of_blocks(BLOCKS[-4:]) is not None
    assert whole_turns(BLOCKS[-5:], is_all=False) == BLOCKS[-2:]


@pytest.mark.parametrize("length", range(1, len(RESPONSES) + 1))
def test_a_history_that_ends_in_the_middle_is_accepted(client: openai.OpenAI, length: int) -> None:
    session = sessions.InMemorySession("chat_1", whole_turns=True)
    session.add_items(RESPONSES[:length])
    found = session.get_items()
    assert is_accepted(client, found)
    assert found[0] == RESPONSES[0]
    session.add_items([user("are you there?")])
    assert is_accepted(client, session.get_items())


@pytest.mark.parametrize("length", range(1, len(CHAT) + 1))
def test_messages_that_end_in_the_middle_are_accepted(client: openai.OpenAI, length: int) -> None:
    found = whole_turns(CHAT[:length], is_all=True)
    assert is_accepted(client, found)
    assert found[:2] == CHAT[: min(2, length)]


def test_of_parallel_calls_those_that_are_answered_stay(client: openai.OpenAI) -> None:
    crashed = [user("first"), thought(1), PARALLEL[0][0], PARALLEL[1][0], PARALLEL[0][1]]
    found = whole_turns(crashed, is_all=True)
    assert found == [user("first"), thought(1), PARALLEL[0][0], PARALLEL[0][1]]
    assert is_accepted(client, found)
    [_, answer, *_] = whole_turns(CHAT[1:4], is_all=True)
    assert [call["id"] for call in answer["tool_calls"]] == ["t0"]
    assert CHAT[2]["tool_calls"] == TOOL_CALLS  # ours alone was changed


def test_reasoning_goes_with_the_call_that_it_led_to(client: openai.OpenAI) -> None:
    answered = [thought(2), *PARALLEL[1]]
    waiting = [user("first"), thought(1), PARALLEL[0][0], *answered, user("never mind")]
    found = whole_turns(waiting, is_all=True)
    assert found == [user("first"), *answered, user("never mind")]
    assert is_accepted(client, found)


def test_a_search_for_tools_by_the_api_itself_needs_no_common_id() -> None:
    call: Item = {"type": "tool_search_call", "id": "tsc_1", "call_id": None, "execution": "server", "arguments": {}}
    output: Item = {"type": "tool_search_output", "id": "tso_1", "call_id": None, "execution": "server", "tools": []}
    history = [user("first"), call, output, said("first"), user("second"), call, output, said("second")]
    for found in (history, [{**item, "call_id": "ts_1"} if "execution" in item else item for item in history]):
        assert whole_turns(found, is_all=True) == found
        assert whole_turns(found[-6:], is_all=False) == found[-4:]
    assert whole_turns([user("first"), call, user("second")], is_all=True) == [user("first"), user("second")]


@pytest.mark.parametrize("kind", ["thinking", "redacted_thinking"])
def test_no_message_ends_with_a_thought_whose_call_is_left_out(kind: str) -> None:
    thought, call = {"type": kind, "thinking": "hm"}, {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    text = {"type": "text", "text": "I look"}
    crashed = [user("first"), {"role": "assistant", "content": [thought, call]}, user("second")]
    assert whole_turns(crashed, is_all=True) == [user("first"), user("second")]
    crashed[1] = {"role": "assistant", "content": [text, thought, call]}
    assert whole_turns(crashed, is_all=True)[1] == {"role": "assistant", "content": [text]}


def test_a_compaction_stands_for_what_was_before_it() -> None:
    compaction = {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}
    assert whole_turns([said("x"), compaction, said("y")], is_all=False) == [compaction, said("y")]


def test_an_output_that_lost_its_call_is_left_out() -> None:
    lonely = called("function_call", "c1", name="f")[1]
    assert whole_turns([user("a"), lonely, user("b")], is_all=False) == [user("b")]
    assert whole_turns([user("a"), lonely, user("b")], is_all=True) == [user("a"), user("b")]


def test_where_no_turn_fits_the_list_is_empty_and_a_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    session = sessions.InMemorySession("chat_1", default_limit=2, whole_turns=True)
    session.add_items(RESPONSES[:8])
    with caplog.at_level(logging.WARNING, "sessions"):
        assert session.get_items() == []
    assert "the newest 2 items hold no whole turn" in caplog.text
    assert len(session.get_items(100)) == 8


def test_nothing_is_removed_from_the_history(backend: sessions.Backend) -> None:
    session = backend.session("chat_1")
    session.add_items(RESPONSES[:4])
    assert session.get_items(whole_turns=True) == RESPONSES[:1]
    assert session.get_items(whole_turns=False) == RESPONSES[:4]


def test_the_option_is_that_of_every_session(make_url: Any) -> None:
    with sessions.connect(make_url("sqlite"), whole_turns=True, default_limit=3) as backend:
        session = backend.session("chat_1")
        session.add_items(RESPONSES)
        assert session.get_items() == RESPONSES[-2:]
        assert session.get_items(3, whole_turns=False) == RESPONSES[-3:]


@pytest.mark.parametrize("limit", range(1, 9))
@pytest.mark.parametrize("way", ["option", "callback"])
def test_an_agent_runs_on_at_every_limit(make_url: Any, limit: int, way: str) -> None:
    set_tracing_disabled(disabled=True)
    options: dict[str, Any] = {"whole_turns": True, "default_limit": limit} if way == "option" else {}
    config = RunConfig(session_input_callback=None if way == "option" else keep_whole_turns(limit))

    async def run(url: str) -> str:
        async with (
            openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
            AgentsSession.from_url("chat_1", make_url("sqlite"), **options) as session,
        ):
            session.session.add_items(RESPONSES[:8])
            agent = Agent(name="Desk", model=OpenAIResponsesModel("m", client))
            result = await Runner.run(agent, "Go on", session=session, run_config=config)
            return str(result.final_output)

    with strict_api() as url:
        assert asyncio.run(run(url)) == "Good day"


@pytest.mark.parametrize("limit", [0, -1, True, "5"])
def test_a_callback_without_a_limit_is_refused(limit: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"pass (1 or more|an int)"):
        keep_whole_turns(limit)


def test_an_item_of_any_shape_is_no_error() -> None:
    odd: list[Item] = [
        {},
        {"type": None, "call_id": None},
        {"role": 7, "content": 8},
        {"content": [None, 1, {"type": "tool_use"}]},
        {"tool_calls": 5},
        {"tool_calls": [None, {}]},
        {"type": {"a": 1}, "call_id": ["x"]},
        *texts_as_items("x"),
    ]
    assert whole_turns(odd, is_all=True)[-1] == odd[-1]


def test_ids_of_calls_that_come_back_are_paired_in_their_order() -> None:
    turns = [[user(f"u{turn}"), *called("function_call", "call_0", name="f", arguments="{}")] for turn in range(3)]
    history = [item for turn in turns for item in turn]
    crashed = [*history, user("u3"), history[1]]
    for limit in range(1, len(history) + 1):
        found = whole_turns(history[-limit:], is_all=limit == len(history))
        complete = limit // 3
        assert found == [item for turn in turns[3 - complete :] for item in turn]
    assert whole_turns(crashed, is_all=True) == [*history, user("u3")]
