"""What each command does, with a backend and two streams; what only some of them need is imported there."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sessions import connect
from sessions._search import texts_with
from sessions.errors import ConflictError

from .context import CommandFailedError, Context
from .database import keys_of, read_password
from .deleting import confirm, prune, rm
from .escapes import cell, harmless, one_line, written_id
from .forms import check_line, checks_object, count_of, info_object, moment, record_object, role_of, zone
from .reindent import json_of
from .rekeying import rekey
from .terminal import Stream, age, size
from .verifying import verify

if TYPE_CHECKING:
    from sessions import DayStats, SessionInfo, SessionSize
    from sessions._settings.options import Keywords

# A person is not shown more items of a conversation than these.
_COUNTED = 10_000

# How many days a person is shown.
_DAYS = 14


def ls(context: Context) -> int:
    """List conversations, the one written to last first."""
    wanted = context.arguments
    shown = 0
    rows: list[tuple[str, ...]] = []
    heading = ["SESSION", "ITEMS", *(["SIZE"] * wanted.size), f"UPDATED ({zone(context)})", "AGE", "FIRST"]
    # Of long conversations it takes no time to count so many.
    count_limit = _COUNTED if context.out.is_terminal and not wanted.json else None
    most = None if wanted.all else wanted.limit
    for page in context.pages(prefix=wanted.prefix, most=most, count_limit=count_limit):
        shown += len(page)
        ids = [info.session_id for info in page]
        sizes = context.backend.sizes(ids) if wanted.size else {}
        firsts = context.backend.first_messages(ids) if wanted.first else None
        for info in page:
            held = sizes.get(info.session_id)
            bytes_ = (held.bytes if held else 0) if wanted.size else None
            first = None if firsts is None else one_line(firsts.get(info.session_id, ""))
            if wanted.json:
                found = info_object(info, bytes_, utc=context.utc) | ({} if first is None else {"first": first})
                context.out.line(json.dumps(found))
                continue
            rows.append(_row(context, info, bytes_, first))
        if not context.out.is_terminal:
            for row in rows:
                context.out.row(row)
            rows = []
    if rows:
        spare = (f"UPDATED ({zone(context)})", "AGE")
        context.out.table(heading[: len(rows[0])], rows, right=("ITEMS", "SIZE", "AGE"), texts=("FIRST",), spare=spare)
    if context.err.is_terminal and not wanted.quiet:
        if not shown:
            context.err.line(f"No sessions in {context.where}{_with_prefix(wanted.prefix)}.")
        elif shown == wanted.limit and not wanted.all:
            context.err.line(f"The newest {shown}; --all for all of them, `grep TEXT` to find one by what was said.")
    return 0


def _row(context: Context, info: SessionInfo, bytes_: int | None, first: str | None) -> tuple[str, ...]:
    out = context.out
    items = f"{info.items:,}" if info.items <= _COUNTED else f"{_COUNTED:,}+"
    row = [written_id(info.session_id), items if out.is_terminal else str(info.items)]
    if bytes_ is not None:
        row.append(size(bytes_) if out.is_terminal else str(bytes_))
    row.append(moment(info.updated_at, out, utc=context.utc))
    if out.is_terminal:
        row.append(age(info.idle))
    if first is not None:
        row.append(first)
    return tuple(row)


def show(context: Context) -> int:
    """Show a conversation as a transcript."""
    from .show import show as show_session

    show_session(context.known(context.arguments.session_id), context)
    return 0


def grep(context: Context) -> int:
    """Find the records that contain a text."""
    wanted, out = context.arguments, context.out
    found = 0
    for match in context.backend.search(wanted.text, prefix=wanted.prefix, ignore_case=wanted.ignore_case):
        found += 1
        record = match.record
        if wanted.json:
            out.line(json_of(record_object(match.session_id, record, utc=context.utc)))
        else:
            words = [
                written_id(match.session_id),
                f"#{record.id}",
                moment(record.created_at, out, utc=context.utc),
                role_of(record.item),
            ]
            text = next(texts_with(record, wanted.text, ignore_case=wanted.ignore_case))
            if out.is_terminal:
                out.line(out.painted("  ".join(map(cell, words)), "dim"))
                out.line(f"  {_around(text, wanted.text, out, ignore_case=wanted.ignore_case)}")
            else:
                out.row([*words, one_line(text)])
        if found == wanted.limit:
            break
    if not found and context.err.is_terminal and not wanted.quiet:
        hint = "" if wanted.ignore_case else "; -i finds it in any case"
        context.err.line(f"No record{_with_prefix(wanted.prefix)} contains {wanted.text!r}{hint}.")
    return 0 if found else 1


def export(context: Context) -> int:
    """Write conversations as JSON Lines, or as pages."""
    wanted = context.arguments
    if wanted.html:
        from .pages.export import export_pages

        export_pages(context)
        return 0
    if wanted.full:
        raise CommandFailedError("--full is for pages; pass --html DIR too", 2)
    from .moving import write_export

    write_export(context)
    return 0


def import_(context: Context) -> int:
    """Write what an export holds."""
    from sessions._transfer import OvertakenError

    from .exported import Export
    from .moving import existing, read_export

    wanted = context.arguments
    asks = wanted.on_existing == "replace" and not wanted.yes
    if asks and wanted.file == "-":
        raise CommandFailedError("--yes required to replace what is there by what comes from standard input", 2)
    with Export(wanted.file) as exported:
        session_ids = exported.session_ids()
        for session_id in wanted.session_ids:
            if session_id not in session_ids:
                hint = "pass --escaped if the id is written as `ls` writes it"
                raise CommandFailedError(f"no session {session_id!r} in {wanted.file!r}; check the id, or {hint}")
        chosen = set(session_ids[wanted.done :]).intersection(wanted.session_ids or session_ids)
        if asks:
            confirm(context, existing(context, chosen), "replace", dry_run=False)
        try:
            sessions, records, refused = read_export(context, exported, chosen)
        except OvertakenError:
            raise
        except ConflictError as exc:
            what = str(exc).rpartition(";")[0]
            raise CommandFailedError(f"{what}; pass --on-existing skip, append or replace") from exc
    context.say(f"imported {count_of(sessions)}, {records:,} items")
    return int(refused > 0)


def copy(context: Context) -> int:
    """Copy conversations to another database."""
    from .moving import copy as copy_to

    wanted = context.arguments
    options: Keywords = {"engine": wanted.target_engine, **keys_of(wanted, target=True)}
    if wanted.target_password_file:
        options["password"] = read_password(wanted.target_password_file)
    with connect(wanted.target, **options) as target:
        return int(copy_to(context, target) > 0)


def check(context: Context) -> int:
    """Look whether the database is as it should be; 1 when something will fail."""
    found = context.backend.check(fix=context.arguments.fix)
    if context.arguments.json:
        context.out.line(checks_object(found))
    else:
        for one in found:
            context.out.line(check_line(one, context.out))
    return int(any(one.verdict == "error" for one in found))


def fork(context: Context) -> int:
    """Copy a conversation, up to a record, into a new one."""
    wanted = context.arguments
    copied = context.session(wanted.session_id).fork(wanted.new_id, upto=wanted.upto)
    context.say(f"{wanted.session_id!r} was copied to {copied.session_id!r}")
    return 0


def stats(context: Context) -> int:
    """Say how much there is, by day, and which conversations are the biggest."""
    wanted, out = context.arguments, context.out
    found = context.backend.stats(prefix=wanted.prefix, biggest=wanted.biggest)
    if wanted.json:
        days = [day._asdict() for day in found.days]
        biggest = [session._asdict() for session in found.biggest]
        out.line(json.dumps({"schema_version": 1, **found._asdict(), "days": days, "biggest": biggest}))
    elif not out.is_terminal:
        for row in (
            ("all", found.sessions, found.items, found.bytes),
            *(("day", day.day or "?", day.items, day.bytes) for day in found.days),
            *(("session", written_id(name), items, held) for name, items, held in found.biggest),
        ):
            out.row(map(str, row))
    else:
        out.line(f"{count_of(found.sessions)}, {found.items:,} items, {size(found.bytes)}")
        _table(out, f"DAY ({zone(context)})", found.days[-_DAYS:])
        if len(found.days) > _DAYS:
            out.line(f"… {len(found.days) - _DAYS:,} earlier days: `stats | less`, or --json")
        _table(out, "BIGGEST", [one._replace(session_id=written_id(one.session_id)) for one in found.biggest])
    return 0


def _table(out: Stream, heading: str, rows: Sequence[DayStats | SessionSize]) -> None:
    if rows:
        out.line()
        cells = [(name or "?", f"{items:,}", size(held)) for name, items, held in rows]
        out.table((heading, "ITEMS", "SIZE"), cells, right=("ITEMS", "SIZE"))


def _around(text: str, wanted: str, out: Stream, *, ignore_case: bool) -> str:
    """What stands around the first hit, as much as a line has room for."""
    start, end = _place_of(wanted, text, ignore_case=ignore_case)
    room = max(20, out.width - 4 - (end - start))
    begin, last = max(0, start - room // 2), end + room - min(start, room // 2)
    before, hit, after = (_blanks_joined(part) for part in (text[begin:start], text[start:end], text[end:last]))
    left, right = "…" * (begin > 0), "…" * (last < len(text))
    return f"{left}{before}{out.painted(hit, 'bold')}{after}{right}"


def _place_of(wanted: str, text: str, *, ignore_case: bool) -> tuple[int, int]:
    """Return where a text stands first in one that contains it, and where it ends."""
    if not ignore_case:
        start = text.index(wanted)
        return start, start + len(wanted)
    folded = wanted.casefold()
    start = text.casefold().index(folded)
    # A folded character may be longer: ß is ss.
    places = [place for place, character in enumerate(text) for _ in character.casefold()]
    return places[start], places[start + len(folded) - 1] + 1


def _blanks_joined(text: str) -> str:
    return harmless(re.sub(r"\s+", " ", text))


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
    "rekey": rekey,
    "verify": verify,
    "stats": stats,
    "check": check,
}
