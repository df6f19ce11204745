"""What the error of a refused statement advises, and whether it was tried again."""

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import sessions
from sessions import DatabaseError, SchemaError, Session
from sessions._dialects.sqlite.errors import failure_of
from support.claims import OPERATIONS, each_mysql, refused
from support.rivals import eventually, others, terminate
from support.samples import items, texts
from support.servers import connect_raw, execute_sql, with_parts

Error = type[sessions.SessionsError]

# --- rights in PostgreSQL


@pytest.fixture
def role(postgresql_url: str) -> Iterator[str]:
    """A role that may connect, and nothing else."""
    name = f"role_{uuid4().hex[:12]}"
    execute_sql(postgresql_url, f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    yield name
    execute_sql(postgresql_url, f"DROP OWNED BY {name}")
    execute_sql(postgresql_url, f"DROP ROLE {name}")


SERIAL = [
    "CREATE TABLE agent_sessions (session_id TEXT PRIMARY KEY, created_at TIMESTAMP, updated_at TIMESTAMP)",
    "CREATE TABLE agent_messages (id SERIAL PRIMARY KEY, session_id TEXT, message_data TEXT, created_at TIMESTAMP)",
]
ALL = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
RIGHTS = {
    "USAGE of every schema": ([ALL, "REVOKE USAGE ON SCHEMA public FROM PUBLIC"], "GRANT USAGE"),
    "a sequence": ([ALL], 'GRANT USAGE ON SEQUENCE <schema>."agent_messages_id_seq"'),
    "INSERT": ([ALL, "REVOKE INSERT ON agent_messages FROM {role}"], 'INSERT, .*DELETE ON <schema>."agent_messages"'),
    "UPDATE": ([ALL, "REVOKE UPDATE ON agent_sessions FROM {role}"], 'UPDATE, DELETE ON <schema>."agent_sessions"'),
    "a policy": ([ALL, "ALTER TABLE agent_sessions ENABLE ROW LEVEL SECURITY"], "change the policy"),
}


@pytest.mark.parametrize(("statements", "remedy"), RIGHTS.values(), ids=RIGHTS)
def test_the_missing_right_and_its_grant_are_named(
    postgresql_url: str, role: str, statements: list[str], remedy: str
) -> None:
    for statement in SERIAL + statements:
        execute_sql(postgresql_url, statement.format(role=role))
    session = Session.from_url("chat_1", with_parts(postgresql_url, user=role, password="x"))
    with session, refused((DatabaseError, SchemaError), match=remedy):
        session.add_items(items("a"))


def test_the_missing_usage_of_a_named_schema_is_named(postgresql_url: str, role: str) -> None:
    execute_sql(postgresql_url, "CREATE SCHEMA private")
    names: dict[str, Any] = {"sessions_table": "private.s", "messages_table": "private.m"}
    session = Session.from_url("chat_1", with_parts(postgresql_url, user=role, password="x"), **names)
    with session, refused(DatabaseError, match='GRANT USAGE ON SCHEMA "private"'):
        session.add_items(items("a"))


def test_the_grant_that_is_named_is_enough(postgresql_url: str, role: str) -> None:
    for statement in [*SERIAL, ALL.format(role=role)]:
        execute_sql(postgresql_url, statement)
    with Session.from_url("chat_1", with_parts(postgresql_url, user=role, password="x")) as session:
        with refused(DatabaseError) as caught:
            session.add_items(items("a"))
        grant = str(caught.value).rpartition("; ")[2].replace("<role>", role).replace("<schema>", "public")
        execute_sql(postgresql_url, grant)
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]


def test_the_grant_that_is_named_is_of_no_table_in_another_schema(postgresql_url: str, role: str) -> None:
    names: Any = {"sessions_table": "tenant.agent_sessions", "messages_table": "tenant.agent_messages"}
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("theirs"))
    execute_sql(postgresql_url, f"CREATE SCHEMA tenant; GRANT USAGE ON SCHEMA tenant TO {role}")
    with sessions.connect(postgresql_url, **names) as backend:
        backend.session("chat_1").add_items(items("a"))
    as_role = with_parts(postgresql_url, user=role, password="x")
    with sessions.connect(as_role, **names) as backend:
        for _ in ("agent_sessions", "agent_messages"):
            with refused(DatabaseError, match='ON "tenant"') as caught:
                backend.session("chat_1").add_items(items("b"))
            execute_sql(postgresql_url, str(caught.value).rpartition("; ")[2].replace("<role>", role))
        backend.session("chat_1").add_items(items("b"))
        assert texts(backend.session("chat_1").get_items()) == ["a", "b"]
    with sessions.connect(as_role) as backend, refused(DatabaseError, match="GRANT"):
        backend.session("chat_1").get_items()


