"""Show a conversation: as a transcript, as it is stored, or as objects."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .context import Context
from .forms import moment, record_object
from .markdown import drawn
from .terminal import Stream, harmless, harmless_json, one_line
from .transcript import Entry, entries

if TYPE_CHECKING:
    from sessions import Record, Session

# How much of a text is shown: below so many lines all of it, else the first and the last ones.
_FOLD = {"message": (40, 30, 5), "reasoning": (12, 8, 3), "tool": (12, 8, 3)}

# How many lines of a terminal one line of a text may take.
_WRAPPED = 6

# How many records are looked at again while following.
_PAGE = 500


def show(session: Session, context: Context) -> None:
    """Show the newest records, and go on with what is added where that is wanted."""
    wanted, out, err = context.arguments, context.out, context.err
    limit = None if wanted.all else wanted.limit
    records = list(session.records(limit))
    _show_records(session.session_id, records, context)
    if limit is not None and len(records) == limit and err.is_terminal:
        err.line(f"The newest {limit} items; --all for all of them.")
    last = records[-1].id if records else 0
    while wanted.follow:
        out.flush()
        time.sleep(1)
        if session.position() > last:
            records = [record for record in session.records(_PAGE) if record.id > last]
            _show_records(session.session_id, records, context)
            last = max((record.id for record in records), default=last)


def _show_records(session_id: str, records: list[Record], context: Context) -> None:
    wanted, out = context.arguments, context.out
    if wanted.raw:
        for record in records:
            out.line(harmless_json(record.text) if out.is_terminal else record.text)
    elif wanted.json:
        for record in records:
            out.line(json.dumps(record_object(session_id, record, utc=context.utc)))
    else:
        for entry in entries(records):
            if _is_wanted(entry, context):
                _show_entry(entry, context)


def _is_wanted(entry: Entry, context: Context) -> bool:
    if context.arguments.only_conversation:
        return entry.kind in ("user", "assistant")
    return entry.kind != "reasoning" or not context.arguments.no_reasoning


def _show_entry(entry: Entry, context: Context) -> None:
    out = context.out
    full = context.arguments.full or not out.is_terminal
    known = {"user", "assistant", "tool", "reasoning", "handoff"}
    kind = out.painted(harmless(entry.kind), *(("bold", entry.kind) if entry.kind in known else ("bold",)))
    words = [kind, one_line(entry.title), *(out.painted(note, "dim") for note in entry.notes)]
    if entry.failed:
        words.append(out.painted("FAILED", "failed"))
    numbers = "→".join(f"#{number}" for number in entry.ids)
    words.append(out.painted(f"{numbers}  {moment(entry.created_at, out, utc=context.utc)}", "dim"))
    out.line("  ".join(word for word in words if word))
    fold = _FOLD["tool" if entry.kind == "tool" else "reasoning" if entry.kind == "reasoning" else "message"]
    lines = drawn(entry.text, out) if entry.kind == "assistant" else None
    style = ("dim",) if entry.kind == "reasoning" else ()
    for line in _folded(_lines(entry.text, out, full=full) if lines is None else lines, *fold, full=full):
        out.line(f"  {out.painted(line, *style)}")
    if entry.output is not None:
        style = ("failed",) if entry.failed else ()
        for line in _folded(_lines(entry.output, out, full=full), *_FOLD["tool"], full=full or entry.failed):
            out.line(f"  | {out.painted(line, *style)}")
    out.line()


def _lines(text: str, out: Stream, *, full: bool) -> list[str]:
    """The lines of a text, harmless; the end of very long ones left out and counted."""
    if not text:
        return []
    most = _WRAPPED * max(20, out.width - 4)
    return [
        harmless(line)
        if full or len(line) <= most
        else f"{harmless(line[:most])} … {len(line) - most:,} more characters (--full)"
        for line in text.split("\n")
    ]


def _folded(lines: Sequence[str], most: int, first: int, last: int, *, full: bool) -> Iterator[str]:
    """The middle of many lines left out and counted."""
    if full or len(lines) <= most:
        yield from lines
        return
    yield from lines[:first]
    yield f"… {len(lines) - first - last:,} more lines (--full)"
    yield from lines[-last:]
