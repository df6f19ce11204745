"""Try every claim on a database, in scratch tables that are removed whatever happens."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import Unpack

from sessions._checks import Check
from sessions._settings.options import Keywords
from sessions.errors import SchemaError, SessionsError, UnsupportedEngineError

from .claims import CLAIMS, try_claim
from .place import Place

# What check() says of tables that are new and hold nothing.
_OF_NO_INTEREST = ("tables", "index", "listing index")

_NAME = "scratch tables"


def selftest(url: str, **options: Unpack[Keywords]) -> list[Check]:
    """Try on a database what the library promises; return a verdict for each promise, within a minute.

    "error" is a promise that does not hold there, "warning" a limit that is worth knowing,
    "skipped" what could not be tried. Two tables whose names begin with selftest_ are made in the
    database, or in the schema of sessions_table and messages_table, and removed at the end, after an
    exception too; nothing else is read or changed. An engine that connect() would refuse is a warning
    here, and is tried. Raises what any operation raises when the database cannot be reached.
    """
    return list(run(url, **options))


def run(url: str, **options: Unpack[Keywords]) -> Generator[Check, None, None]:
    """Give each verdict when it is there; to be closed when it is not read to its end."""
    try:
        yield from _try_all(Place(url, **options))
    except UnsupportedEngineError as exc:
        reason, _, remedy = str(exc).partition("; ")
        yield Check("engine", "warning", reason, remedy)
        yield from _try_all(Place(url, **(options | {"engine": exc.engine})))


def _try_all(place: Place) -> Iterator[Check]:
    with ExitStack() as stack:
        try:
            stack.enter_context(place)
        except SchemaError as exc:
            yield Check(_NAME, "error", str(exc), "run it as a role that may make tables; nothing was tried")
            return
        yield from (check for check in place.backend.check() if check.name not in _OF_NO_INTEREST)
        for name in CLAIMS:
            yield try_claim(name, place)
        yield _removal(place)


def _removal(place: Place) -> Check:
    tables = " and ".join(place.tables)
    try:
        place.remove()
    except SessionsError as exc:
        return Check(_NAME, "error", f"{tables} are still there: {exc}", "drop them")
    return Check(_NAME, "ok", f"{tables} were made and removed")
