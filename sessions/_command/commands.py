"""What each command does, with a backend and two streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sessions import SessionInfo, connect
from sessions._search import texts_of

from .forms import count_of, info_object, moment, record_object
from .moving import all_sessions, read_export, write_export
from .moving import copy as copy_to
from .show import show as show_session
from .terminal import Stream, age, ask, cut, harmless, one_line
from .transcript import first_question, role_of

if TYPE_CHECKING:
    from argparse import Namespace

    from sessions import Backend, Session

# Above so many conversations their number has to be typed.
_MANY = 1000
# And above so many items they are not counted where many are listed.
_MANY_ITEMS = 1000
_PAGE = 500
# The cursor of what is in no listing.
_NO_ROW = ""


class CommandFailedError(Exception):
    """What a command cannot do; the text is the message."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Context:
    """What a command works with."""

    backend: Backend
    where: str
    arguments: Namespace
    out: Stream
    err: Stream


def ls(context: Context) -> int:
    """List conversations, the one written to last first."""
    wanted = context.arguments
    shown = 0
    rows: list[tuple[str, ...]] = []
    for info in _listed(context, wanted.prefix, None if wanted.all else wanted.limit):
        shown += 1
        first = _first(context, info.session_id) if wanted.first else None
        if wanted.json:
            context.out.line(json.dumps(info_object(info) | ({} if first is None else {"first": first})))
            continue
        count = _capped(info.items)
        count = count if context.out.is_terminal else count.replace(",", "")
        row = [harmless(info.session_id), count, moment(info.updated_at, context.out)]
        if context.out.is_terminal:
            rows.append((*row, age(info.updated_at), *([] if first is None else [cut(first, 60)])))
        else:
            context.out.line("\t".join([*row, *([] if first is None else [first])]))
    if rows:
        context.out.table(
            ("SESSION", "ITEMS", "UPDATED", "AGE", "FIRST")[: len(rows[0])], rows, right=frozenset({1, 3})
        )
    if context.err.is_terminal and not wanted.quiet:
        if not shown:
            context.err.line(f"No sessions in {context.where}{_with_prefix(wanted.prefix)}.")
        elif shown == wanted.limit and not wanted.all:
            context.err.line(f"The newest {shown}; --all for all of them, `grep TEXT` to find one by what was said.")
    return 0


def show(context: Context) -> int:
    """Show a conversation as a transcript."""
    session = _session(context, context.arguments.session_id)
    show_session(session, context.arguments, context.out, context.err)
    return 0


def grep(context: Context) -> int:
    """Find the records that contain a text."""
    wanted = context.arguments
    found = 0
    for match in context.backend.search(wanted.text, prefix=wanted.prefix, ignore_case=wanted.ignore_case):
        found += 1
        record = match.record
        if wanted.json:
            context.out.line(json.dumps(record_object(match.session_id, record)))
        else:
            text = one_line(" ".join(texts_of(record)))
            if context.out.is_terminal:
                text = _around(text, wanted.text, context.out)
            context.out.line(
                "\t".join(
                    (
                        harmless(match.session_id),
                        f"#{record.id}",
                        moment(record.created_at, context.out),
                        harmless(role_of(record.item)),
                        text,
                    )
                )
            )
        if found == wanted.limit:
            break
    return 0 if found else 1


def export(context: Context) -> int:
    """Write conversations as JSON Lines."""
    ids: list[str] = context.arguments.session_ids
    infos = [_known(context, session_id) for session_id in ids] if ids else all_sessions(context.backend)
    write_export(context.backend, infos, context.out)
    return 0


def import_(context: Context) -> int:
    """Write what an export holds."""
    wanted = context.arguments
    sessions, records = read_export(context.backend, wanted.file, wanted.on_existing)
    _say(context, f"imported {count_of(sessions)}, {records:,} items")
    return 0


def copy(context: Context) -> int:
    """Copy conversations to another database."""
    wanted = context.arguments
    ids: list[str] = wanted.session_ids
    infos = [_known(context, session_id) for session_id in ids] if ids else all_sessions(context.backend)
    with connect(wanted.target) as target:
        return int(copy_to(context.backend, target, infos, context.err, quiet=wanted.quiet) > 0)


def check(context: Context) -> int:
    """Look whether the database is as it should be; 1 when something will fail."""
    found = context.backend.check()
    if context.arguments.json:
        checks = [{name: value for name, value in one._asdict().items() if name != "fix"} for one in found]
        context.out.line(json.dumps({"schema_version": 1, "checks": checks}))
    else:
        styles = {"warning": ("bold",), "error": ("failed",)}
        for one in found:
            verdict = context.out.painted(one.verdict, *styles.get(one.verdict, ()))
            words = [one.name, verdict, harmless(one.found), *([harmless(one.remedy)] if one.remedy else [])]
            context.out.line("\t".join(words))
    return int(any(one.verdict == "error" for one in found))


