"""What is asked of the columns in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sessions._checks import Check, id_check, times_check, type_check
from sessions._dialects.dialect import Columns

# pg_class.relpersistence.
TEMPORARY = "t"
_UNLOGGED = "u"
# The encodings whose conversion makes one character of two, of all that a server can have.
_MIXING = ("EUC_JP",)
# The last id of each type.
_ENDS = {"smallint": 2**15 - 1, "integer": 2**31 - 1}


def column_checks(sessions: Columns, messages: Columns, statements: Mapping[str, str]) -> list[Check]:
    """Judge the types: texts are kept as they are written, ids do not run out."""
    text, number = messages["message_data"][0], messages["id"][0]
    times = {"updated_at": sessions["updated_at"][0], "created_at of messages": messages["created_at"][0]}
    return [
        type_check(
            "message_data",
            text,
            good=text.startswith(("text", "character varying")),
            remedy=statements["widen_text"] + ": this one changes what is stored",
        ),
        id_check(number, _ENDS.get(number), statements["widen_id"]),
        _id_check("session_id", sessions["session_id"][0]),
        _id_check("session_id of messages", messages["session_id"][0]),
        times_check([f"{name} is {kind}" for name, kind in times.items() if not kind.startswith("timestamp")]),
    ]


def _id_check(name: str, kind: str) -> Check:
    good = kind in ("text", "character varying", "character varying(255)")
    return type_check(name, kind, good=good, remedy="longer ids are refused; make it varchar(255) in both tables")


def own_checks(
    ask: Callable[..., list[Any]], tables: Sequence[str], schemas: Mapping[str, str], process: int, encoding: str
) -> list[Check]:
    """Ask what only PostgreSQL is asked.

    schemas are those of all tables that are there, process is the number that the connection was told of its server
    session, encoding that of the database.
    """
    [(_, _, _, answering)] = ask("server")
    direct = process == answering
    return [
        *_schema_checks(schemas),
        *_path_checks(tables[0], schemas[tables[0]], ask("first_schema")[0][0]),
        Check("pooler", "ok", "none" if direct else "one stands between, and hands out transactions"),
        *([_encoding_check(encoding)] if encoding in _MIXING else []),
        *_zone_checks([zone for (zone,) in ask("other_time_zones", tables[0])]),
        *(_view_check(table) for table in tables for is_table, _ in ask("kind", table) if not is_table),
        *(_rule_check(table, rule) for table in tables for (rule,) in ask("rules", table)),
        *(check for found in ask("sequences", tables[1]) for check in _sequence_checks(*found)),
        *(_unfinished_check(*found) for table in tables for found in ask("unfinished_indexes", table)),
        *_lasting_checks(
            {table: ask("persistence", table)[0][0] for table in tables}, [name for (name,) in ask("risky_settings")]
        ),
    ]


def _schema_checks(schemas: Mapping[str, str]) -> list[Check]:
    """Say where the tables that a name leads to do not stand together; the first are the sessions."""
    sessions, *_ = schemas.values()
    apart = [
        f"{table} in {schema}" for table, schema in schemas.items() if schema not in ("", sessions) and "." not in table
    ]
    if not apart:
        return []
    what = f"the sessions are in {sessions}, {' and '.join(apart)}: what others have there is read and written"
    return [Check("schema", "error", what, f"make those tables in {sessions} too, or name the schema of the pair")]


def _path_checks(table: str, schema: str, first: str | None) -> Iterator[Check]:
    """Say that the search_path leads past a schema without tables, as of a new tenant, to those that are shared."""
    if "." not in table and first is not None and schema not in ("", first):
        what = f"the tables are in {schema}, behind {first} in the search_path: whoever shares it shares conversations"
        remedy = (
            f"where {first} is to have its own, make them there, by the output of `agent-sessions schema postgresql`"
        )
        yield Check("search_path", "warning", what, remedy)


def _encoding_check(encoding: str) -> Check:
    """Say that two characters are kept as one."""
    found = f"{encoding}: U+00A6 is kept as U+FFE4, and ids that differ in them are one conversation"
    return Check("encoding", "error", found, "move the tables to a database in UTF8")


def _zone_checks(zones: Sequence[str]) -> Iterator[Check]:
    """Say that times may be those of several time zones, where the columns keep none."""
    if zones:
        found = f"other connections may write theirs in {' or '.join(zones)}: ages and prune() are wrong by hours then"
        yield Check("time zone", "warning", found, "ALTER ROLE .. SET timezone = 'UTC' for each role that writes")


def _view_check(table: str) -> Check:
    """Say that there is something else in the place of a table, of whose rows nothing tells that they were changed."""
    remedy = "name the table behind it by sessions_table and messages_table"
    return Check(
        "kind", "error", f"{table} is no table but a view, or foreign: what is not a plain add or read fails", remedy
    )


def _sequence_checks(name: str, counts_up: bool, found: str, behind: str | None, ahead: str) -> Iterator[Check]:
    """Say that ids are given in another order than that of the writes, or are below those that are there."""
    if found:
        fix = f"ALTER SEQUENCE {name} CACHE 1 NO CYCLE" if counts_up else ""
        anew = "INCREMENT 1 NO MINVALUE NO MAXVALUE START 1 RESTART <above every id> CACHE 1 NO CYCLE"
        remedy = fix or f"ALTER SEQUENCE {name} {anew}"
        yield Check("sequence", "warning", f"{name} has {found}: ids are not in the order of the writes", remedy, fix)
    if behind:
        yield Check(
            "sequence", "error", f"{name} gives {behind} next, and there are higher ids: adds fail", ahead, ahead
        )


def _unfinished_check(name: str, drop: str, is_at_work: bool, is_ours: bool) -> Check:
    """Say that an index was not made to its end: it is kept up by every write, and serves none."""
    if is_at_work:
        found = f"{name} is not complete; who has locked its table may be building it"
        return Check("unfinished index", "warning", found, "ask again when that has ended")
    # A unique one of the application's refuses what it is to refuse all the same.
    remedy, fix = (drop, drop) if is_ours else (f"{drop}, and make it again", "")
    return Check("unfinished index", "warning", f"{name}: CREATE INDEX CONCURRENTLY was interrupted", remedy, fix)


def _rule_check(table: str, rule: str) -> Check:
    """Say that statements are rewritten: what several do at once is refused then, or not done."""
    return Check(
        "rule", "error", f"{table} has the rule {rule}: writes fail, or are not done", f'DROP RULE "{rule}" ON {table}'
    )


def _lasting_checks(persistence: Mapping[str, str], settings: Sequence[str]) -> Iterator[Check]:
    """Judge whether what was acknowledged stays."""
    for table, kind in persistence.items():
        if kind == TEMPORARY:
            remedy = "drop pg_temp from the search_path, or name the schema of the other one by its option"
            yield Check("durability", "error", f"{table} is a temporary table: it ends with the connection", remedy)
        if kind == _UNLOGGED:
            remedy = f"ALTER TABLE {table} SET LOGGED"
            yield Check("durability", "warning", f"{table} is unlogged: a crash of the server empties it", remedy)
    for name in settings:
        found = f"{name} is off: what was acknowledged last may be gone after a crash of the server"
        yield Check("durability", "warning", found, f"set {name} to on for the role, the database or the server")
