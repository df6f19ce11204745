"""What an operator asks of a database, beyond one conversation."""

from __future__ import annotations

from dataclasses import asdict
from typing import TypeVar

from sessions._dialects.dialect import Dialect
from sessions._listing import Listing, SessionRow, above, pattern

C = TypeVar("C")

# The statement of a listing, by its order and whether the newest, or the last, comes first.
_LISTINGS = {
    ("updated", True): "sessions_newest_first",
    ("updated", False): "sessions_oldest_first",
    ("id", False): "sessions_by_id",
    ("id", True): "sessions_by_id_descending",
}


def list_sessions(dialect: Dialect[C], connection: C, listing: Listing) -> list[SessionRow]:
    """Return a page of sessions, in one statement."""
    bounds = {"above_prefix": above(listing.prefix), "pattern": pattern(listing.prefix)}
    return dialect.execute(connection, _LISTINGS[listing.order, listing.newest_first], asdict(listing) | bounds)