@pytest.mark.parametrize("bound", [False, True], ids=["own", "bound"])
def test_the_usage_without_which_tables_cannot_be_seen_is_named(postgresql_url: str, role: str, *, bound: bool) -> None:
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
    for statement in (ALL.format(role=role), "REVOKE USAGE ON SCHEMA public FROM PUBLIC"):
        execute_sql(postgresql_url, statement)
    as_role = with_parts(postgresql_url, user=role, password="x")
    with contextlib.ExitStack() as stack:
        if bound:
            backend = sessions.bind(stack.enter_context(contextlib.closing(connect_raw(as_role))))
        else:
            backend = stack.enter_context(sessions.connect(as_role, create_tables=False))
        with refused(SchemaError, match="GRANT USAGE ON SCHEMA <schema> TO <role>"):
            backend.session("chat_1").get_items()
        execute_sql(postgresql_url, f"GRANT USAGE ON SCHEMA public TO {role}")
        if not bound:
            assert texts(backend.session("chat_1").get_items()) == ["a"]


def test_the_right_to_make_tables_is_named_and_is_enough(postgresql_url: str, role: str) -> None:
    with Session.from_url("chat_1", with_parts(postgresql_url, user=role, password="x")) as session:
        with refused(SchemaError) as caught:
            session.add_items(items("a"))
        assert "SELECT" not in str(caught.value)
        grant = str(caught.value).rpartition("; ")[2].partition(" for a first use")[0].replace("<role>", role)
        execute_sql(postgresql_url, grant)
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]


# --- rights in MySQL and MariaDB


@pytest.fixture
def user(server_url: str) -> Iterator[str]:
    """A user who may look into the database, and nothing else."""
    name = f"user_{uuid4().hex[:12]}"
    execute_sql(server_url, f"CREATE USER {name} IDENTIFIED BY 'x'")
    execute_sql(server_url, f"GRANT SELECT ON {server_url.rpartition('/')[2]}.* TO {name}")
    yield name
    execute_sql(server_url, f"DROP USER {name}")


@each_mysql
def test_each_grant_that_is_named_leads_further(server_url: str, user: str) -> None:
    def granted(error: Error) -> None:
        with refused(error, match="GRANT") as caught:
            session.add_items(items("a"))
        grant = str(caught.value).rpartition("; ")[2].partition(" for a first use")[0]
        execute_sql(server_url, grant.replace("<database>", server_url.rpartition("/")[2]).replace("<user>", user))

    with Session.from_url("chat_1", with_parts(server_url, user=user, password="x")) as session:
        granted(DatabaseError)  # to write them
        granted(SchemaError)  # to make them
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]


# --- tables that could not be made at this moment


@pytest.mark.slow
def test_making_the_tables_that_is_cancelled_is_no_question_of_rights(postgresql_url: str) -> None:
    holder = connect_raw(postgresql_url)
    with contextlib.closing(holder), holder.transaction():
        # What makers of the tables queue for.
        holder.execute("SELECT pg_advisory_xact_lock(5738104269318775)")
        caught: list[BaseException] = []

        def add() -> None:
            with Session.from_url("chat_1", postgresql_url, max_retries=0) as session:
                try:
                    session.add_items(items("a"))
                except sessions.SessionsError as exc:
                    caught.append(exc)

        thread = threading.Thread(target=add)
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        assert eventually(lambda: execute_sql(postgresql_url, waiting) == [(1,)])
        for number in others(postgresql_url):
            if number != holder.pgconn.backend_pid:
                terminate(postgresql_url, number, query_only=True)
        thread.join()
    [error] = caught
    assert type(error) is DatabaseError
    assert "cancel" in str(error)


def test_making_the_tables_that_times_out_is_no_question_of_rights(postgresql_url: str) -> None:
    holder = connect_raw(postgresql_url)
    with contextlib.closing(holder), holder.transaction():
        holder.execute("SELECT pg_advisory_xact_lock(5738104269318775)")
        options: dict[str, Any] = {"max_retries": 0, "statement_timeout": 0.2}
        with Session.from_url("chat_1", postgresql_url, **options) as session, refused(DatabaseError, match="lock"):
            session.add_items(items("a"))


