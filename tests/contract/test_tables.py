"""Clause 8 and the tables: who makes them, what they are called, what stands in them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sessions
from support.samples import batch, in_threads, items, make_tables_without_foreign_key, stored_sessions, texts
from support.servers import dialect_of, execute_sql, with_parts
from support.workers import add_batches, in_processes


def tables(url: str) -> set[str]:
    dialect = dialect_of(url)
    if dialect == "sqlite":
        statement = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    elif dialect == "postgresql":
        statement = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'agent%'"
    else:
        statement = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
    return {row[0] for row in execute_sql(url, statement)}


# --- the parent row


def test_the_first_add_writes_the_session_row(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("a"))
        session.add_items(items("b"))
    assert stored_sessions(sql_url) == ["chat_1"]


def test_every_add_renews_updated_at_and_keeps_created_at(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("a"))
        old = "2001-02-03 04:05:06"
        execute_sql(sql_url, "UPDATE agent_sessions SET created_at = %s, updated_at = %s", (old, old))
        session.add_items(items("b"))
    created, updated = execute_sql(sql_url, "SELECT created_at, updated_at FROM agent_sessions")[0]
    assert str(created) == old
    assert str(updated) > "2020"


def test_a_writer_with_foreign_keys_on_is_never_refused(sql_url: str) -> None:
    def write(number: int) -> None:
        with sessions.connect(sql_url) as backend:
            for count in range(5):
                session = backend.session(f"chat_{count}")
                session.add_items(items(f"{number}"))
                if number == 0:
                    session.clear_session()

    in_threads(4, write)
    orphans = execute_sql(
        sql_url,
        "SELECT COUNT(*) FROM agent_messages WHERE session_id NOT IN (SELECT session_id FROM agent_sessions)",
    )
    assert orphans == [(0,)]


@pytest.mark.parametrize("made_by", ["us", "another-store"])
def test_order_by_created_at_and_id_agrees_with_order_by_id(sql_url: str, made_by: str) -> None:
    """The SDK's SQLAlchemySession orders by (created_at, id)."""
    if made_by == "another-store":
        make_tables_without_foreign_key(sql_url)

    def write(number: int) -> None:
        with sessions.connect(sql_url) as backend:
            for count in range(8):
                backend.session("chat_1").add_items(batch(f"w{number}", count, 2))

    in_threads(6, write)
    by_clock, by_id = (
        [
            row[0]
            for row in execute_sql(
                sql_url, f"SELECT id FROM agent_messages WHERE session_id = 'chat_1' ORDER BY {order}"
            )
        ]
        for order in ("created_at, id", "id")
    )
    assert by_clock == by_id
    assert len(by_id) == 96


def test_created_at_is_the_time_of_the_database(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("a"))
    difference = {
        "sqlite": "abs(julianday(created_at) - julianday('now')) * 86400",
        "postgresql": "abs(extract(epoch FROM created_at - CURRENT_TIMESTAMP::timestamp))",
    }.get(dialect_of(sql_url), "abs(timestampdiff(SECOND, created_at, CURRENT_TIMESTAMP))")
    for table in ("agent_sessions", "agent_messages"):
        ((seconds,),) = execute_sql(sql_url, f"SELECT {difference} FROM {table}")
        assert seconds < 3600


def test_created_at_on_sqlite_is_the_columns_default(sqlite_url: str) -> None:
    # Whole seconds as text: a finer form would sort wrongly beside rows of the SDK.
    with sessions.Session.from_url("chat_1", sqlite_url) as session:
        session.add_items(items("a"))
    ((created,),) = execute_sql(sqlite_url, "SELECT created_at FROM agent_messages")
    assert len(created) == len("2026-01-01 00:00:00")


# --- making them


def test_missing_tables_are_made(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("a"))
    assert tables(sql_url) == {"agent_sessions", "agent_messages"}


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda session: session.get_items(), id="get_items"),
        pytest.param(lambda session: session.get_items(limit=3), id="get_items(limit=3)"),
        pytest.param(lambda session: session.pop_item(), id="pop_item"),
        pytest.param(lambda session: session.clear_session(), id="clear_session"),
        pytest.param(lambda session: session.add_items(items("a")), id="add_items"),
    ],
)
def test_every_operation_may_be_the_first(
    backend: sessions.Backend, operation: Callable[[sessions.Session], Any]
) -> None:
    assert operation(backend.session("chat_1")) in (None, [])
    backend.session("chat_1").add_items(items("b"))
    assert texts(backend.session("chat_1").get_items())[-1] == "b"


def test_a_table_that_vanished_is_made_again(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("a"))
        execute_sql(sql_url, "DROP TABLE agent_messages")
        execute_sql(sql_url, "DROP TABLE agent_sessions")
        assert session.get_items() == []
        session.add_items(items("b"))
        assert texts(session.get_items()) == ["b"]


def test_one_missing_table_is_made_beside_the_other(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("a"))
    execute_sql(sql_url, "DROP TABLE agent_messages")
    with sessions.Session.from_url("chat_1", sql_url) as session:
        assert session.get_items() == []
        session.add_items(items("b"))
        assert texts(session.get_items()) == ["b"]


