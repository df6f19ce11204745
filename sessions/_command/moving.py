"""Move conversations: as JSON Lines, or from one database to another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from sessions._paging import RewrittenError
from sessions._refusals import Refusals
from sessions._transfer import OvertakenError
from sessions.errors import (
    ConflictError,
    DatabaseError,
    DecryptionError,
    InvalidItemError,
    OutcomeUnknownError,
    SealBrokenError,
)
from sessions.session import checked_session_id

from .context import CommandFailedError, Context, records_of
from .database import is_one_place
from .exported import END, HEADER, VERSION, Export, Head, Line
from .failing import said
from .forms import count_of, iso
from .progress import Progress

if TYPE_CHECKING:
    from sessions import Backend, Record, SessionInfo

T = TypeVar("T")

_KEY_ERRORS = (DecryptionError, SealBrokenError)
_MEANWHILE = "was written to meanwhile; copy it again, and where that is refused, remove it there first"


def write_export(context: Context) -> None:
    """Write a header, then each conversation and its records, and a line that says that this is all."""
    out = context.out
    progress = context.progress("export", quiet=out.is_terminal)
    out.line(json.dumps({HEADER: VERSION}))
    lines = 0
    for info in context.chosen():
        head = {
            "session_id": info.session_id,
            "created_at": iso(info.created_at, utc=context.utc),
            "updated_at": iso(info.updated_at, utc=context.utc),
        }
        out.line(json.dumps(head))
        lines += 1
        for record in records_of(context.backend, info.session_id):
            created_at = iso(record.created_at, utc=context.utc)
            row = {"session_id": info.session_id, "id": record.id, "created_at": created_at}
            out.line(json.dumps(row | {"text": record.text}))
            lines += 1
            progress.add(1)
    out.line(json.dumps({END: VERSION, "lines": lines}))
    progress.end()


def existing(context: Context, session_ids: Iterable[str]) -> Iterator[SessionInfo]:
    """Those conversations that are there."""
    return (info for session_id in session_ids if (info := context.found(session_id)) is not None)


def read_export(context: Context, export: Export, chosen: Collection[str]) -> tuple[int, int, int]:
    """Write what an export holds of some conversations; return how many, how many new records, and refusals."""
    progress = Progress(context.err, "import", total=None, quiet=context.arguments.quiet)
    appends = context.arguments.on_existing == "append"
    # A time that this database has not; the others go in. So they do where a second try would append them once more.
    refusals = (InvalidItemError, OvertakenError) if appends else InvalidItemError
    sessions = records = place = done = 0
    head: Head | None = None
    dated: Head | None = None
    refused: dict[str, str] = {}
    database = Refusals()
    try:
        for place, (head, lines) in enumerate(export.conversations(), 1):
            if head.session_id in chosen:
                written, began = None, monotonic()
                try:
                    written = _import(context, head, _counted(lines, progress))
                except refusals as exc:
                    refused[head.session_id] = _why(exc)
                except DatabaseError as exc:
                    # One that is too large for this database, say.
                    database.note(exc, monotonic() - began, head.session_id)
                    refused[head.session_id] = str(exc)
                if written is not None:
                    sessions, records = sessions + 1, records + written
                    dated = dated or (head if head.moment and not appends else None)
            done = place
    except BaseException as exc:
        if appends:
            is_unsure = place > done and (isinstance(exc, OutcomeUnknownError) or not isinstance(exc, Exception))
            _say_how_to_go_on(context, done, head.session_id if head and is_unsure else None)
        raise
    finally:
        progress.end()
        for session_id, why in refused.items():
            context.err.line(f"agent-sessions: session {session_id!r}: {why}")
        if refused and appends:
            context.err.line("agent-sessions: append these later, and these alone, by their ids behind the file")
    if dated and dated.moment and (there := _age(context.backend, dated.session_id)) is not None:
        here = context.backend._store.clock() - dated.moment  # noqa: SLF001
        _say_hours(context, there - here, "the file's times are in UTC, and this database's are not")
    return sessions, records, len(refused)


def _why(exc: Exception) -> str:
    return "another program writes to it at this moment" if isinstance(exc, OvertakenError) else str(exc)


def _say_how_to_go_on(context: Context, done: int, unsure: str | None) -> None:
    """Say what to leave out of an append that ended early; unsure may be there or not, behind those that are done."""
    words = f"{count_of(done)} of the file done"
    if done:
        words += f"; go on with --done {done}, or what is done is appended again"
    if unsure is not None:
        words += f"; if `show` ends with what the file has of {unsure!r}, go on with --done {done + 1}"
    if done or unsure is not None:
        context.err.line(f"agent-sessions: {words}")


def _import(context: Context, head: Head, lines: Iterator[Line]) -> int | None:
    backend, on_existing = context.backend, context.arguments.on_existing
    session_id, created_at, updated_at, _ = head
    if on_existing == "append":
        return backend.load(session_id, lines, created_at=created_at, updated_at=updated_at, on_existing="append")
    session = backend.session(session_id)
    position = 0 if on_existing == "fail" else session.position()
    how = "replace" if position and on_existing == "replace" else "fail"
    try:
        written = backend.load(session_id, lines, created_at=created_at, updated_at=updated_at, on_existing=how)
        return written or (None if position else 0)
    except OvertakenError:
        raise
    except ConflictError:
        # Skipped is what is there, but not what an interrupted import of this file has begun.
        if not position or session.position() != position:
            raise
        return None


def copy(context: Context, target: Backend) -> int:
    """Copy conversations, then compare them; return how many differ."""
    source, err = context.backend, context.err
    if is_one_place(source, target, context.arguments):
        raise CommandFailedError("the source and the target are one database; name another one", 2)
    progress = context.progress("copy")
    copied: list[str] = []
    foreign: list[str] = []
    refused: dict[str, str] = {}
    refusals = Refusals()
    records = 0
    for info in context.chosen():
        try:
            checked_session_id(info.session_id)
        except ValueError as exc:
            refused[info.session_id] = f"it was not copied: {exc}"
            foreign.append(info.session_id)
            continue
        copied.append(info.session_id)
        rows = _counted(_read(source, info.session_id), progress)
        began = monotonic()
        try:
            with _of_target():
                records += target.load(info.session_id, rows, created_at=info.created_at, updated_at=info.updated_at)
        except OvertakenError:
            # Perhaps by a copy like this one: whether all is there is seen at the end.
            refused[info.session_id] = "another program writes to it there at this moment; copy it again then"
        except RewrittenError:
            refused[info.session_id] = _MEANWHILE
        except ConflictError as exc:
            what = str(exc).rpartition(";")[0].removeprefix(f"session {info.session_id!r} ")
            refused[info.session_id] = f"{what}; remove it there, or copy the others by their ids"
        except InvalidItemError as exc:
            refused[info.session_id] = str(exc)
        except DatabaseError as exc:
            # One that is too large for the target, say.
            refusals.note(exc, monotonic() - began, info.session_id)
            refused[info.session_id] = str(exc)
    _warn_of_zones(context, copied, target)
    differ = [session_id for session_id in copied if not _are_equal(source, target, session_id)]
    differ = foreign + differ
    seconds = progress.end()
    for session_id in differ:
        why = refused.get(session_id, _MEANWHILE)
        err.line(f"agent-sessions: session {session_id!r}: {why}")
    if differ or not context.arguments.quiet:
        verdict = f"{len(differ):,} differ" if differ else "checksums equal"
        err.line(f"copied {count_of(len(copied))}, {records:,} items in {seconds:.1f} s; {verdict}")
    return len(differ)


def _warn_of_zones(context: Context, session_ids: Sequence[str], target: Backend) -> None:
    """Say where what was copied has another age there: a database notes a time without its zone."""
    for session_id in session_ids:
        here, there = _age(context.backend, session_id), _age(target, session_id)
        if here is None or there is None:
            continue
        _say_hours(context, there - here, "the two databases write times in different zones")
        return


def _say_hours(context: Context, seconds: float, why: str) -> None:
    """Say by how much a conversation is older there than it is."""
    hours = round(seconds / 900) / 4
    if hours:
        context.err.line(
            f"agent-sessions: {why}, and times are written as they stand: there a conversation is "
            f"{abs(hours):g} h {'older' if hours > 0 else 'younger'} than it is, for prune too"
        )


def _age(backend: Backend, session_id: str) -> float | None:
    """Return for how many seconds nobody has written to a conversation."""
    page = backend.list_sessions(prefix=session_id, order="id", limit=1, count_limit=None)
    return page[0].idle if page and page[0].session_id == session_id else None


def _read(source: Backend, session_id: str) -> Iterator[Record]:
    """Read what is copied; what the source's keys do not open is no trouble of the target's, which writes it."""
    try:
        yield from records_of(source, session_id)
    except _KEY_ERRORS as exc:
        raise CommandFailedError(said(exc)) from exc


@contextmanager
def _of_target() -> Iterator[None]:
    """Say of the target that its keys do not open what is there."""
    try:
        yield
    except _KEY_ERRORS as exc:
        words = said(exc).replace("--encryption-key-file", "--target-encryption-key-file")
        words = words.replace("--integrity-key-file", "--target-integrity-key-file")
        raise CommandFailedError(f"in the target, {words}") from exc


def _counted(rows: Iterable[T], progress: Progress) -> Iterator[T]:
    for row in rows:
        yield row
        progress.add(1)


def _are_equal(source: Backend, target: Backend, session_id: str) -> bool:
    """Compare checksums; a time that cannot be read in the one is that of the writing in the other."""
    undated: set[int] = set()
    here = _checksum(_read(source, session_id), undated)
    with _of_target():
        return _checksum(records_of(target, session_id), undated) == here


def _checksum(records: Iterable[Record], undated: set[int]) -> bytes:
    """Of all texts in their order, with their times to the second; note which have none, and leave those out."""
    found = hashlib.sha256()
    for number, record in enumerate(records):
        if record.created_at is None:
            undated.add(number)
        moment = None if number in undated else record.created_at and record.created_at.replace(microsecond=0)
        found.update(json.dumps([iso(moment, utc=False), record.text]).encode())
    return found.digest()
