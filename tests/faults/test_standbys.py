"""What is settled is acknowledged once the standby has it too, also what is only found to be done."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

import sessions
from faults.writers import at_first_retry
from sessions import Backend, OutcomeUnknownError, Session
from support.claims import refused
from support.proxy import Proxy
from support.rivals import eventually
from support.samples import item, items, texts
from support.servers import connect_raw, dialect_of, execute_sql, with_parts

KEYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sealed": {"integrity_key": "a key that is long enough for a test"},
    "encrypted": {"encryption_key": "a key that is long enough for a test"},
}
each_kind = pytest.mark.parametrize("kind", KEYS)


def _replace_record(backend: Backend) -> None:
    session = backend.session("chat_1")
    session.replace_record(session.position(), {"role": "user", "content": "other"})


WRITES: dict[str, Callable[[Backend], object]] = {
    "add_items": lambda backend: backend.session("chat_1").add_items(items("new")),
    "replace_items": lambda backend: backend.session("chat_1").replace_items(items("new")),
    "replace_items by nothing": lambda backend: backend.session("chat_1").replace_items([]),
    "clear_session": lambda backend: backend.session("chat_1").clear_session(),
    "delete_record": lambda backend: backend.session("chat_1").delete_record(backend.session("chat_1").position()),
    "replace_record": _replace_record,
    "load": lambda backend: backend.load("chat_1", list(backend.session("chat_1").records()), on_existing="append"),
}
each_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


@pytest.fixture(scope="module")
def lonely_url(start_server: Callable[..., Any]) -> Iterator[str]:
    """A PostgreSQL server whose standby is away; only those wait for it who ask for that."""
    arguments = ("-c", "synchronous_standby_names=*", "-c", "synchronous_commit=local")
    with start_server("postgresql", arguments=arguments) as server, server.database() as url:
        yield url


@pytest.mark.postgresql
@each_kind
@each_write
def test_what_no_standby_has_is_not_acknowledged(
    lonely_url: str, kind: str, write: Callable[[Backend], object]
) -> None:
    tables: dict[str, Any] = {"sessions_table": f"{kind}_sessions", "messages_table": f"{kind}_messages"}
    waiting = with_parts(lonely_url, query="options=-c%20synchronous_commit=on")
    with (
        sessions.connect(lonely_url, **tables, **KEYS[kind]) as direct,
        sessions.connect(
            waiting, **tables, **KEYS[kind], statement_timeout=0.3, retry_timeout=1.0, retry_delay=0.01
        ) as backend,
    ):
        direct.session("chat_1").replace_items(items("a", "b"))
        with refused(OutcomeUnknownError, "on the primary, and may be on no standby"):
            write(backend)


@pytest.mark.mysql
@each_kind
@each_write
def test_what_settles_a_write_is_written_to_the_binary_log(
    make_url: Callable[[str], str], kind: str, write: Callable[[Backend], object]
) -> None:
    # For nothing else does a commit wait until a replica has it.
    url = make_url("mysql")
    table = f"({url.rpartition('/')[2]}.agent_sessions)"
    place: list[Any] = []

    def note() -> None:
        place[:] = execute_sql(url, "SHOW BINARY LOGS")[-1][:2]

    with (
        sessions.connect(url, **KEYS[kind]) as direct,
        Proxy(url) as proxy,
        sessions.connect(proxy.url, **KEYS[kind], retry_delay=0.001) as backend,
    ):
        for packet in itertools.count(1):
            direct.session("chat_1").replace_items(items("a", "b"))
            backend.session("another").position()
            proxy.cut(packet=packet, when="after")
            with at_first_retry(note):
                write(backend)
            if not proxy.was_cut:
                break
            log, position = place
            events = execute_sql(url, f"SHOW BINLOG EVENTS IN '{log}' FROM {int(position)}")
            assert any(table in str(event[-1]) for event in events), packet
        proxy.cut(packet=10**9)
    assert packet > 1


def test_what_settles_a_clearing_leaves_no_row(server_url: str) -> None:
    with (
        sessions.connect(server_url) as direct,
        Proxy(server_url) as proxy,
        sessions.connect(proxy.url, retry_delay=0.001) as backend,
    ):
        direct.session("chat_1").add_items(items("a"))
        backend.session("another").position()
        proxy.cut(when="after")
        with at_first_retry() as retries:
            backend.session("chat_1").clear_session()
        assert retries.count
        assert direct.list_sessions() == []


def test_what_settles_a_write_leaves_the_time_of_the_conversation(server_url: str) -> None:
    """By which others are settled."""
    times: list[Any] = []
    with (
        sessions.connect(server_url) as direct,
        Proxy(server_url) as proxy,
        sessions.connect(proxy.url, retry_delay=0.001) as backend,
    ):
        backend.session("another").position()
        proxy.cut(when="after")
        with at_first_retry(lambda: times.append(direct.list_sessions()[0].updated_at)):
            backend.session("chat_1").add_items(items("a"))
        assert times == [direct.list_sessions()[0].updated_at]


# As many applications have one, for each table with such a column.
NOTES_THE_TIME = {
    "postgresql": """
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
        CREATE TRIGGER note BEFORE UPDATE ON agent_sessions FOR EACH ROW EXECUTE FUNCTION note()
        """,
    "mysql": "CREATE TRIGGER note BEFORE UPDATE ON agent_sessions FOR EACH ROW SET NEW.updated_at = NOW(6)",
}


@pytest.mark.parametrize(
    ("write", "left"),
    [
        (lambda session, _: session.add_items(items("new")), ["hello", "new"]),
        (lambda session, _: session.replace_items(items("new")), ["new"]),
        (lambda session, position: session.replace_record(position, item("new")), ["new"]),
        (lambda session, _: session.clear_session(), []),
    ],
    ids=["add_items", "replace_items", "replace_record", "clear_session"],
)
def test_what_settles_a_write_is_not_taken_for_anothers_where_a_trigger_notes_its_time(
    server_url: str, write: Callable[[Session, int], object], left: list[str]
) -> None:
    is_postgresql = dialect_of(server_url) == "postgresql"
    hour = "INTERVAL '1 hour'" if is_postgresql else "INTERVAL 1 HOUR"
    with (
        sessions.connect(server_url) as direct,
        Proxy(server_url) as proxy,
        sessions.connect(proxy.url, retry_delay=0.001) as backend,
    ):
        direct.session("chat_1").add_items(items("hello"))
        # Older than the write by more than the whole seconds that MySQL's times have.
        execute_sql(server_url, f"UPDATE agent_messages SET created_at = created_at - {hour}")
        execute_sql(server_url, f"UPDATE agent_sessions SET updated_at = updated_at - {hour}")
        execute_sql(server_url, NOTES_THE_TIME["postgresql" if is_postgresql else "mysql"])
        backend.session("another").position()
        position = direct.session("chat_1").position()
        # A call that is shorter than what MySQL's times are rounded by is not asked about.
        moment = time.monotonic() + (0.0 if is_postgresql else 1.5)
        proxy.cut(when="before")
        with at_first_retry(lambda: eventually(lambda: time.monotonic() > moment)) as retries:
            write(backend.session("chat_1"), position)
        assert retries.count
        assert texts(direct.session("chat_1").get_items()) == left


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("how", "autocommit"),
    [("pool", True), ("pool", False), ("bind", True)],
    ids=["pool in autocommit", "pool", "bind in autocommit"],
)
def test_a_wait_for_the_standby_that_somebody_cancels_is_no_success_on_an_applications_connection(
    lonely_url: str, how: str, autocommit: bool
) -> None:
    tables: dict[str, Any] = {"sessions_table": "cancelled_sessions", "messages_table": "cancelled_messages"}
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with sessions.connect(lonely_url, **tables) as direct, contextlib.closing(connect_raw(lonely_url)) as connection:
        direct.session("chat_1").add_items(items("a"))
        connection.execute("SET synchronous_commit = on")
        connection.autocommit = autocommit
        pool = SimpleNamespace(connection=lambda: contextlib.nullcontext(connection))
        backend = (
            sessions.connect(pool=pool, retry_timeout=0.0, **tables)
            if how == "pool"
            else sessions.bind(connection, **tables)
        )
        done = threading.Event()

        def cancel_all() -> None:
            while not done.is_set():
                execute_sql(lonely_url, cancel)

        with ThreadPoolExecutor(1) as thread:
            cancelling = thread.submit(cancel_all)
            try:
                # Neither lost nor undone: whoever is told to run it again has it twice.
                with refused(OutcomeUnknownError, "standby; the write is on the primary"):
                    backend.session("chat_1").add_items(items("b"))
            finally:
                done.set()
            cancelling.result()
        assert texts(backend.session("chat_1").get_items())[-1] == "b"
        assert connection._notice_handlers == []
