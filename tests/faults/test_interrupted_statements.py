"""Statements that a time limit or KILL QUERY interrupts: MariaDB answers some as if there were nothing to do.

It does so where it is interrupted while it plans a statement, in one of some forty interruptions of writes, and it says
that one was interrupted whose commit is done. Both are put here at one place, and met by chance.
"""

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pymysql
import pytest

import sessions
from sessions import Session
from support.claims import OPERATIONS
from support.rivals import connection_of, others
from support.samples import items, texts
from support.servers import connect_raw, execute_sql

_KEY = "k" * 32
_CHANGES = (
    "delete_newest_item",
    "delete_item",
    "delete_items",
    "delete_session",
    "lock_session_for_removal",
    "remove_seal",
)
_QUERIES = ("lock_newest_items", "newest_items", "all_items", "records", "newest_range", "lock_newest_id")


class _Once(dict[str, str]):
    """The statements of a dialect, some of which are others the first time."""

    def __init__(self, statements: Mapping[str, str], **others: str) -> None:
        super().__init__(statements)
        self._others = others

    def __getitem__(self, name: str) -> str:
        return self._others.pop(name, None) or super().__getitem__(name)


def _skip(dialect: Any, name: str) -> None:
    """Let a statement find nothing, once."""
    statement = dialect.statements[name]
    assert "WHERE " in statement
    dialect.statements = _Once(dialect.statements, **{name: statement.replace("WHERE ", "WHERE FALSE AND ", 1)})


@contextlib.contextmanager
def _session(url: str, how: str) -> Iterator[Session]:
    options: dict[str, Any] = {"integrity_key": _KEY} if how == "sealed" else {}
    if how == "ahead":
        options["multi_statements"] = False
    if how != "bound":
        with sessions.connect(url, **options) as backend:
            yield backend.session("chat_1")
        return
    with Session.from_url("chat_1", url) as first:
        first.get_items()  # makes the tables
    with contextlib.closing(connect_raw(url)) as connection:
        connection.autocommit(True)
        yield sessions.bind(connection).session("chat_1")


def _dialect(session: Session) -> Any:
    store: Any = session._history.store
    while not hasattr(store, "_dialect"):
        store = store._store
    return store._dialect


_AFTER = {
    "add_items": ["a", "b", "a", "b"],
    "pop_item": ["a"],
    "replace_items": ["a", "b", "c"],
    "clear_session": [],
}


@pytest.mark.mariadb
@pytest.mark.parametrize("how", ["own", "ahead", "bound", "sealed"])
@pytest.mark.parametrize("name", ["pop_item", "replace_items", "clear_session"])
@pytest.mark.parametrize("skipped", [*_CHANGES, "lock_newest_items", "lock_newest_id"])
def test_a_write_of_which_a_statement_was_skipped_is_done(skipped: str, name: str, how: str, mariadb_url: str) -> None:
    with _session(mariadb_url, how) as session, Session.from_url("chat_1", mariadb_url) as witness:
        session.add_items(items("a", "b"))
        _skip(_dialect(session), skipped)
        answer = OPERATIONS[name](session)
        assert name != "pop_item" or answer == items("b")[0]
        assert texts(witness.get_items()) == _AFTER[name]
        if how == "sealed":
            session.verify()


@pytest.mark.mariadb
@pytest.mark.parametrize("how", ["own", "bound", "sealed"])
@pytest.mark.parametrize("skipped", _QUERIES)
def test_a_query_that_was_skipped_is_asked_again(skipped: str, how: str, mariadb_url: str) -> None:
    with _session(mariadb_url, how) as session:
        session.add_items(items("a", "b"))
        for read, found in _READS.items():
            _skip(_dialect(session), skipped)
            assert read(session) == found


_READS: dict[Callable[[Session], object], object] = {
    lambda session: texts(session.get_items()): ["a", "b"],
    lambda session: texts(session.get_items(1)): ["b"],
    lambda session: [record.item["content"] for record in session.records()]: ["a", "b"],  # type: ignore[index]
    lambda session: session.position() > 0: True,
}


