"""The recipes for other frameworks run as they stand there; the model is a function, or on loopback."""

import asyncio
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import agents
import pytest

import sessions
from openai_agents.event_loop import loop_of_run_sync, uses_run_sync  # noqa: F401  (a fixture)
from sessions.openai_agents import AgentsSession
from support.model_api import ModelAPI, serve_model_api

PAGE = Path(__file__).parent / "examples" / "README.md"
_RECIPE = re.compile(r"^## (.+?)\n.*?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPES = dict(_RECIPE.findall(PAGE.read_text(encoding="utf-8").partition("## Jupyter")[0]))


class Kind(NamedTuple):
    """How a recipe is tried: what it needs, a model that says how many messages it saw, and what an item says."""

    needs: str
    model: Callable[..., Any]
    said: Callable[[dict[str, Any]], str]


def _pydantic_model(answer: Callable[[int], str]) -> Any:
    models = importlib.import_module("pydantic_ai.models.function")
    messages = importlib.import_module("pydantic_ai.messages")
    return models.FunctionModel(
        lambda seen, _: messages.ModelResponse(parts=[messages.TextPart(answer(len(seen)))]),
    )


def _langchain_model(answer: Callable[[int], str]) -> Any:
    runnables = importlib.import_module("langchain_core.runnables")
    messages = importlib.import_module("langchain_core.messages")
    return runnables.RunnableLambda(lambda seen: messages.AIMessage(answer(len(seen))))


def _content(item: dict[str, Any]) -> str:
    content = item["content"]
    return content if isinstance(content, str) else content[0]["text"]


KINDS = {
    "Pydantic AI": Kind("pydantic_ai", _pydantic_model, lambda item: item["parts"][0]["content"]),
    "LangChain": Kind("langchain_core", _langchain_model, lambda item: item["data"]["content"]),
    "The `openai` client": Kind("openai", lambda _: None, _content),
    "The `anthropic` client": Kind("anthropic", lambda _: None, _content),
}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelAPI]:
    """A model on loopback, where the clients look for theirs."""
    with serve_model_api() as api:
        monkeypatch.setenv("OPENAI_BASE_URL", api.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url.removesuffix("/v1"))
        monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
        yield api


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    """Each recipe of a turn, where its framework is installed."""
    pytest.importorskip(KINDS[request.param].needs)
    return str(request.param)


# A model that a recipe names may be given up later.
_OLD_MODEL = pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")


def _run(name: str, url: str, text: str, answer: Callable[[int], str] = "{} items".format) -> list[str]:
    """Run a recipe with connections of its own, as another process would; return what the history says then."""
    with sessions.connect(url) as backend:
        session = backend.session("chat_123")
        namespace = {"backend": backend, "session": session, "text": text, "model": KINDS[name].model(answer)}
        exec(compile(RECIPES[name], f"tests/examples/README.md, {name}", "exec"), namespace)  # noqa: S102  (it is ours)
        return [KINDS[name].said(item) for item in session.get_items()]


def test_every_recipe_is_tried() -> None:
    assert set(RECIPES) == {*KINDS, "LlamaIndex"}


@pytest.mark.slow
@uses_run_sync
@_OLD_MODEL
def test_the_second_turn_sees_the_first(name: str, sqlite_url: str, api: ModelAPI) -> None:
    assert _run(name, sqlite_url, "Hello") == ["Hello", "1 items"]
    assert _run(name, sqlite_url, "And now?") == ["Hello", "1 items", "And now?", "3 items"]


def _fail(*_: object) -> Any:
    raise LookupError("no answer")


