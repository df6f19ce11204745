"""Any input of every kind: only errors of ours, no leak between sessions, the same answer everywhere.

SESSIONS_TEST_FUZZ is the number of cases of each kind; --hypothesis-seed replays a run.
"""

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sessions
from sessions._dialects.registry import parse
from sessions._items import decode_item
from support.claims import SECRET, by_json, exactly
from support.samples import plant

_CASES = os.environ.get("SESSIONS_TEST_FUZZ")
cases = settings(max_examples=int(_CASES or 60))
# Through a database a case costs many times as much; the examples of a property share one.
stored_cases = settings(max_examples=max(20, int(_CASES or 0) // 50))

# Of each kind a few: what escapes, what is cut, what pairs up, what no database takes. The long run tries them all.
LETTERS = "aZ0 _-.:/?#[]@!$&'()*+,;=%\\\"`~\n\t\0\x1b\x7fé水😀👋🏽\u0301\u200b\u2028\ufeff\uffff\ud800"
if _CASES:
    every, encodable = st.characters(exclude_categories=()), st.characters(codec="utf-8")
    of_an_id = st.characters(codec="utf-8", exclude_characters="\0")
else:
    every, encodable = st.sampled_from(LETTERS), st.sampled_from(LETTERS[:-1])
    of_an_id = st.sampled_from(LETTERS[:-1].replace("\0", ""))
any_text = st.text(every, max_size=20)
unicode_text = st.text(encodable, max_size=20)
ids = st.text(of_an_id, min_size=1, max_size=255)


def items_of(text: st.SearchStrategy[str]) -> st.SearchStrategy[dict[Any, Any]]:
    """Everything that the json module writes as an object, within reason."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
    keys = text | st.integers() | st.booleans() | st.none()
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=6,
    )
    return st.dictionaries(keys, values, max_size=4)


anything = st.sampled_from(
    [None, True, 0, -1, 2**63, 1.5, float("nan"), float("inf"), "", [], {}, b"x", {1}, object(), {(1,): 2}]
)
numbers = itertools.count()


@pytest.fixture
def unused_id() -> Callable[[], str]:
    return lambda: f"example_{next(numbers)}"


# --- URLs and options

URL_PARTS = (
    *("sqlite:", "sqlite::memory:", "postgresql://", "postgres://", "mysql://", "mariadb://", "memory:", "://"),
    *("+aiomysql", "user", f":{SECRET}", "@", "localhost", "[::1]", "[::1", ":5432", ":99999", ",", "/", "db"),
    *("?", "&", "=", "sslmode=verify-full", "sslmode", "ssl-mode=REQUIRED", "host=/tmp", "charset=latin1", "#"),
    *("unix_socket=/x", "%00", "%2F", "%40", "%zz", "%", "%E4", "%25"),
)


@cases
@given(st.lists(st.sampled_from(URL_PARTS) | st.text(every, max_size=3), max_size=9).map("".join))
def test_any_url_is_read_or_refused_without_its_password(url: str) -> None:
    said = None
    try:
        sessions.connect(url).close()
    except sessions.SessionsError as error:
        said = str(error)
    assert said is None or ("; " in said and SECRET not in said)


@cases
@given(unicode_text, unicode_text, unicode_text.filter(bool))
def test_user_password_and_database_are_percent_decoded(user: str, password: str, database: str) -> None:
    user, password, database = (part.replace("\0", "") for part in (user, password, database))
    text = "postgresql://{}:{}@host/{}".format(*(quote(part, safe="") for part in (user, password, database)))
    address = parse(text)[0]
    assert (address.user or "", address.password, address.database or "") == (user, password, database)


OPTIONS = ("sessions_table", "messages_table", "pool_size", "ssl", "password", "default_limit", "retry_delay", "x")


@cases
@given(st.dictionaries(st.sampled_from(OPTIONS), anything | any_text, min_size=1, max_size=3))
def test_any_option_is_taken_or_refused(options: Any) -> None:
    with contextlib.suppress(sessions.SessionsError):
        sessions.connect("sqlite::memory:", **options).close()


@stored_cases
@given(st.text(every, max_size=8))
def test_any_table_name_is_used_as_it_is_or_refused(name: str) -> None:
    with contextlib.suppress(sessions.SessionsError), sessions.connect("sqlite::memory:", messages_table=name) as used:
        used.session("chat").add_items([{"a": 1}])
        assert used.session("chat").get_items() == [{"a": 1}]


# --- items, ids, rows


@cases
@given(st.dictionaries(any_text, anything | items_of(any_text), max_size=3) | anything)
def test_any_item_comes_back_as_json_has_it_or_is_refused(item: Any) -> None:
    with sessions.InMemorySession("chat_1") as session:
        try:
            session.add_items([item])
        except sessions.InvalidItemError:
            assert session.get_items() == []
        else:
            assert exactly(session.get_items()) == exactly([by_json(item)])


@pytest.fixture(params=[True, False], ids=["ascii", "readable"])
def form(request: pytest.FixtureRequest, url: str) -> Iterator[tuple[sessions.Backend, bool]]:
    """A backend, and whether what it stores is ASCII."""
    with sessions.connect(url, ensure_ascii=request.param) as backend:
        yield backend, request.param


@pytest.mark.usefixtures("reader")
@stored_cases
@given(data=st.data())
def test_items_come_back_as_json_gives_them(form: tuple[sessions.Backend, bool], data: Any) -> None:
    backend, ensure_ascii = form
    batch = data.draw(st.lists(items_of(any_text if ensure_ascii else unicode_text), max_size=4))
    backend.session("chat_1").replace_items(batch)
    assert exactly(backend.session("chat_1").get_items()) == exactly([by_json(item) for item in batch])


@stored_cases
@given(st.lists(ids, min_size=2, max_size=4, unique=True))
def test_no_two_ids_share_a_history(backend: sessions.Backend, names: list[str]) -> None:
    for number, name in enumerate(names):
        backend.session(name).replace_items([{"n": number}])
    for number, name in enumerate(names):
        assert backend.session(name).get_items() == [{"n": number}]


near_json = st.text('{}[]",:0123456789.eE+-truefalsn \\u', max_size=40)
constants = st.sampled_from(["[1]", "null", "NaN", '{"a": NaN}', '{"a": -Infinity}'])
objects = st.builds(lambda text: json.dumps({"a": text}), unicode_text)


@pytest.mark.usefixtures("reader")
@cases
@given(near_json | objects | constants | any_text | st.binary() | st.none() | st.integers() | st.floats())
def test_anything_found_in_a_row_is_an_item_or_corrupt(found: Any) -> None:
    # As text: NaN does not equal itself.
    assert exactly(decode_item(found)) == exactly(_object(found) if isinstance(found, (str, bytes)) else None)


@stored_cases
@given(st.lists(objects | near_json | unicode_text | constants, max_size=4))
def test_any_row_is_an_item_or_skipped(sql_url: str, unused_id: Any, rows: list[str]) -> None:
    rows = [row.replace("\0", "") for row in rows]
    with sessions.Session.from_url(unused_id(), sql_url) as session:
        session.add_items([{"first": True}])
        plant(sql_url, session.session_id, *rows)
        expected = [item for item in ({"first": True}, *map(_object, rows)) if item is not None]
        assert exactly(session.get_items()) == exactly(expected)
        assert exactly(session.get_items(3)) == exactly(expected[-3:])
        while (popped := session.pop_item()) is not None:
            assert exactly(popped) == exactly(expected.pop())
        assert expected == []


def _object(row: str | bytes) -> dict[str, Any] | None:
    """By the module's own reader, at its most tolerant."""
    try:
        item = json.loads(row.removeprefix("\ufeff") if isinstance(row, str) else row, strict=False)
    except (ValueError, RecursionError):
        return None
    return item if isinstance(item, dict) else None


# --- operations, against a model of plain lists

small_batches = st.lists(st.fixed_dictionaries({"n": st.integers(0, 99)}), max_size=4)
operations = st.one_of(
    *(st.tuples(st.just(name), small_batches) for name in ("add", "add with a bad item", "replace")),
    st.tuples(st.just("get"), st.none() | st.integers(0, 6) | st.just(2147483647)),
    *(st.tuples(st.just(name), st.none()) for name in ("pop", "clear", "new handle")),
)


@stored_cases
@given(st.lists(st.tuples(st.integers(0, 1), operations), max_size=25))
def test_any_sequence_of_operations_does_what_lists_do(
    backend: sessions.Backend, unused_id: Any, steps: list[Any]
) -> None:
    names = [unused_id(), unused_id()]
    handles = [backend.session(name) for name in names]
    model: list[list[Any]] = [[], []]
    for which, (name, argument) in steps:
        session, history = handles[which], model[which]
        if name == "add":
            session.add_items(argument)
            history.extend(argument)
        elif name == "add with a bad item":
            with pytest.raises(sessions.InvalidItemError):
                session.add_items([*argument, {"n": float("nan")}])
        elif name == "replace":
            session.replace_items(argument)
            history[:] = argument
        elif name == "get":
            newest = history if argument is None else history[max(0, len(history) - argument) :]
            assert session.get_items(limit=argument) == newest
        elif name == "pop":
            assert session.pop_item() == (history.pop() if history else None)
        elif name == "clear":
            session.clear_session()
            history.clear()
        else:
            handles[which] = backend.session(names[which])
    assert [session.get_items() for session in handles] == model