@pytest.mark.mariadb
@pytest.mark.parametrize("how", ["own", "ahead", "bound"])
@pytest.mark.parametrize("name", ["add_items", "pop_item", "replace_items", "clear_session"])
def test_a_commit_that_was_done_and_interrupted_is_not_done_again(name: str, how: str, mariadb_url: str) -> None:
    interrupted = "SIGNAL SQLSTATE '70100' SET MYSQL_ERRNO = 1317, MESSAGE_TEXT = 'Query execution was interrupted'"
    with _session(mariadb_url, how) as session, Session.from_url("chat_1", mariadb_url) as witness:
        session.add_items(items("a", "b"))
        dialect = _dialect(session)
        commits = {
            commit: f"BEGIN NOT ATOMIC {dialect.statements[commit]}; {interrupted}; END"
            for commit in ("commit", "resume_autocommit")
        }
        compound = dialect.statements["compound"].replace("COMMIT;", f"COMMIT; {interrupted};")
        dialect.statements = _Once(dialect.statements, **commits, compound=compound)
        try:
            OPERATIONS[name](session)
            assert name != "pop_item"
        except sessions.OutcomeUnknownError:
            # Nothing finds it out, or it is not for us to repeat anything.
            assert name == "pop_item" or how == "bound"
        assert texts(witness.get_items()) == _AFTER[name]


@pytest.mark.parametrize("server_url", ["mysql", "mariadb"], indirect=True)
@pytest.mark.parametrize("how", ["own", "ahead", "bound"])
def test_a_lease_whose_taking_failed_is_free(how: str, server_url: str) -> None:
    with _session(server_url, how) as session, Session.from_url("chat_1", server_url) as other:
        with other.exclusive(timeout=0):
            pass  # makes the table
        dialect = _dialect(session)
        dialect.statements = _Once(dialect.statements, find_lease="SELECT EXP(1000) LIMIT 1")
        with pytest.raises(sessions.DatabaseError), session.exclusive(timeout=0, lease=3600):
            pass
        with other.exclusive(timeout=0):
            other.add_items(items("a"))
        with session.exclusive(timeout=0):
            session.add_items(items("b"))


@pytest.mark.parametrize("server_url", ["mysql", "mariadb"], indirect=True)
@pytest.mark.parametrize("how", ["own", "bound"])
def test_a_lease_whose_giving_back_was_cancelled_is_given_back(how: str, server_url: str) -> None:
    with _session(server_url, how) as session, Session.from_url("chat_1", server_url) as other:
        with other.exclusive(timeout=0):
            pass  # makes the table
        with session.exclusive(timeout=0, lease=3600):
            dialect = _dialect(session)
            dialect.statements = _Once(dialect.statements, release_lease="SELECT EXP(1000) LIMIT 1")
        with other.exclusive(timeout=0):
            other.add_items(items("a"))


@pytest.mark.mariadb
def test_a_lease_whose_taking_was_cut_at_its_commit_is_had(mariadb_url: str) -> None:
    interrupted = "SIGNAL SQLSTATE '70100' SET MYSQL_ERRNO = 1317, MESSAGE_TEXT = 'Query execution was interrupted'"
    with _session(mariadb_url, "own") as session, Session.from_url("chat_1", mariadb_url) as other:
        with other.exclusive(timeout=0):
            pass  # makes the table
        dialect = _dialect(session)
        compound = dialect.statements["compound"].replace("COMMIT;", f"COMMIT; {interrupted};")
        dialect.statements = _Once(dialect.statements, compound=compound)
        with session.exclusive(timeout=0):
            session.add_items(items("a"))
        with other.exclusive(timeout=0):
            other.add_items(items("b"))


