"""What is asked of the columns in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping

from sessions._checks import Check, type_check
from sessions._dialects.dialect import Columns


def column_checks(sessions: Columns, messages: Columns, statements: Mapping[str, str]) -> list[Check]:
    """Judge the types: texts are kept as they are written, ids do not run out."""
    text, number = messages["message_data"][0], messages["id"][0]
    return [
        type_check(
            "message_data",
            text,
            good=text.startswith(("text", "character varying")),
            remedy=statements["widen_text"] + ": this one changes what is stored",
        ),
        type_check(
            "id",
            number,
            good=number == "bigint",
            remedy=statements["widen_id"] + ": these end at 2,147,483,647",
        ),
        type_check(
            "session_id",
            sessions["session_id"][0],
            good=sessions["session_id"][0] in ("text", "character varying", "character varying(255)"),
            remedy="longer ids are refused, or cut; make it varchar(255) in both tables",
        ),
    ]


def view_check(table: str) -> Check:
    """Say that there is something else in the place of a table, of whose rows nothing tells that they were changed."""
    remedy = "name the table behind it by sessions_table and messages_table"
    return Check(
        "kind", "error", f"{table} is no table but a view, or foreign: what is not a plain add or read fails", remedy
    )


def sequence_check(name: str, found: str, *, counts_up: bool) -> Check:
    """Say that ids are given in another order than that of the writes: a conversation is then read in theirs."""
    fix = f"ALTER SEQUENCE {name} CACHE 1 NO CYCLE" if counts_up else ""
    anew = "INCREMENT 1 NO MINVALUE NO MAXVALUE START 1 RESTART <above every id> CACHE 1 NO CYCLE"
    remedy = fix or f"ALTER SEQUENCE {name} {anew}"
    return Check("sequence", "warning", f"{name} has {found}: ids are not in the order of the writes", remedy, fix)


def unfinished_check(name: str, drop: str) -> Check:
    """Say that an index was not made to its end: it is kept up by every write, and serves none."""
    return Check("unfinished index", "warning", f"{name}: CREATE INDEX CONCURRENTLY was interrupted", drop, drop)