# --- columns of a type that cannot be written

COLUMNS = {
    "id": ("BIGINT GENERATED BY DEFAULT AS IDENTITY", ["UUID DEFAULT gen_random_uuid()"]),
    "session_id": ("VARCHAR(255)", ["BIGINT", "UUID"]),
    "message_data": ("TEXT", ["BIGINT", "JSONB", "BYTEA"]),
    "created_at": ("TIMESTAMP", ["TEXT", "BIGINT", "BYTEA"]),
}


@pytest.mark.parametrize(
    ("column", "kind"), [(column, kind) for column, (_, kinds) in COLUMNS.items() for kind in kinds]
)
def test_a_column_that_cannot_be_written_is_named_with_a_remedy(postgresql_url: str, column: str, kind: str) -> None:
    kinds = {name: right for name, (right, _) in COLUMNS.items()} | {column: kind}
    execute_sql(postgresql_url, SERIAL[0])
    columns = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
    execute_sql(postgresql_url, f"CREATE TABLE agent_messages ({columns}, PRIMARY KEY (id))")
    with Session.from_url("chat_1", postgresql_url, max_retries=0) as session:
        for write in (OPERATIONS["add_items"], OPERATIONS["replace_items"]):
            with refused(SchemaError) as caught:
                write(session)
            assert column in str(caught.value).rpartition("; ")[2]


def test_a_time_of_a_session_that_cannot_be_written_is_named(postgresql_url: str) -> None:
    execute_sql(postgresql_url, SERIAL[0].replace("updated_at TIMESTAMP", "updated_at BIGINT"))
    execute_sql(postgresql_url, SERIAL[1])
    with Session.from_url("chat_1", postgresql_url) as session, refused(SchemaError, match='"updated_at".*TIMESTAMP'):
        session.add_items(items("a"))


# --- what rewrites, or computes


def test_a_rule_that_a_statement_cannot_pass_is_named(postgresql_url: str) -> None:
    with Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items("a"))
        execute_sql(postgresql_url, "CREATE RULE log AS ON INSERT TO agent_messages DO ALSO SELECT 1")
        with refused(DatabaseError, match="drop the rules"):
            session.add_items(items("b"))


def test_a_column_that_the_table_computes_is_named(postgresql_url: str) -> None:
    execute_sql(postgresql_url, SERIAL[0])
    computed = "created_at TIMESTAMP GENERATED ALWAYS AS (TIMESTAMP '2026-01-01') STORED"
    execute_sql(postgresql_url, SERIAL[1].replace("created_at TIMESTAMP", computed))
    with Session.from_url("chat_1", postgresql_url) as session:
        with refused(SchemaError) as caught:
            session.add_items(items("a"))
        remedy = str(caught.value).rpartition("; ")[2]
        statement = remedy.partition(": ")[2].partition(", or")[0].replace("...", "agent_messages", 1)
        execute_sql(postgresql_url, statement)
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]


# --- settings of a role


def with_setting(url: str, setting: str) -> None:
    execute_sql(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET {setting}")


def test_of_a_primary_that_a_setting_keeps_from_writing_the_setting_is_named(postgresql_url: str) -> None:
    with Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items("a"))
    with_setting(postgresql_url, "default_transaction_read_only = on")
    with Session.from_url("chat_1", postgresql_url, max_retries=0) as session:
        for write in ("add_items", "pop_item", "clear_session", "replace_items"):
            with refused(DatabaseError, match="RESET default_transaction_read_only"):
                OPERATIONS[write](session)
        assert texts(session.get_items()) == ["a"]


def test_of_an_applications_read_only_transaction_the_remedy_is_another_one(server_url: str) -> None:
    with Session.from_url("chat_1", server_url) as session:
        session.add_items(items("a"))
    with contextlib.closing(connect_raw(server_url)) as connection:
        connection.cursor().execute("START TRANSACTION READ ONLY")
        with refused(DatabaseError, match="begin one that may write"):
            sessions.bind(connection).session("chat_1").add_items(items("b"))


@pytest.mark.parametrize("server_url", ["mariadb"], indirect=True)
def test_another_option_than_read_only_is_no_reason_to_look_for_a_primary(server_url: str) -> None:
    with Session.from_url("chat_1", server_url) as session:
        session.add_items(items("a"))
    with contextlib.closing(connect_raw(server_url)) as connection:
        connection.cursor().execute("SET max_session_mem_used = 8192")
        with pytest.raises(DatabaseError, match="max-session-mem-used") as caught:
            sessions.bind(connection).session("chat_1").add_items(items("x" * 100_000))
        assert "primary" not in str(caught.value)


