"""Texts that try to become statements, and a way to put one everywhere."""

import pytest

import sessions

INJECTIONS = {
    "quote": "'; DROP TABLE canary; -- ",
    "escaped quote": "\\'; DROP TABLE canary; -- ",
    "twice escaped quote": "\\\\'; DROP TABLE canary; -- ",
    "doubled quote": "''; DROP TABLE canary; -- ",
    "double quote": '"; DROP TABLE canary; -- ',
    "escaped double quote": '\\"; DROP TABLE canary; -- ',
    "backtick": "`; DROP TABLE canary; -- ",
    "end of a row": "'); DROP TABLE canary; COMMIT; -- ",
    "another row": "', '{}'), ('chat_2', '{}",
    "hash comment": "'; DROP TABLE canary #",
    "comment": "*/'; DROP TABLE canary /*",
    "version comment": "/*!00000 ';DROP TABLE canary; */",
    "lone quote": "'",
    "lone backslash": "\\",
    "backslash at the end": "'; DROP TABLE canary; \\",
    "line end": "\n'; DROP TABLE canary;\r\n",
    "delimiter": "DELIMITER //\nDROP TABLE canary//",
    "control Z": "\x1a'; DROP TABLE canary; -- ",
    "percent": "%",
    "placeholder": "%s %(session_id)s %(message_data)s '; DROP TABLE canary; -- ",
    "word behind VALUES": "VALUES ('; DROP TABLE canary; -- ",
    "GBK lead byte": "\u00bf\u5c27'; DROP TABLE canary; -- ",
    "quote-like letters": "\u2019\uff07\u02bc\u0027; DROP TABLE canary; -- ",
    "zero width": "\ufeff\u200b'; DROP TABLE canary; -- ",
    "hexadecimal": "0x27; DROP TABLE canary; -- ",
    "tautology": "x' OR '1'='1",
    "every placeholder": "%(session_id)s %s {0} :session_id $1 ?",
    "semicolons": ";;;DROP TABLE canary;;;",
}


def put_everywhere(session: sessions.Session, text: str) -> None:
    """Call every operation with the text in every place; three items are left."""
    item = {"role": "user", "content": text, text: [text, {text: text}]}
    session.clear_session()
    session.add_items([item, item])
    session.add_items([item], if_position=session.position())
    assert session.pop_item() == item
    assert session.get_items() == [item, item]
    session.replace_items([item, {"kept": True}])
    session.replace_items([item] * 3, if_position=session.position())
    with pytest.raises(sessions.ConflictError):
        session.add_items([item], if_position=session.position() - 1)
    assert session.get_items(limit=1) == [item]
    assert session.get_items() == [item] * 3
