"""load(): a conversation written as it is elsewhere, once, however often it is interrupted."""

import contextlib
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

import sessions
from sessions import Backend, ConflictError, Record
from support.claims import refused
from support.proxy import Proxy
from support.samples import item, items, refuse_poisoned_rows, texts

CREATED, UPDATED = datetime(2020, 1, 2, 3, 4, 5), datetime(2021, 2, 3, 4, 5, 6)  # noqa: DTZ001


def records(count: int, size: int = 1) -> list[Record]:
    """Rows of another database: odd white space, a corrupt one, times of their own."""
    made = [
        Record(
            17 * number,
            datetime(2020, 1, 1, number // 3600 % 24, number // 60 % 60, number % 60),  # noqa: DTZ001
            None,
            f'{{"n":{number} ,\t"t": "ä\\u00e4\\\\ {"x" * size}"  }}',
        )
        for number in range(count)
    ]
    return [*made[:-1], made[-1]._replace(text="CORRUPT")]


def shape(rows: Any) -> list[tuple[datetime | None, str]]:
    return [(row.created_at, row.text) for row in rows]


def test_texts_times_and_order_stay(backend: Backend) -> None:
    rows = records(1203)
    assert backend.load("chat_1", rows, created_at=CREATED, updated_at=UPDATED) == 1203
    assert shape(backend.session("chat_1").records()) == shape(rows)
    [info] = backend.list_sessions(count_limit=None)
    assert (info.session_id, info.created_at, info.updated_at, info.items) == ("chat_1", CREATED, UPDATED, 1203)


def test_a_load_that_was_interrupted_goes_on_where_it_ended(backend: Backend) -> None:
    rows = records(1203)

    def interrupted() -> Iterator[Record]:
        yield from rows[:700]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.load("chat_1", interrupted())
    assert shape(backend.session("chat_1").records()) == shape(rows[:500])
    assert backend.load("chat_1", rows, updated_at=UPDATED) == 703
    assert shape(backend.session("chat_1").records()) == shape(rows)
    assert backend.load("chat_1", rows) == 0
    assert shape(backend.session("chat_1").records()) == shape(rows)


def test_what_is_there_and_is_something_else_stays(backend: Backend) -> None:
    rows = records(3)
    backend.session("chat_1").add_items(items("theirs"))
    with refused(ConflictError, "row 1 is another one"):
        backend.load("chat_1", rows)
    assert texts(backend.session("chat_1").get_items()) == ["theirs"]
    backend.load("chat_2", rows)
    with refused(ConflictError, "row 3"):
        backend.load("chat_2", rows[:2])
    assert shape(backend.session("chat_2").records()) == shape(rows)


def test_a_load_does_not_go_on_behind_what_another_has_put_in_place_of_its_rows(backend: Backend) -> None:
    rows = records(1203)

    def overtaken() -> Iterator[Record]:
        yield from rows[:1200]
        session = backend.session("chat_1")
        session.pop_item()
        session.add_items(items("theirs"))
        yield from rows[1200:]

    for _ in range(2):  # between two parts, and behind what is compared
        with refused(ConflictError, "position"):
            backend.load("chat_1", overtaken())
        count = len(list(backend.session("chat_1").records()))
        assert backend.session("chat_1").pop_item() == item("theirs")
        backend.session("chat_1").clear_session()
        backend.load("chat_1", rows[:count])


def test_a_conversation_without_items_is_loaded_too(backend: Backend) -> None:
    assert backend.load("chat_1", [], created_at=CREATED, updated_at=UPDATED) == 0
    assert [(info.session_id, info.updated_at) for info in backend.list_sessions()] == [("chat_1", UPDATED)]


def test_a_time_that_is_not_known_is_now(backend: Backend) -> None:
    [row] = records(1)
    backend.load("chat_1", [row._replace(created_at=None)])
    [loaded] = backend.session("chat_1").records()
    assert loaded.created_at is not None
    assert loaded.created_at.year > 2024


def test_a_loaded_conversation_goes_on(backend: Backend) -> None:
    backend.load("chat_1", records(3))
    session = backend.session("chat_1")
    session.add_items(items("on"))
    assert [item.get("n", item.get("content")) for item in session.get_items()] == [0, 1, "on"]


def test_large_texts_are_loaded_in_parts(backend: Backend) -> None:
    rows = records(6, 1_500_000)
    assert backend.load("chat_1", rows) == 6
    assert shape(backend.session("chat_1").records()) == shape(rows)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_part_whose_answer_is_lost_is_there_once(server_url: str, when: Any) -> None:
    rows = records(1203)
    with Proxy(server_url) as proxy, sessions.connect(proxy.url, retry_delay=0.001, max_retries=5) as backend:
        backend.session("another").position()
        for packet in range(1, 15):
            proxy.cut(packet=packet, when=when)
            assert backend.load(f"chat_{packet}", rows) == 1203
            assert shape(backend.session(f"chat_{packet}").records()) == shape(rows)


def test_a_whole_database_goes_round_and_is_the_same(sql_url: str, sqlite_url: str) -> None:
    with contextlib.ExitStack() as stack:
        backends = [stack.enter_context(sessions.connect(url)) for url in ("memory:", sql_url, sqlite_url)]
        for number in range(3):
            backends[0].load(f"chat_{number}", records(40 * number + 1), created_at=CREATED, updated_at=UPDATED)
        for source, target in itertools.pairwise(backends):
            for info in source.list_sessions():
                rows = source.session(info.session_id).records()
                target.load(info.session_id, rows, created_at=info.created_at, updated_at=info.updated_at)
        for info in backends[0].list_sessions():
            shapes = [shape(backend.session(info.session_id).records()) for backend in backends]
            assert shapes[0] == shapes[1] == shapes[2]
        listings = [[info._replace(cursor="", idle=None) for info in backend.list_sessions()] for backend in backends]
        assert listings[0] == listings[1] == listings[2]


@pytest.mark.parametrize("where", ["created_at", "updated_at", "record"])
def test_a_time_with_a_time_zone_is_refused_and_nothing_is_written(backend: Backend, where: str) -> None:
    aware = datetime(2026, 3, 14, tzinfo=UTC)
    rows = [*records(1), Record(1, aware, None, "{}")] if where == "record" else records(1)
    times: Any = {} if where == "record" else {where: aware}
    with pytest.raises(ValueError, match="has a time zone"):
        backend.load("chat_1", rows, **times)
    assert backend.session("chat_1").get_items() == []


# --- in place of what is there, or behind it


@pytest.mark.parametrize("before", [0, 3])
def test_a_replacement_takes_the_place_of_what_is_there(backend: Backend, before: int) -> None:
    session, rows = backend.session("chat_1"), records(1203)
    session.add_items(items("old") * before)
    position = session.position()
    for _ in range(2):
        replaced = backend.load("chat_1", rows, created_at=CREATED, updated_at=UPDATED, on_existing="replace")
        assert replaced == 1203
        assert shape(session.records()) == shape(rows)
    [info] = backend.list_sessions(count_limit=None)
    assert (info.created_at, info.updated_at, info.items) == (CREATED, UPDATED, 1203)
    assert next(session.records()).id > position


def test_a_replacement_by_nothing_is_a_conversation_without_items(backend: Backend) -> None:
    backend.session("chat_1").add_items(items("old"))
    assert backend.load("chat_1", [], on_existing="replace") == 0
    assert [(info.session_id, info.items) for info in backend.list_sessions()] == [("chat_1", 0)]


def test_what_is_appended_stands_behind_what_is_there(backend: Backend) -> None:
    rows = records(1203)
    backend.session("chat_1").add_items(items("old"))
    assert backend.load("chat_1", rows, on_existing="append") == 1203
    old, *new = backend.session("chat_1").records()
    assert (old.item, shape(new)) == (item("old"), shape(rows))


@pytest.mark.parametrize("how", ["append", "replace"])
def test_what_cannot_be_read_to_its_end_changes_nothing(backend: Backend, how: str) -> None:
    def interrupted() -> Iterator[Record]:
        yield from records(1203)
        raise KeyboardInterrupt

    backend.session("chat_1").add_items(items("old"))
    with pytest.raises(KeyboardInterrupt):
        backend.load("chat_1", interrupted(), on_existing=how)
    assert texts(backend.session("chat_1").get_items()) == ["old"]


@pytest.mark.parametrize("how", ["append", "replace"])
def test_what_the_database_refuses_changes_nothing(sql_url: str, how: str) -> None:
    poison = Record(1, None, None, '{"n": "poison"}')
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items(items("old"))
        refuse_poisoned_rows(sql_url)
        with pytest.raises(sessions.DatabaseError):
            backend.load("chat_1", [*records(1203), poison], on_existing=how)
        assert texts(backend.session("chat_1").get_items()) == ["old"]
        backend.load("chat_1", records(2), on_existing=how)


def test_what_somebody_writes_meanwhile_is_not_replaced(backend: Backend) -> None:
    session = backend.session("chat_1")
    session.add_items(items("old"))

    def overtaken() -> Iterator[Record]:
        yield from records(3)
        session.add_items(items("theirs"))

    with refused(ConflictError, "another program writes to it"):
        backend.load("chat_1", overtaken(), on_existing="replace")
    assert texts(session.get_items()) == ["old", "theirs"]


@pytest.mark.parametrize("times", [3, 1000])
def test_an_append_that_is_overtaken_is_tried_again_so_often_and_is_there_once_or_not_at_all(
    url: str, times: int
) -> None:
    rows, rivals = records(3), items(*map(str, range(times)))

    def overtake(operation: sessions.Operation) -> None:
        # Behind each look at where the conversation ends.
        if (operation.name, operation.outcome) == ("load", "ok") and operation.rows < len(rows) and rivals:
            session.add_items([rivals.pop(0)])

    with sessions.connect(url, on_operation=overtake) as backend:
        session = backend.session("chat_1")
        session.add_items(items("old"))
        if times == 3:
            assert backend.load("chat_1", iter(rows), on_existing="append") == 3
        else:
            with refused(ConflictError, "another program writes to it"):
                backend.load("chat_1", iter(rows), on_existing="append")
        there = list(session.records())
    theirs = times - len(rivals)
    assert texts([row.item or {} for row in there[: 1 + theirs]]) == ["old", *map(str, range(theirs))]
    assert shape(there[1 + theirs :]) == (shape(rows) if times == 3 else [])


def test_an_append_leaves_the_times_of_what_is_there_and_has_its_own_where_nothing_is(backend: Backend) -> None:
    backend.session("old").add_items(items("old"))
    for name in ("old", "new"):
        backend.load(name, records(3), created_at=CREATED, updated_at=UPDATED, on_existing="append")
    is_of_then = {info.session_id: info.updated_at == UPDATED for info in backend.list_sessions()}
    assert is_of_then == {"old": False, "new": True}


def test_a_reader_sees_the_old_conversation_or_the_new_one(backend: Backend) -> None:
    old, new = records(600), records(700)
    backend.load("chat_1", old)
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(len(backend.session("chat_1").get_items()))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for rows in (new, old) * 5:
            backend.load("chat_1", rows, on_existing="replace")
        done.set()
        reading.result()
    assert set(seen) <= {599, 699}


@pytest.mark.parametrize("how", ["append", "replace"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_written_whole_is_there_once_when_the_answer_is_lost(server_url: str, when: Any, how: str) -> None:
    rows = records(1203)
    with Proxy(server_url) as proxy, sessions.connect(proxy.url, retry_delay=0.001, max_retries=5) as backend:
        for packet in range(1, 15):
            session = backend.session(f"chat_{packet}")
            session.add_items(items("old"))
            proxy.cut(packet=packet, when=when)
            assert backend.load(session.session_id, rows, on_existing=how) == 1203
            assert shape(session.records())[how == "append" :] == shape(rows)


@pytest.mark.parametrize("how", ["fail", "append", "replace"])
def test_half_a_character_is_refused_by_name_and_nothing_is_written(backend: Backend, how: str) -> None:
    broken = Record(1, None, None, '{"n": "\ud800"}')
    with refused(sessions.InvalidItemError, "a record of session 'chat_1' holds a lone surrogate"):
        backend.load("chat_1", [*records(3), broken], on_existing=how)
    assert backend.session("chat_1").get_items() == []


def test_another_word_for_what_is_there_is_refused(backend: Backend) -> None:
    with pytest.raises(ValueError, match="pass 'fail', 'append' or 'replace'"):
        backend.load("chat_1", [], on_existing="skip")


def test_the_last_microsecond_of_a_second_belongs_to_it(backend: Backend) -> None:
    moment = datetime(2020, 1, 2, 3, 4, 59, 999999)  # noqa: DTZ001
    rows = [Record(1, moment, None, "{}")]
    assert backend.load("chat_1", rows, created_at=moment, updated_at=moment) == 1
    assert backend.load("chat_1", rows, created_at=moment, updated_at=moment) == 0
    [info], [record] = backend.list_sessions(), backend.session("chat_1").records()
    for found in (record.created_at, info.created_at, info.updated_at):
        assert found is not None
        assert found.replace(microsecond=0) == moment.replace(microsecond=0)


def test_the_last_moment_that_python_has_is_no_other_on_sqlite(sqlite_url: str) -> None:
    # MySQL's TIMESTAMP ends in 2106, which is an error; SQLite has no error for what is no time.
    latest = datetime(9999, 12, 31, 23, 59, 59, 999999)  # noqa: DTZ001
    rows = [Record(1, latest, None, "{}")]
    with sessions.connect(sqlite_url) as backend:
        assert backend.load("chat_1", rows, created_at=latest, updated_at=latest) == 1
        assert backend.load("chat_1", rows, created_at=latest, updated_at=latest) == 0
        [info], [record] = backend.list_sessions(), backend.session("chat_1").records()
    assert {record.created_at, info.created_at, info.updated_at} == {latest.replace(microsecond=0)}
