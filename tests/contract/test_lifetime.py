"""Opening and closing: who owns what, and what is closed stays closed."""

from collections.abc import Callable
from typing import Any

import pytest

import sessions
from support.samples import items, texts

OPERATIONS = [
    pytest.param(lambda session: session.get_items(), id="get_items"),
    pytest.param(lambda session: session.get_items(limit=0), id="get_items(limit=0)"),
    pytest.param(lambda session: session.add_items(items("a")), id="add_items"),
    pytest.param(lambda session: session.add_items([]), id="add_items([])"),
    pytest.param(lambda session: session.pop_item(), id="pop_item"),
    pytest.param(lambda session: session.clear_session(), id="clear_session"),
]

Operation = Callable[[sessions.Session], Any]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_closed_session_refuses_every_operation(session: sessions.Session, operation: Operation) -> None:
    session.close()
    with pytest.raises(sessions.ClosedError):
        operation(session)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_sessions_of_a_closed_backend_refuse_every_operation(
    backend: sessions.Backend, operation: Operation
) -> None:
    session = backend.session("chat_1")
    session.add_items(items("a"))
    backend.close()
    with pytest.raises(sessions.ClosedError):
        operation(session)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_session_of_from_url_refuses_every_operation_once_closed(url: str, operation: Operation) -> None:
    session = sessions.Session.from_url("chat_1", url)
    session.get_items()
    session.close()
    with pytest.raises(sessions.ClosedError):
        operation(session)


def test_a_closed_backend_gives_no_session(backend: sessions.Backend) -> None:
    backend.close()
    with pytest.raises(sessions.ClosedError):
        backend.session("chat_1")


def test_closed_is_a_runtime_error_too(session: sessions.Session) -> None:
    session.close()
    with pytest.raises(RuntimeError):
        session.get_items()


def test_a_session_may_be_closed_twice(session: sessions.Session) -> None:
    session.add_items(items("a"))
    session.close()
    session.close()


def test_a_backend_may_be_closed_twice(url: str) -> None:
    backend = sessions.connect(url)
    backend.session("chat_1").add_items(items("a"))
    backend.close()
    backend.close()


def test_a_backend_may_be_closed_unused(url: str) -> None:
    sessions.connect(url).close()


def test_closing_a_handle_leaves_the_backend_open(backend: sessions.Backend) -> None:
    first = backend.session("chat_1")
    first.add_items(items("a"))
    first.close()
    assert texts(backend.session("chat_1").get_items()) == ["a"]


def test_closing_a_handle_leaves_another_handle_of_the_same_id_open(
    backend: sessions.Backend,
) -> None:
    first, second = backend.session("chat_1"), backend.session("chat_1")
    first.close()
    second.add_items(items("a"))
    assert texts(second.get_items()) == ["a"]


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


def test_two_sessions_in_memory_share_nothing() -> None:
    first, second = sessions.InMemorySession("chat_1"), sessions.InMemorySession("chat_1")
    first.add_items(items("a"))
    assert second.get_items() == []
    first.close()
    second.close()


def test_an_in_memory_session_is_a_session() -> None:
    with sessions.InMemorySession("chat_1") as session:
        assert isinstance(session, sessions.Session)
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]


def test_two_backends_in_memory_share_nothing(make_url: Callable[[str], str]) -> None:
    for name in ("memory", "sqlite-memory"):
        with sessions.connect(make_url(name)) as first, sessions.connect(make_url(name)) as second:
            first.session("chat_1").add_items(items("a"))
            assert second.session("chat_1").get_items() == []


@pytest.mark.parametrize(
    ("fixture", "name"),
    [
        pytest.param("memory", "MemoryBackend", id="memory"),
        pytest.param("sqlite", "SQLiteBackend", id="sqlite"),
        pytest.param("postgresql", "PostgresBackend", id="postgresql"),
        pytest.param("mysql", "MySQLBackend", id="mysql"),
        pytest.param("mariadb", "MySQLBackend", id="mariadb"),
    ],
)
def test_the_url_picks_the_backend(fixture: str, name: str) -> None:
    address = {"memory": "memory:", "sqlite": "sqlite::memory:"}.get(fixture, f"{fixture}://app@127.0.0.1:1/chat")
    with sessions.connect(address) as backend:  # lazy: nobody listens there
        assert isinstance(backend, getattr(sessions, name))
        assert isinstance(backend, sessions.Backend)
