"""The examples do what they say: each on every database, and each once as a script."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import sessions
from examples import (
    agent_script,
    cron_script,
    django_raw,
    flask_orders,
    flask_view,
    handoff,
    human_approval,
    limited_history,
    prefork_worker,
    responses_api,
    streamed_run,
    task_worker,
    tool_calls,
    wsgi_threads,
)
from openai_agents.event_loop import uses_run_sync
from support.model_api import serve_model_api
from support.samples import items, texts


def run_script(example: ModuleType, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # A key in the environment must not be used: no example needs a network.
    kept = {name: text for name, text in os.environ.items() if not name.startswith("OPENAI_")}
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", str(example.__file__), *arguments],
        env={**kept, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "example",
    [
        *(flask_orders, flask_view, handoff, human_approval, limited_history, responses_api),
        *(streamed_run, task_worker, tool_calls, wsgi_threads),
    ],
    ids=lambda example: example.__name__,
)
def test_each_runs_as_a_script(example: ModuleType, tmp_path: Path) -> None:
    with serve_model_api() as api:
        key = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": api.url} if example is responses_api else {}
        done = run_script(example, f"sqlite:///{tmp_path / 'chat.db'}", **key)
    assert (done.returncode, done.stderr) == (0, "")


# --- agents


@pytest.mark.slow
def test_the_second_process_remembers_the_first(sql_url: str) -> None:
    done = run_script(agent_script, "--url", sql_url, "--session", "elsewhere")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.split("second process")
    assert "tool       track_parcel('1042')" in first
    assert "remembers  0 items" in first
    assert "remembers  4 items" in second
    assert "You are Ada, and your parcel left Rotterdam" in second
    assert "tool" not in second
    with sessions.Session.from_url("elsewhere", sql_url) as session:
        kinds = [item.get("type", "message") for item in session.get_items()]
    assert kinds == ["message", "function_call", "function_call_output", *["message"] * 5]


@pytest.mark.slow
@pytest.mark.sqlite
def test_a_script_without_arguments_keeps_its_file_and_says_how_to_look_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_script(agent_script)
    assert (done.returncode, done.stderr) == (0, "")
    assert "a script that stands in for a language model" in done.stdout
    shown = subprocess.run(shlex.split(done.stdout.splitlines()[-1]), capture_output=True, text=True, check=True)
    assert "left Rotterdam" in shown.stdout
    assert (tmp_path / "agent-demo.db").exists()


def test_a_streamed_run_remembers(sql_url: str) -> None:
    assert streamed_run.main(sql_url) == ["user", "assistant"] * 2


@uses_run_sync
def test_tool_calls_are_stored_in_pairs(sql_url: str) -> None:
    history = tool_calls.main(sql_url)
    kinds = [item.get("type") for item in history[1:]]
    assert kinds == ["function_call"] * 2 + ["function_call_output"] * 2 + ["message"]
    assert {item["call_id"] for item in history[1:3]} == {"call_1", "call_2"}
    assert {item["call_id"]: item["output"] for item in history[3:5]} == {"call_1": "12", "call_2": "0"}


@pytest.mark.parametrize("approved", [True, False])
def test_an_approved_tool_runs_and_a_rejected_one_does_not(sql_url: str, approved: bool) -> None:
    human_approval.refunds.clear()
    history = human_approval.main(sql_url, approved=approved)
    assert human_approval.refunds == (["1042"] if approved else [])
    kinds = [item.get("type") or item["role"] for item in history]
    assert kinds == ["user", "function_call", "function_call_output", "message"]


@uses_run_sync
def test_a_handoff_keeps_the_conversation(sql_url: str) -> None:
    answered, kinds = handoff.main(sql_url)
    assert answered == ["Workshop", "Workshop"]
    assert kinds == ["user", "function_call", "function_call_output", "message", "user", "message"]


@uses_run_sync
def test_limit_and_callback_choose_what_the_model_sees(sql_url: str) -> None:
    # 20 stored and the question; the newest 4 and the question; 12 questions, 1 answer, the question.
    assert limited_history.main(sql_url) == [21, 5, 14]


@uses_run_sync
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


# --- applications


def test_the_order_and_the_history_are_committed_together_with_flask(sql_url: str) -> None:
    found = flask_orders.main(sql_url)
    assert found["statuses"] == [200, 409]
    assert found["orders"] == [(1, "lamp")]
    assert texts(found["histories"]["ann"]) == ["I would like a lamp.", "Order 1 is placed."]
    assert found["histories"]["bob"] == []


@pytest.mark.slow
def test_the_order_and_the_history_are_committed_together_with_django(sql_url: str) -> None:
    # A process of its own: Django is configured once for a process.
    done = run_script(django_raw, sql_url)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["orders"] == ["lamp"]
    assert texts(found["histories"]["lamp"]) == ["I would like a lamp.", "Your order is placed."]
    assert found["histories"]["unicorn"] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_processes_forked_after_the_backend_was_used_write_everything_once(sql_url: str) -> None:
    done = run_script(prefork_worker, sql_url)
    assert (done.returncode, done.stderr) == (0, "")
    with sessions.connect(sql_url) as backend:
        histories = [texts(backend.session(f"chat_{number}").get_items()) for number in range(3)]
    expected = [[f"task {number}" for number in range(chat, 24, 3)] for chat in range(3)]
    expected[0].append("before the fork")
    assert [sorted(history) for history in histories] == [sorted(tasks) for tasks in expected]


def test_a_thread_for_each_request_loses_nothing(sql_url: str) -> None:
    assert wsgi_threads.main(sql_url) == [24, 24, 24]


def test_the_job_shortens_what_is_long(sql_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("ann").add_items(items(*"abcdefgh"))
        backend.session("bob").add_items(items(*"abc"))
        assert cron_script.main(sql_url, "ann", "bob", "nobody") == 0
        assert texts(backend.session("ann").get_items()) == ["4 earlier items were removed.", *"efgh"]
        assert texts(backend.session("bob").get_items()) == [*"abc"]
    assert "from 8 to 5" in capsys.readouterr().out


def test_the_job_creates_no_tables_and_fails_loudly(sql_url: str) -> None:
    done = run_script(cron_script, sql_url, "ann")
    assert done.returncode == 1
    assert "check(fix=True)" in done.stderr