def test_a_time_limit_of_the_servers_is_named(postgresql_url: str) -> None:
    with Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items("a"))
    if int(execute_sql(postgresql_url, "SHOW server_version_num")[0][0]) < 170000:
        pytest.skip("transaction_timeout came with PostgreSQL 17")
    with_setting(postgresql_url, "transaction_timeout = 100")
    options: dict[str, Any] = {"max_retries": 0, "create_tables": False}
    with (
        contextlib.closing(connect_raw(postgresql_url)) as holder,
        Session.from_url("chat_1", postgresql_url, **options) as session,
    ):
        holder.execute("SET transaction_timeout = 0")
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE agent_messages IN ACCESS EXCLUSIVE MODE")
        with refused(sessions.ConnectionFailedError, match="raise transaction_timeout"):
            session.get_items()
        with refused(sessions.OutcomeUnknownError, match="raise transaction_timeout"):
            session.pop_item()


# --- what only the server can give


@each_mysql
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_xa_transaction_that_has_been_ended_is_named(server_url: str, name: str) -> None:
    with Session.from_url("chat_1", server_url) as owner, contextlib.closing(connect_raw(server_url)) as connection:
        owner.add_items(items("a"))
        session = sessions.bind(connection).session("chat_1")
        name_of_it = uuid4().hex  # the server's, whatever the database
        for statement in ("XA START '{}'", "DELETE FROM agent_messages WHERE id = 0", "XA END '{}'"):
            connection.cursor().execute(statement.format(name_of_it))
        with refused(DatabaseError, match="XAER_RMFAIL.*; your XA transaction .* XA COMMIT or XA ROLLBACK"):
            OPERATIONS[name](session)
        connection.cursor().execute(f"XA ROLLBACK '{name_of_it}'")
        assert texts(session.get_items()) == ["a"]


@each_mysql
@pytest.mark.parametrize("errno", [3, 1021, 1114, 3675])
def test_a_full_disk_is_told_so(server_url: str, errno: int) -> None:
    with Session.from_url("chat_1", server_url, max_retries=0) as session:
        session.add_items(items("a"))
        execute_sql(
            server_url,
            "CREATE TRIGGER refuse BEFORE INSERT ON agent_messages FOR EACH ROW "
            f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {errno}, MESSAGE_TEXT = 'voll'",
        )
        with refused(DatabaseError, match="free some space"):
            session.add_items(items("b"))


# --- what is tried again


@each_mysql
@pytest.mark.parametrize(
    ("errno", "remedy", "attempts"), [(1213, "try again", 3), (3100, "majority", 1), (3101, "try again", 3)]
)
def test_a_transaction_that_lost_against_another_server_of_the_group_is_tried_again(
    server_url: str, errno: int, remedy: str, attempts: int, caplog: pytest.LogCaptureFixture
) -> None:
    # A collision passes soon, so the time alone says when to give up.
    with Session.from_url("chat_1", server_url, max_retries=1, retry_timeout=0.3) as session:
        session.add_items(items("a"))
        execute_sql(
            server_url,
            "CREATE TRIGGER refuse BEFORE INSERT ON agent_messages FOR EACH ROW "
            f"SIGNAL SQLSTATE '40000' SET MYSQL_ERRNO = {errno}, MESSAGE_TEXT = 'rolled back'",
        )
        with caplog.at_level("INFO", "sessions"), refused(DatabaseError, match=remedy):
            session.add_items(items("b"))
        assert len(caplog.records) >= attempts
        assert texts(session.get_items()) == ["a"]


# --- tables with what others have added


def with_tables(url: str, *statements: str) -> Session:
    with Session.from_url("chat_1", url) as session:
        session.get_items()
    for statement in statements:
        execute_sql(url, statement)
    return Session.from_url("chat_1", url, max_retries=0)


def test_a_unique_index_of_the_users_is_no_question_of_ids(server_url: str) -> None:
    column = "kind VARCHAR(9) DEFAULT 'x'"
    statements = (f"ALTER TABLE agent_messages ADD {column}", "CREATE UNIQUE INDEX mine ON agent_messages (kind)")
    with with_tables(server_url, *statements) as session:
        session.add_items(items("a"))
        with refused(DatabaseError, match="a unique index of yours"):
            session.add_items(items("b"))


