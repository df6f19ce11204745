"""Clause 10: a failed write leaves no row, no open transaction, no lock, and a usable session."""

import contextlib
import random
import string
import traceback
from collections.abc import Iterator

import pytest

import sessions
from support.claims import OPERATIONS
from support.rivals import open_transactions
from support.samples import item, items, refuse_poisoned_rows, stored_sessions, texts
from support.servers import connect_raw, execute_sql


@pytest.fixture
def poisoned(sql_url: str) -> Iterator[sessions.Backend]:
    """A backend whose database refuses to add `poison` and to delete `precious`."""
    with sessions.connect(sql_url) as backend:
        backend.session("chat_0").add_items(items("old"))
        refuse_poisoned_rows(sql_url)
        yield backend


@pytest.mark.parametrize("name", ["chat_0", "chat_1"], ids=["used", "new"])
def test_a_failed_add_leaves_nothing_and_a_usable_session(poisoned: sessions.Backend, sql_url: str, name: str) -> None:
    session, old = poisoned.session(name), ["old"] if name == "chat_0" else []
    for number in range(3):
        with pytest.raises(sessions.DatabaseError) as caught:
            session.add_items([item(text) for text in ("a", "private poison", "c")])
        assert "private" not in str(caught.value)
        assert "refused by trigger" in str(caught.value.__cause__)
        assert texts(session.get_items()) == old + ["b"] * number
        assert (name in stored_sessions(sql_url)) == bool(old or number)
        session.add_items(items("b"))


@pytest.mark.parametrize("how", ["own", "bind"])
def test_no_traceback_holds_an_item(server_url: str, how: str) -> None:
    secret = "".join(random.choices(string.ascii_letters, k=20))
    with sessions.connect(server_url) as backend, contextlib.closing(connect_raw(server_url)) as connection:
        backend.session("chat_0").add_items(items("a"))
        check = "CHECK (position('poison' IN message_data) = 0)"
        execute_sql(server_url, f"ALTER TABLE agent_messages ADD CONSTRAINT no_poison {check}")
        session = (backend if how == "own" else sessions.bind(connection)).session("chat_0")
        with pytest.raises(sessions.DatabaseError) as caught:
            session.add_items(items(f"{secret} poison"))
        assert isinstance(caught.value.__cause__, Exception)
        assert secret not in "".join(traceback.format_exception(caught.value))


def test_a_failed_add_leaves_no_transaction_and_no_lock(poisoned: sessions.Backend, sql_url: str) -> None:
    with pytest.raises(sessions.DatabaseError):
        poisoned.session("chat_0").add_items(items("poison"))
    assert open_transactions(sql_url) == 0
    with sessions.Session.from_url("chat_0", sql_url) as another:
        another.add_items(items("new"))
    assert texts(poisoned.session("chat_0").get_items()) == ["old", "new"]


@pytest.mark.parametrize("name", ["pop_item", "clear_session"])
def test_a_failed_removal_leaves_everything(poisoned: sessions.Backend, sql_url: str, name: str) -> None:
    session = poisoned.session("chat_1")
    session.add_items(items("a", "b", "precious"))
    with pytest.raises(sessions.DatabaseError):
        OPERATIONS[name](session)
    assert texts(session.get_items()) == ["a", "b", "precious"]
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
        session.add_items(items("a"))
        for operation in (*OPERATIONS.values(), OPERATIONS["clear_session"], OPERATIONS["pop_item"]):
            operation(session)
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
