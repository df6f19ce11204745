"""Move conversations: as JSON Lines, or from one database to another."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sessions.errors import ConflictError

from .context import CommandFailedError, Context
from .database import is_one_place
from .failing import BadFileError
from .forms import count_of, iso
from .progress import Progress

if TYPE_CHECKING:
    from sessions import Backend, SessionInfo

T = TypeVar("T")

_VERSION = 1
# The first line of an export and the last one, without which it was cut.
_HEADER, _END = "agent_sessions_export", "agent_sessions_export_end"


class Line(NamedTuple):
    """A record of an export."""

    created_at: datetime | None
    text: str


def write_export(context: Context) -> None:
    """Write a header, then each conversation and its records, and a line that says that this is all."""
    out = context.out
    progress = context.progress("export", quiet=out.is_terminal)
    out.line(json.dumps({_HEADER: _VERSION}))
    lines = 0
    for info in context.chosen():
        head = {
            "session_id": info.session_id,
            "created_at": iso(info.created_at, utc=context.utc),
            "updated_at": iso(info.updated_at, utc=context.utc),
        }
        out.line(json.dumps(head))
        lines += 1
        for record in context.backend.session(info.session_id).records():
            created_at = iso(record.created_at, utc=context.utc)
            row = {"session_id": info.session_id, "id": record.id, "created_at": created_at}
            out.line(json.dumps(row | {"text": record.text}))
            lines += 1
            progress.add(1)
    out.line(json.dumps({_END: _VERSION, "lines": lines}))
    progress.end()


def existing(context: Context, file: str) -> Iterator[SessionInfo]:
    """Those conversations of an export that are there."""
    if file == "-":
        raise CommandFailedError("--yes required to replace what is there by what comes from standard input", 2)
    with Path(file).open(encoding="utf-8") as lines:
        found = {head["session_id"] for head in _objects(lines, file) if "text" not in head}
    for session_id in sorted(map(str, found)):
        for info in context.backend.list_sessions(prefix=session_id, order="id", limit=1, count_limit=1):
            if info.session_id == session_id:
                yield info


def read_export(context: Context, file: str) -> tuple[int, int]:
    """Write what an export holds; return how many conversations, and how many records that were not there."""
    progress = Progress(context.err, "import", total=None, quiet=context.arguments.quiet)
    # In UTF-8 whatever the locale is, or the texts would be others.
    with open(sys.stdin.fileno() if file == "-" else file, encoding="utf-8", closefd=file != "-") as lines:
        sessions = records = 0
        for session_id, group in groupby(_objects(lines, file), lambda found: str(found["session_id"])):
            found = iter(group)
            head = next(found)
            if "text" in head:
                raise BadFileError(f"session {session_id!r} begins with a record; keep the line before, which has none")
            written = _import(context, session_id, head, _counted(map(_line, found), progress))
            if written is not None:
                sessions, records = sessions + 1, records + written
    progress.end()
    return sessions, records


def _import(context: Context, session_id: str, head: dict[str, Any], lines: Iterator[Line]) -> int | None:
    backend, on_existing = context.backend, context.arguments.on_existing
    session = backend.session(session_id)
    times = {name: _moment(head.get(name)) for name in ("created_at", "updated_at")}
    position = 0 if on_existing == "fail" else session.position()
    if position and on_existing != "skip":
        lines = iter(list(lines))  # where the file was cut this fails, before anything is changed
        if on_existing == "append":
            # A write of today: with the time of an old one prune would take what is there for idle.
            return backend.load(session_id, chain(session.records(), lines))
        session.clear_session()
        position = 0
    try:
        return backend.load(session_id, lines, **times) or (None if position else 0)
    except ConflictError:
        # Skipped is what is there, but not what an interrupted import of this file has begun.
        if not position or session.position() != position:
            raise
        return None


def copy(context: Context, target: Backend) -> int:
    """Copy conversations, then compare them; return how many differ."""
    source, err = context.backend, context.err
    if is_one_place(source, target):
        raise CommandFailedError("the source and the target are one database; name another one", 2)
    progress = context.progress("copy")
    copied: list[str] = []
    records = 0
    for info in context.chosen():
        rows = _counted(source.session(info.session_id).records(), progress)
        records += target.load(info.session_id, rows, created_at=info.created_at, updated_at=info.updated_at)
        copied.append(info.session_id)
    differ = [session_id for session_id in copied if _checksum(source, session_id) != _checksum(target, session_id)]
    seconds = progress.end()
    for session_id in differ:
        err.line(f"agent-sessions: session {session_id!r} was written to meanwhile; copy it again")
    if differ or not context.arguments.quiet:
        verdict = f"{len(differ):,} differ" if differ else "checksums equal"
        err.line(f"copied {count_of(len(copied))}, {records:,} items in {seconds:.1f} s; {verdict}")
    return len(differ)


def _counted(rows: Iterable[T], progress: Progress) -> Iterator[T]:
    for row in rows:
        yield row
        progress.add(1)


def _checksum(backend: Backend, session_id: str) -> bytes:
    """Of all texts in their order, with their times to the second."""
    found = hashlib.sha256()
    for record in backend.session(session_id).records():
        moment = record.created_at and record.created_at.replace(microsecond=0)
        found.update(json.dumps([iso(moment, utc=False), record.text]).encode())
    return found.digest()


def _objects(lines: Iterable[str], file: str) -> Iterator[dict[str, Any]]:
    """Read what stands between the first and the last line of an export; raise BadFileError where it was cut."""
    left = iter(lines)
    if _object(next(left, "")).get(_HEADER) != _VERSION:
        raise BadFileError(f"{file} does not begin with the header of an export, version {_VERSION}")
    ended = False
    for number, line in enumerate(left, 2):
        found = _object(line)
        if ended or not found.keys() & {"session_id", _END}:
            raise BadFileError(f"line {number} is no line of an export; if the file was cut, export once more")
        ended = _END in found
        if not ended:
            yield found
        elif found.get("lines", number - 2) != number - 2:
            raise BadFileError(f"{file} has {number - 2:,} lines of {found['lines']:,}; export once more")
    if not ended:
        raise BadFileError(f"{file} ends before its export did; export once more")


def _object(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _line(found: dict[str, Any]) -> Line:
    if not isinstance(found.get("text"), str):
        raise BadFileError(f"a record of session {found['session_id']!r} has no text")
    return Line(_moment(found.get("created_at")), found["text"])


def _moment(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadFileError(f"{text!r} is no time; write it as 2026-03-14T09:26:04, in UTC") from None
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
