"""A lost answer is settled by what is there: ours is known from its equals, and others' writes are kept.

The connection is cut at one write, before or after the server acted; another caller acts before the
next attempt.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pytest

import sessions
from faults.writers import at_first_retry
from sessions import ConflictError, OutcomeUnknownError, SchemaError, Session
from sessions._dialects.failures import Opened, Orphan
from sessions._stores import attempts
from support.children import fork_in_c
from support.claims import refused
from support.proxy import Proxy, When
from support.rivals import connection_of, eventually, terminate, waiting
from support.samples import item, items, make_tables_without_foreign_key, stored_texts, texts
from support.servers import connect_raw, dialect_of, execute_sql

QUICK: dict[str, Any] = {"retry_delay": 0.001, "max_retries": 5}

Write = Callable[[Session, int], object]
Act = Callable[[Session, int], object]


@dataclass(frozen=True)
class Case:
    """A write to the history ["hello"], whose position is given, and what others do about it."""

    write: Write
    left: tuple[str, ...]
    before: Act = lambda _rival, _position: None  # after the position was read
    gap: Act | None = None  # after the cut
    error: type[sessions.SessionsError] | None = None


def adds(*new: str, at_position: bool = False) -> Write:
    return lambda session, position: session.add_items(items(*new), if_position=position if at_position else None)


def replaces(*new: str, at_position: bool = False) -> Write:
    return lambda session, position: session.replace_items(items(*new), if_position=position if at_position else None)


def pops(session: Session, _: int) -> object:
    return session.pop_item()


def clears(session: Session, _: int) -> None:
    session.clear_session()


def pops_and_covers(session: Session, _: int) -> None:
    session.pop_item()
    session.add_items(items("new"))


NOT_DONE = {
    "an equal item of another is not ours": Case(adds("yes"), ("hello", "yes", "yes"), before=adds("yes")),
    "an equal item that came in the gap is not ours": Case(adds("yes"), ("hello", "yes", "yes"), gap=adds("yes")),
    "of two equal claims one is made": Case(
        adds("claim", at_position=True),
        ("hello", "claim"),
        gap=adds("claim", at_position=True),
        error=OutcomeUnknownError,
    ),
    "a claim behind another and an equal one": Case(
        adds("claim", at_position=True),
        ("hello", "other", "claim"),
        gap=adds("other", "claim"),
        error=OutcomeUnknownError,
    ),
    "a position that was stale": Case(
        adds("taken", at_position=True), ("hello", "taken"), before=adds("taken"), error=ConflictError
    ),
    "a position that was stale for replace": Case(
        replaces("taken", at_position=True), ("hello", "taken"), before=adds("taken"), error=ConflictError
    ),
    "add after another's clear": Case(adds("a"), ("a",), gap=clears),
    # The handle knows nothing of what was there.
    "clear after another's add": Case(clears, ("hello", "more"), gap=adds("more"), error=OutcomeUnknownError),
    "replace after another's add": Case(replaces("a"), ("hello", "more"), gap=adds("more"), error=OutcomeUnknownError),
    "replace after another's replace": Case(
        replaces("a"), ("theirs",), gap=replaces("theirs"), error=OutcomeUnknownError
    ),
}
DONE = {
    "an equal item of another is not ours": Case(adds("yes"), ("hello", "yes", "yes"), before=adds("yes")),
    "a fresh handle's first write": Case(adds("a", "b"), ("hello", "a", "b")),
    "a position that was stale": Case(
        adds("taken", at_position=True), ("hello", "taken"), before=adds("taken"), error=ConflictError
    ),
    "add continued by another": Case(adds("a"), ("hello", "a", "more"), gap=adds("more")),
    "add of which the last was popped": Case(adds("a", "b"), ("hello", "a"), gap=pops),
    "add at a position of which the last was popped": Case(adds("a", "b", at_position=True), ("hello", "a"), gap=pops),
    "add that was popped as a whole": Case(adds("a"), ("hello",), gap=pops, error=OutcomeUnknownError),
    "add at a position that was popped as a whole": Case(
        adds("a", at_position=True), ("hello",), gap=pops, error=OutcomeUnknownError
    ),
    "add at a position that was popped and covered": Case(
        adds("a", at_position=True), ("hello", "new"), gap=pops_and_covers, error=OutcomeUnknownError
    ),
    "add that was replaced": Case(adds("a"), ("theirs",), gap=replaces("theirs"), error=OutcomeUnknownError),
    "add that was replaced by nothing": Case(adds("a"), (), gap=replaces(), error=OutcomeUnknownError),
    "add that was popped and covered": Case(
        adds("a"), ("hello", "new"), gap=pops_and_covers, error=OutcomeUnknownError
    ),
    # What cannot be told: no trace of the removal is left.
    "add that was cleared with its session": Case(adds("a"), ("a",), gap=clears),
    "clear and nothing else": Case(clears, ()),
    "clear before another's add": Case(clears, ("new",), gap=adds("new"), error=OutcomeUnknownError),
    "clear before another's replace": Case(clears, ("new",), gap=replaces("new"), error=OutcomeUnknownError),
    "replace continued by another": Case(replaces("a"), ("a", "more"), gap=adds("more")),
    "replace before another's replace": Case(
        replaces("a"), ("theirs",), gap=replaces("theirs"), error=OutcomeUnknownError
    ),
    "replace of which the last was popped": Case(replaces("a", "b", at_position=True), ("a",), gap=pops),
    "replace by nothing": Case(replaces(), ()),
    "replace by nothing before another's add": Case(replaces(), ("new",), gap=adds("new"), error=OutcomeUnknownError),
}


class Stage:
    """A session behind a proxy, and a rival's handle that is not."""

    def __init__(self, proxy: Proxy, behind: sessions.Backend, direct: sessions.Backend) -> None:
        self.proxy = proxy
        self.session, self.rival = behind.session("chat_1"), direct.session("chat_1")
        self.rival.add_items(items("hello"))
        behind.session("another").position()  # a warm connection, and a handle that knows nothing

    def cut(self, when: When, write: Callable[[], object], gap: Callable[[], object] | None = None) -> None:
        """Write, be cut off, let the others act at once, and settle."""
        self.proxy.cut(when=when)
        with at_first_retry(gap or (lambda: None)) as retries:
            try:
                write()
            finally:
                assert self.proxy.was_cut
                assert retries.count


