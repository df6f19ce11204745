"""A PgBouncer that has no server for a statement: what it says is told from a loss, and nothing is in doubt."""

import contextlib
from collections.abc import Callable

import pytest

from faults.writers import at_first_retry
from sessions import AuthenticationError, ConnectionFailedError, DatabaseError, Session
from support.claims import refused
from support.samples import items, texts
from support.servers import connect_raw, with_parts

Start = Callable[..., tuple[str, int]]


@pytest.fixture(scope="module")
def full(start_pgbouncer: Start) -> tuple[str, int]:
    """One that takes two clients, whose statements wait a second for the one connection to the server."""
    return start_pgbouncer(MAX_CLIENT_CONN="2", DEFAULT_POOL_SIZE="1", QUERY_WAIT_TIMEOUT="1")


@pytest.fixture
def url(full: tuple[str, int], postgresql_url: str) -> str:
    with Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items("a", "b"))
    host, port = full
    return with_parts(postgresql_url, host=host, port=port)


def test_too_many_clients_are_tried_again(url: str) -> None:
    with contextlib.ExitStack() as clients, Session.from_url("chat_1", url, retry_delay=0.01) as session:
        for _ in range(2):
            clients.enter_context(contextlib.closing(connect_raw(url)))
        with at_first_retry(clients.close) as retries:
            session.add_items(items("c"))
        assert retries.count >= 1
        assert texts(session.get_items()) == ["a", "b", "c"]


def test_too_many_clients_for_too_long_are_a_connection_error(url: str) -> None:
    with contextlib.ExitStack() as clients:
        for _ in range(2):
            clients.enter_context(contextlib.closing(connect_raw(url)))
        session = Session.from_url("chat_1", url, max_retries=1, retry_delay=0.01)
        with session, refused(ConnectionFailedError, match="pooler") as caught:
            session.get_items()
    assert not isinstance(caught.value, AuthenticationError)


@pytest.mark.slow
def test_a_statement_that_got_no_server_was_not_executed_and_is_tried_again(url: str) -> None:
    """Also a pop, which is never repeated where it may have happened."""
    holder = connect_raw(url)
    with contextlib.closing(holder), Session.from_url("chat_1", url, retry_delay=0.01) as session:
        holder.execute("BEGIN")
        with at_first_retry(lambda: holder.execute("COMMIT")) as retries:
            assert texts([session.pop_item() or {}]) == ["b"]
        assert retries.count >= 1
        assert texts(session.get_items()) == ["a"]


def test_an_unknown_user_is_an_authentication_error(url: str) -> None:
    session = Session.from_url("chat_1", with_parts(url, user="nobody", password="x"), max_retries=3)
    with session, refused(AuthenticationError):
        session.get_items()


def test_a_server_that_is_missing_behind_the_pooler_is_suspected(url: str) -> None:
    holder = connect_raw(url)
    session = Session.from_url("chat_1", url, max_retries=0)
    with contextlib.closing(holder), session:
        holder.execute("BEGIN")
        with refused(ConnectionFailedError, match="the server behind the pooler"):
            session.get_items()


@pytest.mark.parametrize(
    "write", [lambda session: session.fork("chat_2"), lambda session: session.delete_record(1)], ids=["fork", "delete"]
)
def test_a_pooler_of_statements_is_named_and_leaves_nothing_in_doubt(
    start_pgbouncer: Start, url: str, write: Callable[[Session], object], caplog: pytest.LogCaptureFixture
) -> None:
    host, port = start_pgbouncer(POOL_MODE="statement")
    with (
        Session.from_url("chat_1", with_parts(url, host=host, port=port)) as session,
        refused(DatabaseError, match="let the pooler pool transactions"),
    ):
        write(session)
    assert not caplog.records


def test_a_parameter_that_the_pooler_does_not_take_is_told(url: str, caplog: pytest.LogCaptureFixture) -> None:
    session = Session.from_url("chat_1", f"{url}?options=-c%20work_mem=8MB", max_retries=3)
    with session, refused(ConnectionFailedError, match="drop the parameter"):
        session.get_items()
    assert not caplog.records
