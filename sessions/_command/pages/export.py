"""Write conversations as pages into a directory: one a conversation, and an index."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sessions._command.forms import count_of
from sessions._command.terminal import Stream, harmless

from .conversation import write_page
from .files import make_directory, name_of, written
from .index import Index
from .markup import Limits

if TYPE_CHECKING:
    from sessions import Backend, SessionInfo

_EVERY = 0.5


def export_pages(
    backend: Backend, infos: Iterable[SessionInfo], folder: Path, *, where: str, full: bool, err: Stream, quiet: bool
) -> None:
    """Write a page for each conversation, and the index when all are written; delete nothing."""
    make_directory(folder)
    zone = "UTC" if where.startswith("sqlite") else "server time"
    began = shown = time.monotonic()
    sessions = items = 0
    with Index(folder) as index:
        for info in infos:
            name = name_of(info.session_id)
            records = backend.session(info.session_id).records()
            with written(folder / name) as file:
                summary = write_page(file, Limits(info.session_id, full), records, zone=zone, folder=folder)
            index.add(info, name, summary)
            sessions, items = sessions + 1, items + summary.items
            now = time.monotonic()
            if err.is_terminal and not quiet and now - shown > _EVERY:
                shown = now
                err.again(f"export  {sessions:,} sessions, {items:,} items  {items / (now - began):,.0f}/s")
        with written(folder / "index.html") as file:
            index.write(file, where=where, zone=zone)
    err.again("")
    if not quiet:
        seconds = time.monotonic() - began
        index_path = harmless(str(folder / "index.html"))
        err.line(f"wrote {count_of(sessions)}, {items:,} items in {seconds:.1f} s; open {index_path}")