def rm(context: Context) -> int:
    """Delete conversations."""
    ids = dict.fromkeys(context.arguments.session_ids)
    infos = [_known(context, session_id, count_limit=None) for session_id in ids]
    _confirm(context, len(infos), sum(info.items for info in infos), [info.session_id for info in infos])
    if not context.arguments.dry_run:
        deleted = context.backend.delete_sessions(info.session_id for info in infos)
        _say(context, f"deleted {count_of(deleted + sum(info.cursor == _NO_ROW for info in infos))}")
    return 0


def prune(context: Context) -> int:
    """Delete the conversations that nobody has written to for long."""
    wanted = context.arguments
    # Once: what becomes old enough while a person thinks was not counted.
    moment = datetime.now(UTC) - wanted.older_than
    would = context.backend.prune(moment, keep_prefix=wanted.keep_prefix, dry_run=True)
    if not would.sessions:
        _say(context, "nothing to delete")
        return 0
    _confirm(context, would.sessions, would.items, [])
    if not wanted.dry_run:
        done = context.backend.prune(moment, keep_prefix=wanted.keep_prefix)
        _say(context, f"deleted {count_of(done.sessions)}, {done.items:,} items")
    return 0


def fork(context: Context) -> int:
    """Copy a conversation, up to a record, into a new one."""
    wanted = context.arguments
    session = _session(context, wanted.session_id)
    session.fork(wanted.new_id, upto=wanted.upto)
    return 0


def _around(text: str, wanted: str, out: Stream) -> str:
    """What stands around the first hit, as much as a line has room for."""
    start = max(0, text.casefold().find(wanted.casefold()))
    room = max(30, out.width - 60)
    begin = max(0, start - room // 2)
    end = start + len(wanted)
    before, hit, after = text[begin:start], text[start:end], text[end : begin + room]
    left, right = "…" * (begin > 0), "…" * (begin + room < len(text))
    return f"{left}{before}{out.painted(hit, 'bold')}{after}{right}"


def _listed(context: Context, prefix: str | None, limit: int | None) -> Iterator[SessionInfo]:
    after = None
    left = limit
    while left is None or left > 0:
        count = min(_PAGE, left or _PAGE)
        page = context.backend.list_sessions(prefix=prefix, limit=count, after=after, count_limit=_MANY_ITEMS)
        if not page:
            return
        yield from page
        after = page[-1]
        left = None if left is None else left - len(page)


def _capped(items: int) -> str:
    return f"{items:,}" if items <= _MANY_ITEMS else f"{_MANY_ITEMS:,}+"


def _first(context: Context, session_id: str) -> str:
    # The newest rows are what a limit gives; the first question stands in the oldest page.
    records = context.backend.session(session_id).records()
    return first_question(record for record, _ in zip(records, range(10), strict=False))


def _session(context: Context, session_id: str) -> Session:
    return context.backend.session(_known(context, session_id).session_id)


def _known(context: Context, session_id: str, *, count_limit: int | None = 1) -> SessionInfo:
    """Return what is listed of a conversation; raise CommandFailedError with ids that are like it."""
    for info in context.backend.list_sessions(prefix=session_id, order="id", limit=1, count_limit=count_limit):
        if info.session_id == session_id:
            return info
    if context.backend.session(session_id).position():
        # Another program removed its row alone: what it says is there all the same, and `grep` finds it.
        items = sum(1 for _ in context.backend.session(session_id).records()) if count_limit is None else 1
        return SessionInfo(session_id, None, None, items, _NO_ROW)
    from difflib import get_close_matches

    near = [info.session_id for info in context.backend.list_sessions(prefix=session_id[:3], order="id", limit=_PAGE)]
    close = get_close_matches(session_id, near, n=3)
    hint = (
        f"close: {', '.join(map(repr, close))}" if close else "`ls` lists them, `grep TEXT` finds one by what was said"
    )
    raise CommandFailedError(f"no session {session_id!r} in {context.where}; {hint}")


def _confirm(context: Context, count: int, items: int, ids: list[str]) -> None:
    """Say what would be deleted, and ask; raise CommandFailedError unless it is wanted."""
    wanted = context.arguments
    what = f"{count_of(count)}, {items:,} items"
    if wanted.dry_run:
        for session_id in ids:
            context.out.line(harmless(session_id))
        _say(context, f"would delete {what}")
        return
    if wanted.yes:
        return
    if not (context.err.is_terminal and context.out.is_terminal):
        raise CommandFailedError("--yes required when not running interactively", 2)
    expected = str(count) if count > _MANY else "y"
    question = f"{what}. Delete? [{'type the number of sessions' if count > _MANY else 'y/N'}] "
    if ask(question).replace(",", "").lower() != expected:
        raise CommandFailedError("nothing was deleted")


def _say(context: Context, text: str) -> None:
    if not context.arguments.quiet:
        context.err.line(text)


def _with_prefix(prefix: str | None) -> str:
    return f" with prefix {prefix!r}" if prefix else ""


COMMANDS = {
    "ls": ls,
    "show": show,
    "grep": grep,
    "export": export,
    "import": import_,
    "copy": copy,
    "fork": fork,
    "rm": rm,
    "prune": prune,
    "check": check,
}