@pytest.mark.mariadb
def test_a_title_that_was_skipped_is_asked_for_again(mariadb_url: str) -> None:
    with sessions.connect(mariadb_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        _skip(_dialect(backend.session("chat_1")), "first_items")  # the WHERE of its subquery
        assert backend.first_messages(["chat_1"]) == {"chat_1": "a"}


@pytest.mark.mariadb
@pytest.mark.parametrize("how", ["own", "ahead", "bound"])
def test_a_lease_that_was_taken_and_not_found_is_had(how: str, mariadb_url: str) -> None:
    with _session(mariadb_url, how) as session, Session.from_url("chat_1", mariadb_url) as other:
        with other.exclusive(timeout=0):
            pass  # makes the table
        _skip(_dialect(session), "find_lease")
        with session.exclusive(timeout=0):
            session.add_items(items("a"))


@pytest.mark.mariadb
@pytest.mark.parametrize("times", [1, 9])
@pytest.mark.parametrize("begun", [True, False])
def test_an_interrupted_rollback_leaves_nothing_to_be_committed(begun: bool, times: int, mariadb_url: str) -> None:
    signal = "SIGNAL SQLSTATE '70100' SET MYSQL_ERRNO = 1317, MESSAGE_TEXT = 'Query execution was interrupted'"
    with Session.from_url("chat_1", mariadb_url) as witness:
        witness.add_items(items("a"))
        with contextlib.closing(connect_raw(mariadb_url)) as connection:
            connection.autocommit(False)
            session = sessions.bind(connection).session("chat_1")
            if begun:
                session.add_items(items("b"))
            dialect = _dialect(session)
            # Behind the rows: they are written by then.
            statements = dict(dialect.statements) | {"check_item": signal}
            dialect.statements = statements
            left = Counter(rollback=times, rollback_to_savepoint=times)
            send = dialect._execute

            def execute(connection: Any, name: str, parameters: Any) -> Any:
                dialect.statements = statements | ({name: signal} if left[name] > 0 else {})
                left[name] -= 1
                return send(connection, name, parameters)

            dialect._execute = execute
            with pytest.raises(sessions.DatabaseError):
                session.add_items(items("c"))
            with contextlib.suppress(pymysql.Error):  # it was closed, rather than left with half of it
                connection.commit()
            is_open = connection.open
        assert is_open == (times == 1)
        assert texts(witness.get_items()) == (["a", "b"] if begun and is_open else ["a"])


@pytest.mark.slow
@pytest.mark.mariadb
@pytest.mark.parametrize("multi_statements", [True, False])
def test_what_is_acknowledged_beside_kill_query_is_so(
    mariadb_url: str, multi_statements: bool, rng: random.Random
) -> None:
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    over = threading.Event()
    with (
        sessions.connect(mariadb_url, max_retries=0, multi_statements=multi_statements) as backend,
        sessions.connect(mariadb_url, pool_size=1) as quiet,
    ):
        with connection_of(quiet) as connection:
            spared = {connection.thread_id()}
        backend.session("chat_0").get_items()
        threads = [
            threading.Thread(target=_work, args=(number, backend, quiet, rng.random(), over, counts, wrong))
            for number in range(3)
        ]
        for thread in threads:
            thread.start()
        _kill(mariadb_url, spared, 6000, rng, over, counts, wrong)
        over.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert counts["done"] > 100
    assert counts["interrupted"] > 10


def _kill(
    url: str,
    spared: set[int],
    times: int,
    rng: random.Random,
    over: threading.Event,
    counts: Counter[str],
    wrong: list[str],
) -> None:
    """Interrupt what others execute, one to three times in a row."""
    with contextlib.closing(connect_raw(url)) as killer, killer.cursor() as cursor:
        spared = {*spared, killer.thread_id()}
        while counts["kills"] < times and not wrong:
            numbers = [number for number in others(url) if number not in spared]
            for number in rng.choices(numbers, k=20) if numbers else ():
                for _ in range(rng.randint(1, 3)):
                    with contextlib.suppress(pymysql.Error):  # it has gone
                        cursor.execute(f"KILL QUERY {number}")
                        counts["kills"] += 1
                over.wait(rng.random() * 0.001)


@pytest.mark.slow
@pytest.mark.parametrize("server_url", ["mysql", "mariadb"], indirect=True)
@pytest.mark.parametrize("multi_statements", [True, False])
def test_a_guard_lets_nothing_through_beside_kill_query(
    server_url: str, multi_statements: bool, rng: random.Random
) -> None:
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    over = threading.Event()
    with (
        sessions.connect(server_url, max_retries=0, multi_statements=multi_statements) as backend,
        sessions.connect(server_url, pool_size=1) as quiet,
    ):
        with connection_of(quiet) as connection:
            spared = {connection.thread_id()}
        stale, lost = backend.session("stale"), backend.session("lost")
        stale.add_items(items("a", "b", "c"))
        before, behind = stale.position() - 1, stale.position() + 1
        with contextlib.suppress(sessions.SessionsError), lost.exclusive(lease=3600):
            lost.add_items(items("a"))
            execute_sql(server_url, "UPDATE agent_session_leases SET token = 'taken by another'")
            writes: list[tuple[Session, Callable[[], object]]] = [
                (lost, partial(lost.add_items, items("x"))),
                (lost, lost.clear_session),
                *((stale, partial(stale.add_items, items("x"), if_position=at)) for at in (0, before, behind)),
                *((stale, partial(stale.replace_items, [], if_position=at)) for at in (0, before, behind)),
            ]
            threads = [
                threading.Thread(target=_try, args=(writes, quiet, random.Random(rng.random()), over, counts, wrong))
                for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            _kill(server_url, spared, 4000, rng, over, counts, wrong)
            over.set()
            for thread in threads:
                thread.join()
    assert wrong == []
    assert counts["refused"] > 100
    assert counts["interrupted"] > 10


def _try(
    writes: Sequence[tuple[Session, Callable[[], object]]],
    quiet: sessions.Backend,
    rng: random.Random,
    over: threading.Event,
    counts: Counter[str],
    wrong: list[str],
) -> None:
    """Do what is to be refused, and look whether anything has changed."""
    there = {name: texts(quiet.session(name).get_items()) for name in ("stale", "lost")}
    while not over.is_set():
        session, write = rng.choice(writes)
        try:
            write()
            wrong.append(f"{write} was let through")
        except (sessions.ConflictError, sessions.LeaseLostError):
            counts["refused"] += 1
        except sessions.SessionsError:
            counts["interrupted"] += 1
        if (found := texts(quiet.session(session.session_id).get_items())) != there[session.session_id]:
            wrong.append(f"{write} was done: {found}")


def _work(
    number: int,
    backend: sessions.Backend,
    quiet: sessions.Backend,
    seed: float,
    over: threading.Event,
    counts: Counter[str],
    wrong: list[str],
) -> None:
    """Write, and compare what is acknowledged with what is there."""
    session, witness = backend.session(f"chat_{number}"), quiet.session(f"chat_{number}")
    rng, there = random.Random(seed), list[str]()
    turn = 0
    while not over.is_set():
        turn += 1
        name = rng.choice(["add_items", "add_items", "pop_item", "replace_items", "guarded", "guarded"])
        try:
            if name == "guarded":
                with contextlib.suppress(sessions.ConflictError):
                    session.add_items(items(str(turn)), if_position=0)
                    there = [str(turn)]
            elif name == "add_items":
                session.add_items(items(str(turn)))
                there = [*there, str(turn)]
            elif name == "replace_items":
                session.replace_items(items(str(turn)))
                there = [str(turn)]
            else:
                session.pop_item()
                there = there[:-1]
            counts["done"] += 1
        except sessions.SessionsError as exc:
            counts["interrupted"] += 1
            found = texts(witness.get_items())
            if found != there and not isinstance(exc, sessions.OutcomeUnknownError):
                wrong.append(f"{name} raised {exc}: {there[-3:]} is {found[-3:]}")
            there = found
            continue
        if (found := texts(witness.get_items())) != there:
            wrong.append(f"{name} was acknowledged: {there[-3:]} is {found[-3:]}")
            there = found
