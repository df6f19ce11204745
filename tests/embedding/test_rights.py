"""Rights: roles with little, schemas of their own, several tenants in one table, passwords that change."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

import sessions
from embedding.application import connected, end_connections, run, use_everything
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


# --- several tenants in one table


POLICIES = (
    # A conversation belongs to the tenant that its id begins with: two tenants never share an id.
    """ALTER TABLE agent_sessions ENABLE ROW LEVEL SECURITY""",
    """ALTER TABLE agent_messages ENABLE ROW LEVEL SECURITY""",
    """CREATE POLICY tenant ON agent_sessions
           USING (split_part(session_id, ':', 1) = current_setting('app.tenant'))""",
    """CREATE POLICY tenant ON agent_messages
           USING (split_part(session_id, ':', 1) = current_setting('app.tenant'))""",
)


def test_row_level_security_keeps_tenants_apart(postgresql_url: str) -> None:
    make_tables(postgresql_url)
    for policy in POLICIES:
        execute_sql(postgresql_url, policy)
    with role_of(postgresql_url, *grants(postgresql_url, *TABLES)) as url, connected(url) as connection:
        backend = sessions.bind(connection)

        def as_tenant(tenant: str) -> None:
            run(connection, f"SET LOCAL app.tenant = '{tenant}'")

        for tenant in ("ann", "bob"):
            as_tenant(tenant)
            use_everything(backend.session(f"{tenant}:chat_1"))
            connection.commit()

        as_tenant("ann")
        assert texts(backend.session("ann:chat_1").get_items()) == ["e"]
        theirs = backend.session("bob:chat_1")
        assert theirs.get_items() == []
        assert theirs.pop_item() is None
        theirs.clear_session()
        for write in (theirs.add_items, theirs.replace_items):
            with pytest.raises(sessions.DatabaseError, match="row-level security"):
                write(items("intruder"))
        assert texts(backend.session("ann:chat_1").get_items()) == ["e"]  # the transaction goes on
        connection.commit()
        assert backend.session("ann:chat_1").get_items() == []  # SET LOCAL has ended with its transaction
    assert len(stored_texts(postgresql_url, "bob:chat_1")) == 1


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
