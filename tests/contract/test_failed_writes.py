"""Clause 10: a failed write leaves no row, no open transaction, no lock, and a usable session."""

from collections.abc import Iterator

import pytest

import sessions
from support.samples import item, items, refuse_poisoned_rows, stored_sessions, texts
from support.servers import connect_raw, dialect_of, execute_sql


@pytest.fixture
def poisoned(sql_url: str) -> Iterator[sessions.Backend]:
    """A backend whose database refuses to add `poison` and to delete `precious`."""
    with sessions.connect(sql_url) as backend:
        backend.session("chat_0").add_items(items("old"))
        refuse_poisoned_rows(sql_url)
        yield backend


def open_transactions(url: str) -> int:
    """How many transactions of others are open in this database now."""
    dialect = dialect_of(url)
    if dialect == "sqlite":
        connection = connect_raw(url)
        try:
            connection.execute("PRAGMA busy_timeout = 0")
            connection.execute("BEGIN EXCLUSIVE")  # fails while any transaction is open
            connection.execute("ROLLBACK")
        finally:
            connection.close()
        return 0
    if dialect == "postgresql":
        statement = (
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'"
        )
    else:
        statement = (
            "SELECT COUNT(*) FROM information_schema.innodb_trx JOIN information_schema.processlist "
            "ON trx_mysql_thread_id = id WHERE db = DATABASE()"
        )
    count: int = execute_sql(url, statement)[0][0]
    return count


def test_a_failed_add_leaves_nothing(poisoned: sessions.Backend, sql_url: str) -> None:
    session = poisoned.session("chat_1")
    with pytest.raises(sessions.DatabaseError):
        session.add_items(items("a", "b", "poison", "c"))
    assert session.get_items() == []
    assert stored_sessions(sql_url) == ["chat_0"]


def test_a_failed_add_leaves_what_was_there(poisoned: sessions.Backend) -> None:
    session = poisoned.session("chat_0")
    with pytest.raises(sessions.DatabaseError):
        session.add_items(items("a", "poison"))
    assert texts(session.get_items()) == ["old"]


def test_a_session_is_usable_after_a_failed_add(poisoned: sessions.Backend) -> None:
    session = poisoned.session("chat_1")
    for _ in range(3):
        with pytest.raises(sessions.DatabaseError):
            session.add_items(items("poison"))
        session.add_items(items("a"))
    assert texts(session.get_items()) == ["a", "a", "a"]


def test_a_failed_add_leaves_no_transaction_and_no_lock(poisoned: sessions.Backend, sql_url: str) -> None:
    with pytest.raises(sessions.DatabaseError):
        poisoned.session("chat_0").add_items(items("poison"))
    assert open_transactions(sql_url) == 0
    with sessions.Session.from_url("chat_0", sql_url) as another:
        another.add_items(items("new"))
    assert texts(poisoned.session("chat_0").get_items()) == ["old", "new"]


def test_a_failed_add_says_nothing_of_the_items(poisoned: sessions.Backend) -> None:
    with pytest.raises(sessions.DatabaseError) as caught:
        poisoned.session("chat_1").add_items([item("private poison")])
    assert "private" not in str(caught.value)


def test_the_cause_of_a_failed_add_is_the_drivers_error(poisoned: sessions.Backend) -> None:
    with pytest.raises(sessions.DatabaseError) as caught:
        poisoned.session("chat_1").add_items(items("poison"))
    assert "refused by trigger" in str(caught.value.__cause__)


def test_a_failed_pop_leaves_everything(poisoned: sessions.Backend, sql_url: str) -> None:
    session = poisoned.session("chat_1")
    session.add_items(items("a", "precious"))
    with pytest.raises(sessions.DatabaseError):
        session.pop_item()
    assert texts(session.get_items()) == ["a", "precious"]
    assert open_transactions(sql_url) == 0


def test_a_failed_clear_leaves_everything(poisoned: sessions.Backend, sql_url: str) -> None:
    session = poisoned.session("chat_1")
    session.add_items(items("a", "precious", "b"))
    with pytest.raises(sessions.DatabaseError):
        session.clear_session()
    assert texts(session.get_items()) == ["a", "precious", "b"]
    assert stored_sessions(sql_url) == ["chat_0", "chat_1"]
    assert open_transactions(sql_url) == 0
    session.add_items(items("c"))
    assert session.pop_item() == item("c")


def test_an_invalid_item_leaves_no_transaction(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("a"))
        with pytest.raises(sessions.InvalidItemError):
            session.add_items([{"n": float("nan")}])
        assert open_transactions(sql_url) == 0


def test_operations_leave_no_open_transaction(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("a", "b", "c"))
        assert open_transactions(sql_url) == 0
        session.get_items()
        assert open_transactions(sql_url) == 0
        session.get_items(limit=1)
        assert open_transactions(sql_url) == 0
        session.pop_item()
        assert open_transactions(sql_url) == 0
        session.clear_session()
        assert open_transactions(sql_url) == 0
        session.pop_item()
        assert open_transactions(sql_url) == 0


def test_a_read_sees_what_another_committed_meanwhile(sql_url: str) -> None:
    with (
        sessions.Session.from_url("chat_1", sql_url) as reader,
        sessions.Session.from_url("chat_1", sql_url) as writer,
    ):
        for count in range(1, 4):
            writer.add_items(items("a"))
            assert len(reader.get_items()) == count
        writer.pop_item()
        assert len(reader.get_items()) == 2
        writer.clear_session()
        assert reader.get_items() == []


def test_connections_are_idle_between_operations(postgresql_url: str) -> None:
    # PostgreSQL alone tells the state; `idle in transaction` would keep VACUUM from working.
    with sessions.Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items("a"))
        session.get_items()
        states = execute_sql(
            postgresql_url,
            "SELECT DISTINCT state FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
    assert states == [("idle",)]