@pytest.fixture
def stage(server_url: str) -> Iterator[Stage]:
    with staged(server_url) as stage:
        yield stage


@contextlib.contextmanager
def staged(url: str) -> Iterator[Stage]:
    with (
        sessions.connect(url) as direct,
        Proxy(url) as proxy,
        sessions.connect(proxy.url, **QUICK) as behind,
    ):
        stage = Stage(proxy, behind, direct)
        # Older than the write by more than the whole seconds that MySQL's times have.
        hour = "INTERVAL '1 hour'" if dialect_of(url) == "postgresql" else "INTERVAL 1 HOUR"
        for table in ("agent_messages", "agent_sessions"):
            execute_sql(url, f"UPDATE {table} SET created_at = created_at - {hour}")
        yield stage


@pytest.mark.parametrize(
    ("when", "case"),
    [pytest.param("before", case, id=f"not done: {name}") for name, case in NOT_DONE.items()]
    + [pytest.param("after", case, id=f"done: {name}") for name, case in DONE.items()],
)
def test_a_lost_answer_is_settled_by_what_is_there(stage: Stage, when: When, case: Case) -> None:
    position = stage.rival.position()
    case.before(stage.rival, position)
    gap = partial(case.gap, stage.rival, position) if case.gap else None
    with refused(case.error) if case.error else contextlib.nullcontext():
        stage.cut(when, lambda: case.write(stage.session, position), gap)
    assert texts(stage.rival.get_items()) == list(case.left)
    stage.session.add_items(items("on"))
    assert texts(stage.session.get_items()) == [*case.left, "on"]