@pytest.mark.slow
@uses_run_sync
@_OLD_MODEL
def test_a_turn_without_an_answer_leaves_nothing(
    name: str, sqlite_url: str, api: ModelAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = _run(name, sqlite_url, "Hello")
    monkeypatch.setattr(api, "answer", lambda *_: None)  # not found
    with pytest.raises(Exception, match=r"no answer|not found"):
        _run(name, sqlite_url, "And now?", _fail)
    with sessions.connect(sqlite_url) as backend:
        assert [KINDS[name].said(item) for item in backend.session("chat_123").get_items()] == said


# --- Pydantic AI


@pytest.mark.slow
@uses_run_sync
def test_tools_and_bytes_come_back_to_pydantic_ai_as_they_were(sqlite_url: str) -> None:
    pydantic_ai = pytest.importorskip("pydantic_ai")
    form = pydantic_ai.ModelMessagesTypeAdapter
    agent = pydantic_ai.Agent("test")  # calls every tool once
    agent.tool_plain(lambda article: {"price": None}, name="look")
    image = pydantic_ai.BinaryContent(b"\xff\x00\xfe", media_type="image/png")
    messages = agent.run_sync(["Hello", image]).new_messages()
    with sessions.Session.from_url("chat_123", sqlite_url) as session:
        session.add_items(form.dump_python(messages, mode="json"))
        back = form.validate_python(session.get_items())
    assert back[0].parts[0].content[1].data == image.data
    assert form.dump_json(back) == form.dump_json(messages)
    assert [part.part_kind for message in back for part in message.parts] == [
        *("user-prompt", "tool-call", "tool-return", "text")
    ]


# --- LlamaIndex


@pytest.fixture
def chat_store() -> Any:
    """The recipe's class."""
    pytest.importorskip("llama_index.core")
    namespace: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(RECIPES["LlamaIndex"], "tests/examples/README.md, LlamaIndex", "exec", dont_inherit=True), namespace)  # noqa: S102
    return namespace["SessionChatStore"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # its own
def test_the_chat_store_answers_as_llama_indexs_own(chat_store: Any, sqlite_url: str) -> None:
    from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
    from llama_index.core.storage.chat_store import SimpleChatStore

    said = [ChatMessage(role=role, content=text) for role, text in [("user", "a"), ("assistant", "b"), ("user", "c")]]
    picture = ChatMessage(
        blocks=[TextBlock(text="look"), ImageBlock(image=b"\x89PNG\xff", image_mimetype="image/png")],
        additional_kwargs={"tool_calls": [{"id": "1"}]},
    )
    with sessions.connect(sqlite_url) as first, sessions.connect(sqlite_url) as second:
        ours, its_own = chat_store(first), SimpleChatStore()
        operations: list[tuple[Any, ...]] = [
            *[("add_message", "chat", message) for message in [*said, picture]],
            ("set_messages", "other", said[:2]),
            ("delete_message", "chat", 1),
            ("delete_message", "chat", 9),
            ("delete_last_message", "other"),
            ("delete_last_message", "unused"),
            ("delete_messages", "unused"),
        ]
        for operation, *arguments in operations:
            assert getattr(ours, operation)(*arguments) == getattr(its_own, operation)(*arguments), operation
            for key in ("chat", "other", "unused"):
                assert chat_store(second).get_messages(key) == its_own.get_messages(key)
        assert chat_store(second).get_keys() == its_own.get_keys()
        assert ours.delete_messages("chat") == its_own.delete_messages("chat")
        assert ours.get_keys() == its_own.get_keys()


@pytest.mark.slow
def test_the_chat_store_finds_more_keys_than_a_page_has(chat_store: Any, sqlite_url: str) -> None:
    from llama_index.core.llms import ChatMessage

    names = [f"chat_{number:03}" for number in range(201)]
    with sessions.connect(sqlite_url) as backend:
        store = chat_store(backend)
        for name in names:
            store.add_message(name, ChatMessage(content="a"))
        assert store.get_keys() == names


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_memory_of_llama_index_goes_on_in_another_process(chat_store: Any, sqlite_url: str) -> None:
    from llama_index.core.llms import ChatMessage
    from llama_index.core.memory import ChatMemoryBuffer

    for turn in range(2):
        with sessions.connect(sqlite_url) as backend:
            memory = ChatMemoryBuffer.from_defaults(
                chat_store=chat_store(backend), chat_store_key="chat_123", tokenizer_fn=str.split
            )
            assert [message.content for message in memory.get()] == ["0", "1"][:turn]
            memory.put(ChatMessage(content=str(turn)))


# --- in a running event loop, as a notebook has one


def test_in_a_running_loop_run_is_awaited(sqlite_url: str, api: ModelAPI) -> None:
    agent = agents.Agent(name="Guide")

    async def cell() -> list[str]:
        with sessions.Session.from_url("chat_123", sqlite_url) as session:
            with pytest.raises(RuntimeError, match="event loop is already running"):
                agents.Runner.run_sync(agent, "Hello", session=session)  # type: ignore[arg-type]
            assert session.get_items() == []
            either: list[Any] = [session, AgentsSession(session)]
            results = [await agents.Runner.run(agent, "Hello", session=each) for each in either]
            return [result.final_output for result in results]

    agents.set_tracing_disabled(True)
    assert asyncio.run(cell()) == ["1 items", "3 items"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")  # what its run_sync has made and not awaited
def test_in_a_running_loop_run_of_pydantic_ai_is_awaited() -> None:
    pydantic_ai = pytest.importorskip("pydantic_ai")

    async def cell() -> str:
        with pytest.raises(RuntimeError, match="already running"):
            pydantic_ai.Agent("test").run_sync("Hello")
        return str((await pydantic_ai.Agent("test").run("Hello")).output)

    assert asyncio.run(cell()) == "success (no tool calls)"
