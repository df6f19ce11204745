"""A transaction of several statements, sent at once: a process that is stopped has sent all of it or nothing.

psycopg's own pipeline sends each statement as it comes. A process that was stopped in between would keep the locks of
the first ones for as long as its connection lives.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .prepared import answers_of_pipeline, dumped, rows_of, statement_of

if TYPE_CHECKING:
    from psycopg import pq


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
    answers = yield from answers_of_pipeline(pgconn)
    return [rows_of(answer) for answer in answers]
