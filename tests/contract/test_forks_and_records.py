"""fork(), delete_record() and replace_record(): a history copied, and one row of it mended."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

import sessions
from sessions import Backend, ConflictError, InvalidItemError, Session
from support.claims import refused
from support.samples import in_threads, item, items, plant, texts
from support.servers import connect_raw, execute_sql


def ids(session: Session) -> list[int]:
    return [record.id for record in session.records()]


# --- fork


def test_a_fork_has_the_history_and_goes_its_own_way(backend: Backend, session: Session) -> None:
    session.add_items(items("a", "b"))
    session.add_items(items("c"))
    fork = session.fork("chat_2")
    assert fork.session_id == "chat_2"
    assert fork.get_items() == session.get_items()
    fork.add_items(items("d"))
    session.pop_item()
    assert texts(backend.session("chat_2").get_items()) == ["a", "b", "c", "d"]
    assert texts(session.get_items()) == ["a", "b"]


def test_a_fork_keeps_texts_and_times(session: Session) -> None:
    session.add_items([{"text": "ä \\ ' \" \n 😀", "n": 1e3}])
    [old] = session.records()
    [new] = session.fork("chat_2").records()
    assert (new.text, new.created_at) == (old.text, old.created_at)
    assert new.id > old.id


@pytest.mark.parametrize(("place", "expected"), [(0, "a"), (1, "ab"), (2, "abc")])
def test_a_fork_ends_at_a_record(session: Session, place: int, expected: str) -> None:
    session.add_items(items("a", "b", "c"))
    assert texts(session.fork("chat_2", upto=ids(session)[place]).get_items()) == list(expected)
    assert session.fork("chat_3", upto=0).get_items() == []


def test_a_fork_of_many_rows_keeps_their_order(session: Session) -> None:
    numbers = [{"n": n} for n in range(3000)]
    session.add_items(numbers)
    assert session.fork("chat_2").get_items() == numbers


@pytest.mark.parametrize("upto", [None, 6])
def test_a_fork_keeps_the_order_whatever_the_rows_sizes(session: Session, upto: int | None) -> None:
    numbers = [{"n": n, "text": "x" * (3000 if n < 6 else 10)} for n in range(8)]
    session.add_items(numbers[:5])
    session.add_items(numbers[5:])
    session.delete_record(ids(session)[2])
    del numbers[2]
    upto = None if upto is None else ids(session)[upto]
    assert session.fork("chat_2", upto=upto).get_items() == numbers


def test_a_fork_has_the_corrupt_rows_too(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        plant(sql_url, "chat_1", "CORRUPT")
        assert [record.text for record in session.fork("chat_2").records()][1] == "CORRUPT"


@pytest.mark.parametrize("there", [["x"], []], ids=["with items", "empty"])
def test_a_fork_takes_no_id_that_is_there(backend: Backend, session: Session, there: list[str]) -> None:
    session.add_items(items("a"))
    backend.session("chat_2").replace_items(items(*there))
    with refused(ConflictError, "'chat_2' is there already"):
        session.fork("chat_2")
    assert texts(backend.session("chat_2").get_items()) == there
    with refused(ConflictError):
        session.fork("chat_1")
    assert texts(session.get_items()) == ["a"]


def test_of_many_forks_to_one_id_one_succeeds(url: str) -> None:
    with sessions.connect(url) as backend:
        backend.session("chat_1").add_items(items("a", "b"))

        def fork(_: int) -> bool:
            try:
                backend.session("chat_1").fork("chat_2")
            except ConflictError:
                return False
            return True

        assert sum(in_threads(4, fork)) == 1
        assert texts(backend.session("chat_2").get_items()) == ["a", "b"]


def test_a_fork_of_an_unused_session_is_empty(session: Session) -> None:
    assert session.fork("chat_2").get_items() == []


@pytest.mark.parametrize("wrong", [{"new_id": ""}, {"new_id": "x\0"}, {"new_id": "x", "upto": -1}], ids=str)
def test_a_fork_is_refused_what_means_nothing(session: Session, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"session_id|upto"):
        session.fork(**wrong)
    with pytest.raises(TypeError):
        session.fork(17)  # type: ignore[arg-type]


# --- one record


def test_a_deleted_record_is_gone_and_the_others_stay(session: Session) -> None:
    session.add_items(items("a", "b", "c"))
    position = session.position()
    assert session.delete_record(ids(session)[1])
    assert texts(session.get_items()) == ["a", "c"]
    assert session.position() == position
    assert session.delete_record(position)
    assert session.position() < position


def test_a_record_that_is_not_there_is_not_deleted(session: Session) -> None:
    assert not session.delete_record(17)
    session.add_items(items("a"))
    assert not session.delete_record(session.position() + 1)
    assert session.delete_record(session.position())
    assert not session.delete_record(session.position())


def test_a_replaced_record_keeps_its_place_and_its_time(session: Session) -> None:
    session.add_items(items("a", "b", "c"))
    before = list(session.records())
    session.replace_record(before[1].id, item("redacted"))
    after = list(session.records())
    assert [record.item for record in after] == items("a", "redacted", "c")
    assert [(record.id, record.created_at) for record in after] == [(record.id, record.created_at) for record in before]
    assert after[0] == before[0]
    session.replace_record(before[1].id, item("redacted"))  # once more, which changes nothing


def test_a_record_that_is_not_there_is_not_replaced(session: Session) -> None:
    with refused(ConflictError, "no record 17"):
        session.replace_record(17, item("x"))
    session.add_items(items("a"))
    with refused(ConflictError):
        session.replace_record(session.position() + 1, item("x"))
    assert texts(session.get_items()) == ["a"]


def test_another_sessions_record_is_neither_deleted_nor_replaced(backend: Backend, session: Session) -> None:
    other = backend.session("chat_2")
    other.add_items(items("theirs"))
    session.add_items(items("ours"))
    assert not session.delete_record(other.position())
    with refused(ConflictError):
        session.replace_record(other.position(), item("x"))
    assert texts(other.get_items()) == ["theirs"]


@pytest.mark.parametrize("mend", ["delete", "replace"])
def test_a_corrupt_record_can_be_mended(sql_url: str, mend: str) -> None:
    with sessions.connect(sql_url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        [number] = plant(sql_url, "chat_1", "CORRUPT")
        if mend == "delete":
            assert session.delete_record(number)
        else:
            session.replace_record(number, item("b"))
        assert texts(session.get_items()) == ["a"] + ["b"] * (mend == "replace")


def test_a_bad_item_replaces_nothing(session: Session) -> None:
    session.add_items(items("a"))
    with refused(InvalidItemError):
        session.replace_record(session.position(), {"x": float("nan")})
    with refused(InvalidItemError):
        session.replace_record(session.position(), "x")  # type: ignore[arg-type]
    assert texts(session.get_items()) == ["a"]


@pytest.mark.parametrize("call", [lambda s: s.delete_record("1"), lambda s: s.replace_record(True, {})])
def test_an_id_is_a_number(session: Session, call: Callable[[Session], object]) -> None:
    with pytest.raises(TypeError, match="record_id"):
        call(session)


def test_what_a_trigger_keeps_is_an_error(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        execute_sql(
            postgresql_url,
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        )
        execute_sql(
            postgresql_url,
            "CREATE TRIGGER keep BEFORE DELETE OR UPDATE OR INSERT ON agent_messages "
            "FOR EACH ROW EXECUTE FUNCTION keep()",
        )
        for write in (
            lambda: session.delete_record(session.position()),
            lambda: session.replace_record(session.position(), item("b")),
            lambda: session.fork("chat_2"),
            lambda: backend.delete_sessions(["chat_1"]),
        ):
            with refused(sessions.DatabaseError):
                write()
        assert texts(session.get_items()) == ["a"]
        assert [info.session_id for info in backend.list_sessions()] == ["chat_1"]


def test_a_write_waits_for_a_position_that_was_deleted(backend: Backend, session: Session) -> None:
    session.add_items(items("a", "b"))
    position = session.position()
    assert backend.session("chat_1").delete_record(position)
    with refused(ConflictError):
        session.add_items(items("c"), if_position=position)


def test_what_a_transaction_of_the_application_undoes_is_undone(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend, contextlib.closing(connect_raw(sql_url)) as connection:
        session = backend.session("chat_1")
        session.add_items(items("a", "b"))
        first, second = ids(session)
        connection.cursor().execute("BEGIN")
        bound = sessions.bind(connection).session("chat_1")
        bound.replace_record(first, item("x"))
        assert bound.delete_record(second)
        assert texts(bound.fork("chat_2").get_items()) == ["x"]
        connection.cursor().execute("ROLLBACK")
        assert texts(session.get_items()) == ["a", "b"]
        assert [info.session_id for info in backend.list_sessions()] == ["chat_1"]
