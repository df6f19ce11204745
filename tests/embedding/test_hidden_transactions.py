"""bind() and pools on connections whose driver does not know all that the application has begun."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pymysql
import pytest

import sessions
from embedding.application import orders, place_order, prepare, run
from support.claims import OPERATIONS, each_mysql, refused
from support.samples import items, stored_texts, texts
from support.servers import connect_raw, execute_sql

pytestmark = each_mysql


@pytest.fixture
def url(server_url: str) -> str:
    prepare(server_url)
    return server_url


@pytest.fixture
def connection(url: str) -> Iterator[Any]:
    """As PyMySQL opens it: without autocommit; it may send several statements at once."""
    with contextlib.closing(connect_raw(url)) as connection:
        connection.autocommit(False)
        yield connection


def is_locked(url: str, number: int) -> bool:
    """Whether another transaction holds an order."""
    try:
        execute_sql(url, f"SELECT state FROM orders WHERE id = {number} FOR UPDATE NOWAIT")
    except pymysql.OperationalError:
        return True
    return False


@pytest.mark.parametrize("cursor", [pymysql.cursors.Cursor, pymysql.cursors.SSCursor])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_transaction_that_a_query_has_begun_goes_on(
    url: str, connection: Any, name: str, cursor: type[pymysql.cursors.Cursor]
) -> None:
    execute_sql(url, "INSERT INTO orders VALUES (1, 'placed')")
    with connection.cursor(cursor) as asking:
        asking.execute("SELECT state FROM orders WHERE id = 1 FOR UPDATE")
        asking.fetchall()
    OPERATIONS[name](sessions.bind(connection).session("chat_1"))
    assert is_locked(url, 1)
    connection.rollback()
    assert stored_texts(url) == []


@pytest.mark.parametrize(
    ("autocommit", "statements"),
    [
        (False, "SELECT 1; INSERT INTO orders VALUES (1, '')"),
        (True, "SELECT 1; BEGIN; INSERT INTO orders VALUES (1, '')"),
    ],
    ids=["without autocommit", "in autocommit"],
)
def test_a_transaction_of_which_an_unread_answer_tells_goes_on(
    url: str, connection: Any, autocommit: bool, statements: str
) -> None:
    connection.autocommit(autocommit)
    connection.client_flag |= pymysql.constants.CLIENT.MULTI_STATEMENTS
    connection.close()
    connection.connect()
    connection.cursor().execute(statements)
    sessions.bind(connection).session("chat_1").add_items(items("a"))
    connection.rollback()
    assert (orders(url), stored_texts(url)) == ([], [])


def test_the_first_operation_of_a_transaction_leaves_none_when_it_fails(url: str, connection: Any) -> None:
    session = sessions.bind(connection).session("chat_1")
    with refused(sessions.ConflictError):
        session.add_items(items("a"), if_position=7)
    place_order(connection, 1)
    session.add_items(items("b"))
    connection.commit()
    assert (orders(url), len(stored_texts(url))) == ([1], 1)


def test_locked_tables_stay_locked(url: str, connection: Any) -> None:
    run(connection, "LOCK TABLES orders WRITE")
    with refused(sessions.DatabaseError, match="UNLOCK TABLES"):
        sessions.bind(connection).session("chat_1").add_items(items("a"))
    with contextlib.closing(connect_raw(url)) as other:
        run(other, "SET SESSION lock_wait_timeout = 1")
        with pytest.raises(pymysql.OperationalError, match="timeout"):
            place_order(other, 1)


def test_a_streaming_cursor_has_to_be_read_first(url: str, connection: Any) -> None:
    session = sessions.bind(connection).session("chat_1")
    with connection.cursor(pymysql.cursors.SSCursor) as asking:
        asking.execute("SELECT 1 UNION SELECT 2")
        with refused(sessions.ConfigurationError, match="read it to its end"):
            session.add_items(items("a"))
        assert asking.fetchall() == [(1,), (2,)]
    session.add_items(items("b"))
    assert texts(session.get_items()) == ["b"]


def pool_of(connection: Any) -> Any:
    return SimpleNamespace(connection=lambda: contextlib.nullcontext(connection))


@pytest.mark.parametrize("behind", ["nothing", "a statement that failed"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_transaction_that_a_query_has_begun_is_refused_in_a_pool(
    url: str, connection: Any, name: str, behind: str
) -> None:
    execute_sql(url, "INSERT INTO orders VALUES (1, 'placed')")
    session = sessions.connect(pool=pool_of(connection)).session("chat_1")
    run(connection, "SELECT state FROM orders WHERE id = 1 FOR UPDATE")
    if behind != "nothing":
        with pytest.raises(pymysql.IntegrityError):
            place_order(connection, 1)
    for _ in range(2):
        with refused(sessions.ConfigurationError, match=r"use bind\(\)"):
            OPERATIONS[name](session)
    assert is_locked(url, 1)
    connection.rollback()
    OPERATIONS[name](session)


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_pools_connection_is_asked_for_its_transaction_only_where_it_has_not_told(
    connection: Any, autocommit: bool
) -> None:
    connection.autocommit(autocommit)
    session = sessions.connect(pool=pool_of(connection)).session("chat_1")
    session.add_items(items("a"))
    counted = "SHOW SESSION STATUS LIKE 'Questions'"
    [(_, before)] = run(connection, counted)
    session.get_items()  # what was asked last was answered with rows
    session.get_items()
    [(_, after)] = run(connection, counted)
    sent = ["SELECT", "SELECT"] if autocommit else ["SAVEPOINT", "SELECT", "COMMIT", "SELECT", "COMMIT"]
    assert int(after) - int(before) == len(sent) + 1


def test_a_write_through_a_pool_is_committed_once(url: str, connection: Any) -> None:
    session = sessions.connect(pool=pool_of(connection)).session("chat_1")
    session.add_items(items("a"))
    [(_, before)] = run(connection, "SHOW SESSION STATUS LIKE 'Com_commit'")
    session.add_items(items("b"))
    assert run(connection, "SHOW SESSION STATUS LIKE 'Com_commit'") == [("Com_commit", str(int(before) + 1))]
    assert len(stored_texts(url)) == 2


def test_a_pool_that_resets_nothing_shows_what_was_acknowledged_since(url: str, connection: Any) -> None:
    session = sessions.connect(pool=pool_of(connection)).session("chat_1")
    assert session.get_items() == []
    with sessions.Session.from_url("chat_1", url) as other:
        other.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]
        other.add_items(items("b"))
    with refused(sessions.ConflictError):
        session.add_items(items("c"), if_position=1)
    assert texts(session.get_items()) == ["a", "b"]
