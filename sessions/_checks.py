"""What a look at a database finds: a verdict and a remedy for each question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Verdict = Literal["ok", "warning", "error", "skipped"]


class Check(NamedTuple):
    """One question about the database, and its answer.

    verdict is "ok", "warning" (works, but not as well as it could), "error" (something
    will fail) or "skipped" (could not be asked). found says what is there, remedy what
    to do; it is empty where there is nothing to do. fix is the statement that does it, where
    one does.
    """

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""
    fix: str = ""


# Above so many conversations a listing by time wants an index.
MANY_SESSIONS = 100_000


def key_check(found: str, fix: str) -> Check:
    """Judge whether there is an index by which a conversation is read without its neighbours."""
    if found:
        return Check("index", "ok", f"{found} begins with session_id, id")
    return Check("index", "warning", "none begins with session_id, id: long tables are slow", fix, fix)


def listing_check(sessions: int, found: str, fix: str) -> Check:
    """Judge whether a listing by time wants an index."""
    if found:
        return Check("listing index", "ok", f"{found} begins with updated_at")
    if sessions < MANY_SESSIONS:
        return Check("listing index", "ok", f"about {sessions:,} sessions need none")
    return Check("listing index", "warning", f"about {sessions:,} sessions, listed by time without an index", fix, fix)


def times_check(strange: Sequence[str]) -> Check:
    """Judge whether it can be told when a conversation was written to."""
    if not strange:
        return Check("times", "ok", "known")
    return Check(
        "times",
        "warning",
        f"{' and '.join(strange)}: when a conversation was written to cannot be told, so prune() deletes none of them",
        "give the columns created_at and updated_at the type TIMESTAMP, and convert what they hold",
    )


def tls_check(version: str, *, local: bool) -> Check:
    """Judge whether what goes over a network is encrypted."""
    if version:
        return Check("TLS", "ok", version)
    if local:
        return Check("TLS", "ok", "none, and the server is on this machine")
    return Check("TLS", "warning", "none: what is said can be read on the way", "pass ssl={'ca': ...}")


def type_check(name: str, found: str, *, good: bool, remedy: str) -> Check:
    """Judge the type of a column."""
    return Check(name, "ok" if good else "warning", found, "" if good else remedy)
