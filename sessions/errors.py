"""The errors that this library raises.

Each is a SessionsError and also the builtin that a caller would expect. The
driver's own exception is the __cause__, without its frames and without what quotes a
row. No message holds an item or a password.
"""

from __future__ import annotations

# What is advised where the outcome of a write is unknown.
COMPARE = "compare get_items() with what you expect"


class SessionsError(Exception):
    """The base of all errors of this library."""


class InvalidURLError(SessionsError, ValueError):
    """The database URL cannot be read."""


class ConfigurationError(SessionsError, ValueError):
    """An option is unknown, out of range, or contradicts another one or the URL."""


class UnsupportedEngineError(ConfigurationError):
    """The server is an engine on which the promises are not known to hold, and which no option names."""

    def __init__(self, message: str, engine: str = "") -> None:
        super().__init__(message)
        self.engine = engine  # the name that the option would have


class DriverNotInstalledError(SessionsError, ImportError):
    """The URL needs a DB-API driver that is not installed."""


class ConnectionFailedError(SessionsError, ConnectionError):
    """No connection to the database could be made, or it was lost."""


class TLSError(ConnectionFailedError):
    """TLS could not be set up: certificate, host name, or a server without TLS."""


class AuthenticationError(ConnectionFailedError):
    """The server refused the user, the password or the client certificate."""


class SchemaError(SessionsError):
    """The tables are missing, cannot be created, or lack what is needed."""


class InvalidItemError(SessionsError, ValueError, TypeError):
    """An item is no JSON object, or load() was given a time that the database has not; nothing of it was written."""


class ConflictError(SessionsError):
    """The conversation has grown since the position that was given; nothing was written."""


class BusyError(SessionsError, TimeoutError):
    """Another run holds the conversation, and has not ended in time; nothing was done."""


class LeaseLostError(SessionsError):
    """The lease of an exclusive() block was taken over by another run; nothing was written."""


class SealBrokenError(SessionsError):
    """A history is not as it was written under the integrity key; nothing of it was handed out.

    record_id is the id of the row at which it was noticed, None where that is missing.
    """

    def __init__(self, message: str, session_id: str = "", record_id: int | None = None) -> None:
        super().__init__(message)
        self.session_id = session_id
        self.record_id = record_id

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.session_id, self.record_id)


class ClosedError(SessionsError, RuntimeError):
    """The session or its backend has been closed."""


class DecryptionError(SessionsError):
    """A row is not encrypted, or under another key, or damaged; it was neither given nor removed."""

    def __init__(self, message: str, session_id: str = "", record_id: int = 0) -> None:
        super().__init__(message)
        self.session_id = session_id
        self.record_id = record_id


class OutcomeUnknownError(SessionsError):
    """A write was cut off, as by a lost connection, and may or may not have happened."""


class DatabaseError(SessionsError):
    """The database refused a statement for any other reason."""


def kind_of(value: object) -> str:
    """Name what was given in the wrong place, and nothing of what it holds."""
    return f"class, {value.__name__}" if isinstance(value, type) else type(value).__name__


def unkeyed_error() -> ConfigurationError:
    """Say that there are no seals."""
    return ConfigurationError("there is no integrity_key, by which histories are sealed; give one to connect()")


def closed_error() -> ClosedError:
    """Say how to go on after close()."""
    return ClosedError("the backend or session is closed; make a new one with sessions.connect()")


def check_position(session_id: str, *, expected: int | None, position: int) -> None:
    """Raise ConflictError when a write expected another newest row; None expects nothing."""
    if expected is not None and position != expected:
        raise ConflictError(
            f"session {session_id!r} is at position {position}, not {expected}; "
            "read it again and decide whether the new items still apply"
        )


def busy_error(session_id: str) -> BusyError:
    """Say that another one has the lease of a conversation."""
    return BusyError(f"session {session_id!r} is held by another run; try again when that has ended, or wait longer")


def lost_lease_error(session_id: str) -> LeaseLostError:
    """Say that another one has taken a lease over."""
    return LeaseLostError(
        f"the lease of session {session_id!r} expired and was taken over; "
        "read it again in a new exclusive() block, and give a longer lease if this process was held up"
    )


def left_block_error(session_id: str) -> LeaseLostError:
    """Say that a task goes on to write that was begun in a block."""
    return LeaseLostError(
        f"the exclusive() block of session {session_id!r} in which this run was begun has been left; end the run "
        "before: read a stream to its end, or cancel it with result.cancel()"
    )


def unknown_lease_error(exc: OutcomeUnknownError, session_id: str, seconds: float) -> OutcomeUnknownError:
    """Say of a lease what exc says of a write."""
    what, _, _ = str(exc).partition("; the write was cut off")
    return OutcomeUnknownError(
        f"{what}; the lease of session {session_id!r} may have been taken for this run, which has not begun: it is "
        f"given back as soon as the database answers, or ends by itself after {seconds:g} s"
    )


def inherited_lease_error(session_id: str) -> LeaseLostError:
    """Say that a forked child has no lease."""
    return LeaseLostError(
        f"the lease of session {session_id!r} belongs to the process that forked; "
        "make a handle and an exclusive() block in this one"
    )


def gone_error(session_id: str, row_id: int) -> ConflictError:
    """Say that a session does not have a record, or no longer."""
    return ConflictError(f"session {session_id!r} has no record {row_id} (any more); read records() again")