def test_a_removal_of_long_ago_does_not_keep_an_addition_from_being_settled(stage: Stage, server_url: str) -> None:
    [(before,)] = execute_sql(server_url, "SELECT created_at FROM agent_sessions WHERE session_id = 'chat_1'")
    stage.rival.add_items(items("popped"))
    stage.rival.pop_item()
    [(after,)] = execute_sql(server_url, "SELECT created_at FROM agent_sessions WHERE session_id = 'chat_1'")
    assert before != after
    assert before.replace(microsecond=0) == after.replace(microsecond=0)
    # A day is half a second there: an hour ago, or 23.
    earlier = -20_833 if after.microsecond > 25_000 else 479_167
    interval = (
        f"INTERVAL '{earlier} us'" if dialect_of(server_url) == "postgresql" else f"INTERVAL {earlier} MICROSECOND"
    )
    execute_sql(server_url, f"UPDATE agent_sessions SET created_at = created_at + {interval}")
    stage.cut("before", lambda: stage.session.add_items(items("a")), lambda: stage.rival.add_items(items("more")))
    assert texts(stage.rival.get_items()) == ["hello", "more", "a"]


def pop_behind_a_lost_answer(stage: Stage) -> None:
    """Lose the answer to a batch, which others pop and cover: it must not be written again."""
    with refused(OutcomeUnknownError):
        stage.cut("after", lambda: stage.session.add_items(items("a")), lambda: pops_and_covers(stage.rival, 0))
    assert texts(stage.rival.get_items()) == ["hello", "new"]


def test_a_removal_is_noted_of_a_conversation_that_was_loaded_with_whole_seconds(stage: Stage, server_url: str) -> None:
    records = list(stage.rival.records())
    with sessions.connect(server_url) as direct:
        stage.rival.clear_session()
        direct.load("chat_1", records, created_at=datetime(2025, 5, 1, 12, 0, 0))  # noqa: DTZ001
    pop_behind_a_lost_answer(stage)


def test_a_removal_is_noted_in_milliseconds(stage: Stage, server_url: str) -> None:
    if dialect_of(server_url) == "postgresql":
        execute_sql(server_url, "ALTER TABLE agent_sessions ALTER created_at TYPE timestamp(3)")
    else:
        execute_sql(server_url, "ALTER TABLE agent_sessions MODIFY created_at DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3)")
    for _ in range(4):
        stage.rival.clear_session()
        stage.rival.add_items(items("hello"))
        pop_behind_a_lost_answer(stage)


def test_without_a_time_of_the_last_write_nobody_knows_who_wrote(stage: Stage, server_url: str) -> None:
    null = (
        "ALTER updated_at DROP NOT NULL"
        if dialect_of(server_url) == "postgresql"
        else "MODIFY updated_at DATETIME NULL"
    )
    execute_sql(server_url, f"ALTER TABLE agent_sessions {null}")

    def forget() -> None:
        execute_sql(server_url, "UPDATE agent_sessions SET updated_at = NULL")

    with refused(OutcomeUnknownError):
        stage.cut("before", lambda: stage.session.add_items(items("a")), forget)


