"""A transaction of several statements, sent at once: a process that is stopped has sent all of it or nothing.

psycopg's own pipeline sends each statement as it comes. A process that was stopped in between would keep the locks of
the first ones for as long as its connection lives.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import pq
from psycopg.generators import execute, fetch_many

from .prepared import ERROR, SYNC, dumped, rows_of, statement_of


def together(
    pgconn: pq.abc.PGconn, steps: Sequence[tuple[str, Mapping[str, Any]]]
) -> Generator[Any, Any, list[list[Any]]]:
    """Execute the statements with their parameters and return the rows of each; after an error no further one is."""
    pgconn.enter_pipeline_mode()
    for text, parameters in steps:
        statement = statement_of(text)
        values = [dumped(parameters[name]) for name in statement.parameters]
        pgconn.send_query_params(statement.text, values, statement.types, statement.formats)
    pgconn.pipeline_sync()
    answers: list[pq.abc.PGresult] = []
    failed = None
    try:
        answer = (yield from execute(pgconn))[0]
        while answer.status != SYNC:
            answers.append(answer)
            if failed is None and answer.status == ERROR:
                failed = answer
            answer = (yield from fetch_many(pgconn))[0]
        pgconn.exit_pipeline_mode()
    except psycopg.OperationalError:
        # What has failed has failed, whatever becomes of the connection.
        if failed is None:
            raise
    if failed is not None:
        raise psycopg.errors.error_from_result(failed, encoding="utf-8")
    return [rows_of(answer) for answer in answers]
