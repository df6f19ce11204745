"""Clause 7: session ids are compared exactly, and checked before any SQL."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from enum import Enum, IntEnum
from typing import Any
from urllib.parse import unquote

import pytest

import sessions
from support.claims import refused
from support.samples import items, stored_sessions, texts
from support.servers import connect_raw, dialect_of, execute_sql

# Each differs from another by what some collation, padding or normalisation would not see.
IDS = [
    "Chat", "chat", "chat ", " chat", "chàt", "cha\u0300t", "CHAT", "chat\t", "chat\n", "chat\u200b",
    "chat\u00a0", "\uff43hat", "ﬁ", "fi", "ß", "ss", "ẞ", "\u0131", "i", "İ", "I", "👋", "👋🏽", "😀", "🙂",
    "'", '"', "`", "\\", "\\'", "%", "%s", "%(session_id)s", "%%", "_", "?", ":session_id", "$1", "--", ";",
    "*", "{}", "0", "00", "0.0", "1e0", "1", "null", "NULL", "None", " ", "  ", "\t", "\n", "\r\n",
    "\x01", "\x7f", "\ufeff", "\uffff", "\U0010ffff", "../chat", "/", "'; DROP TABLE agent_messages; --",
    "a" * 254, "a" * 255, "b" * 255, "👋" * 255, "ü" * 255, " " * 255,
]  # fmt: skip


BAD_IDS = {
    "empty": "",
    "256-characters": "a" * 256,
    "256-emoji": "👋" * 256,
    "spaces-beyond-255": "a" * 250 + " " * 10,
    "NUL": "a\0b",
    "lone-surrogate": "\ud800",
    "surrogate-inside": "a\udc80",
    "int": 5,
    "float": 1.5,
    "bool": True,
    "None": None,
    "bytes": b"chat",
    "list": ["chat"],
    "tuple": ("chat",),
}


def test_every_id_is_a_session_of_its_own(backend: sessions.Backend, url: str) -> None:
    assert len(IDS) == len(set(IDS))
    for number, session_id in enumerate(IDS):
        assert backend.session(session_id).get_items() == []
        backend.session(session_id).add_items([{"n": number}])
    if "memory" not in url:
        assert set(stored_sessions(url)) == set(IDS)
    for number, session_id in enumerate(IDS):
        assert backend.session(session_id).get_items() == [{"n": number}]
        assert backend.session(session_id).pop_item() == {"n": number}


def test_clearing_one_id_leaves_its_lookalikes(backend: sessions.Backend) -> None:
    lookalikes = ["Chat", "chat", "chat ", "chàt", "cha\u0300t"]
    for session_id in lookalikes:
        backend.session(session_id).add_items(items(session_id))
    backend.session("chat").clear_session()
    assert [texts(backend.session(name).get_items()) for name in lookalikes] == [
        ["Chat"], [], ["chat "], ["chàt"], ["cha\u0300t"],
    ]  # fmt: skip


@pytest.mark.parametrize("bound", [False, True], ids=["own", "bound"])
def test_an_id_that_a_narrow_column_would_cut_is_no_other(server_url: str, bound: bool) -> None:
    # Blanks beyond its width are cut without an error, as the SQL standard has it.
    name, whole = "VARCHAR(10)", "a" * 10
    if dialect_of(server_url) != "postgresql":
        name += " CHARACTER SET utf8mb4 COLLATE /*!80017 utf8mb4_0900_bin */ /*M!100203 utf8mb4_nopad_bin */"
    time, number = "TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP", "BIGINT AUTO_INCREMENT"
    number = "BIGSERIAL" if dialect_of(server_url) == "postgresql" else number
    for table in (
        f"agent_sessions (session_id {name} PRIMARY KEY, created_at {time}, updated_at {time})",
        f"agent_messages (id {number} PRIMARY KEY, session_id {name} NOT NULL, message_data TEXT, created_at {time})",
    ):
        execute_sql(server_url, f"CREATE TABLE {table}")
    with sessions.connect(server_url) as own, closing(connect_raw(server_url)) as connection:
        backend = sessions.bind(connection) if bound else own
        own.session(whole).add_items(items("a"))
        own.session("bb ").add_items(items("b"))
        for cut in (f"{whole} ", f"{whole}x", f"{whole}     x"):
            session: Any = backend.session(cut)
            for write in (
                lambda session=session: session.add_items(items("x")),
                lambda session=session: session.add_items(items("x"), if_position=0),
                lambda session=session: session.replace_items(items("x")),
                lambda session=session: session.replace_items([]),
                lambda cut=cut: backend.session(whole).fork(cut),
                lambda cut=cut: backend.load(cut, []),
            ):
                with refused(sessions.DatabaseError, match="widen|wide enough"):
                    write()
            assert (session.get_items(), session.pop_item()) == ([], None)
            session.clear_session()
            assert backend.delete_sessions([cut]) == 0
        assert texts(own.session(whole).get_items()) == ["a"]
        assert texts(own.session("bb ").get_items()) == ["b"]
        assert stored_sessions(server_url) == [whole, "bb "]


def test_a_session_tells_its_id(backend: sessions.Backend) -> None:
    assert backend.session("chàt ").session_id == "chàt "


@pytest.mark.parametrize("bad", BAD_IDS.values(), ids=BAD_IDS)
def test_a_bad_id_is_refused_before_any_sql(bad: Any) -> None:
    # Nobody listens at this address: SQL would give another error, and later.
    url = "postgresql://app@127.0.0.1:1/chat"
    with sessions.connect(url) as backend:
        for make in (backend.session, lambda bad: sessions.Session.from_url(bad, url), sessions.InMemorySession):
            with refused(ValueError if isinstance(bad, str) else (TypeError, ValueError)):
                make(bad)


# --- what is more than a str


class Hidden(str):
    """Shows no id, compares with none, and is sent as something else to whoever asks."""

    __slots__ = ()

    def __str__(self) -> str:
        return "***"

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return "***"

    def __conform__(self, protocol: object) -> str:
        return "conformed"

    def __len__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def encode(self, *_: str) -> bytes:
        return b"encoded"

    def replace(self, *_: Any) -> str:
        return "replaced"

    def startswith(self, *_: Any) -> bool:
        return False


class Escaping(str):
    """Escapes what it is added to, as markupsafe.Markup does."""

    __slots__ = ()

    def __add__(self, other: object) -> str:
        return "&#39;"

    __radd__ = __add__

    def translate(self, *_: Any) -> str:
        return "&#39;"


class Adapted(str):
    """sqlite3 has an adapter for it."""

    __slots__ = ()


class Room(str, Enum):  # noqa: UP042  (a StrEnum shows its text)
    """Shows its name."""

    KITCHEN = "room' 1"
    HALL = "room' 2"


class Count(IntEnum):
    ONE = 1
    TWO = 2


@pytest.fixture
def adapted() -> Iterator[Callable[[str], str]]:
    sqlite3.register_adapter(Adapted, lambda _: "adapted")
    yield Adapted
    del sqlite3.adapters[Adapted, sqlite3.PrepareProtocol]


@pytest.fixture(params=["Hidden", "Escaping", "Adapted", "Room"])
def subclass(request: pytest.FixtureRequest, adapted: Callable[[str], str]) -> Callable[[str], str]:
    """What makes a text of a subclass of str."""
    kinds: dict[str, Callable[[str], str]] = {"Hidden": Hidden, "Escaping": Escaping, "Adapted": adapted, "Room": Room}
    return kinds[request.param]


def test_an_id_of_a_subclass_of_str_is_its_plain_text(
    backend: sessions.Backend, url: str, subclass: Callable[[str], str]
) -> None:
    one, two = "room' 1", "room' 2"
    session = backend.session(subclass(one))
    assert (type(session.session_id), session.session_id) == (str, one)
    session.add_items(items("a", "b"))
    backend.session(two).add_items(items("other"))
    if "memory" not in url:
        assert stored_sessions(url) == [one, two]
    assert texts(backend.session(one).get_items()) == texts(session.get_items()) == ["a", "b"]
    with session.exclusive():
        session.add_items(items("c"))
    session.pop_item()
    assert list(backend.sizes([subclass(one)])) == list(backend.first_messages([subclass(one)])) == [one]
    assert [info.session_id for info in backend.list_sessions(prefix=subclass(one))] == [one]
    assert [match.session_id for match in backend.search("a", prefix=subclass(one))] == [one]
    assert backend.stats(prefix=subclass(one)).sessions == 1
    session.clear_session()
    assert backend.session(two).fork(subclass(one)).session_id == one
    assert texts(backend.session(one).get_items()) == ["other"]
    assert backend.delete_sessions([subclass(one)]) == 1
    backend.load(subclass(one), backend.session(two).records())
    assert sorted(info.session_id for info in backend.list_sessions()) == [one, two]


def test_a_text_or_number_of_a_subclass_is_taken_for_what_it_holds(backend: sessions.Backend) -> None:
    for session_id in ("keep' 1", "other' 2"):
        backend.session(session_id).add_items(items("it's", "b"))
    session = backend.session("keep' 1")
    assert texts(session.get_items(Count.ONE)) == ["b"]
    assert [record.item for record in session.records(Count.ONE)] == items("b")
    for kind in (Hidden, Escaping):
        assert {match.session_id for match in backend.search(kind("it's"))} == {"keep' 1", "other' 2"}
        [first] = backend.list_sessions(order="id", limit=Count.ONE, count_limit=Count.ONE)
        [second] = backend.list_sessions(order="id", limit=Count.ONE, after=kind(first.cursor))
        assert (first.session_id, second.session_id) == ("keep' 1", "other' 2")
    backend.prune(timedelta(seconds=-60), keep_prefix=[Hidden("keep' 1")])
    assert [info.session_id for info in backend.list_sessions()] == ["keep' 1"]
    position = type("Position", (int,), {"__str__": lambda _: "0", "__format__": lambda *_: "0"})(session.position())
    session.add_items(items("c"), if_position=position)
    session.fork("fork", upto=position)
    assert texts(backend.session("fork").get_items()) == ["it's", "b"]
    assert session.delete_record(position)


def test_urls_options_and_passwords_of_a_subclass_are_their_plain_texts(url: str) -> None:
    tables: Any = {"sessions_table": Hidden("rooms"), "messages_table": Hidden("words")}
    options = tables if "memory" not in url else {}
    with sessions.connect(Hidden(url), **options, max_retries=Count.TWO) as backend:
        backend.session("chat_1").add_items(items("a"))
        assert texts(backend.session("chat_1").get_items()) == ["a"]
        assert "***" not in repr(backend)
    if "@" in url:
        user, _, rest = url.partition("@")
        begin, _, password = user.rpartition(":")
        given: Any
        for given in (Hidden(unquote(password)), lambda: Hidden(unquote(password))):
            with sessions.connect(f"{begin}@{rest}", password=given, create_tables=False, **options) as backend:
                assert texts(backend.session("chat_1").get_items()) == ["a"]