def test_a_removal_is_noted_within_the_second_and_exactly_at_any_time_of_day(server_url: str) -> None:
    tomorrow = datetime.now(UTC).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    with sessions.connect(server_url) as backend:
        session = backend.session("chat_1")
        # 17.28 s and 5 h 45 m 36 s are a hundred, and a hundred and twenty thousand, of the steps in which it is noted.
        for seconds in (0, 17.28, 20736, 86399.999999):
            session.add_items(items("a"))
            # Later than now, so that it is the time of the removal.
            execute_sql(
                server_url,
                "UPDATE agent_sessions SET created_at = %s, updated_at = %s",
                ["2025-05-01 10:00:00.5", str(tomorrow + timedelta(seconds=seconds))],
            )
            session.pop_item()
            [(noted,)] = execute_sql(server_url, "SELECT created_at FROM agent_sessions")
            assert noted.replace(microsecond=0) == datetime(2025, 5, 1, 10, 0, 0)  # noqa: DTZ001
            assert noted.microsecond % 2 == 1  # or its last digits might pass for those of a column that has fewer


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "in a transaction"])
def test_a_batch_popped_on_an_applications_connection_is_not_written_again(
    stage: Stage, server_url: str, autocommit: bool
) -> None:
    def pop() -> None:
        with contextlib.closing(connect_raw(server_url)) as connection:
            if not autocommit:
                connection.cursor().execute("BEGIN")
            assert sessions.bind(connection).session("chat_1").pop_item() == item("a")
            connection.commit()

    with refused(OutcomeUnknownError):
        stage.cut("after", lambda: stage.session.add_items(items("a")), pop)
    assert texts(stage.rival.get_items()) == ["hello"]


_MODDATETIME = """
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.updated_at = now(); RETURN NEW; END';
CREATE TRIGGER note BEFORE UPDATE ON agent_sessions FOR EACH ROW EXECUTE FUNCTION note()
"""


def test_an_own_removal_right_before_a_lost_write_does_not_keep_it_from_being_settled(stage: Stage) -> None:
    for number in range(5):
        stage.session.add_items(items("popped"))
        stage.session.pop_item()
        stage.cut("before", lambda: stage.session.add_items(items("a")))
        assert texts(stage.rival.get_items()) == ["hello", *["a"] * (number + 1)]


@pytest.mark.postgresql
def test_a_batch_popped_in_an_older_transaction_that_dates_by_its_beginning_is_not_written_again(
    postgresql_url: str,
) -> None:
    with staged(postgresql_url) as stage, contextlib.closing(connect_raw(postgresql_url)) as connection:
        execute_sql(postgresql_url, _MODDATETIME)
        connection.execute("BEGIN")
        moment = time.monotonic() + 2  # longer ago than a note may be wrong by
        assert eventually(lambda: time.monotonic() > moment)

        def pop() -> None:
            assert sessions.bind(connection).session("chat_1").pop_item() == item("a")
            connection.commit()

        with refused(OutcomeUnknownError):
            stage.cut("after", lambda: stage.session.add_items(items("a")), pop)
        assert texts(stage.rival.get_items()) == ["hello"]


@pytest.mark.parametrize(
    "write", [adds("a", at_position=True), replaces("a", at_position=True)], ids=["add", "replace"]
)
def test_a_write_at_position_0_does_not_ask_for_the_rows_that_its_handle_knew(stage: Stage, write: Write) -> None:
    assert stage.session.position()
    stage.rival.clear_session()
    stage.cut("before", lambda: write(stage.session, 0))
    assert texts(stage.rival.get_items()) == ["a"]


@pytest.mark.parametrize(
    "write", [adds("late", at_position=True), replaces("late", at_position=True)], ids=["add", "replace"]
)
def test_a_position_is_stale_when_another_clears_while_a_write_waits(server_url: str, write: Write) -> None:
    with sessions.connect(server_url) as backend, contextlib.closing(connect_raw(server_url)) as rival:
        session = backend.session("chat_1")
        session.add_items(items("hello"))
        position = session.position()
        rival.cursor().execute("BEGIN")
        sessions.bind(rival).session("chat_1").clear_session()

        def commit_when_it_waits() -> None:
            assert eventually(lambda: waiting(server_url) > 0)
            rival.cursor().execute("COMMIT")

        other = threading.Thread(target=commit_when_it_waits)
        other.start()
        try:
            with refused(ConflictError):
                write(session, position)
        finally:
            other.join()
        assert session.get_items() == []


