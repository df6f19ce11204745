"""Operations in a transaction whose snapshot is older than what others have written; PostgreSQL refuses them there."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

import sessions
from embedding.application import prepare
from sessions import Backend, ConflictError
from support.samples import items, texts
from support.servers import connect_raw

# By default from MariaDB 11.6 on a transaction ends where another one was quicker.
OLDER = "SET @since = 1 /*M!110602 , innodb_snapshot_isolation = OFF */"


@pytest.fixture(params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mysql", "mariadb")])
def my_url(request: pytest.FixtureRequest, make_url: Callable[[str], str]) -> str:
    url = make_url(request.param)
    prepare(url)
    return url


@pytest.fixture
def others(my_url: str) -> Iterator[Backend]:
    """What others write by, with a conversation of three items."""
    with sessions.connect(my_url) as backend:
        backend.session("chat_1").add_items(items("a", "b", "c"))
        yield backend


@pytest.fixture
def ours(my_url: str, others: Backend) -> Iterator[Backend]:
    """A backend in a transaction that has read the conversation, and goes on seeing it so."""
    with closing(connect_raw(my_url)) as connection:
        cursor = connection.cursor()
        cursor.execute(OLDER)
        cursor.execute("BEGIN")
        backend = sessions.bind(connection)
        assert texts(backend.session("chat_1").get_items()) == ["a", "b", "c"]
        yield backend
        connection.commit()


def newest_id(backend: Backend) -> int:
    return backend.session("chat_1").position()


def test_a_record_that_others_have_removed_is_not_there(others: Backend, ours: Backend) -> None:
    gone = newest_id(ours)
    others.session("chat_1").pop_item()
    assert ours.session("chat_1").delete_record(gone) is False
    with pytest.raises(ConflictError, match="no record"):
        ours.session("chat_1").replace_record(gone, items("x")[0])


def test_a_copy_has_what_is_there_now(others: Backend, ours: Backend) -> None:
    others.session("chat_1").pop_item()
    assert texts(ours.session("chat_1").fork("chat_2").get_items()) == ["a", "b"]


def test_a_conversation_of_which_others_have_removed_a_part_is_deleted(others: Backend, ours: Backend) -> None:
    others.session("chat_1").pop_item()
    assert ours.delete_sessions(["chat_1"]) == 1


@pytest.mark.parametrize("change", ["add", "clear", "put in place"])
def test_nothing_is_loaded_behind_what_others_have_written(others: Backend, ours: Backend, change: str) -> None:
    rows = list(ours.session("chat_1").records())
    session: Any = others.session("chat_1")
    match change:
        case "add":
            session.add_items(items("theirs"))
        case "clear":
            session.clear_session()
        case _:
            session.replace_items(items("a", "b", "theirs"))
    there = session.get_items()
    with pytest.raises(ConflictError):
        ours.load("chat_1", [*rows, rows[0]])
    assert session.get_items() == there


def test_with_a_key_what_is_the_newest_now_is_popped(my_url: str) -> None:
    key = "a key of many random characters"
    with sessions.connect(my_url, encryption_key=key) as others, closing(connect_raw(my_url)) as connection:
        others.session("chat_1").add_items(items("a", "b"))
        cursor = connection.cursor()
        cursor.execute(OLDER)
        cursor.execute("BEGIN")
        ours = sessions.bind(connection, encryption_key=key).session("chat_1")
        assert texts(ours.get_items()) == ["a", "b"]
        others.session("chat_1").add_items(items("c"))
        assert ours.pop_item() == items("c")[0]
        connection.commit()
        assert texts(others.session("chat_1").get_items()) == ["a", "b"]
