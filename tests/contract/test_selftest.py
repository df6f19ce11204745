"""The claims of selftest(): each holds on every backend, and each can fail."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any
from urllib.parse import urlsplit

import pytest

import sessions
from sessions._selftest import connections
from sessions._selftest.claims import CLAIMS, try_claim
from sessions._selftest.place import PREFIX, Place
from sessions._selftest.run import run
from support.claims import each_mysql
from support.greetings import MySQLGreeting
from support.servers import dialect_of, execute_sql

SERVERS = ("postgresql", "mysql", "mariadb")
# What cannot be tried where there is no server.
WITHOUT_SERVER = ("cut connection", "other form")
_TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'selftest%'",
    "postgresql": "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'selftest%'",
    "mysql": "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() "
    "AND table_name LIKE 'selftest%'",
}
_TABLES["mariadb"] = _TABLES["mysql"]


def scratch_tables(url: str) -> list[Any]:
    return execute_sql(url, _TABLES[dialect_of(url)])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little time for what takes the time it is given."""
    monkeypatch.setattr(Place, "seconds", 0.3)
    monkeypatch.setattr(Place, "idle_seconds", 0.1)


@pytest.fixture
def place(url: str) -> Iterator[Place]:
    with Place(url) as place:
        yield place


# --- each holds


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_holds(place: Place, name: str) -> None:
    check = try_claim(name, place)
    skipped = name in WITHOUT_SERVER and place.dialect in ("memory", "sqlite")
    assert check.verdict == ("skipped" if skipped else "ok"), check
    assert check.found


def test_a_selftest_finds_every_promise_kept_and_leaves_nothing(url: str) -> None:
    found = sessions.selftest(url)
    assert {check.verdict for check in found} <= {"ok", "skipped"}
    assert set(CLAIMS) <= {check.name for check in found}
    if not url.endswith("memory:"):
        assert scratch_tables(url) == []


def test_what_the_threads_of_a_selftest_call_is_called_in_the_callers_context(sqlite_url: str) -> None:
    tenant: ContextVar[str] = ContextVar("tenant")
    called: set[str] = set()

    def work() -> None:
        tenant.set("a")
        sessions.selftest(sqlite_url, on_operation=lambda operation: called.add(tenant.get("nobody")))

    copy_context().run(work)
    assert called == {"a"}


def test_a_schema_of_the_tables_is_that_of_the_scratch_tables(postgresql_url: str) -> None:
    execute_sql(postgresql_url, "CREATE SCHEMA chats")
    with Place(postgresql_url, sessions_table="chats.agent_sessions", messages_table="chats.agent_messages") as place:
        assert all(table.startswith(f"chats.{PREFIX}") for table in place.tables)
        assert try_claim("cleared", place).verdict == "ok"


def test_a_limit_of_what_is_read_is_none_of_what_is_tried(sqlite_url: str) -> None:
    with Place(sqlite_url, default_limit=1, whole_turns=True) as place:
        assert try_claim("order", place).verdict == "ok"


# --- each can fail


def refute(place: Place, name: str, found: str) -> None:
    check = try_claim(name, place)
    assert check.verdict == "error", check
    assert found in check.found
    assert check.remedy


def alter(place: Place, url: str, statement: str) -> None:
    sessions_table, messages_table = place.tables
    execute_sql(url, statement.format(sessions=sessions_table, messages=messages_table))


@each_mysql
@pytest.mark.parametrize(
    ("collation", "found"), [("utf8mb4_general_ci", "are one conversation"), ("utf8mb4_bin", "are one conversation")]
)
def test_a_collation_that_takes_ids_for_one_refutes_exact_ids(server_url: str, collation: str, found: str) -> None:
    with Place(server_url) as place:
        alter(place, server_url, "DROP TABLE {messages}")
        alter(place, server_url, f"ALTER TABLE {{sessions}} CONVERT TO CHARACTER SET utf8mb4 COLLATE {collation}")
        alter(
            place,
            server_url,
            "CREATE TABLE {messages} (id BIGINT AUTO_INCREMENT PRIMARY KEY, session_id VARCHAR(255) NOT NULL, "
            "message_data LONGTEXT NOT NULL, created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) "
            f"CHARACTER SET utf8mb4 COLLATE {collation}",
        )
        refute(place, "exact ids", found)


