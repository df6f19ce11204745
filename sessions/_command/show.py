"""Show a conversation: as a transcript, as it is stored, or as objects."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .context import Context, history_of
from .drawing import Drawing, draw_heading
from .forms import record_object
from .reindent import json_of
from .transcript import Entry, entries

if TYPE_CHECKING:
    from sessions import Record, SessionInfo
    from sessions._history import History

# How many records are looked at while following, at first.
_PAGE = 500


def show(info: SessionInfo, context: Context) -> None:
    """Show the newest records, and go on with what is added where that is wanted."""
    wanted, out, err = context.arguments, context.out, context.err
    session = history_of(context.backend, info.session_id)
    limit = None if wanted.all else wanted.limit
    records = list(session.records(limit))
    if not (wanted.raw or wanted.json):
        draw_heading(info, records, context)
    drawing = Drawing(context, folded=not wanted.full)
    _show_records(info.session_id, records, context, drawing)
    if limit is not None and len(records) == limit and err.is_terminal:
        err.line(f"The newest {limit} items; --all for all of them.")
    last = records[-1].id if records else 0
    while wanted.follow:
        out.flush()
        time.sleep(1)
        if session.position() > last:
            records = _behind(session, last)
            _show_records(info.session_id, records, context, drawing)
            last = max((record.id for record in records), default=last)


def _behind(session: History, last: int) -> list[Record]:
    """The records behind one: as many of the newest are looked at as it takes to come to it."""
    count = _PAGE
    while len(records := list(session.records(count))) == count and records[0].id > last:
        count *= 10
    return [record for record in records if record.id > last]


def _show_records(session_id: str, records: list[Record], context: Context, drawing: Drawing) -> None:
    wanted, out = context.arguments, context.out
    if wanted.raw:
        for record in records:
            out.stored(record.text)
    elif wanted.json:
        for record in records:
            out.line(json_of(record_object(session_id, record, utc=context.utc)))
    else:
        for entry in entries(records):
            if _is_wanted(entry, context):
                drawing.draw(entry)


def _is_wanted(entry: Entry, context: Context) -> bool:
    if context.arguments.only_conversation:
        return entry.kind in ("user", "assistant")
    return entry.kind != "reasoning" or not context.arguments.no_reasoning
