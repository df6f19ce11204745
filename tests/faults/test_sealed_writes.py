"""Writes under seals whose connections are cut: exactly once as without, and no seal is broken by it.

The end of a conversation, which no two writes leave the same, tells of a pop too whether it was done.
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import sessions
from faults.oracle import Figures
from faults.test_cut_connections import CUTS, OPERATIONS, agree_with_a_model, cold, cut_at_each_packet, warm
from faults.test_encrypted_writes import WRITES, survive_cuts
from faults.writers import at_first_retry
from sessions import Session
from support.proxy import Proxy, When
from support.rivals import connection_of, driver_of, eventually, others
from support.samples import in_threads, items, texts
from support.servers import dialect_of

SEALED: dict[str, Any] = {"integrity_key": "a key that is long enough for a test"}


@pytest.mark.parametrize("prepare", [warm, cold])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_sealed_operation_survives_a_cut_at_each_packet(
    name: str, prepare: Callable[..., Any], server_url: str, figures: Figures
) -> None:
    operation, cuts = OPERATIONS[name], 0
    ways = CUTS[:3] if prepare is warm else CUTS[2:3]
    for session, witness, what in cut_at_each_packet(server_url, prepare, ways, **SEALED):
        assert operation.run(session, witness.position()) == operation.answer, what
        assert texts(witness.get_items()) == list(operation.leaves), what
        assert witness.verify().records == len(operation.leaves), what
        cuts += 1
    figures.add(dialect_of(server_url), connections_cut=cuts - len(ways))


@pytest.mark.parametrize("unsealed", ["refuse", "accept"])
@pytest.mark.parametrize("name", WRITES)
def test_a_sealed_write_whose_answer_was_lost_is_done_once(server_url: str, name: str, unsealed: str) -> None:
    survive_cuts(server_url, WRITES[name], "after", "integrity_key", unsealed=unsealed)


def test_what_a_pooler_held_back_of_a_sealed_write_is_not_done_behind_its_settlement(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which knows nothing of the server session of the lost connection there."""
    accepting = {**SEALED, "unsealed": "accept"}
    with (
        sessions.connect(server_url, **accepting) as direct,
        Proxy(server_url) as proxy,
        sessions.connect(proxy.url, statement_timeout=1.0, retry_delay=0.001, **accepting) as behind,
    ):
        session = behind.session("chat_1")
        session.add_items(items("hello"))
        session.get_items()  # the end that the write follows
        dialect = driver_of(behind)
        with connection_of(behind) as connection:
            orphan = dialect.server_session(connection)
        monkeypatch.setattr(dialect, "is_executing", lambda *_, **__: None)
        proxy.hold()
        session.add_items(items("a"))
        assert orphan in others(server_url)
        proxy.release()
        assert eventually(lambda: orphan not in others(server_url))
        assert texts(direct.session("chat_1").get_items()) == ["hello", "a"]


def test_the_end_of_a_write_that_is_found_is_not_taken_for_that_of_others_behind_it(server_url: str) -> None:
    """Or a write at the position that it reached would not notice what they have written."""
    accepting = {**SEALED, "unsealed": "accept"}
    with (
        sessions.connect(server_url) as unsealed,
        Proxy(server_url) as proxy,
        sessions.connect(proxy.url, retry_delay=0.001, **accepting) as backend,
    ):
        session = backend.session("chat_1")
        session.add_items(items("hello"))
        session.get_items()  # the end that the write follows
        proxy.cut(when="after")
        with at_first_retry(lambda: unsealed.session("chat_1").add_items(items("theirs"))):
            position = session._history.add(items("ours"))
        assert proxy.was_cut
        assert [(record.id == position, record.seal) for record in session.records()] == [
            (False, "sealed"),
            (True, "sealed"),
            (False, "unsealed"),
        ]


@pytest.mark.slow
def test_any_sealed_operations_under_cuts_agree_with_a_model(
    server_url: str, rng: random.Random, scaled: Callable[[int, int], int], figures: Figures
) -> None:
    agree_with_a_model(server_url, rng, scaled(20, 5), figures, **SEALED)


