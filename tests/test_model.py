"""Properties: any items, any ids and any sequence of operations, against a model of plain lists."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sessions

# Few examples, since each costs a conversation on a server; together with a seed they are enough
# for a run of all night: pytest --hypothesis-seed=random with a larger profile.
FEW = settings(max_examples=40)

any_text = st.text(st.characters(exclude_categories=()), max_size=20)  # surrogates and NUL included
unicode_text = st.text(st.characters(codec="utf-8"), max_size=20)


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


ids = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=255)

numbers = itertools.count()


@pytest.fixture
def unused_id() -> Any:
    return lambda: f"example_{next(numbers)}"


def by_json(item: Any) -> Any:
    return json.loads(json.dumps(item))


def exactly(history: Any) -> str:
    """A text that tells 1, 1.0 and True apart, and one key order from another."""
    return repr(history)


@FEW
@given(st.lists(items_of(any_text), max_size=4))
def test_items_come_back_as_json_gives_them(backend: sessions.Backend, unused_id: Any, batch: list[Any]) -> None:
    session = backend.session(unused_id())
    session.add_items(batch)
    assert exactly(session.get_items()) == exactly([by_json(item) for item in batch])


@FEW
@given(batch=st.lists(items_of(unicode_text), max_size=4))
def test_items_come_back_from_readable_storage_too(url: str, unused_id: Any, batch: list[Any]) -> None:
    with sessions.Session.from_url(unused_id(), url, ensure_ascii=False) as session:
        session.add_items(batch)
        assert exactly(session.get_items()) == exactly([by_json(item) for item in batch])
        session.clear_session()


@FEW
@given(st.lists(ids, min_size=2, max_size=4, unique=True))
def test_no_two_ids_share_a_history(backend: sessions.Backend, names: list[str]) -> None:
    for name in names:
        backend.session(name).clear_session()
    for number, name in enumerate(names):
        backend.session(name).add_items([{"n": number}])
    for number, name in enumerate(names):
        assert backend.session(name).get_items() == [{"n": number}]


small_batches = st.lists(st.fixed_dictionaries({"n": st.integers(0, 99)}), max_size=4)
operations = st.one_of(
    st.tuples(st.just("add"), small_batches),
    st.tuples(st.just("add with a bad item"), small_batches),
    st.tuples(st.just("get"), st.none() | st.integers(0, 6) | st.just(2147483647)),
    st.tuples(st.just("pop"), st.none()),
    st.tuples(st.just("clear"), st.none()),
    st.tuples(st.just("new handle"), st.none()),
)


@FEW
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
