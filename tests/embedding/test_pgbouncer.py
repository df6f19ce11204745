"""PgBouncer in transaction mode: consecutive transactions of a client run on whatever server connection is free."""

import pytest

import sessions
from embedding.application import (
    connected,
    connections,
    end_connections,
    orders,
    place_order,
    prepare,
    run,
    use_everything,
)
from embedding.pooler import SERVER_CONNECTIONS
from support.samples import assert_contiguous_and_ordered, batch, in_threads, items, stored_texts, texts
from support.servers import execute_sql, with_parts


@pytest.fixture
def pooled_url(pgbouncer: tuple[str, int], postgresql_url: str) -> str:
    """A fresh database through PgBouncer."""
    host, port = pgbouncer
    prepare(postgresql_url)
    return with_parts(postgresql_url, host=host, port=port)


def test_every_operation_works_through_the_pooler(pooled_url: str, postgresql_url: str) -> None:
    with sessions.Session.from_url("chät_1", pooled_url) as session:
        for _ in range(8):  # more often than a driver needs to decide to prepare a statement
            use_everything(session)
            session.clear_session()
        use_everything(session)
    assert len(stored_texts(postgresql_url, "chät_1")) == 1


def test_a_write_under_a_lease_is_one_transaction_through_the_pooler(pooled_url: str) -> None:
    with sessions.connect(pooled_url) as backend:

        def count_on(_: int) -> None:
            session = backend.session("chat_1")
            for _ in range(5):
                with session.exclusive(timeout=60):
                    session.add_items([{"number": len(session.get_items())}], if_position=session.position())

        in_threads(4, count_on)
        session = backend.session("chat_1")
        assert [item["number"] for item in session.get_items()] == list(range(20))

        def lose() -> None:
            with session.exclusive():
                execute_sql(pooled_url, "DELETE FROM agent_session_leases")
                session.add_items(items("late"))

        with pytest.raises(sessions.LeaseLostError):
            lose()
        assert len(session.get_items()) == 20


def test_tables_are_created_through_the_pooler(pgbouncer: tuple[str, int], postgresql_url: str) -> None:
    url = with_parts(postgresql_url, host=pgbouncer[0], port=pgbouncer[1])

    def add_one(number: int) -> None:
        with sessions.Session.from_url(f"chat_{number}", url) as session:
            session.add_items(items("a"))

    in_threads(6, add_one)
    assert execute_sql(postgresql_url, "SELECT count(*) FROM agent_messages") == [(6,)]


def test_many_clients_share_few_server_connections(pooled_url: str, postgresql_url: str) -> None:
    clients, counts = 16, []
    with sessions.connect(pooled_url, pool_size=clients) as backend:

        def work(number: int) -> None:
            session = backend.session(f"chat_{number % 4}")
            for count in range(10):
                session.add_items(batch(f"w{number}", count, 2))
                assert session.get_items(limit=1)
                if number == 0:
                    counts.append(len(connections(postgresql_url)))

        in_threads(clients, work)
        for chat in range(4):
            writers = [f"w{number}" for number in range(chat, clients, 4)]
            history = backend.session(f"chat_{chat}").get_items()
            assert_contiguous_and_ordered(history, writers, batches=10, size=2)
    assert 1 <= max(counts) <= SERVER_CONNECTIONS


def test_nothing_is_left_on_a_server_connection(pooled_url: str) -> None:
    look = (
        "SELECT name, setting FROM pg_settings WHERE source IN ('session', 'client') "
        "AND name <> 'application_name' ORDER BY name"  # which PgBouncer itself carries from client to client
    )
    with connected(pooled_url, autocommit=True) as client:
        before = run(client, look)
        with sessions.Session.from_url("chat_1", pooled_url) as session:
            for _ in range(8):
                session.add_items(items("a"))
                session.get_items()
                session.pop_item()
        assert run(client, look) == before
        names = [name for (name,) in run(client, "SELECT name FROM pg_prepared_statements")]
        assert all(name.startswith(("agent_sql_", "PGBOUNCER_")) for name in names)
        assert run(client, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'") == []


def test_bind_keeps_a_transaction_together_through_the_pooler(pooled_url: str, postgresql_url: str) -> None:
    with connected(pooled_url, autocommit=True) as connection:
        connection.prepare_threshold = None  # the application's own statements need it too
        session = sessions.bind(connection).session("chat_1")
        for number, end in enumerate(["ROLLBACK", "COMMIT"]):
            run(connection, "BEGIN")
            place_order(connection, number)
            session.add_items(items("placed"))
            assert texts(session.get_items()) == ["placed"]
            run(connection, end)
    assert (orders(postgresql_url), len(stored_texts(postgresql_url))) == ([1], 1)


def test_a_pool_that_prepares_statements_does_not_make_us_prepare_any(pooled_url: str) -> None:
    from psycopg_pool import ConnectionPool

    # psycopg prepares after five uses by default, which PgBouncer before 1.21 breaks; ours never are.
    with ConnectionPool(pooled_url, min_size=0, max_size=8) as pool, sessions.connect(pool=pool) as backend:

        def work(number: int) -> None:
            for _ in range(10):
                backend.session(f"chat_{number}").add_items(items("a"))

        in_threads(8, work)
        assert [len(backend.session(f"chat_{number}").get_items()) for number in range(8)] == [10] * 8


def test_the_pooler_ends_connections_and_nothing_is_lost(pooled_url: str, postgresql_url: str) -> None:
    with sessions.Session.from_url("chat_1", pooled_url, retry_delay=0.01) as session:
        for number in range(6):
            session.add_items(items(str(number)))
            end_connections(postgresql_url)
        assert texts(session.get_items()) == [str(number) for number in range(6)]