def taken_error(session_id: str) -> ConflictError:
    """Say that a new session cannot be made where there is one."""
    return ConflictError(f"session {session_id!r} is there already; choose another id, or clear it first")


def cut_error(session_id: str) -> DatabaseError:
    """Say that a column is too narrow for an id."""
    return DatabaseError(
        f"session_id {session_id!r} would be stored without its last characters, as another one, and nothing was "
        "changed; widen the columns session_id to VARCHAR(255)"
    )


def noncharacter_error() -> DatabaseError:
    """Say that a file cannot tell an id, or keep a text, of these characters."""
    return DatabaseError(
        "the file is in UTF-16, in which SQLite replaces U+FFFE and U+FFFF, so that two ids would be one; nothing was "
        "changed: use other ids, ensure_ascii=True for such texts, or a file in UTF-8"
    )


def changed_error(session_id: str, stored: str | None) -> DatabaseError:
    """Say that an id was stored as another one."""
    is_cut = stored and session_id.startswith(stored)
    return cut_error(session_id) if is_cut else kept_error(session_id)


def kept_error(session_id: str) -> DatabaseError:
    """Say that the database did not do what a statement asked for, and raised nothing."""
    return DatabaseError(
        f"not every row of session {session_id!r} was written or removed as asked, and nothing was changed; "
        "look for a trigger, a rule or a policy on the two tables that suppresses or changes rows"
    )


def decryption_error(session_id: str, row_id: int, *, encrypted: bool) -> DecryptionError:
    """Say that a row does not hold what the keys open, and nothing of what it holds."""
    row = f"row {row_id} of session {session_id!r}"
    if encrypted:
        what = f"{row} cannot be decrypted: it was written with another key, was forked without one, or is damaged"
        return DecryptionError(
            f"{what}; give the key that it was written with: another process may have a newer one", session_id, row_id
        )
    what = f"{row} is not encrypted"
    return DecryptionError(
        f"{what}; if whoever wrote it is to be trusted, `agent-sessions rekey --adopt` encrypts it", session_id, row_id
    )


def unlockable_error(table: str) -> DatabaseError:
    """Say that rows are shown, and kept from being locked."""
    return DatabaseError(
        f"rows of {table} can be read, but not locked or updated, and nothing was changed; "
        f"CREATE POLICY ... ON {table} FOR UPDATE to the role, as there is one FOR SELECT"
    )


def temporary_error(table: str) -> SchemaError:
    """Say that a table would end with the connection."""
    return SchemaError(
        f"{table} would be a temporary table, whose rows are gone with the connection, and was not made; "
        "drop pg_temp from the role's search_path, or name a schema: sessions_table='schema.table'"
    )


def apart_error(table: str, schema: str, other: str) -> SchemaError:
    """Say that a name leads to a table of others' sessions."""
    return SchemaError(
        f"{table} is found in the schema {other}, beside others' sessions than those in {schema}; nothing was done; "
        f"make it in {schema} too, as `agent-sessions schema postgresql` does, or, where it is that of these sessions, "
        f"ALTER TABLE {other}.{table} SET SCHEMA {schema}"
    )


def hiding_error(table: str) -> SchemaError:
    """Say that a connection has a table of its own in the place of everybody's."""
    return SchemaError(
        f"{table} is a temporary table of this connection, whose rows are gone with it; drop it, or bind a connection "
        "without it"
    )


def hidden_error(session_id: str, row_id: int) -> DatabaseError:
    """Say that a text is not removed because nobody was shown it."""
    return DatabaseError(
        f"message_data of row {row_id} of session {session_id!r} is NULL, and nothing was changed; look for a view, a "
        "policy or an authorizer that hides the column, or remove the row with delete_record()"
    )


def numberless_error() -> SchemaError:
    """Say that new rows have no number of their own, by which they are ordered."""
    return SchemaError(
        "new rows of the messages table are not found by an id that the database gives them, and nothing was changed; "
        "make id an INTEGER PRIMARY KEY (SQLite), AUTO_INCREMENT (MySQL) or a BIGINT that is generated, and look for a "
        "trigger that moves rows"
    )


def low_id_error(row_id: int) -> SchemaError:
    """Say that an id cannot be told from that of no row."""
    return SchemaError(
        f"a row of the messages table has, or would get, the id {row_id}, which would stand for none; ids begin at 1: "
        "number the rows anew from 1, in their order, and let the table go on behind them "
        "(AUTO_INCREMENT, the sequence)"
    )


def unordered_error(remedy: str) -> SchemaError:
    """Say that a new row got a lower id than one that was there."""
    return SchemaError(
        "the ids of new messages are not above those before them, by which messages are ordered, and nothing was "
        f"changed; {remedy}"
    )


def used_up_error() -> SchemaError:
    """Say that there are no higher ids."""
    return SchemaError(
        f"the ids of the messages table are used up, and nothing was changed; they end at {2**63 - 1}: number the rows "
        "anew from 1, in their order, and let the table go on behind them (AUTO_INCREMENT, the sequence)"
    )


def wrong_id_error() -> SchemaError:
    """Say that rows cannot be ordered."""
    return SchemaError(
        "the id of a message is no number, by which messages are ordered; give id of the messages table the type "
        "BIGINT again, or name another table by messages_table"
    )


def unknown_error(session_id: str, what: str) -> OutcomeUnknownError:
    """Say that it cannot be found out whether a write has happened."""
    return OutcomeUnknownError(
        f"the connection was lost during a write to session {session_id!r}, and {what}; {COMPARE}"
    )
