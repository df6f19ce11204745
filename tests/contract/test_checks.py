"""check(): whether a database is as it should be, found out without changing it."""

import asyncio
import contextlib
import itertools
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg_pool
import pytest

import sessions
from interop.tables import OTHERS, make_tables
from sessions import Backend, Check
from support.claims import each_mysql
from support.samples import in_threads, items, make_tables_without_foreign_key, texts
from support.servers import connect_raw, dialect_of, execute_sql, with_parts


def verdicts(backend: Backend) -> dict[str, str]:
    return {check.name: check.verdict for check in backend.check()}


def test_all_is_well_with_tables_of_ours(backend: Backend) -> None:
    backend.session("chat_1").add_items(items("a"))
    found = backend.check()
    assert all(type(check) is Check for check in found)
    assert {check.verdict for check in found} == {"ok"}
    assert [check.remedy for check in found if check.remedy] == []
    assert found[0].name == "connection"


@contextlib.contextmanager
def _backend(url: str, how: str) -> Iterator[Backend]:
    if how == "own":
        with sessions.connect(url) as backend:
            yield backend
        return

    @contextlib.contextmanager
    def lend() -> Iterator[Any]:
        """As a pool does that commits what its borrowers leave open."""
        with contextlib.closing(connect_raw(url)) as connection:
            if how == "pool without autocommit" and isinstance(connection, sqlite3.Connection):
                connection.isolation_level = "DEFERRED"
            elif how == "pool without autocommit" and callable(connection.autocommit):
                connection.autocommit(False)
            elif how == "pool without autocommit":
                connection.autocommit = False
            yield connection
            connection.commit()

    with sessions.connect(pool=SimpleNamespace(connection=lend)) as backend:
        yield backend


@pytest.mark.parametrize("how", ["own", "pool", "pool without autocommit"])
def test_a_check_changes_nothing(sql_url: str, how: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        backend.check(fix=True)
    rows = [execute_sql(sql_url, f"SELECT * FROM {table}") for table in ("agent_sessions", "agent_messages")]
    with _backend(sql_url, how) as backend:
        for fix in (False, True):
            assert "error" not in {check.verdict for check in backend.check(fix=fix)}
            assert rows == [
                execute_sql(sql_url, f"SELECT * FROM {table}") for table in ("agent_sessions", "agent_messages")
            ]


def test_missing_tables_are_an_error_with_a_remedy_and_are_not_made(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        for _ in range(2):
            [check] = [check for check in backend.check() if check.verdict == "error"]
            assert check.name == "tables"
            assert "agent_messages" in check.found
            assert check.remedy


@pytest.mark.parametrize(("dialect", "maker"), OTHERS)
def test_tables_of_others_work_and_what_they_lack_is_said(
    dialect: str, maker: str, make_url: Callable[[str], str]
) -> None:
    url = make_url(dialect)
    asyncio.run(make_tables(maker, url))
    with sessions.connect(url) as backend:
        found = backend.check()
        assert "error" not in {check.verdict for check in found}
        [index] = [check for check in found if check.name == "index"]
        if index.verdict == "warning":
            with contextlib.closing(connect_raw(url)) as connection:
                connection.cursor().execute(index.fix)
            assert verdicts(backend)["index"] == "ok"
        if dialect in ("mysql", "mariadb"):
            assert verdicts(backend)["session_id"] == "warning"


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "mariadb"])
def test_the_index_for_listings_that_is_proposed_is_one(dialect: str, make_url: Callable[[str], str]) -> None:
    url = make_url(dialect)
    with sessions.connect(url) as backend:
        backend.session("chat_1").add_items(items("a"))
        store = backend._store
        fix = store._dialect.statements["make_listing_index"]  # type: ignore[attr-defined]
        execute_sql(url, fix)
        [listing] = [check for check in backend.check() if check.name == "listing index"]
        assert "agent_sessions_by_time" in listing.found


def test_a_fix_makes_the_tables_and_changes_nothing_else(sql_url: str) -> None:
    with sessions.connect(sql_url, create_tables=False) as backend:
        assert backend.check()[-1].name == "tables"
        assert {check.verdict for check in backend.check(fix=True)} == {"ok"}
        backend.session("chat_1").add_items(items("a"))
        backend.check(fix=True)
        assert backend.session("chat_1").get_items() == items("a")