def test_a_column_that_rewrites_texts_refutes_exact_items(postgresql_url: str) -> None:
    with Place(postgresql_url, ensure_ascii=False) as place:
        alter(
            place,
            postgresql_url,
            "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.message_data := normalize(NEW.message_data, NFC); RETURN NEW; END $$",
        )
        alter(
            place,
            postgresql_url,
            "CREATE TRIGGER change BEFORE INSERT ON {messages} FOR EACH ROW EXECUTE FUNCTION change()",
        )
        refute(place, "exact items", "two forms of a letter")


@pytest.mark.parametrize("name", ["exact items", "cleared", "order", "whole batches"])
def test_a_trigger_that_drops_rows_refutes_what_writes_them(postgresql_url: str, name: str) -> None:
    with Place(postgresql_url) as place:
        alter(
            place,
            postgresql_url,
            "CREATE FUNCTION drop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        )
        alter(
            place,
            postgresql_url,
            "CREATE TRIGGER drop BEFORE INSERT ON {messages} FOR EACH ROW WHEN (NEW.id % 2 = 0) "
            "EXECUTE FUNCTION drop()",
        )
        refute(place, name, "not every row")


def test_a_trigger_that_keeps_rows_refutes_what_removes_them(sqlite_url: str) -> None:
    with Place(sqlite_url) as place:
        alter(
            place,
            sqlite_url,
            "CREATE TRIGGER kept BEFORE DELETE ON {messages} BEGIN SELECT RAISE(IGNORE); END",
        )
        for name in ("cleared", "pop once"):
            refute(place, name, "not every row")


def test_ids_that_go_down_refute_the_order(postgresql_url: str) -> None:
    with Place(postgresql_url) as place:
        alter(place, postgresql_url, "ALTER TABLE {messages} ALTER id SET INCREMENT -1 SET MINVALUE 1")
        alter(place, postgresql_url, "ALTER TABLE {messages} ALTER id SET MAXVALUE 1000000 RESTART 1000000")
        refute(place, "order", "not above those before them")


def test_ids_that_each_connection_caches_refute_the_order(postgresql_url: str) -> None:
    with Place(postgresql_url) as place:
        alter(place, postgresql_url, "ALTER TABLE {messages} ALTER id SET CACHE 100")
        refute(place, "order", "not above those before them")


def test_batches_without_a_lock_refute_whole_batches(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    add = sessions.Session.add_items

    def by_ones(session: sessions.Session, items: Any, **named: Any) -> None:
        for item in items:
            add(session, [item], **named)
            time.sleep(0.001)

    with Place(sqlite_url) as place:
        monkeypatch.setattr(sessions.Session, "add_items", by_ones)
        refute(place, "whole batches", "have items of others between")


def test_a_pop_that_takes_no_turn_refutes_pop_once(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pop, met = sessions.Session.pop_item, threading.Barrier(2)

    def pop_twice(session: sessions.Session) -> Any:
        found = session.get_items(limit=1)
        with suppress(threading.BrokenBarrierError):
            met.wait(1)
        pop(session)
        return found[0] if found else None

    with Place(sqlite_url) as place:
        monkeypatch.setattr(sessions.Session, "pop_item", pop_twice)
        refute(place, "pop once", "were given to")


def test_a_position_that_is_not_asked_for_refutes_if_position(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    add = sessions.Session.add_items
    with Place(sqlite_url) as place:
        monkeypatch.setattr(sessions.Session, "add_items", lambda self, items, if_position=None: add(self, items))
        refute(place, "if_position", "6 of 6")


@pytest.mark.parametrize("server_url", SERVERS, indirect=True)
def test_a_write_that_is_repeated_unsettled_refutes_the_cut_connection(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = sessions.Session.add_items

    def again(session: sessions.Session, items: Any) -> None:
        add(session, items)
        if session.session_id == "cut connection":
            add(session, items)

    with Place(server_url) as place:
        monkeypatch.setattr(sessions.Session, "add_items", again)
        refute(place, "cut connection", "add_items(), cut before")


def test_a_clock_of_another_time_refutes_the_times(postgresql_url: str) -> None:
    with Place(postgresql_url) as place:
        alter(
            place,
            postgresql_url,
            "CREATE FUNCTION early() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.updated_at := NEW.updated_at - interval '1 hour'; RETURN NEW; END $$",
        )
        alter(
            place,
            postgresql_url,
            "CREATE TRIGGER early BEFORE INSERT ON {sessions} FOR EACH ROW EXECUTE FUNCTION early()",
        )
        refute(place, "times", "counts as written 3600")


def test_a_text_that_is_refused_is_a_limit_and_no_broken_promise(postgresql_url: str) -> None:
    with Place(postgresql_url) as place:
        alter(place, postgresql_url, "ALTER TABLE {messages} ADD CHECK (length(message_data) < 2000000)")
        check = try_claim("large items", place)
        assert (check.verdict, check.remedy != "") == ("warning", True)
        assert "nothing of it was written" in check.found


def test_a_form_that_does_not_work_is_a_limit(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Place(postgresql_url) as place:
        original = place.connect

        def connect(**changed: Any) -> Any:
            backend = original(**changed)
            backend.close()
            return backend

        monkeypatch.setattr(place, "connect", connect)
        check = try_claim("other form", place)
        assert check.verdict == "warning"
        assert check.remedy == "do not pass prepared_statements=False"


def test_a_connection_that_lost_what_it_was_given_refutes_the_idle_one(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Place(sqlite_url) as place:
        monkeypatch.setattr(sessions.Session, "pop_item", lambda _: None)
        refute(place, "idle connection", "is not there")


# --- what is left behind, and what cannot be tried


@pytest.mark.parametrize("name", SERVERS)
def test_tables_are_removed_after_an_interruption(
    name: str, make_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_url(name)
    seen = []

    def interrupted(_: Place) -> str:
        seen.extend(scratch_tables(url))
        raise KeyboardInterrupt

    monkeypatch.setitem(CLAIMS, "order", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sessions.selftest(url)
    assert len(seen) == 2
    assert scratch_tables(url) == []


@pytest.mark.slow
def test_ctrl_c_ends_the_command_and_removes_the_tables(server_url: str) -> None:
    command = [sys.executable, "-m", "sessions", "selftest", server_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("cleared"):
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == "agent-sessions: interrupted\n"
    assert scratch_tables(server_url) == []


def test_tables_that_cannot_be_made_are_an_error_with_a_remedy(postgresql_url: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGOPTIONS", "-c search_path=nowhere")
        [check] = sessions.selftest(postgresql_url)
    assert (check.name, check.verdict) == ("scratch tables", "error")
    assert "may make tables" in check.remedy


def test_a_connection_that_goes_past_the_proxy_is_skipped(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_through", lambda address, _: address)
    with Place(postgresql_url) as place:
        assert try_claim("cut connection", place).verdict == "skipped"


def test_each_host_of_a_url_is_written_through(postgresql_url: str) -> None:
    host = urlsplit(postgresql_url).netloc.rpartition("@")[2]
    port = urlsplit(postgresql_url).port
    with Place(postgresql_url.replace(host, f"127.0.0.1:{port},localhost:{port}")) as place:
        assert len(place.backends) == 2
        for name in ("order", "if_position", "cut connection", "times"):
            check = try_claim(name, place)
            assert check.verdict == "ok", check


def test_a_host_that_cannot_be_written_to_is_left_out(postgresql_url: str) -> None:
    host = urlsplit(postgresql_url).netloc.rpartition("@")[2]
    with Place(postgresql_url.replace(host, f"{host},127.0.0.1:9")) as place:
        assert len(place.backends) == 1
        assert try_claim("order", place).verdict == "ok"


def test_a_name_that_is_verified_is_not_given_up_for_a_proxy() -> None:
    place = Place("mysql://app@db.example.com/agents?ssl-mode=VERIFY_IDENTITY")
    check = try_claim("cut connection", place)
    assert check.verdict == "skipped"
    assert check.remedy


def test_a_unix_socket_has_nothing_to_cut() -> None:
    place = Place("postgresql:///agents?host=/run/postgresql")
    assert try_claim("cut connection", place).verdict == "skipped"


def test_an_engine_that_is_refused_elsewhere_is_a_warning_and_is_tried() -> None:
    with MySQLGreeting("8.0.11-TiDB-v7.5.0", "TiDB Server") as server:
        checks = run(server.url, max_retries=0)
        check = next(checks)
        assert (check.name, check.verdict) == ("engine", "warning")
        assert "engine='tidb'" in check.remedy
        with pytest.raises(sessions.ConnectionFailedError):  # the stand-in hangs up at the first statement
            next(checks)