def test_many_may_open_an_empty_database_at_once(sql_url: str) -> None:
    def write(number: int) -> None:
        with sessions.Session.from_url(f"chat_{number}", sql_url) as session:
            session.add_items(items("a"))

    in_threads(8, write)
    assert len(stored_sessions(sql_url)) == 8


@pytest.mark.slow
def test_many_processes_may_open_an_empty_database_at_once(sql_url: str) -> None:
    in_processes(add_batches, [(sql_url, "chat_1", f"w{n}", 1, 1) for n in range(4)])
    with sessions.Session.from_url("chat_1", sql_url) as session:
        assert len(session.get_items()) == 4


def test_create_tables_false_makes_none(sql_url: str) -> None:
    with sessions.connect(sql_url, create_tables=False) as backend:
        session = backend.session("chat_1")
        for operation in (
            session.get_items,
            lambda: session.get_items(limit=1),
            lambda: session.add_items(items("a")),
            session.pop_item,
            session.clear_session,
        ):
            with pytest.raises(sessions.SchemaError, match="create_tables"):
                operation()
    assert tables(sql_url) == set()


def test_create_tables_false_works_where_the_tables_are(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
    with sessions.connect(sql_url, create_tables=False) as backend:
        session = backend.session("chat_1")
        session.add_items(items("b"))
        assert texts(session.get_items()) == ["a", "b"]
        assert session.pop_item() is not None
        session.clear_session()
        assert session.get_items() == []


def test_a_schema_error_goes_away_when_the_tables_come(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url, create_tables=False) as session:
        with pytest.raises(sessions.SchemaError):
            session.add_items(items("a"))
        with sessions.Session.from_url("chat_2", sql_url) as another:
            another.add_items(items("x"))
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]


# --- their names

NAMES = [
    "chat_sessions", "ChatSessions", "select", "my table", "a-b", "a--b", "a$1b", "Ünï-çødé", "表",
    "agent_messages_2", "x" * 50, "1st", "_",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_quoted(sql_url: str, name: str) -> None:
    options: dict[str, Any] = {"sessions_table": name, "messages_table": f"{name}_msg"}
    for _ in range(2):
        with sessions.Session.from_url("chat_1", sql_url, **options) as session:
            session.add_items(items("a", "b"))
            assert session.pop_item() is not None
            assert texts(session.get_items(limit=1)) == ["a"]
    with sessions.Session.from_url("chat_1", sql_url, create_tables=False, **options) as session:
        assert texts(session.get_items()) == ["a", "a"]
        session.clear_session()
        assert session.get_items() == []
    found = raw_table_names(sql_url)
    assert found == {name, f"{name}_msg"} or found == {name.lower(), f"{name}_msg".lower()}


def raw_table_names(url: str) -> set[str]:
    dialect = dialect_of(url)
    if dialect == "postgresql":
        statement = "SELECT tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        return {row[0] for row in execute_sql(url, statement)}
    return tables(url)


def test_names_that_need_a_capital_are_different_tables(postgresql_url: str) -> None:
    # SQLite never tells table names apart by case, MySQL does it by the server's file system.
    for name in ("Chat", "chat"):
        with sessions.Session.from_url(
            "chat_1", postgresql_url, sessions_table=f"{name}_s", messages_table=f"{name}_m"
        ) as session:
            session.add_items(items(name))
            assert texts(session.get_items()) == [name]


def test_pairs_of_tables_in_one_database_do_not_meet(sql_url: str) -> None:
    pairs = [("a_sessions", "a_messages"), ("b_sessions", "b_messages"), ("agent_sessions", "c")]
    for parents, messages in pairs:
        with sessions.Session.from_url("chat_1", sql_url, sessions_table=parents, messages_table=messages) as session:
            session.add_items(items(messages))
    for parents, messages in pairs:
        with sessions.Session.from_url("chat_1", sql_url, sessions_table=parents, messages_table=messages) as session:
            assert texts(session.get_items()) == [messages]
            session.clear_session()


def test_long_names_with_a_common_beginning_do_not_meet(sql_url: str) -> None:
    stem = "x" * 52
    for number in range(2):
        with sessions.Session.from_url(
            "chat_1", sql_url, sessions_table=f"{stem}{number}", messages_table=f"{stem}{number}_m"
        ) as session:
            session.add_items(items(str(number)))
            assert texts(session.get_items()) == [str(number)]


@pytest.mark.parametrize("length", [50, 54, 57, 58, 60, 63])
def test_a_name_that_is_accepted_works(sql_url: str, length: int) -> None:
    names: dict[str, Any] = {"sessions_table": "s" * length, "messages_table": "m" * length}
    try:
        session = sessions.Session.from_url("chat_1", sql_url, **names)
    except sessions.ConfigurationError:
        assert length > 50
        return
    with session:
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]
    assert raw_table_names(sql_url) == set(names.values())


