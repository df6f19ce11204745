"""A part of a conversation that is written as it was elsewhere: texts and times as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ._leases import Lease


@dataclass(frozen=True)
class Part:
    """Rows in order. Times are text in ISO 8601, empty where they are not known."""

    position: int  # the id of the row before it, 0 when there is none
    texts: Sequence[str]
    times: Sequence[str]
    created_at: str  # those of the session itself
    updated_at: str
    replaces: bool = False  # in place of all rows, not behind them
    is_new: bool = False  # the conversation must not be there, not even without rows
    lease: Lease | None = None
