"""A time limit of the server's own ends a statement: the error names it, and what is to be done."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

import sessions
from sessions import DatabaseError
from support.claims import each_mysql, refused
from support.samples import items, texts
from support.servers import connect_raw, dialect_of

LIMITS = {"mysql": "max_execution_time = 100", "mariadb": "max_statement_time = 0.1"}


@contextlib.contextmanager
def limited(url: str, limit: str) -> Iterator[tuple[sessions.Session, Any, Any]]:
    """A conversation with one item, a connection with the limit, and one that holds what others wait for."""
    with (
        sessions.Session.from_url("chat_1", url) as owner,
        contextlib.closing(connect_raw(url)) as connection,
        contextlib.closing(connect_raw(url)) as holder,
    ):
        owner.add_items(items("a"))
        connection.cursor().execute(f"SET SESSION {limit}")
        yield owner, connection, holder


@each_mysql
def test_a_read_that_a_limit_of_the_server_ends_names_the_limit(server_url: str) -> None:
    limit = LIMITS[dialect_of(server_url)]
    with limited(server_url, limit) as (_, connection, holder):
        session = sessions.bind(connection).session("chat_1")
        holder.cursor().execute("LOCK TABLES agent_messages WRITE")
        with refused(DatabaseError, match=f"longer than {limit.split()[0]} of the server.*raise the limit$"):
            session.get_items()
        holder.cursor().execute("UNLOCK TABLES")
        assert texts(session.get_items()) == ["a"]


@pytest.mark.mariadb
def test_a_write_that_a_limit_of_the_server_ends_names_the_limit_and_has_written_nothing(mariadb_url: str) -> None:
    with limited(mariadb_url, LIMITS["mariadb"]) as (owner, connection, holder):
        holder.cursor().execute("BEGIN")
        holder.cursor().execute("SELECT session_id FROM agent_sessions FOR UPDATE")
        with refused(DatabaseError, match="longer than max_statement_time of the server.*nothing was written$"):
            sessions.bind(connection).session("chat_1").add_items(items("b"))
        holder.cursor().execute("ROLLBACK")
        connection.cursor().execute("ROLLBACK")
        assert texts(owner.get_items()) == ["a"]
