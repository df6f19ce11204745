"""Clauses 19 and 20: processes that are given other keys one after the other."""

from itertools import pairwise
from typing import Any

import pytest

import sessions
from sessions import DecryptionError, SealBrokenError
from support.claims import each_mysql, refused
from support.samples import items
from support.servers import execute_sql

KEY = "a key of many random characters, the first"
OTHER = "a key of many random characters, the second"

each_option = pytest.mark.parametrize("option", ["encryption_key", "integrity_key"])


def keys(option: str, given: str | list[str]) -> dict[str, Any]:
    return {option: given}


@each_option
def test_processes_that_change_keys_in_the_order_of_the_readme_read_each_other(sql_url: str, option: str) -> None:
    turns: list[list[str]] = [[KEY], [KEY, OTHER], [OTHER, KEY]]
    for before, after in pairwise(turns):
        # Of a restart in turns: one process has its new keys, and the other not yet.
        with (
            sessions.connect(sql_url, **keys(option, before)) as late,
            sessions.connect(sql_url, **keys(option, after)) as early,
        ):
            for writer, reader in ((late, early), (early, late)):
                writer.session("chat_1").add_items(items("a"))
                assert reader.session("chat_1").get_items() == writer.session("chat_1").get_items()
    with sessions.connect(sql_url, **keys(option, turns[-1])) as backend:
        backend.rekey()
        expected = backend.session("chat_1").get_items()
    with sessions.connect(sql_url, **keys(option, OTHER)) as backend:
        assert backend.session("chat_1").get_items() == expected


@each_option
def test_who_has_not_yet_the_key_of_another_process_is_told_of_it(sql_url: str, option: str) -> None:
    with (
        sessions.connect(sql_url, **keys(option, KEY)) as late,
        sessions.connect(sql_url, **keys(option, [OTHER, KEY])) as early,
    ):
        late.session("chat_1").add_items(items("a"))
        early.session("chat_1").add_items(items("b"))
        with pytest.raises((DecryptionError, SealBrokenError), match="another process may have a newer one"):
            late.session("chat_1").get_items()


# What cannot be brought under a key: in a column of 64 KB, and as UTF-8.
_TOO_LONG = {"role": "user", "content": "x" * 50_000}
_UNENCODABLE = "CAST(x'7b2261223a22eda0bd227d' AS TEXT)"  # {"a":"\ud83d"}


@each_mysql
def test_a_conversation_that_cannot_be_encrypted_keeps_no_other_from_it(server_url: str) -> None:
    with sessions.connect(server_url) as backend:
        for name in ("a", "m", "z"):
            backend.session(name).add_items([_TOO_LONG] if name == "m" else items(name))
    execute_sql(server_url, "ALTER TABLE agent_messages MODIFY message_data TEXT NOT NULL")
    with sessions.connect(server_url, encryption_key=KEY) as backend:
        with refused(sessions.DatabaseError, match="session 'm': .*LONGTEXT"):
            backend.rekey(adopt=True)
        assert [backend.session(name).get_items() for name in ("a", "z")] == [items("a"), items("z")]
    with sessions.connect(server_url) as backend:
        assert backend.session("m").get_items() == [_TOO_LONG]


@each_option
def test_a_text_that_is_no_unicode_is_named_and_keeps_no_other_from_a_key(sqlite_url: str, option: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        for name in ("a", "m", "z"):
            backend.session(name).add_items(items(name))
    execute_sql(sqlite_url, f"UPDATE agent_messages SET message_data = {_UNENCODABLE} WHERE session_id = 'm'")
    with sessions.connect(sqlite_url, **keys(option, KEY)) as backend:
        with refused(sessions.SessionsError, match="session 'm'.*lone surrogate"):
            backend.rekey(adopt=True)
        assert [backend.session(name).get_items() for name in ("a", "z")] == [items("a"), items("z")]
