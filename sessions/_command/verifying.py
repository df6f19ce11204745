"""Look at conversations by their seals, and say which are not as they were written."""

from __future__ import annotations

import json
from pathlib import Path

from sessions import SealBrokenError

from .context import CommandFailedError, Context
from .database import UTF_8
from .escapes import cell, written_id
from .failing import said
from .forms import count_of
from .progress import Progress


def verify(context: Context) -> int:
    """Look at conversations, or at all; 1 when one is broken, or is not what its kept seal says."""
    wanted = context.arguments
    since = {} if wanted.since is None else _kept(wanted.since)
    progress = Progress(context.err, "verify", total=None, quiet=wanted.quiet)
    broken = sessions = records = 0
    for session_id, found in context.backend.verify(wanted.session_ids or None, since=since):
        sessions += 1
        if isinstance(found, SealBrokenError):
            broken += 1
            if wanted.json:
                context.out.line(json.dumps({"session_id": session_id, "broken": said(found)}))
            else:
                context.out.line(f"BROKEN  {cell(written_id(session_id))}  {cell(said(found))}")
            continue
        if wanted.session_ids and not found.records:
            context.known(session_id)  # what is not there is as nobody wrote it
        records += found.records
        progress.add(found.records)
        if wanted.json:
            context.out.line(json.dumps({"session_id": session_id, **found._asdict()}))
    progress.end()
    context.say(f"{count_of(sessions)}, {records:,} items as they were written; {broken:,} broken")
    return int(broken > 0)


def _kept(name: str) -> dict[str, str]:
    """Read the seals that an earlier `verify --json` has written."""
    kept: dict[str, str] = {}
    for number, line in enumerate(Path(name).read_text(encoding=UTF_8).splitlines(), 1):
        try:
            found = json.loads(line)
            if found.get("seal"):
                kept[str(found["session_id"])] = str(found["seal"])
        except (ValueError, KeyError, AttributeError):
            raise CommandFailedError(
                f"line {number} of {name!r} holds no seal; pass what `verify --json` has written"
            ) from None
    return kept
