"""Two writers of one conversation on PostgreSQL, of which the one that began first comes last.

A write's time is taken before it has the session row's lock: held between the two, it is the earlier by
its clock and the later by its place. Times still tell which came later, on which the order of others'
readers and the settling of lost writes rely.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

import sessions
from faults.writers import at_first_retry
from sessions import OutcomeUnknownError, Session
from support.claims import refused
from support.proxy import Proxy
from support.rivals import connection_of, eventually, locked_session, waiting
from support.samples import items, texts
from support.servers import connect_raw, execute_sql, with_parts

Act = Callable[[Session], object]

_LATE = "late"
# Fires when the new row has its time, and before its lock is waited for.
_HOLD = (
    (
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF current_setting('application_name') = '{_LATE}' THEN PERFORM pg_advisory_xact_lock(1); END IF; "
        "RETURN NEW; END $$"
    ),
    "CREATE TRIGGER hold BEFORE INSERT ON agent_sessions FOR EACH ROW EXECUTE FUNCTION hold()",
)
QUICK: dict[str, Any] = {"retry_delay": 0.001, "max_retries": 5}


@pytest.fixture
def backend(postgresql_url: str) -> Iterator[sessions.Backend]:
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("hello"))
        yield backend


@contextmanager
def held(url: str, act: Act) -> Iterator[None]:
    """Let another act, which is held when it has its time, until the block has ended."""

    def work() -> None:
        with Session.from_url("chat_1", with_parts(url, query=f"application_name={_LATE}")) as session:
            act(session)

    for statement in _HOLD:
        execute_sql(url, statement)
    late = threading.Thread(target=work)
    with connect_raw(url) as gate:
        gate.execute("SELECT pg_advisory_lock(1)")
        late.start()
        try:
            assert eventually(lambda: waiting(url) > 0)
            yield
        finally:
            gate.execute("SELECT pg_advisory_unlock(1)")
            late.join()


def add(session: Session) -> None:
    session.add_items(items("late"))


def add_much(session: Session) -> None:
    """More than one statement takes."""
    session.add_items([{"content": "late" + "x" * 17_000_000}])


def times(url: str) -> list[Any]:
    return [at for (at,) in execute_sql(url, "SELECT created_at FROM agent_messages ORDER BY id")]


@pytest.mark.parametrize("act", [add, add_much])
def test_rows_of_a_late_writer_are_not_dated_before_those_below_them(
    backend: sessions.Backend, postgresql_url: str, act: Act
) -> None:
    with held(postgresql_url, act):
        backend.session("chat_1").add_items(items("between"))
    assert len(times(postgresql_url)) == 3
    assert times(postgresql_url) == sorted(times(postgresql_url))


@pytest.mark.parametrize("act", [add, add_much])
def test_rows_above_those_of_a_late_writer_are_not_dated_before_them(
    backend: sessions.Backend, postgresql_url: str, act: Act
) -> None:
    with held(postgresql_url, add), locked_session(postgresql_url) as between:
        act(sessions.bind(between).session("chat_1"))
        between.commit()
    assert len(times(postgresql_url)) == 3
    assert times(postgresql_url) == sorted(times(postgresql_url))


def test_a_late_write_makes_a_conversation_no_older(backend: sessions.Backend, postgresql_url: str) -> None:
    with held(postgresql_url, add):
        backend.session("chat_1").add_items(items("between"))
        [before] = backend.list_sessions()
    [after] = backend.list_sessions()
    assert after.updated_at is not None
    assert before.updated_at is not None
    assert after.updated_at > before.updated_at


def test_what_a_late_writer_added_behind_a_lost_removal_is_not_removed_again(
    backend: sessions.Backend, postgresql_url: str
) -> None:
    with Proxy(postgresql_url) as proxy, sessions.connect(proxy.url, **QUICK) as behind:
        behind.session("another").position()
        proxy.cut(when="after")
        written = threading.Event()

        def remove() -> None:
            with at_first_retry(lambda: written.wait(60)), refused(OutcomeUnknownError):
                behind.session("chat_1").replace_items([])

        with ThreadPoolExecutor(1) as pool:
            with held(postgresql_url, add):
                removal = pool.submit(remove)
                assert eventually(lambda: backend.session("chat_1").get_items() == [])
            assert texts(backend.session("chat_1").get_items()) == ["late"]
            written.set()
            removal.result()
    assert texts(backend.session("chat_1").get_items()) == ["late"]


@pytest.mark.parametrize(
    "remove",
    [
        lambda session, position: session.pop_item(),
        lambda session, position: session.delete_record(position),
        lambda session, position: session.replace_record(position, {"n": 1}),
    ],
    ids=["pop", "delete", "replace"],
)
def test_a_removal_that_waited_for_an_addition_is_known_for_the_later_one(
    backend: sessions.Backend, postgresql_url: str, remove: Callable[[Session, int], object]
) -> None:
    session = backend.session("chat_1")
    position = session.position()
    with locked_session(postgresql_url) as between:
        remover = threading.Thread(target=remove, args=(session, position))
        remover.start()
        assert eventually(lambda: waiting(postgresql_url) > 0)
        sessions.bind(between).session("chat_1").add_items(items("b", "c"))
        between.commit()
        remover.join()
    dialect: Any = backend._store._dialect  # type: ignore[attr-defined]
    with connection_of(backend) as connection:
        assert dialect.last_change(connection, "chat_1").is_removal
    session.add_items(items("d"))
    with connection_of(backend) as connection:
        assert not dialect.last_change(connection, "chat_1").is_removal
