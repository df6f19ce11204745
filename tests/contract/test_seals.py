"""With an integrity_key: what somebody without the key has changed is noticed, and what we do ourselves is not."""

import contextlib
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import sessions
from sessions import ConfigurationError, SealBrokenError, Session, Verified
from support.samples import Item, in_threads, item, items, stored_texts, texts
from support.servers import execute_sql

KEY = "the first key, of 32 characters."
OTHER_KEY = "the other key, of 32 characters."
HISTORY = ["a", "b", "c", "d", "e"]

Edit = Callable[[str], None]


@pytest.fixture
def sealed(url: str) -> Iterator[sessions.Backend]:
    with sessions.connect(url, integrity_key=KEY) as backend:
        yield backend


def _fails(call: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=re.escape(words)):
        call()


def _ids(url: str, session_id: str = "chat_1") -> list[int]:
    rows = execute_sql(url, "SELECT id FROM agent_messages WHERE session_id = %s ORDER BY id", (session_id,))
    return [row[0] for row in rows]


def _put(url: str, row_id: int, text: str) -> None:
    execute_sql(url, "UPDATE agent_messages SET message_data = %s WHERE id = %s", (text, row_id))


def _remove(url: str, *row_ids: int) -> None:
    for row_id in row_ids:
        execute_sql(url, "DELETE FROM agent_messages WHERE id = %s", (row_id,))


def _end(url: str, session_id: str = "chat_1") -> str:
    [(seal,)] = execute_sql(url, "SELECT seal FROM agent_session_seals WHERE session_id = %s", (session_id,))
    return str(seal)


def _put_end(url: str, seal: str, session_id: str = "chat_1") -> None:
    execute_sql(url, "UPDATE agent_session_seals SET seal = %s WHERE session_id = %s", (seal, session_id))


def _content(url: str) -> None:
    _put(url, _ids(url)[-2], stored_texts(url)[-2].replace('"d"', '"x"'))


def _white_space(url: str) -> None:
    _put(url, _ids(url)[-2], stored_texts(url)[-2].replace(":", ": "))


def _truncation(url: str) -> None:
    _remove(url, *_ids(url)[-2:])


def _deletion(url: str) -> None:
    _remove(url, _ids(url)[-2])


def _first_rows(url: str) -> None:
    _remove(url, *_ids(url)[:2])


def _everything(url: str) -> None:
    _remove(url, *_ids(url))


def _reordering(url: str) -> None:
    (one, other), (text, other_text) = _ids(url)[-3:-1], stored_texts(url)[-3:-1]
    _put(url, one, other_text)
    _put(url, other, text)


def _forgery(url: str) -> None:
    text = stored_texts(url)[-1].replace('"e"', '"x"')
    execute_sql(url, "INSERT INTO agent_messages (session_id, message_data) VALUES ('chat_1', %s)", (text,))


def _repetition(url: str) -> None:
    execute_sql(
        url, "INSERT INTO agent_messages (session_id, message_data) VALUES ('chat_1', %s)", (stored_texts(url)[-1],)
    )


def _replay(url: str) -> None:
    _put(url, _ids(url)[-2], stored_texts(url, "chat_2")[-2])


def _an_old_version(url: str) -> None:
    old = stored_texts(url)[-2]
    with sessions.connect(url, integrity_key=KEY) as backend:
        backend.session("chat_1").replace_record(_ids(url)[-2], item("newer"))
        assert texts(backend.session("chat_1").get_items()) == ["a", "b", "c", "newer", "e"]
    _put(url, _ids(url)[-2], old)


def _time(url: str) -> None:
    execute_sql(url, "UPDATE agent_messages SET created_at = '2000-01-01 00:00:00' WHERE id = %s", (_ids(url)[-2],))


def _exchange(url: str) -> None:
    for table in ("agent_messages", "agent_session_seals"):
        for old, new in (("chat_1", "swap"), ("chat_2", "chat_1"), ("swap", "chat_2")):
            if new == "swap" or old == "swap":
                with contextlib.suppress(Exception):
                    execute_sql(url, "INSERT INTO agent_sessions (session_id) VALUES ('swap')")
            execute_sql(url, f"UPDATE {table} SET session_id = %s WHERE session_id = %s", (new, old))


def _no_end(url: str) -> None:
    execute_sql(url, "DELETE FROM agent_session_seals WHERE session_id = 'chat_1'")


def _end_of_another(url: str) -> None:
    _put_end(url, _end(url, "chat_2"))


def _older_end(url: str) -> None:
    old = _end(url)
    with sessions.connect(url, integrity_key=KEY) as backend:
        backend.session("chat_1").add_items(items("f"))
    _put_end(url, old)


def _edited_end(url: str) -> None:
    version, generation, count, *rest = _end(url).split(".")
    _remove(url, _ids(url)[-1])
    _put_end(url, ".".join([version, generation, str(int(count) - 1), *rest]))


def _no_text_at_the_end(url: str) -> None:
    _put_end(url, "")


