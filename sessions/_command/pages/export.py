"""Write conversations as pages into a directory: one a conversation, and an index."""

from __future__ import annotations

from pathlib import Path

from sessions._command.context import Context, records_of
from sessions._command.escapes import harmless
from sessions._command.forms import count_of, zone

from .conversation import write_page
from .files import make_directory, name_of, naming, written
from .index import Index
from .markup import Limits


def export_pages(context: Context) -> None:
    """Write a page for each conversation, and the index when all are written; delete nothing."""
    wanted = context.arguments
    folder = Path(wanted.html)
    infos = context.chosen()
    make_directory(folder)
    progress = context.progress("export")
    sessions = items = 0
    with naming(folder), Index(folder) as index:
        for info in infos:
            name = name_of(info.session_id)
            records = records_of(context.backend, info.session_id)
            with written(folder / name) as file:
                summary = write_page(
                    file, Limits(info.session_id, wanted.full), records, zone=zone(context), folder=folder
                )
            index.add(info, name, summary)
            sessions, items = sessions + 1, items + summary.items
            progress.add(summary.items)
        with written(folder / "index.html") as file:
            index.write(file, where=context.where, zone=zone(context))
    seconds = progress.end()
    index_path = harmless(str(folder / "index.html"))
    context.say(f"wrote {count_of(sessions)}, {items:,} items in {seconds:.1f} s; open {index_path}")
