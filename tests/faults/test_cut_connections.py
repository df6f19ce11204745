"""A connection is cut at each packet of each operation, before and after the server has acted.

OutcomeUnknownError is allowed where nothing can settle the outcome: for a pop, and for other writes
only where somebody else has removed rows in between, or filled what was cleared or replaced.
"""

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import pymysql
import pytest

import sessions
from faults.cutting import CuttingProxy
from faults.oracle import Figures
from faults.writers import Writers, at_first_retry
from sessions import OutcomeUnknownError, Session
from sessions._dialects.mysql.connection import PacketConnection
from support.claims import each_mysql
from support.proxy import Proxy, When
from support.rivals import connection_of, driver_of, eventually
from support.samples import items, texts
from support.servers import connect_raw, dialect_of, execute_sql

Texts = list[str]
OLD = ["0", "1", "2", "3", "4", "5"]
NEW = ["a", "b", "c"]
QUICK: dict[str, Any] = {"retry_delay": 0.001, "max_retries": 10}


@dataclass(frozen=True)
class Operation:
    """Something done to the history OLD, what it returns, and what it leaves."""

    run: Callable[[Session, int], Any]
    answer: Any = None
    leaves: tuple[str, ...] = tuple(OLD)


def sum_up(session: Session, _: int) -> None:
    history = session._history
    newest = history.newest(2)
    history.replace_newest(newest[0], items(*NEW))


OPERATIONS = {
    "get_items": Operation(lambda session, _: texts(session.get_items()), OLD),
    "get_items(limit)": Operation(lambda session, _: texts(session.get_items(limit=2)), OLD[-2:]),
    "position": Operation(lambda session, position: session.position() - position, 0),
    "add_items": Operation(lambda session, _: session.add_items(items(*NEW)), leaves=(*OLD, *NEW)),
    "add_items(if_position)": Operation(
        lambda session, position: session.add_items(items(*NEW), if_position=position), leaves=(*OLD, *NEW)
    ),
    "pop_item": Operation(lambda session, _: texts([session.pop_item() or {}]), OLD[-1:], leaves=tuple(OLD[:-1])),
    "clear_session": Operation(lambda session, _: session.clear_session(), leaves=()),
    "replace_items": Operation(lambda session, _: session.replace_items(items(*NEW)), leaves=tuple(NEW)),
    "replace_items(if_position)": Operation(
        lambda session, position: session.replace_items(items(*NEW), if_position=position), leaves=tuple(NEW)
    ),
    "replace_items by its beginning": Operation(
        lambda session, _: session.replace_items(items(*OLD[:3])), leaves=tuple(OLD[:3])
    ),
    "replace_items by its beginning(if_position)": Operation(
        lambda session, position: session.replace_items(items(*OLD[:3]), if_position=position), leaves=tuple(OLD[:3])
    ),
    "compaction": Operation(sum_up, leaves=(*OLD[:-2], *NEW)),
    "replace_items by none": Operation(lambda session, _: session.replace_items([]), leaves=()),
    "replace_items by none(if_position)": Operation(
        lambda session, position: session.replace_items([], if_position=position), leaves=()
    ),
}
# The ways to cut, each tried at each packet; the short run is content with the first ones.
CUTS: list[tuple[When, bool]] = [
    ("before", False),
    ("half", False),
    ("after", False),
    ("before", True),
    ("after", True),
]


def cut_at_each_packet(
    url: str,
    prepare: Callable[[str, sessions.Backend], Session],
    ways: list[tuple[When, bool]],
    **options: Any,
) -> Iterator[tuple[Any, ...]]:
    """Give a prepared session and its proxy, armed, until an operation has no more packets to cut."""
    with sessions.connect(url, **options) as direct, Proxy(url) as proxy:
        for when, reset in ways:
            for packet in itertools.count(1):
                name = f"{when} {reset} {packet}"
                witness = direct.session(name)
                witness.add_items(items(*OLD))
                with sessions.connect(proxy.url, **QUICK, **options) as backend:
                    session = prepare(name, backend)
                    proxy.cut(packet=packet, when=when, reset=reset)
                    yield session, witness, name
                    if not proxy.was_cut:
                        break
                    assert session.get_items() == witness.get_items()
                proxy.cut(packet=10**9)


def warm(name: str, backend: sessions.Backend) -> Session:
    """Knows what is there, on a connection that is open."""
    session = backend.session(name)
    session.get_items()
    return session


def cold(name: str, backend: sessions.Backend) -> Session:
    """Knows nothing, and has to connect."""
    return backend.session(name)