def _of_another_key(url: str) -> None:
    """All of it written with another key, and put in the place of what was there."""
    with sessions.connect(
        url, integrity_key=OTHER_KEY, sessions_table="their_sessions", messages_table="theirs"
    ) as they:
        they.session("chat_1").add_items(items(*"abxde"))
    execute_sql(url, "DELETE FROM agent_messages WHERE session_id = 'chat_1'")
    execute_sql(
        url,
        "INSERT INTO agent_messages (session_id, message_data, created_at) "
        "SELECT session_id, message_data, created_at FROM theirs ORDER BY id",
    )
    [(seal,)] = execute_sql(url, "SELECT seal FROM their_session_seals")
    _put_end(url, seal)


def _no_seal(url: str) -> None:
    _put(url, _ids(url)[-2], json.dumps(item("d")))


# Where each is noticed: by a read of the two newest items too, or only by one that reaches it.
EDITS: dict[str, tuple[Edit, bool]] = {
    "content": (_content, True),
    "white space": (_white_space, True),
    "truncation": (_truncation, True),
    "deletion in the middle": (_deletion, True),
    "first rows": (_first_rows, False),
    "everything": (_everything, True),
    "reordering": (_reordering, True),
    "forged row": (_forgery, True),
    "repeated row": (_repetition, True),
    "row of another conversation": (_replay, True),
    "old version of a row": (_an_old_version, True),
    "time": (_time, True),
    "two conversations exchanged": (_exchange, True),
    "no end": (_no_end, True),
    "end of another conversation": (_end_of_another, True),
    "older end": (_older_end, True),
    "edited end": (_edited_end, True),
    "no text at the end": (_no_text_at_the_end, True),
    "written with another key": (_of_another_key, True),
    "row without a seal": (_no_seal, True),
}

