"""Show a conversation: as a transcript, as it is stored, or as objects."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .forms import moment, record_object
from .terminal import Stream, harmless, harmless_json, one_line
from .transcript import Entry, entries

if TYPE_CHECKING:
    from argparse import Namespace

    from sessions import Record, Session

# How much of a text is shown: below so many lines all of it, else the first and the last ones.
_FOLD = {"message": (40, 30, 5), "reasoning": (12, 8, 3), "tool": (12, 8, 3)}

# How many records are looked at again while following, at first.
_PAGE = 500


def show(session: Session, wanted: Namespace, out: Stream, err: Stream) -> None:
    """Show the newest records, and go on with what is added where that is wanted."""
    limit = None if wanted.all else wanted.limit
    records = list(session.records(limit))
    _show_records(session.session_id, records, wanted, out)
    if limit is not None and len(records) == limit and err.is_terminal:
        err.line(f"The newest {limit} items; --all for all of them.")
    last = records[-1].id if records else 0
    while wanted.follow:
        out.flush()
        time.sleep(1)
        if session.position() > last:
            records = _since(session, last)
            _show_records(session.session_id, records, wanted, out)
            last = max((record.id for record in records), default=last)


def _since(session: Session, last: int) -> list[Record]:
    """The records behind one; more of the newest ones are looked at until it, or the oldest, is among them."""
    count = _PAGE
    while len(records := list(session.records(count))) == count and records[0].id > last:
        count *= 2
    return [record for record in records if record.id > last]


def _show_records(session_id: str, records: list[Record], wanted: Namespace, out: Stream) -> None:
    if wanted.raw:
        for record in records:
            out.line(harmless_json(record.text) if out.is_terminal else record.text)
    elif wanted.json:
        for record in records:
            out.line(json.dumps(record_object(session_id, record)))
    else:
        for entry in entries(records):
            if entry.kind != "reasoning" or not wanted.no_reasoning:
                _show_entry(entry, out, full=wanted.full or not out.is_terminal)


def _show_entry(entry: Entry, out: Stream, *, full: bool) -> None:
    known = {"user", "assistant", "tool", "reasoning", "handoff"}
    kind = out.painted(harmless(entry.kind), *(("bold", entry.kind) if entry.kind in known else ("bold",)))
    words = [kind, one_line(entry.title), *(out.painted(note, "dim") for note in entry.notes)]
    if entry.failed:
        words.append(out.painted("FAILED", "failed"))
    numbers = "→".join(f"#{number}" for number in entry.ids)
    words.append(out.painted(f"{numbers}  {moment(entry.created_at, out)}", "dim"))
    out.line("  ".join(word for word in words if word))
    fold = _FOLD["tool" if entry.kind == "tool" else "reasoning" if entry.kind == "reasoning" else "message"]
    for line in _folded(entry.text, *fold, full=full):
        out.line(f"  {line}")
    if entry.output is not None:
        for line in _folded(entry.output, *_FOLD["tool"], full=full):
            out.line(f"  | {line}")
    out.line()


def _folded(text: str, most: int, first: int, last: int, *, full: bool) -> Iterator[str]:
    """The lines of a text, harmless; the middle of many left out and counted."""
    lines = [harmless(line) for line in text.split("\n")] if text else []
    if full or len(lines) <= most:
        yield from lines
        return
    yield from lines[:first]
    yield f"… {len(lines) - first - last:,} more lines (--full)"
    yield from lines[-last:]
