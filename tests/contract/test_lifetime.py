"""Opening and closing: who owns what, and what is closed stays closed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sessions
from support.claims import OPERATIONS, Operation, refused
from support.samples import items, texts

# What needs no database is refused as well.
EMPTY: dict[str, Operation] = {
    "get_items(limit=0)": lambda session: session.get_items(limit=0),
    "add_items([])": lambda session: session.add_items([]),
}


@pytest.mark.parametrize("closed", ["handle", "backend", "session of from_url"])
def test_what_is_closed_refuses_every_operation_and_may_be_closed_twice(url: str, closed: str) -> None:
    with sessions.connect(url) as backend:
        session = sessions.Session.from_url("chat_1", url) if "from_url" in closed else backend.session("chat_1")
        session.add_items(items("a"))
        for _ in range(2):
            backend.close() if closed == "backend" else session.close()
        for operation in (*OPERATIONS.values(), *EMPTY.values()):
            with refused(sessions.ClosedError) as caught:
                operation(session)
            assert isinstance(caught.value, RuntimeError)


def test_a_closed_backend_gives_no_session(backend: sessions.Backend) -> None:
    backend.close()
    with pytest.raises(sessions.ClosedError):
        backend.session("chat_1")


def test_a_backend_may_be_closed_unused(url: str) -> None:
    sessions.connect(url).close()


def test_closing_a_handle_leaves_the_backend_and_its_other_handles_open(backend: sessions.Backend) -> None:
    first, second = backend.session("chat_1"), backend.session("chat_1")
    first.add_items(items("a"))
    first.close()
    second.add_items(items("b"))
    assert texts(backend.session("chat_1").get_items()) == ["a", "b"]


def test_a_session_is_a_context_manager_that_closes_it(backend: sessions.Backend) -> None:
    with backend.session("chat_1") as session:
        session.add_items(items("a"))
    with pytest.raises(sessions.ClosedError):
        session.get_items()
    assert texts(backend.session("chat_1").get_items()) == ["a"]


def test_a_backend_is_a_context_manager_that_closes_it(url: str) -> None:
    with sessions.connect(url) as backend:
        session = backend.session("chat_1")
    with pytest.raises(sessions.ClosedError):
        session.get_items()


def test_leaving_a_with_block_by_an_error_closes_and_keeps_the_error(url: str) -> None:
    session = sessions.Session.from_url("chat_1", url)

    def work() -> None:
        with session:
            session.add_items(items("a"))
            raise KeyError("of the caller")

    with pytest.raises(KeyError, match="of the caller"):
        work()
    with pytest.raises(sessions.ClosedError):
        session.get_items()


def test_what_was_added_is_there_after_closing_and_opening(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("a"))
    with sessions.Session.from_url("chat_1", sql_url) as session:
        assert texts(session.get_items()) == ["a"]


_LAST_WORDS = """
import atexit, sys, sessions
def last():
    session.add_items([{"content": "last"}])
    print([item["content"] for item in session.get_items()])
if sys.argv[2] == "before":
    atexit.register(last)
session = sessions.connect(sys.argv[1]).session("chat_1")
session.add_items([{"content": "first"}])
if sys.argv[2] == "behind":
    atexit.register(last)
"""


@pytest.mark.parametrize("registered", ["before", "behind"])
def test_what_is_written_at_exit_is_written_and_the_connections_are_closed_behind_it(
    sql_url: str, registered: str
) -> None:
    program = [sys.executable, "-P", "-X", "dev", "-W", "error", "-c", _LAST_WORDS, sql_url, registered]
    done = subprocess.run(program, capture_output=True, check=False, text=True)
    assert (done.stdout, done.stderr) == ("['first', 'last']\n", "")
    # Who closes SQLite's file last removes the log.
    assert not sql_url.startswith("sqlite:") or not Path(sql_url.removeprefix("sqlite:///") + "-wal").exists()
    with sessions.Session.from_url("chat_1", sql_url) as session:
        assert texts(session.get_items()) == ["first", "last"]


def test_an_in_memory_session_is_a_session_that_shares_nothing() -> None:
    with sessions.InMemorySession("chat_1") as first, sessions.InMemorySession("chat_1") as second:
        first.add_items(items("a"))
        assert isinstance(first, sessions.Session)
        assert (texts(first.get_items()), second.get_items()) == (["a"], [])


def test_two_backends_in_memory_share_nothing(make_url: Callable[[str], str]) -> None:
    for name in ("memory", "sqlite-memory"):
        with sessions.connect(make_url(name)) as first, sessions.connect(make_url(name)) as second:
            first.session("chat_1").add_items(items("a"))
            assert second.session("chat_1").get_items() == []


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("memory:", "MemoryBackend"),
        ("sqlite::memory:", "SQLiteBackend"),
        ("postgresql://app@127.0.0.1:1/chat", "PostgresBackend"),
        ("postgresql:///chat", "PostgresBackend"),
        ("mysql://app@127.0.0.1:1/chat", "MySQLBackend"),
        ("mariadb://app@127.0.0.1:1/chat", "MySQLBackend"),
    ],
)
def test_the_url_picks_the_backend(address: str, name: str) -> None:
    with sessions.connect(address) as backend:  # lazy: nobody listens there
        assert isinstance(backend, getattr(sessions, name))
        assert isinstance(backend, sessions.Backend)
