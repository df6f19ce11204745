"""Write stored text so that it can do no harm: it is hostile.

What would move the cursor, change colours, forge a line or hide is written as an escape.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Callable

# Raw colour codes say nothing.
COLOUR_CODE = re.compile(r"\x1b\[[0-9;]*m")
# What Unicode calls Default_Ignorable_Code_Point (DerivedCoreProperties.txt): nothing is seen of it.
_IGNORABLE = (
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# And controls but tab and line feed, what separates lines, annotations, and halves of characters.
_UNSEEN = f"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufff9-\ufffb\ud800-\udfff{_IGNORABLE}"
# These choose how an emoji looks, and join emoji, and letters of scripts that need it.
_EMOJI = (
    "\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2934\u2935\u2b00-\u2bff\u3030\u303d\u3297\u3299"
    "\U0001f000-\U0001faff"
)
_UNSAFE = re.compile(
    f"[0-9#*]\ufe0f(?=\u20e3)|[{_EMOJI}][\ufe0e\ufe0f]\u200d?|[^\x00-\u02ff{_UNSEEN}][\u200c\u200d]|[{_UNSEEN}]"
)
_ASCII_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
# In the cell of a table, or a line of its own, these too.
_BREAKS = {"\n": "\\n", "\t": "\\t"}
_BREAK = re.compile("[\n\t]")
# In ids: what cannot be seen to be there, and what is like a blank; what is odd in ASCII.
_HIDDEN = re.compile(f"[{_UNSEEN}\u2800]")
_ODD_IN_ASCII = re.compile("^[ -]|  | $")
# As ids are written.
_ESCAPE = re.compile(r"\\(?:(\\)|([nt])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")


def harmless(text: str) -> str:
    """Write what a terminal would act on, and what would not be seen, as an escape."""
    return _escaped_by(_escaped, COLOUR_CODE.sub("", text))


def written_id(session_id: str) -> str:
    """Write an id in one line, so that no two ids look alike; id_from() reads it.

    Escaped are also backslashes, line feeds and tabs, blanks but single spaces within, a hyphen
    that would begin an option, and where a character may be written in two ways all that are not ASCII.
    """
    if session_id.isascii() and session_id.isprintable() and not _ODD_IN_ASCII.search(session_id):
        return session_id.replace("\\", "\\\\")
    is_plain = unicodedata.is_normalized("NFC", session_id)
    ends = (0, len(session_id) - 1)
    return "".join(
        character.replace("\\", "\\\\")
        if character.isprintable()
        and not _HIDDEN.match(character)
        and (is_plain or character.isascii())
        and (character != " " or (place not in ends and session_id[place - 1] != " "))
        and (character != "-" or place)
        else _BREAKS.get(character) or _escape_of(character)
        for place, character in enumerate(session_id)
    )


def id_from(written: str) -> str:
    """Read an id as written_id() writes it."""
    return _ESCAPE.sub(_unescaped, written)


def harmless_json(text: str) -> str:
    """Write the same in the escapes of JSON, which leaves JSON the same."""
    return _escaped_by(_escaped_for_json, text)


def cell(text: str) -> str:
    """Write a text in one line, and as one cell of a table."""
    return _BREAK.sub(lambda match: _BREAKS[match[0]], harmless(text))


def one_line(text: str) -> str:
    """Join the lines and blanks of a text."""
    return harmless(" ".join(text.split()))


def _unescaped(match: re.Match[str]) -> str:
    backslash, break_, *codes = match.groups()
    if break_:
        return {"n": "\n", "t": "\t"}[break_]
    code = next(filter(None, codes), None)
    if code is None:
        return str(backslash)
    return chr(int(code, 16)) if int(code, 16) <= sys.maxunicode else match[0]


def _escaped_by(escape: Callable[[re.Match[str]], str], text: str) -> str:
    return (_ASCII_UNSAFE if text.isascii() else _UNSAFE).sub(escape, text)


def _escaped(match: re.Match[str]) -> str:
    # Of two characters the second one is seen in the first.
    return match[0] if len(match[0]) > 1 else _escape_of(match[0])


def _escaped_for_json(match: re.Match[str]) -> str:
    return match[0] if len(match[0]) > 1 else json.dumps(match[0])[1:-1]


def _escape_of(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
