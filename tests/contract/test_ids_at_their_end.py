"""Ids at the end of their type and beyond it, and such that are no numbers."""

import contextlib
import re
from typing import Any

import pytest

import sessions
from sessions._items import MAX_ID
from support.claims import assert_helpful, each_mysql
from support.samples import item, items, texts
from support.servers import dialect_of, execute_sql


def put(url: str, row_id: int, text: str = "last") -> None:
    """Add a row by this id, as somebody else does."""
    columns, override = "(id, session_id, message_data)", ""
    if dialect_of(url) == "postgresql":
        override = "OVERRIDING SYSTEM VALUE "
    body = '{"role":"user","content":"%s"}' % text  # noqa: UP031
    execute_sql(url, f"INSERT INTO agent_messages {columns} {override}VALUES ({row_id}, 'chat_1', '{body}')")


def test_the_row_with_the_highest_id_is_like_every_other(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        session = backend.session("chat_1")
        session.add_items([item("a")])
        put(sql_url, MAX_ID)
        assert texts(session.get_items()) == texts(session.get_items(limit=9)) == ["a", "last"]
        assert texts(session.get_items(limit=1)) == ["last"]
        assert session.position() == MAX_ID
        assert [record.id for record in session.records()][-1] == MAX_ID
        session.replace_record(session.position(), item("b"))
        assert texts(session.get_items()) == ["a", "b"]
        with pytest.raises(sessions.ConflictError):
            session.add_items(items("x"), if_position=1)
        assert session.pop_item() == item("b")
        assert texts(session.get_items()) == ["a"]


def test_where_ids_are_used_up_the_remedy_is_to_number_anew(sql_url: str) -> None:
    with sessions.connect(sql_url, retry_timeout=0) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        if dialect_of(sql_url) == "postgresql":
            execute_sql(sql_url, f"SELECT setval(pg_get_serial_sequence('agent_messages', 'id'), {MAX_ID})")
        else:
            put(sql_url, MAX_ID)
        before = session.get_items()
        for write in (session.add_items, session.replace_items):
            with pytest.raises(sessions.SessionsError, match=r"end|used up") as caught:
                write(items("b", "c"))
            assert re.search(r"number the rows anew|BIGINT", str(caught.value))
            assert_helpful(caught.value)
        assert session.get_items() == before


@each_mysql
@pytest.mark.parametrize("options", [{}, {"multi_statements": False}], ids=["packets", "one by one"])
def test_ids_beyond_the_highest_are_read_and_copied_and_no_more_are_written(
    server_url: str, options: dict[str, Any]
) -> None:
    with sessions.connect(server_url, retry_timeout=0, **options) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        execute_sql(server_url, "ALTER TABLE agent_messages MODIFY id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT")
        put(server_url, MAX_ID + 7)
        assert texts(session.get_items(limit=2)) == ["a", "last"]
        assert session.position() == MAX_ID + 7
        assert [record.id for record in session.records()] == [1, MAX_ID + 7]
        assert texts(session.fork("chat_2").get_items()) == ["a", "last"]
        with pytest.raises(sessions.SchemaError, match="used up"):
            session.add_items(items("b"))
        assert texts(session.get_items()) == ["a", "last"]
        assert session.pop_item() == item("last")


@pytest.mark.parametrize(
    "operate",
    [
        lambda session: session.get_items(),
        lambda session: session.get_items(limit=1),
        lambda session: session.position(),
        lambda session: list(session.records()),
        lambda session: list(session.records(limit=1)),
        lambda session: session.pop_item(),
        lambda session: session.add_items(items("c")),
    ],
    ids=["get", "get some", "position", "records", "some records", "pop", "add"],
)
def test_ids_that_are_texts_are_a_named_error(server_url: str, operate: Any) -> None:
    with sessions.connect(server_url, retry_timeout=0) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a", "b"))
        if dialect_of(server_url) == "postgresql":
            for statement in ("ALTER id DROP IDENTITY IF EXISTS", "ALTER id TYPE text", "ALTER id SET DEFAULT '7'"):
                execute_sql(server_url, f"ALTER TABLE agent_messages {statement}")
        else:
            execute_sql(server_url, "ALTER TABLE agent_messages MODIFY id VARCHAR(40) NOT NULL DEFAULT '7'")
        with pytest.raises(sessions.SchemaError, match=r"BIGINT|AUTO_INCREMENT"):
            operate(session)
        with contextlib.suppress(sessions.SessionsError):
            assert execute_sql(server_url, "SELECT COUNT(*) FROM agent_messages") == [(2,)]


@each_mysql
def test_a_narrow_token_is_named_by_its_error_and_by_check(server_url: str) -> None:
    with sessions.connect(server_url, retry_timeout=0) as backend:
        session = backend.session("chat_1")
        with session.exclusive():
            session.add_items(items("a"))
        execute_sql(server_url, "ALTER TABLE agent_session_leases MODIFY token VARCHAR(8) CHARACTER SET ascii NOT NULL")
        with pytest.raises(sessions.DatabaseError, match="column token of the table of leases"), session.exclusive():
            pass
        [found] = [check for check in backend.check() if check.name == "leases"]
        assert (found.verdict, "varchar(8)" in found.found) == ("error", True)
