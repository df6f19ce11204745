"""The statements of common operations, prepared: the server reads them once, and soon plans them no more.

Each has a digest of itself as its name, so what a server session keeps under it is this very statement, whoever has
prepared it there. A pooler that lends another server session, or has this one forget, costs a further round trip: a
name that is not known executes nothing. What is sent first does not depend on what is there: the name is let go, given
anew and used at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from time import monotonic
from types import SimpleNamespace
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.generators import execute, fetch_many

from sessions._reentry import own

from .arrays import TEXT_ARRAY_OID, TEXT_OID, TextArray
from .values import ADAPTERS

# Those whose plan without values is as good as one with them, however rows are spread over sessions. It may have been
# made for a small table, of which nobody has told the server that it has grown: hence the time.
PREPARED = frozenset({"all_items", "newest_items", "newest_range", "append_items", "append_items_at", "pop_item"})
_FRESH_SECONDS = 10.0

# How many names may be lost in a row, and how many uses make up for one.
_PATIENCE = 5
_USES = 100

_PLACEHOLDER = re.compile(r"%\((\w+)\)[sb]")
# The catalogue pg_type.
_TYPES = {
    "session_id": TEXT_OID,
    "token": TEXT_OID,
    "seal": TEXT_OID,
    "before": TEXT_OID,
    "items": TEXT_ARRAY_OID,
    "times": TEXT_ARRAY_OID,
}
_BIGINT = 20

_IDLE, _SYNC, _ERROR = pq.TransactionStatus.IDLE, pq.ExecStatus.PIPELINE_SYNC, pq.ExecStatus.FATAL_ERROR

_CONTEXT: Any = SimpleNamespace(adapters=ADAPTERS, connection=None)

Waiting = Generator[Any, Any, pq.abc.PGresult]


@dataclass(frozen=True, eq=False, slots=True)
class Statement:
    name: bytes
    text: bytes
    parameters: tuple[str, ...]
    types: tuple[int, ...]
    formats: tuple[pq.Format, ...]


@cache
def statement_of(text: str) -> Statement:
    """Return a statement in the server's words."""
    parameters = tuple(dict.fromkeys(_PLACEHOLDER.findall(text)))
    numbered = _PLACEHOLDER.sub(lambda match: f"${parameters.index(match[1]) + 1}", text).encode()
    types = tuple(_TYPES.get(name, _BIGINT) for name in parameters)
    formats = tuple(pq.Format(_TYPES.get(name) == TEXT_ARRAY_OID) for name in parameters)
    digest = blake2b(numbered + repr(types).encode(), digest_size=16).hexdigest()
    return Statement(b"agent_sql_" + digest.encode(), numbered, parameters, types, formats)


class Prepared:
    """What one connection has prepared."""

    def __init__(self, guard: str, texts: Callable[[str], Mapping[str, str]]) -> None:
        """Begin with nothing.

        guard is a statement that tells the schema of the tables, and raises an error where none may be prepared; texts
        gives, for a schema, the statements by their names.
        """
        self._guard = guard.encode()
        self._texts_of = texts
        self._schema: str | None = None  # in which the tables were found, None until they are looked for
        self._until = 0.0  # when they are looked for again
        self._texts: Mapping[str, str] = {}
        self._names: dict[Statement, None] = {}  # of what is as good as new
        self._patience: float = _PATIENCE

    def execute(
        self,
        pgconn: pq.abc.PGconn,
        wait: Callable[[Any], Any],
        name: str,
        parameters: Mapping[str, Any],
    ) -> list[Any] | None:
        """Execute a statement and return its rows; None: it was not executed, and is to be sent without a name.

        So it is in a transaction, which a name that is lost would end, and where names are mostly lost.
        """
        if self._patience <= 0 or pgconn.transaction_status != _IDLE:
            return None
        if monotonic() >= self._until:
            self._schema = None
        try:
            return self._execute(pgconn, wait, name, parameters)
        except own(psycopg.errors.UndefinedTable):
            if not self._schema:
                raise
        # By now they are elsewhere, or nowhere.
        self._schema = None
        return self._execute(pgconn, wait, name, parameters)

    def _execute(
        self, pgconn: pq.abc.PGconn, wait: Callable[[Any], Any], name: str, parameters: Mapping[str, Any]
    ) -> list[Any] | None:
        if self._schema is None:
            self._texts, self._names = self._texts_of(""), {}
        statement = statement_of(self._texts[name])
        values = [dumped(parameters[name]) for name in statement.parameters]
        if self._schema is None:
            statement = replace(statement, name=b"")  # so that nobody executes it once it may lead elsewhere
        anew = [statement]
        if statement in self._names:
            try:
                result = wait(_by_name(pgconn, statement, values))
            except own(psycopg.Error) as exc:
                if not _is_lost(exc):
                    raise
                # Its server session lacks the others as well.
                self._patience -= 1
                anew = [*self._names]
            else:
                self._patience = min(_PATIENCE, self._patience + 1 / _USES)
                return rows_of(result)
        try:
            found, result = wait(_anew(pgconn, anew, statement, values, self._guard))
        except own(psycopg.Error) as exc:
            if len(anew) > 1 and isinstance(exc, psycopg.ProgrammingError):
                # One of the others may be what cannot be prepared any more.
                self._names.clear()
                return self._execute(pgconn, wait, name, parameters)
            if not _is_lost(exc):
                raise
            self._patience = 0
            return None
        if self._schema is None:
            self._schema = (found.get_value(0, 0) or b"").decode()
            self._until, self._texts = monotonic() + _FRESH_SECONDS, self._texts_of(self._schema)
        else:
            self._names.update(dict.fromkeys(anew))
        return rows_of(result)


