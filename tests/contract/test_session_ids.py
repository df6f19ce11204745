"""Clause 7: session ids are compared exactly, and checked before any SQL."""

from contextlib import closing
from typing import Any

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