@pytest.mark.parametrize(("dialect", "maker"), OTHERS)
def test_a_fix_makes_the_index_that_tables_of_others_lack(
    dialect: str, maker: str, make_url: Callable[[str], str]
) -> None:
    url = make_url(dialect)
    asyncio.run(make_tables(maker, url))
    with sessions.connect(url) as backend:
        assert {check.name: check.verdict for check in backend.check(fix=True)}["index"] == "ok"
        assert verdicts(backend)["index"] == "ok"


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql", "mariadb"])
def test_two_pairs_of_tables_have_indexes_of_their_own(dialect: str, make_url: Callable[[str], str]) -> None:
    url = make_url(dialect)
    for prefix in ("a", "b" * 50):
        names = {"sessions_table": f"{prefix}_s", "messages_table": f"{prefix}_m"}
        with sessions.connect(url, sessions_table=names["sessions_table"], messages_table=names["messages_table"]) as b:
            b.session("chat_1").add_items(items("a"))
            store = b._store
            execute_sql(url, store._dialect.statements["make_listing_index"])  # type: ignore[attr-defined]
            [listing] = [check for check in b.check() if check.name == "listing index"]
            made = "when" if dialect == "sqlite" else "time"
            assert listing.found == f"{prefix}_s_by_{made} begins with updated_at"


def test_an_index_that_was_not_made_to_its_end_is_made_anew(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("a", "a"))
        execute_sql(postgresql_url, "ALTER TABLE agent_messages DROP CONSTRAINT agent_messages_session_id_id_key")
        # Refused at its end: the two rows are equal.
        with (
            contextlib.closing(connect_raw(postgresql_url)) as connection,
            pytest.raises(Exception, match="could not create unique index"),
        ):
            connection.cursor().execute(
                "CREATE UNIQUE INDEX CONCURRENTLY agent_messages_by_session ON agent_messages (session_id)"
            )
        found = verdicts(backend)
        assert (found["unfinished index"], found["index"]) == ("warning", "warning")
        with contextlib.closing(connect_raw(postgresql_url)) as connection:
            # As whoever builds one has it.
            connection.cursor().execute("BEGIN; LOCK TABLE agent_messages IN SHARE UPDATE EXCLUSIVE MODE")
            [unfinished] = [check for check in backend.check() if check.name == "unfinished index"]
            assert (unfinished.verdict, unfinished.fix) == ("warning", "")
            connection.rollback()
        fixed = {check.name: check for check in backend.check(fix=True)}
        assert "unfinished index" not in fixed
        assert fixed["index"].found.startswith("agent_messages_by_session ")


def test_an_index_of_the_applications_is_named_and_left_alone(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("a", "a"))
        with (
            contextlib.closing(connect_raw(postgresql_url)) as connection,
            pytest.raises(Exception, match="could not create unique index"),
        ):
            connection.cursor().execute("CREATE UNIQUE INDEX CONCURRENTLY no_doubles ON agent_messages (session_id)")
        for _ in range(2):
            [found] = [check for check in backend.check(fix=True) if check.name == "unfinished index"]
            assert (found.verdict, found.fix, "no_doubles" in found.remedy) == ("warning", "", True)