def can_prepare() -> bool:
    """Tell whether a name can be let go, with libpq 17 or newer."""
    return psycopg.capabilities.has_send_close_prepared()


def _is_lost(exc: psycopg.Error) -> bool:
    """Tell whether a name was unknown, taken or out of date, so that nothing was executed."""
    if isinstance(exc, psycopg.errors.FeatureNotSupported):
        return exc.diag.source_function == "RevalidateCachedQuery"
    return isinstance(exc, (psycopg.errors.InvalidSqlStatementName, psycopg.errors.DuplicatePreparedStatement))


def _by_name(pgconn: pq.abc.PGconn, statement: Statement, values: Sequence[Any]) -> Waiting:
    pgconn.send_query_prepared(statement.name, values, statement.formats)
    return _checked((yield from execute(pgconn)))


def _anew(
    pgconn: pq.abc.PGconn, statements: Sequence[Statement], statement: Statement, values: Sequence[Any], guard: bytes
) -> Generator[Any, Any, tuple[pq.abc.PGresult, pq.abc.PGresult]]:
    """Prepare statements and execute one of them, all of it sent at once; after an error nothing further is done."""
    pgconn.enter_pipeline_mode()
    pgconn.send_query_params(guard, None)
    for one in statements:
        pgconn.send_close_prepared(one.name)
        pgconn.send_prepare(one.name, one.text, one.types)
    pgconn.send_query_prepared(statement.name, values, statement.formats)
    pgconn.pipeline_sync()
    found, *_, answer = yield from answers_of_pipeline(pgconn)
    return found, answer


def answers_of_pipeline(pgconn: pq.abc.PGconn) -> Generator[Any, Any, list[pq.abc.PGresult]]:
    """Send and read all up to the end of a pipeline, and leave it; raise the first error, be it that of the commit."""
    answers: list[pq.abc.PGresult] = []
    failed: pq.abc.PGresult | None = None
    try:
        results = yield from execute(pgconn)
        while True:
            answers += results
            failed = failed or _failed(results)
            if results[-1].status == _SYNC:
                break
            results = yield from fetch_many(pgconn)
        pgconn.exit_pipeline_mode()
    except own(psycopg.OperationalError):
        # What has failed has failed, whatever becomes of the connection.
        if failed is None:
            raise
    if failed is not None:
        raise psycopg.errors.error_from_result(failed, encoding="utf-8")
    return answers[:-1]


def _failed(results: Sequence[pq.abc.PGresult]) -> pq.abc.PGresult | None:
    return next((result for result in results if result.status == _ERROR), None)


def _checked(results: Sequence[pq.abc.PGresult]) -> pq.abc.PGresult:
    """Return the answer; raise an error, also that of the commit, which comes behind the answer."""
    if (failed := _failed(results)) is not None:
        raise psycopg.errors.error_from_result(failed, encoding="utf-8")
    return results[0]


def dumped(value: object) -> Any:
    """Return a parameter as libpq takes it: text, but for an array."""
    return value if value is None or isinstance(value, TextArray) else str(value).encode()


def rows_of(result: pq.abc.PGresult) -> list[Any]:
    transformer = Transformer(_CONTEXT)
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple)
