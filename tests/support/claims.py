"""What many tests ask of a session, of an error, and of each backend in turn."""

import contextlib
import itertools
import json
import pickle
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime
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
    operate(session)
    session.clear_session()
    assert session.get_items() == []


class Loaded:
    """A row of another database."""

    text = '{"content":"\\\\ loaded"}'
    created_at = datetime(2020, 1, 2, 3, 4, 5)  # noqa: DTZ001


def operate(session: sessions.Session) -> None:
    """What an operator asks, of a conversation that is there; nothing more is left than was there."""
    backend, name = sessions.Backend(session._history.store), session.session_id
    made = [f"{name}:{tail}" for tail in ("%a", "_a", "loaded")]
    first = session.fork(made[0])
    first.add_items(items("x", "needle \\ 'ä\"", "y"))
    *_, record, last = first.records()
    assert session.delete_record(record.id) is False
    with pytest.raises(sessions.ConflictError):
        session.replace_record(record.id, item("x"))
    assert first.delete_record(last.id)
    first.fork(made[1], upto=record.id)
    assert backend.load(made[2], [Loaded()] * 2, created_at=Loaded.created_at, updated_at=Loaded.created_at) == 2
    found = [(match.session_id, match.record.created_at) for match in backend.search("needle \\ 'ä", prefix=f"{name}:")]
    assert [found_in for found_in, _ in found] == made[:2]
    assert None not in dict(found).values()
    first.replace_record(record.id, item("z"))
    assert first.get_items()[-2:] == items("x", "z")
    assert [record.created_at for record in backend.session(made[2]).records()] == [Loaded.created_at] * 2
    listed(backend, name, {name, *made})
    for prefix in made:
        listed(backend, prefix, {prefix})
    assert not [check for check in backend.check() if check.name in ("connection", "index") and check.verdict != "ok"]
    assert backend.delete_sessions(made) == len(made)
    listed(backend, name, {name})


def listed(backend: sessions.Backend, prefix: str, expected: set[str]) -> None:
    """The conversations whose ids begin so, page by page in each order, with the times of all."""
    for order, newest_first in itertools.product(("updated", "id"), (True, False)):
        found: list[sessions.SessionInfo] = []
        options: Any = {"prefix": prefix, "order": order, "newest_first": newest_first, "limit": 2}
        while page := backend.list_sessions(**options, after=found[-1] if found else None):
            found += page
        assert sorted(info.session_id for info in found) == sorted(expected)
        assert all(info.created_at and info.updated_at and info.items for info in found)
        assert [
            info for info in found if info.session_id.endswith(":loaded") and info.updated_at != Loaded.created_at
        ] == []


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
