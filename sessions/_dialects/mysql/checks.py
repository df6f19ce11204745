"""What is asked of the tables and their columns in MySQL and MariaDB."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from sessions._checks import Check, id_check, times_check, type_check
from sessions._dialects.dialect import Columns

from .cluster import GROUP, Server

# Longer ones are refused, or cut where the server is not strict.
_SHORT_TEXTS = ("tinytext", "text", "varchar")
_OTHER_TEXT = {
    "": "make it LONGTEXT: this one changes what is stored",
    "json": "make it LONGTEXT: this one changes what is stored, and takes no item that is more than 100 deep, nor lone "
    "surrogates, nor numbers beyond a double",
}
_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32}
# They keep some characters as others: U+10000 and what follows as U+0000 and what follows, U+6661 as U+6659.
_MIXING = ("tis620", "cp932")
_BYTES = ("varbinary", "binary", "tinyblob", "blob", "mediumblob", "longblob")
# Of others it cannot be told when a conversation was written to; the second has no zone.
_TIMES = ("timestamp", "datetime")


def column_checks(sessions: Columns, messages: Columns, statements: Mapping[str, str]) -> list[Check]:
    """Judge the types: ids are compared exactly, texts are long enough, numbers do not run out."""
    text, number = messages["message_data"][0], messages["id"][0]
    times = {"updated_at": sessions["updated_at"][0], "created_at of messages": messages["created_at"][0]}
    return [
        _id_check("session_id", *sessions["session_id"]),
        _id_check("session_id of messages", *messages["session_id"]),
        type_check(
            "message_data",
            text,
            good=text in ("longtext", "mediumtext"),
            remedy=statements["widen_text"]
            if text.startswith(_SHORT_TEXTS)
            else _OTHER_TEXT.get(text, _OTHER_TEXT[""]),
        ),
        id_check(number, _end_of(number), statements["widen_id"]),
        _times_check(times),
    ]


def _times_check(kinds: Mapping[str, str]) -> Check:
    """Judge whether it can be told when a conversation was written to, by whomever."""
    if strange := [f"{name} is {kind}" for name, kind in kinds.items() if not kind.startswith(_TIMES)]:
        return times_check(strange)
    zoneless = [f"{name} is {kind}" for name, kind in kinds.items() if kind.startswith("datetime")]
    if not zoneless:
        return times_check([])
    found = f"{' and '.join(zoneless)}, which has no time zone: a time is that of the connection which wrote it"
    remedy = (
        "make them TIMESTAMP, or give the server the time zone +00:00, in which clients with an integrity_key write"
    )
    return Check("times", "warning", found, remedy)


def _end_of(kind: str) -> int | None:
    """Return the last id of a type such as int(11) unsigned; None where it is no whole number."""
    bits = _BITS.get(re.split(r"\W", kind)[0])
    return bits and 2 ** (bits - ("unsigned" not in kind)) - 1


def engine_check(engines: Mapping[str, str]) -> Check:
    """Judge whether the tables know transactions."""
    wrong = [f"{table} is {engine}" for table, engine in engines.items() if engine.lower() != "innodb"]
    if not wrong:
        return Check("engine", "ok", "InnoDB")
    return Check("engine", "error", f"{' and '.join(wrong)}, without transactions", "ALTER TABLE .. ENGINE = InnoDB")


def key_checks(table: str, quoted: str, *, found: bool) -> list[Check]:
    """Say that sessions may have several rows each."""
    if found:
        return []
    remedy = f"leave one row of each session, then ALTER TABLE {quoted} ADD PRIMARY KEY (session_id)"
    what = f"session_id of {table} has no unique index of its own: writers do not wait for each other"
    return [Check("session key", "error", what, remedy)]


def message_key_checks(table: str, quoted: str, indexes: Collection[str]) -> list[Check]:
    """Say that a row of the messages can be found by no key of its own."""
    if "PRIMARY" in indexes:
        return []
    what = f"{table} has no primary key: replicas look for a changed row in all of them, and groups take none such"
    return [Check("message key", "warning", what, f"ALTER TABLE {quoted} ADD PRIMARY KEY (id)")]


def json_checks(definition: str | bytes, remedy: str) -> list[Check]:
    """Say what MariaDB's JSON, which is a LONGTEXT with a CHECK, does not take."""
    if b"json_valid(`message_data`)" not in _bytes_of(definition):
        return []
    what = "message_data has the CHECK of a column JSON: no item more than 31 deep, nor with a lone surrogate"
    return [Check("JSON", "warning", what, remedy)]


def _bytes_of(definition: str | bytes) -> bytes:
    # In the character set of its answers, which may take two bytes for a letter.
    return definition.encode() if isinstance(definition, str) else definition.replace(b"\0", b"")


def temporary_checks(table: str, definition: str | bytes) -> list[Check]:
    """Say that an application's connection has a table of its own in the place of everybody's."""
    if not _bytes_of(definition).startswith(b"CREATE TEMPORARY"):
        return []
    remedy = f"DROP TEMPORARY TABLE {table}, or bind a connection without it"
    return [Check("durability", "error", f"{table} is a temporary table: it ends with the connection", remedy)]


def cluster_check(server: Server) -> list[Check]:
    """Say which cluster the server is in, and how it is dealt with."""
    if not server.cluster:
        return []
    if server.cluster == GROUP and not server.state:
        remedy = "GRANT SELECT ON performance_schema.replication_group_members TO <user>"
        return [Check("cluster", "warning", f"{server}; this member's state cannot be seen", remedy)]
    return [Check("cluster", "ok", f"{server}; {server.state}")]


def cascade_check(table: str, name: str) -> Check:
    """Judge the messages' foreign key where group replication takes none that cascades; name: of one that does."""
    if not name:
        return Check("foreign key", "ok", "none that cascades")
    fix = f"ALTER TABLE {table} DROP FOREIGN KEY {name}"
    return Check("foreign key", "error", f"{name} cascades: with several primaries each write fails", fix, fix)


def _id_check(name: str, kind: str, collation: str) -> Check:
    if not collation and not kind.startswith(_BYTES):
        what = f"{kind}, which is no text: ids that mean one value, as 1 and 01 do, are one conversation"
        return Check(name, "error", what, "give the columns the type of `agent-sessions schema mysql`")
    if not collation:
        return Check(name, "ok", "compared exactly (bytes)")
    if collation.endswith(("_0900_bin", "_nopad_bin")):
        return Check(name, "ok", f"compared exactly ({collation})")
    if collation.startswith(_MIXING):
        return Check(
            name,
            "error",
            f"{collation}: some characters are kept as others, and ids that differ in them are one conversation",
            "give the column the character set and the collation of `agent-sessions schema mysql`",
        )
    what = "trailing blanks" if collation.endswith("_bin") else "case, accents or trailing blanks"
    return Check(
        name,
        "warning",
        f"{collation}: ids that differ in {what} are one conversation",
        "give the column the collation of `agent-sessions schema mysql`",
    )
