"""What is asked of a SQLite file."""

from __future__ import annotations

from sessions._checks import Check


def journal_check(mode: str, fix: str) -> Check:
    """Judge whether readers and a writer get in each other's way."""
    if mode in ("wal", "memory"):
        return Check("journal mode", "ok", mode)
    return Check(
        "journal mode",
        "warning",
        f"{mode}: readers wait for writers",
        f"{fix}; on a network file system there is no write-ahead log",
        fix,
    )
