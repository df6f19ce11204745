"""Claims about what is stored: ids and items come back exactly as they were given."""

from __future__ import annotations

import json
from typing import Any

from sessions.errors import SessionsError

from .place import Outcome, Place, refuted

_IDS = (
    "Chat",
    "chat",
    "chat ",
    "chat  ",
    " chat",
    "chat\t",
    "chàt",
    "cha\u0300t",  # the same in two characters
    "ch\u00e5t",
    "\uff43\uff48\uff41\uff54",  # the same in full width
    "chat\u200b",
    "straße",
    "strasse",
    "\U0001f600",
    "\U0001f601",
    "%",
    "_",
    "c\\hat",
    "'; -- ",
    "i" * 255,
    "i" * 254 + "I",
)
_KIND = "ids that differ in case, accents, blanks or form"

# What each item shows, and a value that something on the way could change.
_VALUES: dict[str, Any] = {
    "an integer beyond a float's": 2**53 + 1,
    "an integer beyond 64 bits": -(10**40),
    "small and large floats": [0.1, 1e-308, 1.7976931348623157e308, -0.0, 1.0],
    "true, one and one point nought": [True, 1, 1.0, None, False, 0],
    "an emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "escapes": "\\ \" ' ` % %s %(x)s {0} \\n \\u0041 \x00 \x1a \x7f \r\n\t",
    "two forms of a letter": "\u00e9 e\u0301",
    "trailing blanks": "a  \n ",
    "keys in their order": {"b": 1, "a": 2, "": 3, "B": {"é": []}},
    "a depth of 200": json.loads("[" * 200 + "]" * 200),
    "a megabyte": "0123456789abcdef" * 65_536,
}

# Below what every supported server takes by default, and above what a proxy may.
_LARGE = 5 * 1024 * 1024
# Mostly letters: each of the others takes several bytes on the way.
_UNIT = "é'\\\n" + "x" * 96


def exact_ids(place: Place) -> str:
    """Each id is a conversation of its own."""
    for session_id in _IDS:
        place.session(session_id).add_items([{"id": session_id}])
    remedy = "give both session_id columns the collation of `agent-sessions schema`"
    for number, session_id in enumerate(_IDS):
        found = place.session(session_id, number).get_items()
        if found != [{"id": session_id}]:
            others = [item.get("id") for item in found]
            raise refuted(f"{_KIND} are one conversation: {session_id[:20]!r} holds what was added to {others}", remedy)
    listed = {info.session_id for info in place.backend.list_sessions(limit=1000)}
    if missing := [session_id for session_id in _IDS if session_id not in listed]:
        raise refuted(f"the listing lacks {missing[0][:20]!r}, or writes it otherwise", remedy)
    for session_id in _IDS:
        place.session(session_id).clear_session()
    return f"{len(_IDS)} {_KIND} are as many conversations"


def exact_items(place: Place) -> str:
    """What comes back equals what a JSON round trip of the input gives."""
    values = dict(_VALUES)
    if place.settings.options.ensure_ascii:
        values["a lone surrogate"] = "\ud800"
    items = [{"role": "user", "what": what, "value": value} for what, value in values.items()]
    place.session("exact items").add_items(items)
    found = place.session("exact items", 1).get_items()
    remedy = "make message_data the text of `agent-sessions schema`, and look for what rewrites rows on the way"
    if len(found) != len(items):
        raise refuted(f"{len(items)} items were added, and {len(found)} are there", remedy)
    for given, got in zip(items, found, strict=True):
        if json.dumps(given) != json.dumps(got):
            raise refuted(f"an item came back as another one: {given['what']}", remedy)
    place.session("exact items").clear_session()
    return f"{len(items)} items, of numbers, escapes, forms and 1 MB, came back as they were"


def large_items(place: Place) -> str:
    """A text of several megabytes is stored, or refused with nothing written."""
    session = place.session("large items")
    for what, items in (
        ("one item of 5 MB", [{"text": _UNIT * (_LARGE // len(_UNIT))}]),
        ("a batch of 8 items of 1 MB", [{"number": number, "text": "x" * (_LARGE // 5)} for number in range(8)]),
    ):
        try:
            session.add_items(items)
        except SessionsError as exc:
            found = place.session("large items", 1).get_items()
            if found not in ([], items):
                raise refuted(f"of {what} a part was written: {exc}", "tell us, with this output") from exc
            said, _, remedy = str(exc).rpartition("; ")
            raise Outcome("warning", f"{what} is refused, and nothing of it was written: {said}", remedy) from exc
        if place.session("large items", 1).get_items() != items:
            raise refuted(f"{what} came back as something else", "look for a proxy that cuts texts")
        session.clear_session()
    return "one item of 5 MB and a batch of 8 MB came back as they were"


def cleared(place: Place) -> str:
    """clear_session() removes everything, and replace_items() all but what it was given."""
    session, other = place.session("cleared"), place.session("cleared", 1)
    session.add_items([{"number": number} for number in range(5)])
    session.replace_items([{"number": 5}])
    if (found := other.get_items()) != [{"number": 5}]:
        raise refuted(f"replace_items() left {len(found)} items in place of 1", "look for a trigger or a rule")
    session.clear_session()
    if (found := other.get_items()) or place.backend.list_sessions(prefix="cleared"):
        raise refuted(f"clear_session() left {len(found)} items", "look for a trigger, a rule or reads of a replica")
    session.add_items([{"number": 6}])
    if other.get_items() != [{"number": 6}]:
        raise refuted("a conversation that was cleared cannot be begun anew", "look for a trigger or a rule")
    session.clear_session()
    return "replace_items() and clear_session() leave nothing of what was there"
