"""Clause 8 and the tables: who makes them, what they are called, what stands in them."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sessions
from sessions._dialects.statements import leases_table, seals_table
from support.claims import OPERATIONS, WRITES, Operation, each_mysql, each_operation, refused, use_everything
from support.samples import in_threads, items, make_tables_without_foreign_key, stored_sessions, texts
from support.servers import connect_raw, dialect_of, execute_sql, with_parts
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
    in_threads(6, lambda number: add_batches(sql_url, "chat_1", f"w{number}", 6, 2))
    by_clock, by_id = (
        execute_sql(sql_url, f"SELECT id FROM agent_messages WHERE session_id = 'chat_1' ORDER BY {order}")
        for order in ("created_at, id", "id")
    )
    assert by_clock == by_id
    assert len(by_id) == 72


@pytest.mark.parametrize("bound", [False, True])
def test_writers_of_different_time_zones_are_read_in_one_order(postgresql_url: str, bound: bool) -> None:
    """PostgreSQL alone writes the wall clock of each connection's zone: the newest row's time is a floor."""
    writes: list[tuple[str, Operation]] = [
        ("Asia/Tokyo", lambda session: session.add_items(items("a", "b"))),
        ("America/New_York", lambda session: session.add_items(items("c"), if_position=session.position())),
        # More than one statement takes.
        ("UTC", lambda session: session.add_items([{"content": "x" * 17_000_000}])),
        ("UTC", lambda session: session.add_items(items("d"))),
        ("UTC", lambda session: session.replace_items(items("e", "f"), if_position=session.position())),
        ("America/New_York", lambda session: session.add_items(items("g"))),
    ]
    before: list[Any] = []
    make_tables_without_foreign_key(postgresql_url)
    for zone, write in writes:
        url = with_parts(postgresql_url, query=f"options=-c%20timezone%3D{zone}")
        with contextlib.ExitStack() as stack:
            if bound:
                connection = stack.enter_context(contextlib.closing(connect_raw(url)))
                connection.execute("SELECT set_config('timezone', %s, false)", (zone,))
                write(sessions.bind(connection).session("chat_1"))
            else:
                write(stack.enter_context(sessions.Session.from_url("chat_1", url)))
        times = [at for (at,) in execute_sql(postgresql_url, "SELECT created_at FROM agent_messages ORDER BY id")]
        assert times == sorted(times)
        assert max(times) >= max(before, default=times[0])
        before = times


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


@each_operation
def test_every_operation_may_be_the_first(backend: sessions.Backend, operation: Operation) -> None:
    assert operation(backend.session("chat_1")) in (None, [], 0)
    backend.session("chat_1").add_items(items("b"))
    assert texts(backend.session("chat_1").get_items())[-1] == "b"


@pytest.mark.parametrize("dropped", [["agent_messages", "agent_sessions"], ["agent_messages"]], ids=["both", "one"])
@pytest.mark.parametrize("opened", ["before", "after"])
def test_a_table_that_vanished_is_made_again(sql_url: str, dropped: list[str], opened: str) -> None:
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(sessions.Session.from_url("chat_1", sql_url))
        session.add_items(items("a"))
        for table in dropped:
            execute_sql(sql_url, f"DROP TABLE {table}")
        if opened == "after":
            session = stack.enter_context(sessions.Session.from_url("chat_1", sql_url))
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
    with sessions.Session.from_url("chat_1", sql_url, create_tables=False) as session:
        for operation in OPERATIONS.values():
            with refused(sessions.SchemaError, match=r"check\(fix=True\)"):
                operation(session)
    assert tables(sql_url) == set()


def test_create_tables_false_works_where_the_tables_are(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("a"))
    with sessions.Session.from_url("chat_1", sql_url, create_tables=False) as session:
        assert texts(session.get_items()) == ["a"]
        session.clear_session()
        use_everything(session)


def test_tables_of_another_shape_are_a_schema_error_and_stay_as_they_are(sql_url: str) -> None:
    for table in ("agent_sessions", "agent_messages"):
        execute_sql(sql_url, f"CREATE TABLE {table} (name VARCHAR(50) PRIMARY KEY)")
    execute_sql(sql_url, "INSERT INTO agent_messages VALUES ('kept')")
    with sessions.Session.from_url("chat_1", sql_url) as session:
        for operation in OPERATIONS.values():
            with refused(sessions.SchemaError):
                operation(session)
    assert execute_sql(sql_url, "SELECT * FROM agent_messages") == [("kept",)]


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


def named(url: str, parents: str, messages: str, **options: Any) -> sessions.Session:
    return sessions.Session.from_url("chat_1", url, sessions_table=parents, messages_table=messages, **options)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_quoted(sql_url: str, name: str) -> None:
    for create_tables in (True, False):
        with named(sql_url, name, f"{name}_msg", create_tables=create_tables) as session:
            use_everything(session)
    assert raw_table_names(sql_url) in ({name, f"{name}_msg"}, {name.lower(), f"{name}_msg".lower()})


def raw_table_names(url: str) -> set[str]:
    if dialect_of(url) != "postgresql":
        return tables(url)
    statement = "SELECT tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    return {row[0] for row in execute_sql(url, statement)}


LONG = "x" * 52
PAIRS = {
    "prefixes": [("a_sessions", "a_messages"), ("b_sessions", "b_messages"), ("agent_sessions", "c")],
    "a long common beginning": [(f"{LONG}0", f"{LONG}0_m"), (f"{LONG}1", f"{LONG}1_m")],
}


@pytest.mark.parametrize("pairs", PAIRS.values(), ids=PAIRS)
def test_pairs_of_tables_in_one_database_do_not_meet(sql_url: str, pairs: list[tuple[str, str]]) -> None:
    for pair in pairs:
        with named(sql_url, *pair) as session:
            session.add_items(items(pair[1]))
    for pair in pairs:
        with named(sql_url, *pair) as session:
            assert texts(session.get_items()) == [pair[1]]
            session.clear_session()


def test_names_that_need_a_capital_are_different_tables(postgresql_url: str) -> None:
    # SQLite never tells table names apart by case, MySQL does it by the server's file system.
    for name in ("Chat", "chat"):
        with named(postgresql_url, f"{name}_s", f"{name}_m") as session:
            session.add_items(items(name))
            assert texts(session.get_items()) == [name]


@pytest.mark.parametrize("length", [50, 54, 57, 58, 60, 63])
def test_a_name_that_is_accepted_works(sql_url: str, length: int) -> None:
    names = ("s" * length, "m" * length)
    try:
        session = named(sql_url, *names)
    except sessions.ConfigurationError:
        assert length > 50
        return
    with session:
        use_everything(session)
    assert raw_table_names(sql_url) == set(names)


# Some are alike but for their last letter, for the case of letters, or in all that a database would keep.
ALIKE = [
    *("agent_sessions", "agent_session", "chat_sessions", "chat_session", "chat_SESSION", "chatSESSIONS", "chat_lease"),
    *("chat", "chats", "chat_", "session", "sessions", "s", "chat_session_", "chat_sessions_", "chat_sessionss"),
    *("x" * length for length in range(50, 64)),
    *("x" * length + ending for length in (45, 47, 48, 55, 56) for ending in ("session", "sessions", "a", "b")),
    *("é" * 28 + ending for ending in ("session", "é", "a", "b")),
]


def test_no_two_names_have_one_table_of_leases_or_of_seals() -> None:
    assert leases_table("agent_sessions") == "agent_session_leases"
    assert seals_table("agent_sessions") == "agent_session_seals"
    names = {name for name in ALIKE if len(name.encode()) <= 63}
    beside = {make(name) for make in (leases_table, seals_table) for name in names}
    assert len(beside) == 2 * len(names)
    assert len({name.lower() for name in beside}) == 2 * len({name.lower() for name in names})
    assert max(len(name.encode()) for name in beside) == 63
    assert leases_table("one.chat") == "one.chat_leases"


@pytest.mark.parametrize("names", [("chat_sessions", "chat_session"), ("x" * 57 + "a", "x" * 57 + "b")], ids=repr)
def test_backends_with_names_alike_have_leases_of_their_own(sql_url: str, names: tuple[str, str]) -> None:
    with contextlib.ExitStack() as stack:
        for number, name in enumerate(names):
            session = stack.enter_context(named(sql_url, name, f"messages_{number}"))
            stack.enter_context(session.exclusive(timeout=0))
            session.add_items(items(name))
            assert texts(session.get_items()) == [name]


@pytest.mark.parametrize("schemas", [("My Schema", "My Schema"), ("one", "two")], ids=["one", "two"])
def test_schemas_of_postgresql_may_be_named(postgresql_url: str, schemas: tuple[str, str]) -> None:
    for schema in set(schemas):
        execute_sql(postgresql_url, f'CREATE SCHEMA "{schema}"')
    for create_tables in (True, False):
        with named(
            postgresql_url, f"{schemas[0]}.chats", f"{schemas[1]}.lines", create_tables=create_tables
        ) as session:
            use_everything(session)
            if not create_tables:
                session.add_items(items("a"))
    assert execute_sql(postgresql_url, f'SELECT COUNT(*) FROM "{schemas[0]}".chats') == [(1,)]
    assert execute_sql(postgresql_url, f'SELECT COUNT(*) FROM "{schemas[1]}".lines') == [(1,)]


@each_mysql
def test_another_database_of_a_mysql_server_may_be_named(server_url: str, make_url: Callable[[str], str]) -> None:
    there = make_url(dialect_of(server_url))
    database = there.rpartition("/")[2]
    with named(server_url, f"{database}.chats", f"{database}.lines") as session:
        use_everything(session)
        session.add_items(items("a"))
    assert execute_sql(there, "SELECT COUNT(*) FROM `lines`") == [(1,)]
    assert tables(server_url) == set()


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
        assert texts(session.get_items()) == ["a"]
        session.clear_session()
        use_everything(session)


def test_the_right_to_read_is_enough_for_reading_and_a_missing_right_is_named(
    server_url: str, make_user: Callable[[str], str]
) -> None:
    with sessions.Session.from_url("chat_1", server_url) as owner:
        owner.add_items(items("a"))
        with sessions.Session.from_url("chat_1", make_user("SELECT")) as session:
            assert texts(session.get_items()) == ["a"]
            for name in WRITES:
                with refused((sessions.DatabaseError, sessions.SchemaError)):
                    OPERATIONS[name](session)
        assert texts(owner.get_items()) == ["a"]


def test_missing_tables_that_may_not_be_made_are_a_schema_error(
    server_url: str, make_user: Callable[[str], str]
) -> None:
    execute_sql(server_url, "CREATE TABLE other (id INT PRIMARY KEY)")
    narrow = make_user("SELECT, INSERT, UPDATE, DELETE")
    with sessions.Session.from_url("chat_1", narrow) as session, refused(sessions.SchemaError):
        session.add_items(items("a"))
    assert "agent_sessions" not in raw_table_names(server_url)


def test_tables_are_made_where_the_others_are_and_not_where_the_search_path_begins(postgresql_url: str) -> None:
    with sessions.Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items("a"))
    execute_sql(postgresql_url, "CREATE SCHEMA AUTHORIZATION CURRENT_USER")  # of the role's name: it comes first
    with sessions.connect(postgresql_url, integrity_key="k" * 32, unsealed="accept") as backend:
        session = backend.session("chat_1")
        assert texts(session.get_items()) == ["a"]
        session.add_items(items("b"))
        with session.exclusive():
            session.add_items(items("c"))
    with sessions.Session.from_url("chat_1", postgresql_url) as session:
        assert texts(session.get_items()) == ["a", "b", "c"]
    made = execute_sql(postgresql_url, "SELECT schemaname, tablename FROM pg_tables WHERE tablename LIKE 'agent%'")
    assert [schema for schema, _ in made] == ["public"] * 4


def test_a_constraint_that_replaces_rows_replaces_none_of_ours(sqlite_url: str) -> None:
    make_tables_without_foreign_key(sqlite_url)
    execute_sql(sqlite_url, "DROP TABLE agent_messages")
    execute_sql(
        sqlite_url,
        "CREATE TABLE agent_messages (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT, message_data TEXT, "
        "created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, UNIQUE (session_id, message_data) ON CONFLICT REPLACE)",
    )
    with sessions.Session.from_url("chat_1", sqlite_url) as session:
        session.add_items(items("yes", "no"))
        with pytest.raises(sessions.SessionsError):
            session.add_items(items("yes"))
        assert texts(session.get_items()) == ["yes", "no"]


@each_mysql
def test_a_fork_that_another_unique_index_takes_for_another_session_is_refused(server_url: str) -> None:
    make_tables_without_foreign_key(server_url)
    with sessions.connect(server_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        execute_sql(
            server_url, "ALTER TABLE agent_sessions ADD COLUMN tenant INT NOT NULL DEFAULT 0, ADD UNIQUE (tenant)"
        )
        with pytest.raises(sessions.DatabaseError):
            backend.session("chat_1").fork("chat_2")
        assert [info.session_id for info in backend.list_sessions()] == ["chat_1"]
        assert backend.session("chat_2").get_items() == []
