"""Clause 7: session ids are compared exactly, and checked before any SQL."""

from typing import Any

import pytest

import sessions
from support.claims import refused
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
