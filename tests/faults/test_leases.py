"""A lease whose holder was killed, held up, cut off, or lives in another time."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import sessions
from faults.test_cut_connections import CUTS, OLD, OPERATIONS, QUICK, cut_at_each_packet
from faults.writers import at_first_retry
from sessions import LeaseLostError, OutcomeUnknownError, Session
from sessions._leases import new_lease
from support.claims import refused
from support.proxy import Proxy, When
from support.samples import items, texts
from support.servers import execute_sql

HOLDER = Path(__file__).with_name("lease_holder.py")


class Holder:
    """Another process with the conversation chat_1."""

    def __init__(self, url: str, *, lease: float, hours: float = 0.0, zone: str = "UTC") -> None:
        self._process = subprocess.Popen(
            [sys.executable, HOLDER, url, "chat_1", str(lease), str(hours)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TZ": zone, "PGTZ": zone},
        )

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def says(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> str:
        """Let it leave its block; what it says at last."""
        return self._process.communicate(timeout=60)[0].strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def holder(url: str, **options: Any) -> Iterator[Holder]:
    """A process that has the conversation."""
    with sessions.Session.from_url("chat_1", url) as session, session.exclusive():
        session.add_items(items("made"))
    holder = Holder(url, **options)
    try:
        assert holder.says() == "held"
        yield holder
    finally:
        holder.kill()


def test_a_lease_whose_taking_got_no_answer_is_given_back(server_url: str) -> None:
    with (
        Proxy(server_url) as proxy,
        sessions.connect(proxy.url, retry_timeout=0) as backend,
        Session.from_url("chat_1", server_url) as other,
    ):
        session = backend.session("chat_1")
        with session.exclusive():
            pass  # makes the table
        proxy.cut(packet=1, when="after")
        with (
            pytest.raises(OutcomeUnknownError, match="may have been taken") as unknown,
            session.exclusive(timeout=0, lease=3600),
        ):
            pass
        assert proxy.was_cut
        assert "get_items" not in str(unknown.value)
        with other.exclusive(timeout=20):
            other.add_items(items("a"))
        with session.exclusive(timeout=0):
            session.add_items(items("b"))


def asks_for(url: str, **options: Any) -> str:
    """What another process says that asks for the conversation at once."""
    return Holder(url, lease=60, **options).end()


def is_busy(session: Session) -> bool:
    try:
        with session.exclusive(timeout=0):
            return False
    except sessions.BusyError:
        return True


# --- processes


def test_a_killed_holder_is_taken_over(sql_url: str) -> None:
    with holder(sql_url, lease=1) as killed, sessions.Session.from_url("chat_1", sql_url) as session:
        killed.tell("a")
        assert killed.says() == "written a0"
        killed.kill()
        with session.exclusive(timeout=60):
            assert texts(session.get_items()) == ["made", "a0"]


def test_a_holder_that_was_stopped_past_its_lease_writes_nothing_more(sql_url: str) -> None:
    with holder(sql_url, lease=0.5) as stopped, sessions.Session.from_url("chat_1", sql_url) as session:
        stopped.tell("a")
        assert stopped.says() == "written a0"
        stopped.signal(signal.SIGSTOP)
        stopped.tell("late")
        with session.exclusive(timeout=60):
            session.add_items(items("b"))
            stopped.signal(signal.SIGCONT)
            assert stopped.says() == "LeaseLostError"
            session.add_items(items("c"))
            assert stopped.end() == "LeaseLostError"
        assert texts(session.get_items()) == ["made", "a0", "b", "c"]


# On SQLite who is stopped within a transaction keeps the file's lock, and with it everybody out.
@pytest.mark.slow
def test_a_holder_that_is_stopped_while_it_writes_doubles_and_mixes_nothing(
    server_url: str, scaled: Callable[[int, int], int]
) -> None:
    for count in range(scaled(3, 20)):
        with holder(server_url, lease=0.3) as stopped, sessions.Session.from_url("chat_1", server_url) as session:
            stopped.tell("many")
            acknowledged = [stopped.says().removeprefix("written ") for _ in range(5 + count)]
            stopped.signal(signal.SIGSTOP)
            with session.exclusive(timeout=60):
                session.add_items(items("taken over"))
                stopped.signal(signal.SIGCONT)
                while (said := stopped.says()).startswith("written "):
                    acknowledged.append(said.removeprefix("written "))
                assert said == "LeaseLostError"
            history = texts(session.get_items())
            theirs = [text for text in history if text.startswith("many")]
            assert history[-1] == "taken over"
            # A write of which the stopped process had not read the answer is there, and was acknowledged then.
            assert theirs == acknowledged
            session.clear_session()


@pytest.mark.parametrize("hours", [-5.0, 5.0])
def test_only_the_clock_of_the_database_counts(sql_url: str, hours: float) -> None:
    elsewhere: Any = {"hours": hours, "zone": "Asia/Tokyo" if hours > 0 else "America/Lima"}
    with sessions.Session.from_url("chat_1", sql_url) as session:
        with holder(sql_url, lease=60, **elsewhere):
            assert is_busy(session)
        execute_sql(sql_url, "DELETE FROM agent_session_leases")
        with session.exclusive():
            assert asks_for(sql_url, **elsewhere) == "BusyError"
            session.add_items(items("a"))
        with holder(sql_url, lease=0.5, **elsewhere) as dead:
            dead.kill()
            with session.exclusive(timeout=60):
                session.add_items(items("b"))


# --- connections

ways = pytest.mark.parametrize("when", ["before", "half", "after"])


@pytest.fixture
def proxy(server_url: str) -> Iterator[Proxy]:
    with sessions.Session.from_url("chat_1", server_url) as session, session.exclusive():
        session.add_items(items("hello"))
    with Proxy(server_url) as proxy:
        yield proxy


@pytest.fixture
def session(proxy: Proxy) -> Iterator[Session]:
    with sessions.Session.from_url("chat_1", proxy.url, **QUICK) as session:
        session.get_items()
        yield session


def leases(url: str) -> list[Any]:
    return execute_sql(url, "SELECT session_id FROM agent_session_leases")


@ways
def test_a_lost_answer_to_the_taking_leaves_the_conversation_held_once(
    session: Session, proxy: Proxy, server_url: str, when: When
) -> None:
    proxy.cut(when=when)
    with session.exclusive(timeout=0), sessions.connect(server_url) as direct:
        assert proxy.was_cut
        assert is_busy(direct.session("chat_1"))
        session.add_items(items("a"))
    assert leases(server_url) == []


@ways
def test_a_lost_answer_to_a_renewal_loses_nothing(session: Session, proxy: Proxy, when: When) -> None:
    with session.exclusive():
        proxy.cut(when=when)
        lease = session._history._lease()
        assert lease is not None
        assert session._history.store.renew_lease(lease)
        assert proxy.was_cut


@ways
def test_a_lost_answer_to_the_giving_back_is_no_lost_lease(
    session: Session, proxy: Proxy, server_url: str, when: When
) -> None:
    with session.exclusive():
        session.add_items(items("a"))
        proxy.cut(when=when)
    assert proxy.was_cut
    assert leases(server_url) == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_under_a_lease_survives_a_cut_at_each_packet(
    name: str, server_url: str, scaled: Callable[[int, int], int]
) -> None:
    blocks: list[Any] = []

    def in_a_block(session_id: str, backend: sessions.Backend) -> Session:
        session = backend.session(session_id)
        session.get_items()
        blocks.append(session.exclusive())
        blocks[-1].__enter__()
        return session

    operation, ways = OPERATIONS[name], CUTS[: min(scaled(3, 5), 5)]
    for session, witness, what in cut_at_each_packet(server_url, in_a_block, ways):
        position = witness.position()
        try:
            answer = operation.run(session, position)
        except OutcomeUnknownError:
            assert name == "pop_item", what
            assert texts(witness.get_items()) in (OLD, list(operation.leaves)), what
        else:
            assert answer == operation.answer, what
            assert texts(witness.get_items()) == list(operation.leaves), what
        blocks[-1].__exit__(None, None, None)


SETTLED: dict[str, tuple[Callable[[Session], Any], list[str]]] = {
    "add_items": (lambda session: session.add_items(items("a")), ["hello", "a"]),
    "replace_items": (lambda session: session.replace_items(items("a")), ["a"]),
    "clear_session": (lambda session: session.clear_session(), []),
    "delete_record": (lambda session: session.delete_record(session._history._newest), []),
    "replace_record": (
        lambda session: session.replace_record(session._history._newest, items("a")[0]),
        ["a"],
    ),
}


def taken_over(url: str, session_id: str) -> None:
    """Let another one have the conversation, from another connection."""
    with sessions.connect(url) as direct:
        execute_sql(url, "DELETE FROM agent_session_leases")
        direct._store.take_lease(new_lease(session_id, 60))


@pytest.mark.parametrize("name", SETTLED)
def test_a_write_that_happened_is_found_though_its_lease_has_gone(
    session: Session, proxy: Proxy, server_url: str, name: str
) -> None:
    write, left = SETTLED[name]
    # In how many packets a pipeline arrives is a matter of chance.
    for number, packet in enumerate(itertools.chain.from_iterable(range(1, 8) for _ in range(10))):
        copy = session.fork(f"chat {number}")
        copy.get_items()
        outcome: list[bool] = []
        with contextlib.suppress(LeaseLostError), copy.exclusive():
            with at_first_retry(partial(taken_over, server_url, copy.session_id)):
                proxy.cut(packet=packet, when="after")
                write(copy)
            outcome.append(proxy.was_cut)
        proxy.cut(packet=10**9)
        assert texts(copy.get_items()) == (left if outcome else ["hello"])
        if any(outcome):
            break
    assert any(outcome)


@pytest.mark.parametrize("name", SETTLED)
def test_a_write_that_did_not_happen_is_refused_when_its_lease_has_gone(
    session: Session, proxy: Proxy, server_url: str, name: str
) -> None:
    write, _ = SETTLED[name]
    with refused(LeaseLostError, "chat_1"), session.exclusive():
        with at_first_retry(lambda: taken_over(server_url, "chat_1")):
            proxy.cut(when="before")
            with refused(LeaseLostError):
                write(session)
        assert texts(session.get_items()) == ["hello"]