@pytest.mark.parametrize("prepare", [warm, cold])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_survives_a_cut_at_each_packet(
    name: str,
    prepare: Callable[[str, sessions.Backend], Session],
    server_url: str,
    scaled: Callable[[int, int], int],
    figures: Figures,
) -> None:
    operation, cuts, unknown = OPERATIONS[name], 0, 0
    ways = CUTS[: min(scaled(3, 5), 5)] if prepare is warm else CUTS[: min(scaled(1, 5), 5)]
    for session, witness, what in cut_at_each_packet(server_url, prepare, ways):
        position = witness.position()
        try:
            answer = operation.run(session, position)
        except OutcomeUnknownError:
            unknown += 1
            # Nobody else is there, so that the history tells of any other write.
            assert name == "pop_item", what
            assert texts(witness.get_items()) in (OLD, list(operation.leaves)), what
        else:
            assert answer == operation.answer, what
            assert texts(witness.get_items()) == list(operation.leaves), what
        cuts += 1
    assert cuts > len(ways)  # each way was tried at one packet at least
    figures.add(dialect_of(server_url), connections_cut=cuts - len(ways), pops_of_unknown_outcome=unknown)


def test_the_first_write_survives_a_cut_at_each_packet(
    make_url: Callable[[str], str], any_dialect: str, figures: Figures
) -> None:
    """The tables are made on the way."""
    for when, reset in CUTS[2:3]:
        for packet in itertools.count(1):
            url = make_url(any_dialect)
            with Proxy(url) as proxy, Session.from_url("chat_1", proxy.url, **QUICK) as session:
                proxy.cut(packet=packet, when=when, reset=reset)
                session.add_items(items(*NEW))
                if not proxy.was_cut:
                    break
                figures.add(any_dialect, connections_cut=1)
                assert texts(session.get_items()) == NEW, f"{when} {packet}"


@pytest.mark.parametrize("when", ["before", "after"])
def test_equal_items_that_are_older_or_come_in_between_are_not_taken_for_ours(when: When, server_url: str) -> None:
    """The handle has read nothing; the rival is behind it or before it."""
    with sessions.connect(server_url) as direct, Proxy(server_url) as proxy:
        witness = direct.session("chat_1")
        witness.add_items(items("yes"))
        with sessions.connect(proxy.url, **QUICK) as backend:
            backend.session("another").get_items()
            proxy.cut(when=when)
            with at_first_retry(lambda: witness.add_items(items("yes"))):
                backend.session("chat_1").add_items(items("yes"))
            assert proxy.was_cut
            assert texts(witness.get_items()) == ["yes"] * 3


@dataclass(frozen=True)
class Between:
    """A write that is cut, what a rival does before it is settled, and what is left."""

    write: Callable[[Session], None]
    when: When
    rival: Callable[[Session], None]
    leaves: tuple[str, ...]


def _add_rival(session: Session) -> None:
    session.add_items(items("rival"))


def _replace(session: Session) -> None:
    session.replace_items(items(*NEW))


def _replace_by_none(session: Session) -> None:
    session.replace_items([])


