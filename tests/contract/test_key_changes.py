"""Clauses 19 and 20: processes that are given other keys one after the other."""

from itertools import pairwise
from typing import Any

import pytest

import sessions
from sessions import DecryptionError, SealBrokenError
from support.samples import items

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