@each_mysql
def test_a_column_that_is_computed_is_no_question_of_character_sets(server_url: str) -> None:
    value = "JSON_UNQUOTE(JSON_EXTRACT(message_data, '$.content'))"
    computed = f"ALTER TABLE agent_messages ADD n INT GENERATED ALWAYS AS ({value}) STORED"
    with with_tables(server_url, computed) as session, refused(DatabaseError, match="a column that the table computes"):
        session.add_items(items("a"))


def test_an_index_that_is_computed_is_named_as_what_may_refuse(postgresql_url: str) -> None:
    computed = "CREATE INDEX mine ON agent_messages (((message_data::jsonb->>'content')::int))"
    with with_tables(postgresql_url, computed) as session, refused(SchemaError, match="computed column, an index"):
        session.add_items(items("a"))


@each_mysql
def test_times_that_are_numbers_are_no_question_of_ids(server_url: str) -> None:
    number = "INT NOT NULL DEFAULT (UNIX_TIMESTAMP())"
    with with_tables(server_url, f"ALTER TABLE agent_sessions MODIFY updated_at {number}") as session:
        execute_sql(server_url, "INSERT INTO agent_sessions (session_id) VALUES ('chat_1')")
        with refused(SchemaError, match="give the columns created_at and updated_at the type TIMESTAMP"):
            session.add_items(items("a"))


@each_mysql
def test_how_large_an_item_may_be_is_said(server_url: str) -> None:
    [(limit,)] = execute_sql(server_url, "SELECT @@max_allowed_packet")
    with with_tables(server_url) as session, refused(DatabaseError, match="max_allowed_packet") as caught:
        session.add_items(items("x" * (limit - 20)))
    size, allowed = map(int, re.findall(r"[0-9]{6,}", str(caught.value))[-3:-1])
    assert allowed < limit
    assert size > allowed


# --- ids and times


ID_TYPES = {
    "postgresql": {"SMALLINT": "32,767", "INTEGER": "2,147,483,647", "NUMERIC(20)": "BIGINT", "UUID": "BIGINT"},
    "mysql": {"TINYINT": "127", "SMALLINT UNSIGNED": "65,535", "INT": "2,147,483,647", "CHAR(36)": "BIGINT"},
}


@pytest.mark.parametrize(
    ("dialect", "kind"), [(dialect, kind) for dialect, kinds in ID_TYPES.items() for kind in kinds]
)
def test_where_ids_end_is_said(dialect: str, kind: str, make_url: Callable[[str], str]) -> None:
    url = make_url(dialect)
    name = "VARCHAR(255) NOT NULL"
    execute_sql(url, f"CREATE TABLE agent_sessions (session_id {name}, created_at TIMESTAMP, updated_at TIMESTAMP)")
    columns = f"id {kind} NOT NULL, session_id {name}, message_data TEXT, created_at TIMESTAMP"
    execute_sql(url, f"CREATE TABLE agent_messages ({columns})")
    with sessions.connect(url) as backend:
        [check] = [check for check in backend.check() if check.name == "id"]
    assert check.verdict == "warning"
    assert ID_TYPES[dialect][kind] in check.remedy
    assert ("these end at" in check.remedy) == ("," in ID_TYPES[dialect][kind] or kind == "TINYINT")


@pytest.mark.parametrize("kind", ["UUID DEFAULT gen_random_uuid()", "MONEY DEFAULT 1", "TIMESTAMPTZ DEFAULT now()"])
def test_a_check_says_that_ids_are_no_numbers(kind: str, postgresql_url: str) -> None:
    execute_sql(postgresql_url, SERIAL[0])
    execute_sql(postgresql_url, SERIAL[1].replace("id SERIAL", f"id {kind}"))
    with sessions.connect(postgresql_url) as backend:
        [rights] = [check for check in backend.check() if check.name == "rights"]
        assert (rights.verdict, "BIGINT" in rights.remedy) == ("error", True)
        for write in ("add_items", "replace_items"):
            with refused(SchemaError, match="BIGINT"):
                OPERATIONS[write](backend.session("chat_1"))


@pytest.mark.parametrize("cursor", ["no cursor|chat_1", "1; DROP|x", "None|chat_1"])
def test_a_cursor_of_nobodys_is_named_so(cursor: str, backend: sessions.Backend) -> None:
    with pytest.raises(ValueError, match=r"after is .*; pass a SessionInfo or its cursor"):
        backend.list_sessions(after=cursor)


