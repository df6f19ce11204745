"""Rights: roles with little, schemas of their own, passwords that change."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

import sessions
from embedding.application import connected, end_connections, run, use_everything
from sessions._leases import Lease
from support.samples import items, stored_texts, texts
from support.servers import dialect_of, execute_sql, with_parts

PASSWORD = "first p@ss"
TABLES = ("agent_sessions", "agent_messages")


@contextmanager
def role_of(url: str, *statements: str) -> Iterator[str]:
    """A user of its own, with what the statements grant; the URL to connect as that user."""
    user, database = f"app_{uuid4().hex[:12]}", url.rpartition("/")[2]
    on_postgresql = dialect_of(url) == "postgresql"
    execute_sql(url, f"CREATE USER {user} {'PASSWORD' if on_postgresql else 'IDENTIFIED BY'} '{PASSWORD}'")
    drop = [f"DROP OWNED BY {user}"] if on_postgresql else []
    try:
        for statement in statements:
            execute_sql(url, statement.format(user=user, database=database))
        yield with_parts(url, user=user, password=PASSWORD)
    finally:
        for statement in (*drop, f"DROP USER {user}"):
            execute_sql(url, statement)


def grants(url: str, *tables: str) -> list[str]:
    prefix = "" if dialect_of(url) == "postgresql" else "{database}."
    return [f"GRANT SELECT, INSERT, UPDATE, DELETE ON {prefix}{table} TO {{user}}" for table in tables]


def make_tables(url: str, **options: Any) -> None:
    with sessions.Session.from_url("made", url, **options) as session:
        session.add_items(items("a"))
        session.clear_session()


def test_a_role_with_data_rights_alone_binds_its_connection(server_url: str) -> None:
    make_tables(server_url)
    with role_of(server_url, *grants(server_url, *TABLES)) as url, connected(url) as connection:
        use_everything(sessions.bind(connection).session("chat_1"))
        connection.commit()
    assert len(stored_texts(server_url)) == 1


def test_a_role_that_may_only_read_is_told_what_it_lacks(server_url: str) -> None:
    make_tables(server_url)
    read = [grant.replace(", INSERT, UPDATE, DELETE", "") for grant in grants(server_url, *TABLES)]
    with role_of(server_url, *read) as url, sessions.Session.from_url("chat_1", url) as session:
        assert session.get_items() == []
        with pytest.raises(sessions.DatabaseError, match="GRANT SELECT, INSERT, UPDATE, DELETE"):
            session.add_items(items("a"))


# --- a schema of their own


def test_tables_in_a_schema_of_their_own_leave_the_search_path_alone(postgresql_url: str) -> None:
    execute_sql(postgresql_url, "CREATE SCHEMA chats")
    names: Any = {"sessions_table": "chats.agent_sessions", "messages_table": "chats.agent_messages"}
    make_tables(postgresql_url, **names)
    with role_of(
        postgresql_url,
        "GRANT USAGE ON SCHEMA chats TO {user}",
        *grants(postgresql_url, names["sessions_table"], names["messages_table"]),
    ) as url:
        with sessions.Session.from_url("chat_1", url, create_tables=False, **names) as session:
            use_everything(session)
        with connected(url) as connection:
            run(connection, "SET search_path = pg_catalog")
            use_everything(sessions.bind(connection, **names).session("chat_2"))
            assert run(connection, "SHOW search_path") == [("pg_catalog",)]
            connection.commit()
    found = execute_sql(postgresql_url, "SELECT schemaname FROM pg_tables WHERE tablename LIKE 'agent_%%'", ())
    assert found == [("chats",)] * 2


def test_the_search_path_decides_about_names_without_schema(postgresql_url: str) -> None:
    execute_sql(postgresql_url, "CREATE SCHEMA one")
    execute_sql(postgresql_url, "CREATE SCHEMA two")
    with connected(postgresql_url) as connection:
        session = sessions.bind(connection, create_tables=True).session("chat_1")
        for schema in ("one", "two"):
            run(connection, f"SET search_path = {schema}")
            session.add_items(items(schema))
        connection.commit()
    for schema in ("one", "two"):
        assert execute_sql(postgresql_url, f"SELECT count(*) FROM {schema}.agent_messages") == [(1,)]


# --- rows that are shown, and kept from being locked


def policies(table: str, *commands: str) -> list[str]:
    """Let everybody do what is named with the rows of a table, and nothing else."""
    words = {"INSERT": "WITH CHECK (true)"}
    return [f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"] + [
        f"CREATE POLICY {command.lower()}_all ON {table} FOR {command} {words.get(command, 'USING (true)')}"
        for command in commands
    ]


@pytest.fixture
def no_update(request: pytest.FixtureRequest, postgresql_url: str) -> Iterator[sessions.Backend]:
    """A backend with a conversation, as a role that may not update the rows of a table."""
    table: str = request.param
    with sessions.Session.from_url("chat_1", postgresql_url) as session, session.exclusive():
        session.add_items(items("a", "b"))
    for statement in policies(table, "SELECT", "INSERT", "DELETE"):
        execute_sql(postgresql_url, statement)
    tables = (*TABLES, "agent_session_leases")
    with (
        role_of(postgresql_url, *grants(postgresql_url, *tables)) as url,
        sessions.connect(url, create_tables=False, max_retries=0) as backend,
    ):
        yield backend


REMOVALS: dict[str, Callable[[sessions.Backend, sessions.Session, int], object]] = {
    "pop_item": lambda _, session, __: session.pop_item(),
    "delete_record": lambda _, session, newest: session.delete_record(newest),
    "replace_record": lambda _, session, newest: session.replace_record(newest, items("c")[0]),
    "fork": lambda _, session, newest: session.fork("chat_2", upto=newest),
}
DELETIONS: dict[str, Callable[[sessions.Backend, sessions.Session, int], object]] = {
    "delete_sessions": lambda backend, _, __: backend.delete_sessions(["chat_1", "chat_2"]),
    "prune": lambda backend, _, __: backend.prune(timedelta(0)),
}


@pytest.mark.parametrize(
    ("no_update", "name"),
    [("agent_messages", name) for name in REMOVALS] + [("agent_sessions", name) for name in (*REMOVALS, *DELETIONS)],
    indirect=["no_update"],
)
def test_what_may_not_be_locked_is_not_taken_for_missing(
    no_update: sessions.Backend, name: str, postgresql_url: str
) -> None:
    session = no_update.session("chat_1")
    execute_sql(postgresql_url, "UPDATE agent_sessions SET updated_at = updated_at - INTERVAL '1 day'")
    execute_sql(postgresql_url, "UPDATE agent_messages SET created_at = created_at - INTERVAL '1 day'")
    with pytest.raises(sessions.DatabaseError, match=r"not locked or updated.* CREATE POLICY .* FOR UPDATE"):
        (REMOVALS | DELETIONS)[name](no_update, session, session.position())
    assert texts(session.get_items()) == ["a", "b"]


@pytest.mark.parametrize("no_update", TABLES, indirect=True)
def test_a_check_says_that_rows_may_not_be_locked(no_update: sessions.Backend) -> None:
    [check] = [check for check in no_update.check() if check.name == "rights"]
    assert check.verdict == "error"
    assert "FOR UPDATE" in check.remedy


@pytest.mark.parametrize("no_update", ["agent_session_leases"], indirect=True)
def test_a_lease_that_may_not_be_changed_is_not_taken_for_lost(no_update: sessions.Backend) -> None:
    session = no_update.session("chat_1")
    lease: Any = Lease("chat_1", "token", 60_000_000)
    store: Any = no_update._store
    store.take_lease(lease)
    with pytest.raises(sessions.DatabaseError, match="policy"):
        store.renew_lease(lease)
    assert store.release_lease(lease)
    assert texts(session.get_items()) == ["a", "b"]


# --- tables that would not last


def test_no_table_is_made_that_ends_with_its_connection(postgresql_url: str) -> None:
    execute_sql(postgresql_url, "CREATE SCHEMA chats")
    with role_of(postgresql_url, "GRANT ALL ON SCHEMA chats TO {user}") as url:
        user = url.partition("://")[2].partition(":")[0]
        execute_sql(postgresql_url, f"ALTER ROLE {user} SET search_path = pg_temp, chats")
        with sessions.Session.from_url("chat_1", url) as session:
            for _ in range(2):
                with pytest.raises(sessions.SchemaError, match="pg_temp"):
                    session.add_items(items("a"))
        execute_sql(postgresql_url, f"ALTER ROLE {user} SET search_path = chats")
        with sessions.Session.from_url("chat_1", url) as session:
            session.add_items(items("a"))
        # Found behind pg_temp: the leases are made beside them, and not there.
        execute_sql(postgresql_url, f"ALTER ROLE {user} SET search_path = pg_temp, chats")
        with sessions.Session.from_url("chat_1", url) as session:
            assert texts(session.get_items()) == ["a"]
            with session.exclusive():
                session.add_items(items("b"))
        found = execute_sql(postgresql_url, "SELECT to_regclass('chats.agent_session_leases') IS NOT NULL")
        assert found == [(True,)]


# --- a password that changes


def test_a_password_is_asked_for_at_each_connection(server_url: str) -> None:
    make_tables(server_url)
    with role_of(server_url, *grants(server_url, *TABLES)) as url:
        user, current, asked = url.partition("://")[2].partition(":")[0], [PASSWORD], [0]

        def password() -> str:
            asked[0] += 1
            return current[0]

        def change(to: str) -> None:
            change = "PASSWORD" if dialect_of(url) == "postgresql" else "IDENTIFIED BY"
            execute_sql(server_url, f"ALTER USER {user} {change} '{to}'")

        without = url.replace(":" + url.partition("://")[2].partition(":")[2].partition("@")[0], "", 1)
        with sessions.Session.from_url(
            "chat_1", without, password=password, create_tables=False, max_retries=2, retry_delay=0.01
        ) as session:
            session.add_items(items("a"))
            for number in range(3):
                change(f"token {number}")
                session.add_items(items("the connection is still open"))
                current[0] = f"token {number}"
                end_connections(server_url)
                session.add_items(items("with a new token"))
            assert asked[0] == 4
            change("another token")
            end_connections(server_url)
            with pytest.raises(sessions.AuthenticationError) as caught:
                session.get_items()
            assert "token" not in str(caught.value)
            current[0] = "another token"
            assert len(session.get_items()) == 7
