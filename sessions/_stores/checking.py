"""Look whether a database is as it should be, without changing it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter, time
from typing import TypeVar

from sessions._checks import Check, key_check, listing_check, tls_check
from sessions._dialects.dialect import Dialect
from sessions._leases import TOKEN_CHARACTERS
from sessions._reentry import own, suppress_own
from sessions.errors import ConfigurationError, DatabaseError, SchemaError, SessionsError, kept_error, low_id_error

from .operating import is_there

C = TypeVar("C")

# What two clocks may differ by, in seconds, before times mislead.
_CLOCK_SECONDS = 5.0

_TABLES = "tables"

# What the two tables have to have.
_COLUMNS = (("session_id", "created_at", "updated_at"), ("id", "session_id", "message_data", "created_at"))

# Types of an id that are compared with a number.
_NUMBER = re.compile(r"(big|medium|small|tiny)?int|numeric|decimal", re.IGNORECASE)

_LEASE_COLUMNS = ("session_id", "token", "expires_at")
_SEAL_COLUMNS = ("session_id", "seal")
_OTHER_IDS = "try an id that it is meant to admit; where that is refused too, change the policy"
_OTHER_NAME = "choose another sessions_table, after which it is named"


class _UndoneError(SessionsError):
    """Takes back what was only tried; one of ours, or the connection would be taken for interrupted."""


def checks(dialect: Dialect[C], connection: C, *, local: bool, bound: bool, failed: Mapping[str, str]) -> list[Check]:
    """Answer each question that can be asked; failed are the fixes that were tried in vain, and why."""
    return [
        check._replace(verdict="error", found=f"{check.found}; to mend it failed: {failed[check.fix]}")
        if check.fix in failed
        else check
        for check in _checks(dialect, connection, local=local, bound=bound)
    ]


def mend(dialect: Dialect[C], connection: C, *, local: bool, bound: bool, failed: dict[str, str]) -> bool:
    """Make what is missing and can be made, and note in failed what cannot; False when the tables are missing."""
    if dialect.in_transaction(connection):
        raise ConfigurationError("check(fix=True) needs a connection outside a transaction; use one of connect(url)")
    for check in _checks(dialect, connection, local=local, bound=bound):
        if check.name == _TABLES and check.fix:
            return False
        if check.fix:
            try:
                # What is open is of the questions before, by a driver that begins by itself; each fix stands alone.
                if dialect.in_transaction(connection):
                    dialect.commit(connection)
                dialect.mend(connection, check.fix)
                if dialect.in_transaction(connection):
                    dialect.commit(connection)
            except own(dialect.driver_error) as exc:
                failure = dialect.failure(exc)
                if failure.transient or failure.in_doubt:
                    raise
                if dialect.in_transaction(connection):
                    dialect.roll_back(connection)
                failed[check.fix] = dialect.describe(exc)
    return True


def _checks(dialect: Dialect[C], connection: C, *, local: bool, bound: bool) -> Iterator[Check]:
    dialect.execute(connection, "server", {})  # the first time costs more
    began = perf_counter()
    version, clock, tls, _ = dialect.execute(connection, "server", {})[0]
    elapsed = perf_counter() - began
    yield Check("connection", "ok", f"{version}, a round trip of {elapsed * 1000:.1f} ms")
    if dialect.settles:
        yield tls_check(dialect.tls_in_use(connection) or str(tls), local=local)
    yield _clock_check(float(clock), time() - elapsed / 2)
    columns = {table: _columns(dialect, connection, table) for table in dialect.tables}
    if strange := _strange(columns):
        yield Check(_TABLES, "error", strange, "choose other names by sessions_table and messages_table")
        return
    if missing := [table for table, found in columns.items() if not found]:
        remedy = "let their owner run `agent-sessions check --fix`, or execute the output of `agent-sessions schema`"
        fix = dialect.creating(connection, "create_sessions", "create_messages")
        yield Check(_TABLES, "error", f"{' and '.join(missing)} cannot be seen", remedy, fix)
        return
    yield Check(_TABLES, "ok", " and ".join(columns))
    yield _leases_check(dialect, connection)
    if dialect.seals:
        yield _seals_check(dialect, connection)
    sessions_table, messages_table = dialect.tables
    yield from dialect.column_checks(columns[sessions_table], columns[messages_table])
    yield from dialect.own_checks(connection)
    yield key_check(_key(dialect, connection, messages_table), dialect.making(connection, "make_key", messages_table))
    if _NUMBER.match(columns[messages_table]["id"][0]) and (low := dialect.execute(connection, "low_id", {})):
        found, _, remedy = str(low_id_error(low[0][0])).rpartition("; ")
        yield Check("low ids", "error", found, remedy)
    yield listing_check(
        int(dialect.execute(connection, "estimate_sessions", dialect.named(sessions_table))[0][0]),
        _listing_index(dialect, connection, sessions_table),
        dialect.making(connection, "make_listing_index", sessions_table),
    )
    # What is open on another connection was begun by the questions before.
    if bound and dialect.in_transaction(connection):
        yield Check("rights", "skipped", "not tried in a transaction of the application")
        return
    yield _write_check(dialect, connection)
    if confused := _confused_ids(dialect, connection):
        yield Check(
            "exact ids",
            "warning",
            f"ids that differ in {confused} are one conversation",
            f"give session_id in both tables the type and collation of `agent-sessions schema {dialect.name}`",
        )


def _strange(columns: Mapping[str, Mapping[str, tuple[str, str]]]) -> str:
    """Say which table lacks a column of ours, as those of another application do."""
    for (table, found), wanted in zip(columns.items(), _COLUMNS, strict=True):
        if found and (lacking := _lacking(table, found, wanted)):
            return lacking
    return ""


def _lacking(table: str, found: Collection[str], wanted: Sequence[str]) -> str:
    """Say which of the columns that we want a table has not."""
    missing = " and no column ".join(name for name in wanted if name not in found)
    return f"{table} has no column {missing}; it is another application's" if missing else ""


def _leases_check(dialect: Dialect[C], connection: C) -> Check:
    """Look for the table of leases, which is missing where nobody has called exclusive()."""
    table = dialect.leases_table
    found = _columns(dialect, connection, table)
    if not found:
        fix = dialect.creating(connection, "create_leases")
        return Check("leases", "ok", f"no {table}, which exclusive() makes", fix=fix)
    if lacking := _lacking(table, found, _LEASE_COLUMNS):
        return Check("leases", "error", lacking, f"{_OTHER_NAME}, before you use exclusive()")
    kind = found["token"][0]
    if (width := re.search(r"char.*\((\d+)\)", kind, re.IGNORECASE)) and int(width[1]) < TOKEN_CHARACTERS:
        return Check(
            "leases",
            "error",
            f"token of {table} is {kind}, and a token has {TOKEN_CHARACTERS} characters",
            "widen that column, or drop the table while nobody is in exclusive(), which makes it anew",
        )
    return Check("leases", "ok", table)


def _seals_check(dialect: Dialect[C], connection: C) -> Check:
    """Look for the table of end seals."""
    table = dialect.seals_table
    found = _columns(dialect, connection, table)
    if not found:
        fix = dialect.creating(connection, "create_seals")
        return Check("seals", "ok", f"no {table}, which the first write makes", fix=fix)
    if lacking := _lacking(table, found, _SEAL_COLUMNS):
        return Check("seals", "error", lacking, _OTHER_NAME)
    return Check("seals", "ok", f"{table}; `agent-sessions verify` looks at every conversation")


def _clock_check(theirs: float, ours: float) -> Check:
    ahead = theirs - ours
    if abs(ahead) <= _CLOCK_SECONDS:
        return Check("clock", "ok", f"{ahead:+.1f} s from this machine's")
    return Check("clock", "warning", f"{ahead:+.0f} s from this machine's", "set both by NTP; ages and prune() mislead")


def _columns(dialect: Dialect[C], connection: C, table: str) -> Mapping[str, tuple[str, str]]:
    rows = dialect.execute(connection, "columns", dialect.named(table))
    return {name: (kind, collation) for name, kind, collation in rows}


def _key(dialect: Dialect[C], connection: C, table: str) -> str:
    for name, columns, _ in dialect.execute(connection, "indexes", dialect.named(table)):
        if f"{columns},".startswith("session_id,id,") or (dialect.indexes_hold_the_key and columns == "session_id"):
            return str(name)
    return ""


def _listing_index(dialect: Dialect[C], connection: C, table: str) -> str:
    wanted = _indexed(dialect.statements["make_listing_index"])
    for name, columns, definition in dialect.execute(connection, "indexes", dialect.named(table)):
        # Of an expression, which serves no other.
        if _indexed(str(definition)) == wanted if definition else str(columns).startswith("updated_at"):
            return str(name)
    return ""


def _indexed(statement: str) -> str:
    return " ".join(statement.split()).partition(" ON ")[2].rstrip(";")


def _write_check(dialect: Dialect[C], connection: C) -> Check:
    """Add a row and take it back."""
    try:
        # In both cases: what changes ids may change one of them alone.
        _try(dialect, connection, lambda: _write(dialect, connection, f"Check {os.urandom(16).hex()}"))
    except own(DatabaseError, SchemaError) as exc:
        found, _, remedy = str(exc).rpartition("; ")
        return Check("rights", "error", found, remedy)
    except own(dialect.driver_error) as exc:
        failure, found = dialect.failure(exc), dialect.describe(exc)
        if failure.is_of_a_row:
            # A policy by tenant admits no id of ours.
            return Check("rights", "warning", f"{found}: it may admit only some ids", _OTHER_IDS)
        # A collision tells nothing of rights.
        return Check("rights", "skipped" if failure.is_collision else "error", found, failure.remedy)
    return Check("rights", "ok", "rows can be read, added, changed and removed")


def _confused_ids(dialect: Dialect[C], connection: C) -> str:
    """Say what the columns do not tell ids apart by; nothing where it cannot be tried."""
    found: list[str] = []
    number = str(int.from_bytes(os.urandom(6)))
    for session_id, others in (
        (f"check é {number}", {"case": f"CHECK é {number}", "accents": f"check e {number}"}),
        (f"check {number}", {"trailing blanks": f"check {number} "}),
        (f"1{number}", {"how a number is written": f"01{number}"}),
    ):
        with suppress_own(SessionsError, dialect.driver_error):
            _try(dialect, connection, partial(_look_for_confused, dialect, connection, session_id, others, found))
    return " or ".join(found)


def _look_for_confused(
    dialect: Dialect[C], connection: C, session_id: str, others: Mapping[str, str], found: list[str]
) -> None:
    dialect.touch(connection, session_id)
    dialect.insert(connection, session_id, ["{}"])
    found += [
        what for what, other in others.items() if dialect.lock(connection, other) or dialect.has_rows(connection, other)
    ]


def _try(dialect: Dialect[C], connection: C, act: Callable[[], None]) -> None:
    """Act in a transaction, and take that back.

    Also where it is a part of what the driver has begun for the questions before: whoever lent the connection would
    commit it.
    """
    try:
        with suppress(_UndoneError), dialect.transaction(connection):
            act()
            raise _UndoneError
    finally:
        if dialect.in_transaction(connection):
            dialect.roll_back(connection)


def _write(dialect: Dialect[C], connection: C, session_id: str) -> None:
    dialect.touch(connection, session_id)
    row_id = dialect.insert(connection, session_id, ["{}"])
    # As before a removal: what may be read need not be locked.
    if not dialect.lock(connection, session_id) or not is_there(dialect, connection, session_id, row_id):
        raise kept_error(session_id)
    dialect.delete_item(connection, session_id, row_id)
    if not dialect.change(connection, "delete_session", {"session_id": session_id}):
        raise kept_error(session_id)