@pytest.mark.parametrize("reason", ["closed", "no password"])
def test_what_keeps_a_lost_write_from_being_settled_does_not_say_that_it_has_not_happened(
    server_url: str, reason: str
) -> None:
    asked = 0
    parts = urlsplit(server_url)

    def password() -> str:
        nonlocal asked
        asked += 1
        if asked > 1 and reason == "no password":
            raise RuntimeError("the vault is sealed")
        return unquote(parts.password or "")

    with sessions.connect(server_url) as direct, Proxy(server_url) as proxy:
        direct.session("chat_1").add_items(items("hello"))
        url = proxy.url.replace(f":{parts.password}@", "@")
        with sessions.connect(url, password=password, **QUICK) as behind:
            session = behind.session("chat_1")
            session.position()
            proxy.cut(when="after")
            act = behind.close if reason == "closed" else lambda: None
            with at_first_retry(act), refused(OutcomeUnknownError):
                session.add_items(items("a"))
        assert texts(direct.session("chat_1").get_items()) == ["hello", "a"]


def test_a_packet_that_was_held_up_is_not_done_behind_its_settlement(server_url: str) -> None:
    with (
        sessions.connect(server_url) as direct,
        Proxy(server_url) as proxy,
        sessions.connect(proxy.url, statement_timeout=1.0, **QUICK) as behind,
    ):
        direct.session("chat_1").add_items(items("hello"))
        session = behind.session("chat_1")
        session.position()
        proxy.hold()
        session.add_items(items("a"))
        assert texts(direct.session("chat_1").get_items()) == ["hello", "a"]
        proxy.release()
        assert texts(session.get_items()) == ["hello", "a"]


