"""Connections that went bad while they were idle, and how long a server is waited for."""

import contextlib
import socket
import threading
from typing import Any

import pytest

import sessions
from faults.writers import at_first_retry
from sessions import Session
from support.proxy import Proxy
from support.rivals import connection_of, eventually, lender_of
from support.samples import items, texts
from support.servers import dialect_of, with_parts

# One further attempt is enough, however many idle connections there are.
ONCE: dict[str, Any] = {"max_retries": 1, "retry_delay": 0.001, "statement_timeout": 1.0}


def open_idle(backend: sessions.Backend, count: int) -> list[Any]:
    """Let the backend have so many idle connections; return them."""
    with contextlib.ExitStack() as stack:
        return [stack.enter_context(connection_of(backend)) for _ in range(count)]


def test_after_one_forgotten_connection_a_fresh_one_is_tried(server_url: str) -> None:
    with Proxy(server_url) as proxy, sessions.connect(proxy.url, **ONCE) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        open_idle(backend, 4)
        proxy.forget()
        assert texts(session.get_items()) == ["a"]
        open_idle(backend, 4)
        proxy.forget()
        session.add_items(items("b"))
        assert texts(session.get_items()) == ["a", "b"]


def test_after_one_read_only_connection_a_fresh_one_is_tried(server_url: str) -> None:
    """A demoted server may keep its connections open."""
    read_only = {"postgresql": "SET default_transaction_read_only = on"}.get(
        dialect_of(server_url), "SET SESSION TRANSACTION READ ONLY"
    )
    with sessions.connect(server_url, **ONCE) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        for connection in open_idle(backend, 4):
            connection.cursor().execute(read_only)
        session.add_items(items("b"))
        assert texts(session.get_items()) == ["a", "b"]


def test_what_was_used_since_is_still_trusted(server_url: str) -> None:
    with sessions.connect(server_url) as backend:
        lender = lender_of(backend)
        lost = lender.lease()
        lender.take(lost)
        [used] = open_idle(backend, 1)
        lender.give_back(lost, keep=False)
        with connection_of(backend) as connection:
            assert connection is used


@pytest.mark.parametrize(("max_idle", "connections"), [(0.0, 3), (3600.0, 1)])
def test_a_connection_that_was_idle_for_too_long_is_replaced(
    server_url: str, max_idle: float, connections: int
) -> None:
    with Proxy(server_url) as proxy, sessions.connect(proxy.url, max_idle=max_idle) as backend:
        for _ in range(3):
            open_idle(backend, 1)
        assert proxy.connections == connections


def tcp_options(url: str, *names: str) -> list[int]:
    """What the kernel has been told about a connection of a backend."""
    with sessions.connect(url) as backend, connection_of(backend) as connection:
        end = socket.socket(fileno=connection.fileno())
        found = [end.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
        end.detach()
        return found


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has all of them")
def test_the_kernel_is_asked_to_look_after_connections(server_url: str) -> None:
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    assert tcp_options(server_url, *names) == [60, 10, 3, 15_000]


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="this system does not tell")
def test_what_the_url_says_of_keepalives_counts(postgresql_url: str) -> None:
    # Of libpq alone: PyMySQL has no such parameters.
    assert tcp_options(with_parts(postgresql_url, query="keepalives_idle=7"), "TCP_KEEPIDLE") == [7]


# --- how long a server is waited for


def test_the_last_attempt_is_made_when_the_time_ends(server_url: str) -> None:
    with Proxy(server_url) as proxy:
        proxy.refusing = True
        with Session.from_url("chat_1", proxy.url, retry_delay=3600, retry_timeout=0.5) as session:

            def come_back() -> None:
                assert eventually(lambda: proxy.connections > 0)
                proxy.refusing = False

            thread = threading.Thread(target=come_back)
            thread.start()
            assert session.get_items() == []
            thread.join()


def test_a_server_that_is_away_is_looked_for_within_a_wait(server_url: str) -> None:
    options: Any = {"max_retries": 1, "retry_delay": 4.0}
    with Proxy(server_url) as proxy, Session.from_url("chat_1", proxy.url, **options) as session:
        proxy.refusing = True
        with at_first_retry() as retries:

            def come_back() -> None:
                assert eventually(lambda: retries.count >= 3)
                proxy.refusing = False

            thread = threading.Thread(target=come_back)
            thread.start()
            assert session.get_items() == []
            thread.join()


def test_no_attempt_is_made_after_the_time(server_url: str) -> None:
    options: Any = {"max_retries": 1000, "retry_delay": 0.1, "retry_timeout": 0.5}
    with Proxy(server_url) as proxy, Session.from_url("chat_1", proxy.url, **options) as session:
        proxy.refusing = True
        with pytest.raises(sessions.ConnectionFailedError):
            session.get_items()
        assert 2 <= proxy.connections <= 10


def test_an_attempt_that_takes_longer_than_the_time_is_repeated_once(server_url: str) -> None:
    options: Any = ONCE | {"max_retries": 10, "retry_timeout": 0.001}
    with Proxy(server_url) as proxy, Session.from_url("chat_1", proxy.url, **options) as session:
        assert session.get_items() == []
        proxy.forget()
        assert session.get_items() == []


@pytest.mark.slow
def test_a_failover_of_20_seconds_is_outlasted(postgresql_url: str) -> None:
    # By the default options; PostgreSQL alone, since the others wait by the same clock.
    with Proxy(postgresql_url) as proxy, Session.from_url("chat_1", proxy.url) as session:
        session.add_items(items("a"))
        proxy.refusing = True
        proxy.drop()
        timer = threading.Timer(20, setattr, (proxy, "refusing", False))
        timer.start()
        session.add_items(items("b"))
        timer.join()
        assert texts(session.get_items()) == ["a", "b"]