def test_a_schema_of_postgresql_may_be_named(postgresql_url: str) -> None:
    execute_sql(postgresql_url, 'CREATE SCHEMA "My Schema"')
    options: dict[str, Any] = {"sessions_table": "My Schema.chats", "messages_table": "My Schema.lines"}
    with sessions.Session.from_url("chat_1", postgresql_url, **options) as session:
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]
    assert execute_sql(postgresql_url, 'SELECT COUNT(*) FROM "My Schema".lines') == [(1,)]
    with sessions.Session.from_url("chat_1", postgresql_url, create_tables=False, **options) as session:
        assert session.pop_item() is not None


def test_the_two_tables_may_stand_in_two_schemas(postgresql_url: str) -> None:
    for schema in ("one", "two"):
        execute_sql(postgresql_url, f"CREATE SCHEMA {schema}")
    with sessions.Session.from_url(
        "chat_1", postgresql_url, sessions_table="one.chats", messages_table="two.chats"
    ) as session:
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]
        session.clear_session()
    assert execute_sql(postgresql_url, "SELECT COUNT(*) FROM one.chats") == [(0,)]


@pytest.mark.parametrize(
    "name",
    [pytest.param("mysql", marks=pytest.mark.mysql), pytest.param("mariadb", marks=pytest.mark.mariadb)],
)
def test_another_database_of_a_mysql_server_may_be_named(make_url: Callable[[str], str], name: str) -> None:
    here, there = make_url(name), make_url(name)
    database = there.rpartition("/")[2]
    options: dict[str, Any] = {"sessions_table": f"{database}.chats", "messages_table": f"{database}.lines"}
    with sessions.Session.from_url("chat_1", here, **options) as session:
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]
    assert execute_sql(there, "SELECT COUNT(*) FROM `lines`") == [(1,)]
    assert tables(here) == set()


# --- narrow rights


@pytest.fixture
def make_user(server_url: str) -> Iterator[Callable[[str], str]]:
    """A function from rights on tables to the URL of a user that has just these."""
    database = server_url.rpartition("/")[2]
    name = f"dml_{database[-12:]}"
    made: list[str] = []

    def make(rights: str) -> str:
        made.append(name)
        if dialect_of(server_url) == "postgresql":
            execute_sql(server_url, f"CREATE ROLE {name} LOGIN PASSWORD 'p@ss w/rd'")
            execute_sql(server_url, f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO {name}")
            execute_sql(server_url, f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}")
        else:
            execute_sql(server_url, f"CREATE USER {name} IDENTIFIED BY 'p@ss w/rd'")
            execute_sql(server_url, f"GRANT {rights} ON {database}.* TO {name}")
        return with_parts(server_url, user=name, password="p@ss w/rd")

    yield make
    if made and dialect_of(server_url) == "postgresql":
        execute_sql(server_url, f"DROP OWNED BY {name}")
        execute_sql(server_url, f"DROP ROLE {name}")
    elif made:
        execute_sql(server_url, f"DROP USER {name}")


@pytest.mark.parametrize("create_tables", [False, True])
def test_the_right_to_change_rows_is_enough(
    server_url: str, make_user: Callable[[str], str], create_tables: bool
) -> None:
    with sessions.Session.from_url("chat_1", server_url) as session:
        session.add_items(items("a"))
    narrow = make_user("SELECT, INSERT, UPDATE, DELETE")
    with sessions.Session.from_url("chat_1", narrow, create_tables=create_tables) as session:
        session.add_items(items("b", "c"))
        assert session.pop_item() is not None
        assert texts(session.get_items()) == ["a", "b"]
        session.clear_session()
        session.add_items(items("d"))
        assert texts(session.get_items(limit=1)) == ["d"]


def test_the_right_to_read_is_enough_for_reading(server_url: str, make_user: Callable[[str], str]) -> None:
    with sessions.Session.from_url("chat_1", server_url) as session:
        session.add_items(items("a"))
    with sessions.Session.from_url("chat_1", make_user("SELECT")) as session:
        assert texts(session.get_items()) == ["a"]


def test_a_missing_right_is_named_and_nothing_is_written(server_url: str, make_user: Callable[[str], str]) -> None:
    with sessions.Session.from_url("chat_1", server_url) as owner:
        owner.add_items(items("a"))
        with sessions.Session.from_url("chat_1", make_user("SELECT")) as session:
            for operation in (
                lambda: session.add_items(items("b")),
                session.pop_item,
                session.clear_session,
            ):
                with pytest.raises((sessions.DatabaseError, sessions.SchemaError), match="; "):
                    operation()
        assert texts(owner.get_items()) == ["a"]


def test_missing_tables_that_may_not_be_made_are_a_schema_error(
    server_url: str, make_user: Callable[[str], str]
) -> None:
    execute_sql(server_url, "CREATE TABLE other (id INT PRIMARY KEY)")
    narrow = make_user("SELECT, INSERT, UPDATE, DELETE")
    with (
        sessions.Session.from_url("chat_1", narrow) as session,
        pytest.raises(sessions.SchemaError, match="; "),
    ):
        session.add_items(items("a"))
    assert "agent_sessions" not in raw_table_names(server_url)