def test_writers_who_know_nothing_of_one_another_keep_the_seals_whole(sql_url: str) -> None:
    """Each has a store of its own, as processes have, so that the end it knows is soon out of date."""
    count, writers = 8, 4

    def write(number: int) -> None:
        with sessions.connect(sql_url, **SEALED) as backend:
            for part in range(count):
                backend.session("chat_1").add_items([{"by": number, "part": part}])

    in_threads(writers, write)
    with sessions.connect(sql_url, **SEALED) as backend:
        found = backend.session("chat_1").get_items()
        assert backend.session("chat_1").verify().records == len(found) == writers * count
    for number in range(writers):
        assert [item["part"] for item in found if item["by"] == number] == list(range(count))


@contextlib.contextmanager
def cut_off(url: str, when: When, meanwhile: Callable[[Session], None]) -> Iterator[tuple[Session, Session]]:
    """Give a session whose next write is cut off, and another one, on which something is done before it is settled."""
    with sessions.connect(url, **SEALED) as direct, Proxy(url) as proxy:
        witness = direct.session("chat_1")
        witness.add_items(items("first"))
        with sessions.connect(proxy.url, retry_delay=0.001, max_retries=10, **SEALED) as backend:
            session = backend.session("chat_1")
            session.get_items()
            proxy.cut(when=when)
            with at_first_retry(lambda: meanwhile(witness)):
                yield session, witness
            assert proxy.was_cut


def add_twice(session: Session) -> None:
    session.add_items(items("a"))
    session.add_items(items("b"))


def remove_and_add(session: Session) -> None:
    assert texts([session.pop_item() or {}]) == ["ours"]
    session.add_items(items("a", "b", "c"))


def test_a_write_that_was_done_is_found_though_others_have_written_since(server_url: str) -> None:
    with cut_off(server_url, "after", add_twice) as (session, witness):
        session.add_items(items("ours"))
        assert texts(witness.get_items()) == ["first", "ours", "a", "b"]


@pytest.mark.parametrize(
    ("operation", "leaves"), [("add_items", ["first", "a", "b", "ours"]), ("pop_item", ["first", "a"])]
)
def test_a_write_that_was_not_done_is_done_though_others_have_added_since(
    server_url: str, operation: str, leaves: list[str]
) -> None:
    with cut_off(server_url, "before", add_twice) as (session, witness):
        getattr(session, operation)(*([items("ours")] if operation == "add_items" else []))
        assert texts(witness.get_items()) == leaves


def test_a_write_that_others_may_have_removed_is_not_done_again(server_url: str) -> None:
    """Also where the last that they did was to add."""
    with cut_off(server_url, "after", remove_and_add) as (session, witness):
        with pytest.raises(sessions.OutcomeUnknownError):
            session.add_items(items("ours"))
        assert texts(witness.get_items()) == ["first", "a", "b", "c"]


def test_what_a_sealed_write_waits_for_is_not_taken_from_its_time_for_collisions(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first attempt waits for a lock, the second for the server, each for an hour, and others are first."""
    hours = 0

    def clock() -> float:
        return time.monotonic() + 3600 * hours

    monkeypatch.setattr("sessions._stores.seal_reading.monotonic", clock)
    monkeypatch.setattr("sessions._stores.attempts.time", SimpleNamespace(monotonic=clock, sleep=time.sleep))
    with (
        sessions.connect(server_url, **SEALED) as direct,
        Proxy(server_url) as proxy,
        sessions.connect(proxy.url, retry_delay=0.001, **SEALED) as backend,
    ):
        rival = direct.session("chat_1")
        rival.add_items(items("a"))
        rows: Any = backend._store._rows  # type: ignore[attr-defined]
        write_sealed, told = rows.write_sealed, iter(["lock", "server"])

        def be_late(*arguments: Any, **named: Any) -> int:
            nonlocal hours
            cause = next(told, None)
            if cause == "lock":
                hours += 1
                rival.add_items(items("b"))
            elif cause == "server":
                proxy.refusing = True
                proxy.drop()
            written: int = write_sealed(*arguments, **named)
            return written

        def come_back() -> None:
            nonlocal hours
            hours += 1
            rival.add_items(items("c"))
            proxy.refusing = False

        monkeypatch.setattr(rows, "write_sealed", be_late)
        with at_first_retry(come_back):
            backend.session("chat_1").add_items(items("ours"))
        assert texts(rival.get_items()) == ["a", "b", "c", "ours"]
