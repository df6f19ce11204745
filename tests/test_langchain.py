"""LangChain's chat history over a session."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

import sessions
from support.holding import Held
from support.samples import items

pytest.importorskip("langchain_core")

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from sessions.langchain import SessionChatMessageHistory

_CALL = {"name": "look", "args": {"article": "lamp", "note": None}, "id": "call_1", "type": "tool_call"}
MESSAGES: dict[str, BaseMessage] = {
    "system": SystemMessage("Be brief."),
    "human": HumanMessage([{"type": "text", "text": "é\ud83d"}, {"type": "image", "base64": "aa"}], name="Ann", id="1"),
    "ai": AIMessage("", tool_calls=[_CALL], usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
    "invalid call": AIMessage("", invalid_tool_calls=[{"name": "look", "args": "{", "id": "2", "error": "cut off"}]),
    "tool": ToolMessage("12", tool_call_id="call_1", artifact={"price": [1, 2.5]}, status="error"),
    "chat": ChatMessage(content="a", role="narrator"),
    "function": FunctionMessage(content="b", name="look"),
    "remove": RemoveMessage(id="1"),
    "chunk": AIMessageChunk(content="c", tool_call_chunks=[{"name": "look", "args": "{}", "id": "3", "index": 0}]),
}


@pytest.fixture
def history(session: sessions.Session) -> SessionChatMessageHistory:
    return SessionChatMessageHistory(session)


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_message_comes_back_equal(history: SessionChatMessageHistory, message: BaseMessage) -> None:
    history.add_message(message)
    [back] = history.messages
    assert (type(back), back) == (type(message), message)


def test_another_backend_sees_the_messages_in_order(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as one, sessions.connect(sqlite_url) as other:
        first, second = (SessionChatMessageHistory(backend.session("chat_123")) for backend in (one, other))
        first.add_messages([*MESSAGES.values()])
        second.add_user_message("a")
        first.add_ai_message("b")
        assert first.messages == second.messages == [*MESSAGES.values(), HumanMessage("a"), AIMessage("b")]


class _OfTheApplication(BaseMessage):
    type: str = "application"


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(ToolMessage("a", tool_call_id="1", artifact=object()), id="not JSON"),
        pytest.param(_OfTheApplication(content="a"), id="a class that LangChain does not read"),
    ],
)
def test_a_batch_with_a_message_that_cannot_come_back_is_refused_whole(
    history: SessionChatMessageHistory, message: BaseMessage
) -> None:
    with pytest.raises(sessions.InvalidItemError):
        history.add_messages([HumanMessage("a"), message])
    assert history.messages == []


def test_clear_removes_the_conversation(backend: Any) -> None:
    history = SessionChatMessageHistory(backend.session("chat_123"))
    history.add_user_message("a")
    history.clear()
    assert (history.messages, backend.list_sessions()) == ([], [])


def test_the_asynchronous_variants_do_the_same(history: SessionChatMessageHistory) -> None:
    async def run() -> list[list[BaseMessage]]:
        await history.aadd_messages([HumanMessage("a"), AIMessage("b")])
        written = await history.aget_messages()
        await history.aclear()
        return [written, await history.aget_messages()]

    assert asyncio.run(run()) == [[HumanMessage("a"), AIMessage("b")], []]


@pytest.mark.parametrize(
    ("name", "call", "left"),
    [
        ("append", lambda history: history.aadd_messages([HumanMessage("b")]), ["a", "b"]),
        ("clear", lambda history: history.aclear(), []),
    ],
    ids=["aadd_messages", "aclear"],
)
def test_a_cancelled_write_is_finished_first(
    monkeypatch: pytest.MonkeyPatch, name: str, call: Callable[[SessionChatMessageHistory], Any], left: list[str]
) -> None:
    history = SessionChatMessageHistory(sessions.InMemorySession("chat_123"))
    history.add_user_message("a")
    write = Held(monkeypatch, history.session._history.store, name)
    asyncio.run(_cancel(write, call(history), waits=True))
    assert [message.content for message in history.messages] == left


@pytest.mark.parametrize("bound", [True, False], ids=["the application's", "ours"])
def test_a_cancelled_read_is_waited_for_on_a_connection_of_the_application_alone(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, *, bound: bool
) -> None:
    with (
        sessions.connect(sqlite_url) as backend,
        closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), check_same_thread=False)) as connection,
    ):
        history = SessionChatMessageHistory((backend.bind(connection) if bound else backend).session("chat_123"))
        read = Held(monkeypatch, history.session._history.store, "newest_rows")
        asyncio.run(_cancel(read, history.aget_messages(), waits=bound))


async def _cancel(held: Held, call: Any, *, waits: bool) -> None:
    """Cancel a call when it is under way in its thread; it waits for its end, or it does not."""
    task = asyncio.ensure_future(call)
    assert await asyncio.to_thread(held.begun.wait, 60)
    task.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert task.done() is not waits
    held.released.set()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_whole_turns_of_the_backend_does_not_hide_them(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url, whole_turns=True, default_limit=2) as backend:
        history = SessionChatMessageHistory(backend.session("chat_123"))
        history.add_messages([HumanMessage("a"), AIMessage("b"), HumanMessage("c")])
        assert [message.content for message in history.messages] == ["b", "c"]


def test_items_of_others_are_an_error_that_names_the_conversation(history: SessionChatMessageHistory) -> None:
    history.session.add_items(items("a"))
    with pytest.raises(ValueError, match=repr(history.session.session_id)):
        _ = history.messages


def test_what_is_no_session_is_refused(backend: Any) -> None:
    with pytest.raises(TypeError, match=r"backend\.session"):
        SessionChatMessageHistory(backend)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # LangChain's own
def test_a_runnable_with_history_remembers(sqlite_url: str) -> None:
    from langchain_core.runnables import RunnableLambda
    from langchain_core.runnables.history import RunnableWithMessageHistory

    model: Any = RunnableLambda(lambda messages: AIMessage(f"{len(messages)} messages"))
    config: Any = {"configurable": {"session_id": "chat_123"}}
    for seen in (1, 3):
        with sessions.connect(sqlite_url) as backend:

            def history_of(session_id: str, backend: sessions.Backend = backend) -> BaseChatMessageHistory:
                return SessionChatMessageHistory(backend.session(session_id))

            chat = RunnableWithMessageHistory(model, history_of)
            assert chat.invoke([HumanMessage("Hello")], config).content == f"{seen} messages"


def test_the_package_imports_nothing_of_langchain() -> None:
    program = "import sys, sessions, sessions.openai_agents; print([m for m in sys.modules if 'langchain' in m])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