# --- SQLite's paths


def test_a_directory_is_named_so(tmp_path: Path) -> None:
    (tmp_path / "chat").mkdir()
    session = Session.from_url("chat_1", f"sqlite:///{tmp_path}/chat")
    with session, refused(sessions.ConnectionFailedError, match="that of a directory"):
        session.get_items()


def test_a_path_that_the_locale_cannot_write_is_no_question_of_the_databases_characters(tmp_path: Path) -> None:
    program = (
        "import sessions\n"
        f"session = sessions.Session.from_url('chat_1', 'sqlite:///{tmp_path}/ch\\u00e4t.db')\n"
        "try:\n    session.get_items()\n"
        "except sessions.ConnectionFailedError as exc:\n    print(ascii(str(exc)))\n"
    )
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PATH": os.environ["PATH"]}
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout
    if not said:
        pytest.skip("the C locale of this system has all characters")
    assert "PYTHONUTF8=1" in said


# --- SQLite's result codes


def raised(statement: str, *connections: Any) -> sqlite3.Error:
    with pytest.raises(sqlite3.Error) as caught:
        connections[0].execute(statement)
    return caught.value


@pytest.fixture
def two(sqlite_url: str) -> Iterator[tuple[Any, Any]]:
    """Two connections to a file in write-ahead mode with our tables; nobody waits."""
    with Session.from_url("chat_1", sqlite_url) as session:
        session.add_items(items("a"))
    with contextlib.closing(connect_raw(sqlite_url)) as one, contextlib.closing(connect_raw(sqlite_url)) as other:
        one.execute("PRAGMA busy_timeout = 0")
        yield one, other


WRITE = "UPDATE agent_sessions SET updated_at = '2026'"


def test_a_stale_snapshot_is_no_time_out(two: tuple[Any, Any]) -> None:
    """Nobody holds a lock, and the statement fails as long as its transaction lasts."""
    one, other = two
    one.execute("BEGIN")
    one.execute("SELECT * FROM agent_sessions").fetchall()
    other.execute(WRITE)
    one.isolation_level = ""
    with refused(DatabaseError, match="BEGIN IMMEDIATE") as caught:
        sessions.bind(one).session("chat_1").add_items(items("b"))
    assert "statement_timeout" not in str(caught.value)


def test_a_lock_of_another_is_a_time_out_that_is_tried_again(two: tuple[Any, Any]) -> None:
    one, other = two
    other.execute("BEGIN IMMEDIATE")
    failure = failure_of(raised(WRITE, one))
    assert failure.transient
    assert "statement_timeout" in failure.remedy


CODES: list[tuple[int, str, Error, bool]] = [
    (sqlite3.SQLITE_BUSY, "statement_timeout", DatabaseError, True),
    (sqlite3.SQLITE_BUSY_TIMEOUT, "statement_timeout", DatabaseError, True),
    (sqlite3.SQLITE_BUSY_RECOVERY, "crash", DatabaseError, True),
    (sqlite3.SQLITE_BUSY_SNAPSHOT, "roll it back", DatabaseError, False),
    (sqlite3.SQLITE_LOCKED_SHAREDCACHE, "statement_timeout", DatabaseError, True),
    (sqlite3.SQLITE_READONLY_DIRECTORY, "right to write", DatabaseError, False),
    (sqlite3.SQLITE_READONLY_DBMOVED, "restore a backup", sessions.ConnectionFailedError, True),
    (sqlite3.SQLITE_CANTOPEN_ISDIR, "path", sessions.ConnectionFailedError, False),
    (sqlite3.SQLITE_FULL, "space", DatabaseError, False),
    (sqlite3.SQLITE_IOERR_FSYNC, "disk", DatabaseError, False),
    (sqlite3.SQLITE_CORRUPT_INDEX, "backup", DatabaseError, False),
    (sqlite3.SQLITE_NOTADB, "SQLite file", DatabaseError, False),
]


@pytest.mark.parametrize(("code", "remedy", "error", "transient"), CODES)
def test_a_failure_of_sqlite_is_known_by_its_result_code(code: int, remedy: str, error: Error, transient: bool) -> None:
    exc = sqlite3.OperationalError("words that SQLite has changed")
    exc.sqlite_errorcode = code
    failure = failure_of(exc)
    assert remedy in failure.remedy
    assert (failure.error, failure.transient) == (error, transient)
