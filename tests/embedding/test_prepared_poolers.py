"""Prepared statements behind PgBouncer in transaction mode, whether or not it tracks them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from threading import Event, Thread
from typing import Any

import psycopg
import pytest

import sessions
from embedding.application import connected, end_connections, prepare, run, use_everything
from embedding.pooler import SERVER_CONNECTIONS
from support.proxy import Proxy
from support.rivals import connection_of
from support.samples import assert_contiguous_and_ordered, batch, in_threads, items
from support.servers import execute_sql, with_parts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["0", "200"], ids=["untracked", "tracked"])
def address(request: pytest.FixtureRequest, start_pgbouncer: Callable[..., tuple[str, int]]) -> tuple[str, int]:
    return start_pgbouncer(MAX_PREPARED_STATEMENTS=request.param)


@pytest.fixture
def pooled_url(address: tuple[str, int], postgresql_url: str) -> str:
    prepare(postgresql_url)
    return with_parts(postgresql_url, host=address[0], port=address[1])


@pytest.fixture
def proxy(pooled_url: str) -> Iterator[Proxy]:
    with Proxy(pooled_url) as proxy:
        yield proxy


def _use(session: sessions.Session) -> None:
    session.add_items(items("a"))
    session.add_items(items("b"), if_position=session.position())
    assert session.get_items(limit=1) == items("b")
    assert session.pop_item() == items("b")[0]


def _trips(proxy: Proxy, session: sessions.Session, times: int) -> int:
    with proxy.counting() as count:
        for _ in range(times):
            _use(session)
    assert count.connections == 0
    return count.round_trips


def _prepare_and_forget(url: str, stop: Event) -> None:
    """Another client: it prepares statements of its own, and has the server forget all of them."""
    while not stop.is_set():
        # Whether or not that works behind this pooler is its own affair.
        with suppress(psycopg.Error), connected(url, autocommit=True) as client:
            client.prepare_threshold = 0
            for number in range(5):
                client.execute(f"SELECT {number}, %s::text", ("x",)).fetchall()
            run(client, "DISCARD ALL")
            run(client, "DEALLOCATE ALL")


def test_each_operation_works_beside_clients_that_prepare_and_forget(pooled_url: str) -> None:
    stop = Event()
    others = [Thread(target=_prepare_and_forget, args=(pooled_url, stop)) for _ in range(2)]
    for other in others:
        other.start()
    try:
        # Nothing is tried again.
        with sessions.connect(pooled_url, pool_size=8, max_retries=0) as backend:

            def work(number: int) -> None:
                session = backend.session(f"chat_{number}")
                for count in range(10):
                    use_everything(session)
                    session.clear_session()
                    backend.session("shared").add_items(batch(f"w{number}", count, 2))

            in_threads(8, work)
            history = backend.session("shared").get_items()
            assert_contiguous_and_ordered(history, [f"w{number}" for number in range(8)], batches=10, size=2)
    finally:
        stop.set()
        for other in others:
            other.join()


def test_each_server_connection_costs_at_most_one_round_trip(pooled_url: str, proxy: Proxy) -> None:
    with sessions.Session.from_url("chat_1", proxy.url, max_retries=0) as session, ExitStack() as stack:
        _use(session)
        usual, lost = 5, 0
        for _ in range(SERVER_CONNECTIONS - 1):
            lost += _trips(proxy, session, 3) - 3 * usual
            # A transaction takes the server connection that was used last; the next one is another.
            client = stack.enter_context(connected(pooled_url, autocommit=True))
            client.prepare_threshold = None
            run(client, "BEGIN")
        lost += _trips(proxy, session, 3) - 3 * usual
        assert 0 <= lost < SERVER_CONNECTIONS
        stack.close()
        assert _trips(proxy, session, 10) == 10 * usual


def test_server_connections_that_are_made_anew_lose_nothing(pooled_url: str, postgresql_url: str) -> None:
    with sessions.Session.from_url("chat_1", pooled_url, retry_delay=0.01) as session:
        for number in range(5):
            session.add_items([{"number": number}])
            assert [item["number"] for item in session.get_items()] == list(range(number + 1))
            end_connections(postgresql_url)


def test_a_table_that_changes_is_seen_through_the_pooler(pooled_url: str, postgresql_url: str) -> None:
    with sessions.Session.from_url("chat_1", pooled_url, retry_delay=0.01) as session:
        for kind in ("VARCHAR", "TEXT"):
            for _ in range(6):
                _use(session)
            execute_sql(postgresql_url, f"ALTER TABLE agent_messages ALTER COLUMN message_data TYPE {kind}")
            execute_sql(postgresql_url, "ALTER TABLE agent_messages ADD COLUMN IF NOT EXISTS more TEXT")
            _use(session)
        assert len(session.get_items()) == 14


def test_a_name_that_was_given_by_hand_is_no_harm(pooled_url: str, postgresql_url: str) -> None:
    with sessions.Session.from_url("chat_1", postgresql_url) as session:
        _use(session)
        with connection_of(session) as connection:
            names: list[Any] = connection.execute("SELECT name FROM pg_prepared_statements", prepare=False).fetchall()
    with connected(pooled_url, autocommit=True) as client:
        client.prepare_threshold = None
        for (name,) in names:
            with suppress(psycopg.errors.DuplicatePreparedStatement):
                run(client, f"PREPARE {name} AS SELECT 'another one'")
        with sessions.Session.from_url("chat_1", pooled_url, max_retries=0) as session:
            for _ in range(3):
                _use(session)
