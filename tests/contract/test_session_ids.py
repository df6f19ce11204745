"""Clause 7: session ids are compared exactly, and checked before any SQL."""

from collections.abc import Callable
from typing import Any

import pytest

import sessions
from support.samples import items, stored_sessions, texts

# Each differs from another by what some collation, padding or normalisation would not see.
IDS = [
    "Chat", "chat", "chat ", " chat", "chàt", "cha\u0300t", "CHAT", "chat\t", "chat\n", "chat\u200b",
    "chat\u00a0", "\uff43hat", "ﬁ", "fi", "ß", "ss", "ẞ", "\u0131", "i", "İ", "I", "👋", "👋🏽", "😀", "🙂",
    "'", '"', "`", "\\", "\\'", "%", "%s", "%(session_id)s", "%%", "_", "?", ":session_id", "$1", "--", ";",
    "*", "{}", "0", "00", "0.0", "1e0", "1", "null", "NULL", "None", " ", "  ", "\t", "\n", "\r\n",
    "\x01", "\x7f", "\ufeff", "\uffff", "\U0010ffff", "../chat", "/", "'; DROP TABLE agent_messages; --",
    "a" * 254, "a" * 255, "b" * 255, "👋" * 255, "ü" * 255, " " * 255,
]  # fmt: skip


def make_from_backend(url: str, session_id: Any) -> sessions.Session:
    with sessions.connect(url) as backend:
        return backend.session(session_id)


def make_from_url(url: str, session_id: Any) -> sessions.Session:
    return sessions.Session.from_url(session_id, url)


def make_in_memory(url: str, session_id: Any) -> sessions.Session:
    return sessions.InMemorySession(session_id)


def test_the_ids_of_the_table_are_all_different() -> None:
    assert len(IDS) == len(set(IDS))


def test_every_id_is_a_session_of_its_own(backend: sessions.Backend) -> None:
    for number, session_id in enumerate(IDS):
        assert backend.session(session_id).get_items() == []
        backend.session(session_id).add_items([{"n": number}])
    for number, session_id in enumerate(IDS):
        assert backend.session(session_id).get_items() == [{"n": number}]
    for number, session_id in enumerate(IDS):
        assert backend.session(session_id).pop_item() == {"n": number}


def test_clearing_one_id_leaves_its_lookalikes(backend: sessions.Backend) -> None:
    lookalikes = ["Chat", "chat", "chat ", "chàt", "cha\u0300t"]
    for session_id in lookalikes:
        backend.session(session_id).add_items(items(session_id))
    backend.session("chat").clear_session()
    assert [texts(backend.session(name).get_items()) for name in lookalikes] == [
        ["Chat"], [], ["chat "], ["chàt"], ["cha\u0300t"],
    ]  # fmt: skip


def test_ids_are_stored_as_they_are(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        for session_id in IDS:
            backend.session(session_id).add_items(items("a"))
    assert set(stored_sessions(sql_url)) == set(IDS)


def test_a_session_tells_its_id(backend: sessions.Backend) -> None:
    assert backend.session("chàt ").session_id == "chàt "


@pytest.mark.parametrize(
    "make", [make_from_backend, make_from_url, make_in_memory], ids=["session", "from_url", "memory"]
)
@pytest.mark.parametrize(
    ("bad", "error"),
    [
        pytest.param("", ValueError, id="empty"),
        pytest.param("a" * 256, ValueError, id="256-characters"),
        pytest.param("👋" * 256, ValueError, id="256-emoji"),
        pytest.param("a" * 250 + " " * 10, ValueError, id="spaces-beyond-255"),
        pytest.param("a\0b", ValueError, id="NUL"),
        pytest.param("\ud800", ValueError, id="lone-surrogate"),
        pytest.param(5, (TypeError, ValueError), id="int"),
        pytest.param(None, (TypeError, ValueError), id="None"),
        pytest.param(b"chat", (TypeError, ValueError), id="bytes"),
        pytest.param(["chat"], (TypeError, ValueError), id="list"),
    ],
)
def test_a_bad_id_is_refused_before_any_sql(
    make: Callable[[str, Any], sessions.Session], bad: Any, error: type[Exception]
) -> None:
    # Nobody listens at this address: SQL would give another error, and later.
    with pytest.raises(error) as caught:
        make("postgresql://app@127.0.0.1:1/chat", bad)
    assert not isinstance(caught.value, sessions.ConnectionFailedError)
