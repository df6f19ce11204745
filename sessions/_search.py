"""Find the records that contain a text, in all conversations, in the order of their making.

JSON writes a character in more ways than one: the database leaves out what cannot contain
the text, and what is left is decoded and looked at here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ._items import BEFORE_ALL, Record, make_record
from ._listing import can_be_asked_for, tell_left_out
from ._plain import flag, plain
from ._stores.store import Store

# How many rows are looked at with one statement.
_ROWS = 1000

# What every writer of JSON leaves as it is, or writes as `\u00..`.
_LITERAL = re.compile(r"[0-9A-Za-z]+")


# What the APIs call an item and the parts of what it says, and where these parts are.
_PROTOCOL = ("type", "role", "status")
_PARTS = ("content", "summary")


class Match(NamedTuple):
    """A record that contains what was looked for, and whose it is."""

    session_id: str
    record: Record


def search(store: Store, text: str, *, prefix: str | None, ignore_case: bool) -> Iterator[Match]:
    """Check what is looked for, and look for it as it is asked for."""
    if not isinstance(text, str):
        raise TypeError(f"text is a {type(text).__name__}; pass a str")
    if not text:
        raise ValueError("text is empty; pass what the records contain")
    if prefix is not None and not isinstance(prefix, str):
        raise TypeError(f"prefix is a {type(prefix).__name__}; pass a str")
    return _search(store, plain(text), plain(prefix or ""), ignore_case=flag("ignore_case", ignore_case))


def _search(store: Store, text: str, prefix: str, *, ignore_case: bool) -> Iterator[Match]:
    if not can_be_asked_for(prefix):
        return  # no id begins so
    # The empty text is in every row.
    literal = "" if ignore_case else max(_LITERAL.findall(text), key=len, default="")
    after = BEFORE_ALL
    while rows := store.search(literal, after=after, prefix=prefix, count=_ROWS):
        for session_id, row_id, created_at, stored in rows:
            if stored is None:
                continue
            record = make_record((row_id, created_at, stored))
            if not any(True for _ in texts_with(record, text, ignore_case=ignore_case)):
                continue
            if can_be_asked_for(session_id):
                yield Match(session_id, record)
            else:
                tell_left_out([session_id])
        after = rows[-1][1]


def texts_with(record: Record, wanted: str, *, ignore_case: bool) -> Iterator[str]:
    """Those texts of a record that contain one."""
    if ignore_case:
        wanted = wanted.casefold()
    return (text for text in _texts_of(record) if wanted in (text.casefold() if ignore_case else text))


def _texts_of(record: Record) -> Iterator[str]:
    """Every text in an item, in order; the stored text itself where there is no item.

    Without keys, and without what the APIs call the item and its parts (type, role, status).
    """
    if record.item is None:
        yield record.text
        return
    for key, value in record.item.items():
        if key not in _PROTOCOL:
            yield from _texts(value, within=key)


def _texts(value: Any, *, within: str = "") -> Iterator[str]:
    found: list[tuple[Any, str]] = [(value, within)]
    while found:
        value, within = found.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            # Of a part of a message; in a tool's arguments the same name may be anything.
            hidden = _PROTOCOL if within in _PARTS else ()
            found.extend((inner, "") for key, inner in reversed(value.items()) if key not in hidden)
        elif isinstance(value, list):
            found.extend((inner, within) for inner in reversed(value))
