"""exclusive(): one run at a time on a conversation, under a lease that is taken over from who has gone."""

import contextlib
import gc
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from types import SimpleNamespace
from typing import Any

import pytest

import sessions
from sessions import BusyError, LeaseLostError, Session, _exclusive
from sessions._leases import Lease, new_lease
from support.children import Child
from support.claims import refused
from support.rivals import eventually
from support.samples import in_threads, item, items, texts
from support.servers import connect_raw, dialect_of, execute_sql

WRITES: dict[str, Callable[[Session, int], object]] = {
    "add_items": lambda session, _: session.add_items(items("x")),
    "add_items(if_position)": lambda session, at: session.add_items(items("x"), if_position=at),
    "add_items of much": lambda session, _: session.add_items(items(*["x" * 100_000] * 50)),
    "pop_item": lambda session, _: session.pop_item(),
    "clear_session": lambda session, _: session.clear_session(),
    "replace_items": lambda session, _: session.replace_items(items("x")),
    "replace_items(if_position)": lambda session, at: session.replace_items(items("x"), if_position=at),
    "replace_items by none": lambda session, _: session.replace_items([]),
    "fork": lambda session, _: session.fork("chat_2"),
    "delete_record": lambda session, at: session.delete_record(at),
    "replace_record": lambda session, at: session.replace_record(at, item("x")),
}
each_write = pytest.mark.parametrize("name", WRITES)


@pytest.fixture
def other(backend: sessions.Backend) -> Session:
    """Another handle for the same conversation."""
    return backend.session("chat_1")


def held(session: Session) -> Lease:
    """The lease of the block that a handle is in."""
    lease = session._history._lease()
    assert lease is not None
    return lease


def dead_holder(session: Session, seconds: float) -> Lease:
    """A lease that somebody has taken who will neither renew it nor give it back."""
    lease = new_lease(session.session_id, seconds)
    session._history.store.take_lease(lease)
    return lease


def take_over(session: Session) -> Lease:
    """Leave the handle's lease to another one, as when it had expired."""
    session._history.store.release_lease(held(session))
    return dead_holder(session, 60)


def no_thread_renews() -> bool:
    return "sessions-lease" not in [thread.name for thread in threading.enumerate()]


@contextmanager
def lost_block(session: Session) -> Iterator[None]:
    """A block at whose end, and not before, it is said that the lease was lost."""
    ended = False
    with refused(LeaseLostError, session.session_id), session.exclusive():
        yield
        ended = True
    assert ended


def state(session: Session) -> tuple[Any, ...]:
    listed = sessions.Backend(session._history.store).list_sessions(order="id")
    return list(session.records()), [(info.session_id, info.updated_at) for info in listed]


# --- who has it


def test_between_a_read_and_a_write_in_a_block_nobody_writes(backend: sessions.Backend) -> None:
    def count_on(_: int) -> None:
        session = backend.session("chat_1")
        for _ in range(3):
            with session.exclusive(timeout=60):
                session.add_items([{"number": len(session.get_items())}])

    in_threads(4, count_on)
    assert [entry["number"] for entry in backend.session("chat_1").get_items()] == list(range(12))


def test_who_waits_has_it_when_the_first_has_ended(session: Session, other: Session) -> None:
    read: list[list[str]] = []

    def wait() -> None:
        with other.exclusive(timeout=60):
            read.append(texts(other.get_items()))

    with session.exclusive():
        second = threading.Thread(target=wait)
        second.start()
        session.add_items(items("a"))
        session.add_items(items("b"))
    second.join()
    assert read == [["a", "b"]]


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_who_waits_in_vain_gets_a_busy_error(session: Session, other: Session, timeout: float) -> None:
    with session.exclusive():
        with refused(BusyError, "chat_1"), other.exclusive(timeout=timeout):
            pass
        session.add_items(items("a"))
    with other.exclusive(timeout=0):
        assert texts(other.get_items()) == ["a"]


def test_a_busy_error_is_a_timeout_error(session: Session, other: Session) -> None:
    with session.exclusive(), pytest.raises(TimeoutError), other.exclusive(timeout=0):
        pass


