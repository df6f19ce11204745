"""The examples of applications do what they say: each on every database, and each as a script."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import sessions
from examples import cron_script, django_raw, flask_orders, prefork_worker, wsgi_threads
from support.samples import items, texts

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def run_script(example: ModuleType, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", str(example.__file__), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


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
    assert "create_tables" in done.stderr


@pytest.mark.parametrize("example", [flask_orders, wsgi_threads], ids=lambda example: example.__name__)
def test_each_runs_as_a_script(example: ModuleType, tmp_path: Path) -> None:
    done = run_script(example, f"sqlite:///{tmp_path / 'chat.db'}")
    assert (done.returncode, done.stderr) == (0, "")