def test_a_goodbye_behind_a_commit_that_was_sent_with_its_write_does_not_say_that_it_has_not_happened(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has committed, and ends the connection before it has read what ends the pipeline."""
    with sessions.connect(postgresql_url, **QUICK) as backend:
        session, dialect = backend.session("chat_1"), backend._store._dialect  # type: ignore[attr-defined]
        session.add_items(items("hello"))
        send: Callable[..., psycopg.Cursor[Any]] = dialect._cursor

        def send_and_terminate(connection: psycopg.Connection[Any], name: str, parameters: Any) -> psycopg.Cursor[Any]:
            cursor = send(connection, name, parameters)
            if name == "commit":
                monkeypatch.undo()
                assert eventually(lambda: len(stored_texts(postgresql_url, "chat_1")) == 2)
                terminate(postgresql_url, connection.info.backend_pid)
                raise psycopg.errors.AdminShutdown("terminating connection due to administrator command")
            return cursor

        with session.exclusive():
            monkeypatch.setattr(dialect, "_cursor", send_and_terminate)
            session.add_items(items("a"))
        assert texts(session.get_items()) == ["hello", "a"]


def begin(orphan: psycopg.Connection[Any]) -> None:
    orphan.execute("BEGIN")


def send_a_part(orphan: psycopg.Connection[Any]) -> None:
    """Send the beginning of what psycopg sends for a statement in a pipeline, without its end."""
    orphan.pgconn.enter_pipeline_mode()
    orphan.pgconn.send_query_params(b"SELECT 1", None)
    orphan.pgconn.send_flush_request()
    orphan.pgconn.flush()


@pytest.mark.parametrize("leave", [begin, send_a_part])
def test_a_session_that_waits_for_its_lost_client_is_ended(
    postgresql_url: str, leave: Callable[[psycopg.Connection[Any]], None]
) -> None:
    """On MySQL and MariaDB such a session sleeps, as any idle one does."""
    with sessions.connect(postgresql_url) as backend, connect_raw(postgresql_url) as orphan:
        dialect: Any = backend._store._dialect  # type: ignore[attr-defined]
        leave(orphan)
        with connection_of(backend) as connection:

            def is_executing() -> bool | None:
                return dialect.is_executing(connection, orphan.info.backend_pid, age=0.0, waiting=0.0)  # type: ignore[no-any-return]

            assert eventually(lambda: is_executing() is False)
            dialect.end_session(connection, orphan.info.backend_pid, age=0.0, opened=Opened.now())
            assert eventually(lambda: is_executing() is None)
        orphan.close()


_HOUR = 3600.0


@pytest.mark.parametrize(
    ("ages", "is_ended"),
    [
        pytest.param((0.0, 0.0), True, id="its own"),
        pytest.param((0.0, _HOUR), True, id="its own, the clock was set"),
        pytest.param((-_HOUR, 0.0), True, id="its own, the machine slept"),
        pytest.param((_HOUR, _HOUR), False, id="older"),
        pytest.param((-_HOUR, -_HOUR), False, id="younger"),
        pytest.param(None, False, id="not known"),
    ],
)
def test_a_session_is_ended_that_began_when_the_lost_connection_was_opened(
    postgresql_url: str, ages: tuple[float, float] | None, is_ended: bool
) -> None:
    """After a failover another server may have given the number to somebody else."""
    with sessions.connect(postgresql_url) as backend, connect_raw(postgresql_url) as orphan:
        dialect: Any = backend._store._dialect  # type: ignore[attr-defined]
        orphan.execute("BEGIN")
        opened = ages and Opened(time.monotonic() - ages[0], time.time() - ages[1])
        with connection_of(backend) as connection:
            dialect.end_session(connection, orphan.info.backend_pid, age=0.0, opened=opened)
        with pytest.raises(psycopg.OperationalError) if is_ended else contextlib.nullcontext():
            orphan.execute("COMMIT")
        orphan.close()


def test_a_stranger_with_the_number_of_a_lost_session_goes_on(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Proxy(postgresql_url) as proxy,
        sessions.connect(proxy.url, pool_size=1, retry_delay=0.001) as backend,
        connect_raw(postgresql_url) as stranger,
    ):
        session = backend.session("chat_1")
        session.add_items(items("a"))
        with connection_of(backend) as connection:
            connection.opened = Opened(*(moment - _HOUR for moment in connection.opened))
        monkeypatch.setattr(attempts, "Orphan", lambda _, *rest: Orphan(stranger.info.backend_pid, *rest))
        monkeypatch.setattr(attempts, "_IDLE_ORPHAN_SECONDS", 0.2)
        stranger.execute("BEGIN")
        proxy.cut(packet=1, when="before")
        session.add_items(items("b"))
        assert proxy.was_cut
        stranger.execute("COMMIT")
        assert texts(session.get_items()) == ["a", "b"]


@pytest.mark.parametrize("when", ["committed", "rolled back"])
def test_a_row_that_another_one_makes_is_held_once_that_has_ended(server_url: str, when: str) -> None:
    with sessions.connect(server_url) as backend, contextlib.closing(connect_raw(server_url)) as other:
        backend.session("chat_1").position()
        dialect: Any = backend._store._dialect  # type: ignore[attr-defined]
        other.cursor().execute("BEGIN")
        sessions.bind(other).session("new").add_items(items("a"))
        found: list[tuple[bool, bool]] = []

        def hold() -> None:
            with connection_of(backend) as connection, dialect.transaction(connection):
                found.append((dialect.hold(connection, "new"), dialect.has_rows(connection, "new")))

        holder = threading.Thread(target=hold)
        holder.start()
        assert eventually(lambda: waiting(server_url) > 0)
        other.commit() if when == "committed" else other.rollback()
        holder.join()
        assert found == [(when == "committed",) * 2]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_write_is_looked_for_without_reading_the_history(stage: Stage, when: When) -> None:
    stage.rival.add_items({"n": n} for n in range(30_000))
    with stage.proxy.counting() as count:
        stage.cut(when, lambda: stage.session.add_items(items("a")))
    # Connecting, waiting for the end of the first attempt, and settling; the history is 300 pages of 100 rows.
    assert count.round_trips < 40
    assert stage.rival.get_items(limit=2) == [{"n": 29_999}, *items("a")]
    assert len(stage.rival.get_items()) == 30_002


@pytest.mark.parametrize("write", [clears, replaces("a"), replaces()], ids=["clear", "replace", "replace by nothing"])
def test_what_came_while_settling_waited_for_the_lock_is_kept(stage: Stage, server_url: str, write: Write) -> None:
    if write is clears and dialect_of(server_url) == "postgresql":
        pytest.skip("a row that is being made holds nobody up there: the clearing is seen to be done")
    with contextlib.closing(connect_raw(server_url)) as other:

        def begin() -> None:
            other.cursor().execute("BEGIN")
            sessions.bind(other).session("chat_1").replace_items(items("theirs"))
            committer.start()

        def commit_later() -> None:
            assert eventually(lambda: waiting(server_url) > 0)
            moment = time.monotonic() + 0.3  # more than all that the call has taken until now
            assert eventually(lambda: time.monotonic() > moment)
            other.commit()

        committer = threading.Thread(target=commit_later)
        with refused(OutcomeUnknownError):
            stage.cut("after", lambda: write(stage.session, 0), begin)
        committer.join()
    assert texts(stage.rival.get_items()) == ["theirs"]


# --- a column that keeps no white space, and so no mark


@pytest.fixture(params=["jsonb", "json"])
def json_url(request: pytest.FixtureRequest, postgresql_url: str) -> str:
    """PostgreSQL alone: MySQL's JSON takes text."""
    make_tables_without_foreign_key(postgresql_url)
    execute_sql(
        postgresql_url, f"ALTER TABLE agent_messages ALTER message_data TYPE {request.param} USING message_data::json"
    )
    return postgresql_url


@pytest.mark.parametrize(
    "write", [adds("a"), adds("a", at_position=True), replaces("a")], ids=["add", "add at a position", "replace"]
)
def test_writing_to_a_json_column_is_refused(json_url: str, write: Write) -> None:
    with Session.from_url("chat_1", json_url) as session:
        with refused(SchemaError, match="message_data"):
            write(session, 0)
        assert stored_texts(json_url) == []


@pytest.mark.parametrize(("when", "left"), [("before", ()), ("after", ("a", "b"))], ids=["not done", "done"])
@pytest.mark.parametrize("at_position", [False, True])
def test_a_column_that_turns_text_into_json_doubles_nothing(
    request: pytest.FixtureRequest, postgresql_url: str, when: When, left: tuple[str, ...], at_position: bool
) -> None:
    make_tables_without_foreign_key(postgresql_url)
    execute_sql(postgresql_url, "CREATE CAST (text AS jsonb) WITH INOUT AS ASSIGNMENT")
    execute_sql(postgresql_url, "ALTER TABLE agent_messages ALTER message_data TYPE jsonb USING message_data::jsonb")
    with staged(postgresql_url) as stage:
        position = stage.rival.position()
        with refused(OutcomeUnknownError):
            stage.cut(when, lambda: adds("a", "b", at_position=at_position)(stage.session, position))
        assert texts(stage.rival.get_items()) == ["hello", *left]


# --- the mark


def test_a_process_forked_behind_pythons_back_draws_marks_of_its_own(server_url: str) -> None:
    """By a library's own fork(), which tells no hook of Python's."""

    def add(session_id: str) -> None:
        with Session.from_url(session_id, server_url) as session:
            session.add_items(items("a"))

    add("first")
    if not (child := fork_in_c()):
        try:
            add("child")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    add("parent")
    marked = [stored_texts(server_url, name) for name in ("first", "child", "parent")]
    assert len({text for [text] in marked}) == 3
    assert {text.replace(" ", "").replace("\t", "") for [text] in marked} == {'{"role":"user","content":"a"}'}