READS: dict[str, Callable[[Session], Any]] = {
    "get_items": lambda session: session.get_items(),
    "get_items(2)": lambda session: session.get_items(2),
    "records": lambda session: next(session.records()),
    "fork": lambda session: session.fork("fork"),
    "verify": lambda session: session.verify(),
    "delete_record": lambda session: session.delete_record(1),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_refused_on_each_way_to_read_and_nothing_is_handed_out(sql_url: str, name: str) -> None:
    edit, is_near = EDITS[name]
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        for session_id in ("chat_1", "chat_2"):
            backend.session(session_id).add_items(items(*HISTORY))
        edit(sql_url)
        # One that knows the history from before, and one that has just come.
        with sessions.connect(sql_url, integrity_key=KEY) as newcomer:
            for reader in (backend, newcomer):
                for way, read in READS.items():
                    if way == "get_items(2)" and not is_near:
                        continue
                    with pytest.raises(SealBrokenError) as info:
                        read(reader.session("chat_1"))
                    assert info.value.session_id == "chat_1"
                    assert '"' not in str(info.value)
                if _ids(sql_url):
                    with pytest.raises(SealBrokenError):
                        list(reader.search("c"))


def test_an_edit_of_the_newest_row_stops_who_has_just_come(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        backend.session("chat_1").add_items(items(*HISTORY))
    _put(sql_url, _ids(sql_url)[-1], stored_texts(sql_url)[-1].replace('"e"', '"x"'))
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        session = backend.session("chat_1")
        for write in (
            lambda: session.add_items(items("f")),
            session.pop_item,
            lambda: session.replace_items([]),
            session.position,
            session.seal,
        ):
            _fails(write, SealBrokenError, "not as it was written")
        assert len(_ids(sql_url)) == len(HISTORY)
        # What is broken can be cleared.
        session.clear_session()
        session.add_items(items("new"))
        assert texts(session.get_items()) == ["new"]


def test_an_error_names_conversation_and_row(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        backend.session("chat_1").add_items(items(*HISTORY))
        _content(sql_url)
        with pytest.raises(SealBrokenError, match="session 'chat_1', record") as info:
            backend.session("chat_1").get_items()
        assert info.value.record_id == _ids(sql_url)[-2]
        assert not isinstance(info.value, ValueError)


def _version(url: str) -> list[str]:
    """Replace a history by one that is as long, and return the texts that it had."""
    old = stored_texts(url)
    with sessions.connect(url, integrity_key=KEY) as backend:
        backend.session("chat_1").replace_items(items(*(f"new {text}" for text in HISTORY)))
    return old


def test_the_beginning_of_an_older_version_is_handed_out_by_nothing(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        session = backend.session("chat_1")
        session.add_items(items(*HISTORY))
        old = _version(sql_url)
        for row_id, text in zip(_ids(sql_url)[:3], old, strict=False):
            _put(sql_url, row_id, text)
        _fails(lambda: session.fork("fork", upto=_ids(sql_url)[1]), SealBrokenError, "chat_1")
        _fails(lambda: backend.first_messages(["chat_1"]), SealBrokenError, "chat_1")


def _between_pages(url: str, edit: Callable[[], None], *, count: int = 60) -> list[str]:
    """Read records, with an edit behind the first page; the texts that were handed out."""
    with sessions.connect(url, integrity_key=KEY) as backend:
        session = backend.session("chat_1")
        session.add_items(items(*map(str, range(count))))
        records = session.records()
        found = [next(records)]
        edit()
        found += records
    return texts(record.item or {} for record in found)


def test_rows_that_are_numbered_anew_between_two_pages_are_neither_left_out_nor_doubled(sql_url: str) -> None:
    def renumber() -> None:
        for row_id in _ids(sql_url):
            execute_sql(sql_url, "UPDATE agent_messages SET id = %s WHERE id = %s", (row_id + 1000, row_id))

    assert _between_pages(sql_url, renumber) == list(map(str, range(60)))


def test_an_older_version_behind_the_first_page_is_refused(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        session = backend.session("chat_1")
        session.add_items(items(*(f"old {n}" for n in range(60))))
        old = stored_texts(sql_url)

        def put_back() -> None:
            for row_id, text in zip(_ids(sql_url)[30:], old[30:], strict=True):
                _put(sql_url, row_id, text)

        session.clear_session()
    with pytest.raises(SealBrokenError):
        _between_pages(sql_url, put_back)


@pytest.mark.parametrize("shift", [-100, 0])
def test_records_with_a_limit_do_not_go_by_ids(sqlite_url: str, shift: int) -> None:
    with sessions.connect(sqlite_url, integrity_key=KEY) as backend:
        session = backend.session("chat_1")
        session.add_items(items(*HISTORY))
        execute_sql(sqlite_url, "UPDATE agent_messages SET id = id - %s", (_ids(sqlite_url)[-1] + shift,))
        for limit in (2, 5, 2000):
            assert texts(record.item or {} for record in session.records(limit)) == HISTORY[-limit:]


@pytest.mark.parametrize("ours", [[], ["ours"]], ids=["of others alone", "behind ours"])
def test_rows_of_others_are_read_once_though_one_is_removed_meanwhile(sql_url: str, ours: list[str]) -> None:
    theirs = list(map(str, range(60)))
    with sessions.connect(sql_url, integrity_key=KEY, unsealed="accept") as backend:
        session = backend.session("chat_1")
        session.add_items(items(*ours))
        _by_another(sql_url, *theirs)
        records = session.records()
        found = [next(records)]
        session.pop_item()
        found += records
    assert texts(record.item or {} for record in found) == [*ours, *theirs[:-1]]


def test_a_report_reads_all_though_a_row_is_removed_meanwhile(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY, on_broken_seal="report") as backend:
        session = backend.session("chat_1")
        session.add_items(items(*map(str, range(60))))
        records = session.records()
        found = [next(records)]
        with sessions.connect(sql_url, integrity_key=KEY) as other:
            other.session("chat_1").delete_record(_ids(sql_url)[30])
        found += records
        assert [record.seal for record in found] == ["sealed"] * 59


def test_a_report_marks_what_was_forged_between_two_pages(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY, on_broken_seal="report") as backend:
        session = backend.session("chat_1")
        session.add_items(items(*map(str, range(60))))
        records = session.records()
        found = [next(records)]
        _put(sql_url, _ids(sql_url)[40], stored_texts(sql_url)[40].replace('"40"', '"forged"'))
        found += records
    assert {record.seal for record in found if record.item == item("forged")} == {"broken"}
    assert len(found) == 60


def test_records_go_on_where_others_have_removed_what_comes(sql_url: str) -> None:
    def remove() -> None:
        with sessions.connect(sql_url, integrity_key=KEY) as backend:
            for _ in range(10):
                backend.session("chat_1").pop_item()

    assert _between_pages(sql_url, remove) == list(map(str, range(50)))


def _state(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that the tables hold of histories."""
    columns = {"agent_messages": "id, session_id, message_data, created_at", "agent_session_seals": "session_id, seal"}
    return {f"{table} ({names})": execute_sql(url, f"SELECT {names} FROM {table}") for table, names in columns.items()}


def _put_back(url: str, state: dict[str, list[tuple[Any, ...]]]) -> None:
    for table, rows in state.items():
        execute_sql(url, f"DELETE FROM {table.partition(' ')[0]}")
        for row in rows:
            execute_sql(url, f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(row))})", row)


def test_a_rollback_over_a_pop_is_noticed_with_a_kept_seal(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        session.add_items(items("b"))
        earlier = _state(sql_url)
        session.pop_item()
        popped = session.seal()
        session.replace_items([])
        emptied = session.seal()
    _put_back(sql_url, earlier)
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        session = backend.session("chat_1")
        assert texts(session.get_items()) == ["a", "b"]
        for kept in (popped, emptied):
            with pytest.raises(SealBrokenError, match="earlier history"):
                session.verify(since=kept)


def test_ids_below_1_hide_nothing(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url, integrity_key=KEY) as backend:
        backend.session("chat_1").add_items(items(*HISTORY))
        execute_sql(sqlite_url, "UPDATE agent_messages SET id = id - 100")
        assert texts(backend.session("chat_1").get_items()) == HISTORY
        assert [record.item for record in backend.session("chat_1").records(2)] == items("d", "e")


# --- what we do ourselves


@pytest.mark.parametrize("keys", [{"integrity_key": KEY}, {"integrity_key": KEY, "encryption_key": KEY}], ids=len)
def test_under_a_key_everything_is_as_without(url: str, make_url: Callable[[str], str], keys: dict[str, str]) -> None:
    def seen(**options: Any) -> list[Any]:
        with sessions.connect(make_url("memory") if url.startswith("memory") else url, **options) as backend:
            found = _script_of(backend)
            for session_id in ("fork", "short"):
                backend.session(session_id).clear_session()
            return found

    def _script_of(backend: sessions.Backend) -> list[Any]:
        session = backend.session("chat_1")
        session.add_items(items("a", "b"))
        session.add_items(items("c"), if_position=session.position())
        found: list[Any] = [session.get_items(), session.get_items(2), session.pop_item()]
        session.add_items(items("d", "e", "größer"))
        found += [session.pop_item(), session.pop_item(), session.get_items()]
        records = list(session.records())
        session.replace_record(records[0].id, item("new"))
        found += [session.delete_record(records[1].id), session.delete_record(records[1].id)]
        found += [session.get_items(), [record.item for record in session.records(2)]]
        fork = session.fork("fork")
        fork.add_items(items("behind the fork"))
        short = session.fork("short", upto=records[0].id)
        found += [fork.get_items(), short.get_items(), session.get_items(1), session.get_items(0)]
        session.replace_items(items("x", "y"))
        found += [session.get_items(), [match.record.item for match in backend.search("x")]]
        session.replace_items([])
        found += [session.get_items(), session.pop_item(), session.position()]
        session.add_items(items("again"))
        session.clear_session()
        return [*found, session.get_items(), session.pop_item(), session.position()]

    assert seen(**keys) == seen()


def test_a_conversation_that_is_copied_is_sealed_there(url: str, make_url: Callable[[str], str]) -> None:
    with sessions.connect(url) as source, sessions.connect(make_url("sqlite"), integrity_key=KEY) as target:
        session = source.session("chat_1")
        session.add_items(items(*HISTORY))
        rows = list(session.records())
        assert target.load("chat_1", rows[:2]) == 2
        assert target.load("chat_1", rows) == 3
        copy = target.session("chat_1")
        assert copy.verify().sealed == len(HISTORY)
        assert [record.text for record in copy.records()] == [record.text for record in rows]
        assert target.load("chat_1", rows, on_existing="replace") == len(HISTORY)
        assert copy.get_items() == items(*HISTORY)


def test_a_long_history_is_read_in_pages(sealed: sessions.Backend) -> None:
    session = sealed.session("chat_1")
    numbers = [{"n": n} for n in range(2500)]
    session.add_items(numbers)
    assert [record.item for record in session.records()] == numbers
    assert [record.item for record in session.records(1500)] == numbers[1000:]
    assert session.verify().records == len(numbers)


def test_many_writers_at_once_keep_the_seals_whole(sealed: sessions.Backend) -> None:
    def write(number: int) -> None:
        session = sealed.session("chat_1")
        for count in range(6):
            session.add_items([{"by": number, "n": count}] * 2)
            if number == 0:
                session.pop_item()

    in_threads(4, write)
    assert sealed.session("chat_1").verify() == (42, 42, 0, sealed.session("chat_1").seal())


def test_deleted_conversations_leave_no_seal(sealed: sessions.Backend) -> None:
    for name in ("chat_1", "chat_2"):
        sealed.session(name).add_items(items("a"))
    sealed.delete_sessions(["chat_1"])
    sealed.session("chat_2").clear_session()
    for name in ("chat_1", "chat_2"):
        assert sealed.session(name).get_items() == []
        sealed.session(name).add_items(items("b"))
        assert texts(sealed.session(name).get_items()) == ["b"]


def test_a_row_that_came_unseen_is_noticed_by_the_next_write(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        _by_another(sql_url, "theirs")
        _fails(lambda: session.add_items(items("b")), SealBrokenError, "written without the key")
        assert len(_ids(sql_url)) == 2


# --- writers without the key


def _by_another(url: str, *words: str) -> None:
    with Session.from_url("chat_1", url) as session:
        session.add_items(items(*words))


def test_rows_of_others_are__fails(sql_url: str) -> None:
    _by_another(sql_url, "theirs")
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        _fails(backend.session("chat_1").get_items, SealBrokenError, "unsealed='accept' reads it")


def test_rows_of_others_are_accepted_and_told_apart(sql_url: str) -> None:
    _by_another(sql_url, "theirs")
    with sessions.connect(sql_url, integrity_key=KEY, unsealed="accept") as backend:
        session = backend.session("chat_1")
        session.add_items(items("ours"))
        _by_another(sql_url, "theirs", "theirs")
        session.add_items(items("ours"))
        marks = [(record.item["content"], record.seal) for record in session.records() if record.item]
        theirs, ours = ("theirs", "unsealed"), ("ours", "sealed")
        assert marks == [theirs, ours, theirs, theirs, ours]
        assert session.verify()[:3] == (5, 2, 3)
        assert [texts([session.pop_item() or {}])[0] for _ in range(4)] == ["ours", "theirs", "theirs", "ours"]
        assert texts(session.get_items()) == ["theirs"]


@pytest.mark.parametrize("keys", [{}, {"encryption_key": KEY}], ids=["sealed", "encrypted too"])
def test_what_others_wrote_stays_theirs_in_a_copy(sql_url: str, make_url: Callable[[str], str], keys: Any) -> None:
    with sessions.connect(sql_url, **keys) as they:
        they.session("chat_1").add_items(items("theirs"))
    accepting: Any = {"integrity_key": KEY, "unsealed": "accept", **keys}
    marks = [("theirs", "unsealed"), ("ours", "sealed")]
    with sessions.connect(sql_url, **accepting) as backend, sessions.connect(make_url("sqlite"), **accepting) as target:
        session = backend.session("chat_1")
        session.add_items(items("ours"))
        target.load("chat_1", session.records())
        for copy in (session.fork("fork"), target.session("chat_1")):
            assert [(record.item["content"], record.seal) for record in copy.records() if record.item] == marks


def test_a_sealed_history_is_copied_to_where_there_is_no_key(sql_url: str, make_url: Callable[[str], str]) -> None:
    with sessions.connect(make_url("sqlite"), integrity_key=KEY) as source, sessions.connect(sql_url) as target:
        source.session("chat_1").add_items(items(*HISTORY))
        assert target.load("chat_1", source.session("chat_1").records()) == len(HISTORY)
        assert target.session("chat_1").get_items() == items(*HISTORY)


def test_many_rows_of_others_behind_ours_are_no_alarm(sql_url: str) -> None:
    accepting: Any = {"integrity_key": KEY, "unsealed": "accept"}
    with sessions.connect(sql_url, **accepting) as backend:
        session = backend.session("chat_1")
        session.add_items(items("ours"))
        _by_another(sql_url, "one", "two", "three")
        assert texts(session.get_items(1)) == ["three"]
        assert session.position() == _ids(sql_url)[-1]
        assert session.pop_item() == item("three")
        session.add_items(items("ours"))
        assert texts(session.get_items()) == ["ours", "one", "two", "ours"]
        _no_end(sql_url)
        for read in (lambda: session.get_items(1), session.position, session.pop_item):
            _fails(read, SealBrokenError, "chat_1")


def test_others_do_not_date_what_we_write(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY, unsealed="accept") as backend:
        session = backend.session("chat_1")
        session.add_items(items("ours"))
        _by_another(sql_url, "theirs")
        late = "UPDATE agent_messages SET created_at = '2037-12-31 10:00:00' WHERE id = %s"
        execute_sql(sql_url, late, (_ids(sql_url)[1],))
        session.add_items(items("ours"))
        newest = list(session.records())[-1].created_at
        assert newest is not None
        assert newest.year < 2037


def test_what_is_broken_or_of_others_is_not_sealed_by_a_copy(sql_url: str, make_url: Callable[[str], str]) -> None:
    with sessions.connect(sql_url, integrity_key=KEY, on_broken_seal="report") as source:
        session = source.session("chat_1")
        session.add_items(items(*HISTORY))
        _content(sql_url)
        with sessions.connect(make_url("sqlite"), integrity_key=KEY) as target:
            _fails(lambda: target.load("chat_1", session.records()), sessions.InvalidItemError, "is broken where")
            assert target.session("chat_1").get_items() == []


def test_deleting_beside_who_makes_a_conversation_leaves_it_whole(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY) as backend:

        def work(number: int) -> None:
            for _ in range(15):
                if number:
                    backend.session("chat_1").add_items(items("a"))
                else:
                    backend.delete_sessions(["chat_1"])

        in_threads(3, work)
        backend.session("chat_1").verify()


def test_the_table_of_ends_is_made_once_by_many(sql_url: str) -> None:
    def write(number: int) -> None:
        with sessions.connect(sql_url, integrity_key=KEY) as backend:
            backend.session(f"chat_{number}").add_items(items("a"))

    in_threads(8, write)
    assert len(execute_sql(sql_url, "SELECT session_id FROM agent_session_seals")) == 8


def test_nothing_is_deleted_before_the_first_seal(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        assert backend.delete_sessions(["chat_1", "chat_2"]) == 1
        assert execute_sql(sql_url, "SELECT * FROM agent_session_seals") == []


def test_an_end_that_others_left_is_adopted(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        backend.session("chat_1").add_items(items("a"))
    with sessions.connect(sql_url) as backend:
        backend.delete_sessions(["chat_1"])
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        _fails(backend.session("chat_1").get_items, SealBrokenError, "clear_session() lets it begin anew")
        assert backend.rekey(adopt=True) == (1, 0)
        assert backend.session("chat_1").get_items() == []
        backend.session("chat_2").add_items(items("b"))
        backend.session("chat_2").fork("chat_1")
        assert texts(backend.session("chat_1").get_items()) == ["b"]
    with sessions.connect(sql_url) as backend:
        backend.prune(timedelta(seconds=-60))
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        backend.session("chat_1").clear_session()
        backend.session("chat_1").add_items(items("c"))
        assert texts(backend.session("chat_1").get_items()) == ["c"]


def test_a_seal_cannot_be_taken_off_where_rows_of_others_are_accepted(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY, unsealed="accept") as backend:
        session = backend.session("chat_1")
        session.add_items(items(*HISTORY))
        _no_seal(sql_url)
        _fails(session.get_items, SealBrokenError, "session 'chat_1'")


def test_a_pop_of_what_is_too_old_asks_for_what_others_have_added(sql_url: str) -> None:
    keys: dict[str, Any] = {"integrity_key": KEY, "encryption_key": KEY, "encryption_ttl": 3600}
    long_ago = datetime(2020, 1, 1)  # noqa: DTZ001  (as records() has it)
    with sessions.connect(sql_url, **keys) as one, sessions.connect(sql_url, **keys) as other:
        session = one.session("chat_1")
        one.load("chat_1", [sessions.Record(1, long_ago, None, json.dumps(item("old")))])
        assert session.pop_item() is None
        other.session("chat_1").add_items(items("fresh"))
        assert session.pop_item() == item("fresh")


def test_a_change_of_keys_is_no_write(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=OTHER_KEY) as backend:
        backend.session("chat_1").add_items(items("a"))
        [row] = execute_sql(sql_url, "SELECT updated_at FROM agent_sessions")
    execute_sql(sql_url, "UPDATE agent_sessions SET updated_at = '2026-01-02 03:04:05'")
    [row] = execute_sql(sql_url, "SELECT updated_at FROM agent_sessions")
    with sessions.connect(sql_url, integrity_key=[KEY, OTHER_KEY]) as backend:
        assert backend.rekey() == (1, 1)
    assert execute_sql(sql_url, "SELECT updated_at FROM agent_sessions") == [row]


def test_a_lost_lease_is_noticed_by_a_pop_of_nothing(sealed: sessions.Backend) -> None:
    session = sealed.session("chat_1")
    block = session.exclusive()
    block.__enter__()
    lease = session._history._lease()
    assert lease is not None
    assert sealed._store.release_lease(lease)
    _fails(session.pop_item, sessions.LeaseLostError, "taken over")
    _fails(lambda: block.__exit__(None, None, None), sessions.LeaseLostError, "taken over")


@pytest.mark.parametrize("adopt", [False, True])
def test_a_new_key_of_the_texts_alone_breaks_no_seal(sql_url: str, adopt: bool) -> None:
    with sessions.connect(sql_url, integrity_key=KEY, encryption_key=KEY) as backend:
        backend.session("chat_1").add_items(items("a", "b"))
    with sessions.connect(sql_url, encryption_key=[OTHER_KEY, KEY]) as backend:
        _fails(lambda: backend.rekey(adopt=adopt), sessions.ConfigurationError, "give integrity_key too")
    with sessions.connect(sql_url, integrity_key=KEY, encryption_key=[OTHER_KEY, KEY]) as backend:
        assert texts(backend.session("chat_1").get_items()) == ["a", "b"]
        assert backend.rekey().records == 2
    with sessions.connect(sql_url, integrity_key=KEY, encryption_key=OTHER_KEY) as backend:
        assert texts(backend.session("chat_1").get_items()) == ["a", "b"]


def test_marks_come_through_an_encryption(sql_url: str) -> None:
    keys: dict[str, Any] = {"integrity_key": KEY, "encryption_key": KEY}
    with sessions.connect(sql_url, encryption_key=KEY) as they:
        they.session("chat_1").add_items(items("theirs"))
    with sessions.connect(sql_url, unsealed="accept", **keys) as backend:
        session = backend.session("chat_1")
        session.add_items(items("ours"))
        assert [(record.item, record.seal) for record in session.records()] == [
            (item("theirs"), "unsealed"),
            (item("ours"), "sealed"),
        ]
        assert backend.rekey(adopt=True) == (1, 2)
    with sessions.connect(sql_url, **keys) as backend:
        assert texts(backend.session("chat_1").get_items()) == ["theirs", "ours"]
        assert backend.rekey() == (1, 0)
    with sessions.connect(sql_url, integrity_key=[OTHER_KEY, KEY], encryption_key=[OTHER_KEY, KEY]) as backend:
        assert backend.rekey() == (1, 2)
    with sessions.connect(sql_url, integrity_key=OTHER_KEY, encryption_key=OTHER_KEY) as backend:
        assert texts(backend.session("chat_1").get_items()) == ["theirs", "ours"]
        assert backend.session("chat_1").verify().sealed == 2


def test_rows_without_a_key_have_no_mark(url: str) -> None:
    with sessions.connect(url) as backend:
        backend.session("chat_1").add_items(items("a"))
        assert [record.seal for record in backend.session("chat_1").records()] == [None]


def test_what_others_read_of_sealed_rows_is_what_was_written(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        backend.session("chat_1").add_items(items(*HISTORY))
    with sessions.connect(sql_url) as backend:
        assert backend.session("chat_1").get_items() == items(*HISTORY)
    assert [json.loads(text) for text in stored_texts(sql_url)] == items(*HISTORY)


# --- reports


def test_breaks_are_reported_and_marked(sql_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with sessions.connect(sql_url, integrity_key=KEY, on_broken_seal="report") as backend:
        session = backend.session("chat_1")
        session.add_items(items(*HISTORY))
        _content(sql_url)
        with caplog.at_level(logging.ERROR, "sessions"):
            assert texts(session.get_items()) == ["a", "b", "c", "x", "e"]
        assert "record" in caplog.text
        assert '"x"' not in caplog.text
        assert [record.seal for record in session.records()] == ["sealed", "sealed", "sealed", "broken", "sealed"]
        with pytest.raises(SealBrokenError):
            session.verify()


def test_a_write_never_goes_on_from_a_broken_end(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        backend.session("chat_1").add_items(items(*HISTORY))
    _truncation(sql_url)
    with sessions.connect(sql_url, integrity_key=KEY, on_broken_seal="report") as backend:
        _fails(lambda: backend.session("chat_1").add_items(items("f")), SealBrokenError, "chat_1")


@pytest.mark.parametrize("on_broken_seal", ["raise", "report"])
@pytest.mark.parametrize("name", READS)
def test_who_wrote_the_end_does_not_go_on_from_it_once_a_read_has_found_it_broken(
    sqlite_url: str, name: str, on_broken_seal: Any
) -> None:
    with sessions.connect(sqlite_url, integrity_key=KEY, on_broken_seal=on_broken_seal) as backend:
        session = backend.session("chat_1")
        for write in (lambda: session.add_items(items("f")), session.pop_item):
            session.clear_session()
            session.add_items(items(*HISTORY))
            session.add_items(items("last"))
            _put(sqlite_url, _ids(sqlite_url)[-1], stored_texts(sqlite_url)[-1].replace('"last"', '"x"'))
            with contextlib.suppress(SealBrokenError):
                READS[name](session)
            _fails(write, SealBrokenError, "not as it was written")
            assert len(_ids(sqlite_url)) == len(HISTORY) + 1


# --- a kept seal


def test_a_kept_seal_tells_an_earlier_history(url: str) -> None:
    with sessions.connect(url, integrity_key=KEY) as backend:
        session = backend.session("chat_1")
        empty = session.seal()
        session.add_items(items("a", "b"))
        kept = session.seal()
        assert session.verify(since=empty) == session.verify(since=kept) == Verified(2, 2, 0, kept)
        session.add_items(items("c"))
        later = session.seal()
        assert session.verify(since=kept).records == 3
        session.pop_item()
        assert session.verify(since=kept).records == 2
        _fails(lambda: session.verify(since=later), SealBrokenError, "does not go on from that seal")
        session.add_items(items("other"))
        _fails(lambda: session.verify(since=later), SealBrokenError, "does not go on from that seal")


def test_a_whole_earlier_copy_is_noticed_with_a_kept_seal(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        old_end = _end(sql_url)
        session.add_items(items("b"))
        kept = session.seal()
    _remove(sql_url, _ids(sql_url)[-1])
    _put_end(sql_url, old_end)
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        session = backend.session("chat_1")
        assert texts(session.get_items()) == ["a"]
        _fails(lambda: session.verify(since=kept), SealBrokenError, "earlier history")


@pytest.mark.parametrize("since", ["", "1.2.3", "nonsense", "1.1.1.zz.zz.zz"])
def test_what_is_no_seal_is__fails(since: str) -> None:
    with sessions.connect("memory:", integrity_key=KEY) as backend:
        _fails(lambda: backend.session("chat_1").verify(since=since), ValueError, "pass what seal")


def test_a_seal_of_another_conversation_is_none_of_this_one(sealed: sessions.Backend) -> None:
    sealed.session("chat_2").add_items(items("a"))
    kept = sealed.session("chat_2").seal()
    _fails(lambda: sealed.session("chat_1").verify(since=kept), ValueError, "no seal of session 'chat_1'")


@pytest.mark.parametrize("way", ["clear_session", "delete_sessions", "prune"])
def test_what_its_owner_removes_while_it_is_read_is_not_seen(way: str, url: str) -> None:
    with sessions.connect(url, integrity_key=KEY) as backend:
        session = backend.session("chat_1")
        session.add_items(items(*(str(number) for number in range(30))))
        reading = session.records()
        assert next(reading).item == items("0")[0]
        if way == "clear_session":
            session.clear_session()
        elif way == "prune":
            assert backend.prune(datetime.now(UTC) + timedelta(days=1)).sessions == 1
        else:
            assert backend.delete_sessions(["chat_1"]) == 1
        assert len(list(reading)) < 30


def test_the_time_of_a_match_is_that_which_was_sealed(sql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        backend.session("chat_1").add_items(items("a"))
        rows: Any = backend._store._rows  # type: ignore[attr-defined]
        search = rows.search

        def early(*given: Any, **options: Any) -> Any:
            return [(*row[:2], "1999-01-01 00:00:00", row[3]) for row in search(*given, **options)]

        monkeypatch.setattr(rows, "search", early)
        [match] = backend.search("a")
        assert match.record == next(backend.session("chat_1").records())


def test_a_kept_seal_of_before_a_change_of_keys_is_a_finding_of_each(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        for name in ("chat_1", "chat_2"):
            backend.session(name).add_items(items("a"))
        kept = {name: backend.session(name).seal() for name in ("chat_1", "chat_2")}
    with sessions.connect(sql_url, integrity_key=[OTHER_KEY, KEY]) as backend:
        backend.rekey()
        found = dict(backend.verify(since=kept))
        assert all("where its keys were changed since" in str(found[name]) for name in kept)
        assert not any(isinstance(verified, SealBrokenError) for _, verified in backend.verify())
    with sessions.connect(sql_url, integrity_key=OTHER_KEY) as backend:
        found = dict(backend.verify(since=kept))
        assert all("none of it with the keys" in str(found[name]) for name in kept)


# --- keys


def test_keys_rotate(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=OTHER_KEY) as backend:
        backend.session("chat_1").add_items(items("old"))
        backend.session("chat_2").add_items(items("old"))
    with sessions.connect(sql_url, integrity_key=[KEY, OTHER_KEY]) as backend:
        backend.session("chat_1").add_items(items("new"))
        assert texts(backend.session("chat_1").get_items()) == ["old", "new"]
        assert backend._store.rekey("chat_1", adopt=False) == 2
        assert backend._store.rekey("chat_1", adopt=False) == 0
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        assert texts(backend.session("chat_1").get_items()) == ["old", "new"]
        _fails(backend.session("chat_2").get_items, SealBrokenError, "chat_2")


def test_a_row_sealed_anew_with_an_old_key_is__fails(sql_url: str) -> None:
    """An old key that has leaked forges nothing in what has been written to since."""
    with sessions.connect(sql_url, integrity_key=OTHER_KEY) as backend:
        backend.session("chat_1").add_items(items(*HISTORY))
    with sessions.connect(sql_url, integrity_key=[KEY, OTHER_KEY]) as backend:
        backend.session("chat_1").add_items(items("f"))
    with sessions.connect(
        sql_url, integrity_key=OTHER_KEY, sessions_table="their_sessions", messages_table="theirs"
    ) as they:
        they.session("chat_1").add_items(items(*"abxde"))
    forged = [row[0] for row in execute_sql(sql_url, "SELECT message_data FROM theirs ORDER BY id")]
    for row_id, text in zip(_ids(sql_url), forged, strict=False):
        _put(sql_url, row_id, text)
    with sessions.connect(sql_url, integrity_key=[KEY, OTHER_KEY]) as backend:
        _fails(backend.session("chat_1").get_items, SealBrokenError, "chat_1")


def test_what_was_written_without_the_key_is_adopted(sql_url: str) -> None:
    _by_another(sql_url, *HISTORY)
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        assert backend._store.rekey("chat_1", adopt=True) == len(HISTORY)
        assert texts(backend.session("chat_1").get_items()) == HISTORY
        assert backend._store.rekey("chat_1", adopt=True) == 0
        backend.session("chat_1").add_items(items("f"))
    _deletion(sql_url)
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        _fails(lambda: backend._store.rekey("chat_1", adopt=False), SealBrokenError, "chat_1")
        assert backend._store.rekey("chat_1", adopt=True)
        assert backend.session("chat_1").verify().records == len(HISTORY)


def test_what_is_sealed_under_another_key_is_not_adopted(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=KEY) as backend:
        backend.session("chat_1").add_items(items("a"))
    stored = stored_texts(sql_url)
    with sessions.connect(sql_url, integrity_key=OTHER_KEY) as mistyped:
        _fails(
            lambda: mistyped.rekey(adopt=True),
            SealBrokenError,
            "not made with this key; check the key; another process may have a newer one;",
        )
        assert stored_texts(sql_url) == stored
        execute_sql(sql_url, "DELETE FROM agent_session_seals")
        assert mistyped.rekey(adopt=True) == (1, 1)
        assert mistyped.session("chat_1").verify().sealed == 1


@pytest.mark.parametrize("key", ["", "short", b"short", [], [KEY, "short"], 5, [5], "x" * 20 + "\ud800"])
def test_what_is_no_key_is_refused_and_not_said(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="integrity_key") as info:
        sessions.connect("memory:", integrity_key=key)
    assert "short" not in str(info.value)
    assert info.value.__cause__ is None


def test_a_key_is_said_nowhere(sql_url: str) -> None:
    with sessions.connect(sql_url, integrity_key=[KEY, OTHER_KEY]) as backend:
        session = backend.session("chat_1")
        session.add_items(items(*HISTORY))
        _content(sql_url)
        with pytest.raises(SealBrokenError) as info:
            session.get_items()
        said = [repr(backend), repr(session), repr(info.value), repr(backend._store.options), session.__class__.__doc__]
        assert not any(key in str(text) for key in (KEY, OTHER_KEY) for text in said)


def test_without_a_key_there_are_no_seals(session: Session) -> None:
    _fails(session.seal, ConfigurationError, "give one to connect")
    _fails(session.verify, ConfigurationError, "give one to connect")


@pytest.mark.parametrize("option", ["unsealed", "on_broken_seal"])
def test_another_word_is__fails(option: str) -> None:
    options: Any = {option: "perhaps"}
    _fails(lambda: sessions.connect("memory:", **options), ConfigurationError, f"{option} is 'perhaps'")


def test_a_corrupt_text_can_be_sealed_too(sealed: sessions.Backend) -> None:
    class Plain:
        created_at, text = None, "no JSON"

    sealed.load("chat_1", [Plain()])
    sealed.session("chat_1").add_items(items("a"))
    assert sealed.session("chat_1").get_items() == items("a")
    assert next(sealed.session("chat_1").records()).text == "no JSON"


def test_an_item_of_any_size_keeps_its_seal(sealed: sessions.Backend) -> None:
    session = sealed.session("chat_1")
    large: list[Item] = [item("x" * 300_000), item("y" * 20_000)]
    session.add_items(large[:1])
    session.add_items(large[1:])
    assert session.pop_item() == large[1]
    assert session.pop_item() == large[0]
    assert session.pop_item() is None


def test_without_a_key_nothing_of_it_is_imported_or_stands_between(sqlite_url: str) -> None:
    script = f"""
import sys, sessions
with sessions.connect({sqlite_url!r}) as backend:
    backend.session("chat_1").add_items([{{"a": 1}}])
    print(type(backend._store).__name__, *sorted(name for name in sys.modules if "seal" in name or "crypt" in name))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    # What a store is asked to do with sealed rows, which knows of no key.
    assert done.stdout.split() == ["SQLStore", "sessions._sealing", "sessions._stores.sealing"]
