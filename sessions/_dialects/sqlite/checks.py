"""What is asked of a SQLite file."""

from __future__ import annotations

from sessions._checks import Check


def autoincrement_check(table: str, *, found: bool) -> Check:
    """Judge whether the id of a removed row may be given again."""
    if found:
        return Check("ids", "ok", "never given twice")
    return Check(
        "ids",
        "warning",
        f"{table} has no AUTOINCREMENT: the id of a removed row comes back, and if_position may take one for another",
        f"rename {table}, make it anew as `agent-sessions schema sqlite` says, and copy the rows",
    )


def journal_check(mode: str, fix: str) -> Check:
    """Judge whether readers and a writer get in each other's way."""
    if mode in ("wal", "memory"):
        return Check("journal mode", "ok", mode)
    return Check(
        "journal mode",
        "warning",
        f"{mode}: readers wait for writers, and a program that reads its own database file may destroy it",
        f"{fix}; on a network file system there is no write-ahead log",
        fix,
    )