BETWEEN = {
    # The token shows that it did; nothing there leaves nothing to do.
    "replace, done, add": Between(_replace, "after", _add_rival, (*NEW, "rival")),
    "clear, not done, clear": Between(Session.clear_session, "before", Session.clear_session, ()),
    "replace by none, done, clear": Between(_replace_by_none, "after", Session.clear_session, ()),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_a_removal_is_settled_by_what_it_has_left(name: str, server_url: str) -> None:
    between = BETWEEN[name]
    with sessions.connect(server_url) as direct, Proxy(server_url) as proxy:
        witness = direct.session("chat_1")
        witness.add_items(items(*OLD))
        with sessions.connect(proxy.url, **QUICK) as backend:
            session = backend.session("chat_1")
            session.get_items()
            proxy.cut(when=between.when)
            with at_first_retry(lambda: between.rival(witness)):
                between.write(session)
            assert proxy.was_cut
            assert texts(witness.get_items()) == list(between.leaves)


def test_a_cut_while_connecting_leaves_no_doubt(server_url: str) -> None:
    """Nothing has been sent of the pop yet, so it is simply done."""
    with Session.from_url("chat_1", server_url) as direct, Proxy(server_url) as proxy:
        direct.add_items(items(*OLD))
        with Session.from_url("chat_1", proxy.url, **QUICK) as session:
            proxy.cut(packet=2, when="after")
            assert texts([session.pop_item() or {}]) == OLD[-1:]
            assert proxy.was_cut


# --- many cuts by chance


def test_writers_under_cuts_lose_and_double_nothing(
    server_url: str, rng: random.Random, scaled: Callable[[int, int], int], figures: Figures
) -> None:
    wanted = scaled(30, 15)
    with (
        sessions.connect(server_url) as direct,
        CuttingProxy(server_url, rng, most_packets=24) as proxy,
        sessions.connect(proxy.url, retry_delay=0.001, max_retries=20) as backend,
    ):
        direct.session("chat_0").position()
        for round_number in itertools.count():
            writers = Writers(backend, f"chat_{round_number}", rng)
            with writers.working():
                proxy.rage(cuts=12)
                writers.wait_for(6)
                proxy.calm()
            writers.judge(direct, figures, dialect_of(server_url), "cuts")
            assert writers.errors == [], f"round {round_number}"
            if proxy.cuts >= wanted:
                break
        figures.add(dialect_of(server_url), connections_cut=proxy.cuts)


def test_any_operations_under_cuts_agree_with_a_model(
    server_url: str, rng: random.Random, scaled: Callable[[int, int], int], figures: Figures
) -> None:
    agree_with_a_model(server_url, rng, scaled(20, 5), figures)


def agree_with_a_model(server_url: str, rng: random.Random, wanted: int, figures: Figures, **options: Any) -> None:
    """Do operations of all kinds until so many connections were cut; each leaves what it must."""
    unknown = 0
    with (
        sessions.connect(server_url, **options) as direct,
        CuttingProxy(server_url, rng, most_packets=14) as proxy,
        sessions.connect(proxy.url, retry_delay=0.001, max_retries=20, **options) as backend,
    ):
        session, witness = backend.session("chat_1"), direct.session("chat_1")
        session.add_items(items("first"))
        model, number = ["first"], 0
        while proxy.cuts < wanted:
            number += 1
            new = [f"{number}.{part}" for part in range(rng.randint(1, 4))]
            name = rng.choice(("get", "add", "add", "add_at", "pop", "pop", "clear", "replace", "shorten"))
            position = witness.position()
            proxy.rage(cuts=4)
            try:
                model = _step(session, name, model, new, position)
            except OutcomeUnknownError:
                assert name == "pop", f"step {number}: {name}"
                unknown += 1
                stored = texts(witness.get_items())
                assert stored in (model, model[:-1]), f"step {number}"
                model = stored
            finally:
                proxy.calm()
            assert texts(witness.get_items()) == model, f"step {number}: {name}"
    figures.add(dialect_of(server_url), connections_cut=proxy.cuts, pops_of_unknown_outcome=unknown)


def _step(session: Session, name: str, model: Texts, new: Texts, position: int) -> Texts:
    """Do one operation; the history that it must leave."""
    if name == "get":
        assert texts(session.get_items()) == model
        return model
    if name.startswith("add"):
        session.add_items(items(*new), if_position=position if name == "add_at" else None)
        return model + new
    if name == "pop":
        popped = session.pop_item()
        assert texts([popped] if popped else []) == model[-1:]
        return model[:-1]
    if name == "clear":
        session.clear_session()
        return []
    left = new if name == "replace" else model[: len(model) // 2]
    session.replace_items(items(*left))
    return left


@each_mysql
def test_behind_a_proxy_that_invents_numbers_nobody_elses_session_is_waited_for_or_ended(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Proxy(server_url) as proxy,
        Session.from_url("chat_1", proxy.url, retry_delay=0.001) as session,
        closing(connect_raw(server_url)) as stranger,
    ):
        session.add_items(items("a"))
        execute_sql(server_url, "CREATE TABLE orders (id INTEGER)")
        cursor = stranger.cursor()
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO orders VALUES (1)")
        monkeypatch.setattr(PacketConnection, "thread_id", lambda _: stranger.thread_id())
        proxy.cut(when="after")
        session.add_items(items("b"))
        assert proxy.was_cut
        stranger.commit()
        # In the middle of something that may be a write.
        busy = threading.Thread(target=_sleep, args=(cursor,))
        busy.start()
        assert eventually(lambda: "SLEEP" in repr(execute_sql(server_url, "SHOW PROCESSLIST")))
        proxy.cut(when="after")
        session.add_items(items("c"))
        with connection_of(session) as connection:
            asked = {"id": stranger.thread_id(), "own": connection.thread_id()}
            assert driver_of(session).execute(connection, "still_busy", asked) == []
        assert busy.is_alive()
        execute_sql(server_url, f"KILL QUERY {stranger.thread_id()}")
        busy.join()
    assert execute_sql(server_url, "SELECT id FROM orders") == [(1,)]


def _sleep(cursor: Any) -> None:
    with suppress(pymysql.Error):  # it is interrupted
        cursor.execute("SELECT SLEEP(600) FROM agent_messages")
