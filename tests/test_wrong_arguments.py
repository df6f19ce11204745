"""A plausible thing in the wrong place is refused where it is given, with the words to write instead."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import sessions
from sessions.openai_agents import AgentsSession
from support.claims import SECRET, refused
from support.samples import items, texts

URL = f"postgresql://app:{SECRET}@host/chat"


@pytest.fixture
def things() -> Iterator[dict[str, Any]]:
    """What somebody may take for a backend, a session, a URL or an id."""
    with sessions.connect("memory:") as backend:
        connection = sqlite3.connect(":memory:")
        yield {
            "a URL": URL,
            "a path": Path("chat.db"),
            "None": None,
            "a number": 5,
            "bytes": b"chat",
            "a backend": backend,
            "a backend's class": sessions.SQLiteBackend,
            "a session": backend.session("chat_1"),
            "a session's class": sessions.Session,
            "a connection": connection,
        }
        connection.close()


WRONG: list[tuple[str, Callable[[Any], Any], str, str]] = [
    *(
        ("Session", lambda thing: sessions.Session("chat_1", thing), thing, "sessions.Session.from_url")
        for thing in ("a URL", "a path", "None", "a backend", "a backend's class", "a session", "a connection")
    ),
    *(
        ("Backend", sessions.Backend, thing, "sessions.connect")
        for thing in ("a URL", "a path", "None", "a backend", "a session", "a connection")
    ),
    ("SQLiteBackend", sessions.SQLiteBackend, "a path", "sessions.connect"),
    *(
        ("AgentsSession", AgentsSession, thing, "from_url")
        for thing in ("a URL", "None", "a backend", "a session's class", "a connection")
    ),
    *(
        ("session()", lambda thing: sessions.connect("memory:").session(thing), thing, "pass a str")
        for thing in ("None", "a number", "bytes", "a session", "a path")
    ),
    *(
        ("InMemorySession", sessions.InMemorySession, thing, "pass a str")
        for thing in ("None", "a number", "bytes", "a backend")
    ),
    *(
        ("from_url", lambda thing: sessions.Session.from_url(thing, "memory:"), thing, "pass a str")
        for thing in ("None", "bytes", "a session")
    ),
    ("InMemorySession.from_url", lambda url: sessions.InMemorySession.from_url("chat_1", url), "a URL", "Session"),
]


@pytest.mark.parametrize(("take", "thing", "words"), [w[1:] for w in WRONG], ids=[f"{w[0]}: {w[2]}" for w in WRONG])
def test_a_wrong_thing_is_a_type_error_at_once(
    things: dict[str, Any], take: Callable[[Any], Any], thing: str, words: str
) -> None:
    with refused(TypeError, match=words):
        take(things[thing])


@pytest.mark.parametrize("thing", ["a path", "a backend", "a backend's class", "a session", "a connection"])
def test_what_is_no_url_is_answered_with_the_place_where_it_belongs(things: dict[str, Any], thing: str) -> None:
    for take in (sessions.connect, lambda url: AgentsSession.from_url("chat_1", url)):
        with refused(sessions.InvalidURLError, match=r"sqlite:chat\.db.*sessions\.bind"):
            take(things[thing])


@pytest.mark.parametrize("thing", ["a URL", "a path", "None", "a backend", "a backend's class", "a session"])
def test_what_is_no_connection_or_pool_is_a_configuration_error(things: dict[str, Any], thing: str) -> None:
    for take in (sessions.bind, lambda it: sessions.connect(pool=it or 0)):
        with refused(sessions.ConfigurationError, match="; pass a"):
            take(things[thing])


@pytest.mark.parametrize("on_existing", ["fail", "append", "replace"])
def test_items_in_the_place_of_records_change_nothing(things: dict[str, Any], on_existing: str) -> None:
    backend = things["a backend"]
    backend.session("chat_1").add_items(items("a"))
    wrong: Any = items("b")
    with refused(TypeError, match="a record is a dict"):
        backend.load("chat_1", wrong, on_existing=on_existing)
    assert texts(backend.session("chat_1").get_items()) == ["a"]


def test_the_seal_of_one_session_is_not_taken_for_those_of_all(things: dict[str, Any]) -> None:
    wrong: Any = "1.2.3"
    with refused(TypeError, match="since is a str"):
        things["a backend"].verify(since=wrong)


def test_a_class_is_no_hook() -> None:
    wrong: Any = sessions.InMemorySession
    with refused(sessions.ConfigurationError, match="on_operation"):
        sessions.connect("memory:", on_operation=wrong)


@pytest.mark.parametrize("wrong", [20, "20", ["limit"], True], ids=repr)
def test_session_settings_that_are_none_are_refused_at_once(wrong: Any) -> None:
    session = sessions.InMemorySession("chat_1")
    with refused(TypeError, match="session_settings"):
        AgentsSession(session, session_settings=wrong)
    adapter = AgentsSession(session)
    with refused(TypeError, match="session_settings"):
        adapter.session_settings = wrong


def test_session_settings_may_be_any_mapping() -> None:
    settings: Any = MappingProxyType({"limit": 5})
    adapter = AgentsSession(sessions.InMemorySession("chat_1"), session_settings=settings)
    assert adapter.session_settings is not None
    assert adapter.session_settings.limit == 5


# --- white space around a URL


@pytest.mark.parametrize("space", ["\n", "\r\n", " ", "\t", "\u00a0", "\x1c"], ids=ascii)
@pytest.mark.parametrize("url", ["sqlite:chat.db", "sqlite::memory:", "memory:", URL, "mysql://app@host/chat"])
def test_white_space_at_the_ends_of_a_url_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, space: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for given in (url + space, space + url):
        with refused(sessions.InvalidURLError, match="strip"), sessions.Session.from_url("chat_1", given) as session:
            session.add_items(items("a"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("character", ["\u200b", "\ufeff", "\x7f", "\u2060"], ids=ascii)
def test_what_nobody_sees_at_the_ends_of_a_url_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for given in (f"sqlite:chat.db{character}", f"{character}sqlite:chat.db"):
        with refused(sessions.InvalidURLError, match="invisible"):
            sessions.Session.from_url("chat_1", given)
    assert list(tmp_path.iterdir()) == []


def test_a_database_in_memory_without_its_second_colon_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with refused(sessions.InvalidURLError, match="sqlite::memory:"):
        sessions.Session.from_url("chat_1", "sqlite:memory:")


def test_white_space_inside_a_url_belongs_to_it(tmp_path: Path) -> None:
    for name in ("two words.db", "line end.db%0A"):
        with sessions.Session.from_url("chat_1", f"sqlite:///{tmp_path}/{name}") as session:
            session.add_items(items("a"))
            assert texts(session.get_items()) == ["a"]
    assert {path.name for path in tmp_path.iterdir()} == {"two words.db", "line end.db\n"}


# --- names that are no file's


@pytest.mark.parametrize(
    "url",
    [
        *("sqlite:file:chat.db", "sqlite:///file:chat.db", "sqlite::memory", "sqlite::MEMORY:", "sqlite:///:temp:"),
        *("sqlite:chat.db/", "sqlite:////tmp/"),
    ],
)
def test_a_name_that_means_something_else_elsewhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with refused(sessions.InvalidURLError), sessions.Session.from_url("chat_1", url) as session:
        session.add_items(items("a"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_such_a_name_can_be_reached_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("file:chat.db", ":memory"):
        with sessions.Session.from_url("chat_1", f"sqlite:./{name}") as session:
            session.add_items(items("a"))
        assert (tmp_path / name).is_file()
