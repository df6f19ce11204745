"""What the errors of psycopg and of the server mean, as data; of connecting: refusals.py."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import psycopg

from sessions._dialects import failures
from sessions._dialects.failures import Failure
from sessions.errors import DatabaseError, OutcomeUnknownError, SchemaError

from .refusals import by_sqlstate, pooler_kept

_UNPREPARED = Failure(
    DatabaseError, "something prepares statements behind a pooler that keeps none: pass prepared_statements=False"
)
# 42501, by the kind of what a right is missing on, which the server's words tell.
_RIGHTS: Mapping[str, Failure] = {
    "schema": Failure(
        remedy="GRANT USAGE ON SCHEMA {name} TO <role>",
        to_create="GRANT USAGE, CREATE ON SCHEMA {name} TO <role> for a first use, or let another role make the tables",
    ),
    "sequence": Failure(remedy="GRANT USAGE ON SEQUENCE {name} TO <role>"),
    "table": Failure(
        remedy="GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO <role>",
        to_create="GRANT REFERENCES ON {name} TO <role> for a first use, or let its owner make the other table",
    ),
    "": Failure(
        remedy="GRANT SELECT, INSERT, UPDATE, DELETE on both tables, USAGE on their schema and on a sequence of theirs",
        to_create="GRANT USAGE, CREATE on the schema for a first use, or let another role make the tables",
    ),
}
_DENIED = re.compile(r"permission denied for (schema|sequence|table) (.*)")
_POLICY = Failure(
    remedy="change the policy of that table, or use an id or a role that it admits",
    is_of_a_row=True,
)
_TYPES = Failure(
    SchemaError,
    "give id the type BIGINT, session_id VARCHAR, message_data TEXT and the times TIMESTAMP, or use other tables",
)
_VALUES = replace(
    _TYPES,
    remedy="give id the type BIGINT, session_id VARCHAR, message_data TEXT and the times TIMESTAMP, or look for a "
    "computed column, an index or a trigger that refuses a value; see the cause",
)
_USED_UP = Failure(
    SchemaError,
    "the ids of the messages table, or its sequence, are used up: make both BIGINT or, where they are, number the rows "
    "anew from 1, in their order, and let the sequence go on behind them",
)
_NO_XMIN = Failure(
    SchemaError, "it is a view, or a foreign table: name the table behind it by sessions_table and messages_table"
)
# 42804 that names no column, by the function whose types do not agree: there is one column in it.
_FUNCTIONS: Mapping[str, Failure] = {
    "GREATEST": Failure(
        SchemaError, "give created_at of the messages table the type TIMESTAMP, by ALTER TABLE and USING"
    ),
    "COALESCE": Failure(SchemaError, "give id of the messages table the type BIGINT, or use another table"),
}

# PostgreSQL manual, appendix A: SQLSTATE, or its class.
_FAILURES: Mapping[str, Failure] = {
    "26000": _UNPREPARED,
    "42P05": _UNPREPARED,
    "25P01": failures.ENDED,
    "25P02": Failure(DatabaseError, "an earlier statement of your transaction failed; roll it back first"),
    "3B": failures.ENDED,
    "40": failures.TRY_AGAIN,
    "55P03": failures.LOCKED,
    "23502": failures.OTHER_TABLES,
    "23505": Failure(DatabaseError, "ids are given that exist, as after a restore: set the id column's sequence anew"),
    "25006": failures.READ_ONLY_TRANSACTION,
    "57P": failures.GONE,
    "57P05": replace(
        failures.GONE,
        remedy="raise idle_session_timeout, or give a shorter max_idle; one of yours has to be opened anew",
    ),
    "08": failures.LOST,
    "25P03": replace(failures.GONE, remedy="raise idle_in_transaction_session_timeout"),
    # In doubt: it may have passed within the commit, and is noticed behind it.
    "25P04": replace(failures.LOST, remedy="raise transaction_timeout, or end what the statement waited for"),
    "53300": failures.BUSY,
    "53": Failure(DatabaseError, "free resources on the server; nothing was written"),
    "57014": Failure(
        DatabaseError,
        "it took longer than the server's statement_timeout (of the role, the database or PGOPTIONS), or someone "
        "cancelled it; if another transaction held a lock, end that",
    ),
    "42P01": replace(
        failures.NO_TABLES,
        remedy=failures.NO_TABLES.remedy + "; where they are there, GRANT USAGE ON SCHEMA <schema> TO <role>, without "
        "which they cannot be seen, or put their schema into the search_path",
    ),
    "3F000": Failure(
        SchemaError,
        "GRANT USAGE, CREATE ON SCHEMA <schema> TO <role> for one in the search_path, which is skipped without that; "
        "create it if there is none; or name another one: sessions_table='schema.table'",
    ),
    "42703": failures.OTHER_TABLES,
    "22007": _VALUES,
    "22008": _VALUES,
    "22P02": _VALUES,
    "42883": _TYPES,
    "42P10": failures.OTHER_TABLES,
    "22012": Failure(
        DatabaseError,
        "not every row was written or removed as asked, and nothing was changed: look for a trigger, a rule or a "
        "policy on the two tables that suppresses or changes rows",
    ),
    "2200H": _USED_UP,
    "22003": _USED_UP,
    "22": Failure(DatabaseError, "use a UTF-8 database, columns wide enough and texts without NUL; see the cause"),
}
# What statements.py's guard casts, by its name.
_APART = "no_table_beside_the_sessions"
_TABLES_APART = replace(
    failures.NO_TABLES,
    remedy="the search_path finds the tables in different schemas, beside others' sessions, as check() tells: make "
    "what is missing in the schema of these sessions, or, where it is theirs, ALTER TABLE ... SET SCHEMA",
)
# In any language the columns stand in brackets: of an index that holds no id.
_OTHER_KEY = re.compile(r"\((?!(?:[^()]*, )?id\)=)[^()]*\)=\(")
_UNIQUE = Failure(remedy="a unique index of yours on one of the two tables refuses it: drop it, or put id into it")
_RULES = Failure(
    remedy="drop the rules of the two tables, which check() names: with them no statement may do several things"
)
# 428C9: a column that the table computes.
_GENERATED = Failure(
    SchemaError, "its value is given: ALTER TABLE ... ALTER COLUMN {name} DROP EXPRESSION, or use other tables"
)
# On a primary, perhaps for a moment: some who watch over clusters set it before another server takes over.
SET_READ_ONLY = "transactions are read-only: default_transaction_read_only is on"
_SET_READ_ONLY = Failure(
    DatabaseError,
    "this is the primary server: reset the setting of the role, the database or the server, "
    "as by ALTER ROLE ... RESET default_transaction_read_only",
    transient=True,
)
# Citus says so of a worker that was lost before the end of a transaction, without a code of its own
# (src/backend/distributed/transaction/remote_transaction.c). The worker may hold the session's lock until it notices.
_WORKER_LOST = "failure on connection marked as essential"
# An administrator ends the connection, the server stops, or another process of it has crashed.
_GOODBYES = ("57P01", "57P02", "57P03")
# How our own words begin where the server has cancelled what took too long, or has not answered to that either.
NO_ANSWER = "no answer within statement_timeout"
# Our own words where what was cancelled is the wait behind a commit, of which the server only warns.
UNREPLICATED = "cancelled while it waited for a synchronous standby"
_BY_OUR_WORDS: Mapping[str, Failure] = {
    SET_READ_ONLY: _SET_READ_ONLY,
    UNREPLICATED: Failure(
        OutcomeUnknownError,
        "the write is on the primary, and may be on no standby: look at that one, and compare get_items() with what "
        "you expect before you write again",
        transient=True,
        in_doubt=True,
    ),
}
# After these a new connection is better: it may lead to the server that is now the primary, and has nothing prepared.
CONNECT_ANEW_AFTER = ("0A000", "25006", "25P03", "26000", "42P05", "57P")


def statement_failure(exc: Exception, tables: Sequence[str] = ()) -> Failure:
    """Say what an exception of a statement on our tables means."""
    sqlstate = getattr(exc, "sqlstate", None)
    if str(exc).startswith(NO_ANSWER):
        return failures.NO_ANSWER if sqlstate is None else failures.TOO_SLOW
    if (ours := _BY_OUR_WORDS.get(str(exc))) is not None:
        return ours
    if sqlstate is None or not isinstance(exc, psycopg.Error):
        # Internal, without the server's code: psycopg counts a loss behind the server's last words as one answer more.
        if not isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)):
            return failures.FAILED
        # psycopg's words for a loss that it knew of before it sent anything.
        return failures.GONE if str(exc) in ("the connection is closed", "the connection is lost") else failures.LOST
    if isinstance(exc, psycopg.errors.FeatureNotSupported) and exc.diag.source_function == "RevalidateCachedQuery":
        return Failure(DatabaseError, "a column has got another type; try again", transient=True)
    if sqlstate == "0A000" and exc.diag.source_file == "rewriteHandler.c":
        return _RULES
    words = exc.diag.message_primary or ""
    if sqlstate == "42P01" and _APART in words:
        return _TABLES_APART
    if sqlstate == "42501":
        return _POLICY if "row-level security" in words else _missing_right(words, tables)
    if (of_columns := _columns_failure(sqlstate, words, exc.diag)) is not None:
        return of_columns
    if sqlstate == "23503" and exc.diag.constraint_name:
        return _foreign_key_failure(exc.diag.table_name, words, exc.diag.message_detail or "", tables)
    if sqlstate == "XX000" and words.startswith(_WORKER_LOST):
        return failures.LOST
    if (pooler := pooler_kept(sqlstate, words)) is not None:
        return pooler
    # After FATAL there is no connection, whoever has ended it and why; a pooler may leave the second field out.
    is_fatal = "FATAL" in (exc.diag.severity, exc.diag.severity_nonlocalized)
    return by_sqlstate(_FAILURES, sqlstate) or (failures.LOST if is_fatal else failures.FAILED)


def _foreign_key_failure(refers: str | None, words: str, detail: str, tables: Sequence[str]) -> Failure:
    """Say what a key means, whose table refers is.

    In any language the words name the table that was written to, and the detail, behind the value, the other one.
    """
    names = [table.rpartition(".")[2] for table in tables]
    ours = re.compile(rf"\W({'|'.join(map(re.escape, names))})(_\d+)?\W")  # the number is that of a shard of Citus
    if ours.search(detail.rpartition(")")[2]):
        return failures.TRY_AGAIN  # the session was cleared by another one at this moment
    return failures.REFERRED_TO if refers not in names and ours.search(words) else failures.MISSING_ROW


def _columns_failure(sqlstate: str, words: str, diagnostic: psycopg.errors.Diagnostic) -> Failure | None:
    """Say what an error means that depends on the columns."""
    if sqlstate == "428C9":
        return replace(_GENERATED, remedy=_GENERATED.remedy.format(name=_name_in(words)))
    if sqlstate == "42703" and "xmin" in words:
        return _NO_XMIN
    if sqlstate == "23505" and diagnostic.schema_name == "pg_catalog":
        return failures.TRY_AGAIN  # another program makes the same table at this moment
    if sqlstate == "23505" and _OTHER_KEY.search(diagnostic.message_detail or ""):
        return _UNIQUE
    if sqlstate in ("42804", "42846"):
        return next((failure for name, failure in _FUNCTIONS.items() if name in words), _TYPES)
    return None


def _name_in(words: str) -> str:
    named = re.search('".*"', words)
    return named[0] if named else "..."


def is_goodbye(exc: psycopg.Error) -> bool:
    """Tell whether the server has ended the connection, and not what was asked of it alone."""
    return exc.sqlstate in _GOODBYES


def _missing_right(words: str, tables: Sequence[str]) -> Failure:
    denied = _DENIED.search(words)
    if denied is None:
        return _RIGHTS[""]
    kind, name = denied.groups()
    quoted = _quoted(name)
    if kind != "schema":
        # The server does not tell it, and whoever grants the right may find another's table by the name alone.
        schemas = {table.rpartition(".")[0] for table in tables if kind == "sequence" or table.endswith(f".{name}")}
        schema = schemas.pop() if len(schemas) == 1 else ""
        quoted = f"{_quoted(schema) if schema else '<schema>'}.{quoted}"
    failure = _RIGHTS[kind]
    return replace(failure, remedy=failure.remedy.format(name=quoted), to_create=failure.to_create.format(name=quoted))


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


# SQLSTATEs, or their classes, whose words quote no value.
_QUOTING_NOTHING = (
    *("08", "0A", "22001", "22012", "2200H", "23502", "23503", "23505", "23514", "23P01", "25", "26", "28"),
    *("3B", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX"),
)
# What says so wherever it happens; else there is a function in the context, and the words may be its own.
_OF_THE_SERVER = (
    *("postgres.c", "deadlock.c", "lmgr.c", "lock.c", "proc.c", "predicate.c"),
    *("heapam_handler.c", "nodeLockRows.c", "nodeModifyTable.c", "execMain.c", "ri_triggers.c"),
)


def describe(exc: BaseException) -> str:
    """Repeat the server's words where they are known to quote no value."""
    if not isinstance(exc, psycopg.Error) or not (words := exc.diag.message_primary):
        return str(exc)
    sqlstate = exc.sqlstate or ""
    if sqlstate.startswith(_QUOTING_NOTHING) and (not exc.diag.context or exc.diag.source_file in _OF_THE_SERVER):
        return words
    return f"server error {sqlstate}"