def test_a_handle_is_in_one_block_at_a_time(session: Session) -> None:
    with session.exclusive():
        with refused(BusyError, "not re-entrant"), session.exclusive(timeout=60):
            pass
        session.add_items(items("a"))
    with session.exclusive(timeout=0):
        assert texts(session.get_items()) == ["a"]


def test_it_is_given_back_after_an_error(session: Session, other: Session) -> None:
    with pytest.raises(ZeroDivisionError), session.exclusive():
        raise ZeroDivisionError
    with other.exclusive(timeout=0):
        pass


def test_each_conversation_has_its_own(backend: sessions.Backend) -> None:
    with ExitStack() as stack:
        for session_id in ("chat_1", "chat_2", "chat_1 ", "CHAT_1", "chàt_1"):
            stack.enter_context(backend.session(session_id).exclusive(timeout=0))


def test_who_does_not_ask_for_it_is_not_held_up(session: Session, other: Session) -> None:
    with session.exclusive():
        other.add_items(items("a"))
        assert other.pop_item() == item("a")


def test_a_lease_outlives_the_conversation(session: Session, other: Session) -> None:
    with session.exclusive():
        session.add_items(items("a"))
        session.clear_session()
        with pytest.raises(BusyError), other.exclusive(timeout=0):
            pass
        session.add_items(items("b"))
    assert texts(session.get_items()) == ["b"]


@each_write
def test_a_write_under_a_lease_does_what_it_does_without(
    session: Session, backend: sessions.Backend, name: str
) -> None:
    twin = backend.session("twin")
    results = []
    for one in (session, twin):
        one.add_items(items("a", "b"))
        at = one.position()
        if one is twin:
            backend.delete_sessions(["chat_2"])
            results.append((WRITES[name](one, at), texts(one.get_items())))
        else:
            with one.exclusive():
                results.append((WRITES[name](one, at), texts(one.get_items())))
    assert repr(results[0]).replace("chat_1", "twin") == repr(results[1])


def test_a_position_is_compared_under_a_lease_too(session: Session) -> None:
    session.add_items(items("a"))
    with session.exclusive():
        for write in (session.add_items, session.replace_items):
            with refused(sessions.ConflictError):
                write(items("x"), if_position=session.position() + 1)
        session.add_items(items("b"))
    assert texts(session.get_items()) == ["a", "b"]


# --- when it ends


def test_a_lease_of_the_dead_is_taken_over_when_it_has_expired(session: Session) -> None:
    lost = dead_holder(session, 0.3)
    with session.exclusive(timeout=60):
        assert not session._history.store.renew_lease(lost)


def test_a_lease_is_renewed_in_the_background(url: str) -> None:
    renewed = threading.Semaphore(0)
    block = threading.get_ident()

    def note(operation: sessions.Operation) -> None:
        if operation.name == "exclusive" and threading.get_ident() != block:
            renewed.release()

    with sessions.connect(url, on_operation=note) as backend:
        with backend.session("chat_1").exclusive(lease=0.6):
            for _ in range(6):  # twice as long as it lasts
                assert renewed.acquire(timeout=60)
            with pytest.raises(BusyError), backend.session("chat_1").exclusive(timeout=0):
                pass
        assert eventually(no_thread_renews)


def test_a_taking_that_is_repeated_lasts_as_long_as_one(sql_url: str) -> None:
    """As where its answer was lost, and the server away for nearly as long as it lasts."""
    with sessions.connect(sql_url) as backend:
        lease = dead_holder(backend.session("chat_1"), 60)
        end = "SELECT expires_at FROM agent_session_leases"
        before = execute_sql(sql_url, end)

        def is_later() -> bool:
            backend._store.take_lease(lease)
            return execute_sql(sql_url, end) != before

        assert eventually(is_later)
        assert execute_sql(sql_url, end) > before