def test_partitioned_tables_get_the_index_that_they_lack(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").get_items()
        for statement in (
            "ALTER TABLE agent_messages DROP CONSTRAINT agent_messages_session_id_id_key",
            "ALTER TABLE agent_messages RENAME TO messages_before",
            "CREATE TABLE agent_messages (LIKE messages_before INCLUDING IDENTITY) PARTITION BY HASH (session_id)",
            "CREATE TABLE agent_messages_0 PARTITION OF agent_messages FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
            "CREATE INDEX being_completed ON ONLY agent_messages (created_at)",
        ):
            execute_sql(postgresql_url, statement)
        assert verdicts(backend)["index"] == "warning"
        fixed = {check.name: check for check in backend.check(fix=True)}
        assert fixed["index"].found.startswith("agent_messages_by_session ")
        assert "unfinished index" not in fixed
        assert execute_sql(postgresql_url, "SELECT to_regclass('being_completed') IS NOT NULL") == [(True,)]


def _refuse_the_fix_of_a_sequence(url: str) -> None:
    """Let a check find something that cannot be mended."""
    execute_sql(url, "ALTER TABLE agent_messages ALTER id SET CACHE 20")
    execute_sql(
        url,
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'not allowed' USING ERRCODE = 'insufficient_privilege'; END $$",
    )
    refuse = "CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('ALTER SEQUENCE') EXECUTE FUNCTION refuse()"
    execute_sql(url, refuse)


def test_a_fix_that_fails_is_a_verdict_and_keeps_no_other_from_being_done(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").get_items()
        execute_sql(postgresql_url, "ALTER TABLE agent_messages DROP CONSTRAINT agent_messages_session_id_id_key")
        _refuse_the_fix_of_a_sequence(postgresql_url)
        fixed = {check.name: check for check in backend.check(fix=True)}
        assert (fixed["sequence"].verdict, "to mend it failed" in fixed["sequence"].found) == ("error", True)
        assert fixed["sequence"].fix
        assert fixed["index"].verdict == "ok"


def test_a_fix_is_made_on_the_connections_of_a_pool_that_are_not_in_autocommit(postgresql_url: str) -> None:
    """Each alone: the one that fails takes nothing back, and an index is built outside of any transaction."""
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
    execute_sql(postgresql_url, "ALTER TABLE agent_messages DROP CONSTRAINT agent_messages_session_id_id_key")
    _refuse_the_fix_of_a_sequence(postgresql_url)
    with psycopg_pool.ConnectionPool(postgresql_url, min_size=1, max_size=1) as pool:
        with sessions.connect(pool=pool) as backend:
            fixed = {check.name: check for check in backend.check(fix=True)}
        assert "to mend it failed" in fixed["sequence"].found
        assert fixed["leases"].found == "agent_session_leases"
        assert (fixed["index"].verdict, fixed["rights"].verdict) == ("ok", "ok")
        with pool.connection() as connection:
            assert connection.autocommit is False


@pytest.mark.parametrize("key", [None, "k" * 16], ids=["leases", "seals"])
def test_a_fix_and_a_writer_make_the_same_table_at_once(key: str | None, server_url: str) -> None:
    with sessions.connect(server_url, integrity_key=key) as backend:

        def work(number: int) -> None:
            if number % 2:
                backend.check(fix=True)
                return
            session = backend.session(f"chat_{next(numbers)}")
            with session.exclusive():
                session.add_items(items("a"))

        numbers = itertools.count()
        for _ in range(10):
            backend.check(fix=True)
            execute_sql(server_url, f"DROP TABLE agent_session_{'leases' if key is None else 'seals'}")
            in_threads(4, work)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql", "mariadb"])
def test_an_index_that_somebody_else_has_made_by_then_is_no_error(dialect: str, make_url: Callable[[str], str]) -> None:
    url = make_url(dialect)
    with sessions.connect(url) as backend:
        backend.session("chat_1").add_items(items("a"))
        store = backend._store
        fix = store._dialect.statements["make_listing_index"]  # type: ignore[attr-defined]
        store._attempts.run(lambda c: store._dialect.mend(c, fix), settle=None)  # type: ignore[attr-defined]
        store._attempts.run(lambda c: store._dialect.mend(c, fix), settle=None)  # type: ignore[attr-defined]
        assert set(verdicts(backend).values()) == {"ok"}


def test_a_check_leaves_a_connection_of_the_application_usable(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
    with contextlib.closing(connect_raw(sql_url)) as connection:
        bound = sessions.bind(connection)
        assert {check.verdict for check in bound.check()} <= {"ok", "warning"}
        assert bound.session("chat_1").get_items() == items("a")


def test_postgresqls_catalogue_is_asked_and_no_temporary_table_of_its_names(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
    with contextlib.closing(connect_raw(postgresql_url)) as connection:
        for name in ("pg_attribute", "pg_class", "pg_index", "pg_stat_ssl", "pg_stat_activity"):
            connection.execute(f"CREATE TEMPORARY TABLE {name} (x integer)")
        checks = sessions.bind(connection).check()
        assert [check for check in checks if check.name in ("tables", "index") and check.verdict != "ok"] == []


def test_in_a_transaction_of_the_application_nothing_is_fixed(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        with contextlib.closing(connect_raw(sql_url)) as connection:
            connection.cursor().execute("BEGIN")
            with pytest.raises(sessions.ConfigurationError, match="outside a transaction"):
                sessions.bind(connection).check(fix=True)


def test_what_a_crash_would_take_is_a_warning(postgresql_url: str) -> None:
    with sessions.Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items("a"))
    for table in ("agent_messages", "agent_sessions"):
        execute_sql(postgresql_url, f"ALTER TABLE {table} SET UNLOGGED")
    execute_sql(postgresql_url, f"ALTER DATABASE {postgresql_url.rpartition('/')[2]} SET synchronous_commit = off")
    with sessions.connect(postgresql_url) as backend:
        found = [check for check in backend.check() if check.name == "durability"]
    assert [check.verdict for check in found] == ["warning"] * 3
    assert [check.found.partition(" ")[0] for check in found] == [
        "agent_sessions",
        "agent_messages",
        "synchronous_commit",
    ]
    for check in found[:2]:
        execute_sql(postgresql_url, check.remedy)


def test_time_zones_that_differ_are_a_warning_where_times_are_local(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        assert "time zone" not in verdicts(backend)
    [(usual,)] = execute_sql(postgresql_url, "SHOW timezone")
    with contextlib.closing(connect_raw(postgresql_url)) as connection:
        backend = sessions.bind(connection)
        connection.execute("SET timezone = 'Asia/Kathmandu'")  # as Django sets UTC on a server that has another one
        [check] = [check for check in backend.check() if check.name == "time zone"]
        assert (check.verdict, usual in check.found) == ("warning", True), check
    execute_sql(postgresql_url, f"ALTER DATABASE {postgresql_url.rpartition('/')[2]} SET timezone = 'Europe/Lisbon'")
    with sessions.connect(f"{postgresql_url}?options=-c%20timezone%3DEtc/UTC") as backend:
        [check] = [check for check in backend.check() if check.name == "time zone"]
        assert "Europe/Lisbon" in check.found
        execute_sql(postgresql_url, "ALTER TABLE agent_sessions ALTER updated_at TYPE timestamptz")
        assert "time zone" not in verdicts(backend)


def test_a_temporary_table_in_the_place_of_ours_is_an_error(postgresql_url: str) -> None:
    with sessions.Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items("a"))
    with contextlib.closing(connect_raw(postgresql_url)) as connection:
        connection.execute("CREATE TEMPORARY TABLE agent_messages (LIKE agent_messages INCLUDING ALL)")
        found = sessions.bind(connection).check()
    [check] = [check for check in found if check.name == "durability"]
    assert (check.verdict, "agent_messages" in check.found) == ("error", True)


def test_an_encoding_that_keeps_characters_as_others_is_an_error(postgresql_url: str) -> None:
    execute_sql(postgresql_url, "DROP DATABASE IF EXISTS mixing")
    execute_sql(postgresql_url, "CREATE DATABASE mixing ENCODING 'EUC_JP' LOCALE 'C' TEMPLATE template0")
    try:
        with sessions.connect(with_parts(postgresql_url, database="mixing")) as backend:
            backend.session("a\u00a6").add_items(items("a"))
            assert texts(backend.session("a\uffe4").get_items()) == ["a"]
            assert verdicts(backend)["encoding"] == "error"
    finally:
        execute_sql(postgresql_url, "DROP DATABASE mixing WITH (FORCE)")


@each_mysql
@pytest.mark.parametrize(("characters", "one", "other"), [("tis620", "A", "\U00010041"), ("cp932", "\u6659", "\u6661")])
def test_a_character_set_that_keeps_characters_as_others_is_an_error(
    server_url: str, characters: str, one: str, other: str
) -> None:
    with sessions.connect(server_url) as backend:
        backend.session("first").add_items(items("a"))
    [(_, made)] = execute_sql(server_url, "SHOW CREATE TABLE agent_messages")
    execute_sql(server_url, "DROP TABLE agent_messages")
    column = f"session_id VARCHAR(255) CHARACTER SET {characters} COLLATE {characters}_bin NOT NULL"
    execute_sql(server_url, f"ALTER TABLE agent_sessions MODIFY {column}")
    execute_sql(server_url, re.sub("`session_id` varchar[^,]*", column, made, count=1))
    with sessions.connect(server_url) as backend:
        backend.session(one).add_items(items("a"))
        assert texts(backend.session(other).get_items()) == ["a"]
        assert verdicts(backend)["session_id"] == "error"


@pytest.mark.parametrize(
    "rule", ["ON DELETE TO agent_messages DO INSTEAD NOTHING", "ON INSERT TO agent_messages DO ALSO SELECT 1"]
)
def test_a_rule_is_an_error_whose_remedy_removes_it(postgresql_url: str, rule: str) -> None:
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        execute_sql(postgresql_url, f"CREATE RULE rewrite AS {rule}")
        [check] = [check for check in backend.check() if check.name == "rule"]
        assert check.verdict == "error"
        execute_sql(postgresql_url, check.remedy)
        assert set(verdicts(backend).values()) == {"ok"}


def test_a_right_that_is_missing_is_an_error(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url) as owner:
        owner.session("chat_1").add_items(items("a"))
    execute_sql(postgresql_url, "DROP ROLE IF EXISTS checks_reader")
    execute_sql(postgresql_url, "CREATE ROLE checks_reader LOGIN PASSWORD 'p'")
    try:
        execute_sql(postgresql_url, "GRANT SELECT ON agent_sessions, agent_messages TO checks_reader")
        url = with_parts(postgresql_url, user="checks_reader", password="p")
        with sessions.connect(url, create_tables=False) as backend:
            assert verdicts(backend)["rights"] == "error"
            assert len(backend.session("chat_1").get_items()) == 1
    finally:
        execute_sql(postgresql_url, "DROP OWNED BY checks_reader")
        execute_sql(postgresql_url, "DROP ROLE checks_reader")


def test_a_trigger_that_keeps_rows_is_an_error(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        execute_sql(
            postgresql_url, "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        )
        execute_sql(
            postgresql_url, "CREATE TRIGGER keep BEFORE DELETE ON agent_messages FOR EACH ROW EXECUTE FUNCTION keep()"
        )
        assert verdicts(backend)["rights"] == "error"


def test_a_collision_is_no_error_of_rights(server_url: str) -> None:
    """As with a trigger that says of each new row what a deadlock says."""
    with sessions.connect(server_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        if dialect_of(server_url) == "postgresql":
            execute_sql(
                server_url,
                "CREATE FUNCTION collide() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN RAISE EXCEPTION USING ERRCODE = ''40P01''; END'",
            )
        action = {"postgresql": "EXECUTE FUNCTION collide()"}.get(
            dialect_of(server_url), "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213"
        )
        execute_sql(server_url, f"CREATE TRIGGER collide BEFORE INSERT ON agent_messages FOR EACH ROW {action}")
        assert verdicts(backend)["rights"] == "skipped"


def test_a_rollback_journal_is_a_warning(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"
    with sessions.connect(url) as backend:
        backend.session("chat_1").add_items(items("a"))
    execute_sql(url, "PRAGMA journal_mode = DELETE")
    with contextlib.closing(connect_raw(url)) as connection:
        bound = sessions.bind(connection)
        assert verdicts(bound)["journal mode"] == "warning"


def test_in_a_transaction_of_the_application_nothing_is_written(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend, contextlib.closing(connect_raw(sql_url)) as connection:
        backend.session("chat_1").add_items(items("a"))
        connection.cursor().execute("BEGIN")
        found = verdicts(sessions.bind(connection))
        assert found["rights"] == "skipped"
        connection.cursor().execute("ROLLBACK")


def test_a_database_that_cannot_be_reached_is_an_error_as_ever() -> None:
    url = "postgresql://nobody@127.0.0.1:1/none"
    with sessions.connect(url, max_retries=0) as backend, pytest.raises(sessions.ConnectionFailedError):
        backend.check()


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "mariadb"])
def test_a_temporary_table_of_a_connections_own_is_an_error(dialect: str, make_url: Callable[[str], str]) -> None:
    url = make_url(dialect)
    with sessions.connect(url) as backend:
        backend.session("chat_1").add_items(items("a"))
        assert "durability" not in verdicts(backend)
    with contextlib.closing(connect_raw(url)) as connection:
        columns = "id BIGINT, session_id VARCHAR(255), message_data TEXT, created_at TIMESTAMP"
        connection.cursor().execute(f"CREATE TEMPORARY TABLE agent_messages ({columns})")
        [found] = [check for check in sessions.bind(connection).check() if check.name == "durability"]
        assert (found.verdict, "agent_messages is a temporary table" in found.found) == ("error", True)


@each_mysql
def test_sessions_without_a_key_are_an_error(server_url: str) -> None:
    make_tables_without_foreign_key(server_url)
    with sessions.connect(server_url) as backend:
        assert "session key" not in verdicts(backend)
        execute_sql(server_url, "ALTER TABLE agent_sessions DROP PRIMARY KEY, ADD PRIMARY KEY (session_id(10))")
        assert verdicts(backend)["session key"] == "error"
        execute_sql(server_url, "ALTER TABLE agent_sessions DROP PRIMARY KEY")
        [key] = [check for check in backend.check() if check.name == "session key"]
        execute_sql(server_url, key.remedy.rpartition("then ")[2])
        assert "session key" not in verdicts(backend)


@each_mysql
def test_times_without_a_zone_are_a_warning(server_url: str) -> None:
    with sessions.connect(server_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        assert verdicts(backend)["times"] == "ok"
        execute_sql(server_url, "ALTER TABLE agent_sessions MODIFY updated_at DATETIME NOT NULL DEFAULT NOW()")
        [times] = [check for check in backend.check() if check.name == "times"]
        assert (times.verdict, "updated_at is datetime" in times.found) == ("warning", True)
