"""The examples with agents do what they say: each on every database, and each once as a script."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from examples import (
    flask_view,
    handoff,
    human_approval,
    limited_history,
    responses_api,
    streamed_run,
    task_worker,
    tool_calls,
)
from support.model_api import serve_model_api

_EXAMPLES = (
    flask_view,
    handoff,
    human_approval,
    limited_history,
    responses_api,
    streamed_run,
    task_worker,
    tool_calls,
)


@pytest.fixture(autouse=True)
def event_loop_of_run_sync() -> Iterator[None]:
    """Runner.run_sync leaves its event loop open, for the next run; nobody else closes it here."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


def test_a_streamed_run_remembers(sql_url: str) -> None:
    assert streamed_run.main(sql_url) == ["user", "assistant"] * 2


def test_tool_calls_are_stored_in_pairs(sql_url: str) -> None:
    history = tool_calls.main(sql_url)
    assert [item.get("type") for item in history[1:]] == [
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
        "message",
    ]
    calls = {item["call_id"] for item in history[1:3]}
    assert {item["call_id"]: item["output"] for item in history[3:5]} == {
        "call_1": "12",
        "call_2": "0",
    }
    assert calls == {"call_1", "call_2"}


@pytest.mark.parametrize("approved", [True, False])
def test_an_approved_tool_runs_and_a_rejected_one_does_not(sql_url: str, approved: bool) -> None:
    human_approval.refunds.clear()
    history = human_approval.main(sql_url, approved=approved)
    assert human_approval.refunds == (["1042"] if approved else [])
    kinds = [item.get("type") or item["role"] for item in history]
    assert kinds == ["user", "function_call", "function_call_output", "message"]


def test_a_handoff_keeps_the_conversation(sql_url: str) -> None:
    answered, kinds = handoff.main(sql_url)
    assert answered == ["Workshop", "Workshop"]
    assert kinds == ["user", "function_call", "function_call_output", "message", "user", "message"]


def test_limit_and_callback_choose_what_the_model_sees(sql_url: str) -> None:
    # 20 stored and the question; the newest 4 and the question; 12 questions, 1 answer, the question.
    assert limited_history.main(sql_url) == [21, 5, 14]


def test_a_flask_application_keeps_its_chats_apart(sql_url: str) -> None:
    assert flask_view.main(sql_url) == ["I see 1 items.", "I see 3 items.", "I see 1 items."]


def test_tasks_that_meet_store_every_turn_once_and_in_order(sql_url: str) -> None:
    assert task_worker.main(sql_url) == [f"message {number}" for number in range(1, 9)]


def test_the_plain_client_sends_the_history_and_stores_the_output(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with serve_model_api() as api:
        assert responses_api.main(sql_url, api.url) == ["1 items", "3 items"]
    first, second = (request["input"] for request in api.requests)
    assert second[0] == first[0]
    assert second[1]["content"][0]["text"] == "1 items"


@pytest.mark.slow
@pytest.mark.parametrize("example", _EXAMPLES, ids=lambda example: example.__name__)
def test_each_runs_as_a_script(example: ModuleType, tmp_path: Path) -> None:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("OPENAI_")}
    with serve_model_api() as api:
        subprocess.run(
            [sys.executable, str(example.__file__), f"sqlite:///{tmp_path / 'chat.db'}"],
            env={**kept, "OPENAI_API_KEY": "none", "OPENAI_BASE_URL": api.url},
            check=True,
            timeout=120,
        )