@pytest.mark.parametrize("error", [sessions.DatabaseError("away"), OSError("the function that gives the password")])
def test_a_renewal_that_failed_is_soon_tried_again_whatever_it_raised(
    backend: sessions.Backend, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session = backend.session("chat_1")
    store, renew = session._history.store, session._history.store.renew_lease
    failed, renewed = threading.Event(), threading.Event()

    def renew_lease(lease: Lease) -> bool:
        if not failed.is_set():
            failed.set()
            raise error
        renewed.set()
        return renew(lease)

    monkeypatch.setattr(store, "renew_lease", renew_lease)
    with session.exclusive(lease=3):
        assert renewed.wait(60)
    assert "its lease could not be renewed" in caplog.text


def test_a_giving_back_that_fails_takes_no_place_of_what_the_block_did(
    session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def release_lease(_: Lease) -> bool:
        raise OSError("the function that gives the password")

    for raised in (None, ValueError("of the block")):
        with contextlib.suppress(ValueError), session.exclusive(lease=0.2):
            monkeypatch.setattr(session._history.store, "release_lease", release_lease)
            if raised:
                raise raised
        monkeypatch.undo()
    assert caplog.text.count("its lease could not be given back") == 2


def test_each_write_renews_the_lease(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session, session.exclusive():
        statement = "SELECT expires_at FROM agent_session_leases"
        for write in (session.add_items, session.replace_items):
            # Long ago: two moments of SQLite's clock may be the same.
            long_ago = "1.0" if dialect_of(sql_url) == "sqlite" else "'2001-01-01 00:00:00'"
            execute_sql(sql_url, f"UPDATE agent_session_leases SET expires_at = {long_ago}")
            before = execute_sql(sql_url, statement)
            write(items("a"))
            assert execute_sql(sql_url, statement) > before


def test_a_lease_that_expired_and_nobody_took_over_still_holds(session: Session) -> None:
    store = session._history.store
    lease = dead_holder(session, 1e-6)
    store.append("chat_1", ['{"content": "a"}'], if_position=None, known=0, lease=lease)
    assert texts(session.get_items()) == ["a"]


@each_write
def test_a_write_under_a_lost_lease_is_refused_and_changes_nothing(session: Session, name: str) -> None:
    session.add_items(items("a", "b"))
    with lost_block(session):
        at, before = session.position(), state(session)
        take_over(session)
        for _ in range(2):
            with refused(LeaseLostError, "chat_1"):
                WRITES[name](session, at)
        assert state(session) == before


@pytest.mark.parametrize("name", ["add_items(if_position)", "replace_items(if_position)"])
@pytest.mark.parametrize("keys", [{}, {"integrity_key": "a key of many characters"}], ids=["plain", "sealed"])
def test_whoever_has_been_overtaken_is_told_so_and_not_that_others_have_written(
    url: str, name: str, keys: dict[str, Any]
) -> None:
    with sessions.connect(url, **keys) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a", "b"))
        with lost_block(session):
            at = session.position()
            take_over(session)
            backend.session("chat_1").add_items(items("theirs"))
            with refused(LeaseLostError, "chat_1"):
                WRITES[name](session, at)
        assert texts(backend.session("chat_1").get_items()) == ["a", "b", "theirs"]


@pytest.mark.parametrize("name", ["add_items(if_position)", "add_items of much", "pop_item", "clear_session"])
def test_in_the_other_form_of_the_statements_it_is_refused_the_same(server_url: str, name: str) -> None:
    other: Any = {"prepared_statements": False} if server_url.startswith("postgresql") else {"multi_statements": False}
    with sessions.connect(server_url, **other) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        with lost_block(session):
            for _ in range(7):
                session.replace_items(items("a"))
            at, before = session.position(), state(session)
            take_over(session)
            with refused(LeaseLostError):
                WRITES[name](session, at)
            assert state(session) == before


def test_reads_need_no_lease(session: Session) -> None:
    session.add_items(items("a"))
    with lost_block(session):
        take_over(session)
        assert texts(session.get_items()) == ["a"]
        assert session.position() > 0
        assert [record.item for record in session.records()] == items("a")


def test_an_id_that_ends_with_a_blank_is_refused_the_same(backend: sessions.Backend) -> None:
    session = backend.session("chat ")
    with lost_block(session):
        session.add_items(items("a"))
        take_over(session)
        with refused(LeaseLostError):
            session.add_items(items("b"))
    assert texts(session.get_items()) == ["a"]


def test_the_end_of_the_block_says_that_the_lease_was_lost(session: Session) -> None:
    with lost_block(session):
        take_over(session)


def test_the_end_of_the_block_hides_no_error(session: Session) -> None:
    def fail() -> None:
        with session.exclusive():
            take_over(session)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_who_has_taken_over_keeps_it_at_the_end_of_the_first_block(session: Session, other: Session) -> None:
    with lost_block(session):
        take_over(session)
    with pytest.raises(BusyError), other.exclusive(timeout=0):
        pass


def test_who_writes_while_a_block_ends_writes_behind_it(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a signal handler may, or another thread with the handle."""
    release = _exclusive._release

    def interrupted(*arguments: Any) -> bool:
        released = release(*arguments)
        session.add_items(items("b"))
        return released

    monkeypatch.setattr(_exclusive, "_release", interrupted)
    with session.exclusive():
        session.add_items(items("a"))
    assert texts(session.get_items()) == ["a", "b"]


def test_a_block_that_is_forgotten_holds_nothing(session: Session, other: Session) -> None:
    for _ in range(2):
        session.exclusive(timeout=60, lease=3600).__enter__()
        gc.collect()
    assert session._history._lease() is None
    with other.exclusive(timeout=60):
        other.add_items(items("a"))
    assert eventually(no_thread_renews)


@pytest.fixture
def no_thread_starts() -> Iterator[None]:
    """Each thread would take more memory than there is."""
    before = threading.stack_size(2**47)
    yield
    threading.stack_size(before)


@pytest.mark.usefixtures("no_thread_starts")
def test_where_no_thread_can_be_started_writes_alone_renew(
    session: Session, other: Session, caplog: pytest.LogCaptureFixture
) -> None:
    with session.exclusive(lease=60):
        session.add_items(items("a"))
        with pytest.raises(BusyError), other.exclusive(timeout=0):
            pass
    with other.exclusive(timeout=0, lease=1e-6):
        other.add_items(items("b"))
    [message, _] = [record.getMessage() for record in caplog.records if record.name == "sessions"]
    assert re.fullmatch(r"session 'chat_1': no thread can be started .*; give exclusive\(\) a lease .*", message)
    assert texts(session.get_items()) == ["a", "b"]


# --- arguments, closing, forks


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": float("inf")}, ValueError),
        ({"timeout": None}, TypeError),
        ({"timeout": True}, TypeError),
        ({"lease": 0}, ValueError),
        ({"lease": -1}, ValueError),
        ({"lease": float("nan")}, ValueError),
        ({"lease": "60"}, TypeError),
    ],
    ids=str,
)
def test_times_that_mean_nothing_are_refused(session: Session, arguments: Any, error: type[Exception]) -> None:
    with refused(error):
        session.exclusive(**arguments)


def test_a_closed_handle_has_no_block(session: Session) -> None:
    session.close()
    with refused(sessions.ClosedError), session.exclusive():
        pass


def test_a_backend_may_be_closed_within_a_block(backend: sessions.Backend, session: Session) -> None:
    with session.exclusive():
        backend.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
@pytest.mark.usefixtures("each_fork")
def test_a_forked_child_has_no_lease(session: Session, other: Session) -> None:
    def write() -> str:
        with pytest.raises(LeaseLostError, match="forked"):
            session.add_items(items("x"))
        return "refused"

    with session.exclusive():
        session.add_items(items("a"))
        assert Child(write).result() == "refused"
        with pytest.raises(BusyError), other.exclusive(timeout=0):
            pass
        session.add_items(items("b"))
    assert texts(session.get_items()) == ["a", "b"]


# --- the table


def test_the_table_is_made_when_it_is_first_wanted(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        session.clear_session()
        [check] = [check for check in backend.check() if check.name == "leases"]
        assert (check.verdict, check.found) == ("ok", "no agent_session_leases, which exclusive() makes")
        with session.exclusive():
            session.add_items(items("a"))
        [check] = [check for check in backend.check() if check.name == "leases"]
        assert check == ("leases", "ok", "agent_session_leases", "", "")


def test_a_first_write_under_a_lease_makes_the_other_tables(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session, session.exclusive():
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]


@pytest.mark.parametrize("options", [{}, {"integrity_key": "a key that is long enough"}], ids=["plain", "sealed"])
def test_what_a_missing_table_advises_makes_every_table(sql_url: str, options: dict[str, Any]) -> None:
    def use(session: sessions.Session) -> None:
        with session.exclusive():
            session.add_items(items("a"))

    with sessions.connect(sql_url) as owner:
        owner.session("chat_1").position()
    with sessions.connect(sql_url, create_tables=False, **options) as backend:
        with refused(sessions.SchemaError, match=r"check\(fix=True\) of a backend of connect\(\)"):
            use(backend.session("chat_1"))
        with sessions.connect(sql_url, create_tables=False, **options) as owner:
            owner.check(fix=True)
        use(backend.session("chat_1"))
        assert texts(backend.session("chat_1").get_items()) == ["a"]


def test_conversations_in_other_tables_have_leases_of_their_own(sql_url: str) -> None:
    with (
        sessions.connect(sql_url) as one,
        sessions.connect(sql_url, sessions_table="chats", messages_table="lines") as two,
    ):
        with one.session("chat_1").exclusive(), two.session("chat_1").exclusive(timeout=0):
            two.session("chat_1").add_items(items("a"))
            assert execute_sql(sql_url, "SELECT session_id FROM chats_leases") == [("chat_1",)]
        assert execute_sql(sql_url, "SELECT session_id FROM chats_leases") == []


def test_a_lease_is_renewed_and_given_back_in_the_context_of_its_block(sqlite_url: str) -> None:
    """By which a pool knows the tenant, or a function that gives the password the database."""
    tenant: ContextVar[str] = ContextVar("tenant")
    lent: list[tuple[str, str]] = []

    @contextmanager
    def connection() -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=5)) as opened:
            lent.append((threading.current_thread().name, tenant.get("nobody")))
            yield opened

    def by_the_thread() -> list[str]:
        return [who for name, who in lent if name == "sessions-lease"]

    def work() -> None:
        tenant.set("a")
        session = sessions.connect(pool=SimpleNamespace(connection=connection)).session("chat_1")
        with session.exclusive(lease=0.3):
            assert eventually(lambda: bool(by_the_thread()))
        assert eventually(no_thread_renews)
        block = session.exclusive()
        block.__enter__()
        lent.clear()
        del block
        gc.collect()
        assert eventually(lambda: bool(by_the_thread()))
        assert eventually(no_thread_renews)

    copy_context().run(work)
    assert set(by_the_thread()) == {"a"}
    assert execute_sql(sqlite_url, "SELECT session_id FROM agent_session_leases") == []


# --- on a connection of the application


@pytest.mark.parametrize("autocommit", [True, False])
def test_on_a_connection_of_yours_each_write_renews_and_no_thread_does(sql_url: str, *, autocommit: bool) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as owner, owner.exclusive():
        owner.add_items(items("a"))
    assert eventually(no_thread_renews)
    connection = connect_raw(sql_url)
    set_autocommit(connection, autocommit=autocommit)
    session = sessions.bind(connection).session("chat_1")
    with session.exclusive(lease=0.000_001):
        assert no_thread_renews()
        for write in WRITES.values():
            write(session, session.position())
            session.replace_items(items("a", "b"))
        with pytest.raises(BusyError), session.exclusive():
            pass
        if not autocommit:
            connection.commit()
        other = take_over(session)
        if not autocommit:
            connection.commit()
        for write in WRITES.values():
            with refused(LeaseLostError):
                write(session, session.position())
        assert texts(session.get_items()) == ["a", "b"]
        session._history.store.release_lease(other)
        session._history.store.take_lease(held(session))
    connection.commit()
    connection.close()
    assert execute_sql(sql_url, "SELECT session_id FROM agent_session_leases") == []


def set_autocommit(connection: Any, *, autocommit: bool) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.isolation_level = None if autocommit else "DEFERRED"
    elif callable(connection.autocommit):
        connection.autocommit(autocommit)
    else:
        connection.autocommit = autocommit


def test_what_was_taken_in_a_transaction_goes_with_it(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as owner, owner.exclusive():
        owner.add_items(items("a"))
    connection = connect_raw(sql_url)
    set_autocommit(connection, autocommit=False)
    session = sessions.bind(connection).session("chat_1")
    with lost_block(session):
        session.add_items(items("b"))
        connection.rollback()
        with refused(LeaseLostError):
            session.add_items(items("c"))
    connection.rollback()
    assert texts(session.get_items()) == ["a"]
    connection.close()
