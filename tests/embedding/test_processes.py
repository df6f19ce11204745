"""Processes, signals and threads as applications have them; each program runs in an interpreter of its own."""

import copy
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sessions
from embedding.application import connections, prepare, wait_until
from embedding.programs import descriptors
from support.samples import in_threads, items
from support.servers import DIALECTS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")

TESTS = Path(__file__).parents[1]
# Python 3.12 warns of fork() beside threads; that it works beside ours is what is tested.
IGNORED = "ignore:This process"


def run_program(name: str, *arguments: str, quiet: bool = True) -> dict[str, Any]:
    """Run a program with every warning an error; its report."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-W", IGNORED, "-m", "embedding.programs", name, *arguments],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stderr if quiet else "", done.returncode) == ("", 0)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.fixture
def quiet_url(sql_url: str) -> Iterator[str]:
    """A database that has no connection left at the end, a moment after the program's."""
    prepare(sql_url)
    wait_until(lambda: not connections(sql_url))
    yield sql_url
    wait_until(lambda: not connections(sql_url))


# --- fork


def test_children_forked_with_idle_connections_get_their_own_and_exit_in_peace(quiet_url: str) -> None:
    report = run_program("forking_idle", quiet_url)
    assert report["stored"] == sorted(["parent", "parent again", *(f"child {n}" for n in range(4))])
    assert report["after"] == report["before"]


@pytest.mark.parametrize("sql_url", DIALECTS, indirect=True)
def test_a_child_forked_while_a_thread_waits_for_the_server_is_not_held_up(quiet_url: str) -> None:
    report = run_program("forking_amid_a_wait", quiet_url)
    assert report["stored"] == [["first", "second"], ["child"]]


def test_a_bound_connection_stays_with_the_process_that_bound_it(quiet_url: str) -> None:
    report = run_program("bound_in_a_child", quiet_url)
    assert len(report["refusals"]) == 3
    assert all("process" in text for text in report["refusals"])
    assert report["stored"] == ["parent", "parent again"]


# --- the end of a program


@pytest.mark.parametrize("name", ["exit_with_open_backends", "exit_beside_a_daemon_thread", "exit_by_an_error"])
def test_a_program_ends_without_warning_or_hang(quiet_url: str, name: str) -> None:
    assert run_program(name, quiet_url)["stored"] >= 1


# --- spawn, and handles sent by mistake


def test_a_spawned_process_gets_names_and_no_handles(quiet_url: str) -> None:
    report = run_program("spawned", quiet_url)
    assert len(report["refusals"]) == 3
    assert all("cannot be pickled" in text for text in report["refusals"])
    assert report["stored"] == ["parent", "child"]


def test_neither_handle_nor_backend_can_be_pickled(backend: sessions.Backend, session: sessions.Session) -> None:
    for thing in (session, backend, [session], session.add_items):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match=r"cannot be pickled; send its .* and make a new"):
                pickle.dumps(thing, protocol)


def test_neither_handle_nor_backend_can_be_copied(session: sessions.Session) -> None:
    for duplicate in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            duplicate(session)


# --- signals


def test_an_operation_that_a_signal_ends_is_whole_or_absent(quiet_url: str) -> None:
    # Not quiet: a signal in the middle of a driver's own connect() may leave a socket to the garbage collector.
    report = run_program("interrupted", quiet_url, quiet=False)
    assert report["whole"]
    assert report["interruptions"] > 0
    # What was interrupted may have been stored, or not; what was acknowledged is there.
    assert report["acknowledged"] + 1 <= report["batches"] <= 121
    assert report["after"] <= report["before"] + 12  # at most the connections of the pool


@pytest.mark.parametrize("how", ["bind", "pool"])
def test_a_connection_of_the_application_never_gives_anothers_answer_after_a_signal(quiet_url: str, how: str) -> None:
    report = run_program("interrupted_on_the_applications_connection", quiet_url, how, quiet=False)
    assert report["interruptions"] > 0
    assert report["wrong"] == 0


def test_a_signal_whose_handler_returns_is_not_noticed(quiet_url: str) -> None:
    report = run_program("handled", quiet_url)
    assert report == {"rung": True, "stored": 30}


# --- threads by the thousand


@pytest.mark.slow
def test_two_thousand_short_threads_leave_neither_connection_nor_descriptor(quiet_url: str) -> None:
    with sessions.connect(quiet_url, pool_size=4) as backend:
        backend.session("chat_0").add_items(items("a"))
        for burst in range(41):
            in_threads(50, lambda number: backend.session(f"chat_{number % 8}").get_items(limit=1))
            if not burst:
                before = descriptors()
        assert len(connections(quiet_url)) <= 4
        assert descriptors() <= before + 12  # what a pool of 4 may open later
    assert threading.active_count() < 20
