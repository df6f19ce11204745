"""What many tests ask of a session, of an error, and of each backend in turn."""

import contextlib
import json
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sessions
from support.samples import item, items, texts

Operation = Callable[[sessions.Session], Any]

# A word that is in no message: a password, or what an item holds.
SECRET = "hunter2"

OPERATIONS: dict[str, Operation] = {
    "get_items": lambda session: session.get_items(),
    "get_items(limit)": lambda session: session.get_items(limit=20),
    "position": lambda session: session.position(),
    "add_items": lambda session: session.add_items(items("a", "b")),
    "pop_item": lambda session: session.pop_item(),
    "clear_session": lambda session: session.clear_session(),
    "replace_items": lambda session: session.replace_items(items("a", "b", "c")),
}
READS = ("get_items", "get_items(limit)", "position")
WRITES = ("add_items", "pop_item", "clear_session", "replace_items")
# For a test of what MySQL and MariaDB alone have.
each_mysql = pytest.mark.parametrize("server_url", ["mysql", "mariadb"], indirect=True)
each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def by_json(item: Any) -> Any:
    return json.loads(json.dumps(item))


def exactly(history: Any) -> str:
    """A text that tells 1, 1.0 and True apart, and one key order from another."""
    return repr(history)


def use_everything(session: sessions.Session) -> None:
    """Each operation once, with what goes in and out compared; nothing is left."""
    session.add_items(items("ä", "b"))
    session.add_items(items("c"), if_position=session.position())
    assert texts(session.get_items()) == ["ä", "b", "c"]
    assert texts(session.get_items(limit=2)) == ["b", "c"]
    assert [record.item for record in session.records()] == session.get_items()
    assert session.pop_item() == item("c")
    for write in (session.add_items, session.replace_items):
        with pytest.raises(sessions.ConflictError):
            write(items("x"), if_position=session.position() + 1)
    session.replace_items(items("d", "e"))
    session.replace_items(items("d"), if_position=session.position())
    assert session.get_items() == items("d")
    session.clear_session()
    assert session.get_items() == []


def assert_helpful(error: BaseException) -> None:
    """What is wrong, a semicolon, what to do; no secret; and the error can be pickled."""
    text = str(error)
    what, _, remedy = text.partition("; ")
    assert what, text
    assert len(remedy.split()) >= 2, f"no remedy: {text}"
    assert not text.endswith("."), text
    assert not text.split(maxsplit=1)[0].istitle(), text  # an acronym may begin it
    assert SECRET not in "".join(traceback.format_exception(error)) + repr(error)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own
    assert (type(again), str(again)) == (type(error), text)


@contextlib.contextmanager
def refused(error: Any, match: str | None = None) -> Iterator[pytest.ExceptionInfo[Any]]:
    """Ask what `pytest.raises` asks, and that the error helps."""
    with pytest.raises(error, match=match) as caught:
        yield caught
    assert_helpful(caught.value)
