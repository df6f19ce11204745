"""A statement whose connection was lost while it waited for a lock is not executed in addition to its repetition.

PostgreSQL alone lets such a statement go on behind a pooler, or as a role that is not the one of the login.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

import sessions
from embedding.test_rights import TABLES, grants, role_of
from support.proxy import Proxy
from support.rivals import driver_of, eventually, locked_session, waiting
from support.samples import items, texts
from support.servers import connect_raw, execute_sql, with_parts

# When a connection has last asked whether the other one's statement has ended.
_ASKED = (
    r"SELECT query_start FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%make\_interval%'"
)


@pytest.fixture(params=["direct", "another role", "pooler"])
def writers_url(request: pytest.FixtureRequest, postgresql_url: str) -> Iterator[str]:
    with sessions.Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items("a"))
    if request.param == "pooler":
        host, port = request.getfixturevalue("pgbouncer")
        yield with_parts(postgresql_url, host=host, port=port)
    elif request.param == "another role":
        with role_of(postgresql_url, *grants(postgresql_url, *TABLES)) as owner, role_of(postgresql_url) as url:
            names = [each.partition("//")[2].partition(":")[0] for each in (owner, url)]
            execute_sql(postgresql_url, f"GRANT {names[0]} TO {names[1]}")
            execute_sql(postgresql_url, f"ALTER ROLE {names[1]} SET role = '{names[0]}'")
            yield url
    else:
        yield postgresql_url


@pytest.mark.parametrize("at_position", [False, True])
def test_a_statement_that_outlives_its_connection_is_waited_for(
    request: pytest.FixtureRequest, writers_url: str, postgresql_url: str, at_position: bool
) -> None:
    asked: set[object] = set()

    def settles() -> bool:
        """Whether the repetition waits: for the other one's end, or behind it for the lock."""
        asked.update(execute_sql(postgresql_url, _ASKED))
        return len(asked) > 2 or waiting(postgresql_url) > 1

    with (
        Proxy(writers_url) as proxy,
        sessions.Session.from_url("chat_1", proxy.url, create_tables=False, retry_delay=0.001) as session,
        contextlib.closing(connect_raw(postgresql_url)) as other,
    ):
        position = session.position()
        writer = threading.Thread(
            target=session.add_items, args=(items("b", "c"),), kwargs={"if_position": position if at_position else None}
        )
        with other.transaction():
            other.execute("LOCK TABLE agent_messages IN ACCESS EXCLUSIVE MODE")
            writer.start()
            assert eventually(lambda: waiting(postgresql_url) == 1)
            proxy.drop()
            assert eventually(settles)
        writer.join()
        assert eventually(lambda: waiting(postgresql_url) == 0)
        assert texts(session.get_items()) == ["a", "b", "c"]


class _Interrupting(logging.Handler):
    """Ctrl-C falls into the words of a lost connection."""

    def emit(self, record: logging.LogRecord) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["the words are interrupted", "the question is cancelled"])
def test_a_statement_that_nobody_waits_for_is_waited_for_by_the_next_operation(
    how: str, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answers = threading.Event(), iter([how == "the question is cancelled"])
    handler, found = _Interrupting(), list[str]()
    with (
        sessions.Session.from_url("chat_1", postgresql_url) as witness,
        Proxy(postgresql_url) as proxy,
        sessions.Session.from_url("chat_1", proxy.url) as session,
    ):
        witness.add_items(items("a"))
        session.get_items()
        dialect: Any = driver_of(session)
        is_executing = dialect.is_executing

        def look(*args: Any, **options: Any) -> bool | None:
            if next(answers, False):
                raise psycopg.errors.QueryCanceled("canceling statement due to user request")
            asked.set()
            busy: bool | None = is_executing(*args, **options)
            return busy

        def write() -> None:
            logging.getLogger("sessions").addHandler(handler)
            try:
                with pytest.raises(KeyboardInterrupt):
                    session.add_items(items("b"))
            finally:
                logging.getLogger("sessions").removeHandler(handler)

        def read() -> None:
            found.extend(texts(session.get_items()))

        with locked_session(postgresql_url):
            writer = threading.Thread(target=write)
            writer.start()
            assert eventually(lambda: waiting(postgresql_url) == 1)
            proxy.drop()
            writer.join()
            monkeypatch.setattr(dialect, "is_executing", look)
            reader = threading.Thread(target=read)
            reader.start()
            assert eventually(lambda: asked.is_set() or not reader.is_alive())
        reader.join()
        assert eventually(lambda: waiting(postgresql_url) == 0)
        assert found == texts(witness.get_items()) == ["a", "b"]


# Keeps who has added a row from committing it, as a standby that does not answer would.
_COMMIT_WAITS = """
CREATE FUNCTION wait() RETURNS TRIGGER LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared(17); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON agent_messages DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait();
"""


def add_under_a_lease(backend: sessions.Backend, session_id: str, if_position: int | None = None) -> None:
    session = backend.session(session_id)
    with session.exclusive():
        session.add_items(items("a", "b"), if_position=if_position)


# Each of them in more than one statement, to a conversation that is not there.
Write = Callable[[sessions.Backend, str], object]
WRITES: dict[str, tuple[str, Write]] = {
    "add under a lease": ("new", add_under_a_lease),
    "add at a position under a lease": ("new", lambda backend, new: add_under_a_lease(backend, new, if_position=0)),
    "add to an id with a blank": ("new ", lambda backend, new: backend.session(new).add_items(items("a", "b"))),
    "replace of an id with a blank": ("new ", lambda backend, new: backend.session(new).replace_items(items("a", "b"))),
    "load": ("new", lambda backend, new: backend.load(new, backend.session("chat_1").records())),
}


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "not seen"])
@pytest.mark.parametrize(("session_id", "write"), WRITES.values(), ids=WRITES)
def test_a_commit_that_outlives_its_connection_to_a_pooler_is_not_done_twice(
    pgbouncer: tuple[str, int],
    postgresql_url: str,
    monkeypatch: pytest.MonkeyPatch,
    session_id: str,
    write: Write,
    seen: bool,
) -> None:
    """Whether or not it is seen what the server executes, as other poolers may hide."""
    with sessions.Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items("a", "b"))
        with session.exclusive():
            pass  # makes its table
    execute_sql(postgresql_url, _COMMIT_WAITS)
    url = with_parts(postgresql_url, host=pgbouncer[0], port=pgbouncer[1])
    asked: list[bool | None] = []
    errors: list[BaseException] = []
    with (
        Proxy(url) as proxy,
        sessions.connect(proxy.url, create_tables=False, retry_delay=0.001) as backend,
        contextlib.closing(connect_raw(postgresql_url)) as other,
    ):
        dialect: Any = backend._store._dialect  # type: ignore[attr-defined]
        is_executing = dialect.is_executing

        def look(*args: Any, **options: Any) -> bool | None:
            asked.append(is_executing(*args, **options))
            return asked[-1] if seen else None

        monkeypatch.setattr(dialect, "is_executing", look)

        def run() -> None:
            try:
                write(backend, session_id)
            except BaseException as exc:
                errors.append(exc)

        writer = threading.Thread(target=run)
        with other.transaction():
            other.execute("SELECT pg_advisory_xact_lock(17)")
            writer.start()
            assert eventually(lambda: waiting(postgresql_url) == 1)
            proxy.drop()
            # It waits: to be told of the end of the other one, or for what that holds.
            assert eventually(lambda: asked.count(True) > 2 or waiting(postgresql_url) > 1)
        writer.join()
        assert asked[0] is True
        assert not errors
        assert texts(backend.session(session_id).get_items()) == ["a", "b"]
